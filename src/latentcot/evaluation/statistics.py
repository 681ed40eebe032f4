"""Shares of questions, their spread over seeds, and whether two methods differ.

Two things vary, and they are told apart: which questions were drawn (Wilson's interval, McNemar's
test) and which seed a run had (standard deviation, Student's interval).
"""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist, fmean, stdev
from typing import Literal

from latentcot.errors import UsageError

Alternative = Literal["two-sided", "greater", "less"]


def percent(share: float) -> str:
    """Write a share as `99.9 %`: a mistake among thousands is never rounded away, nor a hit."""
    least, most = (0.1 if share > 0 else 0.0), (99.9 if share < 1 else 100.0)
    return f"{min(max(100 * share, least), most):.1f} %"


def share_with_interval(num_right: int, num_all: int) -> tuple[float, float, float]:
    """Return a share and its 95 % Wilson interval, as (share, low, high) in 0 … 1.

    Wilson's interval stays inside 0 … 1 and holds near both ends, where accuracies lie.
    """
    return num_right / num_all, *share_interval(num_right / num_all, num_all)


def share_interval(share: float, num_all: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share that need not be a whole number of questions.

    For the mean accuracy of several runs on the same `num_all` questions it is never too narrow:
    a mean of runs varies at most as much with the questions as a single run of that accuracy.
    """
    z = NormalDist().inv_cdf(0.975)
    scale = 1 + z**2 / num_all
    middle = (share + z**2 / (2 * num_all)) / scale
    half = z * sqrt(share * (1 - share) / num_all + z**2 / (4 * num_all**2)) / scale
    # At both ends the interval touches the end; the sums above miss it by rounding.
    low = 0.0 if share == 0 else middle - half
    return low, 1.0 if share == 1 else middle + half


def mcnemar(b: int, c: int, alternative: Alternative = "two-sided") -> float:
    """Return the p-value of McNemar's exact test: do two models differ on the same questions?

    Questions that both get right, or both wrong, say nothing about it. If the models are equally
    good, each of the others falls on either side with probability ½ (McNemar 1947).

    Args:
        b: Questions that only the first gets right.
        c: Questions that only the second gets right.
        alternative: `greater` asks whether the first is better, `less` whether the second is.
    """
    if b + c == 0:
        return 1.0
    from scipy.stats import binomtest  # only here and below: it takes a second to load

    return float(binomtest(b, b + c, 0.5, alternative=alternative).pvalue)


def combine(p_values: Sequence[float]) -> float:
    """Return one p-value for several: twice their mean, at most 1; a single one as it is.

    Valid under any dependence between them (Rüschendorf 1982). Runs of different seeds answer the
    same questions, so their p-values depend on each other; Fisher's method would not be valid.

    Raises:
        UsageError: There is none.
    """
    if not p_values:
        raise UsageError("combine: needs at least one p-value, got none.")
    return p_values[0] if len(p_values) == 1 else min(1.0, 2 * fmean(p_values))


def paired_p_value(discordant: Sequence[tuple[int, int]]) -> float:
    """Return one p-value for several pairs of runs, a pair for each seed: McNemar, combined.

    Each direction is combined by itself, and the better one counts twice. If one side is ahead in
    every seed, this is what `combine` gives for the two-sided p-values. If the seeds disagree
    about who is ahead, it is large, as it must be: two-sided p-values forget the direction.

    Args:
        discordant: For each seed (questions that only the first gets right, only the second).
    """
    ahead = combine([mcnemar(b, c, "greater") for b, c in discordant])
    behind = combine([mcnemar(b, c, "less") for b, c in discordant])
    return min(1.0, 2 * min(ahead, behind))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several, in the order given (Holm 1979, step down).

    Calling those below 0.05 different makes one mistake or more with probability 0.05 at most,
    whatever the tests have to do with each other.
    """
    adjusted = [0.0] * len(p_values)
    so_far = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for num_smaller, place in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p_values) - num_smaller) * p_values[place]))
        adjusted[place] = so_far
    return adjusted


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the standard deviation (n − 1); None for that of a single value."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the mean by Student's t; None for a single value.

    Over seeds it covers what another set of seeds would give. With two or three it is wide, which
    is the truth about two or three.
    """
    mean, sd = mean_and_sd(values)
    if sd is None:
        return None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * sd / sqrt(len(values))
    return mean - half, mean + half
