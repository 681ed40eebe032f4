"""The curriculum: phases, the clock that goes through them, and stage mixing."""

from collections import Counter
from typing import Any

import pytest

from latentcot.curriculum.stages import Curriculum, Phase, StageClock, draw_stages, phases_of
from latentcot.methods import STEP_PER_STAGE, method_named


def clock(method: str = "coconut", updates_per_epoch: int = 10, **rules: Any) -> StageClock:
    curriculum = Curriculum(**{"num_stages": 2, **rules})
    return StageClock(
        curriculum, phases_of(curriculum, method_named(method).view), updates_per_epoch
    )


def stages_seen(a_clock: StageClock, losses: list[float | None]) -> list[int]:
    seen = []
    for loss in losses:
        seen.append(a_clock.phase.stage)
        a_clock.record(loss)
    return seen


def test_coconut_goes_through_all_stages() -> None:
    rules = Curriculum(num_stages=2, epochs_stage_0=6, epochs_per_stage=3)
    phases = phases_of(rules, method_named("coconut").view)
    assert phases == [Phase(0, "both", 6), Phase(1, "both", 3), Phase(2, "both", 3)]


def test_the_final_stage_without_text_is_one_more() -> None:
    rules = Curriculum(num_stages=2, final_stage_without_text=True)
    assert [p.stage for p in phases_of(rules, method_named("coconut").view)] == [0, 1, 2, 3]
    assert [p.stage for p in phases_of(rules, method_named("coconut-no-curriculum").view)] == [3]
    assert rules.num_phases == 4


def test_special_tokens_are_introduced_after_ordinary_chain_of_thought() -> None:
    rules = Curriculum(
        num_stages=1, zero_thoughts="bot", introduce_special_tokens=True, epochs_stage_0=4
    )
    phases = phases_of(rules, method_named("coconut").view)
    assert phases == [Phase(0, "none", 2), Phase(0, "bot", 2), Phase(1, "bot", 5)]
    assert rules.num_phases == 3


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("coconut", [(0, 0.5, 7), (0, 0.3, 8), (1, 0.1, 9), (2, None, None)]),
        # Of the phases before it has the first and the third.
        ("coconut-no-thought", [(0, 0.5, 7), (1, 0.1, 9), (2, None, None)]),
    ],
)
def test_a_learned_phase_has_its_own_values_but_for_the_last(
    method: str, expected: list[Any]
) -> None:
    rules = Curriculum(
        num_stages=2,
        introduce_special_tokens=True,
        advance="learned",
        learned_below=[0.5, 0.3, 0.1],
        max_updates_per_stage=[7, 8, 9],
    )
    phases = phases_of(rules, method_named(method).view)
    assert [(p.stage, p.learned_below, p.max_updates) for p in phases] == expected


def test_a_method_without_special_tokens_has_all_epochs_of_stage_0_in_its_one_part() -> None:
    rules = Curriculum(num_stages=1, introduce_special_tokens=True, epochs_stage_0=4)
    assert [p.epochs for p in phases_of(rules, method_named("coconut-no-thought").view)] == [4, 5]


@pytest.mark.parametrize("is_introduced", [True, False])
def test_methods_without_a_curriculum_have_one_phase(is_introduced: bool) -> None:
    rules = Curriculum(num_stages=3, introduce_special_tokens=is_introduced)
    assert [p.stage for p in phases_of(rules, method_named("cot").view)] == [0]
    for name in ("no-cot", "pause", "coconut-no-curriculum"):
        assert [p.stage for p in phases_of(rules, method_named(name).view)] == [3]


def test_stages_last_their_epochs_and_the_last_goes_on() -> None:
    a_clock = clock(advance="epochs", epochs_stage_0=2, epochs_per_stage=0.5, updates_per_epoch=4)
    assert stages_seen(a_clock, [None] * 14) == [0] * 8 + [1] * 2 + [2] * 4


def test_the_parts_of_stage_0_share_its_epochs() -> None:
    a_clock = clock(introduce_special_tokens=True, epochs_stage_0=2, updates_per_epoch=3)
    assert [a_clock.record(None) for _ in range(6)] == [False, False, True] * 2
    assert a_clock.phase.stage == 1


@pytest.mark.parametrize(
    ("rules", "losses", "stages"),
    [
        # Means of two: 0.55, 0.45 → the third update ends stage 0.
        ({"learned_window": 2}, [0.6, 0.5, 0.4, 9, 9, 9], [0, 0, 0, 1, 1, 1]),
        # A window starts again with each stage.
        ({"learned_window": 3}, [0.1] * 7, [0, 0, 0, 1, 1, 1, 2]),
        # Updates of other stages do not tell what was learned.
        ({"learned_window": 2}, [0.1, None, None, 0.1, None], [0, 0, 0, 0, 1]),
        # Each phase can have its own threshold and cap.
        (
            {"learned_below": [0.5, 0.1], "max_updates_per_stage": [100, 4], "learned_window": 1},
            [0.3] * 6,
            [0, 1, 1, 1, 1, 2],
        ),
        # A stage that is not learned ends at its cap.
        (
            {"learned_below": 0.1, "max_updates_per_stage": 3, "learned_window": 1},
            [1.0] * 8,
            [0, 0, 0, 1, 1, 1, 2, 2],
        ),
    ],
)
def test_a_learned_stage_ends_when_the_mean_of_the_window_falls_below_the_threshold(
    rules: dict[str, Any], losses: list[float | None], stages: list[int]
) -> None:
    a_clock = clock(**{"advance": "learned", "learned_below": 0.5, **rules})
    assert stages_seen(a_clock, losses) == stages


def test_a_phase_without_a_cap_of_its_own_leaves_updates_for_those_that_follow() -> None:
    rules = Curriculum(num_stages=3, advance="learned", learned_below=0.5, learned_window=2)
    phases = phases_of(rules, method_named("coconut").view)
    # A third of 24; then 16 left for three, 14 for two (stage 1 was learned), and the rest.
    losses = [1.0] * 8 + [0.1, 0.1] + [1.0] * 14
    expected = [0] * 8 + [1] * 2 + [2] * 7 + [3] * 7
    assert stages_seen(StageClock(rules, phases, 10, total=24), losses) == expected
    begun = StageClock(rules, phases, 10, total=24)
    assert stages_seen(begun, losses[:15]) == expected[:15]
    resumed = StageClock(rules, phases, 10, total=24)
    resumed.restore(begun.state())
    assert stages_seen(resumed, losses[15:]) == expected[15:]


def test_a_restored_clock_goes_on_as_the_old_one() -> None:
    rules: dict[str, Any] = {"advance": "learned", "learned_below": 0.5, "learned_window": 4}
    old, new = clock(**rules), clock(**rules)
    stages_seen(old, [0.4] * 6)
    new.restore(old.state())
    assert new.state() == old.state()
    assert stages_seen(new, [0.4] * 5) == stages_seen(old, [0.4] * 5)


def test_without_mixing_every_example_is_at_the_present_stage() -> None:
    assert draw_stages(Curriculum(), STEP_PER_STAGE, range(4), 2, 5, "seed") == [2] * 5


def test_mixing_draws_each_stage_at_its_probability() -> None:
    rules = Curriculum(stage_mix_prob=0.4)
    drawn = Counter(draw_stages(rules, STEP_PER_STAGE, range(4), 1, 20_000, "seed"))
    assert drawn[1] / 20_000 == pytest.approx(0.6 + 0.1, abs=0.02)
    for stage in (0, 2, 3):
        assert drawn[stage] / 20_000 == pytest.approx(0.1, abs=0.02)


def test_mixing_over_the_past_never_looks_ahead() -> None:
    rules = Curriculum(stage_mix_prob=1.0, stage_mix_range="past")
    assert set(draw_stages(rules, STEP_PER_STAGE, range(4), 1, 1_000, "seed")) == {0, 1}


def test_mixing_can_draw_later_stages_more_often() -> None:
    """Stage i with weight i + 1 (arXiv 2602.22441)."""
    rules = Curriculum(stage_mix_prob=1.0, stage_mix_range="past", stage_mix_weights="growing")
    drawn = Counter(draw_stages(rules, STEP_PER_STAGE, range(5), 2, 20_000, "seed"))
    assert set(drawn) == {0, 1, 2}
    for stage in drawn:
        assert drawn[stage] / 20_000 == pytest.approx((stage + 1) / 6, abs=0.02)


def test_mixing_per_batch_keeps_a_batch_together() -> None:
    rules = Curriculum(stage_mix_prob=0.5, stage_mix_per="batch")
    batches = [draw_stages(rules, STEP_PER_STAGE, range(4), 0, 8, f"seed/{i}") for i in range(50)]
    assert all(len(set(batch)) == 1 for batch in batches)
    assert len({batch[0] for batch in batches}) > 1


def test_the_same_seed_draws_the_same_stages() -> None:
    rules = Curriculum(stage_mix_prob=0.5)
    first, again, other = (
        draw_stages(rules, STEP_PER_STAGE, range(4), 0, 50, s) for s in ("a", "a", "b")
    )
    assert first == again != other
