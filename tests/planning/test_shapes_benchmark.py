"""The benchmark of larger models, on tiny ones; benchmarks/shapes.py measures the real ones."""

import gc
import json
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import shapes  # noqa: E402
import shapes_page  # noqa: E402
from live_bytes import LiveBytes  # noqa: E402

from latentcot.curriculum.stages import phases_of  # noqa: E402
from latentcot.recipes.recipe import read_recipe  # noqa: E402

SETTING = shapes.Setting(
    layers=2, vocabulary=50, batch=2, question=6, words=2, rounds=1, gib=None
)  # fmt: skip


SOURCE = {"commit": "1234567890ab", "is_tree_dirty": True, "machine": "here", "threads": 1}
WAYS = list(shapes.WAYS.values())


@pytest.fixture(autouse=True, scope="module")
def frozen():
    """Collecting garbage need not look at all that is imported: a second each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Stand in for the real widths, and for many thoughts."""
    monkeypatch.setattr(shapes, "THOUGHTS", (0, 1, 3))
    monkeypatch.setattr(shapes_page, "THOUGHTS", (0, 1, 3))

    def config_of(model, *, vocabulary_size=None):
        return LlamaConfig(
            vocab_size=vocabulary_size, hidden_size=16, intermediate_size=32, num_hidden_layers=9,
            num_attention_heads=2, num_key_value_heads=1,
        )  # fmt: skip

    monkeypatch.setattr(shapes, "config_of", config_of)


# --- bytes that are alive ---


def test_each_storage_counts_once_and_while_it_is_there():
    before = torch.ones(10, 10, requires_grad=True)
    with LiveBytes() as live:
        made = before * 2
        view = made[:3].t()
        before.detach().add_(1)  # in place: nothing is made
        assert live.now == 400
        del made
        assert live.now == 400, "the view holds it"
        del view
        assert (live.now, live.peak) == (0, 400)
        before.sum().backward()
    assert live.now == before.grad.nbytes


def test_beyond_the_limit_there_is_no_memory():
    with LiveBytes(limit=1000), pytest.raises(torch.OutOfMemoryError, match="1,000 are there"):
        torch.ones(300)


# --- the search ---


@given(most=st.integers(1, 300), limit=st.integers(0, 400))
def test_the_largest_number_that_fits_is_found(most, limit):
    tried = []

    def fits(number):
        tried.append(number)
        return number <= limit

    assert shapes.largest(fits, most) == min(most, limit)
    assert all(1 <= number <= most for number in tried)
    assert len(tried) <= 2 * (min(most, limit) + 1).bit_length() + 1


# --- what is kept ---


@pytest.mark.parametrize(
    "way", [WAYS[0], *(pytest.param(way, marks=pytest.mark.slow) for way in WAYS[1:])], ids=str
)
def test_blocks_keep_alike_so_that_two_say_it_for_any_number(way):
    _needs_peft(way)
    four = shapes.replace(SETTING, layers=4)
    found = shapes.kept("llama-3.2-1b", way, four)["kept_mib"]
    whole = shapes._kept_mib("llama-3.2-1b", way, four, None)
    assert found == pytest.approx(whole, abs=0.006)


def test_saving_memory_keeps_less_of_each_column_and_thought():
    plain, saving = (
        shapes.kept("llama-3.2-1b", shapes.Way(saves_memory=saves), SETTING)["kept_mib"]
        for saves in (False, True)
    )
    assert all(saving[number] < plain[number] for number in plain)
    assert plain["0"] < plain["1"] < plain["3"]
    assert saving["3"] - saving["0"] < plain["3"] - plain["0"]


@pytest.mark.slow
def test_counting_needs_no_weights_and_agrees_with_real_tensors():
    way = WAYS[3]
    _needs_peft(way)
    counted = shapes.count("llama-3.2-1b", way, SETTING)
    real = shapes.kept("llama-3.2-1b", way, SETTING, is_mixed=True)
    assert counted["kept_mib"] == real["kept_mib"]
    assert counted["trained"] < counted["parameters"]


def test_adapters_are_those_of_the_packaged_recipes():
    assert shapes._lora().rank == 128
    names = [path.stem for path in (ROOT / "src/latentcot/recipes/gsm8k").glob("*-lora.yaml")]
    assert all(read_recipe(f"gsm8k/{name}").lora == shapes._lora() for name in names)


def _needs_peft(way):
    if way.has_lora:
        pytest.importorskip("peft")


# --- the command and its page ---


@pytest.mark.slow
def test_a_table_is_made_of_what_was_measured(tmp_path, monkeypatch):
    results, page = tmp_path / "results", tmp_path / "page.md"
    monkeypatch.setattr(shapes, "RESULTS", results)
    monkeypatch.setattr(shapes_page, "PAGE", page)
    monkeypatch.setattr(shapes, "provenance", lambda: SOURCE)
    setting = shapes.replace(SETTING, gib=240 / 2**20)
    measured = shapes.point("llama-3.2-1b", shapes.Way(), setting)
    assert measured["largest"] in range(2, 30)
    assert set(measured["ms"]) == set(measured["peak_gib"]) == {"0", "1", "3"}
    for name in ("cpu-2-layers", "kept"):
        for way in ("save_memory", "whole"):  # the file keeps what is there already
            shapes.record(name, ["llama-3.2-1b"], [way], SETTING, lambda *_: measured)
    failed = {"failed": "does not fit"}
    shapes.record("kept", ["qwen3-0.6b"], ["whole"], SETTING, lambda *_: failed)
    page.write_text(
        "before\n<!-- tables: written by benchmarks/shapes.py -->\nold\n<!-- /tables -->\nafter\n"
    )
    shapes_page.write_page(results)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {len(shapes_page.UNTIMED), len(shapes_page.COUNTED)}
    assert not any("ms" in row or "×" in cell for row in rows for cell in row)
    assert text.count("| llama-3.2-1b |") == 4
    assert text.count("| llama-3.2-1b |  |") == 2
    assert "and changes that were not committed" in text
    assert "**Not run.** There is no `results/shapes/cuda.json` yet." in text


def test_another_setting_begins_a_file_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "RESULTS", tmp_path)
    for batch in (1, 2):
        setting = shapes.replace(SETTING, batch=batch)
        shapes.record("x", ["qwen3-0.6b"], [f"{'whole' if batch == 1 else 'lora'}"], setting,
                      lambda *one: {})  # fmt: skip
    assert list(json.loads((tmp_path / "x.json").read_text())["points"]) == ["qwen3-0.6b lora"]


# --- recipes, and how they are started ---

LARGE = ["llama-3.2-1b", "llama-3.2-3b", "llama-3-8b", "qwen3-0.6b", "qwen3-1.7b", "qwen3-4b"]


APPENDIX = {1e-5, "bfloat16"}
"""Learning rate and precision of the paper's appendix."""


@pytest.mark.parametrize("name", [*LARGE, "llama-3.2-3b-lora"])
def test_larger_models_have_the_settings_of_the_papers_appendix(name):
    recipe = read_recipe(f"gsm8k/{name}")
    phases = phases_of(recipe.curriculum, recipe.bound_method.view)
    assert recipe.model != "openai-community/gpt2"
    assert recipe.curriculum.thoughts_per_step == 1
    assert [phase.epochs for phase in phases[:-1]] == [3, 1, 1, 1]
    assert recipe.training.epochs == 7
    if recipe.lora is None:
        assert {recipe.training.learning_rate, recipe.training.precision} == APPENDIX


def test_on_eight_gpus_no_gradients_of_the_largest_wait_in_memory():
    training = read_recipe("gsm8k/llama-3-8b").training  # they would not fit, as the page says
    assert 8 * training.micro_batch_size == training.batch_size


def test_other_tasks_are_set_as_the_page_says():
    text = (ROOT / "docs" / "larger-models.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if re.match(r"latentcot train pro\w+qa ", line)]
    assert len(lines) == 2
    for line in lines:
        recipe = read_recipe(line.split()[2], re.findall(r"--set (\S+)", line))
        phases = phases_of(recipe.curriculum, recipe.bound_method.view)
        assert [phase.epochs for phase in phases[:-1]] == [3, 1, 1, 1, 1, 1]
        assert recipe.training.epochs == 9
        assert recipe.curriculum.thoughts_per_step == 1
        assert {recipe.training.learning_rate, recipe.training.precision} == APPENDIX
        assert recipe.model == "meta-llama/Llama-3.2-1B"


@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_accelerate_reads_the_configs(name):
    from accelerate.commands.config.config_args import load_config_from_file

    path = ROOT / "configs" / f"{name}.yaml"
    config = load_config_from_file(str(path))
    kind = {"ddp": "MULTI_GPU", "fsdp2": "FSDP"}[name]
    assert (config.distributed_type.value, config.mixed_precision) == (kind, "no")
    sharding = yaml.safe_load(path.read_text(encoding="utf-8")).get("fsdp_config", {})
    assert sharding.get("fsdp_version") == (2 if name == "fsdp2" else None)
