"""What holds for the generators of all tasks: splits, seeds, and options that check themselves."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from latentcot.errors import RecipeError
from latentcot.tasks import TASKS, Task
from latentcot.tasks.generators import Range, check

MADE = [task for task in TASKS.values() if task.make]
SIZES = {"train": 50, "valid": 10, "test": 20}


def splits(task: Task, sizes: dict[str, int], seed: int, *rest: Any) -> Any:
    assert task.make is not None
    return task.make(task.options_of(), sizes, seed, *rest)


@pytest.mark.parametrize("task", MADE, ids=lambda task: task.name)
def test_more_training_examples_leave_the_other_splits_alone(task: Task) -> None:
    small, large = splits(task, SIZES, 3), splits(task, SIZES | {"train": 90}, 3)
    assert (small["valid"], small["test"]) == (large["valid"], large["test"])
    assert small["train"] == large["train"][:50]
    assert [one.id for one in small["valid"]] == [f"valid-{number}" for number in range(10)]
    questions = [one.question for examples in large.values() for one in examples]
    assert len(set(questions)) == 120
    assert splits(task, {"test": 20}, 4)["test"] != small["test"]


@pytest.mark.parametrize("task", MADE, ids=lambda task: task.name)
def test_progress_adds_up(task: Task) -> None:
    counts: list[int] = []
    splits(task, {"train": 250, "test": 30}, 0, counts.append)
    assert sum(counts) == 280
    assert len(counts) == 4  # not for each example: a progress bar takes longer than making one


@dataclass(frozen=True)
class Some:
    kind: Literal["one", "two"] = "one"
    count: Annotated[int, Range(1)] = 1
    few: Annotated[int | None, Range(1, 8)] = None
    share: Annotated[float, Range(0, 1)] = 0.5
    mean: Annotated[float, Range(0, 20, is_open=True)] = 1
    flag: bool = True
    maybe: Literal["a", "b"] | None = None
    either: bool | None = None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "three"}, "kind must be one of one, two, got 'three'."),
        ({"count": 0}, "count must be a whole number of at least 1, got 0."),
        ({"count": None}, "count must be a whole number of at least 1, got None."),
        ({"count": True}, "count must be a whole number of at least 1, got True."),
        ({"few": 9}, "few must be a whole number from 1 to 8, got 9."),
        ({"few": 2.0}, "few must be a whole number from 1 to 8, got 2.0."),
        ({"share": 1.01}, "share must be a number from 0 to 1, got 1.01."),
        ({"share": float("nan")}, "share must be a number from 0 to 1, got nan."),
        ({"mean": 0}, "mean must be a number above 0 and at most 20, got 0."),
        ({"mean": "3"}, "mean must be a number above 0 and at most 20, got '3'."),
        ({"flag": 1}, "flag must be true or false, got 1."),
        ({"flag": None}, "flag must be true or false, got None."),
        ({"maybe": "c"}, "maybe must be one of a, b, got 'c'."),
        ({"either": 0}, "either must be true or false, got 0."),
        ({"few": 8, "share": 1, "mean": 20.0, "maybe": "b", "either": False}, ""),
    ],
)
def test_options_are_held_against_their_types(changes: dict[str, Any], message: str) -> None:
    if not message:
        check("some", Some(**changes))
        return
    with pytest.raises(RecipeError) as caught:
        check("some", Some(**changes), ["another"])
    assert str(caught.value) == f"some options:\n- {message}\n- another"
