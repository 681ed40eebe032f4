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
from latentcot.errors import MethodError, RecipeError
from latentcot.methods import (
    ALL_AT_ONCE,
    ENTRY_POINTS,
    METHODS,
    NOTHING,
    STEP_PER_STAGE,
    THOUGHT,
    Method,
    Plan,
    Registered,
    Schedule,
    Sequential,
    View,
    load_entry_points,
    method_named,
    register,
    row,
)
from latentcot.recipes.recipe import make_recipe
from tiny_runs import rows_of

FROM_THE_END = Schedule(
    stages=lambda plan: range(plan.num_stages + 1),
    left=lambda steps, stage, plan: steps[: max(0, len(steps) - stage)],
)
LAST_FIRST = row("last-first", FROM_THE_END, NOTHING, False, "a curriculum from the other end")
VIEW = LAST_FIRST.bound({}).view
HALF_THOUGHT = row(
    "half-thought",
    STEP_PER_STAGE,
    Sequential(lambda latent: latent.state / 2, "half of the thought"),
    True,
    "Coconut with smaller thoughts",
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
    for _ in range(2):  # a notebook cell that is run twice
        assert register(LAST_FIRST) is LAST_FIRST
    assert list(METHODS).count("last-first") == 1
    assert method_named("last-first").view == VIEW
    assert list(METHODS)[-1] == "last-first"


def test_a_schedule_of_ones_own_decides_what_is_left() -> None:
    example = EncodedExample("x", (1, 2), ((3,), (4, 5), (6,)), (7,))
    rules = LayoutRules(SpecialTokens(91, 92, 93, 94), Plan(num_stages=3))
    suffixes = [lay_out(example, VIEW, stage, rules).suffix for stage in range(4)]
    assert suffixes == [(3, 4, 5, 6, 7, 94), (3, 4, 5, 7, 94), (3, 7, 94), (7, 94)]


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


def test_an_update_of_ones_own_is_trained_and_evaluated(
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
    assert latentcot.evaluate(reasoner, examples).thoughts_per_question == 2
    questions = [example.question for example in examples]
    for num_thoughts in (1, 2):
        found = reasoner.think(questions, num_thoughts)
        more = reasoner.think(questions, num_thoughts + 1)
        torch.testing.assert_close(more.thoughts[:, num_thoughts], found.last_states / 2)


def test_a_taken_name_is_refused() -> None:
    coconut = METHODS["coconut"]
    other = row("coconut", ALL_AT_ONCE, THOUGHT, True, "mine")
    with pytest.raises(MethodError, match="method 'coconut' exists already") as caught:
        register(other)
    assert "Give yours another name" in str(caught.value)
    assert METHODS["coconut"] is coconut


@pytest.mark.parametrize("odd", ["coconut", None, VIEW, Method])
def test_what_is_no_method_is_refused(odd: Any) -> None:
    before = dict(METHODS)
    with pytest.raises(MethodError, match=r"needs a latentcot\.Method, .* got \w+"):
        register(odd)
    assert before == METHODS


# --- by an installed package ---

MODULE = """
from dataclasses import dataclass

import torch
from torch import nn

from latentcot.methods import (
    STEP_PER_STAGE, Method, Module, Registered, Sequential, Term, View, row
)
from latentcot.methods.terms import language, measures

LATENTS = Sequential(lambda latent: latent.state / 3, "a third of the thought")
THIRD = row("third-thought", STEP_PER_STAGE, LATENTS, True, "Coconut with much smaller thoughts")
TAKEN = row("coconut", STEP_PER_STAGE, LATENTS, True, "mine")
NOTHING = 3


@dataclass(frozen=True)
class Settings:
    __pydantic_config__ = {"extra": "forbid"}

    penalty: float = 0.5


def make(settings):
    def gate(model):
        return nn.Linear(model.config.hidden_size, model.config.hidden_size)

    def size(readings):
        return readings["answer"].rollout.latent_inputs.square().sum()

    gated = Sequential(lambda latent: latent.modules["gate"](latent.state), "gated thoughts")
    def count(laid):
        return (laid.layouts["answer"].num_latents,)

    penalty = Term("penalty", size, count, settings.penalty)
    ghost = Term("ghost", lambda got: got.modules["ghost"].weight.sum(), lambda laid: (1,))
    return Method(
        "gated",
        {"answer": View(STEP_PER_STAGE, gated, True)},
        (language("answer"), penalty, ghost, *measures("answer")),
        {"gate": Module(gate), "ghost": Module(lambda model: nn.Linear(2, 1), is_kept=False)},
    )


GATED = Registered("gated", "thoughts through a learned gate", make, Settings)
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
    assert method_named("coconut").name == "coconut"
    assert "third_thought" not in sys.modules, "nothing is imported for a name that is known"
    with pytest.raises(MethodError, match=r"Did you mean 'third-thought'\?"):
        method_named("third-thougth")
    assert method_named("third-thought").view.latents.summary == "a third of the thought"
    assert "third-thought" in METHODS


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("third_thought:NOWHERE", r"'third' \(third_thought:NOWHERE\) cannot be loaded: .*NOWHERE"),
        ("no_such_module:THIRD", r"\(no_such_module:THIRD\) cannot be loaded: No module named"),
        ("third_thought:TAKEN", "method 'coconut' exists already"),
        ("third_thought:NOTHING", r"needs a latentcot\.Method, .* got int"),
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
    with pytest.raises(MethodError, match=r"cannot be loaded: division by zero\. Fix or uninstall"):
        load_entry_points()


@pytest.mark.slow
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


def test_terms_and_modules_come_from_outside(
    site: Any, make_recipe: Any, data: Path, tmp_path: Path
) -> None:
    """A method with settings, a term and modules: trained, stopped, resumed, saved, answered."""
    import torch

    import latentcot
    from interrupts import in_update, press_ctrl_c
    from latentcot.runs.checkpoint import load_training_state
    from latentcot.runs.checkpoint_folders import checkpoint_folders

    site("third_thought:GATED")
    recipe = make_recipe(method={"name": "gated", "penalty": 0.1})
    assert recipe.method == {"name": "gated", "penalty": 0.1}
    assert latentcot.train(recipe, tmp_path / "whole", is_quiet=True)
    with in_update(6, press_ctrl_c):
        assert not latentcot.train(recipe, tmp_path / "cut", is_quiet=True)
    assert latentcot.train(recipe, tmp_path / "cut", resume=True, is_quiet=True)
    whole, cut = (rows_of(tmp_path / name, "train") for name in ("whole", "cut"))
    assert [row["penalty"] for row in whole] == [row["penalty"] for row in cut]
    assert whole[0]["penalty"] is None and whole[-1]["penalty"] > 0

    newest = checkpoint_folders(tmp_path / "whole")[-1]
    assert (newest / "modules.safetensors").is_file()
    assert set(load_training_state(newest)["modules"]) == {"ghost.weight", "ghost.bias"}
    reasoner = latentcot.load(tmp_path / "whole")
    assert list(reasoner.modules) == ["gate"]
    assert reasoner.info.method == recipe.method
    again = latentcot.load(tmp_path / "cut")
    for name, weight in reasoner.modules["gate"].state_dict().items():
        torch.testing.assert_close(again.modules["gate"].state_dict()[name], weight)
    result = latentcot.evaluate(reasoner, latentcot.read_examples(data / "test.jsonl"))
    assert result.thoughts_per_question == 2


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"name": "codi", "num_latent": 3}, "method.num_latent: .*num_latents"),
        ({"name": "codi", "num_latents": 0}, "method.num_latents: .*got 0"),
        ({"name": "coconut", "weight": 1}, "method.weight"),
        ({"num_latents": 3}, "must be a name, or a name with settings"),
        ({"name": "simcot", "host": "nowhere"}, "'nowhere' does not exist"),
    ],
)
def test_settings_that_are_wrong_are_told(choice: Any, words: str) -> None:
    with pytest.raises(MethodError, match=words):
        method_named(choice)
    with pytest.raises(RecipeError, match=words) as caught:
        make_recipe({"method": choice, "data": {"train": "a.jsonl", "valid": "b.jsonl"}})
    assert "method: method." not in str(caught.value)


def test_a_method_that_trains_nothing_is_refused() -> None:
    from latentcot.methods.terms import language

    with pytest.raises(MethodError, match="one of them must have a weight"):
        Method("idle", {"answer": View(STEP_PER_STAGE)}, ())
    with pytest.raises(MethodError, match="none of .*'stage'"):
        Method("idle", {"answer": View(STEP_PER_STAGE)}, (language("answer", name="stage"),))
    with pytest.raises(MethodError, match="answers: must be one of its views"):
        Method("idle", {"student": View(STEP_PER_STAGE)}, ())


def test_a_method_without_settings_is_registered_as_it_is() -> None:
    from latentcot.methods.terms import language

    mine = Method("mine", {"answer": View(STEP_PER_STAGE, THOUGHT, True)}, (language("answer"),))
    for _ in range(2):
        assert register(mine) is mine
    assert method_named("mine").view == mine.view
    assert isinstance(METHODS["mine"], Registered)
