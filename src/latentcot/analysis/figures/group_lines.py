"""How groups of nodes and edges look, in every figure that has them; and grids of panels."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentcot.analysis.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
)

Row = Mapping[str, Any]

LABELS = {
    "optimal": "frontier, shortest path",
    "off_path": "frontier, elsewhere",
    "passed": "passed",
    "not_yet": "not yet reached",
    "unreachable": "unreachable",
}
COLOURS = {
    "optimal": BLUE,
    "off_path": SKY,
    "passed": ORANGE,
    "not_yet": GREEN,
    "unreachable": VERMILION,
    "frontier": PURPLE,
}
MARKERS = {"optimal": "o", "off_path": "s", "passed": "^", "not_yet": "D", "unreachable": "v"}
HATCHES = {"optimal": "", "off_path": "....", "passed": "////", "not_yet": "xxxx"}


def draw_groups(axes: Axes, rows: Sequence[Row], place: str, name: str) -> None:
    """Draw a measure of each group over places, with intervals; its groups stand side by side.

    Args:
        axes: Where to.
        rows: Of a result.
        place: The key of the places: thoughts, or columns.
        name: The key of the measure; its interval is `{name}_low` and `{name}_high`.
    """
    for number, (group, label) in enumerate(LABELS.items()):
        chosen = [row for row in rows if row["group"] == group]
        shift = 0.09 * (number - 2)  # marks on top of each other could not be told apart
        axes.errorbar(
            [row[place] + shift for row in chosen],
            [row[name] for row in chosen],
            yerr=errors(chosen, name),
            label=label,
            color=COLOURS[group],
            marker=MARKERS[group],
            linewidth=0.7,
            capsize=1.5,
        )
    axes.set_xticks(sorted({row[place] for row in rows}))


def draw_uniform(axes: Axes, rows: Sequence[Row], place: str, name: str, label: str) -> None:
    """Draw what even shares would give: a dashed step at each place."""
    levels = {row[place]: row[name] for row in rows}
    for number, (at, level) in enumerate(sorted(levels.items())):
        axes.plot(
            [at - 0.35, at + 0.35],
            [level, level],
            color=GREY,
            linestyle="--",
            linewidth=0.9,
            label=label if number == 0 else None,
        )


def errors(rows: Sequence[Row], name: str) -> list[list[float]]:
    """Return how far intervals reach below and above their means; 0 where there are none."""
    ends = [(row[f"{name}_low"], row[name], row[f"{name}_high"]) for row in rows]
    known = [(mean, mean, mean) if low is None else (low, mean, high) for low, mean, high in ends]
    return [[m - low for low, m, _ in known], [high - m for _, m, high in known]]


def panel_grid(fig: Figure, count: int, across: int, xlabel: str) -> list[Axes]:
    """Return panels with common axes, so many across; what lies below each is labelled once."""
    across = min(count, across)
    grid = fig.subplots(ceil(count / across), across, sharex=True, sharey=True, squeeze=False)
    panels: list[Axes] = list(grid.flat)
    for panel in panels[count:]:
        panel.set_visible(False)
    for number, panel in enumerate(panels[:count]):
        if number + across >= count:  # nothing is below it
            panel.set_xlabel(xlabel)
            panel.tick_params(labelbottom=True)
    return panels[:count]
