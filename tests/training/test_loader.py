"""Batches are a function of the seed and the number of the update, whoever makes them when."""

import random
import threading
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentcot.training.build import Run, build
from latentcot.training.loader import Loader, UpdateBatch, epoch_order
from latentcot.training.step import Part
from tiny_runs import as_values, part_of

NUM_UPDATES = 12  # of 4 an epoch
CHANGES = {
    "coconut": {"curriculum": {"stage_mix_prob": 0.5}},
    "icot": {
        "curriculum": {"tokens_until_all": 3, "tokens_per_epoch": 2, "removal_smoothing": 0.5}
    },
}


@pytest.fixture(scope="module", params=CHANGES)
def world(request, make_recipe) -> Run:
    """What loaders are made of."""
    run = build(make_recipe(request.param, **CHANGES[request.param]))
    # Of different lengths, so that the order of an epoch knows them.
    train = [
        replace(e, question=e.question + e.question[: i % 5]) for i, e in enumerate(run.data.train)
    ]
    return replace(run, data=replace(run.data, train=train))


def loader_of(world: Run, part_of=part_of, seed: int | None = None) -> Loader:
    recipe = world.recipe if seed is None else replace(world.recipe, seed=seed)
    return Loader(replace(world, recipe=recipe), part_of)


def phase_at(world: Run, update: int):
    """One phase an epoch."""
    return world.phases[min(update // 4, len(world.phases) - 1)]


def update_batch(loader: Loader, world: Run, update: int, num_updates=NUM_UPDATES) -> tuple:
    return as_values(loader.update_batch(update, phase_at(world, update), num_updates))


@pytest.fixture(scope="module")
def expected(world) -> list[tuple]:
    """Each made alone, without a thread, by a loader that has made nothing else."""
    loaders = [loader_of(world) for _ in range(NUM_UPDATES)]
    return [as_values(f._make(u, phase_at(world, u))) for u, f in enumerate(loaders)]


@pytest.mark.parametrize(
    "order",
    [
        *(range(first, NUM_UPDATES) for first in (0, 1, 2, 3, 4, 7, 11)),  # as in resumed runs
        *((5, 4, 3, 8, 0), (0, 0, 9, 9, 1), (11, 0, 1, 11)),
    ],
    ids=str,
)
def test_batches_do_not_depend_on_those_before(world, expected, order):
    loader = loader_of(world)
    assert loader.updates_per_epoch == 4 and loader.batch_size == 8
    assert [update_batch(loader, world, update) for update in order] == [expected[u] for u in order]


def test_each_epoch_has_every_example_once(world, expected):
    ids = [value[0] for value in expected]
    for start in (0, 4, 8):
        seen = [one for batch in ids[start : start + 4] for one in batch]
        assert sorted(seen) == sorted(example.id for example in world.data.train)
    assert ids[:4] != ids[4:8]


def test_another_seed_is_another_order(world, expected):
    loader = loader_of(world, seed=1)
    assert update_batch(loader, world, 0)[0] != expected[0][0]


def test_each_update_draws_its_own_stages(world):
    loader, phase = loader_of(world), world.phases[1]
    drawn = [tuple(loader.update_batch(u, phase, NUM_UPDATES).stages) for u in range(NUM_UPDATES)]
    assert len(set(drawn)) > 8  # of 12, and 4 would be those of one epoch again and again


def test_each_example_is_laid_out_at_its_stage(world):
    loader, phase = loader_of(world), world.phases[1]
    for update in range(4):
        found = loader.update_batch(update, phase, NUM_UPDATES)
        batch = found.part.micro_batches[0].views["answer"]
        pairs = zip(found.examples, found.stages, strict=True)
        layouts = [world.layouts(e, stage, world.rules[phase])["answer"] for e, stage in pairs]
        assert batch.suffix_lengths.tolist() == [len(layout.suffix) for layout in layouts]
        assert batch.num_latents.tolist() == [layout.num_latents for layout in layouts]


def test_where_nothing_is_drawn_the_stage_is_that_of_the_phase(world):
    plain = replace(world.recipe.curriculum, stage_mix_prob=0.0, removal_smoothing=None)
    loader = loader_of(replace(world, recipe=replace(world.recipe, curriculum=plain)))
    for phase in world.phases:
        assert loader.update_batch(0, phase, NUM_UPDATES).stages == [phase.stage] * 8


def test_when_the_phase_changes_it_is_made_again(world):
    """The one made ahead was for the phase before."""

    def made(update, phase):
        return as_values(loader_of(world)._make(update, phase))

    first, second = world.phases[:2]
    for update in (2, 3):  # also where the epoch ends with the phase
        loader = loader_of(world)
        loader.update_batch(update, first, NUM_UPDATES)
        found = as_values(loader.update_batch(update + 1, second, NUM_UPDATES))
        assert found == made(update + 1, second) != made(update + 1, first)
        again = as_values(loader.update_batch(update + 2, second, NUM_UPDATES))
        assert again == made(update + 2, second)


class Counting:
    """Counts what is made, and by which thread; fails at the calls that it is told."""

    def __init__(self, *failing: int) -> None:
        self.failing = failing
        self.threads: list[str] = []

    def __call__(self, layouts) -> Part:
        self.threads.append(threading.current_thread().name)
        if len(self.threads) - 1 in self.failing:
            raise ZeroDivisionError(len(self.threads) - 1)
        return part_of(layouts)


def finish(loader: Loader) -> None:
    loader._thread.shutdown()


def test_each_is_made_once_and_all_but_the_first_ahead(world):
    counting = Counting()
    loader = loader_of(world, counting)
    for update in range(6):
        loader.update_batch(update, world.phases[0], 6)
    finish(loader)
    assert counting.threads[0] == threading.current_thread().name
    assert len(counting.threads) == 6
    assert all(name.startswith("latentcot-loader") for name in counting.threads[1:])


@pytest.mark.parametrize(("update", "num_updates", "made"), [(0, 6, 2), (0, 1, 1), (4, 5, 1)])
def test_the_next_one_is_begun_at_once_and_none_beyond_the_last(world, update, num_updates, made):
    """While the present update is at work, not when the next asks."""
    counting = Counting()
    loader = loader_of(world, counting)
    loader.update_batch(update, world.phases[0], num_updates)
    finish(loader)
    assert len(counting.threads) == made


def test_an_error_comes_at_its_update_and_not_before(world, expected):
    loader = loader_of(world, Counting(2))
    assert update_batch(loader, world, 0) == expected[0]
    assert update_batch(loader, world, 1) == expected[1]
    with pytest.raises(ZeroDivisionError, match="2"):
        update_batch(loader, world, 2)
    assert update_batch(loader, world, 2) == expected[2]  # a second try makes it anew


def test_an_error_in_what_nobody_needs_stays_there(world):
    """Made ahead for a phase that was over by then."""
    loader = loader_of(world, Counting(1))
    loader.update_batch(0, world.phases[0], NUM_UPDATES)
    loader._ahead[2].exception()  # until it is done
    found = loader.update_batch(1, world.phases[1], NUM_UPDATES)
    assert as_values(found) == as_values(loader_of(world)._make(1, world.phases[1]))


def test_a_batch_is_no_larger_than_the_training_set(world):
    few = replace(world, data=replace(world.data, train=world.data.train[:3]))
    loader = loader_of(few)
    assert (loader.batch_size, loader.updates_per_epoch) == (3, 1)
    ids = [sorted(update_batch(loader, few, update)[0]) for update in range(3)]
    assert ids == [sorted(example.id for example in few.data.train)] * 3


def test_the_next_step_counts_at_the_present_stage_only(world):
    """And for chains that reach past the last stage; others would make a stage look learned."""
    loader, phase = loader_of(world), world.phases[0]
    short = [replace(e, steps=e.steps[:1]) if i % 2 else e for i, e in enumerate(world.data.train)]
    loader.train = short
    found = loader.update_batch(0, phase, NUM_UPDATES)
    batch = found.part.micro_batches[0].views["answer"]
    counts = batch.is_next.any(1).tolist()
    expected = [
        stage == phase.stage and len(example.steps) >= world.recipe.curriculum.num_stages
        for example, stage in zip(found.examples, found.stages, strict=True)
    ]
    assert counts == expected
    assert {True, False} == set(expected)


def test_threads_share_no_random_numbers(world, expected):
    """Neither python's nor torch's: lessons made ahead would disturb what an update draws."""
    state = torch.get_rng_state()
    loader = loader_of(world)
    update_batch(loader, world, 0)
    finish(loader)
    assert torch.equal(torch.get_rng_state(), state)
    assert {field.name for field in fields(UpdateBatch)} == {"examples", "stages", "part"}


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
