"""When an answer is right: each way to match, and custom data from a file to a result."""

import json
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcot import (
    Example,
    MethodError,
    RecipeError,
    evaluate,
    load,
    read_examples,
    read_recipe,
    train,
)
from latentcot.recipes.recipe import write_recipe
from latentcot.runs.checkpoint import load_checkpoint
from latentcot.tasks import TASKS, AnswerMatch, extract_answer, task_named, task_of
from latentcot.tasks.prosqa.options import options_named

EXACT, NUMBER = (task_named(AnswerMatch(match=kind)).is_correct for kind in ("exact", "number"))


def by(pattern: str) -> Any:
    return task_named(AnswerMatch(match="regex", pattern=pattern)).is_correct


# --- the tasks of the paper ---


def test_these_are_all_tasks() -> None:
    assert list(TASKS) == ["prosqa", "prontoqa", "gsm8k", "arithmetic"]
    for name, task in TASKS.items():
        assert task.name == name
        assert task.summary
        assert task_named(name) is task


@pytest.mark.parametrize(
    ("name", "predicted", "gold", "is_right"),
    [
        ("prosqa", "Tom is a  lempus.", "Tom is a lempus.", True),
        ("prosqa", "Tom is a lempus", "Tom is a lempus.", False),
        ("prosqa", "Tom is a Lempus.", "Tom is a lempus.", False),
        (AnswerMatch(), " a  b\n", "a b", True),
        (AnswerMatch(), "ab", "a b", False),
        (AnswerMatch(), "A b", "a b", False),
        ("prontoqa", "True", "True", True),
        ("prontoqa", "False", "True", False),
        ("prontoqa", "True .", "True", False),
        ("gsm8k", "1,000", "1000", True),
        ("gsm8k", "1000", "1,000", True),
        ("gsm8k", "1000.0", "1000", False),  # the paper compares texts
        ("gsm8k", "10", "1,0", True),
        ("gsm8k", "-3", "3", False),
        ("gsm8k", "", "3", False),
    ],
)
def test_answers_are_compared_as_texts(
    name: Any, predicted: str, gold: str, is_right: bool
) -> None:
    assert task_named(name).is_correct(predicted, gold) is is_right


def test_a_task_says_whether_its_examples_have_graphs_and_which_are_its_own() -> None:
    [graph] = task_named("prosqa").make(options_named("two-family"), {"test": 1}, 0)["test"]
    for task in ("prosqa", AnswerMatch()):  # custom data may carry graphs too
        assert task_named(task).graph_of(graph).num_nodes == 15
    assert task_named("gsm8k").graph_of is None
    told = {"prosqa": graph, "gsm8k": Example("x", "Why?", ("<<1+1=2>>",), "2"),
            "prontoqa": Example("x", "Max is hot. True or false: Max is hot.", (), "True"),
            "own": Example("x", "Why?", ("So.",), "2")}  # fmt: skip
    assert {name: task_of([example]).name for name, example in told.items()} == {n: n for n in told}


def test_an_unknown_task_is_refused_with_what_there_is() -> None:
    with pytest.raises(MethodError, match=r"Did you mean 'gsm8k'\?.*match: exact") as caught:
        task_named("gsm8")
    assert all(name in str(caught.value) for name in TASKS)


@pytest.mark.parametrize(
    ("text", "start", "answer"),
    [
        ("a b ### c d", "### ", "c d"),
        ("### a ### b", "### ", "b"),
        ("a b c", "### ", ""),
        ("a\n### c ", "\n### ", "c"),
        ("###", "### ", ""),
    ],
)
def test_the_answer_stands_behind_the_last_mark(text: str, start: str, answer: str) -> None:
    assert extract_answer(text, start) == answer


# --- by number ---


@pytest.mark.parametrize(
    ("predicted", "gold", "is_right"),
    [
        ("4.0", "4", True),
        ("004", "4", True),
        (".5", "0.5", True),
        ("-.5", "-0.50", True),
        ("1,000", "1000", True),
        ("1,000,000.50", "1000000.5", True),
        ("-3", "3", False),
        ("$ 12 each", "12", True),
        ("It is 7.", "7", True),
        ("7, or 8", "7", True),
        ("7, or 8", "8", False),  # the first number counts
        ("3.14159", "3.1416", False),
        ("0.1", "0.10000000000000001", True),  # what floats leave
        ("21557.25", "21557.250000000004", True),
        ("21557.25", "21557.2500001", False),
        ("1000000000000000000001", "1000000000000000000000", False),
        ("none", "3", False),
        ("3", "none", False),
        ("none", "none", True),  # a gold answer that is no number is a text
        ("12%", "12", True),
        ("5-3", "5", False),
        ("1/3", "1/2", False),
        ("0.5", "1/2", True),
        ("3:45", "3:30", False),
        ("3", "3:30", False),
        ("3:30", "3:30", True),
        ("10-30", "10-20", False),
        ("2024-11-28", "2024", False),
        ("14", r"\frac{14}{3}", False),
        ("14/3", r"\dfrac{14}{3}", True),
        ("1/0", "1", False),
        ("5", "-$5", False),
        ("-5", "-$5", True),
        ("-5", "- 5", True),
        ("-5", "($5)", True),
        ("-5", "–5", True),
        ("(5)", "5", True),
        ("€5", "$5", True),
        ("a1", "1", False),
        ("1e5", "100,000", True),
        ("−3", "-3", True),
        ("2e-1", ".2", True),
        ("1e", "1", True),
    ],
)
def test_by_the_number(predicted: str, gold: str, is_right: bool) -> None:
    assert NUMBER(predicted, gold) is is_right


def test_a_number_longer_than_python_reads_as_an_integer() -> None:
    """A model may babble digits; that is wrong, but no crash."""
    assert not NUMBER("9" * 6000, "9")
    assert NUMBER("9" * 6000, "9" * 6000)


numbers = st.decimals(-(10**9), 10**9, allow_nan=False, places=3)


@given(numbers, numbers)
def test_numbers_are_equal_by_value(one: Decimal, other: Decimal) -> None:
    assert NUMBER(f"x {one} y", f"{other}") == (one == other)


@given(numbers)
def test_commas_and_zeros_do_not_matter(value: Decimal) -> None:
    assert NUMBER(f"{value:,}", f"{value:f}")
    assert NUMBER(f"{value:f}00", f"{value:f}")
    assert not NUMBER(f"{value + Decimal('0.001')}", f"{value:f}")


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_two_texts_can_be_compared(one: str, other: str) -> None:
    """By every rule, the same both ways round; without a crash."""
    rules = [EXACT, NUMBER, by(r"\d+"), by(r"(\w)?-(\w)"), *(t.is_correct for t in TASKS.values())]
    for is_correct in rules:
        assert is_correct(one, other) in (True, False)
        assert is_correct(one, other) == is_correct(other, one)
    assert EXACT(one, one)


# --- as texts, by a pattern ---


@pytest.mark.parametrize(
    ("pattern", "predicted", "gold", "is_right"),
    [
        (r"[A-D]", "the answer is B.", "B", True),
        (r"[A-D]", "the answer is B.", "C", False),
        (r"is (\w+)", "it is red", "Tom is red", True),  # the group, not all that is found
        (r"is (\w+)", "it is red", "Tom is blue", False),
        (r"(?:is|are) \w+", "it is red", "they are red", False),  # without a group, all of it
        (r"(?i)yes|no", "Yes", "Yes!", True),
        (r"[A-D]", "nothing", "B", False),
        (r"[A-D]", "B", "nothing", False),
        (r"[A-D]", "nothing", "nothing", False),  # never right
        (r"x(y)?", "x", "x", False),  # a group that is not there is nothing found
        (r"\d*", "x", "y", False),  # nor is nothing
    ],
)
def test_by_a_pattern(pattern: str, predicted: str, gold: str, is_right: bool) -> None:
    assert by(pattern)(predicted, gold) is is_right


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"match": "regex"}, r"task.pattern: is for match: regex and needed there"),
        ({"match": "regex", "pattern": ""}, r"task.pattern: is for match: regex and needed there"),
        ({"match": "number", "pattern": "x"}, r"task.pattern: is for match: regex"),
        ({"pattern": "x"}, r"got match: exact and pattern: 'x'"),
        ({"match": "regex", "pattern": "("}, r"task.pattern: is no regular expression: .*'\('"),
        ({"match": "nearly"}, r"task.match: .*got 'nearly'"),
        ({"matches": "number"}, r"task.matches: is not a key .*Did you mean 'match'\?"),
        (["number"], r"task: must be the name of a task, or how to match answers"),
        (3, r"task: must be the name of a task"),
        ("gsm9k", r"Did you mean 'gsm8k'\?"),
    ],
)
def test_odd_rules_are_refused_with_their_key(make_recipe: Any, task: Any, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        make_recipe(task=task)
    assert "problems" not in str(caught.value), "one mistake, one line"


# --- data of one's own, from a file to a result ---


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sums whose answers are written with words around the number, and in several ways."""
    folder = tmp_path_factory.mktemp("own")
    for split, count in {"train": 16, "valid": 4, "test": 6}.items():
        rows = [
            {
                "question": f"{i % 4} plus {i % 3} ?",
                "steps": [f"{i % 4} plus {i % 3} is {i % 4 + i % 3}"],
                "answer": f"about {i % 4 + i % 3}{'.0' * (i % 2)}",
            }
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(scope="module")
def recipe(make_recipe: Any, own: Path) -> Any:
    files = {split: str(own / f"{split}.jsonl") for split in ("train", "valid", "test")}
    return make_recipe(
        data=files,
        task={"match": "number"},
        curriculum={"num_stages": 1},
        training={"batch_size": 4, "learning_rate": 1e-2, "max_updates": 60},
    )


@pytest.mark.parametrize(
    "task", [{"match": "number"}, {}, {"match": "regex", "pattern": r"(\d+): é'\n"}, "gsm8k"]
)
def test_recipes_round_trip(make_recipe: Any, task: Any, tmp_path: Path) -> None:
    recipe = make_recipe(task=task)
    (tmp_path / "recipe.yaml").write_text(write_recipe(recipe), encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    assert recipe.task == (AnswerMatch(**task) if isinstance(task, dict) else task)


def test_a_rule_can_be_set_on_the_command_line(recipe_file: Path) -> None:
    assert read_recipe(recipe_file, ["task={match: number}"]).task == AnswerMatch(match="number")
    sets = ["task.match=regex", "task.pattern='[A-D]'"]  # YAML takes brackets for a list
    (recipe_file.parent / "own.yaml").write_text(
        json.dumps(json.loads(recipe_file.read_text()) | {"task": {}})
    )
    found = read_recipe(recipe_file.parent / "own.yaml", sets)
    assert found.task == AnswerMatch(match="regex", pattern="[A-D]")


class TestOwnData:
    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
        run = tmp_path_factory.mktemp("own-run") / "run"
        assert train(recipe, run, is_quiet=True)
        return run

    def test_the_checkpoint_knows_the_rule(self, run: Path) -> None:
        assert load_checkpoint(run).info.task == AnswerMatch(match="number")

    def test_answers_are_scored_by_it(self, run: Path, own: Path) -> None:
        examples = read_examples(own / "test.jsonl")
        result = evaluate(load(run), examples)
        assert result.task == "own"
        for record in result.records:
            assert record.is_correct == NUMBER(record.answer, record.gold)
        assert result.accuracy.value == sum(record.is_correct for record in result.records) / 6

    def test_an_answer_may_be_written_in_another_way(self, run: Path, own: Path) -> None:
        """As numbers all that is right in other words counts, and as texts it does not."""
        from dataclasses import replace

        examples = read_examples(own / "test.jsonl")
        said = [record.answer for record in evaluate(load(run), examples).records]
        assert any(NUMBER(answer, answer) for answer in said), "it does say numbers"
        other = [
            replace(e, answer=f"{answer.removeprefix('about')} in all")
            for e, answer in zip(examples, said, strict=True)
        ]
        reasoner = load(run)
        encoded = reasoner.encode(examples)
        assert evaluate(reasoner, other, encoded=encoded).accuracy.value > 0
        reasoner.info = replace(reasoner.info, task=AnswerMatch())
        assert evaluate(reasoner, other, encoded=encoded).accuracy.value == 0

    def test_on_the_command_line(self, run: Path, latentcot: Any) -> None:
        shown = json.loads(latentcot("eval", run, "--json").out)
        assert (shown["task"], shown["accuracy"]["n"]) == ("own", 6)
        assert latentcot("generate", run, "1 plus 2 ?").code == 0

    def test_it_goes_on_with_the_same_rule_and_with_no_other(
        self, recipe: Any, run: Path, tmp_path: Path, make_recipe: Any
    ) -> None:
        from latentcot import RunError

        assert train(recipe, run, resume=True, is_quiet=True)
        values = asdict(recipe) | {"task": "gsm8k"}
        from latentcot.recipes.recipe import make_recipe as make

        with pytest.raises(RunError, match="another recipe"):
            train(make(values), run, resume=True, is_quiet=True)
