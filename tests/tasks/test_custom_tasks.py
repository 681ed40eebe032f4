"""The five custom tasks of benchmarks/custom_tasks.py: answers, splits, and what a user says."""

import importlib.util
import json
import random
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from latentcot.data.examples import read_examples
from latentcot.recipes.recipe import make_recipe

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def tasks() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location(
            "custom_tasks", BENCHMARKS / "custom_tasks.py"
        )
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def rows(tasks: ModuleType, name: str) -> list[tuple[str, list[str], str]]:
    rng = random.Random(0)
    return [tasks.TASKS[name](rng) for _ in range(200)]


def test_lookups_follow_what_the_question_says(tasks: ModuleType) -> None:
    for question, steps, answer in rows(tasks, "family"):
        facts = dict(re.findall(r"The (\w+ of \w+) is (\w+)\.", question))
        relations = re.findall(r"the (\w+) of", question)
        who = question.removesuffix("?").split()[-1]
        for relation in reversed(relations):
            who = facts[f"{relation} of {who}"]
        assert (who, len(steps)) == (answer, len(relations))
    for question, steps, answer in rows(tasks, "graphs"):
        edges = dict(re.findall(r"(\w)->(\w)", question))
        [(hops, node)] = re.findall(r"(\d) edges from (\w)", question)
        for _ in range(int(hops)):
            node = edges[node]
        assert (node, len(steps)) == (answer, int(hops))
    for question, steps, answer in rows(tasks, "units"):
        facts = {
            big: (int(n), small)
            for big, n, small in re.findall(r"1 (\w+) is (\d) (\w+)\.", question)
        }
        [(goal, number, unit)] = re.findall(r"many (\w+) are (\d) (\w+)\?", question)
        value = int(number)
        while unit != goal:
            factor, unit = facts[unit]
            value *= factor
        assert str(value) == answer and 2 <= len(steps) <= 4


def test_chains_are_computed(tasks: ModuleType) -> None:
    for question, steps, answer in rows(tasks, "modular"):
        words = question.split()
        size, value = int(words[2]), int(words[6])
        for step in steps:
            left, sign, right, _, new = step.split()
            assert int(left) == value
            value = int(eval(f"{left} {sign} {right}")) % size
            assert int(new) == value
        assert str(value) == answer
    assert tasks.EDITS["rotate left"](list("abc")) == list("bca")
    assert tasks.EDITS["swap ends"](list("abcd")) == list("dbca")
    assert all(steps[-1] == answer for _, steps, answer in rows(tasks, "strings"))


def test_no_question_is_in_two_splits_and_no_word_is_new(
    tasks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "SIZES", {"train": 60, "valid": 10, "test": 10})
    for name in tasks.TASKS:
        tasks.make(name, tmp_path / name)
        found = {split: read_examples(tmp_path / name / f"{split}.jsonl") for split in tasks.SIZES}
        questions = [one.question for examples in found.values() for one in examples]
        assert len(set(questions)) == len(questions) == 80
        made = make_recipe(tasks.recipe(tmp_path / name))
        assert made.curriculum.advance == "learned"


def test_the_table_has_a_row_for_each_task_and_method(
    tasks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "RESULTS", tmp_path)
    for seed, share in ((0, 0.5), (1, 1.0)):
        one = {"task": "units", "method": "cot", "seed": seed, "accuracy": {"value": share},
               "minutes": 2.5 if seed else None, "stages": [{"accuracy": share}]}  # fmt: skip
        (tmp_path / f"units-cot-{seed}.json").write_text(json.dumps(one))
    assert tasks.table().splitlines()[2] == (
        "| units | cot | 50.0 %, 100.0 % | 50.0 %; 100.0 % | –, 2.5 |"
    )
