"""When an answer is right: how it is read off a generated text, and when two are the same."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import regex

from latentcot.errors import RecipeError
from latentcot.utils.parsing import shown

_DIGITS = r"(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3}\b)?"
_FRACTION = rf"\\[dt]?frac\s*\{{\s*({_DIGITS})\s*\}}\s*\{{\s*({_DIGITS})\s*\}}"
NUMBER = re.compile(
    # A minus is one where nothing stands before it that it could join: not in 10-20.
    rf"(?P<paid>\()?(?<![\w.)])(?P<minus>[-−–]\s?)?(?:[$€£¥]\s?(?P<inner>[-−–])?)?"
    rf"(?:{_FRACTION}|({_DIGITS})(?:\s?/\s?({_DIGITS}))?)"
    # What joins it to another number makes it a time, a range, a date: no number.
    r"(?P<more>(?:\s?[:–—/-]\s?\d[\d.,]*)+)?(?P<closed>\))?"
)
MAX_SECONDS = 1
"""For one search: a stranger's checkpoint could hold a pattern that takes for ever."""
TOLERANCE = Fraction(1, 10**14)
"""Of the larger number, unless both are whole: floats make 21557.250000000004 of 21557.25."""
MOST_DIGITS = 1000

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


def numbers_in(text: str) -> list[Fraction | None]:
    """Return the numbers in a text, by value; None for a time, a range, a date.

    Reads 1,000, 1e3, 14/3, \\frac{14}{3}, -$5, - 5, –5, and ($5), an accountant's -5.
    """
    found: list[Fraction | None] = []
    for one in NUMBER.finditer(text):
        above, below, whole, divisor = one.groups()[3:7]
        if one["more"] or len(one[0]) > MOST_DIGITS:
            found.append(None)
            continue
        parts = above or whole, below or divisor or "1"
        value, under = (Fraction(part.replace(",", "")) for part in parts)
        is_bracketed = one["paid"] and one["closed"] and "$" in one[0]
        sign = -1 if one["minus"] or one["inner"] or is_bracketed else 1
        found.append(sign * value / under if under else None)
    return found


def same_number(predicted: str, gold: str) -> bool:
    """Compare the first number in an answer with that of the gold one, within `TOLERANCE`.

    A gold answer that is no one number (3:30, 10-20, two of them) is compared as a text.
    """
    golds, answers = numbers_in(gold), numbers_in(predicted)
    if len(golds) != 1 or golds[0] is None:
        return same_text(predicted, gold)
    if not answers or answers[0] is None:
        return False
    one, other = answers[0], golds[0]
    if one.denominator == other.denominator == 1:
        return one == other
    return abs(one - other) <= TOLERANCE * max(abs(one), abs(other))


@dataclass(frozen=True, slots=True)
class AnswerMatch:
    """The `task:` part of a recipe for custom data: when two answers are the same."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic, see recipes/

    match: Literal["exact", "number", "regex"] = "exact"
    """As texts (blanks aside), by the number in each, or by what `pattern` finds in each."""
    pattern: str | None = None
    """For regex: its first group, or all that it matches, is compared."""

    @classmethod
    def told(cls, text: str) -> "AnswerMatch | None":
        """Return what `exact`, `number` or `regex:PATTERN` means; None for any other text."""
        kind, _, pattern = text.partition(":")
        if kind == "regex":
            return cls("regex", pattern)
        return {"exact": cls("exact"), "number": cls("number")}.get(text)

    def rule(self) -> IsCorrect:
        """Return how it compares.

        Raises:
            RecipeError: The pattern of a regex is missing, wrong, or of no use.
        """
        if (self.match == "regex") != (self.pattern is not None) or self.pattern == "":
            raise RecipeError(
                f"task.pattern: is for match: regex and needed there, got match: {self.match} and "
                f"pattern: {self.pattern!r}."
            )
        if self.pattern is None:
            return same_text if self.match == "exact" else same_number
        try:
            pattern = regex.compile(self.pattern)
        except (regex.error, RecursionError, OverflowError) as error:  # the last two of odd ones
            raise RecipeError(
                f"task.pattern: is no regular expression: {error}, got {shown(self.pattern)}."
            ) from None

        def is_correct(predicted: str, gold: str) -> bool:
            try:
                found = [pattern.search(text, timeout=MAX_SECONDS) for text in (predicted, gold)]
            except TimeoutError:
                raise RecipeError(
                    f"task.pattern: takes over {MAX_SECONDS} s on the answer {shown(predicted)}, "
                    f"got {shown(self.pattern)}. Write it without nested repetitions."
                ) from None
            parts = [one[1] if pattern.groups else one[0] for one in found if one]
            return len(parts) == 2 and bool(parts[0]) and parts[0] == parts[1]

        return is_correct
