"""Padding, and the order of an epoch."""

import dataclasses
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentcot.curriculum.layout import NO_LABEL, Layout
from latentcot.thinking.batch import Batch, collate, epoch_order

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


# --- the order of an epoch ---


@given(
    num_examples=st.integers(1, 60),
    num_lengths=st.integers(1, 9),
    batch_size=st.integers(1, 20),
    seed=st.sampled_from(["0", "1", "2"]),
)
def test_no_example_comes_twice_and_at_most_one_batch_is_missing(
    num_examples: int, num_lengths: int, batch_size: int, seed: str
) -> None:
    lengths = [1 + 5 * i % num_lengths for i in range(num_examples)]
    batches = epoch_order(lengths, batch_size, seed)
    indices = [index for batch in batches for index in batch]
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(range(len(lengths)))
    if len(lengths) < batch_size:
        assert len(indices) == len(lengths)
    else:
        assert {len(batch) for batch in batches} == {batch_size}
        assert len(batches) == len(lengths) // batch_size


@pytest.mark.parametrize("lengths", [[5] * 60, list(range(60))], ids=["equal", "different"])
def test_the_order_is_a_permutation_drawn_from_the_seed_alone(lengths: list[int]) -> None:
    state = random.getstate()
    first, again, other = (epoch_order(lengths, 6, seed) for seed in ("0/1", "0/1", "0/2"))
    assert random.getstate() == state, "python's own random numbers are left alone"
    assert sorted(index for batch in first for index in batch) == list(range(60))
    assert first == again != other


def test_the_content_of_batches_differs_between_epochs() -> None:
    lengths = [5] * 30 + [6] * 30
    first, second = (epoch_order(lengths, 6, seed) for seed in ("0", "1"))
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}


def test_batches_are_of_examples_of_like_length() -> None:
    lengths = [(7 * i) % 100 for i in range(2000)]
    spreads = [
        max(lengths[i] for i in batch) - min(lengths[i] for i in batch)
        for batch in epoch_order(lengths, 20, seed="0")
    ]
    assert max(spreads) < 10, "shuffled batches have a spread of about 90"


def test_batches_do_not_come_in_order_of_length() -> None:
    lengths = list(range(200))
    firsts = [batch[0] for batch in epoch_order(lengths, 10, seed="0")]
    assert firsts != sorted(firsts)


def test_no_example_is_left_out_of_every_epoch() -> None:
    lengths = list(range(130))
    seen = {i for epoch in range(50) for b in epoch_order(lengths, 64, str(epoch)) for i in b}
    assert seen == set(range(130))
