"""What each update learns from: its examples, their stages, their layouts, side by side.

All of it is a function of the seed and the number of the update, so that a resumed run needs no
state of ours. It is made one update ahead, by a thread, while the present update is at work.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from latentcot.curriculum.layout import EncodedExample, LaidOut, one_of_each_shape
from latentcot.curriculum.stages import Phase, draw_stages
from latentcot.training.build import Run
from latentcot.training.step import Part
from latentcot.training.stream import STATE, STRETCH, EncodedStream, refuse_other_order


@dataclass(frozen=True, slots=True)
class UpdateBatch:
    """One update's examples, the stage drawn for each, and this process's part of them."""

    examples: list[EncodedExample]
    stages: list[int]
    part: Part


class Loader:
    """Makes the batches of a run's updates.

    Args:
        run: Its recipe, method, phases and training examples.
        part_of: An update → what this process reads of it.

    Attributes:
        batch_size: Examples of an update.
        train: The training examples that are in memory: all, or none of a stream.
        updates_per_epoch: Length of an epoch.
    """

    def __init__(self, run: Run, part_of: Callable[[Sequence[LaidOut]], Part]) -> None:
        self.run, self.part_of = run, part_of
        recipe, train = run.recipe, run.data.train
        self.batch_size = min(recipe.training.batch_size, len(train))
        self._stream = train if isinstance(train, EncodedStream) else None
        self.train: Sequence[EncodedExample] = []
        if isinstance(train, EncodedStream):
            phases = [phase for phase in run.phases if not phase.is_minor]
            train.check = partial(run.check_lengths, phases)
        else:
            first = run.phases[0]
            shapes = {
                one.shape: sum(map(len, run.layouts(one, first.stage, run.rules[first]).values()))
                for one in one_of_each_shape(train)
            }
            self.train, self.lengths = train, [shapes[example.shape] for example in train]
        self._order = 0, self._order_of(0)
        self.updates_per_epoch = len(self._order[1])
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="latentcot-loader")
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
        update_batch = ahead[2].result() if ahead and is_ready else self._make(update, phase)
        if update + 1 < num_updates:
            # In the phase that may be over by then; then it is made anew.
            self._ahead = update + 1, phase, self._thread.submit(self._make, update + 1, phase)
        return update_batch

    def close(self) -> None:
        """Make no more batches: a process does not end before its threads do."""
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
        epoch, index = divmod(update, self.updates_per_epoch)
        known, order = self._order
        if known != epoch:
            order = self._order_of(epoch)
            self._order = epoch, order
        if self._stream is not None:
            examples = self._stream.read(order[index].tolist())
        else:
            examples = [self.train[i] for i in order[index]]
        stages = draw_stages(
            self.run.recipe.curriculum,
            self.run.method.view.schedule,
            (one.stage for one in self.run.phases),
            phase.stage,
            len(examples),
            f"{self.run.recipe.seed}/stages/{update}",
        )
        # The loss of the next step tells of the present stage alone. An example drawn at another
        # one does not count, nor one whose chain ends before the last stage: its next step may be
        # the answer already, which is easier.
        needed = self.run.recipe.curriculum.num_stages
        seed = f"{self.run.recipe.seed}/layouts/{update}"
        rules = self.run.method.drawn(self.run.rules[phase], seed)
        laid = []
        for example, stage in zip(examples, stages, strict=True):
            layouts = self.run.layouts(example, stage, rules)
            if stage != phase.stage or len(example.steps or ()) < needed:
                layouts = {name: replace(one, num_next=0) for name, one in layouts.items()}
            laid.append(self.run.method.with_targets(layouts, example, rules))
        return UpdateBatch(examples, stages, self.part_of(laid))

    def _order_of(self, epoch: int) -> Any:
        seed = f"{self.run.recipe.seed}/{epoch}"
        if self._stream is not None:
            return self._stream.order(self.batch_size, seed)
        return epoch_order(self.lengths, self.batch_size, seed)


def epoch_order(lengths: Sequence[int], batch_size: int, seed: str) -> list[list[int]]:
    """Return the batches of one epoch as lists of example indices, the same for the same seed.

    Examples are shuffled, then sorted by length within stretches of `STRETCH` batches, so that a
    batch pads little and its content stays random; the batches themselves are shuffled again. What
    does not fill a last batch is left out, other examples in each epoch, where there is a full one.
    """
    rng = random.Random(seed)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    if len(order) > batch_size:
        del order[len(order) - len(order) % batch_size :]
    if len(set(lengths)) > 1:
        stretch = STRETCH * batch_size
        order = [
            index
            for start in range(0, len(order), stretch)
            for index in sorted(order[start : start + stretch], key=lengths.__getitem__)
        ]
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    rng.shuffle(batches)
    return batches
