"""What each update learns from: its examples, their stages, their layouts, side by side.

All of it is a function of the seed and the number of the update, so that a resumed run needs no
state of ours; and it is made one update ahead, by a thread, while the present update is at work.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from latentcot.batching import epoch_order
from latentcot.config import Recipe
from latentcot.layout import EncodedExample, Layout, LayoutRules, lay_out, one_of_each_shape
from latentcot.learner import Share
from latentcot.methods import Method
from latentcot.stages import Phase, draw_stages


@dataclass(frozen=True, slots=True)
class Lesson:
    """One update's examples, the stage drawn for each, and this process's share of them."""

    examples: list[EncodedExample]
    stages: list[int]
    share: Share


class Feeder:
    """Makes the lessons of a run.

    Args:
        recipe: Its curriculum, batch size and seed.
        method: Of the recipe.
        rules: The layout rules of each phase.
        train: The training examples.
        share_of: Layouts of an update → what this process learns of it.

    Attributes:
        batch_size: Examples of an update.
        updates_per_epoch: Length of an epoch.
    """

    def __init__(
        self,
        recipe: Recipe,
        method: Method,
        rules: Mapping[Phase, LayoutRules],
        train: Sequence[EncodedExample],
        share_of: Callable[[Sequence[Layout]], Share],
    ) -> None:
        self.recipe, self.method, self.rules, self.train = recipe, method, rules, train
        self.share_of = share_of
        first = next(iter(rules))
        shapes = {
            one.shape: len(self.layout(one, first.stage, first)) for one in one_of_each_shape(train)
        }
        self.lengths = [shapes[example.shape] for example in train]
        self.batch_size = min(recipe.training.batch_size, len(train))
        self._order = 0, self._order_of(0)
        self.updates_per_epoch = len(self._order[1])
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="latentcot-feeder")
        self._ahead: tuple[int, Phase, Future[Lesson]] | None = None

    def lesson(self, update: int, phase: Phase, num_updates: int) -> Lesson:
        """Return what an update learns from, and begin with that of the next.

        Args:
            update: 0 for the first update of the run.
            phase: That of the update.
            num_updates: Updates of the whole run.
        """
        ahead, self._ahead = self._ahead, None
        is_ready = ahead is not None and ahead[:2] == (update, phase)
        lesson = ahead[2].result() if ahead and is_ready else self._make(update, phase)
        if update + 1 < num_updates:
            # In the phase that may be over by then; then it is made anew.
            self._ahead = update + 1, phase, self._thread.submit(self._make, update + 1, phase)
        return lesson

    def layout(
        self, example: EncodedExample, stage: int, phase: Phase, num_thoughts: int | None = None
    ) -> Layout:
        """Lay an example out as it stands in a phase."""
        return lay_out(example, self.method, stage, self.rules[phase], num_thoughts)

    def _make(self, update: int, phase: Phase) -> Lesson:
        epoch, index = divmod(update, self.updates_per_epoch)
        known, order = self._order
        if known != epoch:
            order = self._order_of(epoch)
            self._order = epoch, order
        examples = [self.train[i] for i in order[index]]
        stages = draw_stages(
            self.recipe.curriculum,
            self.method.schedule,
            (one.stage for one in self.rules),
            phase.stage,
            len(examples),
            f"{self.recipe.seed}/stages/{update}",
        )
        layouts = [
            self._watched(self.layout(example, stage, phase), example, stage, phase)
            for example, stage in zip(examples, stages, strict=True)
        ]
        return Lesson(examples, stages, self.share_of(layouts))

    def _order_of(self, epoch: int) -> list[list[int]]:
        return epoch_order(self.lengths, self.batch_size, f"{self.recipe.seed}/{epoch}")

    def _watched(self, layout: Layout, example: EncodedExample, stage: int, phase: Phase) -> Layout:
        """Let the loss of the next step tell of the present stage alone.

        An example drawn at another stage does not count, nor one whose chain ends before the last
        stage: its next step may be the answer already, which is easier.
        """
        is_long = len(example.steps or ()) >= self.recipe.curriculum.num_stages
        if stage == phase.stage and is_long:
            return layout
        return replace(layout, num_next=0)
