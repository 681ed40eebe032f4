"""Training data that do not fit in memory: read, encoded and shuffled a window at a time.

The files (or shards of the hub) of a source are put into another order in each epoch and read as
one sequence. A window is the next `data.shuffle_buffer` examples of it; these are shuffled, sorted
by length within stretches and batched by `epoch_order`. While one window is learned from, a thread
reads the next, so that memory holds two, however long the data are.

Which examples an update learns from is a function of the seed and its number. A checkpoint may say
where a window begins, and a resumed run then need not read up to there; without, it reads on from
the beginning of the epoch and comes to the same.
"""

import importlib.metadata
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from latentcot.curriculum.layout import EncodedExample
from latentcot.data.examples import Example, example_of
from latentcot.data.sources import Position, Reader, StreamPart, count_examples, parts_of
from latentcot.errors import DataError, LatentcotError
from latentcot.thinking.batch import epoch_order

CHUNK = 8_192
"""Examples whose texts are held at a time; a step that stands in several is encoded once."""


class LineError(DataError):
    """A line of a stream cannot be read or used, which came out when its window was read."""


Window = list[list[EncodedExample]]
"""Its batches, in the order in which they are learned from."""
Encode = Callable[[Sequence[Example]], list[EncodedExample]]


@dataclass(frozen=True, slots=True)
class Stream:
    """The examples of a source, read anew by each who goes through them.

    Attributes:
        source: A file, a folder or pattern of files, or a data set of the hub.
        parts: Of the source.
        num_examples: How many there are.
        is_cut: Whether there are more, which are not to be used. Then parts keep their order.
    """

    source: str
    parts: Sequence[StreamPart]
    num_examples: int
    is_cut: bool = False

    def __len__(self) -> int:
        """Return the number of examples."""
        return self.num_examples

    def __iter__(self) -> Iterator[Example]:
        """Yield the examples in the order of the source.

        Raises:
            DataError: One is malformed (with file and line), or some are missing.
        """
        reader = Reader(self.parts)
        for number in range(self.num_examples):
            yield self.next_of(reader, number)[1]

    def order(self, seed: str) -> list[StreamPart]:
        """Return the parts in the order in which an epoch reads them."""
        parts = list(self.parts)
        if not self.is_cut:
            random.Random(f"{seed}/shards").shuffle(parts)
        return parts

    def next_of(self, reader: Reader, number: int) -> tuple[str, Example]:
        """Return where the next example stands, and the example.

        Args:
            reader: Of this stream's parts.
            number: How many it has read.

        Raises:
            DataError: It is malformed, or missing.
        """
        found = reader.read()
        if found is None:
            raise DataError(
                f"{self.source}: ends after {number:,} examples, but should hold "
                f"{self.num_examples:,}. If it was changed, bring the old data back; if "
                "data.num_examples is set, set it to what the data hold."
            )
        where, record = found
        name = where.rsplit(":" if len(self.parts) == 1 else "/", 1)[-1]
        return where, example_of(record, where, default_id=name)


def open_stream(source: str, limit: int | None = None, num_examples: int | None = None) -> Stream:
    """Open a source, and count its examples if need be.

    Args:
        source: A file, a folder or pattern of files, or a data set of the hub.
        limit: Use the first ones only.
        num_examples: How many there are, where this is known.

    Raises:
        DataError: It cannot be read, or holds no example.
    """
    parts = parts_of(source)
    count = num_examples or count_examples(source, parts, limit)
    used = count if limit is None else min(count, limit)
    return Stream(source, parts, used, is_cut=limit is not None)


@dataclass(frozen=True, slots=True)
class EncodedStream:
    """A stream and what makes token ids of it.

    Attributes:
        stream: The examples.
        encode: As `layout.encode`.
        window_size: How many are shuffled at a time.
    """

    stream: Stream
    encode: Encode
    window_size: int

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.stream)


class Windows:
    """Makes the batches of a run, window by window.

    Examples that do not fill a last batch are left out, others in each epoch.

    Args:
        train: The training examples.
        batch_size: Examples of an update; not more than there are.
        seed: Of the run.
        lengths_of: Examples → how long each is when laid out.

    Attributes:
        updates_per_epoch: Length of an epoch.
        check: Raises a `LatentcotError` for examples that cannot be learned from.
        num_updates: Of the run: nothing is read for later ones. None if that is unknown.
    """

    def __init__(
        self,
        train: EncodedStream,
        batch_size: int,
        seed: int,
        lengths_of: Callable[[Sequence[EncodedExample]], list[int]],
    ) -> None:
        self.train, self.batch_size, self.seed = train, batch_size, seed
        self.lengths_of = lengths_of
        self.updates_per_epoch = len(train) // batch_size
        self._updates_per_window = max(1, train.window_size // batch_size)
        self._windows_per_epoch = -(-self.updates_per_epoch // self._updates_per_window)
        self.check: Callable[[Sequence[EncodedExample]], None] = lambda examples: None
        self.num_updates: int | None = None
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="latentcot-stream")
        self._windows: dict[int, Future[Window]] = {}
        self._positions: dict[int, Position] = {}
        self._reading: tuple[int, Reader, int] | None = None
        self._is_closed = False

    def batch(self, update: int) -> list[EncodedExample]:
        """Return the examples of an update; 0 is the first of the run.

        Raises:
            LineError: An example of its window is malformed, or cannot be written or learned from;
                with file and line.
            DataError: There are fewer examples than there should be.
        """
        number, index = self._window_of(update)
        with self._lock:
            wanted = [number]
            if self.num_updates is None or number < self._window_of(self.num_updates - 1)[0]:
                wanted.append(number + 1)
            for one in wanted:
                if one not in self._windows:
                    self._windows[one] = self._thread.submit(self._read, one)
            self._windows = {one: self._windows[one] for one in wanted}
            window = self._windows[number]
        return window.result()[index]

    def close(self) -> None:
        """Read no more: a process does not end before its threads do."""
        self._is_closed = True
        self._thread.shutdown(wait=False, cancel_futures=True)

    def position(self, update: int) -> Mapping[str, Any] | None:
        """Return where the window of an update begins, if that is known."""
        number, _ = self._window_of(update)
        position = self._positions.get(number)
        return None if position is None else {"window": number, "datasets": _version(), **position}

    def restore(self, position: Mapping[str, Any]) -> None:
        """Know again what `position` has told; not what another version of `datasets` told."""
        if position["datasets"] == _version():
            self._positions[position["window"]] = {
                key: position[key] for key in ("shard", "row", "state")
            }

    def _window_of(self, update: int) -> tuple[int, int]:
        """Return the window of an update, counted over all epochs, and its batch there."""
        epoch, index = divmod(update, self.updates_per_epoch)
        window, index = divmod(index, self._updates_per_window)
        return epoch * self._windows_per_epoch + window, index

    # --- in the thread ---

    def _read(self, number: int) -> Window:
        epoch, window = divmod(number, self._windows_per_epoch)
        seed = f"{self.seed}/{epoch}"
        first = window * self._updates_per_window
        count = min(self._updates_per_window, self.updates_per_epoch - first) * self.batch_size
        left_out = self._left_out(seed)
        reader, num_before = self._reader_at(number, seed, left_out)
        self._reading = None  # until it has come through
        examples: list[EncodedExample] = []
        while len(examples) < count:
            found: list[tuple[str, Example]] = []
            while len(found) < min(CHUNK, count - len(examples)):
                self._end_if_closed()
                one = self._next(reader, num_before)
                if num_before not in left_out:
                    found.append(one)
                num_before += 1
            examples += self._encoded(found)
        self._note(number + 1, reader, num_before)
        order = epoch_order(self.lengths_of(examples), self.batch_size, f"{seed}/{window}")
        return [[examples[i] for i in batch] for batch in order]

    def _next(self, reader: Reader, num_before: int) -> tuple[str, Example]:
        try:
            return self.train.stream.next_of(reader, num_before)
        except DataError as error:
            if reader.is_at_end:  # no line is to blame
                raise
            raise LineError(str(error)) from None

    def _left_out(self, seed: str) -> set[int]:
        """Return which examples of an epoch's sequence would begin a batch that is not full."""
        total = len(self.train)
        rng = random.Random(f"{seed}/left-out")
        return set(rng.sample(range(total), total % self.batch_size))

    def _reader_at(self, number: int, seed: str, left_out: set[int]) -> tuple[Reader, int]:
        """Return a reader that stands where a window begins, and how many it has behind it."""
        if self._reading is not None and self._reading[0] == number:
            return self._reading[1:]
        window = number % self._windows_per_epoch
        num_before = window * self._updates_per_window * self.batch_size
        for one in sorted(left_out):
            num_before += one < num_before
        parts = self.train.stream.order(seed)
        if number in self._positions:
            return Reader(parts, self._positions[number]), num_before
        reader = Reader(parts)
        for start in range(0, num_before, CHUNK):
            self._end_if_closed()
            reader.skip(min(CHUNK, num_before - start))
        return reader, num_before

    def _end_if_closed(self) -> None:
        if self._is_closed:
            raise CancelledError

    def _note(self, number: int, reader: Reader, num_before: int) -> None:
        """Remember where the next window begins; an epoch begins at its beginning."""
        self._positions = {
            one: self._positions[one] for one in self._positions if one >= number - 2
        }
        if number % self._windows_per_epoch:
            self._reading = number, reader, num_before
            self._positions[number] = reader.position()

    def _encoded(self, found: Sequence[tuple[str, Example]]) -> list[EncodedExample]:
        examples = [example for _, example in found]
        try:
            return self._checked(examples)
        except LatentcotError:
            for where, example in found:
                try:
                    self._checked([example])
                except LatentcotError as error:
                    raise LineError(f"{where}: {error}") from None
            raise

    def _checked(self, examples: Sequence[Example]) -> list[EncodedExample]:
        encoded = self.train.encode(examples)
        self.check(encoded)
        return encoded


def _version() -> str:
    return importlib.metadata.version("datasets")
