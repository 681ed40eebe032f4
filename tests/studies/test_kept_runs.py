"""The finished runs of a study, kept by benchmarks/kept_runs.py without their weights."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from latentcot.runs.folder import read_metrics

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import kept_runs

import studies


@pytest.fixture(params=[None, 2])
def house(request, recipe_file, latentcot, monkeypatch, tmp_path):
    """A root with one study, `tiny`, of two methods, asked all questions or two."""
    study = {
        "tasks": {"graphs": str(recipe_file)}, "methods": ["cot", "no-cot"], "seeds": [1],
        "evaluate": {"limit": request.param},
    }  # fmt: skip
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "tiny.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.setattr(studies, "ROOT", tmp_path)
    monkeypatch.setattr(studies, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(studies, "STUDIES", {"tiny": "tiny"})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "do_study", lambda *words: latentcot("study", *words))
    return tmp_path


def test_a_study_goes_on_without_the_weights(house):
    studies.run_study("tiny", 1, ["graphs/cot"])
    kept, out = house / "results" / "tiny", house / "runs" / "tiny" / "study"
    before = kept.joinpath("runs.tar.xz").read_bytes()
    first = json.loads(kept.joinpath("run.json").read_text())["seconds"]
    run = out / "graphs" / "cot" / "seed-1"
    (result,) = run.glob("evals/*.json")  # named otherwise where not all questions were asked
    answers, rows = result.read_bytes(), read_metrics(run)
    kept_runs.pack(out, kept / "runs.tar.xz")
    assert kept.joinpath("runs.tar.xz").read_bytes() == before

    shutil.rmtree(house / "runs")
    studies.run_study("tiny", 2, is_kept=True)
    assert not (run / "checkpoints").exists()  # not trained again
    assert result.read_bytes() == answers
    others = [row for row in rows if row["kind"] != "train"]
    assert [row for row in read_metrics(run) if row["kind"] != "train"] == others
    table = json.loads(kept.joinpath("table.json").read_text())["rows"]
    assert sorted(row["method"] for row in table) == ["cot", "no-cot"]
    told = json.loads(kept.joinpath("run.json").read_text())
    assert told["jobs"] == "1, then 2"
    both = studies.sittings(out)
    assert both[0]["seconds"] == first and told["seconds"] == first + both[1]["seconds"]
    assert [run.parent.name for run in kept_runs.finished(out)] == ["cot", "no-cot"]


def test_few_rows_of_updates_are_kept_and_then_all_of_these():
    def row(kind, update):
        return json.dumps({"kind": kind, "update": update}).encode() + b"\n"

    rows = [row("train", update) for update in range(40, 400, 40)]
    rows.insert(3, row("valid", 120))
    kept = [row("train", 40), row("train", 120), row("valid", 120)]
    kept += [row("train", update) for update in (200, 320)]
    assert list(kept_runs._thinned(b"".join(rows))) == kept
    assert list(kept_runs._thinned(b"".join(kept))) == kept


def test_what_is_not_kept_or_damaged_is_told(tmp_path):
    with pytest.raises(SystemExit, match="does not exist.*Leave out --kept"):
        kept_runs.unpack(tmp_path / "runs.tar.xz", tmp_path / "study")
    (tmp_path / "runs.tar.xz").write_bytes(b"x")
    with pytest.raises(SystemExit, match="is damaged"):
        kept_runs.unpack(tmp_path / "runs.tar.xz", tmp_path / "study")
