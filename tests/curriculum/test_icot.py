"""icot: how many tokens are gone when, and a run of it (arXiv 2405.14838)."""

import json
import math
from collections import Counter

import pytest

from interrupts import in_update, press_ctrl_c
from latentcot import evaluate, load, read_examples, train
from latentcot.curriculum.stages import Curriculum, StageClock, draw_stages, phases_of
from latentcot.methods import method_named
from latentcot.runs.checkpoint import load_training_state
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.training.step import TrainStep
from tiny_runs import results_of, rows_of

ICOT = method_named("icot").view


def draw(stage: int, count: int, seed: str = "seed", **rules: object) -> list[int]:
    return draw_stages(Curriculum(**rules), ICOT.schedule, [], stage, count, seed)


# --- when ---


def test_one_token_a_stage_and_eight_an_epoch() -> None:
    phases = phases_of(Curriculum(epochs_stage_0=2), ICOT)
    assert [phase.stage for phase in phases] == list(range(40))  # 39: all of the chain
    assert (phases[0].epochs, phases[0].is_minor) == (2, False)
    assert {phase.epochs for phase in phases[1:]} == {1 / 8}
    assert all(phase.is_minor for phase in phases[1:])


def test_the_clock_follows() -> None:
    """Ten epochs of 16 updates: 8 tokens in each but the first two, until 20 means all."""
    rules = Curriculum(epochs_stage_0=2, tokens_until_all=20)
    clock = StageClock(rules, phases_of(rules, ICOT), updates_per_epoch=16)
    seen = []
    for _ in range(10 * 16):
        seen.append(clock.phase.stage)
        clock.record(None)
    assert seen[:32] == [0] * 32
    assert seen[32:] == [min(20, 1 + i // 2) for i in range(8 * 16)]
    assert seen[47] == 8  # an epoch after the first removal, eight tokens are gone
    assert clock.is_last


def test_another_speed() -> None:
    phases = phases_of(Curriculum(tokens_per_epoch=2.5, tokens_until_all=3), ICOT)
    assert [(phase.stage, phase.epochs) for phase in phases[1:]] == [(s, 0.4) for s in (1, 2, 3)]


def test_a_schedule_by_tokens_does_not_depend_on_the_stages_by_steps() -> None:
    one, other = (
        phases_of(Curriculum(num_stages=n, final_stage_without_text=n > 3), ICOT) for n in (0, 9)
    )
    assert one == other


# --- smoothing ---


@pytest.mark.parametrize("smoothing", [4.0, 0.5, 1.0])
def test_some_examples_lose_more_tokens_exponentially_fewer(smoothing: float) -> None:
    """P(o) ∝ exp(−λ·o), of a fixed seed; λ = 4 unless told otherwise."""
    assert Curriculum().removal_smoothing == 4
    count = 200_000
    drawn = Counter(stage - 5 for stage in draw(5, count, removal_smoothing=smoothing))
    for offset in range(4):
        expected = (1 - math.exp(-smoothing)) * math.exp(-smoothing * offset)
        deviation = math.sqrt(expected / count)
        assert drawn[offset] / count == pytest.approx(expected, abs=5 * deviation)


def test_it_never_removes_all() -> None:
    """The last stage is for all examples at once: it means that the whole chain is gone."""
    drawn = draw(7, 2_000, removal_smoothing=0.1, tokens_until_all=10)
    assert set(drawn) == {7, 8, 9}
    assert draw(10, 50, removal_smoothing=0.1, tokens_until_all=10) == [10] * 50


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = (draw(3, 60, s, removal_smoothing=0.3) for s in ("a", "a", "b"))
    assert first == again != other


def test_without_smoothing_all_lose_the_same_and_nothing_is_mixed() -> None:
    for stage_mix_prob in (0.0, 1.0):
        assert draw(7, 50, removal_smoothing=None, stage_mix_prob=stage_mix_prob) == [7] * 50


def test_no_other_method_is_smoothed() -> None:
    rules = Curriculum(removal_smoothing=0.01)
    for name in ("cot", "coconut", "no-cot"):
        assert (
            draw_stages(rules, method_named(name).view.schedule, range(4), 2, 50, "seed")
            == [2] * 50
        )


# --- a run ---

# 4 updates an epoch, 2 tokens each after the first: a stage is two updates, and 3 means all.
CHANGES = {
    "curriculum": {
        "tokens_per_epoch": 2, "tokens_until_all": 3, "removal_smoothing": 0.7,
        "epochs_stage_0": 1.25,
    },
    "model": {"dropout": 0.1},
    "training": {"max_updates": 14, "validate_every": 100, "warmup_updates": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe(make_recipe):
    return make_recipe("icot", **CHANGES)


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    """A run, and every batch that it has learned from."""
    run = tmp_path_factory.mktemp("icot") / "run"
    learned = []
    with pytest.MonkeyPatch.context() as patch:
        step = TrainStep.step

        def watched(self, shard, rate):
            views = [batches.views["answer"] for batches in shard.micro_batches]
            learned.append([int(n) for batch in views for n in batch.suffix_lengths])
            return step(self, shard, rate)

        patch.setattr(TrainStep, "step", watched)
        assert train(recipe, run, is_quiet=True)
    return run, learned


SLOW = pytest.mark.slow
STAGES = [0] * 5 + [1] * 2 + [2] * 2 + [3] * 5


class TestRun:
    def test_goes_through_all_stages(self, run):
        assert [row["stage"] for row in rows_of(run[0], "train")] == STAGES
        changes = [(row["update"], row["stage"]) for row in rows_of(run[0], "stage")]
        assert changes == [(5, 1), (7, 2), (9, 3)]

    def test_examples_lose_as_many_tokens_as_the_stage_says_or_more(self, run):
        """Each has two steps of one token, two tokens of answer, and the end of text."""
        for stage, lengths in zip(STAGES, run[1], strict=True):
            assert max(lengths) <= 5 - min(stage, 2)
            assert min(lengths) >= 3
        assert any(len(set(lengths)) > 1 for lengths in run[1][:5]), "smoothing is at work"
        assert {length for lengths in run[1][9:] for length in lengths} == {3}

    def test_the_optimizer_starts_anew_at_each_removal(self, run):
        state = load_training_state(checkpoint_folders(run[0])[-1])
        assert {int(m["step"]) for m in state["optimizer"]["state"].values()} == {5}
        rates = {row["update"]: row["learning_rate"] for row in rows_of(run[0], "train")}
        low = [update for update, rate in rates.items() if rate == 1.5e-3]
        assert low == [1, 6, 8, 10]  # its warm-up too

    def test_only_the_end_of_a_whole_stage_is_validated_and_saved(self, run):
        """A token less is too little for it."""
        assert [row["update"] for row in rows_of(run[0], "valid")] == [5, 14]
        names = [folder.name for folder in checkpoint_folders(run[0])]
        assert names == ["update-00000005", "update-00000014"]

    def test_at_last_it_answers_without_a_chain(self, run, data):
        reasoner = load(run[0])
        assert (reasoner.info.stage, reasoner.info.plan.tokens_until_all) == (3, 3)
        result = evaluate(reasoner, read_examples(data / "test.jsonl"))
        assert result.thoughts_per_question == 0
        assert result.share_stopped_with_chain is None

    @pytest.mark.parametrize(
        "last", [5, 6, *(pytest.param(n, marks=SLOW) for n in (3, 7, 8, 9, 11))]
    )
    def test_ended_and_resumed_it_is_the_same(self, last, recipe, run, tmp_path):
        """Also where a token has just been removed: that is no end of a phase with a checkpoint."""
        with in_update(last, press_ctrl_c):
            assert not train(recipe, tmp_path / "run", is_quiet=True)
        [*_, newest] = checkpoint_folders(tmp_path / "run")
        assert newest.name == f"update-{last:08d}"
        info = json.loads((newest / "latentcot.json").read_text())
        assert info["stage"] == STAGES[last - 1], "of the weights, not of the update to come"
        assert train(recipe, tmp_path / "run", resume=True, is_quiet=True)
        files = ("model.safetensors", "latentcot.json")
        assert results_of(tmp_path / "run", files) == results_of(run[0], files)
