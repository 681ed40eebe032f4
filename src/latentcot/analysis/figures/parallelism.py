"""The value of the best one, two and three nodes by percentile: a panel for each k."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from latentcot.analysis.figures.style import BLUE, COLUMN, GREEN, ORANGE, figure

MOST_PANELS = 4
"""Numbers of thoughts that are drawn, from the smallest on; the CSV has all."""

_LOOKS = (
    ("best node", BLUE, "-"),
    ("best two", ORANGE, "--"),
    ("best three", GREEN, ":"),
)


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw the sums; the space between the best one and the best three is shaded."""
    by_k = result["by_k"][:MOST_PANELS]
    with figure(2 * COLUMN if len(by_k) > 2 else COLUMN, 2.1) as drawn:
        panels = drawn.subplots(1, len(by_k), sharey=True, squeeze=False)[0]
        for axes, row in zip(panels, by_k, strict=True):
            percents = range(len(row["percentiles"][0]))
            axes.fill_between(
                percents, row["percentiles"][0], row["percentiles"][-1], color="#E4E4E4"
            )
            for (label, colour, line), values in zip(_LOOKS, row["percentiles"], strict=True):
                axes.plot(percents, values, label=label, color=colour, linestyle=line)
            axes.set_title(f"k = {row['k']} (depth {row['depth']})")
            axes.text(98, 0.02, _gap(row["gap"]), ha="right", va="bottom", fontsize=6.5)
            axes.set_xlabel("percentile of questions")
            axes.set_xticks([0, 50, 100])
            axes.set_xlim(0, 100)
            axes.set_ylim(0, 1.04)
            axes.set_yticks([0, 0.5, 1])
        panels[0].set_ylabel("sum of values")
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return drawn


def rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each k and percentile; the mean gap is repeated in each."""
    return [
        {
            "k": row["k"],
            "depth": row["depth"],
            "percentile": percent,
            **{f"best {i}": value for i, value in enumerate(values, start=1)},
            "mean_gap": row["gap"]["mean"],
            "mean_gap_low": _or_empty(row["gap"]["low"]),
            "mean_gap_high": _or_empty(row["gap"]["high"]),
            "num_questions": row["gap"]["num_questions"],
        }
        for row in result["by_k"]
        for percent, values in enumerate(zip(*row["percentiles"], strict=True))
    ]


def _gap(gap: Mapping[str, Any]) -> str:
    """Write the mean gap with its interval."""
    if gap["low"] is None:
        return f"mean gap {gap['mean']:.2f}"
    return f"mean gap {gap['mean']:.2f}\n({gap['low']:.2f} – {gap['high']:.2f})"


def _or_empty(value: float | None) -> float | str:
    return "" if value is None else value
