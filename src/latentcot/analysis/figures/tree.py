"""Value against height, correct and incorrect nodes apart; and the case, drawn beside it."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentcot.analysis.figures import case
from latentcot.analysis.figures.style import BLUE, COLUMN, VERMILION, figure

MOST_PANELS = 3
"""Numbers of thoughts that get a panel, from the smallest on; the CSV has all."""

_LOOKS = {True: ("correct", BLUE, "o", "-"), False: ("incorrect", VERMILION, "s", "--")}
_RULES = {"longest": "height (longest path)", "shortest": "height (shortest path)"}


def draw(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw `tree`, value against height, and, where there is a case, `tree-case`."""
    drawn = {"tree": _draw(result)}
    if result["case"] is not None:
        drawn["tree-case"] = case.draw(result["case"])
    return drawn


def rows(result: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return a row for each mean of `tree`, and one for each node of `tree-case`."""
    found = {"tree": [_filled(row) for row in result["heights"]]}
    if result["case"] is not None:
        found["tree-case"] = case.rows(result["case"])
    return found


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: "" if value is None else value for key, value in row.items()}
    return found | {"k": "all" if row["k"] is None else row["k"]}


def _draw(result: Mapping[str, Any]) -> Figure:
    titles = {
        row["k"]: f"k = {row['k']}: nodes at depth {row['depth']}"
        for row in result["by_k"][:MOST_PANELS]
    }
    if len(result["by_k"]) > 1:
        titles = {None: "all k"} | titles
    most = max(row["height"] for row in result["heights"])
    with figure(2 * COLUMN if len(titles) > 2 else COLUMN, 3.2) as drawn:
        grid = drawn.subplots(len(_RULES), len(titles), sharey=True, squeeze=False)
        for axes_of_rule, (rule, label) in zip(grid, _RULES.items(), strict=True):
            for axes, k in zip(axes_of_rule, titles, strict=True):
                found = [row for row in result["heights"] if row["definition"] == rule]
                _draw_panel(axes, [row for row in found if row["k"] == k])
                axes.set_xlabel(label)
                axes.set_xticks(range(most + 1))
                axes.set_xlim(-0.4, most + 0.4)
            axes_of_rule[0].set_ylabel("value of a node")
        for axes, title in zip(grid[0], titles.values(), strict=True):
            axes.set_title(title)
        drawn.legend(*_legend(grid.flat), loc="outside lower center", ncols=2)
        return drawn


def _legend(panels: Any) -> tuple[list[Any], list[str]]:
    """Return each kind of nodes once, from whichever panel has it."""
    found: dict[str, Any] = {}
    for axes in panels:
        lines, labels = axes.get_legend_handles_labels()
        found.update(zip(labels, lines, strict=True))
    return list(found.values()), list(found)


def _draw_panel(axes: Axes, heights: list[Mapping[str, Any]]) -> None:
    for is_correct, (label, colour, marker, line) in _LOOKS.items():
        chosen = [row for row in heights if row["is_correct"] == is_correct]
        chosen.sort(key=lambda row: row["height"])
        if not chosen:
            continue
        means = [row["mean"] for row in chosen]
        axes.errorbar(
            [row["height"] for row in chosen],
            means,
            [
                [row["mean"] - _known(row["low"], row["mean"]) for row in chosen],
                [_known(row["high"], row["mean"]) - row["mean"] for row in chosen],
            ],
            label=label,
            color=colour,
            marker=marker,
            linestyle=line,
            markerfacecolor=colour if is_correct else "white",
            capsize=2,
        )
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0, 0.5, 1])


def _known(end: float | None, mean: float) -> float:
    """Return the end of an interval; the mean where a single question gives none."""
    return mean if end is None else end
