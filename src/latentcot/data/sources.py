"""Examples that need not fit in memory, each read from disk when it is asked for by its number.

A source is one file, a folder or pattern of files, or a data set of the hub. Files hold one example
a line, JSON Lines or iCoT text; they are read once, to note where each line begins (20 bytes of
memory an example). `datasets` keeps those of the hub in an Arrow table that is mapped into memory.
Any example can be read at any time, so an epoch is a permutation of numbers, and a run that is
resumed needs to know nothing but the number of its update.
"""

from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from latentcot.data.examples import Example, example_of
from latentcot.data.fields import ANSWERS, CHAINS, QUESTIONS, USUAL, Fields
from latentcot.data.formats import (
    HELP,
    end_of_place,
    files_of,
    hub_table,
    is_hub,
    is_one_object,
    is_table,
    line_record,
)
from latentcot.data.named import reader_of
from latentcot.errors import DataError

HEAD = 2**20
"""Bytes of a file that tell its form."""
CHUNK = 1024
"""Examples that are held at a time by whoever goes through all of them."""
BOM = b"\xef\xbb\xbf"


class Stream(ABC):
    """The examples of a source, numbered from 0 in the order of their files and lines.

    Attributes:
        lengths: (examples,), roughly the bytes of each: examples of similar length pad little.
    """

    lengths: np.ndarray

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[Example]:
        """Yield all examples in order.

        Raises:
            DataError: One cannot be read.
        """
        for start in range(0, len(self), CHUNK):
            yield from self.read(range(start, min(start + CHUNK, len(self))))

    @abstractmethod
    def where(self, number: int) -> str:
        """Return where an example stands, for messages: file and line, or data set and row."""

    @abstractmethod
    def read(self, numbers: Sequence[int]) -> list[Example]:
        """Return the examples of these numbers, in their order.

        Raises:
            DataError: One is malformed (with file and line), or its file cannot be read.
        """


def open_stream(
    source: str,
    limit: int | None = None,
    num_examples: int | None = None,
    fields: Fields = USUAL,
) -> Stream:
    """Open a source.

    Args:
        source: A file, a folder or pattern of files, or a data set of the hub.
        limit: Use the first ones only.
        num_examples: How many there should be, if known.
        fields: How question, steps and answer are found in a record.

    Raises:
        DataError: It cannot be read, holds no example or another number of them, or a file is not
            in a form of one example a line, by its first line at the latest.
    """
    stream = (_Rows if is_hub(source) else _Lines)(source, limit, fields)
    if not len(stream):
        raise DataError(f"{source}: holds no example. {HELP}")
    expected = num_examples if limit is None or num_examples is None else min(limit, num_examples)
    if expected is not None and len(stream) != expected:
        raise DataError(
            f"{source}: holds {len(stream):,} examples, but data.num_examples is "
            f"{num_examples:,}. If it was changed, bring the old data back; if not, correct "
            "data.num_examples or leave it out."
        )
    return stream


def count_examples(
    source: str,
    limit: int | None = None,
    num_examples: int | None = None,
    fields: Fields = USUAL,
) -> int:
    """Count what `open_stream` would give; at once where `num_examples` says it.

    Raises:
        DataError: As `open_stream`.
    """
    count = num_examples or len(open_stream(source, limit, fields=fields))
    return count if limit is None else min(count, limit)


@dataclass(frozen=True, slots=True)
class _File:
    """A file of lines: its first text character tells JSON Lines from iCoT text."""

    first_number: int
    path: Path
    start: str


class _Lines(Stream):
    """Files of one example a line. A line ends at a newline alone; those without text are left out.

    Of each line the offset, the number in its file, and the length are held.
    """

    def __init__(self, source: str, limit: int | None, fields: Fields) -> None:
        self._as_asked, self._fields = reader_of(source), fields
        self._end = end_of_place(source)
        self._files: list[_File] = []
        offsets, line_numbers, lengths = array("q"), array("q"), array("i")
        for path in files_of(source):
            if limit is not None and len(offsets) >= limit:
                break
            file = _File(len(offsets), path, _start_of(path))
            offset, before = 0, len(offsets)
            with path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if (line if offset else line.removeprefix(BOM)).strip():
                        offsets.append(offset)
                        line_numbers.append(number)
                        lengths.append(len(line))
                        if limit is not None and len(offsets) >= limit:
                            break
                    offset += len(line)
            if len(offsets) > before:
                self._files.append(file)
        self._offsets, self._line_numbers = offsets, line_numbers
        self.lengths = np.frombuffer(lengths, dtype=np.int32)
        for file in self._files:  # what is no data at all is told at once
            self.read([file.first_number])

    def where(self, number: int) -> str:
        return f"{self._file_of(number).path}:{self._line_numbers[number]}"

    def read(self, numbers: Sequence[int]) -> list[Example]:
        found: dict[int, Example] = {}
        for file, of_file in groupby(sorted(numbers), key=self._file_of):
            try:
                with file.path.open("rb") as lines:
                    for number in of_file:
                        lines.seek(self._offsets[number])
                        line, where = lines.readline(), self.where(number)
                        text = line if self._offsets[number] else line.removeprefix(BOM)
                        record = line_record(text.decode(), where, file.start)
                        name = where.rsplit(self._end, 1)[-1]
                        record = self._as_asked(record)
                        found[number] = example_of(record, where, name, self._fields)
            except UnicodeDecodeError as error:
                raise DataError(f"{where}: cannot be read as UTF-8 text: {error}. {HELP}") from None
            except OSError as error:
                raise DataError(f"{file.path}: cannot be read: {error}.") from None
        return [found[number] for number in numbers]

    def _file_of(self, number: int) -> _File:
        return self._files[bisect_right(self._files, number, key=lambda f: f.first_number) - 1]


def _start_of(path: Path) -> str:
    """Return the first text character of a file; refuse one that can only be read whole."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD).decode("utf-8-sig", errors="replace")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}.") from None
    start = head.lstrip()[:1]
    if head.startswith(("PAR1", "\x1f")) or is_table(head, path.suffix):
        raise DataError(
            f"{path}: is a table or compressed, and read whole. Let `datasets` map it into memory, "
            f"hub:{path.parent}:train, or set data.stream: false. {HELP}"
        )
    if start == "[" or (start == "{" and is_one_object(head)):
        kind = "list" if start == "[" else "object"
        raise DataError(
            f"{path}: is one JSON {kind}, which can only be read whole. Write one example a line "
            f"for data.stream, or set data.stream: false. {HELP}"
        )
    return start


class _Rows(Stream):
    """A data set of the hub, which is downloaded once and mapped into memory."""

    def __init__(self, source: str, limit: int | None, fields: Fields) -> None:
        from pyarrow import compute, types  # type: ignore[import-untyped]  # a part of datasets

        self._source, self._table = source, hub_table(source)
        self._as_asked, self._fields = reader_of(source), fields
        lengths = np.zeros(len(self._table), dtype=np.int64)
        read = {*QUESTIONS, *CHAINS, *ANSWERS}
        if fields.columns is not None:
            for one in asdict(fields.columns).values():
                read |= {one} if isinstance(one, str) else {*(one or ())}
        for name in read & set(self._table.column_names):
            column: Any = self._table.data.column(name)
            # From the offsets in the table: no text is read. The texts of a list are no longer than
            # a sentence each, so that their number tells enough.
            is_list = types.is_list(column.type) or types.is_large_list(column.type)
            if not (is_list or types.is_string(column.type) or types.is_large_string(column.type)):
                continue  # malformed, which is told when a row is read
            sizes = compute.list_value_length(column) if is_list else compute.binary_length(column)
            lengths += compute.fill_null(sizes, 0).to_numpy() * (20 if is_list else 1)
        self.lengths = lengths[:limit]

    def where(self, number: int) -> str:
        return f"{self._source}:{number}"

    def read(self, numbers: Sequence[int]) -> list[Example]:
        return [
            example_of(
                self._as_asked(dict(self._table[number])),
                self.where(number),
                str(number),
                self._fields,
            )
            for number in numbers
        ]
