"""The search that is built by hand, held to a breadth-first search written here.

Every thought must hold the nodes predicted, each with the probability that the equations give, and
every answer must be right: graphs of all kinds, circles included, in ragged batches.
"""

import math
import re
from dataclasses import replace
from random import Random

import pytest
import torch

from latentcot import RecipeError, RunError, load
from latentcot.curriculum.views import Plan
from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.evaluation.reasoner import Reasoner
from latentcot.models.ways import way_of
from latentcot.runs.search_by_hand import LOGIT, Superposition, superposition, write_superposition
from reference import reference_states

KINDS = {
    "gpt2": {},
    "llama": {"architecture": "llama"},
    "pairs": {"separator": False},
    "rotated": {"basis": 3},
    "exactly": {"architecture": "llama", "holds": "exactly"},
}


def reasoner(**options):
    made = superposition(Superposition(**options))
    return Reasoner(made.model, made.tokenizer, made.info)


def drawn(rng, num_nodes, num_edges, most_hops):
    """Edges, root, a target within so many edges of it and as far as can be, and a node it never
    reaches."""
    while True:
        pairs = [(a, b) for a in range(num_nodes) for b in range(num_nodes) if a != b]
        edges, root = rng.sample(pairs, num_edges), rng.randrange(num_nodes)
        layers = [{root}]
        while layers[-1]:
            seen = set().union(*layers)
            layers.append({b for a, b in edges if a in layers[-1]} - seen)
        lost = sorted(set(range(num_nodes)) - set().union(*layers))
        depth = min(most_hops, len(layers) - 2)
        if depth > 0 and lost:
            return edges, root, rng.choice(sorted(layers[depth])), rng.choice(lost), depth


def told(rng, edges, root, target, other, bar):
    first, second = rng.sample([target, other], 2)
    return "".join(f"{a} {b} {bar}" for a, b in edges) + f"[Q] {first} {second} [R] {root}"


def held_after(edges, root, num_thoughts, holds):
    """The nodes that each thought must hold."""
    found, held = [], {root}
    for _ in range(num_thoughts):
        came = {b for a, b in edges if a in held}
        held = came if holds == "exactly" else held | came
        found.append(held)
    return found


def check(model, seed, count, num_nodes, num_edges, most_hops, *, holds="within", bar="| "):
    """Ask many questions, a batch for each number of thoughts and one of all of them."""
    rng = Random(seed)
    asked = [drawn(rng, num_nodes, num_edges, most_hops) for _ in range(count)]
    texts = [told(rng, *one[:4], bar) for one in asked]
    ids = model.tokenizer.convert_tokens_to_ids([str(node) for node in range(num_nodes)])
    others = len(model.tokenizer) - num_nodes
    thoughts = model.think(texts, num_thoughts=most_hops).thoughts
    shares = model.model.get_output_embeddings()(thoughts).double().softmax(-1)[..., ids]
    for (edges, root, *_), mine in zip(asked, shares, strict=True):
        for held, share in zip(held_after(edges, root, most_hops, holds), mine, strict=True):
            # A node held has e^LOGIT, any other word 1.
            total = len(held) * math.exp(LOGIT) + num_nodes - len(held) + others
            expected = torch.full((num_nodes,), 1 / total, dtype=torch.double)
            expected[list(held)] = math.exp(LOGIT) / total
            torch.testing.assert_close(share, expected, rtol=0.01, atol=0)
    if holds == "within":
        outputs = model.generate(texts, num_thoughts=most_hops, batch_size=7)
        assert [one.answer for one in outputs] == [str(target) for _, _, target, *_ in asked]
        assert all(one.is_finished for one in outputs)
    return asked, texts


@pytest.mark.parametrize("kind", KINDS)
def test_every_thought_and_every_answer_is_the_one_predicted(kind):
    options = KINDS[kind]
    model = reasoner(num_nodes=12, num_thoughts=3, **options)
    bar = "| " if options.get("separator", True) else ""
    assert way_of(model.model) == "fast"
    check(model, kind, 8, 12, 18, 3, holds=options.get("holds", "within"), bar=bar)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_nodes", "hops"), [(8, 2), (20, 5), (50, 10), (100, 10)])
@pytest.mark.parametrize("density", [1.3, 2, 3])
def test_hundreds_of_graphs(kind, num_nodes, hops, density):
    options = KINDS[kind]
    model = reasoner(num_nodes=num_nodes, num_thoughts=hops, **options)
    bar, holds = "| " if options.get("separator", True) else "", options.get("holds", "within")
    num_edges = int(density * num_nodes)
    check(model, f"{kind}{density}", 20, num_nodes, num_edges, hops, holds=holds, bar=bar)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_graph_of_300_nodes(architecture):
    model = reasoner(architecture=architecture, num_nodes=300, num_edges=600, num_thoughts=10)
    check(model, 0, 4, 300, 450, 10)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_rows_of_a_batch_may_have_as_many_thoughts_as_their_answers_need(kind):
    """Ragged: each question gets its own number, and all are right."""
    made = superposition(Superposition(num_nodes=12, num_thoughts=4, **KINDS[kind]))
    info = replace(made.info, plan=Plan(4, pad_to_num_stages=False))
    model, rng = Reasoner(made.model, made.tokenizer, info), Random(kind)
    asked = [drawn(rng, 12, 16, 4) for _ in range(12)]
    texts = [told(rng, *one[:4], "| ") for one in asked]
    examples = [
        Example(str(i), text, ("0",) * one[4], str(one[2]))
        for i, (text, one) in enumerate(zip(texts, asked, strict=True))
    ]
    encoded = model.encode(examples)
    assert len({prompt.num_latents for prompt in model.prompts(encoded)}) > 2
    outputs = model.answer(encoded, batch_size=12)
    assert [one.answer for one in outputs] == [example.answer for example in examples]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_slow_reference_thinks_the_same(kind):
    model, rng = reasoner(num_nodes=8, num_thoughts=3, **KINDS[kind]), Random(1)
    text = told(rng, *drawn(rng, 8, 12, 3)[:4], "| ")
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        _, thoughts = reference_states(model.model, [*ids, model.rules.special_tokens.bot], 3, [])
    torch.testing.assert_close(model.think([text]).thoughts[0], thoughts, rtol=1e-3, atol=1e-3)


def test_a_thought_too_few_leaves_a_tie():
    model, rng = reasoner(num_nodes=12, num_thoughts=3), Random(0)
    edges = [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7)]
    for root, target, other in ((0, 3, 7), (4, 7, 3)):
        text = told(rng, edges, root, target, other, "| ")
        assert [one.answer for one in model.generate([text])] == [str(target)]
        early = model.generate([text], num_thoughts=2)[0]
        assert early.answer == "3"  # whichever is asked for: neither is held, the first token wins


def test_what_is_written_is_an_ordinary_checkpoint(tmp_path):
    out = tmp_path / "hand"
    made = write_superposition(Superposition(num_nodes=6, num_thoughts=2), out)
    model = load(out)
    for key, weight in made.model.state_dict().items():
        assert torch.equal(model.model.state_dict()[key], weight)
    assert model.generate(["3 1 | 1 4 | [Q] 4 5 [R] 3"])[0].text == "[A] 4"
    with pytest.raises(RunError, match="exists already. Give --overwrite"):
        write_superposition(Superposition(), out)
    write_superposition(Superposition(architecture="llama", num_nodes=6), out, overwrite=True)
    assert load(out).model.config.model_type == "llama"


def test_wrong_options_are_all_told():
    with pytest.raises(RecipeError) as caught:
        Superposition(architecture="llama", separator=False, num_nodes=2, sharpness=1e9)
    told_ = str(caught.value)
    assert re.findall(r"- (\w+) must", told_) == ["num_nodes", "sharpness", "separator"]


def test_without_bars_a_question_with_bars_is_refused():
    with pytest.raises(DataError, match=r"Not in the vocabulary: '\|'"):
        reasoner(separator=False, num_nodes=5).generate(["3 1 | [Q] 1 2 [R] 3"])
