"""Studies on Ray: tasks that die are tried again; where marked, on a real cluster."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from fake_runs import assert_same_as_in_one_go
from latentcot import RunError, UsageError
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import read_metrics
from latentcot.studies.jobs import Training, run_jobs
from latentcot.studies.study import Asked, Resources
from latentcot.studies.worker import Order, Outcome

pytest.importorskip("ray", reason="Ray is an extra: pip install -c constraints.txt -e '.[ray]'")

from latentcot.studies import ray as ray_studies

# Long enough that it cannot be over before a kill arrives.
LONG = {"training.max_updates": 300, "training.validate_every": 25}
METHODS = ("cot", "no-cot", "coconut")
NUM_CELLS = 12


class FakeCluster:
    """Tasks whose ends are known before; the board has seen those that were begun."""

    def __init__(self, *ends):
        self.ends, self.num_started, self.is_stopping = list(ends), 0, False
        self.is_own, self.cancelled = True, []
        stop = SimpleNamespace(remote=self.stop)
        self.board = SimpleNamespace(stop=stop)

    def stop(self):
        self.is_stopping = True

    def start(self, order, number, needs):
        assert number == self.num_started
        self.num_started += 1
        return self.ends.pop(0)

    def report_of(self, name, number):
        return 10 * number, f"{name} · try {number}"


def ended(task):
    """What Ray gives for a task: an outcome, or the death of its worker."""
    if isinstance(task, Exception):
        raise task
    return task


DEATH = ray_studies.RayError("a word\nthe node is gone")


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A function (end of each try) → a task of Ray; `result=False` if nothing comes of it."""
    fake = SimpleNamespace(wait=lambda tasks, timeout: (tasks, []), get=ended)
    monkeypatch.setattr(ray_studies, "ray", fake)
    monkeypatch.setattr("latentcot.studies.jobs.SECONDS_BETWEEN_LOOKS", 0.0)
    training = Training("a", tmp_path / "a")

    def fetch(name):
        training.result.parent.mkdir(parents=True)
        training.result.touch()

    def make(*ends, result=True, max_retries=3):
        order = Order("a", "out", "")
        bring = fetch if result else lambda name: None
        return ray_studies.RayJob(FakeCluster(*ends), training, order, {}, max_retries, bring)

    return make


def run(job):
    failed = []
    run_jobs([job], [None], on_failure=failed.append, is_quiet=True)
    return failed


class TestJob:
    def test_its_result_is_brought(self, job):
        one = job(Outcome())
        assert run(one) == [] and one.is_done() and one.is_over
        assert run(one) == [] and one.cluster.num_started == 1  # what is done is not begun

    def test_what_dies_is_tried_again(self, job, capsys):
        one = job(DEATH, Outcome("exit code -9", has_died=True), Outcome())
        assert run(one) == [] and one.cluster.num_started == 3
        assert one.progress() == (20, "a · try 2")
        told = capsys.readouterr().err
        assert "a: its worker died: RayError: the node is gone\nTrying again, 1 of 3" in told
        assert "a: its worker died: exit code -9\nTrying again, 2 of 3" in told

    def test_a_new_try_is_not_at_work_before_it_has_begun(self, job):
        """Ctrl-C would wait for it, and it may wait for a machine that never comes."""
        one = job(DEATH, Outcome())
        one.begin(None)
        one.move_on()
        assert one.number == 1 and not one.is_at_work

    def test_but_not_for_ever(self, job):
        one = job(DEATH, DEATH, DEATH, max_retries=2)
        assert run(one) == [one]
        assert "its worker died 3 times, at last: RayError: the node is gone" in one.failure(5)

    def test_an_error_of_ours_is_not_tried_again(self, job):
        one = job(Outcome("DataError: so"))
        assert run(one) == [one] and one.failure(5) == "DataError: so"

    def test_an_end_without_result_is_a_failure(self, job):
        one = job(Outcome(), result=False)
        assert run(one) == [one]
        assert "its result is not at out/a/evals/test.json. Give" in one.failure(5)

    def test_results_that_cannot_be_brought_are_a_failure_of_this_run(self, job):
        one = job(Outcome())

        def fail(name):
            raise RunError("no network")

        one.fetch = fail
        assert run(one) == [one] and one.failure(5) == "no network"


class TestEnd:
    """Ctrl-C: training writes a checkpoint first, and what waits is not begun."""

    @pytest.mark.parametrize("is_at_work", [True, False])
    def test_all_are_told_and_those_that_wait_are_cancelled(self, is_at_work, job, monkeypatch):
        one, cancelled = job(Outcome()), []
        monkeypatch.setattr(ray_studies.ray, "cancel", cancelled.append, raising=False)
        one.begin(None)
        one.is_at_work = is_at_work
        one.terminate()
        assert one.cluster.is_stopping and bool(cancelled) == (not is_at_work)

    def test_the_board_passes_it_on(self):
        board = ray_studies.Board()
        assert not board.report("a", 0, 5, "half")
        board.stop()
        assert board.report("a", 0, 6, "more")
        assert board.read() == {"a": (0, 6, "more")}

    def test_what_an_earlier_try_has_reported_is_not_of_this_one(self, monkeypatch):
        cluster = object.__new__(ray_studies.Cluster)
        cluster._reports, cluster._last_read = {"a": (0, 5, "half")}, float("inf")
        assert cluster.report_of("a", 0) == (5, "half")
        assert cluster.report_of("a", 1) is None and cluster.report_of("b", 0) is None


class TestNeeds:
    @pytest.fixture
    def jobs(self, monkeypatch, tmp_path):
        """A function (resources of a run) → the jobs of a study of it, on one machine."""
        nodes = [{"Alive": True, "Resources": {"CPU": 4.0, "memory": 8e9}},
                 {"Alive": False, "Resources": {"CPU": 64.0}}]  # fmt: skip
        monkeypatch.setattr(ray_studies, "ray", SimpleNamespace(nodes=lambda: nodes))
        study = SimpleNamespace(evaluate=Asked(), max_retries=3)
        place = SimpleNamespace(name="out", fetch=None)

        def make(num_gpus=0, is_own=True, **resources):
            nodes[0]["Resources"]["GPU"] = num_gpus
            cell = SimpleNamespace(name="a", resources=Resources(**resources))
            trainings = [Training("a", tmp_path / "a")]
            cluster = SimpleNamespace(is_own=is_own)
            return ray_studies.ray_jobs(cluster, study, [cell], trainings, place)

        return make

    def test_a_gpu_where_there_are_any(self, jobs):
        assert [(job.needs, job.order.device) for job in jobs()] == [({"CPU": 1, "GPU": 0}, "")]
        [job] = jobs(8)
        assert (job.needs, job.order.device) == ({"CPU": 1, "GPU": 1}, None)
        [job] = jobs(8, cpus=2, gpus=0.5, memory=10**9)
        assert job.needs == {"CPU": 2, "GPU": 0.5, "memory": 10**9}

    @pytest.mark.parametrize(
        ("resources", "is_there"),
        [
            ({"cpus": 4}, True),
            ({"cpus": 5}, False),  # a machine that is gone has them
            ({"gpus": 1}, False),
            ({"memory": 9 * 10**9}, False),
        ],
    )
    def test_what_no_machine_has_is_told(self, resources, is_there, jobs, capsys):
        if not is_there:
            with pytest.raises(UsageError, match="a: asks for .*no machine"):
                jobs(**resources)
        jobs(is_own=False, **resources)  # another machine may join it
        assert ("Runs that wait for one: 1." in capsys.readouterr().err) == (not is_there)


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "auto"])
def test_a_cluster_that_does_not_answer_is_refused_at_once(address, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")  # what `auto` finds
    monkeypatch.setattr(ray_studies.ray, "init", None)
    with (
        pytest.raises(UsageError, match=rf"no Ray cluster at '.*': 127\.0\.0\.1:{port}: .*refused"),
        ray_studies.joined(address.format(port)),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "is_quiet", "told"),
    [
        ("auto", False, "Joined the cluster at 10.0.0.1:6379: 2 machines, 1 CPU, 0 GPUs\n"),
        ("10.0.0.1:6379", True, ""),
        (None, False, ""),
    ],
)
def test_the_cluster_that_was_joined_is_named(address, is_quiet, told, monkeypatch, capsys):
    context = SimpleNamespace(gcs_address="10.0.0.1:6379")
    fake = SimpleNamespace(
        init=lambda **options: None,
        shutdown=lambda: None,
        nodes=lambda: [{"Alive": True}, {"Alive": False}, {"Alive": True}],
        cluster_resources=lambda: {"CPU": 1.0},
        get_runtime_context=lambda: context,
    )
    monkeypatch.setattr(ray_studies, "ray", fake)
    monkeypatch.setattr(ray_studies, "refuse_unreachable", lambda address: None)
    monkeypatch.setattr(ray_studies, "Cluster", lambda is_own: is_own)
    for name in ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "0")  # `joined` sets them
    with ray_studies.joined(address, is_quiet=is_quiet) as is_own:
        assert is_own == (address is None)
    assert capsys.readouterr().err == told


# --- on a real cluster ------------------------------------------------------------------------


@pytest.fixture
def study(recipe_file):
    """A function (key=value, …) → a study file of 12 tiny runs."""

    def make(**changes):
        values = {
            "tasks": {"one": "recipe.yaml", "two": {"recipe": "recipe.yaml", "seed": 0}},
            "methods": list(METHODS),
            "seeds": [0, 1],
            "set": LONG,
            "resources": {"cpus": 2},
            **changes,
        }
        path = recipe_file.parent / "study.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return make


def started(path, out):
    """Start the study on a cluster of its own; what it prints comes with `communicate`."""
    words = [sys.executable, "-m", "latentcot", "study", path, "--out", out, "--backend", "ray"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(process):
    """Return exit code, what was printed, and what was told."""
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def trainings():
    """Return pid → (parent, words) of the trainings on this machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if "train" in words and "--out" in words:
                found[int(folder.name)] = parent, words
    return found


def kill_worker_of(run, there, process):
    """Kill the worker of a run with SIGKILL once it has a checkpoint there."""
    while not checkpoint_folders(there):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    [worker] = [parent for parent, words in trainings().values()
                if words[words.index("--out") + 1].endswith(run)]  # fmt: skip
    os.kill(worker, signal.SIGKILL)


def assert_was_resumed(out, name, tmp_path, latentcot):
    """It has been resumed from a checkpoint, and gives what it would have given in one go."""
    sessions = json.loads((out / name / "provenance.json").read_text())["resumed"]
    assert sessions and sessions[0]["update"] > 0
    recipe, unbroken = out / f"{name}.yaml", tmp_path / "in-one-go" / name
    assert_same_as_in_one_go(out / name, recipe, unbroken, latentcot)


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "file://"], ids=["shared folder", "URL"])
def test_a_worker_is_killed_and_nothing_is_lost(before, study, tmp_path, latentcot):
    out, name = tmp_path / "out", "one/coconut/seed-0"
    with started(study(), f"{before}{out}") as process:
        kill_worker_of(name, out / name, process)
        code, printed, told = finished(process)
    assert code == 0, told
    results = sorted(out.glob("*/*/seed-*/evals/test.json"))
    assert len(results) == NUM_CELLS
    assert all(checkpoint_folders(path.parent.parent)[-1].name == "update-00000300"
               for path in results)  # fmt: skip
    assert told.count("Trying again") == 1 and f"{name}: its worker died: " in told
    assert "(raylet)" not in printed + told and "Traceback" not in printed + told
    assert len(json.loads((out / "table.json").read_text())["rows"]) == 2 * len(METHODS)
    assert_was_resumed(out, name, tmp_path, latentcot)


@pytest.mark.slow
def test_an_interruption_a_killed_driver_and_a_failure(study, tmp_path, latentcot):
    """Ctrl-C, then SIGKILL of the driver, then to the end: but for one run, which cannot work."""
    bad = {"bad": {"method": "cot", "model.num_positions": 8}}
    path = study(
        tasks={"one": "recipe.yaml"},
        methods=[bad, "coconut", "cot"],
        seeds=[0],
        resources={},
        set={**LONG, "training.max_updates": 1500},
    )
    out = tmp_path / "out"
    runs = [out / "one" / method / "seed-0" for method in ("coconut", "cot")]
    for number, how in enumerate((signal.SIGINT, signal.SIGKILL), start=1):
        with started(path, out) as process:
            while not all(len(read_metrics(run)) >= 200 * number for run in runs):
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            process.send_signal(how)
            code, _, told = finished(process)
        if how == signal.SIGINT:
            assert code == 130 and "The same command resumes" in told
            assert all("Stopped after" in run.with_name("seed-0.log").read_text() for run in runs)
            assert not [1 for _, words in trainings().values() if {*map(str, runs)} & {*words}]
    with started(path, out) as process:
        code, _, told = finished(process)
    assert code == 1
    assert "1 of 3 runs failed" in told and "DataError: example 'train-0': needs" in told
    assert "Trying again" not in told
    for run in runs:
        assert_was_resumed(out, str(run.relative_to(out)), tmp_path, latentcot)
