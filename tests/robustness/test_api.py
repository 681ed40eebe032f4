"""Values that a script may hand to the Python API by mistake: one of our errors, and no damage."""

from typing import Any

import pytest

import latentcot
from latentcot import Example, LatentcotError, Sampling
from latentcot.curriculum.stages import Curriculum
from latentcot.tasks import AnswerMatch

TOO_MUCH = 10**30


@pytest.fixture(scope="module")
def reasoner(tiny_run: Any) -> Any:
    return latentcot.load(tiny_run)


CALLS = {
    "no text": (lambda r: r.generate([None]), "questions: must be texts, got None"),
    "thoughts": (lambda r: r.think(["1"], num_thoughts=TOO_MUCH), "num_thoughts: must be 0"),
    "a file": (lambda r: latentcot.evaluate(r, "test.jsonl"), "as read_examples.* 'test.jsonl'"),
    "no recipe": (lambda r: latentcot.train("x.yaml", "out"), "train: needs a Recipe.*'x.yaml'"),
    "letters": (lambda r: Example("1", "q", "a b", "c"), "steps must be several texts.*'a b'"),
    "cold": (lambda r: Sampling(temperature=1e-45), "0.0001 ≤ temperature ≤ 10000"),
    "hot": (lambda r: Sampling(temperature=float("inf")), "0.0001 ≤ temperature ≤ 10000"),
    "no number": (lambda r: Sampling(temperature=float("nan")), "0.0001 ≤ temperature ≤ 10000"),
    "a pattern": (
        lambda r: AnswerMatch("regex", "(a|aa)+$").rule()("a" * 60 + "b", "a"),
        r"task.pattern: takes over 1 s on the answer 'aaa.*got '\(a.aa",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_is_refused_in_words(reasoner: Any, name: str) -> None:
    call, words = CALLS[name]
    with pytest.raises(LatentcotError, match=words):
        call(reasoner)


def test_a_device_that_does_not_exist(tiny_run: Any) -> None:
    for name in ("gpu0", "xpu"):  # no device of torch; one that torch here was built without
        with pytest.raises(LatentcotError, match=f"device: .*got '{name}'"):
            latentcot.load(tiny_run, device=name)


@pytest.mark.parametrize(
    "changes",
    [
        {"curriculum": {"epochs_stage_0": 1e308}},
        {"curriculum": {"num_stages": 10**200}},
        {"curriculum": {"thoughts_per_step": 10**200}},
        {"curriculum": {"num_stages": 5_000, "thoughts_per_step": 5_000}},
        {"training": {"epochs": 1e308}},
        {"generation": {"max_new_tokens": 10**6}},  # no checkpoint could be read back
        {"model": {"hidden_size": 10**9}},
        {"model": {"num_positions": 10**12}},
    ],
)
def test_sizes_that_no_machine_has(make_recipe: Any, changes: Any) -> None:
    with pytest.raises(LatentcotError, match="must be at most|less than or equal"):
        make_recipe(**changes)


def test_one_question_is_a_question(reasoner: Any, data: Any) -> None:
    question = latentcot.read_examples(data / "test.jsonl")[0].question
    assert reasoner.generate(question) == reasoner.generate([question])[0]


def test_epochs_have_a_bound() -> None:
    assert Curriculum(epochs_stage_0=1e5).epochs_stage_0 == 1e5
