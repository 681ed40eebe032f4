"""Layouts → padded tensors.

Shapes: B batch, Q longest prefix, T longest suffix.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain

import torch
from torch import Tensor

from latentcot.curriculum.layout import NO_LABEL, LaidOut, Layout, Rows

ROUNDED = (32, 8)
"""Where runs are captured (`models/backend/cuda_graphs.py`), batches are padded to a multiple of so
many positions of prefix and suffix, so that there are few shapes to capture."""


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
        anchor: (B,) the suffix token with which the answer proper begins; -1 where it is unknown.
        groups: (B, N, W) the tokens that each latent position stands for, padded with NO_LABEL;
            W = 0 where nobody knows.
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
    anchor: Tensor
    groups: Tensor
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
    most = max(num_latents) if max_latents is None else max_latents
    groups = [layout.groups for layout in layouts]
    width = max((len(group) for row in groups for group in row or ()), default=0)
    if any(row is not None for row in groups):  # also where all chains of this process are empty
        width = width or 1
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
        anchor=torch.tensor([_or_unknown(layout.anchor) for layout in layouts]),
        groups=_in_groups([row or () for row in groups], most, width),
        max_latents=most,
    )


@dataclass(frozen=True, slots=True)
class Batches:
    """All that a method reads of some examples, side by side.

    Attributes:
        views: A batch a view; the same examples in the same order.
        targets: By term, (B, G, W): what each of G groups of latent positions has to say, padded
            with NO_LABEL; at least one group of one token.
    """

    views: Mapping[str, Batch]
    targets: Mapping[str, Tensor]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, view by view, then the targets."""
        views = chain.from_iterable(batch.tensors for batch in self.views.values())
        return (*views, *self.targets.values())

    @property
    def max_latents(self) -> tuple[int, ...]:
        """The most latent positions in each view."""
        return tuple(batch.max_latents for batch in self.views.values())

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(next(iter(self.views.values())).prefix)

    def with_tensors(self, tensors: Sequence[Tensor]) -> "Batches":
        """Return the same with other tensors, given as `tensors` gives them."""
        given = iter(tensors)
        views = {
            name: batch.with_tensors([next(given) for _ in batch.tensors])
            for name, batch in self.views.items()
        }
        return Batches(views, {name: next(given) for name in self.targets})

    def to(self, device: torch.device | str) -> "Batches":
        """Return the same on another device."""
        return self.with_tensors([t.to(device, non_blocking=True) for t in self.tensors])


def collate_views(
    mine: Sequence[LaidOut],
    *,
    whole: Sequence[LaidOut] | None = None,
    update: Sequence[LaidOut] | None = None,
    columns: tuple[int, int] = (1, 1),
) -> Batches:
    """Pad examples, in all views, to one batch a view.

    Args:
        mine: What this process reads, at least one.
        whole: What all processes read at the same time: all make as many passes.
        update: What the whole update reads: its largest number of groups is that of every batch.
        columns: See `collate`.
    """
    whole, update = whole or mine, update or whole or mine
    views = {
        name: collate(
            [laid.layouts[name] for laid in mine],
            columns=columns,
            max_latents=max(laid.layouts[name].num_latents for laid in whole),
        )
        for name in mine[0].layouts
    }
    targets = {}
    for name in mine[0].targets:
        rows = [laid.targets[name] for laid in mine]
        num_groups = max(1, *(len(laid.targets[name]) for laid in update))
        width = max((len(group) for row in rows for group in row), default=0) or 1
        targets[name] = _in_groups(rows, num_groups, width)
    return Batches(views, targets)


def _in_groups(rows: Sequence[Rows], num_groups: int, width: int) -> Tensor:
    """Pad groups of tokens with NO_LABEL: (rows, groups, width)."""
    groups = [
        [*group, *[NO_LABEL] * (width - len(group))]
        for row in rows
        for group in (*row, *[()] * (num_groups - len(row)))
    ]
    return torch.tensor(groups, dtype=torch.long).view(len(rows), num_groups, width)


def _or_unknown(count: int | None) -> int:
    return -1 if count is None else count


def _padded(rows: Sequence[Sequence[int]], pad: int, multiple: int) -> Tensor:
    width = math.ceil(max(len(row) for row in rows) / multiple) * multiple
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.long)
