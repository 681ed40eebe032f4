"""Word problems of 1 to 8 steps: an offline stand-in for GSM8k-Aug, which it imitates in form.

    Tom has 3 boxes with 4 pens in each box. Then he loses 2 pens. How many pens does Tom have now?
    <<3*4=12>> <<12-2=10>>
    10

Every step takes results of earlier steps or numbers of the question, and every result but the last
is used later; the answer is the last result. All numbers are whole, from 2 to `max_number`, and all
divisions exact. `problems.py` draws the numbers, `stories.py` the words, `steps.py` checks.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random

from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.tasks.arithmetic.problems import ArithmeticOptions, draw_problem
from latentcot.tasks.arithmetic.stories import tell
from latentcot.tasks.generators import New, Progress, Splits, fill_splits
from latentcot.utils.files import written_whole


def make_splits(
    options: ArithmeticOptions,
    sizes: Mapping[str, int],
    seed: int,
    on_progress: Progress | None = None,
) -> Splits:
    """Make examples for each split (see `Task.make`), no question twice and none in two splits.

    Two questions may still ask for the same steps about other persons and things.

    Raises:
        DataError: There are too few different questions, or none, under these options.
    """
    form = "{} {} {} = {}" if options.step_form == "spaced" else "<<{}{}{}={}>>"

    def draw(rng: Random, split: str, number: int, new: New) -> Example:
        # Drawn before the numbers: a clash must not make problems of few steps rarer.
        num_steps = rng.randint(options.min_steps, options.max_steps)

        def drawn() -> Example:
            problem = draw_problem(rng, options, num_steps)
            question = tell(rng, problem, options.wording)
            steps = tuple(form.format(*equation) for equation in problem.equations)
            return Example(f"{split}-{number}", question, steps, str(problem.answer))

        example: Example = new(drawn, lambda example: example.question)
        return example

    advice = "raise max_number or min_steps, or use wording story"
    return fill_splits(
        "arithmetic", sizes, seed, draw, on_progress, things="questions", advice=advice
    )


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
    bare = ["".join(step.split()) for step in example.steps]
    steps = [step if step.startswith("<<") else f"<<{step}>>" for step in bare]
    return f"{example.question}||{' '.join([*steps, '####', example.answer])}"
