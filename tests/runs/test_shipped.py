"""The checkpoint that comes with the package answers questions that it has never seen."""

import json
import re

import pytest

import latentcot
from latentcot.cli.play import QUICKSTART
from latentcot.data.examples import read_examples
from latentcot.errors import CheckpointError
from latentcot.evaluation.evaluate import evaluate
from latentcot.runs.checkpoint import load_checkpoint
from latentcot.runs.checkpoint_folders import QUESTIONS_FILE, SHIPPED
from latentcot.runs.export import write_export
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import options_named


def test_it_answers_fresh_questions():
    options = options_named("two-family", layers=3, shared=0)
    examples = make_splits(options, {"test": 300}, seed=90_210)["test"]
    result = evaluate(latentcot.load("quickstart", device="cpu"), examples)
    assert result.accuracy.value > 0.95
    assert result.thoughts_per_question == 3


@pytest.mark.parametrize("name", QUICKSTART)
def test_it_says_where_it_comes_from(name):
    provenance = json.loads((SHIPPED / name / "provenance.json").read_text())
    assert provenance["is_tree_dirty"] is False
    assert provenance["seed"] == load_checkpoint(name).info.seed == 1009
    mine = json.loads((SHIPPED / QUICKSTART[0] / "provenance.json").read_text())
    assert {*provenance["data"].values()} >= {*mine["data"].values()}  # the same files


def test_it_brings_questions_that_it_answers():
    """The first 200 of the test file of its run, none of which it was trained on."""
    examples = read_examples(SHIPPED / "quickstart" / QUESTIONS_FILE)
    assert len(examples) == 200
    result = evaluate(latentcot.load("quickstart", device="cpu"), examples)
    assert result.accuracy.value > 0.95


def test_it_is_small():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 2_000_000


def test_a_folder_of_that_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint of latentcot"):
        load_checkpoint("quickstart")


def test_no_other_folder_of_the_package_is_meant():
    with pytest.raises(CheckpointError, match=r"\.\./recipes"):
        load_checkpoint("../recipes")


def without_version(path):
    """The file's text, but for the version of transformers that wrote it."""
    return re.sub(r'"transformers_version": "[^"]*"', "", path.read_text())


def test_it_holds_what_plain_transformers_needs_today(tmp_path):
    """If not: python dev/ship.py."""
    found = load_checkpoint("quickstart")
    write_export(tmp_path, found.model, found.tokenizer, found.info)
    for path in (one for one in tmp_path.rglob("*") if one.is_file()):
        shipped = SHIPPED / "quickstart" / path.relative_to(tmp_path)
        assert without_version(shipped) == without_version(path), path.name
