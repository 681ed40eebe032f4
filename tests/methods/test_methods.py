"""The table: the eight rows of the paper's (arXiv 2412.06769, table 1), and one control."""

import pytest

from latentcot.errors import MethodError
from latentcot.methods import (
    ALL_AT_ONCE,
    KEEP_ALL,
    METHODS,
    NOTHING,
    PAPER_METHODS,
    PAUSE,
    PAUSE_MULTIPASS,
    STEP_PER_STAGE,
    THOUGHT,
    TOKEN_BY_TOKEN,
    Plan,
    method_named,
)

PAPER = {  # schedule, latents, special tokens
    "cot": (KEEP_ALL, NOTHING, False),
    "no-cot": (ALL_AT_ONCE, NOTHING, False),
    "icot": (TOKEN_BY_TOKEN, NOTHING, False),
    "pause": (ALL_AT_ONCE, PAUSE, True),
    "coconut": (STEP_PER_STAGE, THOUGHT, True),
    "coconut-no-curriculum": (ALL_AT_ONCE, THOUGHT, True),
    "coconut-no-thought": (STEP_PER_STAGE, NOTHING, False),
    "coconut-pause-as-thought": (STEP_PER_STAGE, PAUSE, True),
}
TABLE = PAPER | {"pause-multipass": (STEP_PER_STAGE, PAUSE_MULTIPASS, True)}


def test_the_table() -> None:
    views = {name: method_named(name).view for name in TABLE}
    rows = {name: (v.schedule, v.latents, v.has_special_tokens) for name, v in views.items()}
    assert rows == TABLE
    assert [*METHODS][: len(TABLE)] == list(TABLE), "in the order of the paper's table"
    assert tuple(PAPER) == PAPER_METHODS
    for name, row in METHODS.items():
        assert (row.name, method_named(name).name) == (name, name)
        assert row.summary.strip()


def test_no_two_schedules_and_no_two_latents_are_equal() -> None:
    """Rows are compared by them."""
    schedules = [KEEP_ALL, ALL_AT_ONCE, STEP_PER_STAGE, TOKEN_BY_TOKEN]
    latents = [THOUGHT, PAUSE, PAUSE_MULTIPASS, NOTHING]
    assert len(set(schedules)) == len(set(latents)) == 4
    assert [one.is_thought for one in latents] == [True, False, False, False]
    assert [schedule.is_by_token for schedule in schedules] == [False, False, False, True]


@pytest.mark.parametrize("is_longer", [False, True])
@pytest.mark.parametrize("name", TABLE)
def test_stages(name: str, is_longer: bool) -> None:
    plan = Plan(num_stages=3, final_stage_without_text=is_longer, tokens_until_all=6)
    stages = list(method_named(name).stages(plan))
    schedule = TABLE[name][0]
    if schedule is KEEP_ALL:
        assert stages == [0]
    elif schedule is ALL_AT_ONCE:
        assert stages == [3 + is_longer]
    elif schedule is STEP_PER_STAGE:
        assert stages == [0, 1, 2, 3, *[4] * is_longer]
    else:
        assert stages == [0, 1, 2, 3, 4, 5, 6]


def test_without_later_stages_every_method_by_steps_has_stage_0_alone() -> None:
    methods = [method_named(name) for name in METHODS]
    by_steps = [one for one in methods if not one.view.schedule.is_by_token]
    assert all(list(row.stages(Plan(num_stages=0))) == [0] for row in by_steps)


def test_unknown_name() -> None:
    message = r"'cocnut' does not exist\. Did you mean 'coconut'\?"
    with pytest.raises(MethodError, match=message) as caught:
        method_named("cocnut")
    assert all(name in str(caught.value) for name in METHODS)
    with pytest.raises(MethodError) as caught:
        method_named("zzz")
    assert "Did you mean" not in str(caught.value), "it is like no other"
