"""Versions of the JSON files that latentcot writes and reads back: older ones load, newer do not.

    evals/*.json       schema_version    EVALUATION_VERSION
    provenance.json    format_version    PROVENANCE_VERSION

A file without a version was written before there was one, and counts as version 1. Checkpoints have
a version of their own, in `checkpoints.py`. Recipes and studies have none: a key that this
latentcot does not know is refused by its name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentcot.errors import RunError
from latentcot.utils.parsing import parse_json, shown

EVALUATION_VERSION = 2
"""Version 1 did not count thoughts as tokens, as the paper does, and did not name the task."""
PROVENANCE_VERSION = 1


def read_versioned(path: Path, newest: int, key: str = "format_version") -> dict[str, Any]:
    """Read a JSON file that this latentcot, or an older one, has written.

    Args:
        path: The file.
        newest: The newest version that can be read.
        key: What the version is called in it.

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
    version_of(values, path, newest, key)
    return values


def version_of(values: Mapping[str, Any], path: Path, newest: int, key: str) -> int:
    """Return the version of what a file holds; 1 where none is given.

    Raises:
        RunError: It is no version, or one that only a newer latentcot can read.
    """
    version = values.get(key, 1)
    if type(version) is not int or version < 1:
        raise RunError(
            f"{path}: {key} must be 1 … {newest}, got {shown(version)}. The file is damaged."
        )
    if version > newest:
        raise RunError(
            f"{path}: has {key} {shown(version)}, but this latentcot reads up to {newest}: a newer "
            "one wrote it. Upgrade latentcot."
        )
    return version
