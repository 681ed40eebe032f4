"""Runs kept on another file system: what is torn on its way never counts, and nothing is lost."""

import os
import shutil
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from fake_runs import add_checkpoint, write
from latentcot import RunError, UsageError
from latentcot.runs.checkpoint_folders import checkpoint_folders, prune_checkpoints
from latentcot.studies import processes, worker
from latentcot.studies.processes import claim
from latentcot.studies.remote import RemoteFolder, RunCopy, StudyFolder, is_url, opened
from latentcot.studies.worker import Order, Outcome, work

NAME = "a/cot/seed-0"


@pytest.fixture(params=["memory", "file"])
def remote(request, tmp_path):
    """A new folder, in memory and on disk."""
    if request.param == "file":
        return RemoteFolder(f"file://{tmp_path}/remote")
    return RemoteFolder(f"memory://{uuid.uuid4().hex}/study")


@pytest.fixture
def copy(remote, tmp_path):
    """A run that is trained here and kept there."""
    return RunCopy(remote, NAME, tmp_path / "here")


@pytest.fixture
def fetched(remote, tmp_path):
    """A function () → the run as another machine gets it."""

    def make():
        shutil.rmtree(tmp_path / "there", ignore_errors=True)
        RunCopy(remote, NAME, tmp_path / "there").fetch()
        return tmp_path / "there" / NAME

    return make


def contents(run):
    """Return name → text of every file of a run, but for the lock, which stays where it is."""
    return {
        path.relative_to(run).as_posix(): path.read_text()
        for path in run.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def updates_of(run):
    return [int(folder.name[-8:]) for folder in checkpoint_folders(run)]


class TestFolder:
    def test_brings_what_was_sent(self, remote, tmp_path):
        write(tmp_path / "a" / "b.txt", "text")
        remote.put_changed(tmp_path, ["a/b.txt"])
        remote.put(tmp_path / "a" / "b.txt", "a/c/d.txt")
        assert remote.files() == ["a/b.txt", "a/c/d.txt"]
        assert remote.files("a/c") == ["a/c/d.txt"] == remote.files("a/c/d.txt")
        assert remote.files("b") == []
        remote.get("a/b.txt", tmp_path / "new" / "there")
        assert (tmp_path / "new" / "there").read_text() == "text"
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["there"]
        remote.delete("a")
        assert remote.files() == []

    def test_sends_what_has_changed_only(self, remote, tmp_path):
        write(tmp_path / "a", "1")
        remote.put_changed(tmp_path, "a")
        remote.delete("a")
        remote.put_changed(tmp_path, "a")
        assert remote.files() == ["a"]  # what was deleted is sent again
        RemoteFolder(remote.url).delete("a")
        remote.put_changed(tmp_path, "a")
        assert remote.files() == []
        write(tmp_path / "a", "22")
        remote.put_changed(tmp_path, "a")
        assert remote.files() == ["a"]

    def test_a_torn_upload_leaves_what_was_there(self, remote, tmp_path, monkeypatch):
        write(tmp_path / "a", "old")
        remote.put_changed(tmp_path, "a")
        write(tmp_path / "a", "newer")

        def tear(path, content):
            remote.fs.open(path, "wb").close()
            raise OSError("the network is gone")

        monkeypatch.setattr(remote.fs, "pipe_file", tear)
        with pytest.raises(OSError, match="network"):
            remote.put_changed(tmp_path, "a")
        assert remote.files() == ["a"]
        remote.get("a", tmp_path / "there")
        assert (tmp_path / "there").read_text() == "old"

    def test_a_key_that_leads_out_is_passed_over(self, remote, monkeypatch):
        monkeypatch.setattr(remote.fs, "exists", lambda path: True)
        monkeypatch.setattr(remote.fs, "find", lambda path: ["../x", "a/../../y", "a//b", "good"])
        assert remote.files() == ["good"]

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("nothing://bucket/x", "this file system cannot be used"),
            ("file:///", "file:///: names no folder"),  # it would be that of the command
        ],
    )
    def test_what_is_no_folder_is_refused(self, url, message):
        with pytest.raises(UsageError, match=message):
            RemoteFolder(url)

    @pytest.mark.parametrize("name", ["with blank", "100%", "a%20b", "a#b?c", "[x]*"])
    def test_odd_names(self, name, tmp_path):
        write(tmp_path / f"{name}.txt", "text")
        odd = RemoteFolder(f"file://{tmp_path}/{name}")
        odd.put_changed(tmp_path, [f"{name}.txt"])
        assert odd.files() == [f"{name}.txt"]
        assert (tmp_path / name / f"{name}.txt").read_text() == "text"

    def test_urls(self):
        assert is_url("s3://bucket/x") and is_url("file:///x")
        assert not is_url("/runs/x") and not is_url(Path("runs"))


class TestRun:
    def test_comes_back_as_it_was(self, copy, remote, fetched):
        add_checkpoint(copy.run, 4)
        write(copy.run / "recipe.yaml")
        write(copy.run / "evals" / "test.json")
        write(copy.run / ".recipe.yaml.1.partial", "torn")
        write(copy.run.with_name("seed-0.log"), "printed\n")
        copy.push()
        add_checkpoint(copy.run, 8)
        assert copy.has_new_checkpoint()
        copy.push()
        assert not copy.has_new_checkpoint()
        (copy.run / ".recipe.yaml.1.partial").unlink()
        remote.put(copy.run / "recipe.yaml", f"{NAME}.yaml")  # as the study sends it
        again = fetched()
        assert contents(again) == contents(copy.run)
        assert again.with_name("seed-0.log").read_text() == "printed\n"
        assert again.with_name("seed-0.yaml").is_file()

    def test_what_training_has_deleted_goes_there_too(self, copy, remote, fetched):
        for update in (4, 8, 12):
            add_checkpoint(copy.run, update)
            copy.push()
        prune_checkpoints(copy.run, 1)
        copy.push()
        assert contents(fetched()) == contents(copy.run)
        assert not remote.files(f"{NAME}/checkpoints/update-00000004")

    def test_wherever_it_is_torn_the_one_before_is_whole(
        self, remote, fetched, tmp_path, monkeypatch
    ):
        """Each operation in its turn is the last one of a worker; another worker resumes."""
        before, after = tmp_path / "before", tmp_path / "after"
        add_checkpoint(before / NAME, 4)
        add_checkpoint(after / NAME, 8)
        newest, is_torn = [], True
        while is_torn:
            if newest:
                remote.delete("a")
            RunCopy(remote, NAME, before).push()
            copy = RunCopy(RemoteFolder(remote.url), NAME, tmp_path / "copy")
            copy.fetch()
            shutil.rmtree(copy.run)
            shutil.copytree(after / NAME, copy.run)
            with monkeypatch.context() as patch, suppress(ConnectionError):
                tear_after(copy.remote, len(newest), patch)
                copy.push()
                is_torn = False
            found = fetched()
            newest.append(updates_of(found)[-1])
            rows = (found / "metrics.jsonl").read_text().splitlines()
            assert len(rows) >= newest[-1]  # those before it are there
            shutil.rmtree(tmp_path / "copy")
        assert newest == sorted(newest) and len(newest) > 6
        assert (newest[0], newest[-1]) == (4, 8)

    def test_one_that_has_changed_there_is_passed_over(self, copy, remote, fetched, tmp_path):
        add_checkpoint(copy.run, 4)
        add_checkpoint(copy.run, 8)
        copy.push()
        write(tmp_path / "other", "something else")
        remote.put(tmp_path / "other", f"{NAME}/checkpoints/update-00000008/model.safetensors")
        found = fetched()
        assert updates_of(found) == [4]
        assert not [path for path in (found / "checkpoints").iterdir() if "partial" in path.name]

    @pytest.mark.parametrize("after", ["put", "put_changed"])
    def test_one_that_training_deletes_meanwhile_is_left(
        self, after, copy, remote, fetched, monkeypatch
    ):
        """Half sent or not at all. And the older one stays there, though it is no longer here."""
        add_checkpoint(copy.run, 4)
        copy.push()
        shutil.rmtree(checkpoint_folders(copy.run)[0])
        add_checkpoint(copy.run, 8)
        send = getattr(remote, after)

        def send_and_delete(*arguments):
            send(*arguments)
            shutil.rmtree(copy.run / "checkpoints" / "update-00000008", ignore_errors=True)

        monkeypatch.setattr(remote, after, send_and_delete)
        copy.push()
        monkeypatch.undo()
        assert updates_of(fetched()) == [4]
        add_checkpoint(copy.run, 12)
        copy.push()
        assert updates_of(fetched()) == [12]

    def test_what_training_deletes_while_it_is_looked_at_is_no_death(
        self, copy, remote, monkeypatch
    ):
        scandir = os.scandir
        add_checkpoint(copy.run, 4)
        write(copy.run / "checkpoints" / ".update-00000002.old.partial" / "model.safetensors")

        def gone(path):
            if ".old.partial" in str(path):
                raise FileNotFoundError(path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", gone)
        copy.push()
        monkeypatch.undo()
        assert "old" not in str(remote.files())


def tear_after(remote, number, patch):
    """Let all operations behind the first `number` ones fail."""
    done = []

    def counted(do):
        def wrapped(*arguments, **options):
            done.append(do)
            if len(done) > number:
                raise ConnectionError("the worker is gone")
            return do(*arguments, **options)

        return wrapped

    for name in ("put_file", "pipe_file", "mv", "rm"):
        patch.setattr(remote.fs, name, counted(getattr(remote.fs, name)))


class TestStudy:
    def test_a_task_whose_name_holds_a_dot_is_no_file(self, remote, tmp_path):
        write(tmp_path / "here" / "gsm.v2" / "cot" / "seed-0.yaml")
        StudyFolder(tmp_path / "here", remote).push()
        assert "gsm.v2/cot/seed-0.yaml" in remote.files()

    def test_holds_the_results_and_the_names_of_checkpoints(self, copy, remote, tmp_path):
        add_checkpoint(copy.run, 4)
        write(copy.run / "recipe.yaml")
        write(copy.run / "evals" / "test.json")
        write(copy.run.with_name("seed-0.log"))
        copy.push()
        for name in ("study.yaml", "large.bin"):
            write(tmp_path / name, "tasks: {}")
            remote.put(tmp_path / name, name)
        study = StudyFolder(tmp_path / "there", remote)
        assert contents(study.folder).keys() == {
            "study.yaml", f"{NAME}.log",
            *(f"{NAME}/{name}" for name in ("recipe.yaml", "metrics.jsonl", "evals/test.json")),
        }  # fmt: skip
        assert checkpoint_folders(study.folder / NAME)
        write(copy.run / "evals" / "test.json", "new result")
        copy.push()
        study.fetch(NAME)
        assert (study.folder / NAME / "evals" / "test.json").read_text() == "new result"

    def test_sends_what_the_study_writes(self, remote, tmp_path):
        study = StudyFolder(tmp_path, remote)
        for name in ("study.yaml", "table.md", "a/cot/seed-0.yaml", ".x.1.partial"):
            write(tmp_path / name)
        study.push()
        assert remote.files() == ["a/cot/seed-0.yaml", "study.yaml", "table.md"]
        (tmp_path / "table.md").unlink()
        study.push(overwrite=True)
        assert remote.files() == ["a/cot/seed-0.yaml", "study.yaml"]

    def test_what_makes_it_a_study_is_deleted_last(self, remote, tmp_path, monkeypatch):
        """Otherwise a torn `--overwrite` would leave what nothing can delete."""
        for name in ("study.yaml", "table.md", "z"):
            write(tmp_path / name)
            remote.put(tmp_path / name, name)
        deleted = []
        monkeypatch.setattr(remote, "delete", deleted.append)
        StudyFolder(tmp_path / "there", remote).push(overwrite=True)
        assert sorted(deleted) == ["study.yaml", "table.md", "z"] and deleted[-1] == "study.yaml"

    def test_something_else_is_refused(self, remote, tmp_path):
        write(tmp_path / "thesis.txt")
        remote.put_changed(tmp_path, ["thesis.txt"])
        with pytest.raises(RunError, match=r"holds something else than a study"):
            StudyFolder(tmp_path / "there", remote)

    def test_messages_name_what_was_given(self, tmp_path):
        url = f"file://{tmp_path}/study"
        with pytest.raises(RunError, match=f"^{url}/a: so$"), opened(url) as place:
            raise RunError(f"{place.folder}/a: so")

    def test_what_a_file_system_says_is_told(self, remote, tmp_path, monkeypatch):
        study = StudyFolder(tmp_path, remote)
        write(tmp_path / "study.yaml")

        def fail(*arguments, **options):
            raise ValueError("no credentials")  # each has errors of its own

        monkeypatch.setattr(remote.fs, "exists", fail)
        monkeypatch.setattr(remote.fs, "pipe_file", fail)
        for do in (lambda: study.fetch(NAME), study.push, lambda: StudyFolder(tmp_path, remote)):
            with pytest.raises(RunError, match=f"^{remote.url}: cannot be read or written: no cre"):
                do()

    def test_what_only_one_process_sees_is_refused(self):
        with (
            pytest.raises(UsageError, match="no other process sees memory://x"),
            opened("memory://x"),
        ):
            pass

    def test_a_folder_is_used_as_it_is(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with opened("runs/x") as place:
            assert place.folder == Path("runs/x")
            assert place.name == f"{tmp_path}/runs/x"


# A training that takes no time: it writes checkpoint 4, waits, and writes 8 and its end.
CHILD = """
import os, signal, sys, time
from pathlib import Path
from latentcot.studies.processes import end_with_parent
sys.path.insert(0, {tests!r})
from fake_runs import add_checkpoint, write
stops = []
signal.signal(signal.SIGTERM, lambda *_: stops.append(1))
end_with_parent()
command, *words = sys.argv[1:]
print(command, *(word for word in words if word == "--resume"), flush=True)
run = Path(words[words.index("--out") + 1])
if command == "eval":
    write(run, "result")
    sys.exit()
held = sorted(path.name for path in run.glob("checkpoints/update-*"))
print("found", held, flush=True)
how = Path({how!r}).read_text()
if how == "refuse":
    sys.exit("DataError: no")
if how == "stopped":
    sys.exit(130)
write(run / "recipe.yaml")
if not held:
    add_checkpoint(run, 4)
if how == "die":
    os.kill(os.getpid(), signal.SIGKILL)
while how == "wait" and not stops:
    time.sleep(0.01)
if stops:
    add_checkpoint(run, 6)
    sys.exit(130)
add_checkpoint(run, 8)
"""


@pytest.fixture
def at(tmp_path, monkeypatch):
    """A function (how its training goes, out=…, data=…) → what `work` makes of an order."""
    how_file = tmp_path / "how"
    tests = str(Path(__file__).parents[1])
    monkeypatch.setattr(processes, "_CHILD", CHILD.format(tests=tests, how=str(how_file)))
    monkeypatch.setattr(worker, "SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(worker.tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    sources = {"train": "none.jsonl", "valid": "hub:x:y", "test": None}

    def make(how, out="remote", report=lambda done, text: False, data=(), is_seen=True):
        write(how_file, how)
        if is_seen:
            recipe = yaml.safe_dump({"data": {**sources, **dict(data)}})
            write(tmp_path / out / f"{NAME}.yaml", recipe)
        url = f"file://{tmp_path}/{out}" if out == "remote" else f"{tmp_path}/{out}"
        return work(Order(NAME, url, str(tmp_path)), report)

    return make


class TestWorker:
    @pytest.fixture
    def there(self, tmp_path):
        return tmp_path / "remote" / NAME

    @pytest.fixture
    def log(self, there):
        """A function () → what the commands of the run have printed."""
        return there.with_name("seed-0.log").read_text

    @pytest.fixture
    def claimed(self, tmp_path):
        """The log in its scratch folder, as what a killed worker has left holds it."""
        order = Order(NAME, f"file://{tmp_path}/remote", "")
        with claim(worker.scratch_folder(order) / f"{NAME}.log") as file:
            yield file

    def test_trains_and_evaluates_elsewhere(self, at, there, tmp_path):
        assert at("end").failure is None
        assert (there / "evals" / "test.json").read_text() == "result"
        assert updates_of(there) == [4, 8]
        assert list((tmp_path / "tmp").glob("*/*")) == []  # nothing is left on this machine

    def test_resumes_from_what_another_machine_has_sent(self, at, log):
        first = at("die")
        assert first.has_died and first.failure == "a command ended with exit code -9."
        assert log().endswith("(SIGKILL).\n")
        assert at("end").failure is None
        assert "train --resume\nfound ['update-00000004']\neval\n" in log()

    def test_a_new_checkpoint_is_sent_at_once_and_that_of_its_end(self, at, there):
        """And not with what is sent now and then."""
        looks = []

        def report(done, text):
            looks.append(bool(checkpoint_folders(there)))
            return looks[-1] or len(looks) > 500

        outcome = at("wait", report=report)
        assert looks[-1]
        assert outcome == Outcome() and updates_of(there) == [4, 6]

    def test_a_file_system_that_is_away_for_a_while_costs_no_training(
        self, at, there, log, monkeypatch
    ):
        push, tries = RunCopy.push, []

        def fail_at_first(copy):
            tries.append(1)
            if len(tries) < 3:
                raise ConnectionError("away")
            push(copy)

        monkeypatch.setattr(RunCopy, "push", fail_at_first)
        monkeypatch.setattr(worker, "SECONDS_BETWEEN_PUSHES", 0.05)
        outcome = at("wait", report=lambda done, text: bool(checkpoint_folders(there)))
        assert outcome.failure is None and len(tries) >= 3
        assert updates_of(there) == [4, 6]
        assert log().count("Not sent, and tried again in 0 s: away") == 2

    def test_a_command_that_somebody_else_has_stopped_is_tried_again(self, at):
        assert at("stopped").has_died

    def test_a_failure_is_told_and_is_no_death(self, at, tmp_path):
        outcome = at("refuse")
        assert not outcome.has_died
        for part in (
            f"The end of file://{tmp_path}/remote/{NAME}.log:\n",
            "DataError: no",
            "does not see none.jsonl (from ",
            "name files by a path that all of them see",
        ):
            assert part in outcome.failure

    def test_a_shared_folder_is_trained_in(self, at, tmp_path):
        outcome = at("end", "shared", is_seen=False)
        assert "does not see the study in this folder" in outcome.failure
        assert at("end", "shared").failure is None
        assert (tmp_path / "shared" / NAME / "evals" / "test.json").read_text() == "result"
        assert list((tmp_path / "tmp").iterdir()) == []

    def test_waits_for_what_a_dead_worker_has_left(self, at, claimed):
        def report(done, text):
            if "waits for an earlier try" in text:
                claimed.close()
            return False

        assert at("end", report=report).failure is None
        assert claimed.closed

    def test_one_that_waits_so_can_be_stopped(self, at, claimed, there):
        assert at("end", report=lambda done, text: "waits" in text) == Outcome()
        assert not there.exists()

    def test_what_cannot_be_sent_leaves_nothing_behind(self, at, tmp_path, monkeypatch):
        def fail(self):
            raise ConnectionError("no network")

        monkeypatch.setattr(RunCopy, "push", fail)
        with pytest.raises(ConnectionError):  # of Ray an end that is tried again
            at("end")
        assert list((tmp_path / "tmp").glob("*/*")) == []

    def test_a_pattern_of_files_is_seen(self, at, tmp_path):
        write(tmp_path / "parts" / "1.jsonl")
        changes = {"train": f"{tmp_path}/parts/*.jsonl", "valid": f"{tmp_path}/parts"}
        assert "does not see" not in at("refuse", data=changes).failure
        changes["train"] = f"{tmp_path}/none/*.jsonl"
        assert f"does not see {changes['train']} (" in at("refuse", data=changes).failure

    def test_a_scratch_folder_of_somebody_else_is_refused(self, at, tmp_path, monkeypatch):
        before = worker.os.getuid()
        (tmp_path / "tmp" / f"latentcot-{before + 1}").mkdir()
        monkeypatch.setattr(worker.os, "getuid", lambda: before + 1)
        assert "belongs to another user" in at("end").failure


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "s3://bucket/x"), "A URL needs --backend ray"),
        (("--address", "auto"), "--address: is that of a Ray cluster. Give --backend ray too."),
        (("--backend", "ray"), "`pip install 'latentcot[ray]'` does that"),
    ],
)
def test_without_ray(words, message, recipe_file, tmp_path, latentcot, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "latentcot.studies.ray", raising=False)
    out = () if "--out" in words else ("--out", tmp_path / "out")
    ended = latentcot("study", recipe_file, *out, *words)
    assert ended.code == 2 and message in ended.err
    assert not (tmp_path / "out").exists()
