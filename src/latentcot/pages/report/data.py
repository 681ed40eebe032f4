"""What a report shows, as plain values: nothing here is computed, loaded or trained.

All numbers are Python's own `int` and `float`. A value that is not finite (a loss that became
NaN) is drawn as a gap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from latentcot.errors import DataError
from latentcot.pages import shared as web


@dataclass(frozen=True, slots=True)
class TableRow:
    """The result of one method on the test questions."""

    method: str
    """Name of the method as in `latentcot.methods`; it decides the colour in every chart."""
    accuracy: float
    """Share of the test questions answered correctly, 0 to 1."""
    low: float
    """Lower end of the 95 % interval of the accuracy, 0 to 1."""
    high: float
    """Upper end of the 95 % interval of the accuracy, 0 to 1."""
    num_questions: int
    """How many test questions were asked."""
    tokens_per_question: float
    """Mean number of words and thoughts of a question."""
    thoughts_per_question: float
    """Mean number of continuous thoughts for a question."""
    seconds_per_question: float
    """Mean time to answer a question, in seconds."""
    seed: int
    """Seed of the training run."""
    updates: int
    """Number of optimizer updates in training."""
    summary: str = ""
    """What the method is, in a few words that stand under its name; may be empty."""


@dataclass(frozen=True, slots=True)
class LossPoint:
    """The training loss at one moment of the training."""

    update: int
    """Number of optimizer updates done so far."""
    stage: int
    """Stage of the curriculum at that update."""
    loss: float
    """Training loss in nats per token that is trained on."""


@dataclass(frozen=True, slots=True)
class AccuracyPoint:
    """The accuracy on the validation questions at one moment of the training."""

    update: int
    """Number of optimizer updates done so far."""
    stage: int
    """Stage of the curriculum at that update."""
    accuracy: float
    """Share of the validation questions answered correctly, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How one method learned."""

    method: str
    """Name of the method."""
    losses: Sequence[LossPoint]
    """Training loss in the order of updates, thinned to about 300 points."""
    accuracies: Sequence[AccuracyPoint]
    """Validation accuracy in the order of updates."""


@dataclass(frozen=True, slots=True)
class SearchQuestion(web.GraphQuestion):
    """One test question, its graph, and what each thought gives to each node."""

    probabilities: Sequence[Sequence[float]]
    """For each thought the probability of every node, 0 to 1."""
    answer: str
    """The correct answer as text."""
    predicted: str
    """The answer that the model gave."""
    is_correct: bool
    """Whether that answer counts as correct."""

    def __post_init__(self) -> None:
        """Refuse a question that the page could not draw."""
        web.GraphQuestion.__post_init__(self)
        if not self.probabilities:
            raise DataError(
                f"question {self.id!r}: 'probabilities' is empty. It needs a list for each "
                "thought; without thoughts leave out the frontier (None)."
            )
        for thought, shares in enumerate(self.probabilities, start=1):
            if len(shares) != len(self.nodes):
                raise DataError(
                    f"question {self.id!r}: thought {thought} has {len(shares)} "
                    f"probabilities for {len(self.nodes)} nodes. It must have one for each node."
                )


@dataclass(frozen=True, slots=True)
class Frontier:
    """What the thoughts hold."""

    mass: Sequence[web.DepthMass]
    """One entry for each thought, averaged over the test questions."""
    questions: Sequence[SearchQuestion]
    """Some test questions to look at, about 12."""
    num_questions: int | None = None
    """How many test questions `mass` is averaged over; None leaves it unsaid."""
    reading: str = "The model's output head, applied to it, gives each node a probability."
    """How the probabilities were read from a thought, in a sentence."""

    def __post_init__(self) -> None:
        """Refuse a section that would be empty."""
        for name in ("mass", "questions"):
            if not getattr(self, name):
                raise DataError(
                    f"report frontier: {name!r} is empty. It needs at least one entry; "
                    "without any leave out the frontier (None)."
                )


@dataclass(frozen=True, slots=True)
class Provenance(web.Provenance):
    """Where the numbers come from, with the seed that they all hang on."""

    seed: int
    """Seed of the whole run."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that `report.html` shows."""

    title: str
    """Heading of the page."""
    conclusion: str
    """What came out, in one sentence."""
    caption: str
    """What stands under the table: by what loss the thoughts were trained."""
    rows: Sequence[TableRow]
    """The table, in the order in which it is shown."""
    curves: Sequence[Curve]
    """Learning curves, one for each method; empty leaves out the section."""
    frontier: Frontier | None
    """The search inside the thoughts; None leaves out the section."""
    provenance: Provenance
    """Where the numbers come from."""
    chance: float = 0.5
    """Accuracy of guessing, 0 to 1: two candidates make it one half."""
