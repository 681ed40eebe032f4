"""Layouts → padded tensors, and the order in which a training set is read.

Shapes: B batch, Q longest prefix, T longest suffix.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from latentcot.layout import NO_LABEL, Layout


@dataclass(frozen=True, slots=True)
class Batch:
    """Layouts side by side, padded on the right.

    Attributes:
        prefix: (B, Q) token ids.
        prefix_lengths: (B,).
        num_slots: (B,).
        suffix: (B, T) token ids.
        suffix_lengths: (B,).
        labels: (B, T) token ids, or NO_LABEL where there is no loss.
        is_next: (B, T) whether a label belongs to the first remaining step.
        stop_after: (B,) slots that the whole chain would take; -1 where it is unknown.
    """

    prefix: Tensor
    prefix_lengths: Tensor
    num_slots: Tensor
    suffix: Tensor
    suffix_lengths: Tensor
    labels: Tensor
    is_next: Tensor
    stop_after: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on another device."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return Batch(**moved)


def collate(layouts: Sequence[Layout], pad_id: int = 0) -> Batch:
    """Pad layouts to one batch; any `pad_id` gives the same results."""
    prefix_lengths = torch.tensor([len(layout.prefix) for layout in layouts])
    suffix_lengths = torch.tensor([len(layout.suffix) for layout in layouts])
    labels = _padded([layout.labels for layout in layouts], NO_LABEL)
    # Labels are one run from the opening to the end, so that counting them finds the first step.
    is_label = labels != NO_LABEL
    num_next = torch.tensor([layout.num_next for layout in layouts])
    return Batch(
        prefix=_padded([layout.prefix for layout in layouts], pad_id),
        prefix_lengths=prefix_lengths,
        num_slots=torch.tensor([layout.num_slots for layout in layouts]),
        suffix=_padded([layout.suffix for layout in layouts], pad_id),
        suffix_lengths=suffix_lengths,
        labels=labels,
        is_next=is_label & (is_label.cumsum(1) <= num_next[:, None]),
        stop_after=torch.tensor([_or_unknown(layout.stop_after) for layout in layouts]),
    )


def _or_unknown(count: int | None) -> int:
    return -1 if count is None else count


def _padded(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    width = max(len(row) for row in rows)
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
