"""Layouts → padded tensors, and the order in which a training set is read.

Shapes: B batch, Q longest prefix, T longest suffix.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from latentcot.curriculum.layout import NO_LABEL, Layout

ROUNDED = (32, 8)
"""Where runs are recorded (`replay.py`), batches are padded to a multiple of so many columns of
prefix and suffix, so that there are few shapes to record."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Layouts side by side, padded on the right.

    Attributes:
        prefix: (B, Q) token ids.
        prefix_lengths: (B,).
        num_latents: (B,).
        suffix: (B, T) token ids.
        suffix_lengths: (B,).
        labels: (B, T) token ids, or NO_LABEL where there is no loss.
        is_next: (B, T) whether a label belongs to the first remaining step.
        stop_after: (B,) latent positions that the whole chain would take; -1 where it is unknown.
        max_latents: The largest of `num_latents`, in all processes, known without asking a device.
    """

    prefix: Tensor
    prefix_lengths: Tensor
    num_latents: Tensor
    suffix: Tensor
    suffix_lengths: Tensor
    labels: Tensor
    is_next: Tensor
    stop_after: Tensor
    max_latents: int = field(kw_only=True)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, in the order above."""
        return tuple(getattr(self, field.name) for field in fields(self)[:-1])

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Batch":
        """Return the batch with other tensors, given as `tensors` gives them."""
        return Batch(*tensors, max_latents=self.max_latents)

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on another device."""
        return self.with_tensors([t.to(device, non_blocking=True) for t in self.tensors])


def collate(
    layouts: Sequence[Layout],
    pad_id: int = 0,
    *,
    columns: tuple[int, int] = (1, 1),
    max_latents: int | None = None,
) -> Batch:
    """Pad layouts to one batch; any `pad_id` gives the same results.

    Args:
        layouts: At least one.
        pad_id: A token.
        columns: Pad prefixes, and suffixes, to a multiple of so many columns.
        max_latents: Make passes for so many latent positions, where other processes have rows with
            more.
    """
    to_prefix, to_suffix = columns
    prefix_lengths = torch.tensor([len(layout.prefix) for layout in layouts])
    suffix_lengths = torch.tensor([len(layout.suffix) for layout in layouts])
    num_latents = [layout.num_latents for layout in layouts]
    labels = _padded([layout.labels for layout in layouts], NO_LABEL, to_suffix)
    # Labels are one run from the opening to the end, so that counting them finds the first step.
    is_label = labels != NO_LABEL
    num_next = torch.tensor([layout.num_next for layout in layouts])
    return Batch(
        prefix=_padded([layout.prefix for layout in layouts], pad_id, to_prefix),
        prefix_lengths=prefix_lengths,
        num_latents=torch.tensor(num_latents),
        suffix=_padded([layout.suffix for layout in layouts], pad_id, to_suffix),
        suffix_lengths=suffix_lengths,
        labels=labels,
        is_next=is_label & (is_label.cumsum(1) <= num_next[:, None]),
        stop_after=torch.tensor([_or_unknown(layout.stop_after) for layout in layouts]),
        max_latents=max(num_latents) if max_latents is None else max_latents,
    )


def _or_unknown(count: int | None) -> int:
    return -1 if count is None else count


def _padded(rows: Sequence[Sequence[int]], pad: int, multiple: int) -> Tensor:
    width = math.ceil(max(len(row) for row in rows) / multiple) * multiple
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.long)


def epoch_order(lengths: Sequence[int], batch_size: int, seed: str) -> list[list[int]]:
    """Return the batches of one epoch as lists of example indices, the same for the same seed.

    Examples are shuffled, then sorted by length within stretches of 64 batches, so that a batch
    pads little and its content stays random; the batches themselves are shuffled again. What does
    not fill a last batch is left out, other examples in each epoch, where there is a full one.
    """
    rng = random.Random(seed)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    if len(order) > batch_size:
        del order[len(order) - len(order) % batch_size :]
    if len(set(lengths)) > 1:
        stretch = 64 * batch_size
        order = [
            index
            for start in range(0, len(order), stretch)
            for index in sorted(order[start : start + stretch], key=lengths.__getitem__)
        ]
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    rng.shuffle(batches)
    return batches
