"""`generate()`, held token for token to the slow reference (`reference.py`)."""

import math
from collections.abc import Sequence

import pytest
import torch

from latentcot.errors import UsageError
from latentcot.methods.stopping import StopHead, StopRule
from latentcot.thinking.decoding import ForcedSteps, Sampling, SoftWords, generate
from losses import thinker
from reference import (
    HIDDEN_SIZE,
    embed,
    half,
    last_hidden,
    pause,
    reference_count,
    reference_generate,
    reference_states,
    tiny_model,
)
from rollouts import (
    MAX_NEW_TOKENS,
    NO_EOS,
    PROMPTS,
    SHAPES,
    continuations,
    likely_eos,
    make_prompt,
    until,
)

SLOW_SIZES = [pytest.param(size, marks=pytest.mark.slow) for size in (1, 64)]


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
            model, prompt.prefix, prompt.num_latents, prompt.suffix, MAX_NEW_TOKENS, eos_id
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
    # A pass for the question, one a thought, one for each word after the first; eos is a word.
    assert [text.num_passes for text in texts] == [
        1 + prompt.num_latents + min(len(tokens) + 1, MAX_NEW_TOKENS) - 1
        for prompt, tokens in zip(PROMPTS, expected, strict=True)
    ]


def test_greedy_without_end(model, name):
    texts = generate(model, PROMPTS, eos_id=NO_EOS, max_new_tokens=MAX_NEW_TOKENS)
    assert [list(text.token_ids) for text in texts] == continuations(name)
    assert not any(text.is_finished for text in texts)


def test_the_end_may_come_first(model, name):
    """Row 0 says nothing but the end of text; and so may all rows, at once."""
    options = {"eos_id": continuations(name)[0][0], "max_new_tokens": MAX_NEW_TOKENS}
    texts = generate(model, PROMPTS, **options)
    expected = [until(tokens, options["eos_id"]) for tokens in continuations(name)]
    assert [text.token_ids for text in texts] == expected
    assert (texts[0].token_ids, texts[0].is_finished) == ((), True)
    texts = generate(model, PROMPTS[:1] * 3, **options)
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
        _, thoughts = reference_states(model, prompt.prefix, prompt.num_latents, prompt.suffix)
        assert text.latent_inputs.shape == (prompt.num_latents, HIDDEN_SIZE)
        assert text.num_latents == prompt.num_latents
        assert not text.latent_inputs.requires_grad
        torch.testing.assert_close(text.latent_inputs, thoughts.detach(), rtol=1e-9, atol=1e-9)
        # Nothing else is held, or sent to other processes: not the batch that it was part of.
        assert text.latent_inputs.untyped_storage().nbytes() == text.latent_inputs.nbytes
    probe = torch.nn.Linear(HIDDEN_SIZE, 2, dtype=torch.float64)
    probe(texts[0].latent_inputs).sum().backward()  # a probe can learn from them
    assert probe.weight.grad.any()


def test_no_graph_is_built(model, name):
    """Decoding keeps no activations: otherwise memory grows with every word."""
    has_graph = []
    hook = model.base_model.register_forward_hook(
        lambda _, args, output: has_graph.append(output.last_hidden_state.requires_grad)
    )
    generate(model, PROMPTS, eos_id=likely_eos(name), max_new_tokens=3)
    hook.remove()
    assert not any(has_graph)


@pytest.mark.parametrize("chosen", [[0], [1], [4], [2, 3, 6]])
def test_passes_are_calls_of_the_backbone(model, name, chosen):
    calls = []
    hook = model.base_model.register_forward_hook(lambda *_: calls.append(1))
    prompts = [PROMPTS[i] for i in chosen]
    texts = generate(model, prompts, eos_id=likely_eos(name), max_new_tokens=MAX_NEW_TOKENS)
    hook.remove()
    most_thoughts = max(prompt.num_latents for prompt in prompts)
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
    most = max(prompt.num_latents for prompt in PROMPTS)
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
        "sampling", [Sampling(top_k=1), Sampling(top_p=1e-6), Sampling(temperature=1e-4)]
    )
    def test_becomes_greedy_in_the_limit(self, model, name, sampling):
        greedy = [tuple(tokens[:6]) for tokens in continuations(name)]
        assert self.draw(model, sampling=sampling) == greedy

    @pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_k": -1}])
    def test_refuses_values_outside_their_ranges(self, options):
        with pytest.raises(ValueError, match="sampling needs"):
            Sampling(**options)


PAUSE_ID = 17
FEEDS = {  # the product's, the reference's
    "pause": (lambda latent: latent.embed(PAUSE_ID), pause(PAUSE_ID)),
    "half": (lambda latent: latent.state / (latent.number + 2), half),
}


@pytest.mark.parametrize("batch_size", [3, *SLOW_SIZES])
@pytest.mark.parametrize("kind", FEEDS)
def test_something_else_may_stand_in_the_latents(model, name, kind, batch_size):
    feed, fill = FEEDS[kind]
    options = {"max_new_tokens": 5, "batch_size": batch_size}
    texts = generate(model, PROMPTS, eos_id=NO_EOS, thinker=thinker(feed), **options)
    for text, p in zip(texts, PROMPTS, strict=True):
        expected = reference_generate(model, p.prefix, p.num_latents, p.suffix, 5, None, fill=fill)
        assert list(text.token_ids) == expected
        _, latent_inputs = reference_states(model, p.prefix, p.num_latents, (), fill=fill)
        torch.testing.assert_close(text.latent_inputs, latent_inputs.detach(), rtol=1e-9, atol=1e-9)
        assert text.num_passes == 1 + p.num_latents + 4
    thoughts = generate(model, PROMPTS, eos_id=NO_EOS, **options)
    assert [t.token_ids for t in texts] != [t.token_ids for t in thoughts]


class TestStop:
    """A classifier ends latent mode for each row by itself."""

    LIMITED = tuple(
        make_prompt(length, 6, words, seed=i)
        for i, (length, _, words) in enumerate(SHAPES)
        if words > 0
    )

    @pytest.fixture
    def rule(self):
        head = StopHead(HIDDEN_SIZE).double()
        with torch.no_grad():
            head.linear.weight.copy_(
                0.3 * torch.randn(HIDDEN_SIZE, generator=torch.Generator().manual_seed(0))
            )
            head.linear.bias.fill_(-1.0)
        return StopRule(head, threshold=0.6, max_thoughts=6)

    @pytest.fixture
    def counts(self, model, rule):
        """How many latent positions the reference takes: each row alone."""
        linear = rule.head.linear

        def ends(state):
            logit = float(state @ linear.weight[0] + linear.bias[0])
            return 1 / (1 + math.exp(-logit)) >= 0.6

        with torch.no_grad():
            return [reference_count(model, p.prefix, 6, ends) for p in self.LIMITED]

    def test_rows_stop_at_different_times(self, counts):
        assert len(set(counts)) >= 3

    @pytest.mark.parametrize("batch_size", [2, *SLOW_SIZES])
    def test_words_and_thoughts_are_those_of_the_reference(
        self, model, name, rule, counts, batch_size
    ):
        eos_id = likely_eos(name)
        options = {"eos_id": eos_id, "max_new_tokens": 5, "batch_size": batch_size}
        texts = generate(model, self.LIMITED, stop=rule, **options)
        for text, p, count in zip(texts, self.LIMITED, counts, strict=True):
            expected = reference_generate(model, p.prefix, count, p.suffix, 5, eos_id)
            assert list(text.token_ids) == expected
            assert text.num_latents == count
            _, latent_inputs = reference_states(model, p.prefix, count, ())
            torch.testing.assert_close(
                text.latent_inputs, latent_inputs.detach(), rtol=1e-9, atol=1e-9
            )
            # The question, the latent positions, <eot> and its like, each word but the first.
            assert text.num_passes == 1 + count + 1 + text.num_tokens + text.is_finished - 1

    def test_passes_are_calls_of_the_backbone(self, model, name, rule):
        for prompt in self.LIMITED[:3]:
            calls = []
            hook = model.base_model.register_forward_hook(lambda *_, calls=calls: calls.append(1))
            [text] = generate(model, [prompt], eos_id=likely_eos(name), max_new_tokens=4, stop=rule)
            hook.remove()
            assert text.num_passes == len(calls)

    def test_thoughts_that_were_not_taken_leave_room_for_words(self, model, rule, counts):
        longest = max(map(len, self.LIMITED))
        options = {"eos_id": NO_EOS, "max_new_tokens": 20, "max_length": longest + 1}
        texts = generate(model, self.LIMITED, stop=rule, **options)
        for text, prompt, count in zip(texts, self.LIMITED, counts, strict=True):
            room = longest + 1 - (len(prompt) - prompt.num_latents + count)
            assert text.num_tokens == min(20, room)

    def test_the_threshold_is_reached_and_not_passed(self):
        """At exactly the threshold a row stops."""
        rule = StopRule(StopHead(4), threshold=0.5, max_thoughts=3)  # a fresh head says 0.5
        assert rule(torch.randn(3, 4)).tolist() == [True] * 3
        rule = StopRule(StopHead(4), threshold=0.51, max_thoughts=3)
        assert rule(torch.randn(3, 4)).tolist() == [False] * 3


class Forced(ForcedSteps):
    """Steps that end with a token, or after one word."""

    def __init__(self, forbidden: tuple[int, ...], step_end: int | None) -> None:
        def has_step(words: Sequence[int]) -> bool:
            return bool(words) and (step_end is None or step_end in words)

        super().__init__(forbidden, has_step)
        object.__setattr__(self, "step_end", step_end)


class TestForcedSteps:
    """A text must begin with a step: no answer, no end before one is written."""

    @staticmethod
    def forced(name: str, with_end: bool) -> Forced:
        """Forbid the words that rows begin with; a step ends with a word they say soon."""
        firsts = tuple({tokens[0] for tokens in continuations(name)})
        later = [t for tokens in continuations(name) for t in tokens[1:4] if t not in firsts]
        return Forced(firsts, max(set(later), key=later.count) if with_end else None)

    def expected(self, model, forced, eos_id):
        """What the reference says when it asks, before each word, whether a step is written."""

        def is_forbidden(words, token):
            is_free = words if forced.step_end is None else forced.step_end in words
            return not is_free and token in forced.forbidden

        return [
            reference_generate(
                model, p.prefix, p.num_latents, p.suffix, 10, eos_id, is_forbidden=is_forbidden
            )
            for p in PROMPTS
        ]

    @pytest.mark.parametrize("batch_size", [3, *SLOW_SIZES])
    @pytest.mark.parametrize("with_end", [False, True])
    def test_greedy_equals_the_reference(self, model, name, with_end, batch_size):
        forced = self.forced(name, with_end)
        options = {"eos_id": NO_EOS, "max_new_tokens": 10, "batch_size": batch_size}
        texts = generate(model, PROMPTS, forced=forced, **options)
        assert [list(t.token_ids) for t in texts] == self.expected(model, forced, None)

    @pytest.mark.parametrize("with_end", [False, True])
    def test_the_end_of_text_too_waits_for_a_step(self, model, name, with_end):
        forced = self.forced(name, with_end)
        eos_id = forced.forbidden[0]
        texts = generate(model, PROMPTS, eos_id=eos_id, max_new_tokens=10, forced=forced)
        assert [list(t.token_ids) for t in texts] == self.expected(model, forced, eos_id)
        unforced = generate(model, PROMPTS, eos_id=eos_id, max_new_tokens=10)
        assert any(text.token_ids == () for text in unforced)
        assert all(text.num_tokens > 0 for text in texts)

    @pytest.mark.parametrize("with_end", [False, True])
    def test_afterwards_every_word_is_free(self, name, model, with_end):
        """Some row says a forbidden word later on; none before its first step is over."""
        forced = self.forced(name, with_end)
        texts = generate(model, PROMPTS, eos_id=NO_EOS, max_new_tokens=10, forced=forced)
        later = set()
        for text in texts:
            words = list(text.token_ids)
            ends = words.index(forced.step_end) if forced.step_end in words else len(words)
            first = ends if with_end else 0
            assert not set(words[: first + 1]) & set(forced.forbidden)
            later |= set(words[first + 1 :])
        assert later & set(forced.forbidden)

    @pytest.mark.parametrize("with_end", [True, pytest.param(False, marks=pytest.mark.slow)])
    def test_sampled(self, model, name, with_end):
        """Drawn from what is allowed, the same in every batch; greedy in the limit."""
        forced = self.forced(name, with_end)

        def draw(sampling, batch_size=64):
            options = {"eos_id": NO_EOS, "max_new_tokens": 6, "batch_size": batch_size}
            texts = generate(model, PROMPTS, sampling=sampling, forced=forced, **options)
            return [text.token_ids for text in texts]

        drawn = draw(Sampling(temperature=2.0))
        assert draw(Sampling(temperature=2.0), batch_size=1) == drawn
        for words in drawn:
            ends = words.index(forced.step_end) if forced.step_end in words else len(words)
            assert not set(words[: (ends if with_end else 0) + 1]) & set(forced.forbidden)
        greedy = [tuple(words[:6]) for words in self.expected(model, forced, None)]
        assert draw(Sampling(top_k=1)) == greedy


class TestSoftWords:
    """Mixtures of the embeddings, by the head's probabilities, in place of a chain's words."""

    def test_cold_mixtures_are_greedy_words(self, model, name):
        soft = SoftWords(1e-4, ends=(likely_eos(name),))
        texts = generate(
            model, PROMPTS, eos_id=NO_EOS, max_new_tokens=MAX_NEW_TOKENS, soft=soft, batch_size=3
        )
        assert [list(text.token_ids) for text in texts] == continuations(name)

    def test_they_are_those_of_the_reference(self, model, name):
        """One row at a time, everything read again for each word; some row leaves its chain."""
        soft, prompts = SoftWords(1.5, ends=(likely_eos(name), 3)), PROMPTS[:6]
        texts = generate(model, prompts, eos_id=NO_EOS, max_new_tokens=8, soft=soft)
        table = model.get_input_embeddings().weight
        expected = []
        for prompt in prompts:
            inputs = embed(model, prompt.prefix)
            for _ in range(prompt.num_latents):
                inputs = torch.cat([inputs, last_hidden(model, inputs)[-1:]])
            inputs = torch.cat([inputs, embed(model, prompt.suffix)])
            words: list[int] = []
            while len(words) < 8:
                logits = model.get_output_embeddings()(last_hidden(model, inputs)[-1])
                words.append(int(logits.argmax()))
                new = embed(model, words[-1:])
                if not set(words) & set(soft.ends):
                    new = ((logits / 1.5).softmax(-1) @ table)[None]
                inputs = torch.cat([inputs, new])
            expected.append(tuple(words))
        assert [text.token_ids for text in texts] == expected
        assert any(set(words) & set(soft.ends) for words in expected)
        hard = generate(model, prompts, eos_id=NO_EOS, max_new_tokens=8)
        assert [text.token_ids for text in hard] != expected

    def test_mixtures_are_not_drawn(self, model):
        with pytest.raises(UsageError, match="Leave out either the mixtures or the temperature"):
            generate(
                model, PROMPTS[:1], eos_id=NO_EOS, max_new_tokens=1,
                soft=SoftWords(1.0, ()), sampling=Sampling(),
            )  # fmt: skip

    @pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
    def test_a_temperature_must_be_one(self, temperature):
        with pytest.raises(UsageError, match="soft_words: needs a temperature of 0.0001 to"):
            SoftWords(temperature, ends=())
