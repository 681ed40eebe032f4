"""What a training will cost, before anything starts: `latentcot plan`.

Updates come from the stage clock, lengths from the recipe's examples (`lengths.py`), work and
memory from a count of the code that trains (`work.py`), seconds from a device (`devices.py`). Here
they are put together.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

from latentcot.curriculum.stages import Phase, StageClock, phases_of
from latentcot.errors import UsageError
from latentcot.models.shapes import config_of
from latentcot.planning.devices import Device
from latentcot.planning.lengths import Lengths, UpdateBatch, lengths_of, update_batches
from latentcot.planning.work import (
    Shape,
    Subject,
    num_passes,
    update_work,
    weights_of,
    work_of,
)
from latentcot.recipes.recipe import Recipe


@dataclass(frozen=True)
class StagePlan:
    """The updates at one stage, or at all stages of one token each.

    Attributes:
        stages: The first and the last of them.
        updates: How many there are.
        tokens: Positions read, in all views, latent ones included, on all devices.
        passes: Calls of the backbone, on each device.
        flops: On all devices, forward and backward.
        hours: Of all updates, what devices tell each other included.
    """

    stages: tuple[int, int]
    updates: int
    tokens: float
    passes: float
    flops: float
    hours: float

    @property
    def seconds(self) -> float:
        """Of one update."""
        return 3600 * self.hours / self.updates

    def plus(self, later: "StagePlan") -> "StagePlan":
        """Return both as one."""
        return StagePlan(
            (self.stages[0], later.stages[1]),
            self.updates + later.updates,
            self.tokens + later.tokens,
            self.passes + later.passes,
            self.flops + later.flops,
            self.hours + later.hours,
        )


@dataclass(frozen=True)
class Way:
    """Another way to run the same recipe, and what it takes.

    Attributes:
        save_memory: As in the recipe.
        sharded: Whether the devices share weights and optimizer (FSDP2).
        bytes: On each device, with the recipe's micro-batch.
        largest: The largest micro-batch that fits, of the powers of two and all of an update; 0
            where none does.
    """

    save_memory: bool
    sharded: bool
    bytes: float
    largest: int


@dataclass(frozen=True)
class Plan:
    """What a training will cost.

    Attributes:
        method: Its name.
        num_weights: Of the model, and of what the method learns beside it.
        num_trained: Weights that are trained.
        device: On which.
        gpus: How many.
        sharded: Whether they share weights and optimizer.
        most: Examples of an update on each.
        stages: In order; without those that are not reached.
        memory: Bytes on each device at the worst stage: `weights`, `gradients`, `optimizer` (two
            moments), `copies` (what several devices need besides: gradients on their way, or
            gathered weights), `activations` (what the largest micro-batch keeps for its backward
            pass, and what kernels hold for a moment), `reserved` (driver and gaps).
        worst: The shape of the largest micro-batch.
        ways: With and without `save_memory`, sharded or not.
        notes: What is assumed or estimated.
    """

    method: str
    num_weights: int
    num_trained: int
    device: Device
    gpus: int
    sharded: bool
    most: int
    stages: tuple[StagePlan, ...]
    memory: dict[str, float]
    worst: Shape
    ways: tuple[Way, ...]
    notes: tuple[str, ...]

    @property
    def hours(self) -> float:
        """Of all updates."""
        return sum(stage.hours for stage in self.stages)

    @property
    def fits(self) -> bool:
        """Whether each device has enough memory."""
        return self.memory_total <= self.device.memory

    @property
    def memory_total(self) -> float:
        """Bytes on each device."""
        return sum(self.memory.values())


def make_plan(
    recipe: Recipe,
    device: Device,
    *,
    gpus: int = 1,
    sharded: bool = False,
) -> Plan:
    """Plan the training of a recipe.

    Args:
        recipe: Its data need not be there.
        device: On which.
        gpus: How many of them, on one host.
        sharded: Share weights and optimizer out among them (FSDP2).

    Raises:
        UsageError: The batch can't be shared by so many devices.
        DataError: Nothing is known of the examples.
        RecipeError: Nothing is known of the model.
    """
    training = recipe.training
    if gpus < 1 or training.batch_size % gpus:
        raise UsageError(
            f"--gpus: must be 1 or more and divide training.batch_size {training.batch_size}, "
            f"got {gpus}."
        )
    job = _Job(recipe, device, gpus, sharded and gpus > 1, lengths_of(recipe))
    reached = [(phase, n) for phase, n in zip(job.phases, job.updates(), strict=True) if n]
    batches = update_batches(recipe, job.method, job.lengths, [phase for phase, _ in reached], gpus)
    # Of the phases in which single tokens are removed, all are one row.
    rows: dict[int, StagePlan] = {}
    for phase, count in reached:
        key, row = -1 if phase.is_minor else phase.stage, job.stage(phase, batches[phase], count)
        rows[key] = rows[key].plus(row) if key in rows else row
    worst = max(
        (batch.longest for batch in batches.values()),
        key=lambda shape: work_of(job.subject, shape).peak,
    )
    notes = job.notes
    if sharded and gpus == 1:
        notes.append("--shard: one device has nothing to share out; give --gpus 2 or more")
    if not device.is_measured:
        notes.append(f"{device.name} was not measured: {device.source}")
    elif job.subject.precision != "float32":
        notes.append(f"{device.name} was measured in float32: bfloat16 may differ")
    return Plan(
        method=job.method.name,
        num_weights=job.weights.number,
        num_trained=job.weights.num_trained,
        device=device,
        gpus=gpus,
        sharded=job.is_sharded,
        most=-(-job.batch_size // gpus),
        stages=tuple(rows.values()),
        memory=job.memory(worst, saves=training.save_memory, is_sharded=job.is_sharded),
        worst=worst,
        ways=tuple(
            job.way(worst, saves=saves, is_sharded=is_sharded)
            for is_sharded in ((False, True) if gpus > 1 else (False,))
            for saves in (False, True)
        ),
        notes=(*notes, "without validation, evaluation, reading of data and checkpoints"),
    )


def subject_of(recipe: Recipe, lengths: Lengths) -> Subject:
    """Return what a recipe trains, and how."""
    # What a run settles on its own machine is not known here.
    is_low = recipe.training.precision == "bfloat16"
    return Subject(
        config_of(recipe.model, vocabulary_size=lengths.vocabulary_size),
        recipe.bound_method,
        "bfloat16" if is_low else "float32",
        recipe.training.save_memory,
        recipe.lora,
        recipe.curriculum.plan,
    )


class _Job:
    """A recipe on so many devices."""

    def __init__(
        self, recipe: Recipe, device: Device, gpus: int, is_sharded: bool, lengths: Lengths
    ) -> None:
        self.recipe, self.device, self.gpus, self.is_sharded = recipe, device, gpus, is_sharded
        self.lengths, self.notes = lengths, list(lengths.notes)
        self.method = recipe.bound_method
        self.phases = phases_of(recipe.curriculum, self.method.view)
        self.batch_size = min(recipe.training.batch_size, lengths.num_examples)
        self.updates_per_epoch = max(1, lengths.num_examples // self.batch_size)
        self.subject = subject_of(recipe, lengths)
        other = replace(self.subject, saves_memory=not self.subject.saves_memory)
        self.subjects = {one.saves_memory: one for one in (self.subject, other)}
        self.weights = weights_of(self.subject)

    def updates(self) -> list[int]:
        """Let the stage clock run, and return how many updates each phase gets."""
        total = self.recipe.training.num_updates(self.updates_per_epoch)
        if any(phase.learned_below is not None for phase in self.phases):
            self.notes.append("stages end once they are learned: here each takes its most updates")
        clock = StageClock(self.recipe.curriculum, self.phases, self.updates_per_epoch, total)
        counts = [0] * len(self.phases)
        for _ in range(total):
            counts[clock.number] += 1
            clock.record(None)
        return counts

    def stage(self, phase: Phase, batch: UpdateBatch, count: int) -> StagePlan:
        """Return what so many updates of a phase take."""
        held, trained = self.weights.held_bytes, self.weights.trained_bytes
        optimized = trained / self.gpus if self.is_sharded else trained
        work = update_work(self.subject, batch.micro_batches, optimized)
        seconds = self.device.seconds(work, self.subject.precision)
        if self.gpus > 1 and self.device.link is not None:
            # Gradients come and go, or weights are gathered: as if nothing else went on meanwhile.
            moved = held + trained if self.is_sharded else 2 * trained
            seconds += (self.gpus - 1) / self.gpus * moved / self.device.link
        return StagePlan(
            stages=(phase.stage, phase.stage),
            updates=count,
            tokens=count * batch.num_tokens,
            passes=count
            * sum(num_passes(self.method, shape) * times for shape, times in batch.micro_batches),
            flops=count * self.gpus * work.flops,
            hours=count * seconds / 3600,
        )

    def memory(self, shape: Shape, *, saves: bool, is_sharded: bool) -> dict[str, float]:
        """Return what a micro-batch of this shape takes on each device."""
        held, trained, share = self.weights.held_bytes, self.weights.trained_bytes, 1
        copies = 0.0 if self.gpus == 1 else float(trained)  # DDP's buckets
        if is_sharded:
            share = self.gpus
            copies = held + trained / share  # all weights gathered; gradients before and after
        # Where it is not all of an update, gradients of another micro-batch are there already.
        adds = shape.rows * self.gpus < self.batch_size
        peak = work_of(self.subjects[saves], shape, has_gradients=adds).peak
        return {
            "weights": held / share,
            "gradients": trained,
            "optimizer": 2 * trained / share,
            "copies": copies,
            "activations": peak if adds else max(0.0, peak - trained),
            "reserved": self.device.reserved,
        }

    def way(self, worst: Shape, *, saves: bool, is_sharded: bool) -> Way:
        """Return what one way takes, and which micro-batch would fit."""

        def total(rows: int) -> float:
            shape = replace(worst, rows=rows)
            return sum(self.memory(shape, saves=saves, is_sharded=is_sharded).values())

        largest = largest_that_fits(
            total, self.device.memory, most=-(-self.batch_size // self.gpus)
        )
        return Way(saves, is_sharded, total(worst.rows), largest)


def largest_that_fits(total: Callable[[int], float], limit: float, most: int) -> int:
    """Return the largest of 1, 2, 4, … and `most` rows whose total is within a limit; 0 if none is.

    At `most` memory may jump down: that is all of an update, and no gradients wait for another
    micro-batch. So `most` is looked at by itself; below it memory rises with the rows.
    """
    if total(most) <= limit:
        return most
    powers = [1 << n for n in range((most - 1).bit_length())]
    return [0, *powers][bisect_right(powers, limit, key=total)]
