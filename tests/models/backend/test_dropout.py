"""Masks of 16 bits a number: the share asked for, in every lane, scaled as torch scales."""

import pytest
import torch
from torch import nn

from latentcot.models.backend.dropout import LANES, Dropout, drop
from latentcot.models.loading import take_faster_modules

SHARES = [0.05, 0.1, 0.5, 0.9]


@pytest.mark.parametrize("share", SHARES)
def test_share_in_each_lane(share):
    """0.01 is nine standard deviations."""
    torch.manual_seed(0)
    is_kept = drop(torch.ones(LANES * 200_000), share)[1]
    dropped = 1 - is_kept.view(-1, LANES).float().mean(0)
    assert dropped.tolist() == pytest.approx([share] * LANES, abs=0.01)


def test_lanes_are_independent():
    torch.manual_seed(0)
    is_kept = drop(torch.ones(LANES * 200_000), 0.5)[1]
    correlations = torch.corrcoef(is_kept.view(-1, LANES).float().T)
    assert (correlations - torch.eye(LANES)).abs().max() < 0.015


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("shape", [(3, 5, 7), (1,), (0, 4), ()])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_is_left_is_scaled_as_torch_scales_it(shape, share, dtype):
    values = torch.randn(shape, dtype=dtype)
    found, is_kept = drop(values, share)
    assert found.shape == is_kept.shape == values.shape
    assert found.dtype == dtype
    expected = torch.where(is_kept, values.double() / (1 - share), 0.0)
    torch.testing.assert_close(found, expected.to(dtype))


def test_gradients_are_those_of_the_mask():
    values = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    found, is_kept = drop(values, 0.25)
    (found * torch.arange(36).view(4, 9)).sum().backward()
    expected = torch.arange(36).view(4, 9) * is_kept / 0.75
    torch.testing.assert_close(values.grad, expected.double())


class TestModule:
    def test_same_seed_same_mask(self):
        values, module = torch.ones(100), Dropout(0.5)
        drawn = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            drawn.append(module(values).tolist())
        assert drawn[0] == drawn[1] != drawn[2]

    def test_nothing_is_dropped_or_drawn_in_evaluation_or_without_a_share(self):
        values, state = torch.ones(100), torch.get_rng_state()
        for module in (Dropout(0.5).eval(), Dropout(0.0)):
            assert torch.equal(module(values), values)
        assert torch.equal(torch.get_rng_state(), state)

    def test_all(self):
        assert not Dropout(1.0)(torch.ones(100)).any()

    def test_in_place(self):
        values = torch.ones(100)
        assert Dropout(0.5, inplace=True)(values) is values
        assert isinstance(Dropout(0.5), nn.Dropout)

    @pytest.mark.parametrize("is_training", [True, False])
    def test_it_drops_where_the_one_before_it_did(self, is_training):
        model = nn.Sequential(nn.Dropout(0.5)).train(is_training)
        take_faster_modules(model)
        assert type(model[0]) is Dropout
        assert bool((model(torch.ones(100)) == 0).any()) == is_training
