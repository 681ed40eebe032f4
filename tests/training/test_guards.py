"""What ends a training that has gone wrong, and the switch for equal bits."""

import math

import pytest
import torch

from interrupts import in_update
from latentcot import TrainingError, train
from latentcot.recipes.recipe import Training
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.training.guards import FIRST_JUDGED, Divergence, deterministic, enough_memory


def losses_until_error(guard, loss, most=1000):
    for number in range(1, most + 1):
        try:
            guard.record(loss)
        except TrainingError as error:
            return number, str(error)
    return most, ""


@pytest.mark.parametrize(
    ("training", "loss", "words"),
    [
        (Training(), 2 * math.log(50) + 0.1, "7.92 nats a token on average, and may be 7.82"),
        (Training(diverged_above=2.0), 2.1, "training.diverged_above"),
    ],
    ids=["twice that of guessing", "above a limit that is given"],
)
def test_a_loss_that_stays_high_is_divergence(training, loss, words):
    number, message = losses_until_error(Divergence(training, vocabulary_size=50), loss)
    assert number == FIRST_JUDGED
    assert words in message


def test_a_loss_below_it_is_none():
    assert losses_until_error(Divergence(Training(), 50), 7.8) == (1000, "")


def test_a_single_peak_is_forgiven_and_a_learned_model_that_breaks_is_noticed():
    guard = Divergence(Training(diverged_above=2.0), 50)
    assert losses_until_error(guard, 0.1, 500)[1] == ""
    guard.record(100.0)
    assert losses_until_error(guard, 0.01, 5000)[1] == ""
    number, message = losses_until_error(guard, 4.0)
    assert number < 100
    assert message


def test_a_resumed_guard_judges_alike():
    one = Divergence(Training(diverged_above=2.0), 50)
    losses_until_error(one, 1.0, 60)
    other = Divergence(Training(diverged_above=2.0), 50)
    other.restore(one.state())
    assert losses_until_error(other, 3.0) == losses_until_error(one, 3.0)


def test_training_ends_and_its_checkpoints_stay(make_recipe, tmp_path):
    recipe = make_recipe(
        training={"max_updates": 200, "save_every": 50, "diverged_above": 1e-3},
    )
    with pytest.raises(TrainingError, match="training has diverged"):
        train(recipe, tmp_path / "run", is_quiet=True)
    assert checkpoint_folders(tmp_path / "run")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_too_little_memory_is_told_with_what_helps(error, make_recipe, tmp_path):
    def fail(model):
        raise error

    with (
        in_update(7, fail),
        pytest.raises(TrainingError, match=r"memory for 8 examples.*save_memory=true or .*size=4"),
    ):
        train(make_recipe(training={"save_every": 3}), tmp_path / "run", is_quiet=True)
    assert checkpoint_folders(tmp_path / "run")[-1].name == "update-00000006"


def test_what_helps_is_not_what_is_done_already():
    with pytest.raises(TrainingError) as caught, enough_memory(Training(save_memory=True), 1):
        raise torch.OutOfMemoryError("full")
    assert "save_memory=true" not in str(caught.value)
    assert "smaller model" in str(caught.value)
    with pytest.raises(RuntimeError, match="shapes"), enough_memory(Training(), 1):
        raise RuntimeError("shapes")  # other errors come through


def test_the_switch_holds_in_training_alone(make_recipe, tmp_path):
    seen = []
    recipe = make_recipe(training={"deterministic": True})
    with in_update(3, lambda model: seen.append(torch.are_deterministic_algorithms_enabled())):
        train(recipe, tmp_path / "run", is_quiet=True)
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
