"""KaVa, held to a reference of plain loops: one row, one block and one head at a time."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from families import tiny_family
from latentcot.curriculum.layout import EncodedExample, lay_out
from latentcot.errors import TrainingError
from latentcot.methods import method_named
from latentcot.methods.kava import CACHE, compressed
from latentcot.models.ways import set_way
from latentcot.thinking.attention import Attention, read_attention
from latentcot.thinking.batch import collate_views
from latentcot.training.objective import Counts, Objective, make_modules
from losses import TOKENS
from method_losses import EXAMPLES, RULES, assert_same_gradients, laid_out, losses
from reference import embed, last_hidden, tiny_model

NUM, TIMES = 3, 2
CHAINS = [
    *EXAMPLES,  # without the last step: as many tokens as thoughts, none, none, one more
    EncodedExample("e", (5, 8), ((10, 14, 12), (13, 10, 15), (16,)), (20, 22, 25), lead=1),
    EncodedExample("f", (7, 5, 6), ((11, 13), (12,)), (20, 21), lead=1),
]


def kava(**settings):
    choice = {"name": "kava", "num_latents": NUM, "iterations": TIMES, "spread": "example"}
    return method_named(choice | settings)


@pytest.fixture(params=["gpt2", "llama"])
def model(request):
    """The second has two queries for each head of keys."""
    return tiny_model(request.param)


def cached(model, inputs, **options):
    """(each block's keys and values (heads, K, E), whatever else is read) of one unpadded row."""
    read = model.base_model(inputs_embeds=inputs[None], use_cache=True, **options)
    return [(x.keys[0], x.values[0]) for x in read.past_key_values.layers], read


def student_of(model, method, project, example):
    """What each block keeps of the latent positions, everything computed again each time."""
    row = lay_out(example, method.views["student"], 4, RULES)
    start, count = embed(model, row.prefix), len(row.prefix)
    thoughts = embed(model, [TOKENS.pause] * NUM)
    for _ in range(method.views["student"].latents.iterations):
        thoughts = project(last_hidden(model, torch.cat([start, thoughts]))[count - 1 : -1])
    parts, _ = cached(model, torch.cat([start, thoughts, embed(model, row.suffix)]))
    return [[one[:, count : count + NUM] for one in part] for part in parts]


@torch.no_grad()
def teacher_of(model, method, example, share):
    """(heads, n, E) of each block: the tokens of the chain that are kept."""
    row = lay_out(example, method.views["teacher"], 4, RULES)
    chain = [len(row.prefix) + i for i in range(sum(map(len, example.steps[:-1])))]
    behind = len(row.prefix) + len(chain)
    answer = range(behind, behind + len(example.answer))
    parts, read = cached(model, embed(model, row.prefix + row.suffix), output_attentions=True)
    kept = []
    for (keys, values), attention in zip(parts, read.attentions, strict=True):
        queries, found = attention.shape[1] // len(keys), []
        for head, of_head in enumerate(keys):
            group = range(head * queries, (head + 1) * queries)
            unit = [of_head[j] / of_head[j].norm() for j in chain]
            cosine = [sum((one @ other).item() for other in unit) / len(chain) for one in unit]
            whole = sum(math.exp(-one) for one in cosine)
            score = {
                j: share
                * sum(max(attention[0, g, a, j].item() for g in group) for a in answer)
                / len(answer)
                + (1 - share) * math.exp(-cosine[number]) / whole
                for number, j in enumerate(chain)
            }
            best = sorted(sorted(chain, key=score.__getitem__, reverse=True)[:NUM])
            found.append((of_head[best], values[head][best]))
        kept.append([torch.stack(one) for one in zip(*found, strict=True)])
    return kept


def reference(model, method, project):
    """The term, from a frozen copy's chain."""
    frozen = copy.deepcopy(model)
    frozen.config._attn_implementation = "eager"
    settings = method.settings
    examples = [e for e in CHAINS if len(e.steps) > 1]
    students = [student_of(model, method, project, e) for e in examples]
    teachers = [teacher_of(frozen, method, e, settings["importance_share"]) for e in examples]
    distance = {"mse": nn.functional.mse_loss, "smooth-l1": nn.functional.smooth_l1_loss}
    sums = []
    for block in range(len(students[0])):
        for kind in (0, 1):
            targets = [teacher[block][kind] for teacher in teachers]
            spread = torch.cat([target.flatten() for target in targets]).std()
            for student, target in zip(students, targets, strict=True):
                own = student[block][kind][:, : target.shape[1]]
                by = {"batch": spread, "example": target.std(), "none": 1}[settings["spread"]]
                sums.append(distance[settings["distance"]](own, target) / by)
    return torch.stack(sums).mean()


@pytest.mark.parametrize(
    ("way", "settings"),
    [
        ("fast", {"projection": "identity", "spread": "batch"}),
        ("plain", {"projection": "identity", "spread": "batch"}),
        ("saved", {"importance_share": 0.9, "distance": "mse"}),
        ("fast", {"iterations": 0, "spread": "none", "importance_share": 0.5}),
    ],
    ids=["fast", "plain", "saved", "no-iteration"],
)
def test_the_term_and_its_gradients_are_those_of_the_equation(model, way, settings, monkeypatch):
    """Chains shorter than, as long as and longer than the thoughts; the target is a constant."""
    if way == "plain":
        monkeypatch.setattr("latentcot.thinking.passes.takes_split_cache", lambda model: False)
    method = kava(**settings)
    only = replace(method, terms=tuple(term for term in method.terms if term.name == CACHE))
    modules = make_modules(method, model, seed=1)
    objective = Objective(model, only, RULES, modules, saves_memory=way == "saved").train()
    rows = laid_out(only, examples=CHAINS)
    [found] = objective(collate_views(rows)) * Counts(only, rows).coefficients()[0]
    expected = reference(model, method, modules["projection"] if modules else lambda state: state)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    weights = dict(objective.named_parameters())

    def gradients(loss):
        found = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True,
                                    allow_unused=True)  # fmt: skip
        return dict(zip(weights, found, strict=True))

    wanted = gradients(expected)
    assert any(gradient.any() for gradient in wanted.values())
    assert_same_gradients(gradients(found), wanted, tolerance=1e-5)


def made_up(weights):
    """One row, two heads of keys of two queries each, five tokens of which the last is answer."""
    keys, values = torch.randn(2, 1, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    attention = torch.zeros(1, 4, 5, 5)
    attention[0, :, 4, :4] = torch.tensor(weights)
    return Attention(keys, values, attention)


def kept_tokens(read, chain, most, share):
    keys, values = compressed(read, torch.tensor([chain]), torch.tensor([5]), most, share)
    found = [
        [mine.eq(key).all(1).nonzero().item() for key in kept]
        for mine, kept in zip(read.keys[0], keys[0], strict=True)
    ]
    for head, tokens in enumerate(found):
        torch.testing.assert_close(values[0, head], read.values[0, head, tokens])
    return found


def test_importance_alone_keeps_what_the_answer_looks_at_most():
    """The larger of the queries that share keys counts; tokens keep their order."""
    weights = [[0.1, 0.2, 0.0, 0.3], [0.4, 0.0, 0.0, 0.1], [0.0, 0.3, 0.2, 0.1], [0, 0, 0.1, 0.25]]
    assert kept_tokens(made_up(weights), 4, 2, 1.0) == [[0, 3], [1, 3]]


def test_redundancy_alone_keeps_what_is_least_like_the_rest():
    read = made_up([[0.25] * 4] * 4)
    read.keys[0, :, :4] = torch.tensor([[1, 0, 0, 0], [0, 3, 0, 0], [2, 0.1, 0, 0], [0, 0, 1, 0]])
    assert kept_tokens(read, 4, 2, 0.0) == [[1, 3], [1, 3]]


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_chain_of_as_many_tokens_is_kept_whole(share):
    assert kept_tokens(made_up([[0.4, 0.1, 0.3, 0.2]] * 4), 3, 3, share) == [[0, 1, 2]] * 2


def test_without_the_term_it_is_pccot(model):
    settings = {"num_latents": NUM, "iterations": TIMES, "spread": "example"}
    host = method_named({"name": "pccot", "distillation_weight": 10, **settings})
    modules = make_modules(host, model, seed=1)
    expected, _, gradients = losses(host, model, modules, examples=CHAINS)
    assert kava(cache_weight=0).terms[0].name == "loss"
    found, _, same = losses(kava(cache_weight=0), model, modules, examples=CHAINS)
    assert found == expected
    assert_same_gradients(same, gradients)
    found, _, _ = losses(kava(), model, modules, examples=CHAINS)
    assert found.pop(CACHE) > 0
    assert found == pytest.approx(expected, rel=1e-12)


def test_micro_batches_change_nothing_where_the_spread_is_that_of_an_example(model):
    method = kava(teacher_weight=0, distillation_weight=0)
    modules = make_modules(method, model, seed=3)
    means, _, gradients = losses(method, model, modules, examples=CHAINS)
    small, _, same = losses(method, model, modules, examples=CHAINS, size=1)
    assert small == pytest.approx(means, rel=1e-5)
    assert_same_gradients(same, gradients, tolerance=1e-5)


def test_an_update_without_chains_has_no_distance(model):
    means, loss, _ = losses(kava(projection="identity"), model, examples=EXAMPLES[1:3])
    assert means[CACHE] is None
    assert loss.isfinite()


def test_a_model_that_keeps_no_keys_is_refused():
    model = tiny_model("llama")
    set_way(model, "rows")
    with pytest.raises(TrainingError, match=r"LlamaModel: keys and values .*read row by row"):
        losses(kava(projection="identity"), model)


def test_a_model_with_alibi_is_refused():
    model = tiny_family("bloom")
    batch = collate_views(laid_out(kava(), examples=CHAINS)).views["teacher"]
    with pytest.raises(TrainingError, match=r"BloomForCausalLM: .*ALiBi.*such as codi"):
        read_attention(model, batch)
