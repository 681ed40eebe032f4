"""MUX: bags of tokens held to dense vectors, thoughts to the slow reference."""

from itertools import chain

import pytest
import torch
from torch import nn

from latentcot.curriculum.layout import LayoutRules, lay_out
from latentcot.curriculum.views import Plan
from latentcot.errors import MethodError
from latentcot.methods import method_named
from latentcot.methods.mux import SPAN_LOSS, divergence
from latentcot.training.objective import make_modules
from losses import TOKENS
from method_losses import EXAMPLES, assert_same_gradients, laid_out, losses
from reference import (
    VOCAB_SIZE,
    embed,
    last_hidden,
    reference_refined,
    reference_states,
    tiny_model,
)

RULES = LayoutRules(TOKENS, Plan(num_stages=2, thoughts_per_step=2, pad_to_num_stages=False))
SPANS = [(4,), (4, 9, 11), (9, 4, 11), (7, 7, 3, 7), ()]


def bag(span, decay):
    """The dense target."""
    weights = [decay**place for place in range(len(span))]
    target = torch.zeros(VOCAB_SIZE, dtype=torch.float64)
    for token, weight in zip(span, weights, strict=True):
        target[token] += weight / sum(weights)
    return target


def padded(spans):
    width = max(map(len, spans))
    return torch.tensor([[*span, *[-100] * (width - len(span))] for span in spans])


def random_logits(count):
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(count, VOCAB_SIZE, dtype=torch.float64, generator=generator)


class TestDivergence:
    @pytest.mark.parametrize("decay", [0.5, 0.9, 1.0])
    def test_it_is_that_of_dense_vectors_and_never_below_0(self, decay):
        logits = random_logits(len(SPANS))
        found = divergence(logits, padded(SPANS), decay)
        for span, row, one in zip(SPANS, logits, found, strict=True):
            target = bag(span, decay)
            assert target.sum() == pytest.approx(1 if span else 0)
            expected = nn.functional.kl_div(row.log_softmax(-1), target, reduction="sum")
            assert one.item() == pytest.approx(expected.item(), rel=1e-12)
            assert one >= 0

    def test_a_span_of_one_token_is_plain_cross_entropy(self):
        logits, targets = random_logits(3), torch.tensor([[4], [0], [39]])
        expected = nn.functional.cross_entropy(logits, targets[:, 0], reduction="none")
        torch.testing.assert_close(divergence(logits, targets, 0.9), expected)

    def test_it_is_0_where_the_bag_is_said_exactly(self):
        targets = padded(SPANS[:-1])
        logits = torch.stack([bag(span, 0.9).clamp(min=1e-300).log() for span in SPANS[:-1]])
        found = divergence(logits, targets, 0.9)
        torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)

    def test_the_order_of_tokens_counts_unless_all_weigh_the_same(self):
        logits = random_logits(1).expand(2, -1)
        one, other = divergence(logits, padded(SPANS[1:3]), 0.9)
        assert abs(one - other) > 1e-2
        one, other = divergence(logits, padded(SPANS[1:3]), 1.0)
        assert one.item() == pytest.approx(other.item(), rel=1e-12)


HOSTS = ["coconut", {"name": "codi", "num_latents": 4, "spread": "example"},
         {"name": "pccot", "num_latents": 4, "iterations": 2, "spread": "example",
          "projection": "identity"}]  # fmt: skip


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize(("host", "size"), [*zip(HOSTS, (None, 1, 3), strict=True)])
def test_each_thought_says_its_span_through_the_models_own_head(name, host, size):
    """By hand: the state before each thought of one row at a time, without a cache."""
    model, host = tiny_model(name), method_named(host)
    method = method_named({"name": "mux", "host": host.choice, "span_weight": 0.7,
                           "temperature": 2.0})  # fmt: skip
    modules = make_modules(host, model, seed=2)
    terms = []
    for example, laid in zip(EXAMPLES, laid_out(method, 2, rules=RULES), strict=True):
        row = lay_out(example, host.view, 2, RULES)
        if host.name == "pccot":
            _, inputs = reference_refined(
                model, row.prefix, 4, (), 2, TOKENS.pause, lambda start, state: state,
                is_in_place=False,
            )  # fmt: skip
        else:
            fill = (lambda _, number, h: modules["projection"](h)) if modules else None
            _, inputs = reference_states(model, row.prefix, row.num_latents, (), fill=fill)
        states = last_hidden(model, torch.cat([embed(model, row.prefix), inputs]))
        logits = model.get_output_embeddings()(states[len(row.prefix) - 1 : -1])
        for span, row_logits in zip(laid.targets[SPAN_LOSS], logits, strict=True):
            log_probs = (row_logits / 2).log_softmax(-1)
            target = bag(span, 0.9)
            if span:
                terms.append(nn.functional.kl_div(log_probs, target, reduction="sum"))
    expected = torch.stack(terms).mean()
    means, _, gradients = losses(method, model, modules, 2, size=size, rules=RULES)
    assert means[SPAN_LOSS] == pytest.approx(expected.item(), rel=1e-9)
    of_host, _, summed = losses(host, model, modules, 2, rules=RULES)
    assert {key: means[key] for key in of_host} == pytest.approx(of_host, rel=1e-9)
    weights = {f"model.{key}": one for key, one in model.named_parameters()}
    weights |= {f"learned.{key}": one for key, one in modules.named_parameters()}
    found = torch.autograd.grad(0.7 * expected, list(weights.values()), allow_unused=True)
    for key, gradient in zip(weights, found, strict=True):
        if gradient is not None:
            summed[key] = summed[key] + gradient
    assert_same_gradients(gradients, summed, tolerance=1e-8)


def spans(host, stage=2, **settings):
    method = method_named({"name": "mux", "host": host, **settings})
    return [laid.targets[SPAN_LOSS] for laid in laid_out(method, stage, rules=RULES)]


def test_a_step_is_shared_out_evenly_among_its_thoughts():
    assert spans("coconut") == [
        # Steps that are left over go into the last thoughts, once all stages are there.
        ((10,), (11,), (12, 13), (14, 15)),
        ((16,), (17,)),
        (),
        ((10,), (), (11, 12, 13), (14, 15)),
    ]
    assert spans("coconut", stage=1)[0] == ((10,), (11,))
    found = spans({"name": "codi", "num_latents": 3})
    assert found[:2] == [((10, 11), (12,), (13, 14, 15)), ((16, 17), (), ())]


def test_cuts_at_random_part_the_whole_chain_the_same_each_time():
    host = {"name": "codi", "num_latents": 3}
    found = spans(host, cuts="random")
    assert found == spans(host, cuts="random")
    for example, one in zip(EXAMPLES, found, strict=True):
        tokens = tuple(chain.from_iterable(example.steps))
        assert tuple(chain.from_iterable(one)) == tokens
        assert len(one) == 3 and sum(map(bool, one)) == min(3, len(tokens))
    assert found != spans(host)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": "cot"}, "cot has no thoughts"),
        ({"host": "coconut", "cuts": "random"}, "method.cuts: 'random' needs a host that writes"),
        ({"decay": 0}, "decay"),
        ({"temperature": 0}, "temperature"),
    ],
)
def test_what_it_cannot_be_built_on_is_told(settings, message):
    with pytest.raises(MethodError, match=message):
        method_named({"name": "mux", **settings})
