"""What is read of keys, values and attention, held to one unpadded row at a time."""

import pytest
import torch

from latentcot.curriculum.layout import lay_out
from latentcot.curriculum.views import KEEP_ALL, Parallel, View
from latentcot.thinking.attention import read_attention
from latentcot.thinking.batch import collate
from latentcot.thinking.think import Thinker, think
from losses import TOKENS
from method_losses import EXAMPLES, RULES
from reference import EACH, embed, tiny_model
from rollouts import EXACT

EAGER = {"rtol": 1e-5, "atol": 1e-5}  # its softmax is in float32, whatever the model is in


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", EACH)
def test_it_is_that_of_each_row_alone(name, attention):
    model = tiny_model(name, attention=attention)
    layouts = [lay_out(example, View(KEEP_ALL), 0, RULES) for example in EXAMPLES]
    found = read_attention(model, collate(layouts, pad_id=30))
    assert model.config._attn_implementation == attention
    alone = tiny_model(name, attention="eager")
    for row, layout in enumerate(layouts):
        first, last = len(layout.prefix), len(layout)
        inputs = embed(alone, layout.prefix + layout.suffix)[None]
        with torch.no_grad():
            read = alone.base_model(inputs_embeds=inputs, use_cache=True, output_attentions=True)
        count = last - first
        for block, one in enumerate(found):
            layer, weights = read.past_key_values.layers[block], read.attentions[block]
            torch.testing.assert_close(one.keys[row, :, :count], layer.keys[0, :, first:], **EAGER)
            torch.testing.assert_close(
                one.values[row, :, :count], layer.values[0, :, first:], **EAGER
            )
            torch.testing.assert_close(
                one.weights[row, :, :count, :count], weights[0, :, first:, first:], **EAGER
            )


def test_dropout_does_not_reach_it_and_comes_back():
    model = tiny_model("gpt2", resid_pdrop=0.5, attn_pdrop=0.5).train()
    model.transformer.h[0].mlp.eval()
    modes = [module.training for module in model.modules()]
    batch = collate([lay_out(example, View(KEEP_ALL), 0, RULES) for example in EXAMPLES])
    one, other = read_attention(model, batch), read_attention(model, batch)
    assert torch.equal(one[1].weights, other[1].weights)
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("way", ["fast", "plain"])
@pytest.mark.parametrize("iterations", [None, 0, 2])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_keys_of_latent_positions_are_found_however_they_are_filled(
    name, iterations, way, monkeypatch
):
    if way == "plain":
        monkeypatch.setattr("latentcot.thinking.passes.takes_split_cache", lambda model: False)
    model = tiny_model(name)
    thinker = Thinker(special_tokens=TOKENS)
    if iterations is not None:
        thinker = Thinker(Parallel(iterations, lambda latent: latent.state), TOKENS)
    view, counts = View(KEEP_ALL, thinker.latents, has_special_tokens=True), (3, 1, 0, 2)
    layouts = [lay_out(e, view, 0, RULES, n) for e, n in zip(EXAMPLES, counts, strict=True)]
    rollout = think(model, collate(layouts, pad_id=30), thinker)
    found = rollout.passes.cached(rollout.columns)
    for row, layout in enumerate(layouts):
        first, count = len(layout.prefix), layout.num_latents
        filled = rollout.latent_inputs[row, :count]
        inputs = torch.cat([embed(model, layout.prefix), filled])[None]
        read = model.base_model(inputs_embeds=inputs, use_cache=True)
        for part, layer in zip(found, read.past_key_values.layers, strict=True):
            for one, alone in zip(part, (layer.keys, layer.values), strict=True):
                torch.testing.assert_close(one[row, :, :count], alone[0, :, first:], **EXACT)
