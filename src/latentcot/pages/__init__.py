"""The HTML pages: each is one file that opens from disk and asks for nothing from the network.

report/      of the quickstart: a table of methods, how they learned, the search in the thoughts
analysis/    of `latentcot analyze`: inside the thoughts of one model, or of two
play/        of `latentcot play`: a model that thinks in the page, on graphs that are drawn there
shared/      what several show: the frame of the file, graphs, charts, controls

A folder holds `page.html`, styles and scripts, which are joined as they are; `start.js` comes last.
What they read is described by its `__init__`, and here. A number that is missing (None) or not
finite is drawn as a gap. Texts from data stand in the file as JSON or are escaped, scripts put them
into text nodes, and a Content-Security-Policy forbids every request.
"""

import html
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any, TypedDict, TypeVar, cast, get_type_hints

from latentcot.errors import DataError
from latentcot.utils.files import written_whole

MOST_BYTES = 5_000_000
"""A larger page would open slowly, and mail would not take it."""


class Question(TypedDict):
    """A question about a graph: which of two candidates can be reached from the root?"""

    id: str  # of the question in its file
    nodes: list[str]  # names; everywhere else a node is its index in this list
    edges: list[list[int]]  # from parent to child
    root: int  # the root that the question names
    target: int  # the candidate that can be reached from the root
    neg_target: int  # the candidate that cannot
    path: list[int]  # the nodes of the gold chain, from root to target


class DepthMass(TypedDict):
    """How much probability one thought gives to the layer that it should hold."""

    thought: int  # its number, from 1
    depth: int  # the layer meant: distance from the root that the question names
    mass: float  # mean probability on the nodes of that layer, 0 to 1
    uniform: float  # the same if the probability were spread evenly over all nodes


Kind = TypeVar("Kind")


def pick(kind: type[Kind], row: Mapping[str, Any]) -> Kind:
    """Return what a page shows of a row: the keys of one of the TypedDicts, out of more."""
    return cast(Kind, {key: row[key] for key in get_type_hints(kind)})


def write_page(path: Path | str, folder: str, data: Mapping[str, Any]) -> None:
    """Write the page of a folder (`report`, …) as one HTML file, whole or not at all.

    `data` is what its scripts read; `title` in it is the name of the window.

    Raises:
        DataError: The file would be larger than `MOST_BYTES`.
        RunError: It cannot be written.
    """
    page = render_page(folder, data)
    size = len(page.encode())
    if size > MOST_BYTES:
        raise DataError(
            f"{path}: would have {size / 1e6:.1f} MB, but a page must not have more than "
            f"{MOST_BYTES / 1e6:.0f}. Show fewer questions (latentcot analyze --limit), or "
            "shorter ones."
        )
    with written_whole(path) as file:
        file.write(page)


def render_page(folder: str, data: Mapping[str, Any]) -> str:
    """Return the text of a page, as `write_page` writes it."""
    shared, own = (resources.files(__name__) / name for name in ("shared", folder))

    def joined(ending: str) -> str:
        found = [sorted(home.iterdir(), key=lambda file: file.name) for home in (shared, own)]
        files = [file for files in found for file in files if file.name.endswith(ending)]
        files.sort(key=lambda file: file.name == "start.js")
        return "\n".join(file.read_text(encoding="utf-8").strip() for file in files)

    # Numbers that JSON does not know become null; no text may end the script that it stands in.
    known = json.loads(json.dumps(data), parse_constant=lambda name: None)
    embedded = json.dumps(known, ensure_ascii=False, separators=(",", ":"))
    texts = {key: html.escape(text) for key, text in data.items() if isinstance(text, str)}
    return Template((shared / "shell.html").read_text(encoding="utf-8")).substitute(
        title=texts["title"],
        style=joined(".css"),
        body=Template((own / "page.html").read_text(encoding="utf-8")).substitute(texts),
        data=embedded.replace("<", "\\u003c"),
        script=joined(".js"),
    )
