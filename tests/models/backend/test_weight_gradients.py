"""One gradient for all passes is the sum of each pass's own."""

import gc

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from latentcot.models.backend import weight_gradients
from latentcot.models.backend.weight_gradients import joint_weight_gradients


@pytest.fixture(autouse=True)
def joins_all(monkeypatch):
    monkeypatch.setattr(weight_gradients, "LARGE", 0)


def layers(seed: int = 0) -> nn.ModuleList:
    torch.manual_seed(seed)
    return nn.ModuleList(
        [nn.Linear(4, 6), Conv1D(5, 6), nn.Linear(5, 4, bias=False), nn.Linear(4, 4)]
    ).double()


def three_passes(found: nn.ModuleList, used: tuple[int, ...] = (0, 1, 2)) -> torch.Tensor:
    """Each pass reads what the one before it gave; the loss looks at those that are used."""
    torch.manual_seed(1)
    first, second, third, last = found
    state, losses = torch.randn(2, 7, 4).double(), []
    for number in range(3):
        read = state if number == 0 else torch.tanh(state[:, :number])
        with torch.no_grad():
            last(third(second(first(read))))  # a target that is looked at takes no part
        state = third(torch.tanh(second(first(read))))
        losses.append(last(state).square().sum() * (number + 1))
    return sum(losses[number] for number in used)


def gradients(found: nn.ModuleList, used: tuple[int, ...] = (0, 1, 2)) -> list[torch.Tensor | None]:
    three_passes(found, used).backward()
    return [weight.grad for weight in found.parameters()]


@pytest.mark.parametrize("used", [(0, 1, 2), (0,), (2,), (1,), (0, 2)])
def test_gradients_are_those_of_autograd(used):
    expected = gradients(layers(), used)
    found = layers()
    with joint_weight_gradients(found):
        loss = three_passes(found, used)
    loss.backward()
    for weight, gradient in zip(found.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-12, atol=1e-12)


def test_is_one_gradient_a_weight_and_leaves_no_trace():
    found, calls = layers(), []
    for weight in found.parameters():
        weight.register_hook(lambda gradient: calls.append(gradient.shape))
    with joint_weight_gradients(found):
        assert all("forward" in layer.__dict__ for layer in found)
        loss = three_passes(found)
    assert not any("forward" in layer.__dict__ for layer in found)
    loss.backward()
    assert len(calls) == len(list(found.parameters()))


def test_an_update_leaves_none_of_its_weights_behind():
    """A copy of each in the lower precision: of 135 million, 0.2 GB an update."""
    found, before = layers().float(), num_low()
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16), joint_weight_gradients(found):
            loss = float_passes(found)
        loss.backward()
        del loss
    assert num_low() == before


def num_low() -> int:
    """Return how many tensors of the lower precision there are."""
    gc.collect()
    # isinstance would ask each object for its class, and some lazy ones then import one.
    found = [each for each in gc.get_objects() if type(each) is torch.Tensor]
    return sum(each.dtype == torch.bfloat16 for each in found)


def test_frozen_and_derived_layers_are_left_alone():
    class Other(nn.Linear):
        pass

    frozen, other = nn.Linear(2, 2).requires_grad_(False), Other(2, 2)
    blocks = nn.ModuleList([frozen, other])
    with joint_weight_gradients(blocks):
        assert not any("forward" in layer.__dict__ for layer in blocks)


def test_in_autocast_gradients_are_rounded_once():
    """As far from float32 as autograd's, or nearer: it rounds each pass's, and their sum."""
    found = layers().float()
    exact = torch.cat([one.flatten() for one in gradients(layers())])
    errors = []
    for context in (joint_weight_gradients(found), joint_weight_gradients([])):
        with torch.autocast("cpu", torch.bfloat16), context:
            loss = float_passes(found)
        found.zero_grad()
        loss.backward()
        flat = torch.cat([weight.grad.flatten() for weight in found.parameters()])
        assert flat.dtype == torch.float32
        errors.append(float((flat - exact).norm() / exact.norm()))
    assert 0 < errors[0] < 1.5 * errors[1]


def float_passes(found: nn.ModuleList) -> torch.Tensor:
    torch.manual_seed(1)
    first, second, third, last = found
    state, losses = torch.randn(2, 7, 4).double().float(), []
    for number in range(3):
        read = state if number == 0 else torch.tanh(state[:, :number])
        state = third(torch.tanh(second(first(read))))
        losses.append(last(state).float().square().sum() * (number + 1))
    return sum(losses)
