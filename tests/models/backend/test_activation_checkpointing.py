"""Blocks that run twice give what they give once: the reference's loss and gradients."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from latentcot.errors import RecipeError, TrainingError
from latentcot.models.backend.activation_checkpointing import check_can_checkpoint
from latentcot.thinking.batch import collate
from losses import LanguageLoss
from marks import mostly_slow
from reference import ARCHITECTURES, EACH, HIDDEN_SIZE, VOCAB_SIZE, half, reference_loss, tiny_model
from rollouts import CASES, RAGGED, make_rows, relative_errors, take_gradients


def loss_of(model, rows, *, saves_memory, feed=None):
    loss = LanguageLoss(model, feed, saves_memory=saves_memory).train()
    parts = loss(collate([row.as_layout for row in rows]))
    return parts.nll_sum / parts.num_labels


@pytest.mark.parametrize("case", mostly_slow([*CASES, "with half of each thought"], "ragged"))
@pytest.mark.parametrize("architecture", EACH)
def test_loss_and_gradients_are_those_of_the_reference(architecture, case):
    model = tiny_model(architecture).double().train()
    rows = make_rows(CASES.get(case, RAGGED))
    feed = fill = None
    if case not in CASES:
        feed, fill = (lambda latent: latent.state / (latent.number + 2)), half
    expected = reference_loss(model, [row.as_tuple for row in rows], fill=fill)
    actual = loss_of(model, rows, saves_memory=True, feed=feed)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
    errors = relative_errors(take_gradients(model, actual), take_gradients(model, expected))
    assert max(errors.values()) < 1e-5, errors


def gpt2(**settings):
    torch.manual_seed(0)
    sizes = {"n_embd": HIDDEN_SIZE, "n_layer": 3, "n_head": 2, "vocab_size": VOCAB_SIZE}
    return GPT2LMHeadModel(GPT2Config(**sizes, n_positions=400, **settings)).train()


@pytest.mark.parametrize("case", ["n=0", "n=6", "ragged"])
def test_dropout_is_drawn_alike_both_times(case):
    """The second run of a block must drop what the first one dropped."""
    rows, found = make_rows(CASES[case]), []
    for saves_memory in (False, True):
        model = gpt2(resid_pdrop=0.3, attn_pdrop=0.3, embd_pdrop=0.3, attn_implementation="eager")
        torch.manual_seed(1)
        loss = loss_of(model, rows, saves_memory=saves_memory)
        found.append((loss, take_gradients(model, loss)))
    (loss, gradients), (loss_saving, gradients_saving) = found
    torch.testing.assert_close(loss_saving, loss, rtol=1e-6, atol=0)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_saving[name], gradient, rtol=1e-5, atol=1e-7)


def kept_bytes(model, rows, *, saves_memory):
    """What is kept for the backward pass, each storage once; the weights do not count."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = loss_of(model, rows, saves_memory=saves_memory)
        loss.backward()
    return sum(kept.values())


def test_little_is_kept():
    model = gpt2()
    rows = make_rows([(120, 6, 5), (90, 6, 5)])
    plain, saving = (kept_bytes(model, rows, saves_memory=on) for on in (False, True))
    assert saving < plain / 5


def test_only_in_training(monkeypatch):
    """What is not learned from is not run twice."""
    monkeypatch.setattr("latentcot.thinking.passes.checkpointed", None)
    loss = LanguageLoss(gpt2(), saves_memory=True)
    batch = collate([row.as_layout for row in make_rows(CASES["n=2"])])
    loss.eval()(batch)
    with pytest.raises(TypeError):
        loss.train()(batch)


def test_a_model_with_windows_is_refused():
    config = MistralConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=16, vocab_size=VOCAB_SIZE, sliding_window=8,
    )  # fmt: skip
    with pytest.raises(RecipeError, match="training.save_memory.*Mistral"):
        check_can_checkpoint(MistralForCausalLM(config))
    for architecture in ARCHITECTURES:
        check_can_checkpoint(tiny_model(architecture))


def test_checkpointing_of_transformers_points_here():
    model = gpt2()
    model.transformer.h[1].gradient_checkpointing = True
    with pytest.raises(TrainingError, match="training.save_memory"):
        loss_of(model, make_rows(CASES["n=2"]), saves_memory=False)
