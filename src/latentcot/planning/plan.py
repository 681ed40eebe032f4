"""What a training will cost, before anything starts: `latentcot plan`.

Updates come from the stage clock, lengths from the recipe's examples (`plan_lengths.py`), work and
memory from a count of the code that trains (`plan_work.py`), seconds from a device
(`plan_devices.py`). Here they are put together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from latentcot.curriculum.stages import Phase, StageClock, phases_of
from latentcot.errors import UsageError
from latentcot.methods import method_named
from latentcot.models.shapes import config_of
from latentcot.planning.devices import GIB, Device
from latentcot.planning.lengths import Lengths, UpdateBatch, UpdateBatches, lengths_of
from latentcot.planning.work import Shape, Subject, update_work, weights_of, work_of
from latentcot.recipes.recipe import Recipe


@dataclass(frozen=True)
class StagePlan:
    """The updates at one stage, or at all stages of one token each.

    Attributes:
        stages: The first and the last of them.
        updates: How many there are.
        tokens: Columns read, thoughts included, on all devices.
        passes: Calls of the backbone, on each device.
        flops: On all devices, forward and backward.
        seconds: Of one update, what devices tell each other included.
        hours: Of all updates.
    """

    stages: tuple[int, int]
    updates: int
    tokens: float
    passes: float
    flops: float
    seconds: float
    hours: float


@dataclass(frozen=True)
class Memory:
    """Bytes on each device when most of it is taken.

    Attributes:
        weights: Those that stay there.
        gradients: Of all that is trained.
        optimizer: AdamW's two moments.
        copies: What several devices need beside: gradients on their way, or gathered weights.
        activations: What the largest micro-batch keeps for its backward pass, and what kernels hold
            for a moment.
        reserved: For the driver, and gaps.
    """

    weights: float
    gradients: float
    optimizer: float
    copies: float
    activations: float
    reserved: float

    @property
    def total(self) -> float:
        """All of it."""
        return (
            self.weights
            + self.gradients
            + self.optimizer
            + self.copies
            + self.activations
            + self.reserved
        )


@dataclass(frozen=True)
class Way:
    """Another way to run the same recipe, and what it takes.

    Attributes:
        save_memory: As in the recipe.
        sharded: Whether the devices share weights and optimizer (FSDP2).
        bytes: On each device, with the recipe's micro-batch.
        largest: The largest micro-batch that fits, above 39 to within a twentieth; 0 where none
            does.
        needs_one: Whether that fits for being all of an update: one example less, and gradients
            would wait in memory for another micro-batch, which is too much.
    """

    save_memory: bool
    sharded: bool
    bytes: float
    largest: int
    needs_one: bool


@dataclass(frozen=True)
class Plan:
    """What a training will cost.

    Attributes:
        method: A row of the method table.
        num_weights: Of the model.
        num_trained: Weights that are trained.
        device: On which.
        gpus: How many.
        sharded: Whether they share weights and optimizer.
        micro_batch: Examples at once on each.
        stages: In order; without those that are not reached.
        memory: At the worst stage.
        worst: The shape of the largest micro-batch.
        ways: With and without `save_memory`, shared or not.
        notes: What is assumed or estimated.
    """

    method: str
    num_weights: int
    num_trained: int
    device: Device
    gpus: int
    sharded: bool
    micro_batch: int
    stages: tuple[StagePlan, ...]
    memory: Memory
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
        return self.memory.total <= self.device.memory


def make_plan(
    recipe: Recipe,
    device: Device,
    *,
    gpus: int = 1,
    sharded: bool = False,
    lengths: Lengths | None = None,
) -> Plan:
    """Plan the training of a recipe.

    Args:
        recipe: Its data need not be there.
        device: On which.
        gpus: How many of them, on one host.
        sharded: Share weights and optimizer out among them (FSDP2).
        lengths: Of the examples, if known already.

    Raises:
        UsageError: The batch can't be shared by so many devices.
        DataError: Nothing is known of the examples.
        RecipeError: Nothing is known of the model.
    """
    if gpus < 1 or recipe.training.batch_size % gpus:
        raise UsageError(
            f"--gpus: must be 1 or more and divide training.batch_size "
            f"{recipe.training.batch_size}, got {gpus}."
        )
    return _Planner(recipe, device, gpus, sharded, lengths or lengths_of(recipe)).plan()


class _Planner:
    def __init__(
        self, recipe: Recipe, device: Device, gpus: int, sharded: bool, lengths: Lengths
    ) -> None:
        self.recipe, self.device, self.gpus = recipe, device, gpus
        self.is_sharded = sharded and gpus > 1
        self.notes = list(lengths.notes)
        self.method = method_named(recipe.method)
        self.phases = phases_of(recipe.curriculum, self.method)
        self.update_batches = UpdateBatches(recipe, lengths, self.phases, gpus)
        config = config_of(recipe.model, vocabulary_size=lengths.vocabulary_size)
        subjects = [
            Subject(
                config,
                self.method,
                recipe.training.precision,
                saves,
                recipe.stop.rule == "classifier",
                recipe.lora,
            )
            for saves in (False, True)
        ]
        self.subjects = dict(zip((False, True), subjects, strict=True))
        self.subject = self.subjects[recipe.training.save_memory]
        self.weights = weights_of(self.subject)

    def plan(self) -> Plan:
        updates = self._updates()
        reached = [(p, n) for p, n in zip(self.phases, updates, strict=True) if n]
        update_batches = [self.update_batches.of(phase) for phase, _ in reached]
        stages = [
            self._stage(phase, number, update_batch)
            for (phase, number), update_batch in zip(reached, update_batches, strict=True)
        ]
        worst = self._worst([update_batch.longest for update_batch in update_batches])
        if not self.device.is_measured:
            self.notes.append(f"{self.device.name} was not measured: {self.device.source}")
        elif self.recipe.training.precision != "float32":
            self.notes.append(f"{self.device.name} was measured in float32: bfloat16 may differ")
        self.notes.append("without validation, evaluation, reading of data and checkpoints")
        return Plan(
            method=self.method.name,
            num_weights=self.weights.number,
            num_trained=self.weights.num_trained,
            device=self.device,
            gpus=self.gpus,
            sharded=self.is_sharded,
            micro_batch=worst.rows,
            stages=tuple(_joined([phase for phase, _ in reached], stages)),
            memory=self._memory(self.subject, worst, is_sharded=self.is_sharded),
            worst=worst,
            ways=tuple(self._ways(worst)),
            notes=tuple(self.notes),
        )

    # --- time -----------------------------------------------------------------------------------

    def _updates(self) -> list[int]:
        """Let the stage clock run, and return how many updates each phase gets."""
        per_epoch = self.update_batches.updates_per_epoch
        total = self.recipe.training.num_updates(per_epoch)
        if any(p.learned_below is not None and p.max_updates is None for p in self.phases[:-1]):
            self.notes.append("stages end once they are learned: here they share all updates alike")
            share, rest = divmod(total, len(self.phases))
            return [share + (number < rest) for number in range(len(self.phases))]
        if any(phase.learned_below is not None for phase in self.phases):
            self.notes.append("stages end once they are learned: here each takes its most updates")
        clock = StageClock(self.recipe.curriculum, self.phases, per_epoch)
        counts = [0] * len(self.phases)
        for _ in range(total):
            counts[clock.number] += 1
            clock.record(None)
        return counts

    def _stage(self, phase: Phase, number: int, update_batch: UpdateBatch) -> StagePlan:
        clips = self.recipe.training.max_grad_norm is not None
        share = self.gpus if self.is_sharded else 1  # the optimizer's
        work = update_work(
            self.subject,
            update_batch.micro_batches,
            replace(self.weights, trained_bytes=self.weights.trained_bytes // share),
            clips=clips,
        )
        passes = sum((shape.latents + 1) * times for shape, times in update_batch.micro_batches)
        seconds = self.device.seconds(work) + self._talk()
        return StagePlan(
            stages=(phase.stage, phase.stage),
            updates=number,
            tokens=number * update_batch.num_tokens,
            passes=number * passes,
            flops=number * self.gpus * work.total_flops,
            seconds=seconds,
            hours=number * seconds / 3600,
        )

    def _talk(self) -> float:
        """Return the seconds in which devices exchange gradients and weights, beside all else."""
        if self.gpus == 1 or self.device.link is None:
            return 0.0
        trained, others = self.weights.trained_bytes, (self.gpus - 1) / self.gpus
        moved = self.weights.held_bytes + trained if self.is_sharded else 2 * trained
        return others * moved / self.device.link

    # --- memory ---------------------------------------------------------------------------------

    def _worst(self, shapes: Sequence[Shape]) -> Shape:
        """Return the shape that takes most memory."""
        return max(shapes, key=lambda shape: work_of(self.subject, shape).peak)

    def _memory(self, subject: Subject, shape: Shape, *, is_sharded: bool) -> Memory:
        held, trained, share = self.weights.held_bytes, self.weights.trained_bytes, 1
        copies = 0.0 if self.gpus == 1 else float(trained)  # DDP's buckets
        if is_sharded:
            share = self.gpus
            copies = held + trained / share  # all weights gathered; gradients before and after
        adds = shape.rows * self.gpus < self.update_batches.batch_size
        peak = work_of(subject, shape, has_gradients=adds).peak
        return Memory(
            weights=held / share,
            gradients=trained,
            optimizer=2 * trained / share,
            copies=copies,
            activations=peak if adds else max(0.0, peak - trained),
            reserved=self.device.reserved,
        )

    def _ways(self, worst: Shape) -> list[Way]:
        return [
            self._way(worst, saves=saves, is_sharded=is_sharded)
            for is_sharded in ((False, True) if self.gpus > 1 else (False,))
            for saves in (False, True)
        ]

    def _way(self, worst: Shape, *, saves: bool, is_sharded: bool) -> Way:
        subject = self.subjects[saves]

        def total(rows: int) -> float:
            shape = replace(worst, rows=rows)
            return self._memory(subject, shape, is_sharded=is_sharded).total

        limit = self.device.memory
        most = -(-self.update_batches.batch_size // self.gpus)  # all of an update
        largest = largest_that_fits(total, limit, most)
        needs_one = largest == most > 1 and total(most - 1) > limit
        return Way(saves, is_sharded, total(worst.rows), largest, needs_one)


def largest_that_fits(total: Callable[[int], float], limit: float, most: int) -> int:
    """Return the most rows, up to `most`, whose total is within a limit; 0 if none is.

    At `most` memory may jump down: that is all of an update, and no gradients wait for another
    micro-batch. So `most` is looked at by itself. Below it memory bends upwards or is straight in
    the number of rows, so a chord lies above it: what fits by the chord fits indeed, and a few
    chords come to within a twentieth; up to 39 rows to the very number.
    """
    for rows in range(most, max(0, most - 2), -1):
        if total(rows) <= limit:
            return rows
    low, high = 1, most - 1
    if high <= low or total(low) > limit:
        return 0
    while high - low > max(1, low // 20):
        rise = (total(high) - total(low)) / (high - low)
        middle = min(max(low + 1, low + int((limit - total(low)) / rise)), high - 1)
        if total(middle) <= limit:
            low = middle
            if total(min(middle + max(1, middle // 20), high)) > limit:
                break
        else:
            high = middle
    return low


def _joined(phases: Sequence[Phase], stages: Sequence[StagePlan]) -> list[StagePlan]:
    """Put phases of the same stage together, and those that remove one token each."""
    groups: dict[int, list[StagePlan]] = {}
    for phase, stage in zip(phases, stages, strict=True):
        groups.setdefault(-1 if phase.is_minor else phase.stage, []).append(stage)
    return [_sum(same) for same in groups.values()]


def _sum(same: Sequence[StagePlan]) -> StagePlan:
    updates = sum(stage.updates for stage in same)
    hours = sum(stage.hours for stage in same)
    return StagePlan(
        stages=(same[0].stages[0], same[-1].stages[1]),
        updates=updates,
        tokens=sum(stage.tokens for stage in same),
        passes=sum(stage.passes for stage in same),
        flops=sum(stage.flops for stage in same),
        seconds=3600 * hours / updates,
        hours=hours,
    )


COUNTS = {"B": 1e9, "M": 1e6, "k": 1e3, "": 1.0}
TIMES = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3}
SIZES = {"GiB": float(GIB), "MiB": 2.0**20}


def scaled(value: float, units: Mapping[str, float]) -> str:
    """Write a value in the largest of the units of which there is one at least, or in the last."""
    if not value:
        return "0"
    name = next((name for name, unit in units.items() if value >= unit), [*units][-1])
    return f"{value / units[name]:,.{1 if name else 0}f} {name}".rstrip()
