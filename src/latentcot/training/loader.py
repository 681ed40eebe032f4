"""What each update learns from: its examples, their stages, their layouts, side by side.

All of it is a function of the seed and the number of the update, so that a resumed run needs no
state of ours. It is made one update ahead, by a thread, while the present update is at work.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from latentcot.curriculum.layout import (
    EncodedExample,
    Layout,
    LayoutRules,
    lay_out,
    one_of_each_shape,
)
from latentcot.curriculum.stages import Phase, draw_stages
from latentcot.data.formats import HELP
from latentcot.errors import DataError
from latentcot.methods.table import Method
from latentcot.recipes.recipe import Recipe
from latentcot.thinking.batch import epoch_order
from latentcot.training.step import Shard
from latentcot.training.stream import STATE, EncodedStream, refuse_other_order
from latentcot.utils.distributed import num_started


@dataclass(frozen=True, slots=True)
class UpdateBatch:
    """One update's examples, the stage drawn for each, and this process's share of them."""

    examples: list[EncodedExample]
    stages: list[int]
    share: Shard


class Loader:
    """Makes the lessons of a run.

    Args:
        recipe: Its curriculum, batch size and seed.
        method: Of the recipe.
        rules: The layout rules of each phase.
        train: The training examples, in memory or as a stream.
        shard_of: Layouts of an update → what this process learns of it.

    Attributes:
        batch_size: Examples of an update.
        train: The training examples that are in memory: all, or none of a stream.
        updates_per_epoch: Length of an epoch.
    """

    def __init__(
        self,
        recipe: Recipe,
        method: Method,
        rules: Mapping[Phase, LayoutRules],
        train: Sequence[EncodedExample] | EncodedStream,
        shard_of: Callable[[Sequence[Layout]], Shard],
    ) -> None:
        self.recipe, self.method, self.rules = recipe, method, rules
        self.shard_of = shard_of
        self.batch_size = min(recipe.training.batch_size, len(train))
        self._stream = train if isinstance(train, EncodedStream) else None
        self.train: Sequence[EncodedExample] = []
        if not isinstance(train, EncodedStream):
            self.train, self.lengths = train, self._lengths_of(train)
        self._order = 0, self._order_of(0)
        self.updates_per_epoch = len(self._order[1])
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="latentcot-feeder")
        self._ahead: tuple[int, Phase, Future[UpdateBatch]] | None = None

    def update_batch(self, update: int, phase: Phase, num_updates: int) -> UpdateBatch:
        """Return what an update learns from, and begin with that of the next.

        Args:
            update: 0 for the first update of the run.
            phase: That of the update.
            num_updates: Updates of the whole run.

        Raises:
            DataError: An example of a stream is malformed, or cannot be learned from.
        """
        ahead, self._ahead = self._ahead, None
        is_ready = ahead is not None and ahead[:2] == (update, phase)
        try:
            update_batch = ahead[2].result() if ahead and is_ready else self._make(update, phase)
        except DataError as error:
            raise DataError(_with_what_to_do(str(error), update)) from None
        if update + 1 < num_updates:
            # In the phase that may be over by then; then it is made anew.
            self._ahead = update + 1, phase, self._thread.submit(self._make, update + 1, phase)
        return update_batch

    def layout(
        self, example: EncodedExample, stage: int, phase: Phase, num_thoughts: int | None = None
    ) -> Layout:
        """Lay an example out as it stands in a phase."""
        return lay_out(example, self.method, stage, self.rules[phase], num_thoughts)

    def check_when_read(self, check: Callable[[Sequence[EncodedExample]], None]) -> None:
        """Let the examples of a stream be checked; those in memory, `train`, can be checked now.

        Args:
            check: Raises a `LatentcotError` for those that cannot be learned from.
        """
        if self._stream is not None:
            self._stream.check = check

    def most_columns(self, example: EncodedExample) -> int:
        """Return a number of columns that an example has in no phase more than; found at once."""
        plan = self.recipe.curriculum.plan
        steps = sum(map(len, example.steps or ()))
        special_tokens = 3  # <bot>, <eot>, the end of text
        latents = plan.num_stages * plan.thoughts_per_step
        return len(example.question) + steps + len(example.answer) + latents + special_tokens

    def close(self) -> None:
        """Make no more lessons: a process does not end before its threads do."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must say of the order of the examples."""
        return {} if self._stream is None else {"stream": STATE}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Make sure that `state` gave this, so that the run goes through the same examples.

        Raises:
            CheckpointError: The examples of a stream were in another order.
        """
        if self._stream is not None:
            refuse_other_order(state.get("stream"))

    def _make(self, update: int, phase: Phase) -> UpdateBatch:
        examples = self._examples_of(update)
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
        return UpdateBatch(examples, stages, self.shard_of(layouts))

    def _examples_of(self, update: int) -> list[EncodedExample]:
        epoch, index = divmod(update, self.updates_per_epoch)
        known, order = self._order
        if known != epoch:
            order = self._order_of(epoch)
            self._order = epoch, order
        if self._stream is not None:
            return self._stream.read(order[index].tolist())
        return [self.train[i] for i in order[index]]

    def _lengths_of(self, examples: Sequence[EncodedExample]) -> list[int]:
        first = next(iter(self.rules))
        shapes = {
            one.shape: len(self.layout(one, first.stage, first))
            for one in one_of_each_shape(examples)
        }
        return [shapes[example.shape] for example in examples]

    def _order_of(self, epoch: int) -> Any:
        seed = f"{self.recipe.seed}/{epoch}"
        if self._stream is not None:
            return self._stream.order(self.batch_size, seed)
        return epoch_order(self.lengths, self.batch_size, seed)

    def _watched(self, layout: Layout, example: EncodedExample, stage: int, phase: Phase) -> Layout:
        """Let the loss of the next step tell of the present stage alone.

        An example drawn at another stage does not count, nor one whose chain ends before the last
        stage: its next step may be the answer already, which is easier.
        """
        is_long = len(example.steps or ()) >= self.recipe.curriculum.num_stages
        if stage == phase.stage and is_long:
            return layout
        return replace(layout, num_next=0)


def _with_what_to_do(message: str, update: int) -> str:
    """Tell that a bad line costs nothing, where that is so: the trainer saves for one process."""
    if update == 0 or num_started() > 1:
        return message
    return (
        f"{message.removesuffix(HELP).rstrip()} What was learned before is saved. Mend the line, "
        "then --resume (docs/data-format.md)."
    )
