"""The curriculum: which stage an update, and each example in it, belongs to.

Stage 0 is ordinary chain of thought; at stage s the first s reasoning steps have become thoughts
(arXiv 2412.06769, section 3). A stage ends after its epochs, as in the paper, or once it has been
learned. Imports no torch.
"""

import math
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from latentcot.curriculum.layout import ZeroThoughts
from latentcot.curriculum.views import Plan, Schedule, View

Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Epochs = Annotated[float, Field(gt=0, le=1e6)]
MOST = 10_000
"""Of what becomes positions of a model: no checkpoint holds more."""
Few = Annotated[int, Field(ge=1, le=MOST)]


@dataclass(frozen=True)
class Curriculum:
    """The `curriculum:` part of a recipe."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    num_stages: Annotated[int, Field(ge=0, le=MOST)] = 3
    """Stages after stage 0."""
    thoughts_per_step: Few = 1
    """The paper's c: thoughts that stand in place of one step."""
    pad_to_num_stages: bool = True
    """Every example gets the stage's full number of thoughts; otherwise min(stage, its steps)·c."""
    final_stage_without_text: bool = False
    """One more stage after the last: no step is left, but no thought is added. For chains that are
    longer than `num_stages`, as the paper does on GSM8k."""
    zero_thoughts: ZeroThoughts = "both"
    """What stands in place of no thoughts, if the method has special tokens: `<bot><eot>`,
    `<bot>`, or nothing."""
    introduce_special_tokens: bool = False
    """Stage 0 comes in two parts: ordinary chain of thought first, then the same with the special
    tokens of `zero_thoughts`. A model from scratch gets stuck when it has to learn both at once
    (docs/dev/log.md); for a pretrained one it hardly matters."""
    stage_mix_prob: Probability = 0.0
    """Probability that an example (or batch) is drawn at any stage of `stage_mix_range`."""
    stage_mix_range: Literal["all", "past"] = "all"
    """All of the method's stages, or those up to the present one."""
    stage_mix_weights: Literal["equal", "growing"] = "equal"
    """Whether all of them are drawn equally often, or stage i with weight i + 1. With `growing`, a
    `stage_mix_prob` of 1 and the range `past`: the mixed stages of arXiv 2602.22441."""
    stage_mix_per: Literal["example", "batch"] = "example"
    """Whether each example draws for itself or the batch as a whole."""
    reset_optimizer: bool = True
    """Start the optimizer anew when the stage changes, as in the paper."""
    advance: Literal["epochs", "learned"] = "epochs"
    """When a stage ends: after its epochs, or once `learned_below` is reached."""
    epochs_stage_0: Epochs = 5
    """Epochs at stage 0, with `advance: epochs`; its two parts, if it has two, share them."""
    epochs_per_stage: Epochs = 5
    """Epochs at each later stage but the last, which goes on until training ends."""
    learned_below: Annotated[float, Field(gt=0)] | list[Annotated[float, Field(gt=0)]] = 0.4
    """With `advance: learned`: nats per token of the first remaining step, averaged over
    `learned_window` updates, below which a stage counts as learned. One number, or one for each
    phase but the last: each stage is a phase, and stage 0 is two with `introduce_special_tokens`.
    Only examples with at least `num_stages` steps count."""
    learned_window: Count = 40
    """Updates over which that loss is averaged; a stage lasts at least this long."""
    max_updates_per_stage: Count | list[Count] | None = None
    """With `advance: learned`: a phase that is not learned by then ends all the same, with a
    warning. If empty the first phase gets a third of all updates, and each later one an equal part
    of what is left."""
    restarts: Annotated[int, Field(ge=0)] = 0
    """With `advance: learned` and a model made from scratch: how often training begins again from
    other weights where the first phase reaches its cap unlearned. Later stages do not make up for
    it, and with other weights it is mostly learned. Only where the loss is still four times
    `learned_below` and less than 75 % of the validation questions are right: what is on its way
    goes on. The updates before a restart do not count towards `max_updates`."""
    ends_when_learned: bool = False
    """With `advance: learned`: let the last stage end, too, once it is learned: below the last
    `learned_below` at a validation with 99 % right. The learning rate falls from there on, and
    training ends when it has."""
    tokens_per_epoch: Annotated[float, Field(gt=0)] = 8
    """Methods by tokens (icot): how many more tokens are removed in each epoch after stage 0."""
    tokens_until_all: Few = 39
    """Methods by tokens: once so many are gone, the rest of the chain goes at once."""
    removal_smoothing: Annotated[float, Field(gt=0)] | None = 4.0
    """Methods by tokens: the λ of arXiv 2405.14838. Each example loses o more tokens, with
    probability proportional to exp(−λ·o). None at all if empty."""

    @property
    def num_phases(self) -> int:
        """The phases of a method that goes through all stages, one step each."""
        return self.plan.last_stage + 1 + self.introduce_special_tokens

    @property
    def plan(self) -> Plan:
        """What each stage removes and puts in."""
        return Plan(**{one.name: getattr(self, one.name) for one in fields(Plan)})


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the curriculum.

    Attributes:
        stage: Its stage.
        zero_thoughts: What stands for no thoughts in it.
        epochs: How long it lasts, where nothing else ends it.
        learned_below: The loss that ends it, with `advance: learned`.
        max_updates: Where it ends at the latest, with `advance: learned`.
        is_minor: It removes one more token: too little for a validation or a checkpoint.
    """

    stage: int
    zero_thoughts: ZeroThoughts
    epochs: float
    learned_below: float | None = None
    max_updates: int | None = None
    is_minor: bool = False


def phases_of(curriculum: Curriculum, view: View) -> list[Phase]:
    """Return what a method goes through, in order, given the view that answers."""
    stages, around = view.schedule.stages(curriculum.plan), curriculum.zero_thoughts
    if not curriculum.introduce_special_tokens:
        return [_phase(curriculum, view, stage, around, stage) for stage in stages]
    plain = [_phase(curriculum, view, 0, "none", 0)] if 0 in stages else []
    marked = [stage for stage in stages if stage > 0 or view.has_special_tokens]
    return [*plain, *(_phase(curriculum, view, stage, around, stage + 1) for stage in marked)]


def _phase(rules: Curriculum, view: View, stage: int, around: ZeroThoughts, number: int) -> Phase:
    """Make a phase; `number` tells which value of a list with one for each is meant for it."""
    if stage > 0 and view.schedule.is_by_token:
        return Phase(stage, around, 1 / rules.tokens_per_epoch, is_minor=True)
    is_halved = stage == 0 and rules.introduce_special_tokens and view.has_special_tokens
    epochs = rules.epochs_per_stage if stage > 0 else rules.epochs_stage_0 / (1 + is_halved)
    if rules.advance == "epochs" or number >= rules.num_phases - 1:  # nothing ends the last one
        return Phase(stage, around, epochs)
    below, cap = rules.learned_below, rules.max_updates_per_stage
    return Phase(
        stage,
        around,
        epochs,
        learned_below=below[number] if isinstance(below, list) else below,
        max_updates=cap[number] if isinstance(cap, list) else cap,
    )


class StageClock:
    """Tells the phase of each update, from how long it has lasted and what has been learned.

    Args:
        curriculum: Its rules.
        phases: What the method goes through.
        updates_per_epoch: Length of an epoch, for `advance: epochs`.
        total: Updates of the whole training, for caps that the recipe leaves empty; None caps
            nothing.

    Attributes:
        number: Of the present phase.
        begun: Updates before it.
        num_updates: Updates in it.
        losses: Of its next step, the newest ones.
        last_loss: Their mean after the newest update, though a phase may have ended with it; None
            if there was none.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        phases: Sequence[Phase],
        updates_per_epoch: int,
        total: int | None = None,
    ) -> None:
        self.curriculum = curriculum
        self.phases = list(phases)
        self.updates_per_epoch = updates_per_epoch
        self.total = total
        self.number = self.begun = self.num_updates = 0
        self.losses: deque[float] = deque(maxlen=curriculum.learned_window)
        self.last_loss: float | None = None

    @property
    def phase(self) -> Phase:
        """The present phase."""
        return self.phases[self.number]

    @property
    def is_last(self) -> bool:
        """Whether the last phase has been reached; it goes on until training ends."""
        return self.number == len(self.phases) - 1

    @property
    def cap(self) -> int | None:
        """Updates after which the present phase ends though it is not learned; None if never."""
        if self.phase.max_updates is not None or self.total is None:
            return self.phase.max_updates
        parts = 3 if self.number == 0 else len(self.phases) - self.number
        return max(1, (self.total - self.begun) // parts)

    @property
    def is_at_only_cap(self) -> bool:
        """Whether the only phase has lasted as long as a first one may, if others follow it."""
        return len(self.phases) == 1 and self.num_updates == self.cap

    def begin_again(self) -> None:
        """Go back to the first phase."""
        self.begun += self.num_updates
        self.number = self.num_updates = 0
        self.losses.clear()

    def learned_below(self, phase: Phase) -> float:
        """Return the loss below which a phase counts as learned, whatever ends it."""
        below = phase.learned_below or self.curriculum.learned_below
        return below[-1] if isinstance(below, list) else below

    @property
    def is_learned(self) -> bool:
        """Whether the loss of the present phase is below what counts as learned, over a window."""
        is_full = len(self.losses) == self.curriculum.learned_window
        return is_full and (self.last_loss or 0.0) < self.learned_below(self.phase)

    def record(self, next_step_loss: float | None) -> bool:
        """Count an update; return whether the next one belongs to a new phase.

        Args:
            next_step_loss: Nats per token of the first remaining step, over the examples of the
                update that are at the present stage; None if there were none.
        """
        self.num_updates += 1
        if next_step_loss is not None:
            self.losses.append(next_step_loss)
        self.last_loss = sum(self.losses) / len(self.losses) if self.losses else None
        phase = self.phase
        if phase.learned_below is None:
            is_over = self.num_updates >= self._length(phase)
        else:
            is_over = self.is_learned or (self.cap is not None and self.num_updates >= self.cap)
        if self.is_last or not is_over:
            return False
        self.number += 1
        self.begun += self.num_updates
        self.num_updates = 0
        self.losses.clear()
        return True

    def updates_before_last(self) -> int:
        """Return how many updates the phases before the last take, with `advance: epochs`."""
        return sum(self._length(phase) for phase in self.phases[:-1])

    def _length(self, phase: Phase) -> int:
        return max(1, round(phase.epochs * self.updates_per_epoch))

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs."""
        return {
            "number": self.number,
            "begun": self.begun,
            "num_updates": self.num_updates,
            "losses": list(self.losses),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.number = state["number"]
        self.begun = state.get("begun", 0)  # not in older checkpoints
        self.num_updates = state["num_updates"]
        self.losses.clear()
        self.losses.extend(state["losses"])


def draw_stages(
    curriculum: Curriculum,
    schedule: Schedule,
    stages: Iterable[int],
    stage: int,
    num_examples: int,
    seed: str,
) -> list[int]:
    """Draw the stage of each example of a batch: mostly `stage`, sometimes another one.

    A schedule by tokens is not mixed but smoothed. The same seed gives the same draw, so that a
    resumed run needs no state of ours.
    """
    rng = random.Random(seed)
    if schedule.is_by_token:
        smoothing, last = curriculum.removal_smoothing, curriculum.tokens_until_all
        if smoothing is None or stage >= last:
            return [stage] * num_examples
        # Each example loses o more tokens, P(o) ∝ exp(−λ·o) (arXiv 2405.14838, section 3): the
        # largest o with P(offset ≥ o) above a uniform number; short of "all of them".
        offsets = (int(-math.log(1 - rng.random()) / smoothing) for _ in range(num_examples))
        return [min(stage + offset, last - 1) for offset in offsets]
    if curriculum.stage_mix_prob == 0:
        return [stage] * num_examples
    pool = [s for s in sorted(set(stages)) if curriculum.stage_mix_range == "all" or s <= stage]

    is_growing = curriculum.stage_mix_weights == "growing"

    def draw() -> int:
        if rng.random() >= curriculum.stage_mix_prob:
            return stage
        return rng.choices(pool, [s + 1 for s in pool])[0] if is_growing else rng.choice(pool)

    if curriculum.stage_mix_per == "batch":
        return [draw()] * num_examples
    return [draw() for _ in range(num_examples)]
