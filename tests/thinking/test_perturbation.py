"""Samples of thoughts: held to a slow roll-out, and to what must not matter."""

from dataclasses import replace

import pytest
import torch

from latentcot.curriculum.views import Parallel
from latentcot.errors import UsageError
from latentcot.thinking.decoding import Sampling, generate, roll_out
from latentcot.thinking.perturbation import Perturbation, generator_of
from latentcot.thinking.think import Thinker
from losses import TOKENS
from marks import mostly_slow
from reference import reference_generate, reference_states, tiny_model
from rollouts import MAX_NEW_TOKENS, NO_EOS, PROMPTS

NOISE, DROPOUT = Perturbation(noise=0.8, seed=3), Perturbation(dropout=0.3, seed=3)
BOTH = pytest.mark.parametrize("changed", [NOISE, DROPOUT], ids=["noise", "dropout"])
"""Ragged: prompts of several lengths, with 0 to 4 latent positions."""


@pytest.fixture(scope="module")
def model():
    return tiny_model("gpt2")


def write(model, prompts=PROMPTS, **options):
    options = {"eos_id": NO_EOS, "max_new_tokens": MAX_NEW_TOKENS} | options
    return generate(model, prompts, **options)


def words(texts):
    return [text.token_ids for text in texts]


def by_hand(perturbation, row):
    """The definition, for one row: what goes into position `number` in place of a thought."""
    source = generator_of("latents", perturbation.seed, row)
    drawn = []

    def fill(model, number, thought):
        is_mask = perturbation.dropout is not None
        while len(drawn) <= (0 if is_mask else number):
            draw = torch.rand if is_mask else torch.randn
            drawn.append(draw(thought.shape[-1], generator=source).double())
        if is_mask:
            return thought * (drawn[0] >= perturbation.dropout) / (1 - perturbation.dropout)
        away = thought - thought.mean()
        return thought + perturbation.noise * away.square().mean().sqrt() * drawn[number]

    return fill


@BOTH
@pytest.mark.parametrize("batch_size", mostly_slow([1, 8], 8))
def test_samples_are_what_the_slow_reference_says(model, changed, batch_size):
    """Row by row, each with a stream of its own; and they do differ."""
    texts = write(model, num_samples=3, perturbation=changed, batch_size=batch_size)
    for number, text in enumerate(texts):
        (i, j), prompt = divmod(number, 3), PROMPTS[number // 3]
        fill = by_hand(changed, f"{i}/{j}" if j else f"{i}")
        given = prompt.prefix, prompt.num_latents, prompt.suffix
        _, inputs = reference_states(model, *given, fill=fill)
        torch.testing.assert_close(text.latent_inputs, inputs, rtol=1e-9, atol=1e-9)
        expected = reference_generate(model, *given, MAX_NEW_TOKENS, None, fill=fill)
        assert list(text.token_ids) == expected
    apart = [len(set(words(texts[i : i + 3]))) for i in range(0, len(texts), 3)]
    assert [one == 1 for one in apart].count(True) <= 2 + sum(p.num_latents == 0 for p in PROMPTS)


@BOTH
def test_a_sample_depends_on_seed_and_number_alone(model, changed):
    """Not on how many there are, nor on the other prompts."""
    sampling = Sampling(temperature=1.5, seed=7)
    options = {"perturbation": changed, "sampling": sampling}
    four = words(write(model, num_samples=4, **options))
    assert words(write(model, num_samples=4, batch_size=3, **options)) == four
    two = words(write(model, num_samples=2, **options))
    assert two == [one for i in range(0, len(four), 4) for one in four[i : i + 2]]
    assert words(write(model, PROMPTS[:1], num_samples=4, **options)) == four[:4]
    other = options | {"perturbation": replace(changed, seed=4)}
    assert words(write(model, num_samples=4, **other)) != four


@pytest.mark.parametrize("changed", [Perturbation(noise=0), Perturbation(dropout=0)])
@pytest.mark.parametrize("sampling", [None, Sampling(temperature=1.5, seed=7)])
def test_nothing_added_changes_nothing(model, changed, sampling):
    """Token for token, greedy and with the draws of words as they are without it."""
    options = {"num_samples": 2, "perturbation": changed, "sampling": sampling}
    plain = write(model, num_samples=1 if sampling is None else 2, sampling=sampling)
    expected = [t for t in plain for _ in range(2)] if sampling is None else plain
    assert words(write(model, **options)) == words(expected)


@BOTH
@pytest.mark.parametrize("iterations", [1, 6])
def test_positions_filled_at_once_keep_their_numbers(model, changed, iterations):
    """T ≥ N iterations give what positions filled one after the other give; rows are ragged."""
    parallel = Thinker(Parallel(iterations, lambda latent: latent.state), TOKENS)
    rows = [f"{i}" for i in range(len(PROMPTS))]
    with torch.no_grad():
        found = roll_out(model, PROMPTS, changed.on(parallel, rows))
        one_by_one = roll_out(model, PROMPTS, changed.on(Thinker(), rows))
    inputs, expected = found.latent_inputs, one_by_one.latent_inputs
    is_same = torch.isclose(inputs, expected, rtol=1e-9, atol=1e-9).all(-1).all(0)
    assert is_same.tolist() == [i < iterations for i in range(6)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, r"num_samples: must be 1 … 10,000, got 0\."),
        ({"num_samples": 10**30}, "num_samples: must be 1 … 10,000"),
        ({"num_samples": 2}, "2 samples would all be the same"),
        ({"perturbation": NOISE, "prompts": [PROMPTS[1]]}, "no question has a latent position"),
    ],
)
def test_what_makes_no_samples_is_refused(model, options, message):
    with pytest.raises(UsageError, match=message):
        write(model, **options)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "give one of the two, got neither"),
        ({"noise": 1.0, "dropout": 0.1}, r"give one of the two, got 1\.0 and 0\.1"),
        ({"noise": -0.1}, r"noise: must be 0 … 10000, got -0\.1"),
        ({"noise": float("nan")}, "noise: must be 0 … 10000, got nan"),
        ({"dropout": 1.0}, r"dropout: must be 0 or more and below 1, got 1\.0"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        Perturbation(**values)
