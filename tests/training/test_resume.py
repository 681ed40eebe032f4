"""A run that was ended and resumed gives, bit for bit, what it gives in one go."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from threading import Thread

import pytest
import torch

from interrupts import in_update, press_ctrl_c
from latentcot import CheckpointError, DataError, RunError, load, train
from latentcot.errors import UsageError
from latentcot.recipes.recipe import read_recipe
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import append_metrics, held, read_metrics
from latentcot.runs.provenance import read_provenance
from latentcot.training.saving import point_to_best
from tiny_runs import RANDOM, results_of, rows_of


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


def check_resumed(recipe, run, in_one_go):
    assert train(recipe, run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(in_one_go)


@pytest.fixture
def run(in_one_go, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(in_one_go, tmp_path / "run")


@pytest.mark.slow
def test_dropout_and_stage_mixing_are_at_work(in_one_go, make_recipe, tmp_path):
    """Otherwise the tests below would hold for a run without anything random."""
    without = make_recipe(**RANDOM | {"model": {}})
    train(without, tmp_path / "without", is_quiet=True)
    assert results_of(tmp_path / "without")[1] != results_of(in_one_go)[1]
    without = make_recipe(**RANDOM | {"curriculum": {}})
    train(without, tmp_path / "without", overwrite=True, is_quiet=True)
    assert results_of(tmp_path / "without")[1] != results_of(in_one_go)[1]


@pytest.mark.parametrize(
    "last_updates",
    [(4,), *(pytest.param(n, marks=pytest.mark.slow) for n in ((1,), (6,), (13,), (3, 5, 9)))],
    ids=str,
)
def test_ended_and_resumed(last_updates, recipe, in_one_go, tmp_path):
    """By Ctrl-C during an update: the first, at a change of stage, the last but one."""
    run, done = tmp_path / "run", 0
    for last in last_updates:
        with in_update(last - done, press_ctrl_c):
            assert not train(recipe, run, resume=done > 0, is_quiet=True)
        assert checkpoint_folders(run)[-1].name == f"update-{last:08d}"
        row = rows_of(run, "train")[-1]
        assert row["update"] == last
        info = load(checkpoint_folders(run)[-1]).info
        assert info.stage == row["stage"], "that of the weights, also where a stage has just ended"
        done = last
    check_resumed(recipe, run, in_one_go)


def test_a_bad_line_after_a_resume_leaves_the_checkpoint_as_it_is(
    recipe, in_one_go, tmp_path, monkeypatch
):
    """It ended a stage: written again, its weights would count as those of the next one."""
    run = tmp_path / "run"
    with in_update(4, press_ctrl_c):
        assert not train(recipe, run, is_quiet=True)
    before = files_of(run / "checkpoints")

    def refuse(*args):
        raise DataError("a bad line")

    with monkeypatch.context() as patch:
        patch.setattr("latentcot.training.loader.Loader.update_batch", refuse)
        with pytest.raises(DataError, match="a bad line"):
            train(recipe, run, resume=True, is_quiet=True)
    assert files_of(run / "checkpoints") == before
    check_resumed(recipe, run, in_one_go)


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
    check_resumed(recipe, run, in_one_go)


@pytest.mark.parametrize(
    "last_update", [11, *(pytest.param(one, marks=pytest.mark.slow) for one in (6, 13))]
)
def test_cut_off_and_resumed(last_update, recipe, in_one_go, tmp_path):
    """What came after the newest checkpoint is forgotten, and done again."""
    run = tmp_path / "run"

    def crash(model):
        raise MemoryError

    with in_update(last_update + 1, crash), pytest.raises(MemoryError):
        train(recipe, run, is_quiet=True)
    assert _newest_update(run) == last_update
    assert checkpoint_folders(run)[-1].name < f"update-{last_update:08d}"
    check_resumed(recipe, run, in_one_go)


@pytest.mark.slow
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
    check_resumed(recipe, run, tmp_path / "in-one-go")


class Gone(StringIO):
    """A terminal that was closed."""

    def write(self, text=""):
        raise OSError(errno.EIO, "Input/output error")

    flush = write

    def isatty(self):
        return True


@pytest.mark.parametrize("others", [(), (signal.SIGHUP,), (signal.SIGTERM,)], ids=str)
def test_a_closed_terminal_leaves_a_checkpoint(others, recipe, in_one_go, tmp_path, monkeypatch):
    """Nothing can be printed any more, and kernel, shell and session each send a signal."""

    def close(model):
        monkeypatch.setattr(sys, "stderr", Gone())
        for number in (signal.SIGHUP, *others):
            signal.raise_signal(number)

    run = tmp_path / "run"
    with in_update(5, close):
        assert not train(recipe, run)
    monkeypatch.undo()
    assert checkpoint_folders(run)[-1].name == "update-00000005"
    check_resumed(recipe, run, in_one_go)


@pytest.mark.slow
def test_a_real_terminal_is_closed(make_recipe, tmp_path):
    """The command is the leader of its session, as in a window that somebody closes."""
    recipe = make_recipe(**RANDOM | {"training": {"max_updates": 180, "validate_every": 60}})
    assert train(recipe, tmp_path / "in-one-go", is_quiet=True)
    run, (window, terminal) = tmp_path / "run", os.openpty()
    code = """
import fcntl, signal, termios, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup of these tests has it ignored
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from latentcot.cli import main
from latentcot.training.loop import Trainer
step = Trainer._step
def waits(trainer):  # for the test, which may be slow to see how far it is
    time.sleep(0.1 if trainer.update >= 20 else 0)
    return step(trainer)
Trainer._step = waits
main()
"""
    words = ["train", tmp_path / "in-one-go" / "recipe.yaml", "--out", run]
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(terminal)
        seen = b""
        while process.poll() is None and _newest_update(run) < 20:
            seen += os.read(window, 1000)
        os.close(window)
        process.wait(timeout=60)
    assert b"coconut" in seen, "there was a bar"
    assert process.returncode == 130
    assert int(checkpoint_folders(run)[-1].name.removeprefix("update-")) == _newest_update(run)
    check_resumed(recipe, run, tmp_path / "in-one-go")


def _newest_update(run):
    return max((row["update"] for row in read_metrics(run)), default=0)


def test_a_finished_run_stays_as_it_is(recipe, run):
    before = files_of(run)
    assert train(recipe, run, resume=True, is_quiet=True)
    assert files_of(run) == before


@pytest.mark.parametrize("changes", [{"seed": 1}, {"training": {"max_updates": 20}}])
def test_another_recipe_is_refused(changes, make_recipe, run):
    before = files_of(run)
    with pytest.raises(RunError, match=r"another recipe .*: [\w.]+ was .*, is "):
        train(make_recipe(**RANDOM | changes), run, resume=True, is_quiet=True)
    assert files_of(run) == before


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_a_machine_settled_stays(precision, make_recipe, tmp_path, monkeypatch):
    """A run that began in bfloat16 goes on in it where there is none, and the other way round."""
    other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
    run, recipe = tmp_path / "run", make_recipe(training={"max_updates": 2})
    assert recipe.training.precision == "auto"
    for settled in (precision, other):
        monkeypatch.setattr("latentcot.training.build.fast_precision", lambda _, it=settled: it)
        assert train(recipe, run, resume=settled == other, is_quiet=True)
        assert read_recipe(run / "recipe.yaml").training.precision == precision


def test_a_newest_checkpoint_that_was_being_written_is_skipped(recipe, in_one_go, run):
    [*_, older, newest] = checkpoint_folders(run)
    (newest / "latentcot.json").unlink()
    newest.rename(newest.with_name(f".{newest.name}.123.partial"))
    (run / "checkpoints" / "best.json").unlink()  # was written after it
    assert load(run).info.update == int(older.name.removeprefix("update-"))
    check_resumed(recipe, run, in_one_go)


@pytest.mark.parametrize("name", ["model.safetensors", "training_state.pt", "latentcot.json"])
def test_a_damaged_checkpoint_is_named_and_passed_over(name, recipe, run, in_one_go, capsys):
    [*_, newest] = checkpoint_folders(run)
    file = newest / name
    file.write_bytes(file.read_bytes()[:-10])
    check_resumed(recipe, run, in_one_go)
    said = " ".join(capsys.readouterr().err.split())
    assert f"damaged: {name} is not what was written" in said
    assert f"It is now called damaged-{newest.name}. Going on from update-" in said
    assert (newest.with_name(f"damaged-{newest.name}") / name).exists()
    (checkpoint_folders(run)[-1] / "training_state.pt").unlink()
    check_resumed(recipe, run, in_one_go)
    assert "training_state.pt is missing" in capsys.readouterr().err


def test_when_all_are_damaged_the_newest_is_named_and_all_stay(recipe, run):
    folders = checkpoint_folders(run)
    for folder in folders:
        (folder / "model.safetensors").write_bytes(b"")
    before = files_of(run)
    with pytest.raises(CheckpointError, match=f"none of its {len(folders)} .*{folders[-1].name}"):
        train(recipe, run, resume=True, is_quiet=True)
    assert files_of(run) == before | {run / ".lock": b""}


def test_a_newer_format_is_not_passed_over(recipe, run):
    info = checkpoint_folders(run)[-1] / "latentcot.json"
    (info.parent / "checksums.json").unlink()
    info.write_text(json.dumps(json.loads(info.read_text()) | {"format_version": 99}))
    with pytest.raises(CheckpointError, match="newer latentcot"):
        train(recipe, run, resume=True, is_quiet=True)
    assert info.exists()


@pytest.mark.parametrize("text", ["", '{"checkpoint": "update-99999999"}'])
def test_a_damaged_pointer_to_the_best_one_is_written_again(text, recipe, run, in_one_go):
    (run / "checkpoints" / "best.json").write_text(text)
    with pytest.raises(CheckpointError, match="does not name a checkpoint"):
        load(run)
    check_resumed(recipe, run, in_one_go)
    assert load(run)


def test_a_damaged_best_checkpoint_is_told(run, capsys):
    """Training goes on from the newest, but what was best cannot be had any more."""
    older, newest = checkpoint_folders(run)[-2:]
    best = {"update": int(older.name.removeprefix("update-")), "accuracy": 1.0}
    point_to_best(run, best)
    assert load(run).info.update == best["update"]
    (older / "model.safetensors").write_bytes(b"")
    point_to_best(run, best)
    said = capsys.readouterr().err
    assert "model.safetensors is not what was written" in said
    assert "It was the best one" in said
    assert load(run).info.update == int(newest.name.removeprefix("update-"))


def test_a_run_killed_before_its_first_checkpoint_begins_again(recipe, run, in_one_go, capsys):
    shutil.rmtree(run / "checkpoints")
    assert train(recipe, run, resume=True, is_quiet=True)
    assert "has no checkpoint yet, so it begins" in " ".join(capsys.readouterr().err.split())
    assert results_of(run) == results_of(in_one_go)


def test_a_run_killed_before_it_was_one_can_be_started(recipe, in_one_go, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").touch()
    (run / ".recipe.yaml.4711.partial").write_text("data:")
    assert train(recipe, run, is_quiet=True)
    assert results_of(run) == results_of(in_one_go)


def test_two_processes_never_train_into_one_folder(recipe, run):
    with held(run):
        for options in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(RunError, match="another process is training into this folder"):
                train(recipe, run, is_quiet=True, **options)
    assert train(recipe, run, resume=True, is_quiet=True)


@pytest.mark.parametrize("num_more", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_another_number_of_threads_is_noted(num_more, recipe, tmp_path, capsys):
    """It changes the order of sums, and so the last bits. The same place is not worth a note."""
    run, before = tmp_path / "run", torch.get_num_threads()
    with in_update(6, press_ctrl_c):
        train(recipe, run, is_quiet=True)
    try:
        torch.set_num_threads(before + num_more)
        train(recipe, run, resume=True, is_quiet=True)
    finally:
        torch.set_num_threads(before)
    said = f"Note: number of threads {before + 1} instead of {before}. The result may differ"
    told = capsys.readouterr().err
    assert said in told if num_more else "Note" not in told
    (session,) = read_provenance(run)["resumed"]
    assert session["update"] == 6


def test_keep_checkpoints(recipe, in_one_go, tmp_path):
    train(recipe, tmp_path / "all", keep_checkpoints=99, is_quiet=True)
    train(recipe, tmp_path / "one", keep_checkpoints=1, is_quiet=True)
    kept = {name: [f.name for f in checkpoint_folders(tmp_path / name)] for name in ("all", "one")}
    best = json.loads((in_one_go / "checkpoints" / "best.json").read_text())["checkpoint"]
    assert set(kept["one"]) == {kept["all"][-1], best}
    assert len(kept["all"]) > 3
    with pytest.raises(UsageError, match="keep_checkpoints: must be at least 1, got 0"):
        train(recipe, tmp_path / "none", keep_checkpoints=0, is_quiet=True)


def test_a_damaged_row_in_the_middle_is_named(recipe, run):
    metrics = run / "metrics.jsonl"
    lines = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(b"".join([*lines[:3], b"\xff\x00\n", *lines[4:]]))
    with pytest.raises(RunError, match=r"metrics\.jsonl:4: is damaged"):
        train(recipe, run, resume=True, is_quiet=True)


def test_a_full_disk_under_the_metrics(recipe, in_one_go, tmp_path, monkeypatch):
    run = tmp_path / "run"
    full = "latentcot.training.loop.append_metrics"
    rows = []

    def stuck(folder, row):
        rows.append(row)
        if len(rows) == 9:
            is_full = Path("/dev/full")
            monkeypatch.setattr("latentcot.runs.folder.METRICS", is_full)  # an absolute path wins
        append_metrics(folder, row)

    monkeypatch.setattr(full, stuck)
    with pytest.raises(RunError, match="/dev/full: cannot be written: .*No space left"):
        train(recipe, run, is_quiet=True)
    monkeypatch.undo()
    check_resumed(recipe, run, in_one_go)


def test_a_lock_that_cannot_be_closed_hides_nothing(tmp_path, monkeypatch):
    """As on a network disk that has gone: the error that ended training is the one to be told."""

    def release(lock):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("latentcot.runs.folder.FileLock.release", release)
    with pytest.raises(RunError, match="what went wrong"), held(tmp_path):
        raise RunError("what went wrong")
    with held(tmp_path):
        pass


def test_without_threads_checkpoints_are_written_all_the_same(
    recipe, in_one_go, tmp_path, monkeypatch
):
    """A container may allow no more: training waits for each of them then."""
    start = Thread.start

    def refuse(thread):
        if thread.name.startswith("checkpoint"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr("threading.Thread.start", refuse)
    with in_update(6, lambda model: monkeypatch.undo()):  # and then it does
        assert train(recipe, tmp_path / "run", is_quiet=True)
    assert results_of(tmp_path / "run") == results_of(in_one_go)


def test_a_save_that_fails_ends_training_in_words(recipe, in_one_go, tmp_path, monkeypatch):
    """It takes place in a thread: it must not be lost there."""
    run, saves = tmp_path / "run", []

    def full(state, path):
        saves.append(path)
        if len(saves) == 2:
            raise RuntimeError("PytorchStreamWriter failed writing file: No space left on device")
        return save(state, path)

    save = torch.save
    monkeypatch.setattr("torch.save", full)
    with pytest.raises(RunError, match="the checkpoint cannot be written: .*No space left"):
        train(recipe, run, is_quiet=True)
    monkeypatch.undo()
    assert [path.name for path in (run / "checkpoints").iterdir() if path.is_dir()] == [
        saves[0].parent.name.split(".")[1]
    ]
    check_resumed(recipe, run, in_one_go)


def test_a_vanished_data_file_is_told(make_recipe, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "data")
    recipe = make_recipe(**RANDOM | {"data": {"train": str(copy / "train.jsonl")}})
    with in_update(6, press_ctrl_c):
        train(recipe, tmp_path / "run", is_quiet=True)
    (copy / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"train\.jsonl: cannot be read: .*No such file"):
        train(recipe, tmp_path / "run", resume=True, is_quiet=True)


def test_a_row_that_is_not_whole_is_written_again(recipe, in_one_go, tmp_path):
    run = tmp_path / "run"
    with in_update(6, press_ctrl_c):
        train(recipe, run, is_quiet=True)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "upda')
    check_resumed(recipe, run, in_one_go)


def test_what_is_no_run_is_not_resumed(recipe, tmp_path):
    with pytest.raises(RunError, match="there is no run to resume"):
        train(recipe, tmp_path / "nowhere", resume=True, is_quiet=True)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError):
        train(recipe, tmp_path / "file", resume=True, is_quiet=True)


@pytest.mark.slow
def test_two_runs_in_one_process_are_alike(recipe, tmp_path):
    """Whatever was drawn in between."""
    for name in ("a", "b"):
        train(recipe, tmp_path / name, is_quiet=True)
        torch.rand(7)
    assert results_of(tmp_path / "a") == results_of(tmp_path / "b")
