"""The interactive page of `latentcot analyze`: one file, no network, opens from disk.

`write_page` takes a `PageData` and puts page, style, scripts and data into one file. To change how
it looks, edit the .html, .css and .js files beside this one, or those in `latentcot.pages.shared`,
which the quickstart's report shares; they are joined as they are, there is no build step.
"""

import html
from pathlib import Path
from string import Template

from latentcot.errors import DataError
from latentcot.pages.analysis.data import (
    OUTCOMES,
    ChangedAnswer,
    DepthMass,
    Effect,
    ForcedAnswer,
    MethodResults,
    OutcomeShares,
    PageData,
    Question,
    Readings,
)
from latentcot.pages.shared import Provenance, joined_page, part
from latentcot.utils.files import written_whole

__all__ = [
    "MOST_BYTES",
    "OUTCOMES",
    "ChangedAnswer",
    "DepthMass",
    "Effect",
    "ForcedAnswer",
    "MethodResults",
    "OutcomeShares",
    "PageData",
    "Provenance",
    "Question",
    "Readings",
    "render_page",
    "write_page",
]

MOST_BYTES = 5_000_000
"""A larger page would open slowly, and mail would not take it."""

# In the order in which they need each other; start.js starts the page.
_SCRIPTS = (
    *("svg", "methods", "intervals", "layers", "graph", "nodes", "mass", "stepper", "chooser"),
    *("provenance", "theme", "patterns", "outcomes", "effects", "overview"),
    *("answers", "words", "hash", "explore", "start"),
)


def write_page(path: Path | str, data: PageData) -> None:
    """Write the page as one self-contained HTML file, whole or not at all.

    Raises:
        DataError: The file would be larger than `MOST_BYTES`.
        RunError: It cannot be written.
    """
    page = render_page(data)
    with written_whole(path) as file:
        file.write(page)


def render_page(data: PageData) -> str:
    """Return the page as text.

    Raises:
        DataError: It would be larger than `MOST_BYTES`.
    """
    body = Template(part(__name__, "page.html")).substitute(
        title=html.escape(data.title), caption=html.escape(data.caption)
    )
    page = joined_page(
        __name__,
        title=data.title,
        body=body,
        styles=("base", "page"),
        scripts=_SCRIPTS,
        data=data,
    )
    size = len(page.encode())
    if size > MOST_BYTES:
        raise DataError(
            f"page: would have {size / 1e6:.1f} MB with {len(data.questions)} questions, but must "
            f"not have more than {MOST_BYTES / 1e6:.0f}. Show fewer questions."
        )
    return page
