"""What the scripts of the page of an analysis read (`latentcot.pages` writes it)."""

from typing import Literal, TypedDict

from latentcot import pages


class Question(pages.Question):
    """One question, as it is put to every method."""

    text: str  # as the model reads it


class DepthMass(pages.DepthMass):
    """The same with the 95 % interval of its mass."""

    low: float
    high: float


class ForcedAnswer(TypedDict):
    """What a method answers when it must write after k thoughts."""

    k: int  # number of thoughts, from 0
    text: str  # all words after the thoughts
    answer: str  # the answer in them; empty where there is none
    outcome: str  # as `shares` of `OutcomeShares` names it
    is_correct: bool  # whether the answer counts as right


class ChangedAnswer(TypedDict):
    """What a method answers when one of its thoughts, or all of them, are replaced."""

    name: str  # of the intervention: zero, noise, mean, shuffle, swap, token
    thought: int | None  # number of the thought replaced, from 1; None if all are
    answer: str  # empty where there is none
    is_correct: bool  # whether it counts as right


class Readings(TypedDict):
    """What was read off one method on one question; an empty list where it was not measured."""

    thoughts: list[list[float | None]]  # for thought 1 … n the probability of every node, 0 to 1
    values: list[list[float]]  # after k = 0, 1, … thoughts the value of every node, 0 to 1
    answers: list[ForcedAnswer]  # one for each forced number of thoughts k
    interventions: list[ChangedAnswer]  # one for each at each thought, and at all of them


class OutcomeShares(TypedDict):
    """How the answers of a method came out after a forced number of thoughts."""

    k: int  # number of thoughts, from 0
    num_questions: int
    accuracy: float  # share answered correctly, 0 to 1
    low: float  # lower end of its 95 % interval
    high: float  # upper end
    shares: dict[str, float]  # outcome → share of the questions; together 1


class Effect(TypedDict):
    """How often a method is right under an intervention, over all questions."""

    name: str  # of the intervention; "none" is the unchanged model
    thought: int | None  # number of the thought replaced, from 1; None if all are, or none
    accuracy: float  # share answered correctly, 0 to 1
    low: float | None  # lower end of its 95 % interval; a single question has none
    high: float | None  # upper end
    num_questions: int
    p: float | None  # of the paired test against the unchanged model; None for that model itself


class MethodResults(TypedDict):
    """What the analyses found for one method; an empty list where it was not measured."""

    name: str  # one of `latentcot.methods` has its own colour
    summary: str  # what the method is, in a few words; may be empty
    accuracy: float  # share answered correctly with as many thoughts as in training, 0 to 1
    low: float  # lower end of its 95 % interval
    high: float  # upper end
    num_questions: int
    num_thoughts: int  # latent positions for thoughts that a full example has in training
    thoughts_per_step: int  # decides which layer the values are of
    outcomes: list[OutcomeShares]  # one for each forced number of thoughts
    mass: list[DepthMass]  # one for each thought
    interventions: list[Effect]  # one for each at each thought, and at all
    questions: list[Readings]  # one for each question of the page, in their order


class PageData(TypedDict):
    """Everything that the page shows."""

    title: str  # heading of the page
    caption: str  # what was analyzed, in a sentence or two
    form: Literal["symbols", "words"]  # how questions are told: it decides what a value is of
    questions: list[Question]  # to choose from, about 40
    methods: list[MethodResults]  # one, or two to be put side by side
    provenance: dict[str, str]  # where the numbers come from, in the order of the page
