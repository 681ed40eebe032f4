"""What the validations of a run have found, and what their numbers mean for its stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from latentcot.curriculum.stages import Phase
from latentcot.evaluation.statistics import percent

GOOD = 0.9
"""Of the validation questions, or of those that words got right: no warning from there on."""
ON_ITS_WAY = 0.75
"""Of the validation questions: with this many right, a first stage does not begin again. A choice
that no chain tells keeps its loss up for ever, and its answers below `GOOD`."""
DONE = 0.99
"""Of the validation questions: with this many right, a last stage that is learned may end."""
FEW = 0.2
"""Of the validation questions: a warning below, however low the loss is."""
ADVICE = "More updates or more examples help (docs/recipes.md, Your own data)."


@dataclass(slots=True)
class Validations:
    """What the validations of a run have found so far.

    Attributes:
        newest: Accuracy at the last one; -1 before the first.
        best: The highest accuracy of the last stage; -1 before its first validation.
        best_update: When that was; None if it has not been.
        words: Accuracy at the end of stage 0, which later stages are held against.
    """

    newest: float = -1.0
    best: float = -1.0
    best_update: int | None = None
    words: float | None = None

    def record(self, update: int, accuracy: float, *, competes: bool) -> bool:
        """Take a validation in; return whether it is the best so far.

        Args:
            update: That it was made after.
            accuracy: What it found.
            competes: Whether its checkpoint could be the best one: those of earlier stages answer
                after words.
        """
        self.newest = accuracy
        is_best = competes and accuracy >= self.best
        if is_best:
            self.best, self.best_update = accuracy, update
        return is_best

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as checkpoints have had it from the first format on."""
        best = {"update": self.best_update, "accuracy": self.best}
        return {**best, "newest": self.newest, "words": self.words}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Make them again from what `state` gave."""
        return cls(
            newest=state.get("newest", -1.0),
            best=state["accuracy"],
            best_update=state["update"],
            words=state.get("words"),
        )


def not_learned(
    phase: Phase,
    loss: float | None,
    below: float,
    accuracy: float,
    *,
    words: float | None = None,
    is_last: bool = False,
) -> str | None:
    """Return in words why the end of a stage is none to build on; None if it is.

    Args:
        phase: That ends.
        loss: Of the next step, in nats a token, over the newest updates; None if unknown.
        below: Where it counts as learned.
        accuracy: On validation questions, as this stage answers them.
        words: The same at the end of stage 0, to hold the last stage against.
        is_last: Whether training ends with it.
    """
    told = f"{percent(accuracy)} of the validation questions are right"
    if loss is not None:
        told += f", the loss of the next step is {loss:.2f} nats a token (learned below {below:g})"
    # Epochs, and training as a whole, end what they end; answers then tell more than the loss.
    is_above = loss is not None and loss >= below
    if is_above and (phase.learned_below is not None or accuracy < GOOD):
        ended = "training ended" if is_last else f"stage {phase.stage} ended"
        then = "" if is_last else " Later stages may not make up for it."
        what = "its last stage" if is_last else "it"
        return f"{ended} before {what} was learned: {told}.{then} {ADVICE}"
    if is_last and phase.stage > 0 and words is not None and accuracy < GOOD * words:
        return (
            f"the last stage, {phase.stage}, answers worse than words did: {told}; it was "
            f"{percent(words)} at the end of stage 0. {ADVICE}"
        )
    if accuracy < FEW:
        return (
            f"stage {phase.stage} ended with few right answers: {told}. Where the loss is low, "
            f"training examples are known by heart. {ADVICE}"
        )
    return None
