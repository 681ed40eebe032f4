"""AdamW as in the paper, and the learning rate as a function of the update."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentcot.recipes.recipe import Training
from latentcot.training.optimizer import learning_rate, make_optimizer, set_learning_rate


def rates(training: Training, num_updates: int, last_restart: int = 0) -> list[float]:
    return [
        learning_rate(training, update, num_updates, last_restart)
        for update in range(last_restart, num_updates)
    ]


@pytest.mark.parametrize(
    ("options", "last_restart", "expected"),
    [
        ({}, 0, [1] * 20),  # the paper's
        ({"warmup_updates": 3}, 0, [0.25, 0.5, 0.75, 1, 1, 1]),
        ({"warmup_updates": 3}, 9, [0.25, 0.5, 0.75, 1, 1]),  # again after a restart
        ({"decay_share": 0.5}, 0, [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        # Towards 0.2 in four equal parts; 0.2 itself would be the ninth update.
        ({"decay_share": 0.5, "final_learning_rate_share": 0.2}, 0, [*[1.0] * 5, 0.8, 0.6, 0.4]),
    ],
)
def test_learning_rates(
    options: dict[str, float], last_restart: int, expected: list[float]
) -> None:
    training = Training(learning_rate=2.0, **options)
    found = rates(training, last_restart + len(expected), last_restart)
    assert found == pytest.approx([2 * share for share in expected])


def test_a_restart_does_not_move_the_decay() -> None:
    training = Training(learning_rate=1.0, decay_share=0.5)
    assert rates(training, 8, last_restart=5) == rates(training, 8)[5:]


@given(
    warmup=st.integers(0, 50),
    decay=st.floats(0, 1),
    final=st.floats(0, 1),
    num_updates=st.integers(1, 60),
    data=st.data(),
)
def test_it_is_above_nothing_and_never_above_the_peak(
    warmup: int, decay: float, final: float, num_updates: int, data: st.DataObject
) -> None:
    training = Training(
        learning_rate=0.1, warmup_updates=warmup, decay_share=decay, final_learning_rate_share=final
    )
    restart = data.draw(st.integers(0, num_updates - 1))
    assert all(0 < rate <= 0.1 * (1 + 1e-9) for rate in rates(training, num_updates, restart))


def test_all_weights_are_decayed_alike() -> None:
    assert Training().learning_rate == 1e-4  # the paper's
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    training = Training(learning_rate=0.5, betas=(0.8, 0.9), weight_decay=0.1)
    optimizer = make_optimizer(model.parameters(), training)
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.AdamW)
    assert len(group["params"]) == 4
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.5, (0.8, 0.9), 0.1)


def test_set_learning_rate_scales_the_next_update() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = make_optimizer([weight], Training(weight_decay=0))
    set_learning_rate(optimizer, 0.25)
    weight.grad = torch.ones(1)
    optimizer.step()
    assert weight.item() == pytest.approx(0.75)  # AdamW's first update is the learning rate long
