"""Tasks: how an answer is read off a generated text, and when it counts as right.

A new task is a new row of `TASKS`. Files of examples are read the same way for all of them
(`latentcot.examples`); what only one task has, such as ProsQA's graphs, is in its own module.
"""

from collections.abc import Callable
from dataclasses import dataclass

from latentcot.errors import MethodError, did_you_mean


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes:
        name: As recipes name it.
        summary: One line for `latentcot list tasks`.
        is_correct: (predicted answer, gold answer) → whether it counts as right.
    """

    name: str
    summary: str
    is_correct: Callable[[str, str], bool]


def same_text(predicted: str, gold: str) -> bool:
    """Compare answers as texts; only the number of blanks between words does not matter."""
    return predicted.split() == gold.split()


TASKS: dict[str, Task] = {
    task.name: task
    for task in (Task("prosqa", "paths in a graph of concepts, in words or in symbols", same_text),)
}


def task_named(name: str) -> Task:
    """Return the task of this name.

    Raises:
        MethodError: There is none.
    """
    if name not in TASKS:
        raise MethodError(
            f"task {name!r} does not exist.{did_you_mean(name, TASKS)} "
            f"There are: {', '.join(TASKS)}."
        )
    return TASKS[name]


def extract_answer(text: str, answer_start: str) -> str:
    """Return what stands behind the last `answer_start` of a generated text, or nothing."""
    return text.rpartition(answer_start.strip())[2].strip() if answer_start.strip() in text else ""
