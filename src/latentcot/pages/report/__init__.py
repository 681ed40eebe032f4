"""What the scripts of the quickstart's report read (`latentcot.pages` writes it)."""

from typing import TypedDict

from latentcot.pages import DepthMass, Question


class TableRow(TypedDict):
    """The result of one method on the test questions."""

    method: str  # as in `latentcot.methods`; it decides the colour in every chart
    summary: str  # what the method is, in a few words that stand under its name; may be empty
    accuracy: float  # share of the test questions answered correctly, 0 to 1
    low: float  # lower end of its 95 % interval
    high: float  # upper end
    num_questions: int  # how many test questions were asked
    tokens_per_question: float  # mean number of words and thoughts
    thoughts_per_question: float  # mean number of continuous thoughts
    seconds_per_question: float  # mean time to answer
    seed: int  # of the training run
    updates: int  # optimizer updates in training


class LossPoint(TypedDict):
    """The training loss at one moment of the training."""

    update: int  # optimizer updates done so far
    stage: int  # of the curriculum at that update
    loss: float  # in nats per token that is trained on


class AccuracyPoint(TypedDict):
    """The accuracy on the validation questions at one moment of the training."""

    update: int
    stage: int
    accuracy: float  # share answered correctly, 0 to 1


class Curve(TypedDict):
    """How one method learned."""

    method: str
    losses: list[LossPoint]  # in the order of updates, thinned to about 300 points
    accuracies: list[AccuracyPoint]  # in the order of updates


class SearchQuestion(Question):
    """One test question, its graph, and what each thought gives to each node."""

    probabilities: list[list[float]]  # for each thought that of every node, 0 to 1
    answer: str  # the correct answer as text
    predicted: str  # the answer that the model gave
    is_correct: bool  # whether that counts as correct


class Frontier(TypedDict):
    """What the thoughts hold."""

    num_questions: int  # test questions that `mass` is averaged over
    mass: list[DepthMass]  # one for each thought
    questions: list[SearchQuestion]  # some to look at, about 12; at least one


class ReportData(TypedDict):
    """Everything that `report.html` shows."""

    title: str  # heading of the page
    conclusion: str  # what came out, in one sentence
    caption: str  # stands under the table: by what loss the thoughts were trained
    rows: list[TableRow]  # in the order in which they are shown
    curves: list[Curve]  # one for each method; empty leaves out the section
    frontier: Frontier | None  # None leaves out the section
    chance: float  # accuracy of guessing, 0 to 1
    provenance: dict[str, str | int]  # where the numbers come from, in the order of the page
