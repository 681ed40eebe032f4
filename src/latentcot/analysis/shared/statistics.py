"""What a result says of many questions: shares and means with intervals, paired tests, rounding.

Every helper returns plain values under the names that result files have: `{name}`, `{name}_low` and
`{name}_high`. Ends of intervals are None where a single question gives none.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean, stdev
from typing import Any, TypeVar

from scipy.stats import t

from latentcot.errors import UsageError
from latentcot.evaluation.statistics import holm, mcnemar, mean_interval, share_with_interval

Row = dict[str, Any]
Rows = list[Row]
T = TypeVar("T")


def rounded(value: float | None, digits: int = 6) -> float | None:
    """Round for a result file; None stays None."""
    return None if value is None else round(value, digits)


def share_fields(
    name: str, are_so: Sequence[bool], *, ends: str | None = None, digits: int = 6
) -> Row:
    """Return a share with its Wilson interval; None throughout where there is nothing.

    `ends` is what stands before `low` and `high` in the keys; `{name}_` if left out.
    """
    found = share_with_interval(sum(are_so), len(are_so)) if are_so else (None, None, None)
    ends = f"{name}_" if ends is None else ends
    keys = (name, f"{ends}low", f"{ends}high")
    return {key: rounded(value, digits) for key, value in zip(keys, found, strict=True)}


def mean_fields(
    name: str,
    values: Sequence[float],
    *,
    ends: str | None = None,
    lowest: float = -inf,
    highest: float = inf,
    digits: int = 6,
) -> Row:
    """Return the mean of at least one value, one a question, with Student's 95 % interval.

    It is cut off at `lowest` and `highest`. `ends` is as for `share_fields`.
    """
    low, high = mean_interval(values) or (None, None)
    ends = f"{name}_" if ends is None else ends
    return {
        name: round(sum(values) / len(values), digits),
        f"{ends}low": None if low is None else round(max(low, lowest), digits),
        f"{ends}high": None if high is None else round(min(high, highest), digits),
    }


def mean_of(values: Sequence[float], lowest: float = 0.0) -> Row:
    """Return {"mean", "low", "high", "num_questions"} of values in lowest … 1, one a question."""
    found = mean_fields("mean", values, ends="", lowest=lowest, highest=1.0, digits=5)
    return found | {"num_questions": len(values)}


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean over questions of first minus second."""

    mean: float  # of the differences
    low: float | None  # lower end of its 95 % interval (Student's t); None for a single question
    high: float | None  # upper end
    p: float  # two-sided p-value of the paired t-test; 1 for a single question
    num_questions: int  # how many are paired

    def fields(self, name: str) -> Row:
        """Return mean and interval, rounded."""
        ends = {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}
        return {key: rounded(value, 4) for key, value in ends.items()}


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


Values = dict[Any, dict[int, float]]
"""What is measured → question → value."""


def paired(
    here: Mapping[Any, Mapping[int, T]], there: Mapping[Any, Mapping[int, T]]
) -> Iterator[tuple[Any, list[T], list[T]]]:
    """Yield (what is measured, values here, values there) of the questions that both have."""
    for key, values in here.items():
        if both := [q for q in values if q in there.get(key, {})]:
            yield key, [values[q] for q in both], [there[key][q] for q in both]


def more_rows(keys: Sequence[str], here: Values, there: Values) -> Rows:
    """Return how much more of each there is here, question by question (paired t-test, Holm).

    `keys` name the parts by which both tell what is measured. What only one has is left out.
    """
    rows: Rows = []
    for key, first, second in paired(here, there):
        more = difference(first, second)
        about = dict(zip(keys, key, strict=True)) | {"num_questions": len(first)}
        rows.append(about | more.fields("more") | {"p": more.p})
    adjust(rows)
    return rows


def mcnemar_of(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the p-value of McNemar's test: are as many questions right by the first?"""
    pairs = Counter(zip(first, second, strict=True))
    return mcnemar(pairs[True, False], pairs[False, True])


def adjust(rows: Sequence[Row], key: str = "p", raw: str | None = None) -> None:
    """Write p-values adjusted by Holm into rows, with three digits; rows without one stay.

    They come from `raw`, where they stay, rounded; or from `key`, where the adjusted ones go.
    """
    tested = [row for row in rows if row[raw or key] is not None]
    for row, p in zip(tested, holm([row[raw or key] for row in tested]), strict=True):
        if raw is not None:
            row[raw] = float(f"{row[raw]:.3g}")
        row[key] = float(f"{p:.3g}")
