"""The table, pinned to the eight rows of the paper's (arXiv 2412.06769, table 1)."""

import pytest

from latentcot.errors import MethodError
from latentcot.methods import METHODS, Fill, Schedule, method_named

PAPER = {  # schedule, fill, markers, ready
    "cot": (Schedule.KEEP_ALL, Fill.NOTHING, False, True),
    "no-cot": (Schedule.ALL_AT_ONCE, Fill.NOTHING, False, True),
    "icot": (Schedule.TOKEN_BY_TOKEN, Fill.NOTHING, False, False),
    "pause": (Schedule.ALL_AT_ONCE, Fill.PAUSE, True, True),
    "coconut": (Schedule.STEP_PER_STAGE, Fill.THOUGHT, True, True),
    "coconut-no-curriculum": (Schedule.ALL_AT_ONCE, Fill.THOUGHT, True, True),
    "coconut-no-thought": (Schedule.STEP_PER_STAGE, Fill.NOTHING, False, True),
    "coconut-pause-as-thought": (Schedule.STEP_PER_STAGE, Fill.PAUSE, True, True),
}


def test_the_table() -> None:
    rows = {
        name: (row.schedule, row.fill, row.has_markers, row.is_ready)
        for name, row in METHODS.items()
    }
    assert rows == PAPER


def test_each_row_is_found_under_its_name_and_says_what_it_is() -> None:
    for name, row in METHODS.items():
        assert row.name == name
        assert row.summary.strip()
        if row.is_ready:
            assert method_named(name) is row


@pytest.mark.parametrize("name", PAPER)
def test_stages(name: str) -> None:
    stages = list(METHODS[name].stages(3))
    match PAPER[name][0]:
        case Schedule.KEEP_ALL:
            assert stages == [0]
        case Schedule.ALL_AT_ONCE:
            assert stages == [3]
        case _:
            assert stages == [0, 1, 2, 3]


def test_without_later_stages_every_method_has_stage_0_alone() -> None:
    assert all(list(row.stages(0)) == [0] for row in METHODS.values())


def test_unknown_name() -> None:
    with pytest.raises(
        MethodError, match=r"'cocnut' does not exist\. Did you mean 'coconut'\?"
    ) as e:
        method_named("cocnut")
    assert all(name in str(e.value) for name in METHODS)


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(MethodError) as caught:
        method_named("zzz")
    assert "Did you mean" not in str(caught.value)


def test_icot_is_refused_by_name_with_those_that_work() -> None:
    with pytest.raises(MethodError, match="'icot' is declared but does not work yet") as caught:
        method_named("icot")
    offered = str(caught.value).partition("Use one of: ")[2].rstrip(".").split(", ")
    assert offered == [name for name in PAPER if name != "icot"]
