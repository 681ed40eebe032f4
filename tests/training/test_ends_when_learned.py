"""Training ends once the last stage is learned, if the recipe says so."""

import pytest

from interrupts import in_update, press_ctrl_c
from latentcot import train
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import notes_on, read_metrics
from latentcot.runs.provenance import read_provenance
from tiny_runs import RANDOM, results_of, rows_of

LEARNED = {"advance": "learned", "learned_window": 2, "learned_below": 1e9, "restarts": 0}
MOST, VALIDATED = 40, 8
DECAYED = VALIDATED * 5 // 4  # with a decay over the last fifth


@pytest.fixture
def recipe(make_recipe, monkeypatch):
    """Stages of two updates each, the last from the fifth on; any accuracy is enough."""
    monkeypatch.setattr("latentcot.training.loop.DONE", 0.0)

    def make(curriculum=(), **training):
        training = {"max_updates": MOST, "validate_every": VALIDATED, "decay_share": 0.2} | training
        rules = RANDOM["curriculum"] | LEARNED | {"ends_when_learned": True} | dict(curriculum)
        return make_recipe(
            **RANDOM | {"curriculum": rules, "training": RANDOM["training"] | training}
        )

    return make


def last_update(run):
    return rows_of(run, "train")[-1]["update"]


def test_the_rate_falls_from_there_and_then_training_ends(recipe, tmp_path, latentcot):
    run = tmp_path / "run"
    assert train(recipe(), run, is_quiet=True)
    (row,) = rows_of(run, "shortened")
    assert (row["update"], row["num_updates"]) == (VALIDATED, DECAYED)
    assert last_update(run) == DECAYED == read_provenance(run)["num_updates"]
    rates = {one["update"]: one["learning_rate"] for one in rows_of(run, "train")}
    assert rates[VALIDATED + 1] == max(rates.values()) > rates[DECAYED]
    assert rows_of(run, "stage_end")[-1]["update"] == DECAYED
    assert not any("has not finished" in note for note in notes_on(run, read_metrics(run), 2, 2))
    assert f"of {DECAYED}" in latentcot("show", run).out


def test_without_a_decay_it_ends_at_once_with_a_checkpoint(recipe, tmp_path):
    run = tmp_path / "run"
    assert train(recipe(decay_share=0.0), run, is_quiet=True)
    assert last_update(run) == VALIDATED
    assert rows_of(run, "stage_end")[-1]["update"] == VALIDATED
    assert checkpoint_folders(run)[-1].name.endswith(str(VALIDATED))


@pytest.mark.parametrize("last", [VALIDATED - 1, VALIDATED, VALIDATED + 1])
def test_resumed_around_it(last, recipe, tmp_path):
    assert train(recipe(), tmp_path / "whole", is_quiet=True)
    run = tmp_path / "run"
    with in_update(last, press_ctrl_c):
        assert not train(recipe(), run, is_quiet=True)
    assert train(recipe(), run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(tmp_path / "whole")


@pytest.mark.parametrize(
    "change",
    [
        {"ends_when_learned": False},
        {"learned_below": 1e-9, "max_updates_per_stage": 2},
        {"learned_window": 2 * MOST, "max_updates_per_stage": 2},  # a window that is never full
    ],
)
def test_goes_on_where_it_is_not_learned_or_not_asked_for(change, recipe, tmp_path):
    assert train(recipe(change), tmp_path / "run", is_quiet=True)
    assert rows_of(tmp_path / "run", "shortened") == []
    assert last_update(tmp_path / "run") == MOST


def test_goes_on_below_that_accuracy(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("latentcot.training.loop.DONE", 1.1)
    assert train(recipe(), tmp_path / "run", is_quiet=True)
    assert last_update(tmp_path / "run") == MOST


def test_a_rate_that_only_falls_is_not_cut_short(recipe, tmp_path):
    assert train(recipe(decay_share=1.0), tmp_path / "run", is_quiet=True)
    assert last_update(tmp_path / "run") == MOST


def test_told_in_words(recipe, tmp_path, capfd):
    train(recipe(), tmp_path / "run")
    out = capfd.readouterr()
    told = " ".join((out.out + out.err).split())
    assert f"The last stage is learned after {VALIDATED} updates" in told
    assert f"Training ends after {DECAYED} updates, not {MOST}" in told
