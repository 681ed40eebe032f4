"""A task from outside the package: made, counted, trained and scored like those inside."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import latentcot as package
from latentcot.cli.data import data as command
from latentcot.errors import MethodError
from latentcot.tasks import ENTRY_POINTS, TASKS, Task, load_entry_points, register_task, task_named

PAGE = Path(__file__).parents[2] / "docs" / "data-format.md"
MODULE = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[-1]
"""The task that the page shows, `SUMS`."""
SMALL = ["--train", "24", "--valid", "4", "--test", "4"]


@pytest.fixture(autouse=True)
def _table_as_before() -> Iterator[None]:
    before = dict(TASKS)
    load_entry_points.cache_clear()
    yield
    TASKS.clear()
    TASKS.update(before)
    load_entry_points.cache_clear()
    makers = command["make"]
    if "sums" in makers:
        del makers["sums"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function (target) → a folder on the path of this process: what an installer leaves."""

    def install(target: str | None) -> Path:
        info = tmp_path / "site" / "my_tasks-1.0.dist-info"
        info.mkdir(parents=True)
        (tmp_path / "site" / "my_tasks.py").write_text(f"{MODULE}\nNOTHING = 3\n")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-tasks\nVersion: 1.0\n")
        if target:
            (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nsums = {target}\n")
        monkeypatch.syspath_prepend(tmp_path / "site")
        return tmp_path / "site"

    yield install
    sys.modules.pop("my_tasks", None)


def test_a_task_by_a_call(
    site: Any, make_recipe: Any, tmp_path: Path, latentcot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    site(None)
    folder = tmp_path / "data"
    ended = latentcot("data", "make", "sums", "--out", folder)
    assert ended.code == 2 and "MethodError: task 'sums' does not exist" in ended.err
    from my_tasks import SUMS  # type: ignore[import-not-found]

    assert register_task(SUMS) is register_task(SUMS) is task_named("sums")
    shown = " ".join(latentcot("data", "make", "sums", "--help").out.split())
    assert "--largest INT The largest summand." in shown and "[choices: plus, and]" in shown
    ended = latentcot("data", "make", "sums", "--out", folder, "--largest", "0")
    assert "RecipeError: sums options:\n- largest must be a whole number of at least 1" in ended.err
    options = ["--largest", "20", "--sign", "and"]
    assert latentcot("data", "make", "sums", "--out", folder, *options, *SMALL).code == 0
    about = json.loads((folder / "data.json").read_text())
    assert (about["task"], about["options"]) == ("sums", {"largest": 20, "sign": "and"})
    assert about["counts"] == {"train": 24, "valid": 4, "test": 4}

    train = folder / "train.jsonl"  # has all words that a model of words must know
    files = dict.fromkeys(about["counts"], str(train))
    recipe = make_recipe("coconut", data=files, task="sums", curriculum={"num_stages": 1})
    assert package.train(recipe, tmp_path / "run", is_quiet=True)
    result = package.evaluate(package.load(tmp_path / "run"), package.read_examples(train))
    assert (result.task, result.accuracy.n) == ("sums", 24)


def test_a_task_by_an_entry_point_on_the_command_line(
    site: Any, tmp_path: Path, recipe_values: Any, latentcot: Any
) -> None:
    site("my_tasks:SUMS")
    assert "sums" in latentcot("data", "make", "--help").out
    ended = latentcot("data", "make", "sums", "--out", tmp_path / "data", *SMALL)
    assert "words of a step" in ended.out
    train = tmp_path / "data" / "train.jsonl"
    found = json.loads(latentcot("data", "stats", train, "--json").out)
    assert (found["num_examples"], found["step_histogram"]) == (24, {"1": 24})
    files = {"train": str(train), "valid": str(train)}
    values = recipe_values("cot", data=files, task="sums", training={"max_updates": 2})
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))
    ended = latentcot("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run", "--quiet")
    assert ended.code == 0, ended.err
    ended = latentcot("eval", tmp_path / "run", "--data", train, "--json")
    assert json.loads(ended.out)["task"] == "sums"


def test_nothing_is_imported_for_a_name_that_is_known(site: Any) -> None:
    site("my_tasks:SUMS")
    assert task_named("prosqa") is TASKS["prosqa"]
    assert "my_tasks" not in sys.modules
    with pytest.raises(MethodError, match=r"Did you mean 'sums'\?"):
        task_named("smus")
    assert task_named("sums").name == "sums"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            "my_tasks:NOWHERE",
            r"latentcot.tasks: 'sums' \(my_tasks:NOWHERE\) cannot be loaded: .*NOWHERE",
        ),
        ("no_such_module:SUMS", r"\(no_such_module:SUMS\) cannot be loaded: No module named"),
        ("my_tasks:NOTHING", r"needs a latentcot\.tasks\.Task, got int"),
    ],
)
def test_a_broken_entry_point_is_an_error_in_words(site: Any, target: str, words: str) -> None:
    site(target)
    for _ in range(2):  # and again the same
        with pytest.raises(MethodError, match=words):
            load_entry_points()
    assert task_named("prosqa") is TASKS["prosqa"], "what the package has works as before"


def test_a_taken_name_is_refused() -> None:
    prosqa = TASKS["prosqa"]
    with pytest.raises(
        MethodError, match="'prosqa' exists already. Give yours another name; there"
    ):
        register_task(Task(name="prosqa", summary="mine"))
    assert TASKS["prosqa"] is prosqa
