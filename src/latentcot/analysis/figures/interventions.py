"""Accuracy left after each intervention: thought by thought, and from the first one on."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from latentcot.analysis.figures.style import BLACK, COLOURS, COLUMN, GREY, MARKERS, figure

Rows = list[dict[str, str | float | int]]
NAMES = ("zero", "noise", "mean", "shuffle", "swap", "token")


def draw(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw `interventions`, and with two thoughts or more `interventions-first` (up to k)."""
    drawn = {"interventions": _draw(result, _by_thought)}
    if result["num_thoughts"] > 1:
        drawn["interventions-first"] = _draw(result, _up_to)
    return drawn


def rows(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return a row for each model, intervention and place; and, of two models, their comparison."""
    found = {
        "interventions": [_plain(row, of) for of in _models(result) for row in of["effects"]],
        "interventions-first": [_plain(row, of) for of in _models(result) for row in of["first"]],
        "interventions-comparison": [_plain(row) for row in result.get("comparison", [])],
    }
    return {name: rows for name, rows in found.items() if rows}


def _plain(row: Mapping[str, Any], of: Mapping[str, Any] | None = None) -> dict[str, Any]:
    place = "all" if row["thought"] is None else row["thought"]
    plain = {key: "" if value is None else value for key, value in row.items()}
    return ({} if of is None else {"model": of["name"]}) | plain | {"thought": place}


def _models(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the model, and the one beside it if that has latent positions."""
    other = result.get("against")
    return [result, other] if other and "effects" in other else [result]


def _draw(result: Mapping[str, Any], draw_one: Any) -> Figure:
    models = _models(result)
    with figure(COLUMN * len(models), 2.6) as drawn:
        axes = drawn.subplots(1, len(models), sharey=True, squeeze=False)[0]
        for axis, model in zip(axes, models, strict=True):
            draw_one(axis, model)
            if len(models) > 1:
                axis.set_title(model["name"])
        handles, labels = axes[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper center", ncols=4 * len(models))
    return drawn


def _by_thought(axis: Axes, model: Mapping[str, Any]) -> None:
    """Draw one row an intervention, and in it a point for each thought and for all of them."""
    places: Sequence[int | None] = [*range(1, model["num_thoughts"] + 1), None]
    none = model["effects"][0]
    for number, place in enumerate(places):
        found = {row["name"]: row for row in model["effects"][1:] if row["thought"] == place}
        here = [name for name in NAMES if name in found]
        shift = 0.7 * ((number + 0.5) / len(places) - 0.5)
        _points(
            axis,
            [(NAMES.index(name) + shift, found[name]) for name in here],
            "all" if place is None else f"thought {place}",
            number,
        )
    axis.axvline(none["accuracy"], color=GREY, linestyle="--", linewidth=0.8, label="unchanged")
    for name in model["left_out"]:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        height = NAMES.index(name)
        axis.text(0.5, height, "changes nothing", ha="center", va="center", color=GREY, bbox=box)
    for between in range(len(NAMES) - 1):
        axis.axhline(between + 0.5, color="#DDDDDD", linewidth=0.5)
    axis.set_yticks(range(len(NAMES)), NAMES)
    axis.set_ylim(len(NAMES) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.set_xlim(-0.02, 1.02)
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.set_xlabel("accuracy left")


def _points(axis: Axes, points: Any, label: str, number: int) -> None:
    shares = [row["accuracy"] for _, row in points]
    axis.errorbar(
        shares,
        [height for height, _ in points],
        xerr=[
            [row["accuracy"] - row["low"] for _, row in points],
            [row["high"] - row["accuracy"] for _, row in points],
        ],
        fmt=MARKERS[number % len(MARKERS)],
        color=COLOURS[number % len(COLOURS)] if label != "all" else BLACK,
        elinewidth=0.8,
        label=label,
    )


def _up_to(axis: Axes, model: Mapping[str, Any]) -> None:
    """Draw a line an intervention: accuracy when thoughts 1 … k are replaced."""
    most, none = model["num_thoughts"], model["effects"][0]
    for number, name in enumerate(NAMES):
        effects = [row for row in model["effects"] if row["name"] == name]
        by_k = {row["thought"] or most: row for row in effects if row["thought"] in (1, None)}
        if name == "shuffle":  # a single thought has changed places with another one
            by_k.pop(1, None)
        by_k |= {row["up_to"]: row for row in model["first"] if row["name"] == name}
        points = [(k, by_k[k]) for k in sorted(by_k)]
        if points:
            _line(axis, points, name, number)
    axis.axhline(none["accuracy"], color=GREY, linestyle="--", linewidth=0.8, label="unchanged")
    axis.set_xticks(range(1, most + 1))
    axis.set_xlim(0.7, most + 0.3)
    axis.set_ylim(-0.02, 1.03)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set_xlabel("thoughts 1 … k replaced, k")
    axis.set_ylabel("accuracy left")


def _line(axis: Axes, points: Any, label: str, number: int) -> None:
    shares = [row["accuracy"] for _, row in points]
    axis.errorbar(
        [k + 0.03 * (number - 2.5) for k, _ in points],
        shares,
        yerr=[
            [row["accuracy"] - row["low"] for _, row in points],
            [row["high"] - row["accuracy"] for _, row in points],
        ],
        fmt=f"-{MARKERS[number]}",
        color=COLOURS[number],
        elinewidth=0.8,
        label=label,
    )
