"""What can be chosen about arithmetic data: one dataclass, all problems in one message."""

from dataclasses import dataclass
from typing import Any, Literal

from latentcot.tasks.options import options_error, wrong_choices

Wording = Literal["story", "short"]
Shape = Literal["mixed", "chain"]
StepForm = Literal["joined", "spaced"]

OPERATIONS = "+-*/"
MOST_STEPS = 8
LEAST_NUMBER = 10

_CHOICES = {"wording": Wording, "shape": Shape, "step_form": StepForm}


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

    min_steps: int = 1
    max_steps: int = MOST_STEPS
    max_number: int = 10_000
    operations: str = OPERATIONS
    wording: Wording = "story"
    shape: Shape = "mixed"
    step_form: StepForm = "joined"

    def __post_init__(self) -> None:
        problems = [*wrong_choices(self, _CHOICES), *_wrong_values(self)] or _contradictions(self)
        if problems:
            raise options_error("arithmetic", problems)


def _wrong_values(options: ArithmeticOptions) -> list[str]:
    problems = [
        f"{name} must be a whole number from 1 to {MOST_STEPS}, got {getattr(options, name)!r}."
        for name in ("min_steps", "max_steps")
        if not _is_whole(getattr(options, name), 1, MOST_STEPS)
    ]
    if not _is_whole(options.max_number, LEAST_NUMBER):
        problems.append(
            f"max_number must be a whole number of at least {LEAST_NUMBER}, "
            f"got {options.max_number!r}."
        )
    chosen = options.operations
    if not isinstance(chosen, str) or not chosen or len({*chosen} & {*OPERATIONS}) != len(chosen):
        problems.append(
            f"operations must be some of {OPERATIONS}, each once, without blanks, got {chosen!r}."
        )
    return problems


def _is_whole(value: Any, least: int, most: int | None = None) -> bool:
    return type(value) is int and least <= value and (most is None or value <= most)


def _contradictions(options: ArithmeticOptions) -> list[str]:
    """Return what is wrong between fields that are each fine alone."""
    problems = []
    if options.min_steps > options.max_steps:
        problems.append(
            "min_steps must not be above max_steps, "
            f"got {options.min_steps} and {options.max_steps}."
        )
    least = _least_number(options.operations, options.max_steps)
    if options.max_number < least:
        problems.append(
            f"max_number must be at least {least} for {options.max_steps} steps of "
            f"{options.operations} alone, got {options.max_number}. Take fewer steps, or more "
            "operations."
        )
    return problems


def _least_number(operations: str, steps: int) -> int:
    """Return the largest number of the smallest problem, where every step is the same operation.

    No number is below 2, and the answer stands nowhere in the question: 5 - 2, 6 / 2.
    """
    doubled: int = 2**steps
    least = {"+": 2 * steps + 2, "-": 2 * steps + 3, "*": 2 * doubled, "/": 3 * doubled}
    return least.get(operations, LEAST_NUMBER)
