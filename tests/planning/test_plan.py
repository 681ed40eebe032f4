"""`latentcot plan`: shapes, work counted without numbers, lengths, memory, the command."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, PreTrainedConfig

from latentcot.cli import app
from latentcot.cli.plan import COUNTS, SIZES, TIMES, scaled
from latentcot.errors import DataError, RecipeError, UsageError
from latentcot.methods import method_named
from latentcot.models.settings import FromScratch, Lora
from latentcot.models.shapes import SHAPES, config_of, model_of
from latentcot.planning import lengths as plan_lengths
from latentcot.planning import work as plan_work
from latentcot.planning.devices import DEVICES, Device, device_named, fitted, part_of, write_device
from latentcot.planning.plan import largest_that_fits, make_plan
from latentcot.planning.work import (
    Shape,
    Subject,
    Work,
    num_passes,
    update_work,
    weights_of,
    work_of,
)
from latentcot.recipes.recipe import make_recipe, read_recipe

PUBLISHED = {  # millions of weights, as the model cards say
    "openai-community/gpt2": 124.4,
    "meta-llama/Llama-3.2-1B": 1_236,
    "meta-llama/Llama-3.2-3B": 3_213,
    "meta-llama/Meta-Llama-3-8B": 8_030,
    "Qwen/Qwen3-0.6B-Base": 596,
    "Qwen/Qwen3-1.7B-Base": 1_721,
    "Qwen/Qwen3-4B-Base": 4_022,
}
CPU = Device("c", {"float32": 1e11, "bfloat16": 1e11}, 1e10, 1e-5, memory=8e9, is_measured=True)


@pytest.fixture(autouse=True)
def few_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at one batch of examples for the lengths: what they cost stays the same."""
    monkeypatch.setattr(plan_lengths, "STRETCH", 1)


def tiny(family: str, layers: int) -> PreTrainedConfig:
    config: PreTrainedConfig = AutoConfig.for_model(
        family,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        vocab_size=90,
        bos_token_id=0,
        eos_token_id=0,
    )
    return config


# --- shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_a_known_shape_has_as_many_weights_as_are_published(name: str) -> None:
    model = model_of(config_of(name), device="meta")
    millions = sum(weight.numel() for weight in model.parameters()) / 1e6
    assert millions == pytest.approx(PUBLISHED[name], rel=5e-4)


@pytest.mark.slow
def test_a_shape_of_few_layers_has_real_weights() -> None:
    config = config_of("openai-community/gpt2")
    config.num_hidden_layers = 1
    model = model_of(config, dtype=torch.bfloat16)
    assert len(model.base_model.h) == 1
    assert all(weight.isfinite().all() for weight in model.parameters())
    assert model.dtype == torch.bfloat16


def test_shapes_come_from_folders_and_settings_too(tmp_path: Path) -> None:
    tiny("llama", 2).save_pretrained(tmp_path)
    assert config_of(str(tmp_path)).hidden_size == 32
    assert config_of(FromScratch(hidden_size=16), vocabulary_size=70).vocab_size == 70
    with pytest.raises(RecipeError, match=r"shape of .*nowhere.* is not known"):
        config_of(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="needs vocabulary_size"):
        config_of(FromScratch())


# --- work ---------------------------------------------------------------------------------------


_aten: Any = torch.ops.aten
FUSED: Any = {  # torch's counter lacks the CPU's fused attention
    _aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: (
        flop_counter.sdpa_flop_count(q, k, v)
    ),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
        flop_counter.sdpa_backward_flop_count(grad, q, k, v)
    ),
}


@pytest.mark.parametrize(
    ("family", "saves", "shape", "method"),
    [
        ("gpt2", False, Shape(3, 12, 0, 5), "coconut"),
        pytest.param("gpt2", True, Shape(3, 12, 2, 5), "coconut", marks=pytest.mark.slow),
        pytest.param("qwen3", True, Shape(3, 12, 0, 5), "coconut", marks=pytest.mark.slow),
        pytest.param(
            "llama", False, Shape(3, 12, 2, 5, ((11, 0, 9),)), "codi", marks=pytest.mark.slow
        ),
        pytest.param(
            "gpt2", False, Shape(3, 12, 4, 5, ((11, 0, 9),)), "pccot", marks=pytest.mark.slow
        ),
        pytest.param(
            "gpt2", False, Shape(3, 12, 2, 5, (), ((2, 4),)), "simcot", marks=pytest.mark.slow
        ),
        pytest.param(
            "gpt2", False, Shape(3, 12, 2, 5, (), ((2, 1),)), "lotus", marks=pytest.mark.slow
        ),
        pytest.param(
            "gpt2", False, Shape(3, 12, 2, 5, (), ((2, 1),)), "colar", marks=pytest.mark.slow
        ),
        pytest.param(
            "llama",
            False,
            Shape(3, 12, 4, 5, ((11, 0, 9),), ((1, 6),)),
            "kava",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_work_is_what_the_real_update_does(
    family: str, saves: bool, shape: Shape, method: str
) -> None:
    """Products by torch's own counter; bytes by the same count over tensors with numbers in them"""
    subject = Subject(tiny(family, 2), method_named(method), saves_memory=saves)
    counted = work_of(subject, shape)
    batches = part_of(subject, shape).micro_batches[0]
    objective = subject.objective(device="cpu")
    with FlopCounterMode(display=False, custom_mapping=FUSED) as products:
        objective(batches).sum().backward()
    assert counted.flops == products.get_total_flops()
    objective.zero_grad()
    counter = plan_work._Counter()
    with counter:
        objective(batches).sum().backward()
    real = counter.work()
    assert counted.peak == pytest.approx(real.peak, rel=0.02)
    assert counted.moved == pytest.approx(real.moved, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "saves", "has_gradients", "rank", "method", "rest"),
    [
        ("gpt2", True, True, 0, "coconut", ()),
        ("qwen3", False, False, 2, "coconut", ()),
    ],
)
def test_a_deep_model_is_a_straight_line_from_a_flat_one(
    family: str, saves: bool, has_gradients: bool, rank: int, method: Any, rest: tuple[Any, ...]
) -> None:
    lora = Lora(rank=rank) if rank else None
    if rank:
        pytest.importorskip("peft")
    subject = Subject(tiny(family, 5), method_named(method), "bfloat16", saves, lora=lora)
    shape = Shape(4, 20, 1, 6, *rest)
    whole = plan_work._counted(subject, shape, 5, has_gradients).work()
    found = work_of(subject, shape, has_gradients=has_gradients)
    assert found.flops == whole.flops
    assert (found.moved, found.kernels) == (whole.moved, whole.kernels)
    assert found.peak == pytest.approx(whole.peak, rel=1e-3)


@pytest.mark.slow
def test_adapters_train_few_weights_and_spare_products() -> None:
    pytest.importorskip("peft")
    whole = Subject(tiny("llama", 2), method_named("coconut"))
    light = Subject(tiny("llama", 2), method_named("coconut"), lora=Lora(rank=2))
    weights, shape = weights_of(whole), Shape(2, 30, 0, 10)
    assert weights_of(light).trained_bytes < weights.trained_bytes / 5
    one, update = work_of(whole, shape), update_work(whole, [(shape, 3.0)], weights.trained_bytes)
    assert (update.flops, update.moved) == (
        3 * one.flops,
        3 * one.moved + 7 * weights.trained_bytes,
    )
    assert work_of(light, shape).flops < one.flops
    no_bits = replace(light, precision="bfloat16")
    assert weights_of(no_bits).held_bytes < weights_of(light).held_bytes
    assert weights_of(no_bits).num_trained == weights_of(light).num_trained
    assert 4 * weights_of(light).num_trained == weights_of(light).trained_bytes


# --- devices ------------------------------------------------------------------------------------


def test_seconds_of_a_device() -> None:
    work = Work(2e11, moved=1e10, kernels=1e5)
    assert CPU.seconds(work) == pytest.approx(2 + 1 + 1)
    assert replace(CPU, starts_ahead=True).seconds(work) == pytest.approx(3)


def test_calibration_finds_the_figures_behind_the_seconds() -> None:
    works = [
        Work(1e11, 1e8, 1e3),
        Work(1e9, 2e10, 1e3),
        Work(1e9, 1e8, 1e5),
        Work(5e10, 5e9, 1e4),
    ]
    assert fitted(works, [CPU.seconds(work) for work in works]) == pytest.approx(
        (1e11, 1e10, 1e-5), rel=1e-6
    )


def test_a_device_is_a_name_or_a_file(tmp_path: Path) -> None:
    assert device_named("H100") is DEVICES["h100"]
    with pytest.raises(UsageError, match="Did you mean 'h100'"):
        device_named("h10")
    file = tmp_path / "here.json"
    file.write_text("{}")
    with pytest.raises(UsageError) as raised:
        device_named(str(file))
    assert str(raised.value) == (
        f"--device: {file}: is not a calibration. `latentcot plan --calibrate cal.json` makes one, "
        "for `--device cal.json`."
    )
    write_device(tmp_path / "half.json", lambda: replace(CPU, flops={"float32": 1e9}))
    with pytest.raises(UsageError, match="is not a calibration"):  # of half of the precisions
        device_named(str(tmp_path / "half.json"))


def test_a_calibration_is_written_over_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    measure = lambda say: measured.append(1) or CPU  # noqa: E731
    monkeypatch.setattr("latentcot.planning.devices.calibrate", measure)
    recipe, new = tmp_path / "first.yaml", tmp_path / "cal.json"
    recipe.write_text("task: gsm8k\n")
    with pytest.raises(UsageError, match=r"first\.yaml: is there already"):
        run("plan", "--calibrate", str(recipe))
    assert recipe.read_text() == "task: gsm8k\n"
    assert not measured
    for _ in range(2):  # an older calibration may go
        run("plan", "--calibrate", str(new))
    assert device_named(str(new)) == CPU


@settings(max_examples=60)
@given(
    st.floats(1, 100),
    st.floats(0.1, 10),
    st.floats(0, 60),
    st.floats(0, 30),
    st.integers(1, 300),
    st.floats(0, 150),
)
def test_the_largest_that_fits_does_fit(
    base: float, slope: float, later: float, steeper: float, most: int, waiting: float
) -> None:
    def total(rows: int) -> float:
        waits = waiting if rows < most else 0.0
        return base + max(slope * rows, (slope + steeper) * (rows - later)) + waits

    limit = 120.0
    allowed = [rows for rows in range(1, most + 1) if rows == most or rows & (rows - 1) == 0]
    best = max((rows for rows in allowed if total(rows) <= limit), default=0)
    assert largest_that_fits(total, limit, most) == best


# --- plans --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stages_and_tokens_are_those_of_training(recipe_values: Any) -> None:
    recipe = make_recipe(recipe_values(training={"batch_size": 8, "micro_batch_size": 4}))
    plan = make_plan(recipe, CPU)
    assert sum(stage.updates for stage in plan.stages) == recipe.training.max_updates
    assert [stage.updates for stage in plan.stages][:2] == [4, 4]  # an epoch of 32 examples
    assert [stage.passes / stage.updates for stage in plan.stages] == [2, 4, 6]  # two micro-batches
    assert plan.worst.rows == 4
    assert plan.fits
    assert plan.hours == pytest.approx(sum(s.seconds * s.updates for s in plan.stages) / 3600)


def test_of_a_stream_only_the_first_examples_are_read(
    recipe_values: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_lengths, "STRETCH", 2)
    changes = {"data": {"stream": True, "shuffle_buffer": 8}, "training": {"batch_size": 8}}
    lengths = plan_lengths.lengths_of(make_recipe(recipe_values(**changes)))
    assert (len(lengths.sample), lengths.num_examples) == (16, 32)
    assert "those of the first 16 examples" in lengths.notes[0]


@pytest.mark.slow
def test_each_view_and_each_step_to_be_spelled_is_part_of_the_plan(recipe_values: Any) -> None:
    hosts = {"name": "codi", "num_latents": 4}, {"name": "pccot", "num_latents": 4, "iterations": 2}
    for host, passes in zip(hosts, (5 + 1, 3 + 1), strict=True):
        method = {"name": "simcot", "host": host}
        plan = make_plan(make_recipe(recipe_values(method, training={"batch_size": 8})), CPU)
        [stage] = plan.stages
        assert stage.passes / stage.updates == passes  # of the student, and one of the teacher
        assert plan.worst.latents == 4 and len(plan.worst.others) == len(plan.worst.targets) == 1
        assert plan.num_weights > 2 * make_plan(make_recipe(recipe_values()), CPU).num_weights


def test_passes_of_what_is_known_before_and_of_what_is_not() -> None:
    shape = Shape(rows=4, prefix=9, latents=3, suffix=5)
    assert num_passes(method_named("coconut"), shape) == 4
    assert num_passes(method_named("colar"), shape) == 1  # training compresses the written chain


@pytest.mark.slow
def test_stages_without_a_cap_take_what_training_lets_them_take(recipe_values: Any) -> None:
    """A third for the first one, and an equal part of what is left for each that follows."""
    curriculum = {"advance": "learned", "max_updates_per_stage": None}
    recipe = make_recipe(recipe_values(curriculum=curriculum, training={"max_updates": 30}))
    plan = make_plan(recipe, CPU)
    assert [stage.updates for stage in plan.stages] == [10, 10, 10]
    recipe = make_recipe(
        recipe_values(
            curriculum=curriculum | {"introduce_special_tokens": True},
            training={"max_updates": 30},
        )
    )
    assert sum(stage.updates for stage in make_plan(recipe, CPU).stages) == 30


@pytest.mark.slow
def test_stages_of_one_token_are_one_row(recipe_values: Any) -> None:
    plan = make_plan(make_recipe(recipe_values("icot")), CPU)
    assert [one.stages[0] for one in plan.stages] == [0, 1]
    assert sum(one.updates for one in plan.stages) == 12


@pytest.mark.slow
def test_devices_share_the_batch_and_with_shards_the_weights(recipe_values: Any) -> None:
    recipe = make_recipe(recipe_values(training={"batch_size": 8}))
    alone, two = make_plan(recipe, CPU), make_plan(recipe, CPU, gpus=2)
    sharded = make_plan(recipe, CPU, gpus=2, sharded=True)
    assert (alone.worst.rows, two.worst.rows) == (8, 4)
    assert alone.memory["copies"] == 0
    assert two.memory["copies"] == two.memory["gradients"]
    for key in ("optimizer", "weights"):
        assert sharded.memory[key] == two.memory[key] / 2
    assert len(alone.ways) == 2
    assert len(two.ways) == 4
    with pytest.raises(UsageError, match="divide training.batch_size 8, got 3"):
        make_plan(recipe, CPU, gpus=3)


@pytest.mark.slow
def test_one_device_shares_nothing_and_the_plan_says_so(recipe_values: Any) -> None:
    recipe = make_recipe(recipe_values("no-cot"))
    told = [any("--shard" in n for n in make_plan(recipe, CPU, sharded=s).notes) for s in (0, 1)]
    assert told == [False, True]


def test_what_does_not_fit_is_said(recipe_values: Any) -> None:
    recipe = make_recipe(recipe_values("no-cot", training={"batch_size": 8}))
    need = make_plan(recipe, CPU)
    smaller = make_plan(recipe, replace(CPU, memory=need.memory_total - 1))
    assert not smaller.fits
    assert 0 < smaller.ways[0].largest < 8
    least = make_plan(recipe, replace(CPU, memory=1.0))
    assert [way.largest for way in least.ways] == [0, 0]


@pytest.mark.slow
def test_more_may_fit_where_less_does_not_since_no_gradients_wait(
    recipe_values: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = recipe_values(training={"batch_size": 8, "micro_batch_size": 4})
    values["model"]["hidden_size"] = 256  # more weights, beside what examples keep
    half = make_plan(make_recipe(values), CPU)
    values["training"]["micro_batch_size"] = 8
    whole = make_plan(make_recipe(values), CPU)
    assert whole.memory_total < half.memory_total
    between = (whole.memory_total + half.memory_total) / 2
    plan = make_plan(make_recipe(values), replace(CPU, memory=between))
    assert plan.fits
    assert plan.ways[0].largest == plan.most == 8
    values["training"]["micro_batch_size"] = 4
    recipe, small = tmp_path / "recipe.json", tmp_path / "small.json"
    recipe.write_text(json.dumps(values))
    write_device(small, lambda: replace(CPU, memory=between))
    run("plan", str(recipe), "--device", str(small))
    shown = capsys.readouterr().out
    assert "8, all of an update" in shown
    assert "training.micro_batch_size=8 with training.save_memory=false" in shown


@pytest.mark.parametrize(
    ("value", "units", "words"),
    [
        (0, COUNTS, "0"),
        (12, COUNTS, "12"),
        (12_345, COUNTS, "12.3 k"),
        (8.03e9, COUNTS, "8.0 B"),
        (0.0123, TIMES, "12.3 ms"),
        (90, TIMES, "1.5 min"),
        (5400, TIMES, "1.5 h"),
        (2**29, SIZES, "512.0 MiB"),
        (1.5 * 2**40, SIZES, "1,536.0 GiB"),
        (100, SIZES, "0.0 MiB"),
    ],
)
def test_values_are_written_in_a_unit_that_suits_them(
    value: float, units: dict[str, float], words: str
) -> None:
    assert scaled(value, units) == words


def run(*words: str) -> None:
    app([*words], result_action="return_value")


@pytest.fixture
def absent(recipe_values: Any, tmp_path: Path) -> str:
    """A recipe whose data are not here."""
    values = recipe_values("no-cot", task="gsm8k")
    values["data"]["train"] = "nowhere.jsonl"
    values["training"] = {"epochs": 2, "batch_size": 64}
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(values))
    return str(file)


def test_data_that_are_not_here_are_as_many_as_the_recipe_says(tmp_path: Path) -> None:
    """And a file that is there and broken is told: lengths of others would be planned with."""
    sets = ["data.stream=true", "data.num_examples=5000000"]
    assert plan_lengths.lengths_of(read_recipe("gsm8k", sets)).num_examples == 5_000_000
    few = plan_lengths.lengths_of(read_recipe("gsm8k", [*sets, "data.max_train=7000"]))
    assert few.num_examples == 7_000
    [note] = plan_lengths.lengths_of(read_recipe("prosqa-symbolic")).notes
    assert "questions rendered in symbols are shorter" in note
    broken = tmp_path / "bad.jsonl"
    broken.write_text('{"question": broken\n')
    with pytest.raises(DataError, match=r"bad\.jsonl"):
        plan_lengths.lengths_of(read_recipe("gsm8k", [f"data.train={broken}"]))


@pytest.mark.slow
def test_the_command_prints_a_plan_of_data_that_are_not_here(
    absent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("plan", absent, "--gpus", "2")
    shown = capsys.readouterr().out
    assert re.search(r"no-cot: \d[\d.]* k weights, \d[\d.]* k trained", shown)
    assert "385,620 examples of typical length, as 100 picked from 500 examples of" in shown
    assert re.search(r"\d MiB, gradients", shown)
    assert "H100 SXM was not measured" in shown
    run("plan", absent, "--json")
    values = json.loads(capsys.readouterr().out)
    assert values["fits"]
    assert values["stages"][0]["updates"] == 2 * (385_620 // 64)


def test_the_command_says_what_would_fit(
    absent: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = tmp_path / "small.json"
    write_device(small, lambda: replace(CPU, memory=5e6))
    run("plan", absent, "--device", str(small))
    shown = capsys.readouterr().out
    assert "Does not fit. Fits: training.micro_batch_size=" in shown
    assert "was not measured" not in shown
    monkeypatch.setattr("latentcot.planning.devices.calibrate", lambda say: CPU)
    run("plan", absent, "--calibrate", str(tmp_path / "cal.json"), "--device", "h100")
    assert "H100 SXM was not measured" in capsys.readouterr().out
    with pytest.raises(UsageError, match="needs a recipe"):
        run("plan")
