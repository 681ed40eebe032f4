"""Two measurements of the same questions: their mean difference, its interval, and a test."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from scipy.stats import t

from latentcot.errors import UsageError
from latentcot.evaluation.statistics import holm


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean over questions of first minus second.

    Attributes:
        mean: Of the differences.
        low: Lower end of its 95 % interval (Student's t); None for a single question.
        high: Upper end.
        p: Two-sided p-value of the paired t-test; 1 for a single question.
        num_questions: How many are paired.
    """

    mean: float
    low: float | None
    high: float | None
    p: float
    num_questions: int


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two values of each question.

    If all differences are equal, the interval is that one value, and p is 0 unless it is 0.

    Raises:
        UsageError: There is no question, or there are not as many of both.
    """
    if len(first) != len(second) or not first:
        raise UsageError(
            "difference: needs two values of each question and at least one question, got "
            f"{len(first)} and {len(second)} values."
        )
    gaps, num = [a - b for a, b in zip(first, second, strict=True)], len(first)
    mean = fmean(gaps)
    if num == 1:
        return Difference(mean, None, None, 1.0, 1)
    error = stdev(gaps) / sqrt(num)
    half = float(t.ppf(0.975, num - 1)) * error
    if error == 0:
        return Difference(mean, mean, mean, float(mean == 0), num)
    p = 2 * float(t.sf(abs(mean) / error, num - 1))
    return Difference(mean, mean - half, mean + half, p, num)


def short(value: float | None, digits: int = 4) -> float | None:
    """Round for a result file; None stays None."""
    return None if value is None else round(value, digits)


def short_p(p: float) -> float:
    """Round a p-value to three digits that mean something."""
    return float(f"{p:.3g}")


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p-values after Holm, rounded."""
    return [short_p(p) for p in holm(p_values)]
