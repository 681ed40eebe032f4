"""Accuracy on questions unlike those of training: by set, and by hops, methods side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from latentcot.analysis.figures.style import COLOURS, COLUMN, GREY, MARKERS, figure

_WAYS = ("trained", "one_a_hop")
_ROW = 0.26
"""Height of a set in inches."""


def draw(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw `distribution`, a row for each set, and `distribution-hops`, a line for each method."""
    return {"distribution": _draw_sets(result), "distribution-hops": _draw_hops(result)}


def rows(result: Mapping[str, Any]) -> dict[str, list[dict[str, str | float | int]]]:
    """Return the rows of both figures' CSV files."""
    about = {one["name"]: one for one in result["sets"]}
    by_set = [
        {
            **{key: value for key, value in row.items() if key not in ("by_hops", "p")},
            "p": "" if row["p"] is None else row["p"],
            **{key: about[row["set"]][key] for key in ("nodes", "edges", "shortest_paths")},
            "share_as_long": about[row["set"]]["share_as_long"],
        }
        for row in result["accuracy"]
    ]
    return {"distribution": by_set, "distribution-hops": list(result["by_hops"])}


def _draw_sets(result: Mapping[str, Any]) -> Figure:
    """Draw sets from top to bottom; within one the methods stand below each other."""
    names = [one["name"] for one in result["sets"]]
    subjects = [one["name"] for one in result["subjects"]]
    height = 0.9 + max(_ROW, 0.09 * len(subjects)) * len(names) + 0.14 * len(subjects)
    with figure(COLUMN, height) as drawn:
        axes = drawn.subplots()
        for number, subject in enumerate(subjects):
            shift = ((number + 0.5) / len(subjects) - 0.5) * 0.7
            for way in _WAYS:
                _draw_points(axes, result, names, subject, number, way, shift)
        axes.axvline(0.5, color=GREY, linestyle=":", linewidth=0.8, zorder=0)
        for place in range(1, len(names)):
            axes.axhline(place - 0.5, color="0.9", linewidth=0.5, zorder=0)
        axes.set_yticks(range(len(names)), [_label(one) for one in result["sets"]])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel("accuracy (dotted: a guess)")
        handles = _handles(result)
        if any(one["share_as_long"] < 0.5 for one in result["sets"]):
            handles.append(_line(marker="$*$", color="black", label="other lengths than training"))
        drawn.legend(handles=handles, loc="outside lower center", ncols=2)
        return drawn


def _label(one: Mapping[str, Any]) -> str:
    return str(one["name"]) if one["share_as_long"] >= 0.5 else f"{one['name']} *"


def _draw_points(
    axes: Axes,
    result: Mapping[str, Any],
    names: Sequence[str],
    subject: str,
    number: int,
    way: str,
    shift: float,
) -> None:
    chosen = [
        row for row in result["accuracy"] if row["subject"] == subject and row["thoughts"] == way
    ]
    axes.errorbar(
        [row["accuracy"] for row in chosen],
        [names.index(row["set"]) + shift for row in chosen],
        xerr=_errors(chosen),
        linestyle="none",
        **_look(number, way),
    )


def _draw_hops(result: Mapping[str, Any]) -> Figure:
    subjects = [one["name"] for one in result["subjects"]]
    with figure(COLUMN, 2.1 + 0.14 * len(subjects)) as drawn:
        axes = drawn.subplots()
        for number, subject in enumerate(subjects):
            for way in _WAYS:
                chosen = [
                    row
                    for row in result["by_hops"]
                    if row["subject"] == subject and row["thoughts"] == way
                ]
                axes.errorbar(
                    [row["hops"] for row in chosen],
                    [row["accuracy"] for row in chosen],
                    yerr=_errors(chosen),
                    linestyle="-" if way == "trained" else "--",
                    **_look(number, way),
                )
        axes.axhline(0.5, color=GREY, linestyle=":", linewidth=0.8, zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylim(-0.02, 1.04)
        axes.set_xlabel("hops")
        axes.set_ylabel("accuracy")
        drawn.legend(handles=_handles(result), loc="outside lower center", ncols=2)
        return drawn


def _errors(chosen: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    # Rounded ends of an interval may lie a millionth on the wrong side.
    return [
        [max(0.0, row["accuracy"] - row["low"]) for row in chosen],
        [max(0.0, row["high"] - row["accuracy"]) for row in chosen],
    ]


def _look(number: int, way: str) -> dict[str, Any]:
    """Return colour and marker of a method; hollow where thoughts are forced."""
    colour = COLOURS[number % len(COLOURS)]
    return {
        "color": colour,
        "marker": MARKERS[number % len(MARKERS)],
        "markerfacecolor": colour if way == "trained" else "white",
        "elinewidth": 0.8,
        "linewidth": 1.0,
    }


def _handles(result: Mapping[str, Any]) -> list[Line2D]:
    handles = [
        _line(label=one["name"], color=_look(number, "trained")["color"],
              marker=_look(number, "trained")["marker"])
        for number, one in enumerate(result["subjects"])
    ]  # fmt: skip
    if any(row["thoughts"] == "one_a_hop" for row in result["accuracy"]):
        hollow = {"marker": "o", "markerfacecolor": "white", "color": GREY}
        handles.append(_line(label="hollow: a thought a hop", **hollow))
    return handles


def _line(**look: Any) -> Line2D:
    return Line2D([], [], linestyle="none", **look)
