"""Word problems of 1 to 8 steps: an offline stand-in for GSM8k-Aug, which it imitates in form.

    Tom has 3 boxes with 4 pens in each box. Then he loses 2 pens. How many pens does Tom have now?
    <<3*4=12>> <<12-2=10>>
    10

Every step takes results of earlier steps or numbers of the question, and every result but the last
is used later; the answer is the last result. All numbers are whole, from 2 to `max_number`, and all
divisions exact. `arithmetic_problems.py` draws the numbers, `arithmetic_stories.py` the words,
`arithmetic_steps.py` checks.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from random import Random

from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.tasks.arithmetic.options import ArithmeticOptions, StepForm
from latentcot.tasks.arithmetic.problems import Equation, draw_problem
from latentcot.tasks.arithmetic.stories import tell
from latentcot.tasks.splits import MAX_CLASHES, draw_new, fill_splits
from latentcot.utils.files import written_whole


def make_splits(
    options: ArithmeticOptions,
    sizes: Mapping[str, int],
    seed: int,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, list[Example]]:
    """Make examples for each split, no question twice and none in two splits.

    Small splits are made first, each from its own stream of random numbers, so a larger training
    split leaves validation and test as they are. Two questions may still ask for the same steps
    about other persons and things.

    Args:
        options: How the problems are drawn and worded.
        sizes: Number of examples of each split; ids are "split-0", "split-1", …
        seed: With `options`, the split's name and the smaller splits it determines every byte.
        on_progress: Called now and then with the number of examples made since the last call.

    Raises:
        DataError: There are too few different questions, or none, under these options.
    """
    taken: set[Hashable] = set()

    def draw(rng: Random, split: str, number: int) -> Example:
        id = f"{split}-{number}"
        # Drawn before the numbers: a clash must not make problems of few steps rarer.
        num_steps = rng.randint(options.min_steps, options.max_steps)
        example = draw_new(
            lambda: draw_example(rng, options, num_steps, id), lambda one: one.question, taken
        )
        if example is None:
            raise DataError(
                f"arithmetic data: after {len(taken)} different questions {MAX_CLASHES} draws of "
                f"one with {num_steps} steps brought none that is new (at {id}). Ask for fewer "
                "examples, raise max_number or min_steps, or use wording story."
            )
        return example

    return fill_splits("arithmetic", sizes, seed, draw, on_progress)


def draw_example(rng: Random, options: ArithmeticOptions, num_steps: int, id: str) -> Example:
    """Draw one example with this number of steps.

    Raises:
        DataError: No problem of this kind can be found.
    """
    problem = draw_problem(rng, options, num_steps)
    question = tell(rng, problem, options.wording)
    steps = tuple(_step(equation, options.step_form) for equation in problem.equations)
    return Example(id, question, steps, str(problem.answer))


def _step(equation: Equation, form: StepForm) -> str:
    left, operation, right, result = equation
    if form == "spaced":
        return f"{left} {operation} {right} = {result}"
    return f"<<{left}{operation}{right}={result}>>"


# --- the form of GSM8k-Aug --------------------------------------------------------------------


def write_icot(path: Path | str, examples: Iterable[Example]) -> None:
    """Write examples as iCoT text, one a line, whole or not at all; ids and `meta` are left out.

    Raises:
        DataError: An example cannot be written in this form; nothing is written then.
        RunError: The file cannot be written.
    """
    with written_whole(path) as file:
        file.writelines(icot_line(example) + "\n" for example in examples)


def icot_line(example: Example) -> str:
    """Return `question||<<4-2=2>> <<2/.5=4>> #### 4`; spaced steps are joined.

    Raises:
        DataError: The question or answer holds one of the marks, or a line break.
    """
    for part, text in (("question", example.question), ("answer", example.answer)):
        mark = next((mark for mark in ("||", "####", "\n", "\r") if mark in text), None)
        if mark is not None:
            raise DataError(
                f"example {example.id}: the {part} must not hold {mark!r} in iCoT text, "
                f"got {text[:80]!r}. Keep such examples as JSON Lines."
            )
    steps = [_joined(step) for step in example.steps]
    return f"{example.question}||{' '.join([*steps, '####', example.answer])}"


def _joined(step: str) -> str:
    bare = "".join(step.split())
    return bare if bare.startswith("<<") else f"<<{bare}>>"
