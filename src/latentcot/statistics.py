"""Intervals for shares of questions."""

from scipy.stats import binomtest


def share_with_interval(num_right: int, num_all: int) -> tuple[float, float, float]:
    """Return a share and its 95 % Wilson interval, as (share, low, high) in 0 … 1.

    Wilson's interval stays inside 0 … 1 and holds near both ends, where accuracies lie.
    """
    interval = binomtest(num_right, num_all).proportion_ci(0.95, method="wilson")
    return num_right / num_all, float(interval.low), float(interval.high)
