"""Shares of questions, and their intervals."""

from scipy.stats import binomtest


def percent(share: float) -> str:
    """Write a share as `99.9 %`: a mistake among thousands is never rounded away, nor a hit."""
    least, most = (0.1 if share > 0 else 0.0), (99.9 if share < 1 else 100.0)
    return f"{min(max(100 * share, least), most):.1f} %"


def share_with_interval(num_right: int, num_all: int) -> tuple[float, float, float]:
    """Return a share and its 95 % Wilson interval, as (share, low, high) in 0 … 1.

    Wilson's interval stays inside 0 … 1 and holds near both ends, where accuracies lie.
    """
    interval = binomtest(num_right, num_all).proportion_ci(0.95, method="wilson")
    return num_right / num_all, float(interval.low), float(interval.high)
