"""What a page that thinks takes, and what it refuses in words; the rest is seen in a browser."""

import base64
from dataclasses import replace

import numpy as np
import pytest
import torch

from fresh import fresh_subject, prosqa, untie, with_info
from latentcot.errors import DataError, MethodError, UsageError
from latentcot.evaluation import playable
from latentcot.evaluation.playable import play_data, shape_of, tensors_of
from latentcot.evaluation.reasoner import Reasoner
from latentcot.tasks.prosqa.rendering import RenderOptions, render_again

EXAMPLES = prosqa("two-family", 6, layers=2, shared=0)


@pytest.fixture(scope="module")
def subject():
    return fresh_subject(EXAMPLES)


def refused(subject, kind, match, examples=EXAMPLES, beside=()):
    with pytest.raises(kind, match=match):
        play_data([subject.reasoner, *(one.reasoner for one in beside)], examples, {})


def test_it_holds_every_weight_and_the_questions(subject):
    data = play_data([subject.reasoner], EXAMPLES, {})
    [model] = data["models"]
    numbers = np.frombuffer(base64.b64decode(model["weights"]["base64"]), "<f4")
    assert len(numbers) == sum(size for _, size in model["weights"]["index"])
    assert len(numbers) == model["num_weights"] == subject.reasoner.model.num_parameters()
    weights = subject.reasoner.model.parameters()
    assert np.sort(numbers) == pytest.approx(
        np.sort(np.concatenate([w.numpy(force=True).ravel() for w in weights]))
    )
    assert data["trained"] == {"nodes": [10], "edges": [8], "hops": [2], "parents": 1}
    assert data["names"] == [str(number) for number in range(10)]
    for puzzle, example in zip(data["puzzles"], EXAMPLES, strict=True):
        names = puzzle["nodes"]
        told = " ".join(f"{names[a]} {names[b]}" for a, b in puzzle["edges"])
        asked = " ".join(names[node] for node in puzzle["candidates"])
        assert f"{told} [Q] {asked} [R] {names[puzzle['root']]}" == example.question


def test_an_output_head_of_its_own_goes_along(subject):
    other = fresh_subject(EXAMPLES, architecture="llama", hidden_size=8)
    untied = other.reasoner.model
    head = torch.nn.Linear(8, len(other.reasoner.tokenizer), bias=False)
    untied.set_output_embeddings(head)
    untied.config.tie_word_embeddings = False
    assert "head" in dict(tensors_of(untied)) and "head" not in dict(
        tensors_of(subject.reasoner.model)
    )


def test_methods_that_the_page_does_not_know_are_refused(subject):
    cot = with_info(subject, method="cot")
    refused(cot, MethodError, r"cot has no continuous thoughts to watch.*--beside")
    pccot = with_info(subject, method="pccot")
    refused(subject, MethodError, r"pccot fills its latent positions in another", beside=[pccot])
    codi = with_info(subject, method="codi")
    codi.reasoner.modules["projection"] = torch.nn.Identity()
    refused(subject, MethodError, "codi reads projection too", beside=[codi])


def test_models_that_the_page_cannot_run_are_refused():
    refused(
        fresh_subject(EXAMPLES, tokenizer="bpe"), MethodError, r"\(BPE\) is not one of whole words"
    )
    llama = fresh_subject(EXAMPLES, architecture="llama").reasoner.model
    llama.config.rope_parameters = {"rope_type": "llama3", "rope_theta": 1e4}
    with pytest.raises(MethodError, match=r"rope_parameters: \{'rope_type': 'llama3'"):
        shape_of(llama)
    gpt2 = fresh_subject(EXAMPLES).reasoner.model
    gpt2.config.activation_function = "relu"
    with pytest.raises(MethodError, match="cannot run activation_function: 'relu'"):
        shape_of(gpt2)
    gpt2.config.model_type = "opt"
    with pytest.raises(MethodError, match="It knows gpt2, llama, qwen3"):
        shape_of(gpt2)


def test_a_head_with_a_bias_is_refused(subject):
    other = fresh_subject(EXAMPLES)
    untie(other)
    refused(other, MethodError, "cannot run an output head with a bias")


def test_what_is_too_large_for_a_page_is_refused(subject, monkeypatch):
    monkeypatch.setattr(playable, "MOST_BYTES", 500)
    refused(subject, UsageError, r"would hold [\d,]+ weights, 0\.1 MB in float16")


def test_questions_that_the_page_cannot_draw_are_refused(subject):
    in_words = render_again(EXAMPLES, RenderOptions(rendering="words"))
    refused(subject, DataError, "play needs questions in symbols", in_words)
    bare = [replace(example, meta={}) for example in EXAMPLES]
    refused(subject, DataError, "has no 'idx_to_symbol'", bare)
    others = prosqa("two-family", 3, layers=3, shared=0)
    strange = [one for one in others if {"10", "11", "12", "13"} & set(one.question.split())]
    refused(subject, DataError, "in the vocabulary of the model; known are", strange)


def test_half_precision_only_where_answers_stay_the_same(subject, monkeypatch):
    monkeypatch.setattr(playable, "FULL_BYTES", 0)
    for bears, dtype in ((True, "float16"), (False, "float32")):
        monkeypatch.setattr(playable, "bears_halving", lambda *_, bears=bears: bears)
        assert play_data([subject.reasoner], EXAMPLES, {})["models"][0]["weights"]["dtype"] == dtype
    num = sum(weight.numel() for weight in subject.reasoner.model.parameters())
    monkeypatch.setattr(playable, "MOST_BYTES", 4 * num)  # enough for halves, with 4/3 of base 64
    refused(subject, UsageError, r"MB in float32 \(with half of that it answers otherwise\)")


def test_halving_reads_what_was_learned_beside_the_model(subject, monkeypatch):
    monkeypatch.setattr(playable, "FULL_BYTES", 0)
    own, modules = subject.reasoner, {"projection": torch.nn.Identity()}
    codi = Reasoner(own.model, own.tokenizer, replace(own.info, method="codi"), modules)
    with pytest.raises(MethodError, match="codi reads projection too"):
        play_data([own, codi], EXAMPLES, {})


def test_answers_that_rounding_changes_are_noticed(subject):
    texts = [example.question for example in EXAMPLES]
    exact, halved = (
        torch.tensor(playable.playable(subject.reasoner, texts[0], dtype)["check"]["logits"])
        for dtype in ("float32", "float16")
    )
    difference = (exact - halved).abs().max()
    assert 0 < difference < 0.1  # the page checks itself with the weights that it holds
    assert playable.bears_halving(subject.reasoner, texts)
    other = fresh_subject(EXAMPLES).reasoner
    for weight in other.model.parameters():
        weight.data *= 1e-9  # of which half precision keeps nothing
    assert not playable.bears_halving(other, texts)
