"""Rows and prompts of random tokens, roll-outs of them, and what the reference says to them."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from latentcot.curriculum.layout import Layout
from latentcot.recipes.recipe import Training
from latentcot.thinking.batch import collate
from latentcot.thinking.think import Rollout, think
from losses import LanguageLoss, thinker
from reference import (
    HIDDEN_SIZE,
    NO_LABEL,
    VOCAB_SIZE,
    reference_generate,
    reference_loss,
    reference_states,
    tiny_model,
)

EXACT = {"rtol": 1e-9, "atol": 1e-9}  # float64
CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # float32 against float32; measured: 2e-5
GRADIENT_TOLERANCE = 1e-5  # float64, relative norm of each tensor
GRADIENT_TOLERANCE_32 = 1e-3  # measured: 1e-4


@dataclasses.dataclass(frozen=True)
class Row:
    """One example, as the reference takes it."""

    prefix: tuple[int, ...]
    num_thoughts: int
    suffix: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def as_tuple(self):
        return self.prefix, self.num_thoughts, self.suffix, self.labels

    @property
    def as_layout(self):
        return Layout(
            prefix=self.prefix,
            num_latents=self.num_thoughts,
            suffix=self.suffix,
            labels=self.labels,
        )


def make_row(prefix_length: int, num_thoughts: int, suffix_length: int, seed: int) -> Row:
    """Random tokens; the first suffix token (`<eot>`) and one in the middle carry no loss."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCAB_SIZE, (prefix_length + suffix_length,), generator=generator).tolist()
    prefix, suffix = tuple(ids[:prefix_length]), tuple(ids[prefix_length:])
    labels = list(suffix)
    if suffix_length > 1 and seed % 3:  # every third row has a label on its first suffix token
        labels[0] = NO_LABEL
    if suffix_length > 3:
        labels[2] = NO_LABEL
    return Row(prefix, num_thoughts, suffix, tuple(labels))


def make_rows(shapes: Sequence[tuple[int, int, int]], seed: int = 0) -> list[Row]:
    return [make_row(*shape, seed=100 * seed + i) for i, shape in enumerate(shapes)]


RAGGED = [(5, 3, 4), (1, 0, 2), (9, 6, 1), (3, 1, 7), (7, 0, 5), (2, 2, 3), (4, 6, 6), (6, 5, 2)]
CASES = {f"n={n}": [(4, n, 5), (1, n, 2), (8, n, 3)] for n in range(7)}
CASES["ragged"] = RAGGED
CASES["ragged without zero"] = [(8, 1, 3), (3, 6, 5), (5, 2, 1)]


def run_think(
    model: nn.Module, rows: Sequence[Row], pad_id: int = 0, extra: int = 0, feed=None, **options
) -> Rollout:
    batch = collate([row.as_layout for row in rows], pad_id)
    wider = {
        name: nn.functional.pad(getattr(batch, name), (0, extra), value=pad_id)
        for name in ("prefix", "suffix")
    }
    return think(model, replace(batch, **wider), thinker(feed), **options)


def read_states(model: nn.Module, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """The states of real positions, row after row, and what stood in the latent ones."""
    rollout = run_think(model, rows)
    states = [rollout.states[b, : len(row.suffix) + 1] for b, row in enumerate(rows)]
    return torch.cat(states), rollout.latent_inputs


def product_loss(model: nn.Module, rows: Sequence[Row], pad_id: int = 0, feed=None) -> Tensor:
    parts = LanguageLoss(model, feed)(collate([row.as_layout for row in rows], pad_id=pad_id))
    assert int(parts.num_labels) == sum(x != NO_LABEL for row in rows for x in row.labels)
    return parts.nll_sum / parts.num_labels


def take_gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(named.items(), found, strict=True)
    }


def relative_errors(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    assert actual.keys() == expected.keys()
    return {
        name: float((actual[name] - gradient).norm() / gradient.norm().clamp_min(1e-9))
        for name, gradient in expected.items()
    }


def check_states(
    model: nn.Module, rows: Sequence[Row], rollout: Rollout, tolerance: dict, fill=None
) -> None:
    most = max(row.num_thoughts for row in rows)
    assert rollout.latent_inputs.shape == (len(rows), most, HIDDEN_SIZE)
    assert rollout.states.shape[0] == len(rows)
    for b, row in enumerate(rows):
        states, thoughts = reference_states(
            model, row.prefix, row.num_thoughts, row.suffix, fill=fill
        )
        actual = rollout.states[b, : len(row.suffix) + 1]
        torch.testing.assert_close(actual, states, **tolerance, msg=lambda m, b=b: f"row {b}: {m}")
        torch.testing.assert_close(
            rollout.latent_inputs[b, : row.num_thoughts],
            thoughts,
            **tolerance,
            msg=lambda m, b=b: f"thoughts of row {b}: {m}",
        )
        assert not rollout.latent_inputs[b, row.num_thoughts :].any(), f"row {b}: no zeros behind"


def check_loss(
    model: nn.Module, rows: Sequence[Row], tolerance: float, fill=None, feed=None
) -> dict[str, Tensor]:
    """Loss and every gradient against the reference; returns the product's gradients."""
    expected = reference_loss(model, [row.as_tuple for row in rows], fill=fill)
    actual = product_loss(model, rows, feed=feed)
    assert actual.item() == pytest.approx(expected.item(), rel=tolerance)
    gradients = take_gradients(model, actual)
    errors = relative_errors(gradients, take_gradients(model, expected))
    assert max(errors.values()) < tolerance, errors
    return gradients


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
        num_latents=num_thoughts,
        suffix=tuple(ids[prefix_length:]),
        labels=(NO_LABEL,) * suffix_length,
    )


PROMPTS = [make_prompt(*shape, seed=i) for i, shape in enumerate(SHAPES)]


@functools.cache
def continuations(name: str) -> list[list[int]]:
    """What the reference says after each prompt when nothing ends it."""
    model = tiny_model(name)
    return [
        reference_generate(model, p.prefix, p.num_latents, p.suffix, MAX_NEW_TOKENS, None)
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


def layouts_of(shapes, seed=0) -> list[Layout]:
    rows = [row.as_layout for row in make_rows(shapes, seed)]
    return [
        replace(row, stop_after=number % 4, num_next=number % 3) for number, row in enumerate(rows)
    ]


UPDATES = (
    layouts_of(RAGGED),
    layouts_of([(4, 0, 5), (6, 0, 3)], seed=1),
    layouts_of([(5, 2, 6), (9, 2, 3)], seed=2),
    layouts_of([(5, 1, 6), (9, 2, 4)], seed=3),  # padded, the shapes of the one before
    layouts_of(RAGGED[::-1], seed=4),
    layouts_of([(40, 3, 9), (2, 1, 1)], seed=5),
    layouts_of(RAGGED, seed=6),
)


def training(**changes) -> Training:
    return Training(**{"max_updates": 9, "batch_size": 8, "learning_rate": 1e-2, **changes})
