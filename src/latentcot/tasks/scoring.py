"""When an answer is right: how it is read off a generated text, and when two are the same."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from latentcot.errors import RecipeError
from latentcot.utils.parsing import shown

NUMBER = re.compile(r"[-−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3}\b)?")

IsCorrect = Callable[[str, str], bool]
"""(predicted answer, gold answer) → whether it counts as right."""


def extract_answer(text: str, answer_start: str) -> str:
    """Return what stands behind the last `answer_start` of a generated text, or nothing."""
    return text.rpartition(answer_start.strip())[2].strip() if answer_start.strip() in text else ""


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


@dataclass(frozen=True, slots=True)
class AnswerMatch:
    """The `task:` part of a recipe for custom data: when two answers are the same."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, see recipes/

    match: Literal["exact", "number", "regex"] = "exact"
    """As texts (blanks aside), by the first number in each, or by what `pattern` finds in each."""
    pattern: str | None = None
    """For regex: its first group, or all that it matches, is compared."""

    def rule(self) -> IsCorrect:
        """Return how it compares.

        Raises:
            RecipeError: The pattern of a regex is missing, wrong, or of no use.
        """
        if (self.match == "regex") != (self.pattern is not None):
            raise RecipeError(
                f"task.pattern: is for match: regex and needed there, got match: {self.match} and "
                f"pattern: {self.pattern!r}."
            )
        if self.pattern is None:
            return same_text if self.match == "exact" else same_number
        try:
            pattern = re.compile(self.pattern)
        except (re.error, RecursionError, OverflowError) as error:  # the last two of odd patterns
            raise RecipeError(
                f"task.pattern: is no regular expression: {error}, got {shown(self.pattern)}."
            ) from None

        def is_correct(predicted: str, gold: str) -> bool:
            found = [pattern.search(text) for text in (predicted, gold)]
            parts = [one[1] if pattern.groups else one[0] for one in found if one]
            return len(parts) == 2 and bool(parts[0]) and parts[0] == parts[1]

        return is_correct
