"""`latentcot show` against drawings that were checked by hand: tests/golden/*.drawing.

Each shows all nine methods at all stages. After a change that is meant, print a drawing anew with
the command in its test, and read it before it replaces the old one.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentcot.methods import METHODS

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = [("prosqa", "prosqa.jsonl:1"), ("prosqa", "prosqa.jsonl:2"), ("gsm8k", "gsm8k.txt:1"),
         ("gsm8k", "gsm8k.txt:2"), ("prontoqa", "prontoqa.json:1")]  # fmt: skip
Run = Callable[..., Any]


@pytest.mark.parametrize(("recipe", "example"), CASES, ids=[example for _, example in CASES])
def test_drawings(latentcot: Run, recipe: str, example: str) -> None:
    with contextlib.chdir(GOLDEN):
        ended = latentcot("show", f"{recipe}.yaml", "--example", example, "--method", "all")
    assert (ended.code, ended.err) == (0, "")
    name = f"{recipe}-{example.rpartition(':')[2]}.drawing"
    assert ended.out == (GOLDEN / name).read_text(encoding="utf-8")
    assert all(f"\n{method}\n" in ended.out for method in METHODS)


def test_without_example_the_first_validation_example_is_drawn(latentcot: Run) -> None:
    with contextlib.chdir(GOLDEN):
        given = latentcot("show", "prosqa.yaml", "--example", "prosqa.jsonl:1")
        assert latentcot("show", "prosqa.yaml").out == given.out
    assert "\ncoconut\n" in given.out and "\ncot\n" not in given.out


def test_a_method_and_a_setting_of_it(latentcot: Run) -> None:
    """Whoever gives both means both, in any order."""
    with contextlib.chdir(GOLDEN):
        ended = latentcot("show", "prosqa.yaml", "--set", "method.rate=1", "--method", "colar")
    assert "question <pause> h0 h1 h2 ┃" in ended.out


def test_a_stage_column_by_column(latentcot: Run) -> None:
    """A thought is read where no token is, and its column says nothing but what follows it."""
    with contextlib.chdir(GOLDEN):
        ended = latentcot("show", "prosqa.yaml", "--stage", "2", "--method", "coconut")
    rows = [line.split() for line in ended.out.splitlines()]
    read = [row[-1] for row in rows if row and row[0].isdigit()]
    assert read.count("h0") == read.count("h1") == 1
    assert ["20", "3", "<eot>", "1"] in rows
    assert read[-1] == "<eos>"


def test_a_stage_of_every_method_that_has_it(latentcot: Run) -> None:
    with contextlib.chdir(GOLDEN):
        ended = latentcot("show", "prosqa.yaml", "--stage", "2", "--method", "all")
    assert "cot has the stages 0 to 0 with this recipe, got 2." in ended.out
    assert "coconut, stage 2" in ended.out and ended.code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--example", "prosqa.jsonl:3"], "examples are counted from 1, and prosqa.jsonl has 2"),
        (["--example", "prosqa.jsonl:0"], "examples are counted from 1"),
        (["--example", "none.jsonl"], "none.jsonl: no such file"),
        (["--stage", "4"], "--stage: coconut has the stages 0 to 3 with this recipe, got 4"),
        (["--method", "cocnut"], "Did you mean 'coconut'?"),
    ],
)
def test_what_cannot_be_shown(latentcot: Run, words: list[str], message: str) -> None:
    with contextlib.chdir(GOLDEN):
        ended = latentcot("show", "prosqa.yaml", *words)
    assert ended.code == 2 and message in ended.err
