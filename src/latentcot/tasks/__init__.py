"""Tasks: how an answer is read off a generated text, and when it counts as right.

A new task is a new row of `TASKS`; for data of one's own an `AnswerMatch` is enough. Files of
examples are read the same way for all of them (`latentcot.data.examples`); what only one task has,
such as ProsQA's graphs, is in its own module.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from latentcot.errors import MethodError, RecipeError, did_you_mean
from latentcot.utils.parsing import shown


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


@dataclass(frozen=True, slots=True)
class AnswerMatch:
    """The `task:` part of a recipe for data of one's own: when two answers are the same."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, see config.py

    match: Literal["exact", "number", "regex"] = "exact"
    """As texts (blanks aside), by the first number in each, or by what `pattern` finds in each."""
    pattern: str | None = None
    """For regex: its first group, or all that it matches, is compared."""


# --- when answers are the same ----------------------------------------------------------------

NUMBER = re.compile(r"[-−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3}\b)?")


def same_text(predicted: str, gold: str) -> bool:
    """Compare answers as texts; only the number of blanks between words does not matter."""
    return predicted.split() == gold.split()


def same_without_commas(predicted: str, gold: str) -> bool:
    """Compare as the paper does on GSM8k: as texts, once commas are removed."""
    return same_text(predicted.replace(",", ""), gold.replace(",", ""))


def same_number(predicted: str, gold: str) -> bool:
    """Compare the first number in each text by value: 1,000 is 1000.0; none is never right."""
    numbers = [NUMBER.search(text) for text in (predicted, gold)]
    texts = [found[0].replace(",", "").replace("−", "-") for found in numbers if found]
    values = [Decimal(text) for text in texts]
    return len(values) == 2 and values[0] == values[1]


def _same_found(pattern: str) -> Callable[[str, str], bool]:
    compiled = re.compile(pattern)

    def is_correct(predicted: str, gold: str) -> bool:
        found = [compiled.search(text) for text in (predicted, gold)]
        parts = [one[1] if compiled.groups else one[0] for one in found if one]
        return len(parts) == 2 and bool(parts[0]) and parts[0] == parts[1]

    return is_correct


# --- the table --------------------------------------------------------------------------------

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("prosqa", "paths in a graph of concepts, in words or in symbols", same_text),
        Task("prontoqa", "true or false, by a chain of rules about fictional concepts", same_text),
        Task("gsm8k", "word problems whose answer is a number", same_without_commas),
    )
}


def task_named(name: str | AnswerMatch) -> Task:
    """Return the task of this name, or the one that an `AnswerMatch` describes.

    Raises:
        MethodError: There is none.
        RecipeError: The pattern of a regex is missing, wrong, or of no use.
    """
    if isinstance(name, AnswerMatch):
        return _own_task(name)
    if name not in TASKS:
        raise MethodError(
            f"task {name!r} does not exist.{did_you_mean(name, TASKS)} There are: "
            f"{', '.join(TASKS)}; for data of your own, task: {{match: exact}}."
        )
    return TASKS[name]


def _own_task(rule: AnswerMatch) -> Task:
    if (rule.match == "regex") != (rule.pattern is not None):
        raise RecipeError(
            f"task.pattern: is for match: regex and needed there, got match: {rule.match} and "
            f"pattern: {rule.pattern!r}."
        )
    if rule.pattern is None:
        same = same_text if rule.match == "exact" else same_number
        return Task("own", f"data of one's own, answers compared as {rule.match}", same)
    try:
        return Task("own", f"answers compared by {rule.pattern!r}", _same_found(rule.pattern))
    except (re.error, RecursionError, OverflowError) as error:  # the last two of odd patterns
        raise RecipeError(
            f"task.pattern: is no regular expression: {error}, got {shown(rule.pattern)}."
        ) from None


def extract_answer(text: str, answer_start: str) -> str:
    """Return what stands behind the last `answer_start` of a generated text, or nothing."""
    return text.rpartition(answer_start.strip())[2].strip() if answer_start.strip() in text else ""
