"""The optimizer, and its learning rate as a function of the update alone."""

from collections.abc import Iterable

import torch

from latentcot.recipes.recipe import Training


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], training: Training
) -> torch.optim.Optimizer:
    """Return AdamW with the recipe's settings, on all weights alike as in the paper's code."""
    return torch.optim.AdamW(
        parameters,
        lr=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
        fused=True,
    )


def learning_rate(training: Training, update: int, num_updates: int, last_restart: int) -> float:
    """Return the learning rate of an update: warm-up, constant, linear decay at the end.

    A function and not a scheduler object: an optimizer that is started anew with each stage warms
    up anew while the decay goes on with the whole run, and a resumed run needs no state.

    Args:
        training: The recipe's settings.
        update: 0 for the first update of the run.
        num_updates: Updates of the whole run.
        last_restart: The update at which the optimizer was last started anew.
    """
    warmup = (update + 1 - last_restart) / (training.warmup_updates + 1)
    num_decay = training.decay_share * num_updates
    left = (num_updates - update) / num_decay if num_decay else 1.0
    floor = training.final_learning_rate_share
    return training.learning_rate * min(warmup, 1.0) * (floor + (1 - floor) * min(left, 1.0))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = value
