"""The curriculum: which stage an update, and each example in it, belongs to.

Stage 0 is ordinary chain of thought; at stage s the first s reasoning steps have become thoughts
(arXiv 2412.06769, section 3.2). A stage ends after its epochs, as in the paper, or once it has been
learned. Imports no torch.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from latentcot.layout import ZeroThoughts

Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Curriculum:
    """The `curriculum:` part of a recipe."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    num_stages: Annotated[int, Field(ge=0)] = 3
    """Stages after stage 0."""
    thoughts_per_step: Count = 1
    """The paper's c: thoughts that stand in place of one step."""
    pad_to_num_stages: bool = True
    """Every example gets the stage's full number of thoughts; otherwise min(stage, its steps)·c."""
    zero_thoughts: ZeroThoughts = "both"
    """What stands in place of no thoughts, if the method has markers: `<bot><eot>`, `<bot>`, or
    nothing."""
    stage_mix_prob: Probability = 0.0
    """Probability that an example (or batch) is drawn at another stage."""
    stage_mix_range: Literal["all", "past"] = "all"
    """Where that other stage is drawn from: all of the method's stages, or those up to now."""
    stage_mix_per: Literal["example", "batch"] = "example"
    """Whether each example draws for itself or the batch as a whole."""
    reset_optimizer: bool = True
    """Start the optimizer anew when the stage changes, as in the paper."""
    advance: Literal["epochs", "learned"] = "epochs"
    """When a stage ends: after its epochs, or once `learned_below` is reached."""
    epochs_stage_0: Annotated[float, Field(gt=0)] = 5
    """Epochs at stage 0, with `advance: epochs`."""
    epochs_per_stage: Annotated[float, Field(gt=0)] = 5
    """Epochs at each later stage but the last, which goes on until training ends."""
    learned_below: Annotated[float, Field(gt=0)] | list[Annotated[float, Field(gt=0)]] = 0.4
    """With `advance: learned`: nats per token of the first remaining step, averaged over
    `learned_window` updates, below which a stage counts as learned. One number, or one for each
    stage but the last."""
    learned_window: Count = 40
    """Updates over which that loss is averaged; a stage lasts at least this long."""
    max_updates_per_stage: Count | list[Count] | None = None
    """With `advance: learned`: a stage that is not learned by then ends all the same."""


class StageClock:
    """Tells the stage of each update, from how long it has lasted and what it has learned.

    Args:
        curriculum: Its rules.
        stages: The stages that the method goes through, in order.
        updates_per_epoch: Length of an epoch, for `advance: epochs`.
    """

    def __init__(self, curriculum: Curriculum, stages: Sequence[int], updates_per_epoch: int):
        self.curriculum = curriculum
        self.stages = list(stages)
        self.updates_per_epoch = updates_per_epoch
        self.stage = self.stages[0]
        self.updates_in_stage = 0
        self.losses: deque[float] = deque(maxlen=curriculum.learned_window)

    @property
    def is_last(self) -> bool:
        """Whether the method's last stage has been reached."""
        return self.stage == self.stages[-1]

    def record(self, next_step_loss: float | None) -> bool:
        """Count an update; return whether the next one belongs to a new stage.

        Args:
            next_step_loss: Nats per token of the first remaining step, over the examples of the
                update that were drawn at the present stage; None if there were none.
        """
        self.updates_in_stage += 1
        if next_step_loss is not None:
            self.losses.append(next_step_loss)
        if self.is_last or not self._is_over():
            return False
        self.stage = self.stages[self.stages.index(self.stage) + 1]
        self.updates_in_stage = 0
        self.losses.clear()
        return True

    def _is_over(self) -> bool:
        rules = self.curriculum
        if rules.advance == "epochs":
            epochs = rules.epochs_stage_0 if self.stage == 0 else rules.epochs_per_stage
            return self.updates_in_stage >= round(epochs * self.updates_per_epoch)
        cap = _of_stage(rules.max_updates_per_stage, self.stage)
        if cap is not None and self.updates_in_stage >= cap:
            return True
        threshold = _of_stage(rules.learned_below, self.stage)
        is_full = len(self.losses) == rules.learned_window
        return is_full and sum(self.losses) / len(self.losses) < threshold

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs."""
        return {
            "stage": self.stage,
            "updates_in_stage": self.updates_in_stage,
            "losses": list(self.losses),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.stage = state["stage"]
        self.updates_in_stage = state["updates_in_stage"]
        self.losses.clear()
        self.losses.extend(state["losses"])


def _of_stage(value: Any, stage: int) -> Any:
    """Return a per-stage value; the last one given holds for all later stages."""
    return value[min(stage, len(value) - 1)] if isinstance(value, list) else value


def draw_stages(
    curriculum: Curriculum, stages: Sequence[int], stage: int, num_examples: int, seed: str
) -> list[int]:
    """Draw the stage of each example of a batch: mostly `stage`, sometimes another one.

    The same seed gives the same draw, so that a resumed run needs no state of ours.
    """
    if curriculum.stage_mix_prob == 0:
        return [stage] * num_examples
    rng = random.Random(seed)
    pool = [s for s in stages if curriculum.stage_mix_range == "all" or s <= stage]

    def draw() -> int:
        return rng.choice(pool) if rng.random() < curriculum.stage_mix_prob else stage

    if curriculum.stage_mix_per == "batch":
        return [draw()] * num_examples
    return [draw() for _ in range(num_examples)]
