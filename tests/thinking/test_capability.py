"""Models that would go wrong in batches, and what is done about each: right, or one clear line.

Families are tried in test_families.py; here are configs within one.
"""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from latentcot.curriculum.layout import Layout, SpecialTokens
from latentcot.curriculum.views import THOUGHT, Parallel
from latentcot.errors import RecipeError, UsageError
from latentcot.models.loading import width_of
from latentcot.models.ways import rope_switch_of, way_of, window_of
from latentcot.thinking.batch import collate
from latentcot.thinking.capability import choose_way
from latentcot.thinking.decoding import generate
from latentcot.thinking.think import Thinker, think
from marks import mostly_slow
from reference import ARCHITECTURES, reference_generate, reference_states, tiny_model

SMALL = {
    "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "intermediate_size": 48, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "max_position_embeddings": 200, "head_dim": 8,
}  # fmt: skip
SHORT, LONG = ((5, 7, 9), 2, (3, 4)), (tuple(range(2, 32)), 1, (3, 4))
HALVES = [1.0 + 0.5 * i for i in range(4)]


def made(family: str, *, init: float = 0.3, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, initializer_range=init, **{**SMALL, **settings})
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    return model


def layouts(*rows: tuple[tuple[int, ...], int, tuple[int, ...]]) -> list[Layout]:
    return [Layout(prefix, thoughts, suffix, suffix) for prefix, thoughts, suffix in rows]


def check_rows(model: PreTrainedModel) -> None:
    """A short row beside a long one gives what each gives alone, states, thoughts and words."""
    rollout = think(model, collate(layouts(SHORT, LONG)))
    for i, (prefix, thoughts, suffix) in enumerate((SHORT, LONG)):
        states, latent_inputs = reference_states(model, prefix, thoughts, suffix)
        torch.testing.assert_close(rollout.states[i], states, rtol=1e-3, atol=1e-4)
        mine = rollout.latent_inputs[i, :thoughts]
        torch.testing.assert_close(mine, latent_inputs, rtol=1e-3, atol=1e-4)
    written = generate(model, layouts(SHORT, LONG), eos_id=-1, max_new_tokens=12)
    for text, row in zip(written, (SHORT, LONG), strict=True):
        assert list(text.token_ids) == reference_generate(model, *row, 12, None)


# --- what depends on the length of a row ---

LONGROPE = {"rope_type": "longrope", "short_factor": HALVES, "long_factor": HALVES[::-1]}
ROPES = {
    "phi3, longrope": ("phi3", {"rope_parameters": {**LONGROPE, "rope_theta": 1e4}}),
    "llama, longrope": ("llama", {"rope_parameters": {**LONGROPE, "rope_theta": 1e4}}),
    "llama, dynamic": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}},
    ),
}


@pytest.mark.parametrize("name", mostly_slow(ROPES, "phi3, longrope"))
@pytest.mark.parametrize("switch", [8, 36])  # both rows beyond it; one that crosses it in its words
def test_rotary_positions_that_depend_on_length(name: str, switch: int) -> None:
    family, settings = ROPES[name]
    if "longrope" in name:
        settings["rope_parameters"]["original_max_position_embeddings"] = switch
        settings = {**settings, "original_max_position_embeddings": switch}
    else:
        settings = {**settings, "max_position_embeddings": switch}
    model = made(family, **settings)
    assert rope_switch_of(model) == switch
    choose_way(model, is_trained=True)
    check_rows(model)


def test_a_rope_that_does_not_depend_on_it_stays_fast() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
    model = made("llama", rope_parameters={**yarn, "original_max_position_embeddings": 50})
    assert rope_switch_of(model) is None
    assert choose_way(model) == "fast"


WINDOWS = {
    "mistral": {"sliding_window": 10},
    "gpt_neo": {
        "num_layers": 2, "num_heads": 4, "window_size": 10,
        "attention_types": [[["global", "local"], 1]],
    },
}  # fmt: skip


@pytest.mark.parametrize("init", [0.02, 0.3])
@pytest.mark.parametrize("family", WINDOWS)
def test_windows_that_pads_would_fill(family: str, init: float) -> None:
    model = made(family, init=init, **WINDOWS[family])
    assert window_of(model) == 10
    assert choose_way(model, is_trained=True) == "plain"
    check_rows(model)


def test_latents_that_are_refined_in_parallel_beside_a_window() -> None:
    """A window forgets columns, so that there is nothing to rewind to; all is read again then."""
    thinker = Thinker(Parallel(9, THOUGHT.update), SpecialTokens(1, 2, 3, 0))
    model = made("mistral", **WINDOWS["mistral"])
    rollout = think(model, collate(layouts(SHORT, LONG)), thinker)
    for i, row in enumerate((SHORT, LONG)):  # more iterations than positions: one after the other
        torch.testing.assert_close(
            rollout.states[i], reference_states(model, *row)[0], rtol=1e-3, atol=1e-4
        )


# --- what is refused ---

CAPPED = {
    "capped": ("gemma2", {"final_logit_softcapping": 30.0}),
    "divided": ("granite", {"logits_scaling": 4.0}),
    "multiplied": ("cohere", {"logit_scale": 0.0625}),
}


@pytest.mark.parametrize("init", [0.02, 0.3])
@pytest.mark.parametrize("name", CAPPED)
def test_logits_that_are_scaled_or_capped(name: str, init: float) -> None:
    """A cap of 30 changes nothing of logits near 0, which are those of a model from scratch."""
    family, settings = CAPPED[name]
    model = made(family, init=init, **settings)
    with pytest.raises(RecipeError, match="does not compute its logits as output head times last"):
        choose_way(model)


def test_a_backward_pass_that_does_not_work_is_found_in_training_alone() -> None:
    model = made("gpt2")
    block = model.transformer.h[1]

    block.ln_1.register_forward_hook(lambda module, inputs, output: output.exp().add_(1))
    choose_way(model)
    with pytest.raises(RecipeError, match="GPT2LMHeadModel cannot be trained in continuous"):
        choose_way(model, is_trained=True)


def test_weights_that_are_no_numbers() -> None:
    model = made("gpt2")
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight[0, 0] = torch.nan
    with pytest.raises(RecipeError, match="gives states that are not finite numbers"):
        choose_way(model)


# --- what is left as it was ---


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("is_training", [True, False])
def test_model_and_random_numbers(name: str, is_training: bool) -> None:
    model = tiny_model(name, dtype=torch.float32).train(is_training)
    model.get_input_embeddings().weight.requires_grad_(False)
    learned = {key for key, one in model.named_parameters() if one.requires_grad}
    state = torch.get_rng_state()
    weights = {key: one.clone() for key, one in model.state_dict().items()}
    assert choose_way(model, is_trained=True) == way_of(model) == "fast"
    assert model.training == is_training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one, weights[key]) for key, one in model.state_dict().items())
    assert {key for key, one in model.named_parameters() if one.requires_grad} == learned
    assert all(one.grad is None for one in model.parameters())


def test_the_slow_way_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    layers = ["conv", "full_attention"]
    assert choose_way(made("lfm2", layer_types=layers)) == "rows"
    assert "Note: Lfm2ForCausalLM reads one row at a time" in capsys.readouterr().err


def test_the_width_of_a_model_that_projects_its_embeddings() -> None:
    model = made("opt", word_embed_proj_dim=16, ffn_dim=48)
    assert width_of(model) == 16
    choose_way(model)
    check_rows(model)


@torch.no_grad()
def test_think_asks_for_a_look_at_a_family_that_needs_one() -> None:
    """MPT counts pads in its position biases: by the fastest way it would be wrong in silence."""
    import latentcot

    model, batch = made("mpt").eval(), collate([Layout((3, 4, 5), 2, (6,), (6,))])
    with pytest.raises(UsageError, match=r"Mpt.*: nobody has looked how it reads batches"):
        latentcot.think(model, batch)
    assert latentcot.choose_way(model) != "fast"
    assert latentcot.think(model, batch).passes.num_passes == 3
    assert latentcot.think(made("gpt2").eval(), batch).passes.num_passes == 3
