"""Norm, rank and angles of thoughts, one panel each, models side by side."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentcot.analysis.figures.style import COLOURS, COLUMN, GREY, MARKERS, figure

_PANELS = (
    ("relative_norm", "norm / mean norm\nof embeddings"),
    ("effective_rank", "effective rank"),
    ("participation_ratio", "participation ratio"),
    ("cosine_to_mean", "cosine to\nmean thought"),
    ("cosine_to_next", "cosine to\nnext thought"),
)


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw a panel for each figure, by thought, with the same of the token embeddings."""
    models = _models(result)
    with figure(COLUMN, 4.2) as drawn:
        grid = drawn.subplots(3, 2)
        axes = list(grid.flat)
        for axis, (key, label) in zip(axes, _PANELS, strict=False):
            _panel(axis, models, key)
            axis.set_ylabel(label)
        for axis in (axes[3], axes[4]):
            axis.set_xlabel("thought")
        axes[5].axis("off")
        handles, labels = axes[1].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper center", ncols=2)
    return drawn


def rows(result: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return a row for each model and thought, and its embeddings; of two models a comparison."""
    found = {
        "geometry": [
            {"model": model["name"], **_plain(row)}
            for model in _models(result)
            for row in model["thoughts"]
        ],
        "geometry-embeddings": [
            {"model": model["name"], **_plain(model["embeddings"])} for model in _models(result)
        ],
        "geometry-comparison": [_plain(row) for row in result.get("comparison", [])],
    }
    return {name: rows for name, rows in found.items() if rows}


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: "" if value is None else value for key, value in row.items()}


def _models(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    other = result.get("against")
    return [result, other] if other and "thoughts" in other else [result]


def _panel(axis: Axes, models: list[Mapping[str, Any]], key: str) -> None:
    for number, model in enumerate(models):
        found = [row for row in model["thoughts"] if row[key] is not None]
        low = [_or(row[f"{key}_low"], row[key]) for row in found]
        high = [_or(row[f"{key}_high"], row[key]) for row in found]
        values = [row[key] for row in found]
        axis.errorbar(
            [row["thought"] for row in found],
            values,
            yerr=[
                [max(0.0, value - end) for value, end in zip(values, low, strict=True)],
                [max(0.0, end - value) for value, end in zip(values, high, strict=True)],
            ],
            fmt=f"-{MARKERS[number]}",
            color=COLOURS[number],
            elinewidth=0.8,
            label=model["name"],
        )
        if key in model["embeddings"]:
            axis.axhline(
                model["embeddings"][key],
                color=COLOURS[number],
                linestyle=":",
                linewidth=0.9,
                label="the same of its embeddings" if number == 0 else None,
            )
    if key == "relative_norm":
        axis.axhline(1, color=GREY, linestyle=":", linewidth=0.9)
    most = max(model["num_thoughts"] for model in models) + 1
    axis.set_xticks(range(1, most + 1), [*map(str, range(1, most)), "last\nslot"])
    axis.set_xlim(0.7, most + 0.3)
    axis.set_ylim(bottom=0)


def _or(value: float | None, instead: float) -> float:
    return instead if value is None else value
