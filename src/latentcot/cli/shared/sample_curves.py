"""Thinking more at inference, drawn: accuracy against samples, and against thoughts."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from latentcot.analysis.shared import style
from latentcot.evaluation.results import Evaluation

MEASURES = {"pass_at_k": ("one of k right", "-"), "vote": ("vote of k", "--"),
            "best": ("best of k", ":")}  # fmt: skip
"""Key of `AtK` → its words and its line."""


def draw(results: Sequence[Evaluation]) -> Figure:
    """Draw results of one model on the same questions, one for each number of thoughts.

    Left what k samples are worth, a colour for each number of thoughts; right, where there are
    several, what all of them are worth at each. Each panel is left out where it would be a point.
    """
    has_samples = any(result.sampled and len(result.sampled.at) > 1 for result in results)
    panels = [*([_against_samples] if has_samples else []),
              *([_against_thoughts] if len(results) > 1 else [])]  # fmt: skip
    with style.figure(width=style.COLUMN * len(panels)) as figure:
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, one in zip(panels, axes, strict=True):
            panel(one, results)
            style.percents(one.yaxis)
            one.legend()
        axes[0].set_ylabel("right answers")
    return figure


def _against_samples(axes: Axes, results: Sequence[Evaluation]) -> None:
    for number, result in enumerate(results):
        if result.sampled is None:
            continue
        thoughts = f", {_thoughts(result):g} thoughts" if len(results) > 1 else ""
        ks = [at.k for at in result.sampled.at]
        for key, (label, line) in MEASURES.items():
            shares = [getattr(at, key) for at in result.sampled.at]
            if None in shares:  # without a scorer
                continue
            rows = [_row(share) for share in shares]
            look = style.look_of(number)
            look |= {"fmt": look["fmt"].replace("-", line), "label": f"{label}{thoughts}"}
            style.points(axes, ks, rows, "value", ends="", **look)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({at.k for one in results if one.sampled for at in one.sampled.at}))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("samples k")


def _against_thoughts(axes: Axes, results: Sequence[Evaluation]) -> None:
    ordered = sorted(results, key=_thoughts)
    n = max(result.sampled.num_samples if result.sampled else 1 for result in ordered)
    lines = {"answer" if n == 1 else f"vote of {n}": [_row(one.accuracy) for one in ordered]}
    if n > 1:
        covered = [one.sampled.at[-1].pass_at_k for one in ordered if one.sampled]
        lines[f"one of {n} right"] = [_row(one) for one in covered]
    for number, (label, rows) in enumerate(lines.items()):
        places = [_thoughts(result) for result in ordered]
        style.points(axes, places, rows, "value", ends="", label=label, **style.look_of(number))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("thoughts")


def _thoughts(result: Evaluation) -> float:
    """Return the mean number of thoughts of one sample."""
    num_samples = result.sampled.num_samples if result.sampled else 1
    return result.thoughts_per_question / num_samples


def _row(share: Any) -> dict[str, float]:
    return {"value": share.value, "low": share.low, "high": share.high}
