"""What other packages add to a table of ours: methods, tasks, analyses.

By a call of the table's own `register`, or as an entry point of an installed package.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from latentcot.errors import LatentcotError

Row = TypeVar("Row")


def add(table: dict[str, Row], kind: str, name: str, row: Row, error: type[LatentcotError]) -> None:
    """Add a row to a table under its name; the same one again is none the more.

    Raises:
        LatentcotError: Of the kind given: the name is taken by another row.
    """
    if table.setdefault(name, row) != row:
        raise error(
            f"{kind} {name!r} exists already. Give yours another name; there are: "
            f"{', '.join(table)}."
        )


def load_all(group: str, register: Callable[[Any], object], error: type[LatentcotError]) -> None:
    """Register what installed packages declare under an entry point group.

    Raises:
        LatentcotError: Of the kind given: one of them cannot be loaded.
    """
    for entry in entry_points(group=group):
        try:
            row = entry.load()
        except Exception as problem:  # whatever an installed package raises when it is imported
            raise error(
                f"entry point {group}: {entry.name!r} ({entry.value}) cannot be loaded: {problem}. "
                "Fix or uninstall that package."
            ) from problem
        register(row)
