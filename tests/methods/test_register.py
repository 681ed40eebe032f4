"""Methods from outside the package: registered by a call, or by an installed package."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from latentcot.curriculum.layout import EncodedExample, LayoutRules, SpecialTokens, lay_out
from latentcot.errors import MethodError
from latentcot.methods.table import (
    ALL_AT_ONCE,
    ENTRY_POINTS,
    METHODS,
    NOTHING,
    STEP_PER_STAGE,
    THOUGHT,
    Fill,
    Method,
    Plan,
    Schedule,
    load_entry_points,
    method_named,
    register,
)

LAST_FIRST = Method(
    "last-first",
    Schedule(
        "the last s steps are removed at stage s",
        stages=lambda plan: range(plan.num_stages + 1),
        left=lambda steps, stage, plan: steps[: max(0, len(steps) - stage)],
    ),
    NOTHING,
    has_special_tokens=False,
    summary="a curriculum from the other end",
)
HALF_THOUGHT = Method(
    "half-thought",
    STEP_PER_STAGE,
    Fill(
        "half of the thought", feed=lambda latent, special_tokens: latent.state / 2, is_thought=True
    ),
    has_special_tokens=True,
    summary="Coconut with smaller thoughts",
)


@pytest.fixture(autouse=True)
def _table_as_before() -> Iterator[None]:
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)
    load_entry_points.cache_clear()


# --- by a call ---


def test_a_row_is_found_once_it_is_registered() -> None:
    with pytest.raises(MethodError, match="'last-first' does not exist"):
        method_named("last-first")
    assert register(LAST_FIRST) is LAST_FIRST
    assert method_named("last-first") is LAST_FIRST
    assert list(METHODS)[-1] == "last-first"


def test_a_schedule_of_ones_own_decides_what_is_left() -> None:
    example = EncodedExample("x", (1, 2), ((3,), (4, 5), (6,)), (7,))
    rules = LayoutRules(SpecialTokens(91, 92, 93, 94), Plan(num_stages=3))
    suffixes = [lay_out(example, LAST_FIRST, stage, rules).suffix for stage in range(4)]
    assert suffixes == [(3, 4, 5, 6, 7, 94), (3, 4, 5, 7, 94), (3, 7, 94), (7, 94)]


def rows_of(run: Path, kind: str) -> list[dict[str, Any]]:
    from latentcot.runs.folder import read_metrics

    return [row for row in read_metrics(run) if row["kind"] == kind]


def test_a_schedule_of_ones_own_is_trained_and_evaluated(
    make_recipe: Any, data: Path, tmp_path: Path
) -> None:
    import latentcot

    register(LAST_FIRST)
    recipe = make_recipe("last-first")
    assert latentcot.train(recipe, tmp_path / "run", is_quiet=True)
    assert [row["stage"] for row in rows_of(tmp_path / "run", "train")] == sorted([0, 1, 2] * 4)
    reasoner = latentcot.load(tmp_path / "run")
    assert (reasoner.info.method, reasoner.info.stage) == ("last-first", 2)
    result = latentcot.evaluate(reasoner, latentcot.read_examples(data / "test.jsonl"))
    assert (result.method, result.accuracy.n) == ("last-first", 8)
    assert result.thoughts_per_question == 0


def test_a_feed_of_ones_own_is_trained_and_evaluated(
    make_recipe: Any, data: Path, tmp_path: Path
) -> None:
    import torch

    import latentcot

    register(HALF_THOUGHT)
    runs = {}
    for name in ("half-thought", "coconut"):
        assert latentcot.train(make_recipe(name), tmp_path / name, is_quiet=True)
        runs[name] = [row["loss"] for row in rows_of(tmp_path / name, "train")]
    assert runs["half-thought"][:4] == runs["coconut"][:4]  # stage 0 has no thoughts
    assert runs["half-thought"][4] != runs["coconut"][4]

    reasoner = latentcot.load(tmp_path / "half-thought")
    examples = latentcot.read_examples(data / "test.jsonl")
    result = latentcot.evaluate(reasoner, examples)
    assert result.thoughts_per_question == 2
    questions = [example.question for example in examples]
    for num_thoughts in (1, 2):
        found = reasoner.think(questions, num_thoughts)
        more = reasoner.think(questions, num_thoughts + 1)
        torch.testing.assert_close(more.thoughts[:, num_thoughts], found.last_states / 2)


def test_a_taken_name_is_refused() -> None:
    coconut = METHODS["coconut"]
    other = Method("coconut", ALL_AT_ONCE, THOUGHT, True, "mine")
    with pytest.raises(MethodError, match="method 'coconut' exists already") as caught:
        register(other)
    assert "Give yours another name" in str(caught.value)
    assert METHODS["coconut"] is coconut


def test_the_same_row_again_is_no_other_row() -> None:
    """A notebook cell that is run twice."""
    for _ in range(2):
        register(LAST_FIRST)
    assert list(METHODS).count("last-first") == 1


@pytest.mark.parametrize("odd", ["coconut", None, LAST_FIRST.schedule, Method])
def test_what_is_no_method_is_refused(odd: Any) -> None:
    before = dict(METHODS)
    with pytest.raises(MethodError, match=r"needs a latentcot\.Method, got \w+"):
        register(odd)
    assert before == METHODS


# --- by an installed package ---

MODULE = """
from latentcot.methods.table import STEP_PER_STAGE, Fill, Method

FILL = Fill("a third of the thought", feed=lambda latent, tokens: latent.state / 3, is_thought=True)
THIRD = Method("third-thought", STEP_PER_STAGE, FILL, True, "Coconut with much smaller thoughts")
TAKEN = Method("coconut", STEP_PER_STAGE, FILL, True, "mine")
NOTHING = 3
"""


def install(folder: Path, target: str) -> Path:
    """What an installer leaves: a module and its entry points."""
    folder.mkdir()
    (folder / "third_thought.py").write_text(MODULE)
    info = folder / "third_thought-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-thought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nthird = {target}\n")
    return folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function (target) → this process, with a package that has this entry point."""

    def make(target: str) -> Path:
        folder = install(tmp_path / "site", target)
        monkeypatch.syspath_prepend(folder)
        load_entry_points.cache_clear()
        return folder

    yield make
    sys.modules.pop("third_thought", None)


def test_an_entry_point_is_found_when_its_name_is_asked_for(site: Any) -> None:
    site("third_thought:THIRD")
    assert "third-thought" not in METHODS
    assert method_named("coconut") is METHODS["coconut"]
    assert "third_thought" not in sys.modules, "nothing is imported for a name that is known"
    assert method_named("third-thought").fill.summary == "a third of the thought"
    assert method_named("third-thought") is METHODS["third-thought"]


def test_an_unknown_name_is_told_those_of_entry_points_too(site: Any) -> None:
    site("third_thought:THIRD")
    with pytest.raises(MethodError, match=r"Did you mean 'third-thought'\?"):
        method_named("third-thougth")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("third_thought:NOWHERE", r"'third' \(third_thought:NOWHERE\) cannot be loaded: .*NOWHERE"),
        ("no_such_module:THIRD", r"\(no_such_module:THIRD\) cannot be loaded: No module named"),
        ("third_thought:TAKEN", "method 'coconut' exists already"),
        ("third_thought:NOTHING", r"needs a latentcot\.Method, got int"),
    ],
)
def test_a_broken_entry_point_is_an_error_in_words(
    site: Any, latentcot: Any, target: str, words: str
) -> None:
    site(target)
    for _ in range(2):  # and again the same
        with pytest.raises(MethodError, match=words):
            load_entry_points()
    ended = latentcot("list", "methods")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("MethodError: ")
    assert method_named("coconut").name == "coconut", "what the package has goes on working"


def test_a_module_that_fails_when_it_is_imported(site: Any) -> None:
    (site("third_thought:THIRD") / "third_thought.py").write_text("1 / 0")
    with pytest.raises(
        MethodError, match=r"cannot be loaded: division by zero\. Mend or uninstall"
    ):
        load_entry_points()


def test_an_installed_method_works_on_the_command_line(
    recipe_values: Any, data: Path, tmp_path: Path, site: Any
) -> None:
    """In processes of their own, which know nothing of these tests."""
    import latentcot

    folder = site("third_thought:THIRD")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(recipe_values("third-thought", training={"max_updates": 9})))
    paths = os.pathsep.join([str(folder), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "200"}

    def run(*words: object) -> str:
        command = [sys.executable, "-m", "latentcot", *map(str, words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = run("list", "methods")
    assert "third-thought" in shown
    assert "Coconut with much smaller thoughts" in shown
    run("train", recipe, "--out", tmp_path / "run", "--quiet")
    assert len(rows_of(tmp_path / "run", "train")) == 9
    reasoner = latentcot.load(tmp_path / "run")
    assert (reasoner.info.method, reasoner.info.stage) == ("third-thought", 2)
    result = latentcot.evaluate(reasoner, latentcot.read_examples(data / "test.jsonl"))
    assert result.thoughts_per_question == 2
