"""Training data that do not fit in memory: each batch is read and encoded when it is its turn.

Which examples an update learns from is a function of the seed and its number, as with examples in
memory: an epoch shuffles the numbers of all examples, sorts them by length within stretches of 64
batches, so that a batch pads little, and shuffles the batches. What does not fill a last batch is
left out, other examples in each epoch.
"""

from collections.abc import Callable, Sequence

import numpy as np

from latentcot.curriculum.layout import EncodedExample
from latentcot.data.examples import Example
from latentcot.data.sources import Stream
from latentcot.errors import CheckpointError, DataError, LatentcotError

STRETCH = 64
"""Batches among which examples are sorted by length."""
STATE = {"order": 2}
"""What a checkpoint says of a stream: its order, which is another than that of earlier versions."""


class EncodedStream:
    """A stream and what makes token ids of it.

    Args:
        stream: The examples.
        encode: As `layout.encode`.

    Attributes:
        check: Raises a `LatentcotError` for examples that cannot be learned from.
    """

    def __init__(
        self, stream: Stream, encode: Callable[[Sequence[Example]], list[EncodedExample]]
    ) -> None:
        self.stream, self.encode = stream, encode
        self.check: Callable[[Sequence[EncodedExample]], None] = lambda examples: None

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.stream)

    def order(self, batch_size: int, seed: str) -> np.ndarray:
        """Return the batches of an epoch, the same for the same seed.

        Args:
            batch_size: Not more than there are examples.
            seed: Of run and epoch.

        Returns:
            (batches, batch_size), the numbers of examples.
        """
        order = _shuffled(len(self), f"{seed}/examples")
        order = order[: len(self) // batch_size * batch_size]
        for start in range(0, len(order), STRETCH * batch_size):
            part = order[start : start + STRETCH * batch_size]
            part[:] = part[np.argsort(self.stream.lengths[part], kind="stable")]
        batches: np.ndarray = order.reshape(-1, batch_size)
        return np.take(batches, _shuffled(len(batches), f"{seed}/batches"), axis=0)

    def read(self, numbers: Sequence[int]) -> list[EncodedExample]:
        """Read examples, encode and check them.

        Raises:
            DataError: One is malformed, or cannot be written or learned from; with file and line.
        """
        examples = self.stream.read(numbers)
        try:
            return self._checked(examples)
        except LatentcotError:
            for number, example in zip(numbers, examples, strict=True):  # which one is it?
                try:
                    self._checked([example])
                except LatentcotError as error:
                    raise DataError(f"{self.stream.where(number)}: {error}") from None
            raise

    def _checked(self, examples: Sequence[Example]) -> list[EncodedExample]:
        encoded = self.encode(examples)
        self.check(encoded)
        return encoded


def refuse_other_order(state: object) -> None:
    """Make sure that a checkpoint was written by a run that read its stream in this order.

    Args:
        state: What the checkpoint says of the stream; None if nothing.

    Raises:
        CheckpointError: Another version of latentcot read it in windows, or in another order.
    """
    if state != STATE:
        raise CheckpointError(
            "data.stream: the run was begun by another version of latentcot, which read the stream "
            "in another order, so it can't be resumed to the same result. Begin it again with "
            "another --out, or resume it with the version that provenance.json names."
        )


def _shuffled(count: int, seed: str) -> np.ndarray:
    """Return a permutation from raw random bits, which numpy keeps the same in all versions."""
    bits = np.random.PCG64(list(seed.encode())).random_raw(count)
    return np.argsort(bits, kind="stable")
