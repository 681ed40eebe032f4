"""The quickstart's `report.html`: one file, no network, opens from disk.

`write_report` takes a `ReportData` and puts page, style, scripts and data into one file. The page
forbids itself every request by its Content-Security-Policy. To change how it looks, edit the
.html, .css and .js files beside this one; they are joined as they are, there is no build step.
"""

import html
import json
import math
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from latentcot.files import written_whole
from latentcot.report.data import (
    AccuracyPoint,
    Curve,
    DepthMass,
    Frontier,
    LossPoint,
    Provenance,
    ReportData,
    SearchQuestion,
    TableRow,
)

__all__ = [
    "AccuracyPoint",
    "Curve",
    "DepthMass",
    "Frontier",
    "LossPoint",
    "Provenance",
    "ReportData",
    "SearchQuestion",
    "TableRow",
    "render_report",
    "write_report",
]

# In the order in which they need each other; page.js starts the page.
_SCRIPTS = ("svg", "methods", "table", "curves", "layers", "graph", "mass", "search", "page")


def write_report(path: Path | str, data: ReportData) -> None:
    """Write the report as one self-contained HTML file, whole or not at all."""
    page = render_report(data)
    with written_whole(path) as file:
        file.write(page)


def render_report(data: ReportData) -> str:
    """Return the page as text."""
    return Template(_part("page.html")).substitute(
        title=html.escape(data.title),
        conclusion=html.escape(data.conclusion),
        style=_part("page.css"),
        search="" if data.frontier is None else _part("search.html"),
        data=_as_json(data),
        script="\n".join(_part(f"{name}.js") for name in _SCRIPTS),
    )


def _part(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8").strip()


def _as_json(data: ReportData) -> str:
    """Return the data as JSON that cannot end the script element it stands in."""
    value = _without_nan(asdict(data))
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _without_nan(value: Any) -> Any:
    """Replace numbers that JSON does not know by None."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
