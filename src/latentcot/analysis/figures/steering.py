"""Answers flipped to the other candidate, by how hard each thought is pushed along a direction."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from latentcot.analysis.figures.style import BLUE, COLUMN, GREY, ORANGE, figure

_LOOKS = {
    "thoughts": ("difference of thoughts", BLUE, "-o"),
    "embeddings": ("difference of embeddings", ORANGE, "-s"),
    "random": ("random direction", GREY, "--^"),
}


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw a panel for each thought, and a row of them for each model."""
    models = _models(result)
    most = max(model["num_thoughts"] for model in models)
    width = COLUMN if most < 4 else 2 * COLUMN
    with figure(width, 0.5 + 1.45 * len(models)) as drawn:
        grid = drawn.subplots(len(models), most, sharex=True, sharey=True, squeeze=False)
        for axes, model in zip(grid, models, strict=True):
            for thought, axis in enumerate(axes, start=1):
                _panel(axis, model, thought)
            axes[0].set_ylabel(f"flipped\n({model['name']})" if len(models) > 1 else "flipped")
        for thought, axis in enumerate(grid[0], start=1):
            axis.set_title(f"thought {thought}")
        for axis in grid[-1]:
            axis.set_xlabel("α")
        handles, labels = grid[0][0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper center", ncols=2 if most < 4 else 3)
    return drawn


def rows(result: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return a row for each model, direction, thought and alpha; of two models a comparison."""
    found = {
        "steering": [
            {"model": model["name"], **_plain(row)}
            for model in _models(result)
            for row in model["steered"]
        ],
        "steering-comparison": [_plain(row) for row in result.get("comparison", [])],
    }
    return {name: rows for name, rows in found.items() if rows}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: "" if value is None else value for key, value in row.items()}


def _models(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    other = result.get("against")
    return [result, other] if other and "steered" in other else [result]


def _panel(axis: Axes, model: Mapping[str, Any], thought: int) -> None:
    for name, (label, colour, line) in _LOOKS.items():
        found = [
            row
            for row in model["steered"]
            if row["direction"] == name and row["thought"] == thought and row["flipped"] is not None
        ]
        if not found:
            continue
        nothing = {"alpha": 0, "flipped": 0.0, "flipped_low": 0.0, "flipped_high": 0.0}
        found = sorted([*found, nothing], key=lambda row: float(row["alpha"]))
        alphas = [row["alpha"] for row in found]
        axis.plot(alphas, [row["flipped"] for row in found], line, color=colour, label=label)
        axis.fill_between(
            alphas,
            [row["flipped_low"] for row in found],
            [row["flipped_high"] for row in found],
            color=colour,
            alpha=0.25,
            linewidth=0,
        )
    axis.axvline(0, color=GREY, linewidth=0.5)
    axis.set_xticks([-2, -1, 0, 1, 2])
    axis.set_ylim(-0.03, 1.03)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
