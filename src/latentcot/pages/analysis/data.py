"""What the page of an analysis shows, as plain values: nothing here is computed, loaded or trained.

All numbers are Python's own `int` and `float`. A share that is not finite is shown as a gap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from latentcot.errors import DataError
from latentcot.pages import shared as web

Form = Literal["symbols", "words"]

FORMS = ("symbols", "words")
OUTCOMES = (
    *("correct_path", "longer_path", "correct_label"),
    *("incorrect_label", "wrong_target", "hallucination"),
)
"""Names of the outcomes, in the order in which the bars are stacked."""
MOST_METHODS = 2

_ROUNDING = 0.01


@dataclass(frozen=True, slots=True)
class Question(web.GraphQuestion):
    """One question, as it is put to every method."""

    text: str
    """The question as the model reads it."""


@dataclass(frozen=True, slots=True)
class DepthMass(web.DepthMass):
    """The same with its interval."""

    low: float
    """Lower end of the 95 % interval of `mass`, 0 to 1."""
    high: float
    """Upper end of that interval."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        for share in (self.mass, self.uniform, self.low, self.high):
            _refuse_no_share(f"mass of thought {self.thought}", share)


@dataclass(frozen=True, slots=True)
class ForcedAnswer:
    """What a method answers when it must write after k thoughts."""

    k: int
    """Number of thoughts, from 0."""
    text: str
    """All words after the thoughts."""
    answer: str
    """The answer in them; empty where there is none."""
    outcome: str
    """One of `OUTCOMES`."""
    is_correct: bool
    """Whether the answer counts as right."""

    def __post_init__(self) -> None:
        """Refuse an outcome that the page has no pattern for."""
        _refuse_unknown_outcomes(f"answer after {self.k} thoughts", [self.outcome])


@dataclass(frozen=True, slots=True)
class ChangedAnswer:
    """What a method answers when one of its thoughts, or all of them, are replaced."""

    name: str
    """Name of the intervention: zero, noise, mean, shuffle, swap, token."""
    thought: int | None
    """Number of the thought replaced, from 1; None if all are."""
    answer: str
    """The answer; empty where there is none."""
    is_correct: bool
    """Whether it counts as right."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What was read off one method on one question."""

    thoughts: Sequence[Sequence[float]]
    """For thought 1 … n the probability of every node, 0 to 1; empty if it has no thoughts."""
    values: Sequence[Sequence[float]]
    """After k = 0, 1, … thoughts the value of every node, 0 to 1; empty if not measured."""
    answers: Sequence[ForcedAnswer]
    """One for each forced number of thoughts k."""
    interventions: Sequence[ChangedAnswer]
    """One for each intervention at each thought, and at all of them."""

    def __post_init__(self) -> None:
        """Refuse a question with nothing to show, and numbers that are no shares."""
        if not self.thoughts and not self.values:
            raise DataError(
                "readings of a question: both 'thoughts' and 'values' are empty. At least one of "
                "them must have rows; leave out questions about which nothing was read."
            )
        for name, rows in (("thoughts", self.thoughts), ("values", self.values)):
            for share in (share for row in rows for share in row):
                _refuse_no_share(f"readings of a question: {name!r}", share)


@dataclass(frozen=True, slots=True)
class OutcomeShares:
    """How the answers of a method came out after a forced number of thoughts."""

    k: int
    """Number of thoughts, from 0."""
    num_questions: int
    """How many questions were asked."""
    accuracy: float
    """Share answered correctly, 0 to 1."""
    low: float
    """Lower end of the 95 % interval of the accuracy."""
    high: float
    """Upper end of that interval."""
    shares: Mapping[str, float]
    """Outcome → share of the questions; they add up to 1. An outcome left out has none."""

    def __post_init__(self) -> None:
        """Refuse bars that would not be full."""
        where = f"outcomes after {self.k} thoughts"
        _refuse_unknown_outcomes(where, self.shares)
        for share in (self.accuracy, self.low, self.high, *self.shares.values()):
            _refuse_no_share(where, share)
        if not abs(sum(self.shares.values()) - 1) <= _ROUNDING:
            raise DataError(
                f"{where}: the shares add up to {sum(self.shares.values()):.3f}. They must add up "
                "to 1."
            )


@dataclass(frozen=True, slots=True)
class Effect:
    """How often a method is right under an intervention, over all questions."""

    name: str
    """Name of the intervention; "none" is the unchanged model."""
    thought: int | None
    """Number of the thought replaced, from 1; None if all are (or none)."""
    accuracy: float
    """Share answered correctly, 0 to 1."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end of that interval."""
    num_questions: int
    """How many questions were asked."""
    p: float | None = None
    """p-value of the paired test against the unchanged model; None for that model itself."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        for share in (self.accuracy, self.low, self.high):
            _refuse_no_share(f"intervention {self.name!r}", share)


@dataclass(frozen=True, slots=True)
class MethodResults:
    """What the analyses found for one method."""

    name: str
    """Name of the method; one of `latentcot.methods` has its own colour."""
    summary: str
    """What the method is, in a few words; may be empty."""
    accuracy: float
    """Share of the questions answered correctly with as many thoughts as in training."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end of that interval."""
    num_questions: int
    """How many questions were asked."""
    num_thoughts: int
    """How many latent positions for thoughts a full example has in training."""
    outcomes: Sequence[OutcomeShares]
    """One for each forced number of thoughts; empty if it was not measured."""
    mass: Sequence[DepthMass]
    """The frontier mass of each thought; empty if it was not measured."""
    interventions: Sequence[Effect]
    """One for each intervention at each thought, and at all; empty if not measured."""
    questions: Sequence[Readings]
    """One for each question of the page, in their order."""
    thoughts_per_step: int = 1
    """How many thoughts stand for a reasoning step: it decides which layer the values are of."""

    def __post_init__(self) -> None:
        """Refuse an accuracy that is no share."""
        for share in (self.accuracy, self.low, self.high):
            _refuse_no_share(f"method {self.name!r}", share)


@dataclass(frozen=True, slots=True)
class PageData:
    """Everything that the page shows."""

    title: str
    """Heading of the page."""
    caption: str
    """What was analyzed, in a sentence or two."""
    provenance: web.Provenance
    """Where the numbers come from."""
    form: Form
    """Whether the questions are told in symbols or in words: it decides what a value is of."""
    questions: Sequence[Question]
    """The questions to choose from, about 40."""
    methods: Sequence[MethodResults]
    """One method, or two to be put side by side."""

    def __post_init__(self) -> None:
        """Refuse lists that do not fit together."""
        if self.form not in FORMS:
            raise DataError(f"page: form must be one of {', '.join(FORMS)}, got {self.form!r}.")
        if not self.questions:
            raise DataError("page: 'questions' is empty. It needs at least one question.")
        names = [method.name for method in self.methods]
        if not 1 <= len(names) <= MOST_METHODS or len(set(names)) < len(names):
            raise DataError(
                f"page: needs one method or two with different names, got {len(names)}: "
                f"{', '.join(names) or 'none'}."
            )
        for method in self.methods:
            _refuse_unlike(method, self.questions)


def _refuse_unlike(method: MethodResults, questions: Sequence[Question]) -> None:
    if len(method.questions) != len(questions):
        raise DataError(
            f"page: method {method.name!r} has readings of {len(method.questions)} questions, but "
            f"the page shows {len(questions)}. It needs one entry for each, in the same order."
        )
    for question, readings in zip(questions, method.questions, strict=True):
        rows = [(f"thought {i}", row) for i, row in enumerate(readings.thoughts, start=1)]
        rows += [(f"values after {k} thoughts", row) for k, row in enumerate(readings.values)]
        for name, row in rows:
            if len(row) != len(question.nodes):
                raise DataError(
                    f"page: method {method.name!r}, question {question.id!r}: {name} has "
                    f"{len(row)} numbers for {len(question.nodes)} nodes. It must have one for "
                    "each node."
                )


def _refuse_unknown_outcomes(where: str, names: Mapping[str, float] | Sequence[str]) -> None:
    unknown = [name for name in names if name not in OUTCOMES]
    if unknown:
        raise DataError(
            f"{where}: there is no outcome {unknown[0]!r}. There are {', '.join(OUTCOMES)}."
        )


def _refuse_no_share(where: str, share: float) -> None:
    if share < -_ROUNDING or share > 1 + _ROUNDING:  # false for a number that is not finite (NaN)
        raise DataError(f"{where}: {share} is no share. It must be between 0 and 1.")
