"""Versions of the JSON files that latentcot writes and reads back: older ones load, newer do not.

    evals/*.json       EVALUATION_VERSION
    provenance.json    PROVENANCE_VERSION
    latentcot.json     CHECKPOINT_VERSION, of a checkpoint (runs/checkpoint.py reads it)

The key is `format_version`; evaluations before version 3 called it `schema_version`. A file without
a version was written before there was one, and counts as version 1. Recipes and
studies have none: a key that this latentcot does not know is refused by its name.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from latentcot.errors import RunError
from latentcot.utils.parsing import parse_json, shown

EVALUATION_VERSION = 3
"""Version 2 had the figures of accuracy side by side; 1 did not count thoughts as tokens either."""
PROVENANCE_VERSION = 1
CHECKPOINT_VERSION = 4

_MAX_TOLD = 3


def read_versioned(path: Path, newest: int) -> dict[str, Any]:
    """Read a JSON file that this latentcot, or an older one, has written.

    Args:
        path: The file.
        newest: The newest version that can be read.

    Returns:
        What it holds, with its version as `format_version` if it has one.

    Raises:
        FileNotFoundError: There is none.
        RunError: It is damaged, or a newer latentcot wrote it.
    """
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read as JSON: {error}. It is damaged.") from None
    if not isinstance(values, dict):
        raise RunError(f"{path}: must hold an object, got {type(values).__name__}. It is damaged.")
    if "format_version" not in values and "schema_version" in values:
        values["format_version"] = values.pop("schema_version")
    version = values.get("format_version", 1)
    if type(version) is not int or version < 1:
        raise RunError(
            f"{path}: format_version must be 1 … {newest}, got {shown(version)}. The file is "
            "damaged."
        )
    if version > newest:
        raise RunError(
            f"{path}: has format_version {shown(version)}, but this latentcot reads up to "
            f"{newest}: a newer one wrote it. Upgrade latentcot."
        )
    return values


def problems_of(error: ValidationError) -> str:
    """Return the first problems that pydantic found in a file, in words."""
    problems = error.errors()
    told = []
    for problem in problems[:_MAX_TOLD]:
        reason = problem["msg"].removeprefix("Value error, ")
        got = "" if problem["type"] == "missing" else f", got {shown(problem['input'])}"
        told.append(f"{'.'.join(map(str, problem['loc']))}: {reason[0].lower()}{reason[1:]}{got}")
    more = len(problems) - len(told)
    return "; ".join(told) + (f"; and {more} more problems" if more > 0 else "")
