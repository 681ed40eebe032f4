"""Models from scratch, models from a folder, and those that cannot think."""

import shutil
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel
from transformers.activations import NewGELUActivation

from latentcot.curriculum.layout import NO_LABEL, Layout
from latentcot.errors import DataError, RecipeError
from latentcot.models import loading
from latentcot.models.loading import (
    WIDE,
    check_lengths,
    fast_precision,
    load_pretrained,
    load_weights,
    make_from_scratch,
    max_positions,
)
from latentcot.models.settings import FromScratch
from latentcot.models.special_tokens import word_tokenizer

TOKENIZER = word_tokenizer(["a b c d e f"])
FROM_SCRATCH = ["gpt2", "llama", "qwen3"]


def tiny(architecture: str = "gpt2", **changes: Any) -> FromScratch:
    sizes = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 24}
    return FromScratch(**{"architecture": architecture, "num_positions": 20, **sizes, **changes})


def weights_of(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# --- models from scratch ---


def test_these_are_all_architectures() -> None:
    assert list(get_args(get_type_hints(FromScratch)["architecture"])) == FROM_SCRATCH


@pytest.mark.parametrize("architecture", FROM_SCRATCH)
def test_weights_follow_from_the_seed_alone(architecture: str) -> None:
    torch.manual_seed(1)
    first = weights_of(make_from_scratch(tiny(architecture), TOKENIZER, seed=0))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = weights_of(make_from_scratch(tiny(architecture), TOKENIZER, seed=0))
    assert torch.equal(torch.get_rng_state(), state), "torch's own numbers are left alone"
    other = weights_of(make_from_scratch(tiny(architecture), TOKENIZER, seed=1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("architecture", FROM_SCRATCH)
def test_sizes_are_those_of_the_settings(architecture: str) -> None:
    model = make_from_scratch(tiny(architecture), TOKENIZER, seed=0)
    assert model.config.model_type == architecture
    assert model.get_input_embeddings().get_parameter("weight").shape == (len(TOKENIZER), 16)
    assert model.config.num_hidden_layers == 2
    assert model.config.num_attention_heads == 2
    assert {24} <= {size for weight in model.parameters() for size in weight.shape}
    assert max_positions(model) == 20
    assert model.dtype == torch.float32
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    assert head.get_parameter("weight") is table.get_parameter("weight")


@pytest.mark.parametrize("architecture", FROM_SCRATCH)
def test_initial_weights_and_dropout_are_as_asked_for(architecture: str) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    for init_std, dropout in [(0.02, 0.0), (0.1, 0.5)]:
        settings = tiny(architecture, init_std=init_std, dropout=dropout)
        model = make_from_scratch(settings, TOKENIZER, seed=0).train()
        table = model.get_input_embeddings().get_parameter("weight")
        assert table.std().item() == pytest.approx(init_std, rel=0.3)
        with torch.no_grad():
            assert torch.equal(model(ids).logits, model(ids).logits) == (dropout == 0)
    assert tiny(architecture).dropout == 0


POSITIONS = "transformer.wpe.weight"


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_sinusoidal_positions_of_gpt2(scale: float) -> None:
    settings = tiny(num_positions=200, positions="sinusoidal", position_scale=scale)
    table = make_from_scratch(settings, TOKENIZER, seed=0).get_parameter(POSITIONS).detach()
    assert table.square().mean().sqrt().item() == pytest.approx(scale)
    # Of one length, and the farther apart the less alike: no such thing with drawn numbers.
    torch.testing.assert_close(table.norm(dim=1), table.norm(dim=1)[:1].expand(200))
    assert ((table @ table[0])[:4].diff() < 0).all()


def test_learned_positions_of_gpt2_are_drawn() -> None:
    settings = tiny(num_positions=200, positions="learned", init_std=0.1)
    table = make_from_scratch(settings, TOKENIZER, seed=0).get_parameter(POSITIONS)
    assert table.std().item() == pytest.approx(0.1, rel=0.1)
    assert table.norm(dim=1).std() > 0.01


def test_the_kind_of_positions_changes_no_other_weight() -> None:
    sines = make_from_scratch(tiny(positions="sinusoidal"), TOKENIZER, seed=0).state_dict()
    drawn = make_from_scratch(tiny(positions="learned"), TOKENIZER, seed=0).state_dict()
    changed = [name for name in drawn if not torch.equal(sines[name], drawn[name])]
    assert changed == [POSITIONS]


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(RecipeError, match=r"model\.num_heads: must divide .* got 3 and 16"):
        make_from_scratch(tiny(num_heads=3), TOKENIZER, seed=0)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_rotary_positions_turn_pairs(architecture: str) -> None:
    with pytest.raises(RecipeError, match=r"must be even, got 12 / 4"):
        make_from_scratch(tiny(architecture, hidden_size=12, num_heads=4), TOKENIZER, seed=0)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_positions_of_a_loaded_model_stay_fixed(positions: str, tmp_path: Path) -> None:
    """Going on from a checkpoint once trained the table that "stays as it is"."""
    make_from_scratch(tiny(positions=positions), TOKENIZER, seed=0).save_pretrained(tmp_path)
    table = load_weights(str(tmp_path)).get_parameter(POSITIONS)
    assert table.requires_grad == (positions == "learned")


@pytest.mark.parametrize("architecture", FROM_SCRATCH)
@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_every_weight_learns_but_sines(architecture: str, positions: str) -> None:
    model = make_from_scratch(tiny(architecture, positions=positions), TOKENIZER, seed=0)
    ids = torch.tensor([[5, 6, 7, 8]])
    model(ids).logits.log_softmax(-1)[..., 5].sum().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    is_fixed = architecture == "gpt2" and positions == "sinusoidal"
    assert without == ([POSITIONS] if is_fixed else [])


# --- sequences longer than the model's positions ---

LAYOUT = Layout(prefix=(1, 2, 3), num_latents=5, suffix=(4, 5), labels=(NO_LABEL, 5), num_next=1)


def test_as_long_as_the_model_has_positions() -> None:
    model = make_from_scratch(tiny(num_positions=10), TOKENIZER, seed=0)
    check_lengths(model, [LAYOUT], ["x"])
    check_lengths(model, [LAYOUT, LAYOUT], ["x", "y"], new_tokens=0)
    model = make_from_scratch(tiny(num_positions=9), TOKENIZER, seed=0)
    with pytest.raises(DataError, match="needs 10 positions"):  # thoughts count
        check_lengths(model, [LAYOUT], ["x"])


def test_too_long_names_the_example_and_its_parts() -> None:
    model = make_from_scratch(tiny(num_positions=12), TOKENIZER, seed=0)
    short = Layout(prefix=(1,), num_latents=0, suffix=(), labels=())
    with pytest.raises(DataError) as caught:
        check_lengths(model, [short, LAYOUT], ["x", "y"], new_tokens=4)
    assert str(caught.value).startswith(
        "example 'y': needs 14 positions (3 for the question, 5 latent positions, 6 for what "
        "follows), but the model has 12."
    )


# --- models from a folder ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_from_scratch(tiny(), TOKENIZER, seed=0).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    return tmp_path


def test_a_saved_model_is_loaded(folder: Path) -> None:
    model, tokenizer = load_pretrained(str(folder))
    assert torch.equal(weights_of(model), weights_of(make_from_scratch(tiny(), TOKENIZER, seed=0)))
    assert tokenizer.get_vocab() == TOKENIZER.get_vocab()


def test_faster_modules_and_the_config_as_it_was(folder: Path) -> None:
    """A model from the hub says gelu_new; what is saved must say so too."""
    config = GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=2, n_positions=20)
    plain = GPT2LMHeadModel(config).eval()
    plain.save_pretrained(folder)
    model = load_pretrained(str(folder))[0].eval()
    kinds = {type(module) for module in model.modules()}
    assert nn.GELU in kinds
    assert NewGELUActivation not in kinds
    assert nn.Dropout not in kinds
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.1}
    ids = torch.arange(12)[None]
    torch.testing.assert_close(model(ids).logits, plain(ids).logits, rtol=1e-5, atol=1e-6)
    model.save_pretrained(folder)
    again = AutoModelForCausalLM.from_pretrained(folder)
    assert again.config.activation_function == "gelu_new"
    torch.testing.assert_close(again(ids).logits, plain(ids).logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("width", "has_it", "times", "has_gpu", "precision"),
    [
        (WIDE, True, 2.2, False, "bfloat16"),
        (WIDE - 2, True, 2.2, False, "float32"),
        (WIDE, False, 2.2, False, "float32"),
        (WIDE, True, 0.5, False, "float32"),  # an Intel Xeon whose AMX is hidden
        (WIDE, True, 2.2, True, "float32"),
    ],
)
def test_bfloat16_where_it_is_faster(
    width: int,
    has_it: bool,
    times: float,
    has_gpu: bool,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = make_from_scratch(tiny(hidden_size=width, num_layers=1), TOKENIZER, seed=0)
    found = {"avx512_bf16": has_it, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_gpu)
    monkeypatch.setattr(loading, "times_as_fast_in_bfloat16", lambda: times)
    assert fast_precision(model) == precision
    said = capsys.readouterr().err
    assert ("2.2 times as fast. Set training.precision: float32" in said) == (
        precision == "bfloat16"
    )


def test_measuring_draws_no_numbers() -> None:
    before = torch.get_rng_state()
    assert 0 < loading.times_as_fast_in_bfloat16() < 100
    assert torch.equal(before, torch.get_rng_state())


def test_weights_are_float32_however_they_were_saved(folder: Path) -> None:
    make_from_scratch(tiny(), TOKENIZER, seed=0).to(torch.bfloat16).save_pretrained(folder)
    assert load_pretrained(str(folder))[0].dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folder: Path, value: float) -> None:
    model = make_from_scratch(tiny(), TOKENIZER, seed=0)
    with torch.no_grad():
        model.get_parameter("transformer.h.0.mlp.c_fc.weight")[0, 0] = value
    model.save_pretrained(folder)
    with pytest.raises(RecipeError, match=r"1 of its weights hold NaN or infinity, such as trans"):
        load_pretrained(str(folder))


@pytest.mark.parametrize(
    "name", ["no such model", "someone/nothing", "/no/such/folder", "", str(Path(__file__).parent)]
)
def test_what_is_no_model_is_refused_with_its_name(name: str) -> None:
    with pytest.raises(RecipeError, match="cannot be loaded") as caught:
        load_pretrained(name)
    assert str(caught.value).startswith(f"model: {name!r} cannot be loaded: ")
    assert "docs/recipes.md" in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_torn_or_missing_file(folder: Path, name: str, is_there: bool) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    if is_there:
        (folder / name).write_bytes(whole[: min(200, len(whole) // 2)])
    with pytest.raises(RecipeError, match="cannot be loaded"):
        load_pretrained(str(folder))


def test_weights_of_which_some_are_missing(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.0.mlp.c_fc.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RecipeError, match=r"transformer\.h\.0\.mlp\.c_fc\.weight"):
        load_pretrained(str(folder))


@pytest.mark.parametrize("name", ["./nowhere", "a/b/c", "runs/none/x", "model.safetensors", "~/x"])
def test_a_path_that_is_no_hub_id_is_told_at_once(name: str) -> None:
    with pytest.raises(RecipeError, match=r"cannot be loaded: no such folder\. Give a folder"):
        load_pretrained(name)


def test_a_file_is_no_model(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot be loaded: is a file\."):
        load_pretrained(str(folder / "model.safetensors"))


def test_a_run_is_no_model_but_its_checkpoints_are(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = tmp_path_factory.mktemp("run")
    newest = run / "checkpoints" / "update-00000020"
    shutil.copytree(folder, newest)
    with pytest.raises(RecipeError, match="it is a run") as caught:
        load_pretrained(str(run))
    assert str(newest) in str(caught.value)
    load_pretrained(str(newest))


def test_weights_that_would_be_unpickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(RecipeError, match=r"a \.bin file, .* latentcot convert, or transformers'"):
        load_pretrained(str(folder))


def test_a_tokenizer_with_more_tokens_than_embeddings(folder: Path) -> None:
    more = word_tokenizer(["a b c d e f g"])
    more.save_pretrained(folder)
    with pytest.raises(RecipeError, match=r"its tokenizer has a token 11, but it has 11 embedd"):
        load_pretrained(str(folder))
