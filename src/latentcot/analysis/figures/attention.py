"""Which edges a thought looks at: a panel for each layer."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from matplotlib.figure import Figure

from latentcot.analysis.figures.group_lines import draw_groups, draw_uniform, panel_grid
from latentcot.analysis.figures.style import COLUMN, figure

PANELS_A_ROW = 4


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw the attention that an edge of each group gets from each column."""
    rows = result["columns"]
    layers = sorted({row["layer"] for row in rows})
    down = ceil(len(layers) / PANELS_A_ROW)
    with figure(COLUMN if len(layers) == 1 else 2 * COLUMN, 0.5 + 1.8 * down) as fig:
        panels = panel_grid(fig, len(layers), PANELS_A_ROW, "latent position (0: before the first)")
        for panel, layer in zip(panels, layers, strict=True):
            chosen = [row for row in rows if row["layer"] == layer]
            draw_groups(panel, chosen, "column", "per_edge")
            draw_uniform(panel, chosen, "column", "per_edge_uniform", "all columns alike")
            panel.set_title(f"layer {layer}")
        fig.axes[0].set(ylabel="attention to an edge", ylim=(0, None))
        handles, labels = fig.axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=3 if len(layers) > 1 else 2)
    return fig


def rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each layer, column and group."""
    return [dict(row) for row in result["columns"]]
