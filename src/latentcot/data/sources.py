"""Records of data that do not fit in memory, read one after the other through `datasets`.

A source is one file, a folder or pattern of files, or a data set of the hub; each is a list of
parts (files, or what the hub calls shards), and a `Reader` goes through parts in the order that it
is given. Files hold one example a line: JSON Lines or iCoT text. Where a reader stands can be
written down (`Position`), so that another one goes on from there. Nothing is held but the row at
hand.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from latentcot.data.formats import (
    HELP,
    Record,
    files_of,
    hub_record,
    hub_stream,
    is_hub,
    is_one_object,
    line_record,
)
from latentcot.errors import DataError, LatentcotError
from latentcot.utils.parsing import one_line

HEAD = 2**20
"""Characters of a file that tell its form."""
BOM = b"\xef\xbb\xbf"

Position = dict[str, Any]
"""Where a reader stands: `shard`, the number of its part; the rows read of it; and the state that
`datasets` gives."""


class StreamPart(Protocol):
    """A part of a source that is read from its beginning to its end."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def open(self) -> Any:
        """Return its rows as a `datasets.IterableDataset` of its own."""

    def record(self, number: int, row: Any) -> Record:
        """Return where a row stands, and what it holds; `number` counts rows from 0."""

    def count(self, limit: int | None) -> int:
        """Count the examples, up to a limit."""


def parts_of(source: Path | str) -> list[StreamPart]:
    """Return the parts of a source, in the order of their names.

    Raises:
        DataError: Nothing is there, or a file is in a form that is not one example a line, by its
            first line at the latest.
    """
    if is_hub(source):
        return [*_hub_parts(str(source))]
    return [_file_part(path) for path in files_of(source)]


def count_examples(source: Path | str, parts: Sequence[StreamPart], limit: int | None) -> int:
    """Count the examples of a source: from what the hub says of it, or by reading them once.

    Args:
        source: For the hub.
        parts: Of the source.
        limit: Count no further.

    Raises:
        DataError: It cannot be read, or holds no example.
    """
    count = hub_stream(str(source))[1] if is_hub(source) else None
    if count is None:
        count = 0
        for part in parts:
            if limit is None or count < limit:
                count += part.count(None if limit is None else limit - count)
    if not count:
        raise DataError(f"{source}: holds no example. {HELP}")
    return count if limit is None else min(count, limit)


class Reader:
    """Goes through the records of parts.

    Args:
        parts: In the order in which they are read.
        position: Where another reader of the same parts stood.
    """

    def __init__(
        self, parts: Sequence[StreamPart], position: Mapping[str, Any] | None = None
    ) -> None:
        self._parts = parts
        self._dataset: Any = None
        self._part: int = position["shard"] if position else 0
        self._num_read: int = position["row"] if position else 0
        self._rows = self._all_rows(position["state"] if position else None)

    def position(self) -> Position:
        """Return where it stands."""
        state = None if self._dataset is None else self._dataset.state_dict()
        return {"shard": self._part, "row": self._num_read, "state": state}

    def skip(self, count: int) -> None:
        """Go over so many records without a look at them."""
        for _ in islice(self._rows, count):
            pass

    @property
    def is_at_end(self) -> bool:
        """Whether it has found that there is nothing more."""
        return self._part == len(self._parts)

    def read(self) -> Record | None:
        """Return the next record; None at the end.

        Raises:
            DataError: A part cannot be read, or a line is malformed.
        """
        row = next(self._rows, None)
        return None if row is None else self._parts[self._part].record(self._num_read - 1, row)

    def _all_rows(self, state: Any) -> Iterator[Any]:
        while self._part < len(self._parts):
            part = self._parts[self._part]
            for row in _told(part.name, partial(self._open, part, state)):
                self._num_read += 1
                yield row
            self._part, self._num_read, self._dataset, state = self._part + 1, 0, None, None

    def _open(self, part: StreamPart, state: Any) -> Any:
        self._dataset = part.open()
        if state is not None:
            self._dataset.load_state_dict(state)
        return self._dataset


def _told(name: str, opened: Callable[[], Any]) -> Iterator[Any]:
    try:
        yield from opened()
    except LatentcotError:
        raise
    except Exception as error:  # datasets, the hub and its readers raise many kinds
        reason = one_line(str(error)).rstrip(".") or type(error).__name__
        raise DataError(f"{name}: cannot be read: {reason}. {HELP}") from None


# --- files ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file of one example a line; `start` is its first character."""

    name: str
    start: str

    def open(self) -> Any:
        """Return its lines with their numbers; those without text are left out."""
        from datasets import IterableDataset  # takes seconds to import

        return IterableDataset.from_generator(_numbered_lines, gen_kwargs={"path": self.name})

    def record(self, number: int, row: Any) -> Record:
        """Return the record of a line."""
        where = f"{self.name}:{row['number']}"
        try:
            line = row["line"].decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: cannot be read as UTF-8 text: {error}. {HELP}") from None
        return where, line_record(line, where, self.start)

    def count(self, limit: int | None) -> int:
        """Count the lines with text."""
        try:
            return sum(1 for _ in islice(_lines(self.name), limit))
        except OSError as error:
            raise DataError(f"{self.name}: cannot be read: {error}.") from None


def _numbered_lines(path: str) -> Iterator[dict[str, Any]]:
    for number, line in _lines(path):
        yield {"number": number, "line": line}


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """A line ends at a newline alone, as in `read_records`; `datasets` has it otherwise."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(BOM) if number == 1 else line
            if text.strip():
                yield number, text


def _file_part(path: Path) -> FilePart:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            head = file.read(HEAD)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}.") from None
    start = head.lstrip()[:1]
    if start == "[" or (start == "{" and is_one_object(head)):
        kind = "list" if start == "[" else "object"
        raise DataError(
            f"{path}: is one JSON {kind}, which can only be read whole. Write one example a line "
            f"for data.stream, or set data.stream: false. {HELP}"
        )
    part = FilePart(str(path), start)
    for number, line in islice(_lines(part.name), 1):  # what is no data at all is told at once
        part.record(0, {"number": number, "line": line})
    return part


# --- the hub ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HubPart:
    """A shard of a data set of the hub."""

    name: str
    rows: Any
    number: int
    num_shards: int

    def open(self) -> Any:
        """Return its rows, for one reader alone: a data set keeps the position of its reader."""
        return self.rows.shard(self.num_shards, self.number)

    def record(self, number: int, row: Any) -> Record:
        """Return the record of a row."""
        return f"{self.name}:{number}", hub_record(row)

    def count(self, limit: int | None) -> int:
        """Read the rows once."""
        return sum(1 for _ in islice(_told(self.name, self.open), limit))


def _hub_parts(source: str) -> Iterator[HubPart]:
    rows, _ = hub_stream(source)
    count = rows.num_shards
    for number in range(count):
        name = source if count == 1 else f"{source}:shard {number}"
        yield HubPart(name, rows, number, count)
