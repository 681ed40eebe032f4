"""Which nodes lie in a thought: mass, mass a node, spread and inner products."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentcot.analysis.figures.group_lines import draw_groups, draw_uniform, errors
from latentcot.analysis.figures.style import BLACK, COLUMN, GREY, PURPLE, figure

Row = Mapping[str, Any]


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw four panels over the thoughts."""
    rows = result["groups"]
    frontier = [row for row in rows if row["group"] == "frontier"]
    with figure(2 * COLUMN, 3.8) as fig:
        (mass, per_node), (spread, product) = fig.subplots(2, 2)
        _draw_frontier(mass, frontier)
        draw_groups(per_node, rows, "thought", "per_node")
        draw_uniform(per_node, rows, "thought", "per_node_uniform", "all nodes alike")
        per_node.set_ylabel("probability of a node")
        _draw_spread(spread, frontier)
        draw_groups(product, rows, "thought", "head")
        for axes in (per_node, product):
            axes.axhline(0, color=GREY, linewidth=0.5)
        product.set_ylabel("inner product with\n" + _table(result))
        for axes in (mass, per_node, spread, product):
            axes.set_xlabel("thought")
            axes.set_xticks(sorted({row["thought"] for row in rows}))
        handles, labels = per_node.get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig


def rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each thought and group."""
    return [dict(row) for row in result["groups"]]


def _table(result: Mapping[str, Any]) -> str:
    return "the node's embedding" if result["is_tied"] else "the node's output row"


def _draw_frontier(axes: Axes, frontier: Sequence[Row]) -> None:
    thoughts = [row["thought"] for row in frontier]
    axes.bar(
        thoughts,
        [row["mass"] for row in frontier],
        yerr=errors(frontier, "mass"),
        width=0.6,
        color=PURPLE,
        alpha=0.75,
        capsize=2,
        error_kw={"linewidth": 0.8},
        label="measured",
    )
    draw_uniform(axes, frontier, "thought", "mass_uniform", "all nodes alike")
    axes.set_ylim(0, 1.22)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_ylabel("mass on the frontier")
    axes.legend(loc="upper right", ncols=2)


def _draw_spread(axes: Axes, frontier: Sequence[Row]) -> None:
    axes.errorbar(
        [row["thought"] for row in frontier],
        [row["spread"] for row in frontier],
        yerr=errors(frontier, "spread"),
        color=PURPLE,
        marker="o",
        capsize=2,
        label="over which the mass is spread",
    )
    axes.plot(
        [row["thought"] for row in frontier],
        [row["num_nodes"] for row in frontier],
        color=BLACK,
        marker="_",
        linestyle=":",
        label="in the frontier",
    )
    axes.set_ylim(0.8, 1.35 * max([2.0, *(row["num_nodes"] for row in frontier)]))
    axes.set_ylabel("number of nodes")
    axes.legend(loc="upper right")
