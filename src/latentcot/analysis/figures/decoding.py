"""Thoughts read as words: how sure the head is, and what it names."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentcot.analysis.figures.group_lines import COLOURS, HATCHES, LABELS, errors, panel_grid
from latentcot.analysis.figures.style import BLUE, COLUMN, GREEN, GREY, MARKERS, ORANGE, figure
from latentcot.evaluation.statistics import percent

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]

PANELS_A_ROW = 3
_TOP_COLOURS = (BLUE, ORANGE, GREEN)


def draw(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw what thoughts decode to; a second figure for results of equations, where there are."""
    figures = {"decoding": _draw_tokens(result)}
    if result["results"]:
        figures["decoding-results"] = _draw_results(result["results"])
    return figures


def rows(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return a table for each part that there is."""
    tables = {"decoding": [_flat(row) for row in result["thoughts"]]}
    for part in ("nodes", "results"):
        if result[part]:
            tables[f"decoding-{part}"] = [dict(row) for row in result[part]]
    return tables


def _flat(row: Row) -> dict[str, Any]:
    """Put the most frequent tokens into columns of their own."""
    flat = {name: value for name, value in row.items() if name != "most_frequent"}
    for number, token in enumerate(row["most_frequent"], start=1):
        flat |= {f"token_{number}": token["token"], f"share_{number}": token["share"]}
    return flat


def _draw_tokens(result: Mapping[str, Any]) -> Figure:
    with figure(2 * COLUMN, 2.4) as fig:
        sure, named = fig.subplots(1, 2, width_ratios=[1, 2])
        _draw_sureness(sure, result["thoughts"])
        if result["nodes"]:
            _draw_nodes(named, result["nodes"], result["thoughts"])
            fig.legend(*named.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        else:
            _draw_frequent(named, result["thoughts"])
    return fig


def _draw_sureness(axes: Axes, thoughts: Sequence[Row]) -> None:
    at = [row["thought"] for row in thoughts]
    means = [row["probability"] for row in thoughts]
    axes.errorbar(
        at, means, yerr=errors(thoughts, "probability"), color=BLUE, marker="o", capsize=2
    )
    axes.set(xlabel="thought", ylabel="probability of the top token", xticks=at, ylim=(0, 1.03))


def _draw_nodes(axes: Axes, nodes: Sequence[Row], thoughts: Sequence[Row]) -> None:
    """Stack what the top token names; beside it, narrower, what it would name by chance.

    Of all questions that have the thought: a question without nodes of a group counts as none.
    """
    num_all = {row["thought"]: row["num_questions"] for row in thoughts}
    for key, shift, width, alpha in (("share", -0.14, 0.4, 1.0), ("by_chance", 0.25, 0.2, 0.45)):
        floor = dict.fromkeys(num_all, 0.0)
        for group, label in LABELS.items():
            chosen = [row for row in nodes if row["group"] == group and row[key] is not None]
            at = [row["thought"] for row in chosen]
            heights = [row[key] * row["num_questions"] / num_all[row["thought"]] for row in chosen]
            axes.bar(
                [thought + shift for thought in at],
                heights,
                bottom=[floor[thought] for thought in at],
                width=width,
                color=COLOURS[group],
                alpha=alpha,
                hatch=HATCHES.get(group, "\\\\\\\\"),
                edgecolor="white",
                linewidth=0.3,
                label=label if key == "share" else None,
            )
            for thought, height in zip(at, heights, strict=True):
                floor[thought] += height
    axes.set(
        xlabel="thought (narrow: by chance)",
        ylabel="the top token is a node …",
        xticks=list(num_all),
        ylim=(0, 1.03),
    )


def _draw_frequent(axes: Axes, thoughts: Sequence[Row]) -> None:
    """Write the most frequent top tokens of each thought, with their share."""
    most = max(len(row["most_frequent"]) for row in thoughts)
    for row in thoughts:
        for rank, token in enumerate(row["most_frequent"], start=1):
            text = f"{_shown(token['token'])}\n{percent(token['share'])}"
            axes.text(row["thought"], rank, text, ha="center", va="center", fontsize=6.5)
    at = [row["thought"] for row in thoughts]
    axes.set(xlim=(at[0] - 0.5, at[-1] + 0.5), ylim=(most + 0.5, 0.5), xticks=at)
    axes.set(xlabel="thought", ylabel="rank among top tokens", yticks=range(1, most + 1))


def _shown(token: str) -> str:
    """Make blanks visible, cut what is long, and keep dollars from becoming formulas."""
    text = token.replace(" ", "␣").replace("\n", "↵")
    return (text if len(text) <= 12 else f"{text[:11]}…").replace("$", r"\$")


def _draw_results(results: Sequence[Row]) -> Figure:
    """Draw a panel for each thought: how often each step's result is among its top tokens."""
    thoughts = sorted({row["thought"] for row in results})
    down = ceil(len(thoughts) / PANELS_A_ROW)
    with figure(COLUMN if len(thoughts) == 1 else 2 * COLUMN, 0.5 + 1.6 * down) as fig:
        panels = panel_grid(fig, len(thoughts), PANELS_A_ROW, "result of step")
        for panel, thought in zip(panels, thoughts, strict=True):
            _draw_thought(panel, [row for row in results if row["thought"] == thought])
            panel.set(title=f"thought {thought}", ylim=(-0.03, 1.03))
            panel.set_xticks(sorted({row["step"] for row in results}))
        panels[0].set_ylabel("among the top tokens")
        handles = panels[0].get_legend_handles_labels()
        fig.legend(*handles, loc="outside lower center", ncols=4 if len(thoughts) > 1 else 2)
    return fig


def _draw_thought(axes: Axes, rows: Sequence[Row]) -> None:
    tops = sorted({row["top"] for row in rows})
    for number, top in enumerate(tops):
        chosen = [row for row in rows if row["top"] == top]
        at = [row["step"] + 0.07 * (number - 1) for row in chosen]
        shares = [row["share"] for row in chosen]
        below = [row["share"] - row["low"] for row in chosen]
        above = [row["high"] - row["share"] for row in chosen]
        style: Any = {"color": _TOP_COLOURS[number], "marker": MARKERS[number]}
        axes.errorbar(at, shares, yerr=[below, above], capsize=1.5, label=f"top {top}", **style)
        known = [(x, row["by_chance"]) for x, row in zip(at, chosen, strict=True)]
        known = [(x, chance) for x, chance in known if chance is not None]
        axes.plot(
            [x for x, _ in known],
            [chance for _, chance in known],
            color=_TOP_COLOURS[number],
            linestyle=":",
            linewidth=0.9,
        )
    axes.plot([], [], color=GREY, linestyle=":", linewidth=0.9, label="by chance")
