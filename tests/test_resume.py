"""A run that was ended and resumed gives, bit for bit, what it gives in one go."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from conftest import in_update, press_ctrl_c
from latentcot import CheckpointError, RunError, load, train
from latentcot.checkpoints import checkpoint_folders
from latentcot.runs import read_metrics

# Everything that is drawn: the order of the data, stages, dropout. No interval divides another.
RANDOM = {
    "model": {"dropout": 0.2},
    "curriculum": {"stage_mix_prob": 0.3},
    "training": {
        "max_updates": 14,
        "validate_every": 3,
        "save_every": 5,
        "warmup_updates": 2,
        "decay_share": 0.5,
        "max_grad_norm": 1.0,
    },
}


def results_of(run):
    """Return weights, best checkpoint and all rows but their rates."""
    [*_, newest] = checkpoint_folders(run)
    rows = [{k: v for k, v in row.items() if "per_second" not in k} for row in read_metrics(run)]
    best = json.loads((run / "checkpoints" / "best.json").read_text())
    return (newest.name, (newest / "model.safetensors").read_bytes(), best, rows)


def files_of(run):
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def recipe(make_recipe):
    return make_recipe(**RANDOM)


@pytest.fixture(scope="module")
def in_one_go(recipe, tmp_path_factory):
    run = tmp_path_factory.mktemp("in-one-go") / "run"
    assert train(recipe, run, is_quiet=True)
    return run


@pytest.fixture
def run(in_one_go, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(in_one_go, tmp_path / "run")


def test_dropout_and_stage_mixing_are_at_work(in_one_go, make_recipe, tmp_path):
    """Otherwise the tests below would hold for a run without anything random."""
    without = make_recipe(**RANDOM | {"model": {}})
    train(without, tmp_path / "without", is_quiet=True)
    assert results_of(tmp_path / "without")[1] != results_of(in_one_go)[1]
    without = make_recipe(**RANDOM | {"curriculum": {}})
    train(without, tmp_path / "without", overwrite=True, is_quiet=True)
    assert results_of(tmp_path / "without")[1] != results_of(in_one_go)[1]


@pytest.mark.parametrize("last_updates", [(1,), (4,), (6,), (13,), (3, 5, 9)])
def test_ended_and_resumed(last_updates, recipe, in_one_go, tmp_path):
    """By Ctrl-C during an update: the first, at a change of stage, the last but one."""
    run, done = tmp_path / "run", 0
    for last in last_updates:
        with in_update(last - done, press_ctrl_c):
            assert not train(recipe, run, resume=done > 0, is_quiet=True)
        assert checkpoint_folders(run)[-1].name == f"update-{last:08d}"
        assert read_metrics(run)[-1]["update"] == last
        done = last
    assert train(recipe, run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(in_one_go)


def test_ctrl_c_in_the_last_update_changes_nothing(recipe, in_one_go, tmp_path):
    with in_update(14, press_ctrl_c):
        assert train(recipe, tmp_path / "run", is_quiet=True)
    assert results_of(tmp_path / "run") == results_of(in_one_go)


def test_a_second_ctrl_c_takes_effect_at_once(recipe, in_one_go, tmp_path, ctrl_c_raises):
    run, handler = tmp_path / "run", signal.getsignal(signal.SIGINT)

    def press_twice(model):
        press_ctrl_c()
        press_ctrl_c()

    with in_update(7, press_twice), pytest.raises(KeyboardInterrupt):
        train(recipe, run, is_quiet=True)
    assert signal.getsignal(signal.SIGINT) is handler
    assert _newest_update(run) == 6
    assert train(recipe, run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(in_one_go)


def test_ctrl_c_at_the_end_of_a_stage_keeps_the_stage_of_the_weights(recipe, tmp_path):
    run = tmp_path / "run"
    with in_update(4, press_ctrl_c):
        assert not train(recipe, run, is_quiet=True)
    stages = [row["stage"] for row in read_metrics(run) if row["kind"] == "train"]
    assert stages == [0, 0, 0, 0]
    assert load(checkpoint_folders(run)[-1]).info.stage == 0


@pytest.mark.parametrize("last_update", [6, 11, 13])
def test_cut_off_and_resumed(last_update, recipe, in_one_go, tmp_path):
    """What came after the newest checkpoint is forgotten, and done again."""
    run = tmp_path / "run"

    def crash(model):
        raise MemoryError

    with in_update(last_update + 1, crash), pytest.raises(MemoryError):
        train(recipe, run, is_quiet=True)
    assert _newest_update(run) == last_update
    assert checkpoint_folders(run)[-1].name < f"update-{last_update:08d}"
    assert train(recipe, run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(in_one_go)


def test_interrupted_from_outside(make_recipe, tmp_path):
    """By a signal to the real command, at any moment."""
    recipe = make_recipe(**RANDOM | {"training": {"max_updates": 180, "validate_every": 60}})
    assert train(recipe, tmp_path / "in-one-go", is_quiet=True)

    run = tmp_path / "run"
    command = [sys.executable, "-m", "latentcot", "train", tmp_path / "in-one-go" / "recipe.yaml"]
    with subprocess.Popen(
        [*command, "--out", run, "--quiet"], stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and _newest_update(run) < 20:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in message
    stopped_at = int(checkpoint_folders(run)[-1].name.removeprefix("update-"))
    assert f"Stopped after update {stopped_at}. --resume goes on." in message
    assert stopped_at == _newest_update(run)
    assert train(recipe, run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(tmp_path / "in-one-go")


def _newest_update(run):
    return max((row["update"] for row in read_metrics(run)), default=0)


def test_a_finished_run_stays_as_it_is(recipe, run):
    before = files_of(run)
    assert train(recipe, run, resume=True, is_quiet=True)
    assert files_of(run) == before


@pytest.mark.parametrize("changes", [{"seed": 1}, {"training": {"max_updates": 20}}])
def test_another_recipe_is_refused(changes, make_recipe, run):
    before = files_of(run)
    with pytest.raises(RunError, match="another recipe"):
        train(make_recipe(**RANDOM | changes), run, resume=True, is_quiet=True)
    assert files_of(run) == before


@pytest.mark.parametrize("how", ["was being written", "was being deleted"])
def test_a_newest_checkpoint_that_is_not_whole_is_skipped(how, recipe, in_one_go, run):
    [*_, older, newest] = checkpoint_folders(run)
    (newest / "latentcot.json").unlink()
    if how == "was being written":
        newest.rename(newest.with_name(f".{newest.name}.123.partial"))
    (run / "checkpoints" / "best.json").unlink()  # was written after it
    assert load(run).info.update == int(older.name.removeprefix("update-"))
    assert train(recipe, run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(in_one_go)


@pytest.mark.parametrize("name", ["model.safetensors", "training_state.pt"])
def test_a_damaged_checkpoint_is_named(name, recipe, run):
    file = checkpoint_folders(run)[-1] / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"{file.parent.name}.*damaged"):
        train(recipe, run, resume=True, is_quiet=True)


def test_a_checkpoint_without_training_state_is_named(recipe, run):
    (checkpoint_folders(run)[-1] / "training_state.pt").unlink()
    with pytest.raises(CheckpointError, match=r"holds no training_state\.pt"):
        train(recipe, run, resume=True, is_quiet=True)


def test_a_row_that_is_not_whole_is_written_again(recipe, in_one_go, tmp_path):
    run = tmp_path / "run"
    with in_update(6, press_ctrl_c):
        train(recipe, run, is_quiet=True)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "upda')
    assert train(recipe, run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(in_one_go)


def test_without_a_checkpoint_there_is_nothing_to_resume(recipe, run, tmp_path):
    with pytest.raises(RunError, match="there is no run to resume"):
        train(recipe, tmp_path / "nowhere", resume=True, is_quiet=True)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunError, match="has no checkpoint to resume from"):
        train(recipe, run, resume=True, is_quiet=True)


def test_a_file_is_no_run(recipe, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError):
        train(recipe, tmp_path / "file", resume=True, is_quiet=True)


def test_two_runs_in_one_process_are_alike(recipe, tmp_path):
    """Whatever was drawn in between."""
    for name in ("a", "b"):
        train(recipe, tmp_path / name, is_quiet=True)
        torch.rand(7)
    assert results_of(tmp_path / "a") == results_of(tmp_path / "b")
