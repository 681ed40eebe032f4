"""The quickstart's `report.html`: one file, no network, opens from disk.

`write_report` takes a `ReportData` and puts page, style, scripts and data into one file. To change
how it looks, edit the .html, .css and .js files beside this one, or those in
`latentcot.pages.shared`, which the page of an analysis shares; they are joined as they are, there
is no build step.
"""

import html
from pathlib import Path
from string import Template

from latentcot.pages.report.data import (
    AccuracyPoint,
    Curve,
    Frontier,
    LossPoint,
    Provenance,
    ReportData,
    SearchQuestion,
    TableRow,
)
from latentcot.pages.shared import DepthMass, joined_page, part
from latentcot.utils.files import written_whole

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

# In the order in which they need each other; report.js starts the page.
_SCRIPTS = (
    *("svg", "methods", "intervals", "layers", "graph", "nodes", "mass", "stepper", "chooser"),
    *("provenance", "table", "curves", "search", "report"),
)


def write_report(path: Path | str, data: ReportData) -> None:
    """Write the report as one self-contained HTML file, whole or not at all."""
    page = render_report(data)
    with written_whole(path) as file:
        file.write(page)


def render_report(data: ReportData) -> str:
    """Return the page as text."""
    body = Template(part(__name__, "report.html")).substitute(
        title=html.escape(data.title),
        conclusion=html.escape(data.conclusion),
        search="" if data.frontier is None else part(__name__, "search.html"),
    )
    return joined_page(
        __name__,
        title=data.title,
        body=body,
        styles=("base", "report"),
        scripts=_SCRIPTS,
        data=data,
    )
