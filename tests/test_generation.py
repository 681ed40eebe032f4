"""`generate()`, held token for token to the slow reference (`reference.py`)."""

import functools

import pytest
import torch

from latentcot.generation import Sampling, generate
from latentcot.layout import Layout
from reference import (
    ARCHITECTURES,
    HIDDEN_SIZE,
    NO_LABEL,
    VOCAB_SIZE,
    reference_generate,
    reference_states,
    tiny_model,
)

MAX_NEW_TOKENS = 12
NO_EOS = VOCAB_SIZE  # a token that the models cannot say
SHAPES = [  # prefix, thoughts, suffix
    (5, 3, 1),
    (1, 0, 2),
    (9, 6, 1),
    (3, 1, 4),
    (7, 0, 0),
    (2, 2, 0),
    (4, 6, 3),
    (11, 4, 1),
]


def make_prompt(prefix_length: int, num_thoughts: int, suffix_length: int, seed: int) -> Layout:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCAB_SIZE, (prefix_length + suffix_length,), generator=generator).tolist()
    return Layout(
        prefix=tuple(ids[:prefix_length]),
        num_thoughts=num_thoughts,
        suffix=tuple(ids[prefix_length:]),
        labels=(NO_LABEL,) * suffix_length,
    )


PROMPTS = [make_prompt(*shape, seed=i) for i, shape in enumerate(SHAPES)]


@functools.cache
def continuations(name: str) -> list[list[int]]:
    """What the reference says after each prompt when nothing ends it."""
    model = tiny_model(name)
    return [
        reference_generate(model, p.prefix, p.num_thoughts, p.suffix, MAX_NEW_TOKENS, None)
        for p in PROMPTS
    ]


def until(tokens: list[int], eos_id: int) -> tuple[int, ...]:
    return tuple(tokens[: tokens.index(eos_id)] if eos_id in tokens else tokens)


@functools.cache
def likely_eos(name: str) -> int:
    """The token that ends the rows at the most different times."""

    def num_lengths(token: int) -> int:
        return len({len(until(tokens, token)) for tokens in continuations(name)})

    return max(range(VOCAB_SIZE), key=num_lengths)


@pytest.fixture(params=ARCHITECTURES)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return tiny_model(name)


def test_the_reference_can_tell_mistakes_apart(name):
    """Rows end at different times, and what they say is not one token over and over."""
    lengths = {len(until(tokens, likely_eos(name))) for tokens in continuations(name)}
    assert len(lengths) >= 3
    assert len({token for tokens in continuations(name) for token in tokens}) >= 8


def test_the_reference_ends_where_its_own_eos_stands(name):
    eos_id = likely_eos(name)
    model = tiny_model(name)
    for prompt, tokens in list(zip(PROMPTS, continuations(name), strict=True))[:4]:
        found = reference_generate(
            model, prompt.prefix, prompt.num_thoughts, prompt.suffix, MAX_NEW_TOKENS, eos_id
        )
        assert tuple(found) == until(tokens, eos_id)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_greedy_says_what_the_reference_says(model, name, batch_size):
    eos_id = likely_eos(name)
    texts = generate(
        model, PROMPTS, eos_id=eos_id, max_new_tokens=MAX_NEW_TOKENS, batch_size=batch_size
    )
    expected = [until(tokens, eos_id) for tokens in continuations(name)]
    assert [text.token_ids for text in texts] == expected
    assert [text.num_tokens for text in texts] == [len(tokens) for tokens in expected]
    assert [text.is_finished for text in texts] == [eos_id in t for t in continuations(name)]


def test_greedy_without_end(model, name):
    texts = generate(model, PROMPTS, eos_id=NO_EOS, max_new_tokens=MAX_NEW_TOKENS)
    assert [list(text.token_ids) for text in texts] == continuations(name)
    assert not any(text.is_finished for text in texts)


def test_the_end_may_come_first(model, name):
    """Row 0 says nothing but the end of text."""
    eos_id = continuations(name)[0][0]
    texts = generate(model, PROMPTS, eos_id=eos_id, max_new_tokens=MAX_NEW_TOKENS)
    assert [text.token_ids for text in texts] == [until(t, eos_id) for t in continuations(name)]
    assert texts[0].token_ids == ()
    assert texts[0].is_finished


def test_all_rows_may_end_at_once(model, name):
    eos_id = continuations(name)[0][0]
    texts = generate(model, PROMPTS[:1] * 3, eos_id=eos_id, max_new_tokens=MAX_NEW_TOKENS)
    assert [text.token_ids for text in texts] == [()] * 3


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_limit_is_kept(model, name, limit):
    eos_id = likely_eos(name)
    texts = generate(model, PROMPTS, eos_id=eos_id, max_new_tokens=limit)
    for text, tokens in zip(texts, continuations(name), strict=True):
        assert text.token_ids == until(tokens[:limit], eos_id)
        assert text.is_finished == (eos_id in tokens[:limit])


def test_thoughts_are_those_of_the_reference(model):
    texts = generate(model, PROMPTS, eos_id=NO_EOS, max_new_tokens=1)
    for text, prompt in zip(texts, PROMPTS, strict=True):
        _, thoughts = reference_states(model, prompt.prefix, prompt.num_thoughts, prompt.suffix)
        assert text.thoughts.shape == (prompt.num_thoughts, HIDDEN_SIZE)
        assert text.num_thoughts == prompt.num_thoughts
        assert not text.thoughts.requires_grad
        torch.testing.assert_close(text.thoughts, thoughts.detach(), rtol=1e-9, atol=1e-9)


def test_no_graph_is_built(model, name):
    """Decoding keeps no activations: otherwise memory grows with every word."""
    has_graph = []
    hook = model.base_model.register_forward_hook(
        lambda _, args, output: has_graph.append(output.last_hidden_state.requires_grad)
    )
    generate(model, PROMPTS, eos_id=likely_eos(name), max_new_tokens=3)
    hook.remove()
    assert not any(has_graph)


def test_thoughts_can_be_learned_from(model):
    """A probe trains on them: they are ordinary tensors."""
    texts = generate(model, PROMPTS[:1], eos_id=NO_EOS, max_new_tokens=1)
    probe = torch.nn.Linear(HIDDEN_SIZE, 2, dtype=torch.float64)
    probe(texts[0].thoughts).sum().backward()
    assert probe.weight.grad.any()


def test_passes_are_counted_for_each_row(model, name):
    """One for the question, one a thought, one for each word after the first; eos is a word."""
    eos_id = likely_eos(name)
    texts = generate(model, PROMPTS, eos_id=eos_id, max_new_tokens=MAX_NEW_TOKENS)
    for text, prompt, tokens in zip(texts, PROMPTS, continuations(name), strict=True):
        num_words = min(len(until(tokens, eos_id)) + 1, MAX_NEW_TOKENS)
        assert text.num_passes == 1 + prompt.num_thoughts + num_words - 1


@pytest.mark.parametrize("chosen", [[0], [1], [4], [2, 3, 6]])
def test_passes_are_calls_of_the_backbone(model, name, chosen):
    calls = []
    hook = model.base_model.register_forward_hook(lambda *_: calls.append(1))
    prompts = [PROMPTS[i] for i in chosen]
    texts = generate(model, prompts, eos_id=likely_eos(name), max_new_tokens=MAX_NEW_TOKENS)
    hook.remove()
    most_thoughts = max(prompt.num_thoughts for prompt in prompts)
    most_words = max(text.num_tokens + text.is_finished for text in texts)
    assert len(calls) == most_thoughts + most_words
    if len(chosen) == 1:
        assert texts[0].num_passes == len(calls)


def test_rows_that_have_ended_leave_the_batch(model, name):
    """The rest does not pay for them."""
    sizes = []
    hook = model.base_model.register_forward_hook(
        lambda _, args, output: sizes.append(len(output.last_hidden_state))
    )
    eos_id = likely_eos(name)
    generate(model, PROMPTS, eos_id=eos_id, max_new_tokens=MAX_NEW_TOKENS)
    hook.remove()
    most = max(prompt.num_thoughts for prompt in PROMPTS)
    lengths = [len(until(tokens, eos_id)) for tokens in continuations(name)]
    for word, size in enumerate(sizes[most + 1 :], start=1):
        assert size == sum(length >= word for length in lengths)


def test_nothing_to_say(model):
    assert generate(model, [], eos_id=0, max_new_tokens=3) == []


class TestSampling:
    """What is drawn belongs to the prompt's number and the seed, and to nothing else."""

    def draw(self, model, **options):
        arguments = {"eos_id": NO_EOS, "max_new_tokens": 6, "sampling": Sampling(), **options}
        return [text.token_ids for text in generate(model, PROMPTS, **arguments)]

    def test_is_the_same_again_and_in_other_batches(self, model):
        texts = self.draw(model)
        assert self.draw(model) == texts
        assert self.draw(model, batch_size=1) == texts
        assert self.draw(model, batch_size=3) == texts

    def test_does_not_depend_on_neighbours_that_end(self, model, name):
        eos_id = likely_eos(name)
        expected = [until(list(tokens), eos_id) for tokens in self.draw(model)]
        assert self.draw(model, eos_id=eos_id) == expected

    def test_changes_with_the_seed(self, model):
        assert self.draw(model) != self.draw(model, sampling=Sampling(seed=1))

    @pytest.mark.parametrize(
        "sampling", [Sampling(top_k=1), Sampling(top_p=1e-6), Sampling(temperature=1e-6)]
    )
    def test_becomes_greedy_in_the_limit(self, model, name, sampling):
        greedy = [tuple(tokens[:6]) for tokens in continuations(name)]
        assert self.draw(model, sampling=sampling) == greedy

    @pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_k": -1}])
    def test_refuses_values_outside_their_ranges(self, options):
        with pytest.raises(ValueError, match="sampling needs"):
            Sampling(**options)
