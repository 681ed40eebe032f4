"""Padding."""

import dataclasses

import pytest
import torch

from latentcot.curriculum.layout import NO_LABEL, Layout
from latentcot.thinking.batch import Batch, collate

X = NO_LABEL
LONG = Layout(
    prefix=(1, 2, 3),
    num_latents=2,
    suffix=(4, 5, 6, 7),
    labels=(X, 5, 6, 7),
    num_next=2,
    stop_after=6,
)
SHORT = Layout(prefix=(8,), num_latents=0, suffix=(9, 10), labels=(9, 10), num_next=1, stop_after=0)
PROMPT = Layout(prefix=(1, 2), num_latents=1, suffix=(4,), labels=(X,))


@pytest.mark.parametrize("pad_id", [0, 9])
def test_rows_are_padded_on_the_right(pad_id: int) -> None:
    """Pads carry no label, whatever the pad is."""
    batch, p = collate([LONG, SHORT, PROMPT], pad_id), pad_id
    assert batch.prefix.tolist() == [[1, 2, 3], [8, p, p], [1, 2, p]]
    assert batch.prefix_lengths.tolist() == [3, 1, 2]
    assert batch.num_latents.tolist() == [2, 0, 1]
    assert batch.suffix.tolist() == [[4, 5, 6, 7], [9, 10, p, p], [4, p, p, p]]
    assert batch.suffix_lengths.tolist() == [4, 2, 1]
    assert batch.labels.tolist() == [[X, 5, 6, 7], [9, 10, X, X], [X, X, X, X]]
    assert batch.is_next.tolist() == [
        [False, True, True, False],  # behind <eot>
        [True, False, False, False],
        [False, False, False, False],
    ]
    assert batch.stop_after.tolist() == [6, 0, -1], "no steps are told apart from no chain at all"


def test_every_tensor_is_of_whole_numbers_and_moved() -> None:
    batch = collate([dataclasses.replace(PROMPT, suffix=(), labels=())] * 2)
    assert batch.suffix.shape == batch.labels.shape == batch.is_next.shape == (2, 0)
    assert batch.is_next.dtype == torch.bool
    assert {t.dtype for t in batch.tensors if t is not batch.is_next} == {torch.long}
    moved = collate([LONG, SHORT]).to("meta")
    assert {tensor.device.type for tensor in moved.tensors} == {"meta"}
    assert len(moved.tensors) == len(dataclasses.fields(Batch)) - 1
