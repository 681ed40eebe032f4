"""Where a run comes from: what is written, what is read back, what a resume changes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from latentcot.data.formats import source_hash
from latentcot.errors import RunError
from latentcot.runs import provenance as module
from latentcot.runs.provenance import (
    add_session,
    code_of,
    differences,
    provenance,
    read_provenance,
    set_num_updates,
    write_provenance,
)
from latentcot.utils.versions import PROVENANCE_VERSION, read_versioned

PROCESS = {"time", "command", "commit", "is_tree_dirty", "python", "versions", "machine",
           "cores_used", "threads", "num_processes"}  # fmt: skip
OLD = {
    "time": "2026-01-01T00:00:00+00:00",
    "command": "latentcot train r.yaml --out run",
    "commit": "0" * 40,
    "is_tree_dirty": False,
    "python": "3.11.0",
    "versions": {"latentcot": "0.1.0", "torch": "2.9.0", "numpy": "1.0"},
    "machine": "x86_64, Some Processor, 4 cores",
    "cores_used": None,
    "device": "cpu",
    "seed": 1,
    "data": {"train.jsonl": "ab"},
}
"""As it was before there was a version."""


def put(run: Path, **changes: Any) -> None:
    (run / "provenance.json").write_text(json.dumps(OLD | changes))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    file = tmp_path / "train.jsonl"
    file.write_text("{}\n")
    write_provenance(tmp_path, [str(file)], "cpu", 3)
    return tmp_path


def test_what_is_written(written: Path) -> None:
    found = read_provenance(written)
    file = str(written / "train.jsonl")
    assert found.keys() == PROCESS | {
        "format_version",
        "device",
        "gpu",
        "seed",
        "num_updates",
        "data",
    }
    assert found["format_version"] == PROVENANCE_VERSION
    assert (found["device"], found["gpu"], found["seed"]) == ("cpu", None, 3)
    assert found["data"] == {file: source_hash(file)}
    assert (found["threads"], found["num_processes"]) == (torch.get_num_threads(), 1)
    assert found["versions"]["torch"] == torch.__version__


def test_the_command_can_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/latentcot", "train", "--set", "a=[1, 2]"])
    assert provenance()["command"] == "latentcot train --set 'a=[1, 2]'"


def test_the_tree_is_that_of_the_whole_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    def told() -> tuple[bool, bool]:
        found = provenance()
        return found["commit"] is not None, found["is_tree_dirty"]

    package = tmp_path / "src" / "latentcot"
    (package / "runs").mkdir(parents=True)
    for file in ("runs/provenance.py", "errors.py"):
        (package / file).write_text("1\n")
    monkeypatch.setattr(module, "__file__", str(package / "runs" / "provenance.py"))
    git("init")
    assert told() == (False, False)  # git keeps something else there
    git("add", ".")
    git("commit", "-m", "all")
    (tmp_path / "README.md").write_text("of the project\n")
    assert told() == (True, False)
    (package / "errors.py").write_text("2\n")
    assert told() == (True, True)


def test_an_older_file_is_read_as_it_is(tmp_path: Path) -> None:
    assert read_provenance(tmp_path) == {}  # none at all
    put(tmp_path)
    assert read_provenance(tmp_path) == OLD


def test_a_new_total_is_written_into_a_file_that_is_there(tmp_path: Path) -> None:
    set_num_updates(tmp_path, 5)
    assert not (tmp_path / "provenance.json").exists()  # it would lack all else
    (tmp_path / "provenance.json").write_text('{"seed": 3, "num_updates": 9}')
    set_num_updates(tmp_path, 5)
    found = read_provenance(tmp_path)
    assert (found["seed"], found["num_updates"]) == (3, 5)
    before = (tmp_path / "provenance.json").stat().st_mtime_ns
    set_num_updates(tmp_path, 5)  # nothing new, nothing written
    assert (tmp_path / "provenance.json").stat().st_mtime_ns == before


def test_a_newer_file_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    newer = PROVENANCE_VERSION + 1
    put(tmp_path, format_version=newer, data="of another form")
    before = (tmp_path / "provenance.json").read_bytes()
    told = rf"provenance\.json: has format_version {newer}.*Upgrade"
    with pytest.raises(RunError, match=told):
        read_provenance(tmp_path)
    with pytest.raises(RunError, match=told):
        add_session(tmp_path, "cpu", 8)
    assert (tmp_path / "provenance.json").read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"a": 1', "[" * 100_000, "\0", '"\\ud800"', b"\xff\xfe{}"),
        *map(json.dumps, [
            {"format_version": "1"},
            {"format_version": 0},
            {"data": ["train.jsonl"]},
            {"data": {"train.jsonl": None}},
            {"versions": {"torch": 2.9}},
            {"command": ["latentcot"]},
            {"commit": 7},
            {"resumed": {}},
            {"resumed": ["then"]},
            {"resumed": [{"update": "8"}]},
            {"resumed": [{"versions": [1]}]},
        ]),
    ],
    ids=lambda text: repr(text[:40]),
)  # fmt: skip
def test_damage(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "provenance.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RunError, match=r"provenance\.json: .* damaged"):
        read_provenance(tmp_path)


def test_an_older_name_of_the_version(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"schema_version": 3}')
    assert read_versioned(tmp_path / "a.json", 3) == {"format_version": 3}
    with pytest.raises(RunError, match="has format_version 3, but this latentcot reads up to 2"):
        read_versioned(tmp_path / "a.json", 2)


class TestSessions:
    def test_the_same_process_differs_in_nothing(self, written: Path) -> None:
        before = read_provenance(written)
        assert add_session(written, "cpu", 8) == []
        assert add_session(written, "cpu", 10) == []
        after = read_provenance(written)
        sessions = after.pop("resumed")
        assert after == before
        assert [one["update"] for one in sessions] == [8, 10]
        assert all(one.keys() == PROCESS | {"device", "gpu", "update"} for one in sessions)

    def test_what_differs_is_told_against_the_session_before(
        self, written: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = provenance()
        other = {**now, "threads": now["threads"] + 3, "num_processes": 2}
        monkeypatch.setattr(module, "provenance", lambda device: other)
        threads = now["threads"]
        assert add_session(written, "cpu", 8) == [
            f"number of threads {threads + 3} instead of {threads}",
            "number of processes 2 instead of 1",
        ]
        assert add_session(written, "cpu", 9) == []

    def test_an_older_file_gets_a_version(self, tmp_path: Path) -> None:
        assert add_session(tmp_path, "cpu", 8) == []  # of a run without provenance
        assert read_provenance(tmp_path).keys() == {"format_version", "resumed"}
        put(tmp_path)
        told = add_session(tmp_path, "cpu", 8)
        assert f"torch {torch.__version__} instead of 2.9.0" in told
        found = read_provenance(tmp_path)
        assert found["format_version"] == PROVENANCE_VERSION
        assert found["seed"] == OLD["seed"] and found["resumed"][0]["update"] == 8


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"time": "later", "command": "other", "python": "3.12.1", "cores_used": 2}, []),
        ({"versions": {"latentcot": "0.1.0", "torch": "2.9.0", "numpy": "2.0"}}, []),
        ({"machine": "x86_64, Some Processor, 64 cores"}, []),
        ({"threads": 4, "num_processes": 2, "gpu": "H100"}, []),  # not known of the one before
        ({"machine": "x86_64, Other, 4 cores"},
         ["processor x86_64, Other instead of x86_64, Some Processor"]),
        ({"versions": {"torch": "2.10.0"}}, ["torch 2.10.0 instead of 2.9.0"]),
        ({"device": "cuda:1"}, ["device cuda instead of cpu"]),
        ({"commit": "1" * 40}, ["commit 1111111111 instead of 0000000000"]),
        ({"is_tree_dirty": True}, ["commit 0000000000 + changes instead of 0000000000"]),
        ({"commit": None}, []),
    ],
)  # fmt: skip
def test_differences(changes: dict[str, Any], told: list[str]) -> None:
    assert differences(OLD, OLD | changes) == told


def test_one_gpu_of_several_is_like_the_other() -> None:
    one = {"device": "cuda:0", "gpu": "H100", "threads": 1}
    assert differences(one, one | {"device": "cuda"}) == []
    assert differences(one, one | {"gpu": "H200"}) == ["GPU H200 instead of H100"]


def test_the_code() -> None:
    assert code_of({"commit": "0123456789abcdef", "is_tree_dirty": True}) == "0123456789 + changes"
    assert code_of({"commit": None, "is_tree_dirty": True}) is None
    assert code_of({}) is None
