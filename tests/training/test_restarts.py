"""A run that does not learn its first stage begins again from other weights."""

import pytest
import torch

from interrupts import in_update, press_ctrl_c
from latentcot import train
from latentcot.runs.checkpoint_folders import (
    BEST_FILE,
    CHECKSUMS_FILE,
    best_checkpoint,
    checkpoint_folders,
)
from latentcot.runs.folder import notes_on, read_metrics
from latentcot.runs.provenance import read_provenance
from tiny_runs import RANDOM, results_of, rows_of

CAP, CURRICULUM = 4, {"advance": "learned", "learned_window": 2, "max_updates_per_stage": 4}


@pytest.fixture(scope="module")
def stuck(make_recipe):
    """A recipe whose stages can't be learned, so that both restarts come."""
    curriculum = RANDOM["curriculum"] | CURRICULUM | {"learned_below": 1e-9, "restarts": 2}
    return make_recipe(**RANDOM | {"curriculum": curriculum})


@pytest.fixture(scope="module")
def in_one_go(stuck, tmp_path_factory):
    run = tmp_path_factory.mktemp("stuck") / "run"
    assert train(stuck, run, is_quiet=True)
    return run


def test_what_a_restart_is(stuck, in_one_go, latentcot):
    total = stuck.training.max_updates + 2 * CAP
    assert [row["update"] for row in rows_of(in_one_go, "restart")] == [CAP, 2 * CAP]
    ends = [(row["update"], row["stage"]) for row in rows_of(in_one_go, "stage_end")]
    assert ends == [(3 * CAP, 0), (4 * CAP, 1), (total, 2)]
    assert rows_of(in_one_go, "train")[-1]["update"] == total
    assert read_provenance(in_one_go)["num_updates"] == total
    # The third try warns, and goes on; those before it leave no warning behind.
    notes = notes_on(in_one_go, read_metrics(in_one_go), 2, 2)
    [note] = notes
    assert note.startswith("3 stages ended before they were learned")
    assert f"of {total}" in latentcot("show", in_one_go).out


def test_weights_are_others_and_the_loss_jumps(in_one_go):
    """The first loss after a restart is one of fresh weights, and not the same ones."""
    loss = {row["update"]: row["loss"] for row in rows_of(in_one_go, "train")}
    assert loss[CAP + 1] > loss[CAP]
    assert loss[CAP + 1] != loss[2 * CAP + 1]
    rates = {row["update"]: row["learning_rate"] for row in rows_of(in_one_go, "train")}
    assert rates[CAP + 1] == rates[1]  # it warms up anew


@pytest.mark.parametrize("last", [CAP - 1, CAP, CAP + 1, 3 * CAP])
def test_resumed_around_a_restart(last, stuck, in_one_go, tmp_path):
    run = tmp_path / "run"
    with in_update(last, press_ctrl_c):
        assert not train(stuck, run, is_quiet=True)
    if last == CAP + 1:  # of an unfinished run, the longer total is told
        assert notes_on(run, read_metrics(run), 2, 2)[0].endswith(
            f"of {stuck.training.max_updates + CAP}."
        )
    assert train(stuck, run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(in_one_go)


def test_a_checkpoint_that_knows_of_none_goes_on(stuck, in_one_go, tmp_path):
    """As those of before."""
    run = tmp_path / "run"
    with in_update(2, press_ctrl_c):
        train(stuck, run, is_quiet=True)
    newest = checkpoint_folders(run)[-1]
    state = torch.load(newest / "training_state.pt", weights_only=True)
    del state["restarts"], state["num_updates"]
    torch.save(state, newest / "training_state.pt")
    (newest / CHECKSUMS_FILE).unlink()  # nor did they have sums
    assert train(stuck, run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(in_one_go)


def test_words_alone_have_as_many_tries(make_recipe, tmp_path):
    """Their only phase has no cap; a third of all updates is as long as the first of others."""
    curriculum = {"advance": "learned", "learned_window": 2, "learned_below": 1e-9, "restarts": 1}
    training = {"max_updates": 12, "validate_every": 6}
    recipe = make_recipe("cot", curriculum=curriculum, training=training)
    run = tmp_path / "run"
    assert train(recipe, run, is_quiet=True)
    assert [row["update"] for row in rows_of(run, "restart")] == [4]
    assert [row["update"] for row in rows_of(run, "stage_end")] == [16]
    assert rows_of(run, "train")[-1]["update"] == 16


def test_what_other_weights_answered_is_not_the_best(make_recipe, tmp_path):
    curriculum = {"advance": "learned", "learned_window": 2, "learned_below": 1e-9, "restarts": 1}
    training = {"max_updates": 12, "validate_every": 8}
    recipe = make_recipe("cot", curriculum=curriculum, training=training)
    run = tmp_path / "run"
    with in_update(5, press_ctrl_c):  # after the restart, before another validation
        train(recipe, run, is_quiet=True)
    assert [row["update"] for row in rows_of(run, "restart")] == [4]
    assert [row["update"] for row in rows_of(run, "valid")] == [4]
    assert checkpoint_folders(run)
    assert not (run / "checkpoints" / BEST_FILE).exists()
    assert train(recipe, run, resume=True, is_quiet=True)
    best = best_checkpoint(run)
    assert best is not None and int(best.name.removeprefix("update-")) > 4


def test_told_in_words(make_recipe, tmp_path, capfd):
    curriculum = CURRICULUM | {"learned_below": 1e-9, "restarts": 1}
    train(make_recipe(curriculum=curriculum), tmp_path / "run")
    out = capfd.readouterr()
    assert "Training begins again from other weights (curriculum.restarts, 1 of 1)." in (
        " ".join((out.out + out.err).split())
    )


@pytest.mark.parametrize("change", [{"restarts": 0}, {"learned_below": 1e9}, {"advance": "epochs"}])
def test_none_where_it_is_learned_or_not_asked_for(change, make_recipe, tmp_path):
    curriculum = CURRICULUM | {"learned_below": 1e-9, "restarts": 2} | change
    recipe = make_recipe(curriculum=curriculum)
    train(recipe, tmp_path / "run", is_quiet=True)
    assert rows_of(tmp_path / "run", "restart") == []
    assert rows_of(tmp_path / "run", "train")[-1]["update"] == recipe.training.max_updates


def test_none_before_the_learning_rate_is_there(make_recipe, tmp_path):
    """A short run, to see whether all works, is not sent round."""
    curriculum = CURRICULUM | {"learned_below": 1e-9, "restarts": 2}
    recipe = make_recipe(curriculum=curriculum, training={"warmup_updates": CAP})
    train(recipe, tmp_path / "run", is_quiet=True)
    assert rows_of(tmp_path / "run", "restart") == []


def test_none_where_answers_are_on_their_way(stuck, tmp_path, monkeypatch):
    """A choice that no chain tells keeps the loss up, however good the answers are."""
    monkeypatch.setattr("latentcot.training.loop.ON_ITS_WAY", 0.0)
    assert train(stuck, tmp_path / "run", is_quiet=True)
    assert rows_of(tmp_path / "run", "restart") == []


def test_only_of_a_model_from_scratch(make_recipe):
    from latentcot import RecipeError

    with pytest.raises(RecipeError, match="curriculum.restarts: there are no other weights"):
        make_recipe(model="gpt2", curriculum={"restarts": 1})
