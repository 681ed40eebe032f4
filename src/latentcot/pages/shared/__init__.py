"""What our HTML pages share: shell, style, scripts, and the way into one file without requests.

A page is a package beside this one (`report`, `page`): parts as they are (.html, .css, .js), joined
without a build step, and a dataclass of plain values. The shell forbids every request by its
Content-Security-Policy. Texts from data stand in the page as JSON only; the scripts put them into
text nodes, never into HTML.
"""

import html
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

from latentcot.pages.shared.data import DepthMass, GraphQuestion, Provenance

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["DepthMass", "GraphQuestion", "Provenance", "joined_page", "part"]


def joined_page(
    package: str,
    *,
    title: str,
    body: str,
    styles: Sequence[str],
    scripts: Sequence[str],
    data: "DataclassInstance",
) -> str:
    """Return one self-contained HTML file.

    Args:
        package: Where the page's own parts lie; a part that is not there is one of those here.
        title: Text of the window.
        body: HTML between the tags of the body, without scripts.
        styles: Names of .css parts, without the ending.
        scripts: Names of .js parts, in the order in which they need each other.
        data: What `readData()` returns in the scripts. Numbers that are not finite become null.
    """
    return Template(part(__name__, "shell.html")).substitute(
        title=html.escape(title),
        style="\n".join(_own_or_shared(package, f"{name}.css") for name in styles),
        body=body,
        data=_as_json(data),
        script="\n".join(_own_or_shared(package, f"{name}.js") for name in scripts),
    )


def part(package: str, name: str) -> str:
    """Return the text of a file that lies in a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8").strip()


def _own_or_shared(package: str, name: str) -> str:
    is_own = resources.files(package).joinpath(name).is_file()
    return part(package if is_own else __name__, name)


def _as_json(data: "DataclassInstance") -> str:
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
