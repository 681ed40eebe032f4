"""CoLaR, held to the slow reference, and to chain of thought where both are the same."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from interrupts import in_update, press_ctrl_c
from latentcot import MethodError, RecipeError, UsageError, load, read_examples, train
from latentcot.curriculum.layout import lay_out
from latentcot.curriculum.views import Sequential
from latentcot.methods import method_named
from latentcot.methods.colar import HEAD, Head, compressed
from latentcot.methods.stopping import WordRule
from latentcot.thinking.batch import collate, collate_views
from latentcot.thinking.decoding import generate
from latentcot.thinking.think import Thinker, think
from latentcot.training.objective import Objective, make_modules
from losses import TOKENS
from method_losses import EXAMPLES, RULES, assert_same_gradients, laid_out, losses
from reference import embed, last_hidden, tiny_model
from rollouts import EXACT
from tiny_runs import RANDOM, results_of, rows_of

COLAR = method_named("colar")
[SAID] = [term for term in COLAR.terms if term.name == "loss"]


def rules(rate):
    return replace(RULES, rate=rate, seed="7")


def layouts(rate, examples=EXAMPLES):
    return [
        laid.layouts["answer"] for laid in laid_out(COLAR, examples=examples, rules=rules(rate))
    ]


@pytest.fixture(params=["gpt2", "llama"])
def model(request):
    return tiny_model(request.param)


@pytest.fixture
def modules(model):
    return make_modules(COLAR, model, seed=3)


@pytest.fixture(params=["fast", "plain"])
def way(request, monkeypatch):
    """Through the split cache, and through transformers' own."""
    if request.param == "plain":
        monkeypatch.setattr("latentcot.thinking.passes.takes_split_cache", lambda model: False)


def by_hand(model, head, row, targets):
    """(nats of each label, distance of each group) of one example, all of it read again."""
    scale = model.get_input_embeddings().weight.std().item()
    thoughts = [sum(embed(model, [t])[0] for t in g) / len(g) ** 0.5 for g in row.groups]
    inputs = [*embed(model, row.prefix), *thoughts, *embed(model, row.suffix)]
    states = last_hidden(model, torch.stack(inputs))[len(row.prefix) - 1 : -1]
    labels = [*(target for (target,) in targets), *row.suffix]
    log_probs = model.get_output_embeddings()(states).log_softmax(-1)
    nats = [-log_probs[i, label] for i, label in enumerate(labels)]
    means = [head.mean(head.trunk(state)) for state in states[: len(thoughts)]]
    pairs = zip(means, thoughts, strict=True)
    return nats, [(mean - thought.detach() / scale).square().mean() for mean, thought in pairs]


@pytest.mark.parametrize("size", [None, 1, 3])
@pytest.mark.parametrize("rate", [1, 2, 3, 100])
def test_it_is_what_the_equations_say(model, modules, rate, size):
    """The terms of ragged rows, one of them without a chain, and their gradients."""
    nats, distances = [], []
    for laid in laid_out(COLAR, rules=rules(rate)):
        row = laid.layouts["answer"]
        assert all(t in g for (t,), g in zip(laid.targets["loss"], row.groups, strict=True))
        more = by_hand(model, modules[HEAD], row, laid.targets["loss"])
        nats, distances = nats + more[0], distances + more[1]
    means, _, gradients = losses(COLAR, model, modules, size=size, rules=rules(rate))
    loss, distance = torch.stack(nats).mean(), torch.stack(distances).mean()
    assert means["loss"] == pytest.approx(loss.item(), rel=1e-9)
    assert means["latent_loss"] == pytest.approx(distance.item(), rel=1e-6)  # s is a float32
    weights = {f"model.{name}": one for name, one in model.named_parameters()}
    found = torch.autograd.grad(loss + distance, list(weights.values()))
    assert_same_gradients(gradients, dict(zip(weights, found, strict=True)), tolerance=1e-6)


def test_at_rate_1_it_is_chain_of_thought(model, modules):
    """Behind the one <pause> that tells the rate; losses and gradients."""
    examples = [replace(e, question=(*e.question, TOKENS.pause)) for e in EXAMPLES]
    cot, _, wanted = losses(method_named("cot"), model, stage=0, examples=examples)
    only = replace(COLAR, terms=(SAID,))
    means, _, gradients = losses(only, model, modules, rules=rules(1))
    assert means["loss"] == pytest.approx(cot["loss"], rel=1e-12)
    assert_same_gradients(gradients, wanted)


def test_groups_of_the_chain():
    a, b, c, d = layouts(2)
    assert a.groups == ((10, 11), (12, 13), (14, 15)) and a.num_latents == 3
    assert a.prefix == (*EXAMPLES[0].question, TOKENS.pause, TOKENS.pause)
    assert a.suffix == a.labels == (*EXAMPLES[0].answer, TOKENS.eos)
    assert (b.groups, c.groups, c.num_latents) == (((16, 17),), (), 0)
    assert all(one.num_latents <= 1 for one in layouts(100))
    # What is given when it answers: the rate, and not how long the chain is.
    asked = lay_out(EXAMPLES[0], COLAR.view, 4, RULES, 64).prompt()
    assert asked.prefix == a.prefix
    assert (asked.num_latents, asked.suffix, asked.groups) == (64, (), None)
    assert d.prompt().groups is None


def test_compressing():
    embeds = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    one = torch.tensor([True, False, False, False])
    assert torch.equal(compressed(embeds, one), embeds[:, :, 0])
    two = torch.tensor([True, True, False, False])
    expected = (embeds[:, :, 0] + embeds[:, :, 1]) / 2**0.5
    torch.testing.assert_close(compressed(embeds, two), expected, **EXACT)
    assert not compressed(embeds, ~(one | ~one)).any()


def test_labels_and_rates_are_drawn_for_each_update():
    def targets(seed, examples=EXAMPLES):
        drawn = laid_out(COLAR, examples=examples, rules=replace(RULES, rate=3, seed=seed))
        return {e.id: laid.targets["loss"] for e, laid in zip(examples, drawn, strict=True)}

    assert targets("1") == targets("1") != targets("2")
    assert targets("1", EXAMPLES[3:])["d"] == targets("1")["d"]  # whatever stands beside it
    rates = [COLAR.drawn(RULES, f"0/layouts/{update}").rate for update in range(1000)]
    assert all(160 < rates.count(rate) < 240 for rate in (1, 2, 3, 4, 5))
    assert method_named("coconut").drawn(RULES, "0").rate is None


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("rate", [1, 3])
def test_a_head_that_knows_gives_the_pass_of_training(model, rate):
    """One position after the other, fed with what the head would say if it were always right."""
    rows = layouts(rate)
    at_once = think(model, collate(rows, pad_id=30), Thinker(COLAR.view.latents))
    assert at_once.passes.num_passes == 1
    gold = Sequential(lambda latent: at_once.latent_inputs[:, latent.number])
    asked = [replace(row, groups=None) for row in rows]
    found = think(model, collate(asked, pad_id=30), Thinker(gold))
    for row, layout in enumerate(rows):
        end, count = len(layout.suffix) + 1, layout.num_latents
        torch.testing.assert_close(found.states[row, :end], at_once.states[row, :end], **EXACT)
        for name in ("latent_inputs", "latent_states", "states_before_latents"):
            one, other = (getattr(x, name)[row, :count] for x in (found, at_once))
            torch.testing.assert_close(one, other, **EXACT)


def test_padding_changes_nothing(model):
    """Nor what other processes have: more positions, and longer groups, of other rows."""
    thinker = Thinker(COLAR.view.latents)
    alone = think(model, collate(layouts(3)[1:2]), thinker)
    beside = think(model, collate(layouts(3), pad_id=30, columns=(8, 4), max_latents=9), thinker)
    assert beside.latent_inputs.shape[1] == 9
    torch.testing.assert_close(beside.states[1, :4], alone.states[0, :4], **EXACT)
    torch.testing.assert_close(beside.latent_inputs[1, 0], alone.latent_inputs[0, 0], **EXACT)
    empty = think(model, collate(layouts(3)[2:3], max_latents=2), thinker)  # still one pass
    assert empty.passes.num_passes == 1
    torch.testing.assert_close(empty.states[0], beside.states[2, : empty.states.shape[1]], **EXACT)


def test_the_noise_of_training_is_that_of_the_head(model, modules):
    batches = collate_views(laid_out(COLAR, rules=rules(2)))
    distance = next(term for term in COLAR.terms if term.name == "latent_loss")

    def total(log_std):
        nn.init.zeros_(modules[HEAD].log_std.weight)
        nn.init.constant_(modules[HEAD].log_std.bias, log_std)
        only, found = replace(COLAR, terms=(replace(distance, weight=1.0),)), []
        objective = Objective(model, only, RULES, modules)
        for mode in (False, True):
            torch.manual_seed(1)
            found.append(objective.train(mode)(batches).item())
        return found

    certain, almost = total(-50.0)
    assert almost == pytest.approx(certain, rel=1e-9)
    num_groups = sum(row.num_latents for row in layouts(2))
    certain, noisy = total(2.0)
    assert (noisy - certain) / num_groups == pytest.approx(math.exp(4), rel=0.3)


def test_the_target_carries_no_gradient_and_the_head_is_kept(model, modules):
    only = replace(COLAR, terms=tuple(t for t in COLAR.terms if t.name == "latent_loss"))
    _, _, gradients = losses(only, model, modules, rules=rules(100))
    # One group a row: the table is read by thoughts behind the last state that is asked, alone.
    table = model.get_input_embeddings().weight
    [name] = [n for n, p in model.named_parameters() if p is table]
    in_chains = [12, 13, 14, 15, 16, 17]
    assert not gradients[f"model.{name}"][in_chains[:4]].any()
    assert all(g.any() for n, g in gradients.items() if "trunk" in n or ".mean" in n)
    assert COLAR.modules[HEAD].is_kept
    assert Head(model).scale == pytest.approx(table.std().item(), rel=1e-6)


def answer_by_hand(model, modules, prefix, ends, most, num_words):
    """(thoughts, words), everything computed again for each position."""
    head, inputs, count = modules[HEAD], embed(model, prefix), 0

    def best(state):
        return int(model.get_output_embeddings()(state).argmax())

    while True:
        state = last_hidden(model, inputs)[-1]
        if count == most or (count and best(state) in ends):
            break
        thought = head.mean(head.trunk(state)) * head.scale
        inputs, count = torch.cat([inputs, thought[None]]), count + 1
    words = []
    for _ in range(num_words):
        words.append(best(last_hidden(model, inputs)[-1]))
        inputs = torch.cat([inputs, embed(model, words[-1:])])
    return count, words


@pytest.mark.usefixtures("way")
@torch.no_grad()
def test_it_answers_as_the_reference_does(model, modules):
    """Ends that some rows say early, some late, some never."""
    prompts = [lay_out(e, COLAR.view, 4, RULES, 9).prompt() for e in EXAMPLES]
    thinker = Thinker(COLAR.views["answer"].latents, TOKENS, COLAR.kept_of(modules))
    counts = set()
    for ends in ((0,), tuple(range(20)), tuple(range(0, 40, 5))):
        expected = [answer_by_hand(model, modules, p.prefix, ends, 9, 3) for p in prompts]
        stop = WordRule(model, ends, 9)
        for size in (1, 4):
            found = generate(model, prompts, eos_id=-1, max_new_tokens=3, thinker=thinker,
                             stop=stop, batch_size=size)  # fmt: skip
            assert [(g.num_latents, list(g.token_ids)) for g in found] == expected
            assert [g.num_passes for g in found] == [count + 3 for count, _ in expected]
        counts |= {count for count, _ in expected}
    assert len(counts) > 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0}, "method.rate"),
        ({"most_rate": 2.5}, "method.most_rate"),
        ({"latent_weight": 0}, "method.latent_weight"),
        ({"max_thoughts": 0}, "method.max_thoughts"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(MethodError, match=message):
        method_named({"name": "colar", **settings})


@pytest.mark.parametrize("name", ["simcot", "mux"])
def test_it_is_no_host(name):
    with pytest.raises(MethodError, match="colar has no thoughts that could be spelled"):
        method_named({"name": name, "host": "colar"})


def test_no_classifier_ends_it(make_recipe):
    with pytest.raises(RecipeError, match="colar does not have"):
        make_recipe("colar", stop="classifier", curriculum={"pad_to_num_stages": False})


@pytest.mark.slow
def test_learns_resumes_and_answers(make_recipe, data, latentcot, tmp_path):
    """Bit for bit what it gives in one go; the rate of answers can be chosen afterwards."""
    recipe = make_recipe({"name": "colar", "max_thoughts": 7}, **RANDOM)
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    assert train(recipe, whole, is_quiet=True)
    with in_update(6, press_ctrl_c):
        assert not train(recipe, ended, is_quiet=True)
    assert train(recipe, ended, resume=True, is_quiet=True)
    files = "model.safetensors", "modules.safetensors"
    assert results_of(ended, files) == results_of(whole, files)
    losses = [row["loss"] for row in rows_of(whole, "train")]
    assert losses[-1] < losses[0]

    reasoner = load(whole)
    [example] = read_examples(data / "test.jsonl", limit=1)
    for rate in (None, 5):
        if rate is not None:
            reasoner.use_rate(rate)
        [prompt] = reasoner.prompts(reasoner.encode([example]), 3)
        assert prompt.prefix[-(rate or 2) :] == (reasoner.rules.special_tokens.pause,) * (rate or 2)
        [output] = reasoner.generate([example.question])
        assert 1 <= output.num_thoughts <= 7
    assert reasoner.generate([example.question], num_thoughts=3)[0].num_thoughts == 3
    with pytest.raises(UsageError, match=r"trained \(1 … 5\), got 6"):
        reasoner.use_rate(6)
    asked = [str(whole), "--rate", "1", "--limit", "2"]
    assert latentcot("eval", *asked).code == 0
    assert (whole / "evals" / "test-rate-1-first-2.json").exists()
    assert latentcot("generate", *asked[:3], example.question).code == 0


def test_the_rate_of_a_method_that_does_not_compress(tiny_run):
    with pytest.raises(UsageError, match="thoughts of coconut stand for no number of tokens"):
        load(tiny_run).use_rate(2)
