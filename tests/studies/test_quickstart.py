"""The quickstart in a tiny form: what it starts, what it does not do again, what it shows."""

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from latentcot import Example, RunError, train
from latentcot.evaluation.comparison import Row
from latentcot.evaluation.results import Estimate, Evaluation, Record
from latentcot.recipes.recipe import read_recipe
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import read_metrics
from latentcot.studies import quickstart
from latentcot.studies.quickstart import METHODS, note_seconds, open_folder, run_methods
from latentcot.studies.quickstart_report import conclusion, mass_lines, shown_questions

SIZES = {"train": 32, "valid": 6, "test": 8}
CONSTANTS = {
    "SIZES": SIZES,
    "GRAPHS": ("--preset", "two-family", "--layers", "2", "--shared", "0"),
}


@pytest.fixture
def shrink(recipe_values, tmp_path, monkeypatch):
    """A function (constants of the module, part of the recipe={…}) that makes the quickstart tiny.

    Returns the constants.
    """

    def make(methods=METHODS, **changes):
        recipe = tmp_path / "tiny.yaml"
        recipe.write_text(json.dumps(recipe_values(**changes)))
        constants = {**CONSTANTS, "RECIPE": recipe, "METHODS": methods}
        for name, value in constants.items():
            monkeypatch.setattr(quickstart, name, value)
        return constants

    return make


@pytest.fixture
def out(tmp_path):
    """The folder of a quickstart that has just begun."""
    open_folder(tmp_path / "out", 0, resume=False, overwrite=False)
    return tmp_path / "out"


def newest_update(run):
    return max((row["update"] for row in read_metrics(run)), default=0)


def test_a_folder_is_begun_once_and_resumed_with_its_seed_and_its_time(tmp_path):
    out = tmp_path / "out"
    assert open_folder(out, 5, resume=False, overwrite=False) == (5, 0.0)
    note_seconds(out, 12.5)
    with pytest.raises(RunError, match="exists already"):
        open_folder(out, 5, resume=False, overwrite=False)
    assert open_folder(out, None, resume=True, overwrite=False) == (5, 12.5)
    with pytest.raises(RunError, match="was begun with --seed 5, not 1"):
        open_folder(out, 1, resume=True, overwrite=False)
    (out / "coconut").mkdir()
    assert open_folder(out, None, resume=False, overwrite=True) == (0, 0.0)
    assert not (out / "coconut").exists()
    (out / "quickstart.json").rename(out / "thesis.txt")
    with pytest.raises(RunError, match="something else than a quickstart"):
        open_folder(out, 0, resume=False, overwrite=True)
    assert (out / "thesis.txt").exists()


@pytest.fixture
def done(shrink, out, data, latentcot):
    """A quickstart that was ended when only its page was missing."""
    shrink()
    (out / "data").symlink_to(data)
    (data / "data.json").touch()
    for method in METHODS:
        changes = [f"method={method}", *(f"data.{s}={out / 'data' / s}.jsonl" for s in SIZES)]
        recipe = read_recipe(quickstart.RECIPE, changes)
        assert train(recipe, out / method, is_quiet=True)
        assert latentcot("eval", out / method, "--quiet").code == 0
    return out


def test_what_is_done_is_shown_and_not_done_again(done, latentcot):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*/*.json*")}
    shown = latentcot("quickstart", "--out", done, "--resume", "--quiet")
    assert shown.code == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert list(done.glob("*.log")) == []  # no process was started

    result = json.loads((done / "result.json").read_text())
    assert (result["format_version"], result["seed"]) == (1, 0)
    methods = [row["method"] for row in result["rows"]]
    assert sorted(methods) == sorted(METHODS)
    assert {row["accuracy"]["n"] for row in result["rows"]} == {8}
    assert {row["updates"] for row in result["rows"]} == {12}
    page = (done / "report.html").read_text()
    data = json.loads(page.split('type="application/json" id="data">')[1].split("</script>")[0])
    assert [row["method"] for row in data["rows"]] == methods
    assert [curve["method"] for curve in data["curves"]] == methods
    assert all(len(curve["losses"]) == 12 for curve in data["curves"])
    assert data["conclusion"] in " ".join(shown.out.split())

    frontier = json.loads((done / "coconut" / "analysis" / "frontier.json").read_text())
    assert frontier["format_version"] == 1
    assert (frontier["method"], frontier["num_questions"]) == ("coconut", 8)
    assert [mass["thought"] for mass in frontier["mass"]] == [1, 2]
    assert data["frontier"]["mass"] == frontier["mass"]
    assert "thought 2: " in shown.out


@pytest.mark.slow
def test_an_interrupted_quickstart_resumes(shrink, out, ctrl_c_raises):
    """Ctrl-C while a method trains; then everything to its end."""
    # Long enough that it cannot be over before Ctrl-C arrives.
    shrink(["cot"], training={"max_updates": 1500, "validate_every": 500})
    run = out / "cot"

    def interrupt():
        while newest_update(run) < 20:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_methods(out, seed=0, num_jobs=1, is_quiet=True)
    thread.join()
    checkpoint = checkpoint_folders(run)[-1]
    before, stopped_at = read_metrics(run), newest_update(run)
    assert checkpoint.name == f"update-{stopped_at:08d}"
    assert stopped_at < 1500
    data = (out / "data" / "train.jsonl").stat().st_mtime_ns

    assert run_methods(out, seed=0, num_jobs=1, is_quiet=True) == {"cot": run}
    assert (out / "data" / "train.jsonl").stat().st_mtime_ns == data
    # It went on: the rates of a second training would differ.
    rows = read_metrics(run)
    assert [row["update"] for row in rows if row["kind"] == "train"] == list(range(1, 1501))
    assert rows[: len(before)] == before
    assert json.loads((run / "evals" / "test.json").read_text())["accuracy"]["n"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("graphs", "num_positions", "log", "told"),
    [
        (("--layers", "0"), 96, "data.log", "layers must be a whole number of at least 1"),
        (CONSTANTS["GRAPHS"], 8, "coconut.log", "DataError: example 'train-0': needs"),
    ],
)
def test_a_failure_is_told_with_the_end_of_its_log(
    graphs, num_positions, log, told, shrink, out, monkeypatch
):
    shrink(["coconut"], model={"num_positions": num_positions})
    monkeypatch.setattr(quickstart, "GRAPHS", graphs)
    with pytest.raises(RunError, match="exit code 2") as failed:
        run_methods(out, seed=0, num_jobs=1, is_quiet=True)
    for part in (str(out / log), told, "--resume"):
        assert part in str(failed.value)
    assert "Traceback" not in str(failed.value)


class TestWords:
    def row(self, method, accuracy, low, high, thoughts=0.0):
        result = Evaluation(
            method=method,
            task="prosqa",
            accuracy=Estimate(accuracy, low, high, 500),
            tokens_per_question=4.0,
            thoughts_per_question=thoughts,
            passes_per_question=7.0,
            seconds_per_question=0.01,
            records=(),
        )
        return Row(str(Path("runs") / method), "prosqa", method, 0, result)

    def test_the_conclusion_says_who_is_behind_and_who_is_not(self):
        text = conclusion(
            [
                self.row("coconut", 0.97, 0.95, 0.98, thoughts=3),
                self.row("cot", 0.96, 0.94, 0.97),
                self.row("no-cot", 0.5, 0.46, 0.54),
            ]
        )
        ahead, level = text.split("not clearly ahead")
        for part in ("3 continuous thoughts", "97.0", "500 new questions", "no-cot", "50.0"):
            assert part in ahead
        assert " cot " in level
        assert "96.0" in level

    def test_the_conclusion_claims_nothing_that_is_not_there(self):
        coconut = self.row("coconut", 0.5, 0.46, 0.54, thoughts=3)
        assert "not clearly ahead" in conclusion([coconut, self.row("no-cot", 0.45, 0.41, 0.49)])
        assert "not clearly ahead" not in conclusion([coconut, self.row("no-cot", 0.3, 0.26, 0.34)])

    def test_masses_are_told_with_what_chance_would_give(self):
        mass = {"thought": 2, "depth": 2, "mass": 0.75, "uniform": 0.25}
        [line] = mass_lines({"mass": [mass]})
        assert line.startswith("thought 2: 0.75 ")
        assert "0.25" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--overwrite", "--jobs", 0), "--jobs: must be at least 1, got 0."),
        (("--overwrite", "--seed", -1), "--seed: must be at least 0, got -1."),
        (("--overwrite", "--resume"), "exclude each other"),
    ],
)
def test_a_mistake_deletes_nothing(words, message, tmp_path, latentcot):
    open_folder(tmp_path / "out", 5, resume=False, overwrite=False)
    (tmp_path / "out" / "kept").write_text("mine")
    ended = latentcot("quickstart", "--out", tmp_path / "out", *words)
    assert ended.code == 2
    assert message in ended.err
    assert (tmp_path / "out" / "kept").read_text() == "mine"


# Root 0 → 2, 3 → 4, and 1 → 5 beside it: 2 nodes at depth 1, 1 at depth 2, none at depth 3.
DEEP = Example(
    "deep", "?", ("c", "e"), "e",
    {
        "idx_to_symbol": ["a", "b", "c", "d", "e", "f"],
        "edges": [[0, 2], [0, 3], [2, 4], [1, 5]],
        "root": 0, "target": 4, "neg_target": 5,
    },
)  # fmt: skip


def test_shown_questions_are_right_ones_first_then_a_quarter_wrong_ones():
    examples = [replace(DEEP, id=str(i)) for i in range(9)]
    shares = [torch.full((2, 6), i / 100) for i in range(9)]
    records = [
        Record(str(i), bool(i % 2), "e", "e" if i % 2 else "f", "", 2, 2, 5) for i in range(9)
    ]
    shown = shown_questions(examples, shares, records, 4)
    assert [one["id"] for one in shown] == ["1", "3", "5", "0"]
    assert shown[0] == {
        "id": "1",
        "nodes": ["a", "b", "c", "d", "e", "f"],
        "edges": [[0, 2], [0, 3], [2, 4], [1, 5]],
        "root": 0,
        "target": 4,
        "neg_target": 5,
        "probabilities": [[0.01] * 6] * 2,
        "answer": "e",
        "predicted": "e",
        "is_correct": True,
        "path": [0, 2, 4],
    }
    assert (shown[3]["predicted"], shown[3]["is_correct"]) == ("f", False)
