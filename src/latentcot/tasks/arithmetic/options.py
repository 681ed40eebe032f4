"""What can be chosen about arithmetic data: one dataclass, all problems in one message."""

from dataclasses import dataclass
from typing import Annotated, Literal

from latentcot.tasks.generators import Range, check, refuse

Wording = Literal["story", "short"]
Shape = Literal["mixed", "chain"]
StepForm = Literal["joined", "spaced"]

OPERATIONS = "+-*/"
MOST_STEPS = 8
LEAST_NUMBER = 10

Steps = Annotated[int, Range(1, MOST_STEPS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArithmeticOptions:
    """How arithmetic data is made. The defaults stand in for GSM8k-Aug.

    Attributes:
        min_steps: Fewest steps of a problem, from 1.
        max_steps: Most steps, up to 8; each number in between is equally likely.
        max_number: The largest number that may occur in a question, a step or an answer.
        operations: Which of + - * / the steps use, written together: "+-".
        wording: `story` (word problems from many templates), or `short` (one sentence of few words
            for each step, a few dozen words in all) for small models trained from scratch.
        shape: `mixed`, or `chain`: each step has the result before it and one new number. A mixed
            problem has side results, too ("3 boxes of 4", "a third of them"), and totals of two
            persons, which need a number from further back.
        step_form: `joined` ("<<3*4=12>>", as in GSM8k-Aug), or `spaced` ("3 * 4 = 12") for the
            built-in tokenizer, to which whatever stands between blanks is one word.

    Raises:
        RecipeError: With all problems at once.
    """

    min_steps: Steps = 1
    max_steps: Steps = MOST_STEPS
    max_number: Annotated[int, Range(LEAST_NUMBER)] = 10_000
    operations: str = OPERATIONS
    wording: Wording = "story"
    shape: Shape = "mixed"
    step_form: StepForm = "joined"

    def __post_init__(self) -> None:
        chosen, problems = self.operations, []
        if not isinstance(chosen, str) or not 0 < len(chosen) == len({*chosen} & {*OPERATIONS}):
            problems.append(
                f"operations must be some of {OPERATIONS}, each once, without blanks, "
                f"got {chosen!r}."
            )
        check("arithmetic", self, problems)

        # What is wrong between fields that are each fine alone.
        steps, doubled = self.max_steps, 2**self.max_steps
        if self.min_steps > steps:
            problems.append(
                f"min_steps must not be above max_steps, got {self.min_steps} and {steps}."
            )
        # The largest number of the smallest problem, where every step is the same operation: none
        # is below 2, and the answer stands nowhere in the question (5 - 2, 6 / 2).
        smallest = {"+": 2 * steps + 2, "-": 2 * steps + 3, "*": 2 * doubled, "/": 3 * doubled}
        least = smallest.get(chosen, LEAST_NUMBER)
        if self.max_number < least:
            problems.append(
                f"max_number must be at least {least} for {steps} steps of {chosen} alone, "
                f"got {self.max_number}. Take fewer steps, or more operations."
            )
        refuse("arithmetic", problems)
