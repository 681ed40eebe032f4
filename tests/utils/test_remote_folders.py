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
from latentcot.studies import worker as worker
from latentcot.studies.places import StudyCopy, opened
from latentcot.studies.remote_runs import RunCopy
from latentcot.studies.worker import Order, Outcome, work
from latentcot.utils import processes
from latentcot.utils.processes import claim
from latentcot.utils.remote import RemoteFolder, is_url

NAME = "a/cot/seed-0"


@pytest.fixture(params=["memory", "file"])
def remote(request, tmp_path):
    """A new folder, in memory and on disk."""
    if request.param == "file":
        return RemoteFolder(f"file://{tmp_path}/remote")
    return RemoteFolder(f"memory://{uuid.uuid4().hex}/study")


def contents(run):
    """Return name → text of every file of a run, but for the lock, which stays where it is."""
    return {
        path.relative_to(run).as_posix(): path.read_text()
        for path in run.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def fetched(remote, to):
    """Bring the run to a new folder; return that."""
    shutil.rmtree(to, ignore_errors=True)
    RunCopy(remote, NAME, to / NAME).fetch()
    return to / NAME


class TestFolder:
    def test_brings_what_was_sent(self, remote, tmp_path):
        write(tmp_path / "here", "text")
        remote.put_changed({"a/b.txt": tmp_path / "here"})
        remote.put(tmp_path / "here", "a/c/d.txt")
        assert remote.files() == ["a/b.txt", "a/c/d.txt"]
        assert remote.files("a/c") == ["a/c/d.txt"] == remote.files("a/c/d.txt")
        assert remote.files("b") == []
        remote.get("a/b.txt", tmp_path / "new" / "there")
        assert (tmp_path / "new" / "there").read_text() == "text"
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["there"]
        remote.delete(["a"])
        assert remote.files() == []

    def test_sends_what_has_changed_only(self, remote, tmp_path):
        here = tmp_path / "here"
        write(here, "1")
        remote.put_changed({"a": here})
        remote.delete(["a"])
        remote.put_changed({"a": here})
        assert remote.files() == ["a"]  # what was deleted is sent again
        other = RemoteFolder(remote.url)
        other.delete(["a"])
        remote.put_changed({"a": here})
        assert remote.files() == []
        write(here, "22")
        remote.put_changed({"a": here})
        assert remote.files() == ["a"]

    def test_a_torn_upload_leaves_what_was_there(self, remote, tmp_path, monkeypatch):
        write(tmp_path / "here", "old")
        remote.put_changed({"a": tmp_path / "here"})
        write(tmp_path / "here", "newer")

        def tear(path, content):
            remote._fs.open(path, "wb").close()
            raise OSError("the network is gone")

        monkeypatch.setattr(remote._fs, "pipe_file", tear)
        with pytest.raises(OSError, match="network"):
            remote.put_changed({"a": tmp_path / "here"})
        remote.get("a", tmp_path / "there")
        assert (tmp_path / "there").read_text() == "old"

    def test_a_key_that_leads_out_is_passed_over(self, remote, monkeypatch):
        names = ["../x", "a/../../y", "a//b", "good"]
        monkeypatch.setattr(remote._fs, "exists", lambda path: True)
        monkeypatch.setattr(
            remote._fs, "find", lambda path: [f"{remote._root}/{name}" for name in names]
        )
        assert remote.files() == ["good"]

    def test_an_unknown_file_system_is_refused(self):
        with pytest.raises(UsageError, match="this file system cannot be used"):
            RemoteFolder("nothing://bucket/x")

    def test_a_url_without_a_folder_is_refused(self):
        """It would be the folder that the command is started in."""
        with pytest.raises(UsageError, match="file:///: names no folder"):
            RemoteFolder("file:///")

    @pytest.mark.parametrize("name", ["with blank", "100%", "a%20b", "a#b?c", "[x]*"])
    def test_odd_names(self, name, tmp_path):
        write(tmp_path / "here", "text")
        odd = RemoteFolder(f"file://{tmp_path}/{name}")
        odd.put_changed({f"{name}.txt": tmp_path / "here"})
        assert odd.files() == [f"{name}.txt"]
        assert (tmp_path / name / f"{name}.txt").read_text() == "text"

    def test_urls(self):
        assert is_url("s3://bucket/x") and is_url("file:///x")
        assert not is_url("/runs/x") and not is_url(Path("runs"))


class TestRun:
    def test_comes_back_as_it_was(self, remote, tmp_path):
        run = tmp_path / "here" / NAME
        add_checkpoint(run, 4)
        write(run / "recipe.yaml")
        write(run / "evals" / "test.json")
        write(run / ".recipe.yaml.1.partial", "torn")
        write(run.with_name("seed-0.log"), "printed\n")
        copy = RunCopy(remote, NAME, run)
        copy.push()
        add_checkpoint(run, 8)
        assert copy.has_new_checkpoint()
        copy.push()
        assert not copy.has_new_checkpoint()
        (run / ".recipe.yaml.1.partial").unlink()
        again = fetched(remote, tmp_path / "there")
        assert contents(again) == contents(run)
        assert again.with_name("seed-0.log").read_text() == "printed\n"

    def test_what_training_has_deleted_goes_there_too(self, remote, tmp_path):
        run = tmp_path / "here" / NAME
        copy = RunCopy(remote, NAME, run)
        for update in (4, 8, 12):
            add_checkpoint(run, update)
            copy.push()
        prune_checkpoints(run, 1)
        copy.push()
        assert contents(fetched(remote, tmp_path / "there")) == contents(run)
        assert not remote.files(f"{NAME}/checkpoints/update-00000004")

    def test_wherever_it_is_torn_the_one_before_is_whole(self, remote, tmp_path, monkeypatch):
        """Each operation in its turn is the last one of a worker; another worker goes on."""
        before, after = tmp_path / "before" / NAME, tmp_path / "after" / NAME
        add_checkpoint(before, 4)
        add_checkpoint(after, 8)
        newest, is_torn = [], True
        while is_torn:
            remote.delete(["a"] if newest else [])
            RunCopy(remote, NAME, before).push()
            copy = RunCopy(RemoteFolder(remote.url), NAME, tmp_path / "copy" / NAME)
            copy.fetch()
            shutil.rmtree(copy.run)
            shutil.copytree(after, copy.run)
            with monkeypatch.context() as patch, suppress(ConnectionError):
                tear_after(copy.remote, len(newest), patch)
                copy.push()
                is_torn = False
            found = fetched(remote, tmp_path / "there")
            newest.append(checkpoint_folders(found)[-1].name)
            rows = (found / "metrics.jsonl").read_text().splitlines()
            assert len(rows) >= int(newest[-1][-8:])  # those before it are there
            shutil.rmtree(tmp_path / "copy")
        assert newest == sorted(newest) and len(newest) > 6
        assert (newest[0], newest[-1]) == ("update-00000004", "update-00000008")

    def test_its_checksums_are_sent_last(self, remote, tmp_path, monkeypatch):
        run, sent = tmp_path / "here" / NAME, []
        add_checkpoint(run, 4)
        monkeypatch.setattr(remote, "put", lambda path, name: sent.append(path.name))
        RunCopy(remote, NAME, run).push()
        assert len(sent) == 4 and sent[-1] == "checksums.json"

    def test_one_that_has_changed_there_is_passed_over(self, remote, tmp_path):
        run = tmp_path / "here" / NAME
        add_checkpoint(run, 4)
        add_checkpoint(run, 8)
        RunCopy(remote, NAME, run).push()
        write(tmp_path / "other", "something else")
        remote.put(tmp_path / "other", f"{NAME}/checkpoints/update-00000008/model.safetensors")
        found = fetched(remote, tmp_path / "there")
        assert [folder.name for folder in checkpoint_folders(found)] == ["update-00000004"]
        assert not [path for path in (found / "checkpoints").iterdir() if "partial" in path.name]

    def test_one_that_training_deletes_meanwhile_is_left(self, remote, tmp_path, monkeypatch):
        """And the older one stays there, though it is no longer here."""
        run = tmp_path / "here" / NAME
        copy = RunCopy(remote, NAME, run)
        add_checkpoint(run, 4)
        copy.push()
        shutil.rmtree(checkpoint_folders(run)[0])
        add_checkpoint(run, 8)
        put = remote.put

        def put_and_delete(path, name):
            put(path, name)
            shutil.rmtree(run / "checkpoints" / "update-00000008", ignore_errors=True)

        monkeypatch.setattr(remote, "put", put_and_delete)
        copy.push()
        monkeypatch.undo()
        found = fetched(remote, tmp_path / "there")
        assert [folder.name for folder in checkpoint_folders(found)] == ["update-00000004"]
        add_checkpoint(run, 12)
        copy.push()
        found = fetched(remote, tmp_path / "there")
        assert [folder.name for folder in checkpoint_folders(found)] == ["update-00000012"]

    def test_what_training_deletes_while_it_is_looked_at_is_no_death(
        self, remote, tmp_path, monkeypatch
    ):
        run, scandir = tmp_path / "here" / NAME, os.scandir
        add_checkpoint(run, 4)
        write(run / "checkpoints" / ".update-00000002.old.partial" / "model.safetensors")

        def gone(path):
            if ".old.partial" in str(path):
                raise FileNotFoundError(path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", gone)
        RunCopy(remote, NAME, run).push()
        monkeypatch.undo()
        assert "old" not in str(remote.files())

    def test_one_that_is_gone_before_it_is_sent_does_not_count(self, remote, tmp_path, monkeypatch):
        """Nothing of it is there, so the older one has to stay."""
        run = tmp_path / "here" / NAME
        copy = RunCopy(remote, NAME, run)
        add_checkpoint(run, 4)
        copy.push()
        shutil.rmtree(checkpoint_folders(run)[0])
        add_checkpoint(run, 8)
        put_changed = remote.put_changed

        def put_and_delete(paths):
            put_changed(paths)
            shutil.rmtree(run / "checkpoints" / "update-00000008", ignore_errors=True)

        monkeypatch.setattr(remote, "put_changed", put_and_delete)
        copy.push()
        found = fetched(remote, tmp_path / "there")
        assert [folder.name for folder in checkpoint_folders(found)] == ["update-00000004"]


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
        patch.setattr(remote._fs, name, counted(getattr(remote._fs, name)))


class TestStudy:
    def test_holds_the_results_and_the_names_of_checkpoints(self, remote, tmp_path):
        run = tmp_path / "here" / NAME
        add_checkpoint(run, 4)
        write(run / "recipe.yaml")
        write(run / "evals" / "test.json")
        write(run.with_name("seed-0.log"))
        RunCopy(remote, NAME, run).push()
        write(tmp_path / "note", "tasks: {}")
        remote.put_changed({"study.yaml": tmp_path / "note", "large.bin": tmp_path / "note"})
        copy = StudyCopy(remote, tmp_path / "there")
        names = contents(copy.folder).keys()
        assert names == {
            "study.yaml", f"{NAME}.log",
            *(f"{NAME}/{name}" for name in ("recipe.yaml", "metrics.jsonl", "evals/test.json")),
        }  # fmt: skip
        assert checkpoint_folders(copy.folder / NAME)
        write(run / "evals" / "test.json", "new result")
        RunCopy(remote, NAME, run).push()
        copy.fetch(NAME)
        assert (copy.folder / NAME / "evals" / "test.json").read_text() == "new result"

    def test_sends_what_the_study_writes(self, remote, tmp_path):
        copy = StudyCopy(remote, tmp_path)
        for name in ("study.yaml", "table.md", "a/cot/seed-0.yaml", ".x.1.partial"):
            write(tmp_path / name)
        copy.push()
        assert remote.files() == ["a/cot/seed-0.yaml", "study.yaml", "table.md"]
        (tmp_path / "table.md").unlink()
        copy.push(anew=True)
        assert remote.files() == ["a/cot/seed-0.yaml", "study.yaml"]

    def test_what_makes_it_a_study_is_deleted_last(self, remote, tmp_path, monkeypatch):
        """Otherwise a torn `--overwrite` would leave what nothing can delete."""
        for name in ("study.yaml", "table.md", "z"):
            write(tmp_path / name)
            remote.put(tmp_path / name, name)
        deleted = []
        monkeypatch.setattr(remote, "delete", deleted.extend)
        StudyCopy(remote, tmp_path / "there").push(anew=True)
        assert sorted(deleted) == ["study.yaml", "table.md", "z"] and deleted[-1] == "study.yaml"

    def test_something_else_is_refused(self, remote, tmp_path):
        write(tmp_path / "thesis.txt")
        remote.put_changed({"thesis.txt": tmp_path / "thesis.txt"})
        with pytest.raises(RunError, match=r"holds something else than a study"):
            StudyCopy(remote, tmp_path / "there")

    def test_messages_name_what_was_given(self, tmp_path):
        url = f"file://{tmp_path}/study"
        with pytest.raises(RunError, match=f"^{url}/a: so$"), opened(url) as place:
            raise RunError(f"{place.folder}/a: so")

    def test_what_a_file_system_says_is_told(self, remote, tmp_path, monkeypatch):
        copy = StudyCopy(remote, tmp_path)
        write(tmp_path / "study.yaml")

        def fail(*arguments, **options):
            raise ValueError("no credentials")  # each has errors of its own

        monkeypatch.setattr(remote._fs, "exists", fail)
        monkeypatch.setattr(remote._fs, "pipe_file", fail)
        for do in (lambda: copy.fetch(NAME), copy.push, lambda: StudyCopy(remote, tmp_path)):
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
from latentcot.utils.processes import end_with_parent
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
    """A function (how its training goes, out=…) → what `work` makes of an order."""
    monkeypatch.setattr(
        processes,
        "_CHILD",
        CHILD.format(tests=str(Path(__file__).parents[1]), how=str(tmp_path / "how")),
    )
    monkeypatch.setattr(worker, "SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(worker.tempfile, "tempdir", None)
    (tmp_path / "tmp").mkdir()
    sources = {"train": "none.jsonl", "valid": "hub:x:y", "test": None}

    def make(how, out=f"file://{tmp_path}/remote", report=lambda done, text: False, data=()):
        write(tmp_path / "how", how)
        recipe = yaml.safe_dump({"data": {**sources, **dict(data)}})
        return work(Order(NAME, str(out), recipe, str(tmp_path), None, 100, None, 3), report)

    return make


class TestWorker:
    def test_trains_and_evaluates_elsewhere(self, at, tmp_path):
        assert at("end").failure is None
        there = tmp_path / "remote" / NAME
        assert (there / "evals" / "test.json").read_text() == "result"
        assert [folder.name[-1] for folder in checkpoint_folders(there)] == ["4", "8"]
        assert list((tmp_path / "tmp").glob("*/*")) == []  # nothing is left on this machine

    def test_goes_on_from_what_another_machine_has_sent(self, at, tmp_path):
        first = at("die")
        assert first.has_died and first.failure == "a command ended with exit code -9."
        assert (tmp_path / "remote" / f"{NAME}.log").read_text().endswith("(SIGKILL).\n")
        assert at("end").failure is None
        log = (tmp_path / "remote" / f"{NAME}.log").read_text()
        assert "train --resume\nfound ['update-00000004']\neval\n" in log

    def test_one_that_is_stopped_sends_its_last_checkpoint(self, at, tmp_path):
        there = tmp_path / "remote" / NAME
        outcome = at("wait", report=lambda done, text: bool(checkpoint_folders(there)))
        assert outcome.failure is None and not outcome.has_died
        assert [folder.name[-1] for folder in checkpoint_folders(there)] == ["4", "6"]

    def test_a_new_checkpoint_is_sent_at_once(self, at, tmp_path):
        """And not with what is sent now and then."""
        there, looks = tmp_path / "remote" / NAME, []

        def report(done, text):
            looks.append(bool(checkpoint_folders(there)))
            return looks[-1] or len(looks) > 500

        at("wait", report=report)
        assert looks[-1]

    def test_a_file_system_that_is_away_for_a_while_costs_no_training(
        self, at, tmp_path, monkeypatch
    ):
        push, tries = RunCopy.push, []

        def fail_at_first(copy):
            tries.append(1)
            if len(tries) < 3:
                raise ConnectionError("away")
            push(copy)

        monkeypatch.setattr(RunCopy, "push", fail_at_first)
        monkeypatch.setattr(worker, "SECONDS_BETWEEN_PUSHES", 0.05)
        there = tmp_path / "remote" / NAME
        outcome = at("wait", report=lambda done, text: bool(checkpoint_folders(there)))
        assert outcome.failure is None and len(tries) >= 3
        assert [folder.name[-1] for folder in checkpoint_folders(there)] == ["4", "6"]
        log = (tmp_path / "remote" / f"{NAME}.log").read_text()
        assert log.count("Not sent, and tried again in 0 s: away") == 2

    def test_a_command_that_somebody_else_has_stopped_is_tried_again(self, at):
        assert at("stopped").has_died

    def test_a_failure_is_told_and_is_no_death(self, at, tmp_path):
        outcome = at("refuse")
        assert not outcome.has_died
        assert f"The end of file://{tmp_path}/remote/{NAME}.log:\n" in outcome.failure
        assert "DataError: no" in outcome.failure
        assert "does not see none.jsonl (from " in outcome.failure
        assert "name files by a path that all of them see" in outcome.failure

    def test_a_shared_folder_is_trained_in(self, at, tmp_path):
        out = tmp_path / "shared"
        outcome = at("end", out=out)
        assert "does not see the study in this folder" in outcome.failure
        write(out / f"{NAME}.yaml", "recipe")
        assert at("end", out=out).failure is None
        assert (out / NAME / "evals" / "test.json").read_text() == "result"
        assert list((tmp_path / "tmp").iterdir()) == []

    def test_waits_for_what_a_dead_worker_has_left(self, at, tmp_path):
        order = Order(NAME, f"file://{tmp_path}/remote", "", "", None, 1, None, 1)
        log = claim(worker._scratch(order) / f"{NAME}.log")

        def report(done, text):
            if "waits for an earlier try" in text:
                log.close()
            return False

        assert at("end", report=report).failure is None
        assert log.closed

    def test_one_that_waits_so_can_be_stopped(self, at, tmp_path):
        order = Order(NAME, f"file://{tmp_path}/remote", "", "", None, 1, None, 1)
        with claim(worker._scratch(order) / f"{NAME}.log"):
            outcome = at("end", report=lambda done, text: "waits" in text)
        assert outcome == Outcome() and not (tmp_path / "remote").exists()

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


def test_a_url_needs_ray(recipe_file, latentcot):
    ended = latentcot("study", recipe_file, "--out", "s3://bucket/x")
    assert ended.code == 2 and "A URL needs --backend ray" in ended.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--address", "auto"), "--address: is that of a Ray cluster. Give --backend ray too."),
        (("--backend", "ray"), "`pip install 'latentcot[ray]'` does that"),
    ],
)
def test_without_ray(words, message, recipe_file, tmp_path, latentcot, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "latentcot.studies.ray", raising=False)
    ended = latentcot("study", recipe_file, "--out", tmp_path / "out", *words)
    assert ended.code == 2 and message in ended.err
    assert not (tmp_path / "out").exists()
