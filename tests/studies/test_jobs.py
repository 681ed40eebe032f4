"""Jobs as processes: how many at a time, on what, and how all of them end."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from latentcot import RunError
from latentcot.studies import jobs, processes
from latentcot.studies.jobs import Chain, Making, Training, run_jobs, slots_for
from latentcot.studies.processes import claim

# Commands are Python here, not `latentcot`: they start at once.
CHILD = (
    "from latentcot.studies.processes import end_with_parent; end_with_parent(); import sys; "
    "exec(sys.argv[1])"
)
WAIT = "import pathlib, time\nwhile not pathlib.Path({!r}).exists(): time.sleep(0.01)\n"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(processes, "_CHILD", CHILD)
    monkeypatch.setattr(jobs, "SECONDS_BETWEEN_LOOKS", 0.02)


class Doing(Chain):
    """Python commands one after the other; it is done once there is a file of its name."""

    def __init__(self, folder, name, *commands):
        super().__init__(name, folder / f"{name}.log")
        self.result, self.all_commands = folder / name, commands

    def is_done(self):
        return self.result.exists()

    def commands(self):
        for command in self.all_commands:
            yield [command]


def run(all_jobs, slots=(None,), on_failure=lambda job: None):
    run_jobs(all_jobs, slots, on_failure=on_failure, is_quiet=True)


def wait_for(path):
    while not path.exists():
        time.sleep(0.01)


def touch(path):
    return f"open({str(path)!r}, 'w').close()\n"


class TestPool:
    def test_commands_of_a_job_follow_each_other(self, tmp_path):
        job = Doing(tmp_path, "a", "print('one')", "print('two')", touch(tmp_path / "a"))
        run([job])
        assert job.is_over and job.is_done() and job.code is None
        assert job.log.read_text() == "one\ntwo\n"

    def test_what_is_done_is_not_begun(self, tmp_path):
        (tmp_path / "a").touch()
        run([Doing(tmp_path, "a", "print('again')")])
        assert not (tmp_path / "a.log").exists()

    def test_what_another_command_is_at_comes_last(self, tmp_path):
        """Two commands on one study share it out, where each would wait for the other's run."""
        order = f"open({str(tmp_path / 'order')!r}, 'a').write"
        first = Doing(tmp_path, "a", f"{order}('a')\n{touch(tmp_path / 'a')}")
        second = Doing(tmp_path, "b", f"{order}('b')\n{touch(tmp_path / 'b')}")
        claimed = claim(first.log)
        threading.Timer(1.0, claimed.close).start()
        run([first, second])
        assert (tmp_path / "order").read_text() == "ba"

    def test_two_run_at_a_time_and_not_three(self, tmp_path):
        """Each of the first two waits for the other; the third one finds that they have ended."""
        for_each_other = [
            Doing(
                tmp_path,
                me,
                touch(tmp_path / f"{me}-is-here") + WAIT.format(str(tmp_path / f"{other}-is-here")),
                touch(tmp_path / f"{me}-has-ended"),
            )
            for me, other in (("a", "b"), ("b", "a"))
        ]
        third = Doing(tmp_path, "c", f"import os; print(*os.listdir({str(tmp_path)!r}))")
        run([*for_each_other, third], slots=(None, None))
        assert "-has-ended" in third.log.read_text()

    def test_each_sees_the_device_of_its_slot(self, tmp_path):
        shown = (
            "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])"
        )
        first, second = (Doing(tmp_path, name, shown) for name in "ab")
        run([first, second], slots=("3", "5"))
        assert (first.log.read_text(), second.log.read_text()) == ("3 1\n", "5 1\n")

    def test_a_failure_is_told_and_stops_nothing(self, tmp_path):
        bad = Doing(tmp_path, "bad", "print('so'); sys.exit('that is why')", "print('never')")
        good = Doing(tmp_path, "good", touch(tmp_path / "good"))
        failed = []
        run([bad, good], on_failure=failed.append)
        assert failed == [bad]
        assert good.is_done()
        assert bad.code == 1
        assert bad.failure(1).endswith(f"exit code 1. The end of {bad.log}:\nthat is why")
        assert "never" not in bad.log.read_text()

    @pytest.mark.parametrize("in_the_way", ["seed-1", "seed-1.log"])
    def test_one_whose_place_is_taken_stops_nothing(self, in_the_way, tmp_path):
        bad = Training("bad", tmp_path / "seed-1")
        (tmp_path / in_the_way).touch() if in_the_way == "seed-1" else bad.log.mkdir()
        good = Doing(tmp_path, "good", touch(tmp_path / "good"))
        failed = []
        run([bad, good], on_failure=failed.append)
        assert failed == [bad] and good.is_done()
        assert f"{in_the_way}: must be " in bad.failure()

    def test_a_failure_may_stop_the_others(self, tmp_path):
        def refuse(job):
            raise RunError(job.name)

        waits = Doing(tmp_path, "waits", WAIT.format(str(tmp_path / "never")))
        bad = Doing(tmp_path, "bad", "sys.exit(2)")
        with pytest.raises(RunError, match="bad"):
            run([waits, bad], slots=(None, None), on_failure=refuse)
        assert claim(waits.log).close() is None  # nobody writes there any more

    def test_a_death_without_words_is_told_in_the_log(self, tmp_path):
        job = Doing(tmp_path, "a", "import os; os.kill(os.getpid(), 9)")
        run([job])
        assert job.code == -9
        assert job.log.read_text() == "Ended by signal 9 (SIGKILL).\n"

    def test_bars_of_many_jobs(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(jobs, "NUM_BARS", 1)
        all_jobs = [Doing(tmp_path, name, "pass") for name in "abc"]
        run_jobs(all_jobs, [None], on_failure=lambda job: None)
        assert all(job.is_over for job in all_jobs)

    def test_a_log_has_a_line_for_each_end(self, tmp_path, capsys):
        """In a terminal bars show it."""
        good, bad = Doing(tmp_path, "a", "pass"), Doing(tmp_path, "b", "1/0")
        run_jobs([good, bad], [None], on_failure=lambda job: None)
        told = capsys.readouterr().err
        assert "a · done · 1 of 2 left\n" in told
        assert "b · failed · 0 of 2 left\n" in told


STOPS = (
    "import signal\n"
    "def stop(*_): open({stopped!r}, 'w').close(); sys.exit(130)\n"
    "signal.signal(signal.SIGTERM, stop)\n" + touch("{begun}") + WAIT.format("{never}")
)


def one_that_stops(folder, name):
    """A job that runs until it is asked for its end, and leaves a file when it is."""
    names = {key: str(folder / f"{name}-{key}") for key in ("begun", "stopped", "never")}
    return Doing(folder, name, STOPS.format(**names))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_all_of_them(number, tmp_path, ctrl_c_raises):
    def interrupt():
        for name in "ab":
            wait_for(tmp_path / f"{name}-begun")
        os.kill(os.getpid(), number)

    all_jobs = [one_that_stops(tmp_path, name) for name in "abc"]
    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(all_jobs, slots=(None, None))
    thread.join()
    assert sorted(path.name for path in tmp_path.glob("*-stopped")) == ["a-stopped", "b-stopped"]
    assert not (tmp_path / "c-begun").exists()


def test_a_child_ends_when_its_parent_was_killed(tmp_path):
    """And until it has, nobody else begins what it is at."""
    job = one_that_stops(tmp_path, "a")
    parent = (
        "import sys, time\nfrom latentcot.studies import processes\n"
        "from pathlib import Path\n"
        f"processes._CHILD = {CHILD!r}\n"
        f"log = processes.claim(Path({str(job.log)!r}))\n"
        f"child = processes.start([{job.all_commands[0]!r}], log)\n"
        "time.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        wait_for(tmp_path / "a-begun")
        assert claim(job.log) is None
        process.kill()
    wait_for(tmp_path / "a-stopped")
    after = Doing(tmp_path, "a", touch(tmp_path / "a"))
    run([after])
    assert after.is_done()


@pytest.mark.parametrize(
    ("gpus", "visible", "asked", "slots"),
    [
        (2, None, (), ["0", "1"]),
        (2, None, (3,), ["0", "1", "0"]),
        (2, None, (None, ["1"]), ["1"]),
        (2, None, (2, ["1"]), ["1", "1"]),
        (2, "4,6", (), ["4", "6"]),  # by the names that this process sees
        (0, None, (), [None] * 3),  # one for each core
        (0, None, (2,), [None] * 2),
    ],
)
def test_what_runs_at_a_time(gpus, visible, asked, slots, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(jobs, "num_cores", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert slots_for(*asked) == slots


class TestCommands:
    @pytest.mark.parametrize(
        ("words", "name", "start"),
        [(["prosqa"], "data", ["data", "make"]), (["render", "in.jsonl"], "out.jsonl", ["data"])],
    )
    def test_data_are_made_once(self, words, name, start, tmp_path):
        out = tmp_path / "new" / name
        job = Making("data", tmp_path / "log", words, out)
        assert next(job.commands()) == [*start, *words]
        result = out if "render" in words else out / "data.json"
        result.parent.mkdir(parents=True, exist_ok=True)
        (result.parent / f".{result.name}.123.partial").touch()  # it was interrupted
        again = [] if "render" in words else ["--overwrite"]
        assert not job.is_done() and list(job.commands()) == [[*start, *words, *again]]
        result.touch()
        assert job.is_done() and list(job.commands()) == []
        assert not list(result.parent.glob(".begun-*"))

    def test_data_that_another_command_began_are_not_replaced(self, tmp_path):
        """Whatever a log in the folder of the study says, which may have come from elsewhere."""
        out, log = tmp_path / "precious", tmp_path / "study" / "data-00000000.log"
        log.parent.mkdir()
        log.touch()
        out.mkdir()
        (out / "train.jsonl").write_text("thesis")
        words = ["prosqa", "--out", str(out)]
        job = Making("data", log, words, out)
        assert list(job.commands()) == [["data", "make", *words]]  # which refuses it
        (out / "train.jsonl").unlink()
        next(job.commands())  # begun now, and killed
        (out / "train.jsonl").write_text("half")
        other = Making("data", log, [*words, "--seed", "1"], out)
        assert list(other.commands()) == [["data", "make", *other.words]]
        assert next(job.commands())[-1] == "--overwrite"

    @pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("elsewhere")])
    def test_a_run_that_is_no_folder_is_refused(self, make, tmp_path):
        job = Training("a", tmp_path / "seed-1")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "thesis.tex").touch()
        make(job.run)
        with pytest.raises(RunError, match="seed-1: must be the folder of a run"):
            next(job.commands())
        assert (tmp_path / "elsewhere" / "thesis.tex").exists()

    def test_what_is_no_folder_of_data_is_left_to_the_command(self, tmp_path):
        """It refuses a file in the place of a folder, and a folder in the place of a file."""
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "data.json").touch()
        (tmp_path / "file").touch()
        for words, out in (["prosqa"], "file"), (["render"], "data"):
            job = Making("data", tmp_path / "log", words, tmp_path / out)
            assert not job.is_done() and len(list(job.commands())) == 1

    def test_a_bar_follows_its_run_and_a_damaged_one_stops_nothing(self, tmp_path):
        job = Training("a", tmp_path / "a", num_updates=40)
        (tmp_path / "a").mkdir()
        row = {"kind": "valid", "update": 5, "stage": 1, "accuracy": 0.5}
        (tmp_path / "a" / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        (tmp_path / "a" / "provenance.json").write_text('{"num_updates": 10}')
        assert job.progress() == (5, "a · stage 1 · 50.0 %")
        assert job.total == 10
        (tmp_path / "a" / "metrics.jsonl").write_text("x\n" + json.dumps(row) + "\n")
        assert job.progress() == (0, "a")

    def test_a_run_is_trained_evaluated_and_done(self, tmp_path):
        job = Training("a", tmp_path / "a", limit=5)
        result = tmp_path / "a" / "evals" / "test-first-5.json"
        train, evaluate = job.commands()
        assert train == [
            "train", str(tmp_path / "a.yaml"), "--out", str(tmp_path / "a"), "--quiet"
        ]  # fmt: skip
        assert evaluate[:2] == ["eval", str(tmp_path / "a")]
        assert evaluate[evaluate.index("--limit") + 1] == "5"
        assert evaluate[evaluate.index("--out") + 1] == str(result)
        result.parent.mkdir(parents=True)
        result.touch()
        assert job.is_done() and list(job.commands()) == []

    @pytest.mark.parametrize("name", ["checkpoints/update-00000005/x", ".recipe.yaml.1.partial"])
    def test_one_with_a_checkpoint_resumes_and_any_other_starts_again(self, name, tmp_path):
        """Even if it did not come to its recipe.yaml, so that `--overwrite` would refuse it."""
        left = tmp_path / "a" / name
        left.parent.mkdir(parents=True)
        left.touch()
        train, _ = Training("a", tmp_path / "a").commands()
        assert ("--resume" in train) == left.exists() == ("update" in name)


@pytest.mark.parametrize(
    "make",
    [Path.mkdir, lambda path: path.symlink_to("elsewhere"), os.mkfifo],
    ids=["folder", "link", "pipe"],
)
def test_a_log_is_a_file(make, tmp_path):
    """No pipe is waited for, and nothing is written through a link of a stranger's study."""
    (tmp_path / "elsewhere").touch()
    make(tmp_path / "seed-1.log")
    with pytest.raises(RunError, match=r"seed-1\.log: must be a file"):
        claim(tmp_path / "seed-1.log")
    with pytest.raises(RunError, match=r"elsewhere"):
        claim(tmp_path / "elsewhere" / "seed-1.log")
