"""Outcomes after k thoughts: bars that add up to all questions, accuracy above them."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from latentcot.analysis.figures.style import (
    BLACK,
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    VERMILION,
    figure,
)

_LOOKS: Mapping[str, tuple[str, str, str]] = {
    "correct_path": ("correct path", BLUE, ""),
    "longer_path": ("longer path", SKY, "////"),
    "hallucination": ("hallucination", VERMILION, "xxxx"),
    "wrong_target": ("wrong target", ORANGE, "...."),
    "correct_label": ("correct label", GREEN, "\\\\\\\\"),
    "incorrect_label": ("incorrect label", GREY, "----"),
}
"""Outcome → its words, colour and hatch: what is told apart by colour is told apart without."""


def draw(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw a figure for each way to force language: `outcomes`, and `outcomes-step-first`."""
    names = {"free": "outcomes", "step_first": "outcomes-step-first"}
    return {names[series["name"]]: _draw(series, result) for series in result["series"]}


def rows(result: Mapping[str, Any]) -> list[dict[str, str | float | int]]:
    """Return a row for each series, k and outcome; accuracy is repeated in each."""
    return [
        {
            "series": series["name"],
            "k": row["k"],
            "num_questions": row["num_questions"],
            "accuracy": row["accuracy"],
            "accuracy_low": row["low"],
            "accuracy_high": row["high"],
            "p": "" if row["p"] is None else row["p"],
            "outcome": outcome,
            "share": row["shares"][outcome],
            "low": row["intervals"][outcome][0],
            "high": row["intervals"][outcome][1],
            **{name: shares[outcome] for name, shares in row["other_readings"].items()},
        }
        for series in result["series"]
        for row in series["by_k"]
        for outcome in result["outcomes"]
    ]


def _draw(series: Mapping[str, Any], result: Mapping[str, Any]) -> Figure:
    by_k = series["by_k"]
    with figure(COLUMN, 2.9) as drawn:
        above, below = drawn.subplots(2, 1, sharex=True, height_ratios=(1, 2))
        _draw_accuracy(above, by_k)
        _draw_bars(below, by_k, result["outcomes"])
        has_latents = len(by_k) > 1
        below.set_xlabel("k, thoughts" if has_latents else "k (the method has no latent positions)")
        below.set_xticks([row["k"] for row in by_k], [_tick(row, result) for row in by_k])
        margin = 0.6 if has_latents else 1.5
        below.set_xlim(-margin, by_k[-1]["k"] + margin)
        drawn.legend(*below.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return drawn


def _tick(row: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    is_trained = row["k"] == result["num_thoughts"] and not result["num_thoughts_varies"]
    return f"{row['k']}\n(trained)" if is_trained and row["k"] else str(row["k"])


def _draw_accuracy(axes: Axes, by_k: Sequence[Mapping[str, Any]]) -> None:
    heights = [row["accuracy"] for row in by_k]
    errors = [
        [row["accuracy"] - row["low"] for row in by_k],
        [row["high"] - row["accuracy"] for row in by_k],
    ]
    numbers = [row["k"] for row in by_k]
    axes.errorbar(numbers, heights, errors, marker="o", markersize=1.5, color=BLACK, capsize=2.5)
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0, 0.5, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("accuracy")


def _draw_bars(axes: Axes, by_k: Sequence[Mapping[str, Any]], outcomes: Sequence[str]) -> None:
    bottoms = [0.0] * len(by_k)
    for outcome in outcomes:
        label, colour, hatch = _LOOKS[outcome]
        heights = [row["shares"][outcome] for row in by_k]
        axes.bar(
            [row["k"] for row in by_k],
            heights,
            width=0.8,
            bottom=bottoms,
            label=label,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.4,
        )
        bottoms = [below + height for below, height in zip(bottoms, heights, strict=True)]
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("questions")
