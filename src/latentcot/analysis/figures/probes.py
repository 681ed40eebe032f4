"""Accuracy of linear probes by thought, beside that on control labels and that of guessing."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from latentcot.analysis.figures.style import COLOURS, COLUMN, GREY, MARKERS, figure

_OTHERS = ("answer", "candidate", "class")
MAX_DISTANCES = 6


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw the frontiers, and beside them the answer; a row of panels for each model."""
    models = _models(result)
    has_graphs = any(row["probe"] == "frontier" for row in result["probes"])
    panels = ("frontier", "others") if has_graphs else ("others",)
    with figure(COLUMN, 0.75 + 1.45 * len(models)) as drawn:
        grid = drawn.subplots(len(models), len(panels), sharex=True, sharey=True, squeeze=False)
        for axes, model in zip(grid, models, strict=True):
            for axis, panel in zip(axes, panels, strict=True):
                _panel(axis, model, panel)
            axes[0].set_ylabel(f"accuracy\n({model['name']})" if len(models) > 1 else "accuracy")
        for axis in grid[-1]:
            axis.set_xlabel("thought")
        handles, labels = _legend(grid[0])
        drawn.legend(handles, labels, loc="outside upper center", ncols=3)
    return drawn


def rows(result: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return a row for each model and probe; of two models a comparison."""
    found = {
        "probes": [
            {"model": model["name"], **_plain(row)}
            for model in _models(result)
            for row in model["probes"]
        ],
        "probes-comparison": [_plain(row) for row in result.get("comparison", [])],
    }
    return {name: rows for name, rows in found.items() if rows}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: "" if value is None else value for key, value in row.items()}


def _models(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    other = result.get("against")
    return [result, other] if other and "probes" in other else [result]


def _legend(axes: Sequence[Axes]) -> tuple[list[Any], list[Any]]:
    """Return what all panels show, each once."""
    found: dict[Any, Any] = {}
    for axis in axes:
        found |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    return list(found.values()), list(found)


def _panel(axis: Axes, model: Mapping[str, Any], panel: str) -> None:
    if panel == "frontier":
        distances = sorted({row["distance"] for row in _of(model, "frontier")})[:MAX_DISTANCES]
        lines = [
            (f"at distance {d}", [row for row in _of(model, "frontier") if row["distance"] == d])
            for d in distances
        ]
        first = 0
    else:
        lines = [(name, _of(model, name)) for name in _OTHERS if _of(model, name)]
        first = 4
    for number, (label, found) in enumerate(lines):
        _line(axis, found, label, (first + number) % len(COLOURS))
    axis.plot([], [], ":", color=GREY, label="control labels")
    chances = [row["chance"] for _, found in lines for row in found]
    if chances:
        axis.axhline(sum(chances) / len(chances), color=GREY, linewidth=0.6, label="guessing")
    most = model["num_thoughts"] + 1
    axis.set_xticks(range(1, most + 1), [*map(str, range(1, most)), "last\nslot"])
    axis.set_xlim(0.7, most + 0.3)
    axis.set_ylim(-0.03, 1.05)
    axis.yaxis.set_major_formatter(PercentFormatter(1))


def _of(model: Mapping[str, Any], probe: str) -> list[Any]:
    return [row for row in model["probes"] if row["probe"] == probe]


def _line(axis: Axes, found: Sequence[Mapping[str, Any]], label: str, number: int) -> None:
    thoughts = [row["thought"] for row in found]
    axis.errorbar(
        thoughts,
        [row["accuracy"] for row in found],
        yerr=[
            [row["accuracy"] - row["accuracy_low"] for row in found],
            [row["accuracy_high"] - row["accuracy"] for row in found],
        ],
        fmt=f"-{MARKERS[number]}",
        color=COLOURS[number],
        elinewidth=0.8,
        label=label,
    )
    axis.plot(thoughts, [row["control"] for row in found], ":", color=COLOURS[number])
