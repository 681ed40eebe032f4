"""What ends a training that has gone wrong, in words, before it spoils what was reached."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from latentcot.errors import TrainingError
from latentcot.recipes.recipe import Training

MEMORY = 0.99
"""Weight of the past in the mean loss: it looks back over some 100 updates."""
FIRST_JUDGED = 100
"""Updates before which a loss may be anything."""


class Divergence:
    """Whether the loss has left what a language model can be worth.

    Guessing alike among V tokens costs ln V nats each. A model whose loss stays above twice that
    is worse than one that has learned nothing, and does not come back.

    Attributes:
        limit: Nats above which the mean loss may not be.
        mean: The loss, averaged over the last updates with falling weights; nats.
        num_updates: Updates seen.
    """

    def __init__(self, training: Training, vocabulary_size: int) -> None:
        self.limit = training.diverged_above or 2 * math.log(max(2, vocabulary_size))
        self.mean, self.num_updates = 0.0, 0

    def record(self, loss: float) -> None:
        """Take note of the loss of an update.

        Raises:
            TrainingError: Training has diverged.
        """
        self.num_updates += 1
        weight = max(1 - MEMORY, 1 / self.num_updates)
        self.mean += weight * (loss - self.mean)
        if self.num_updates >= FIRST_JUDGED and self.mean > self.limit:
            raise TrainingError(
                f"training has diverged: the loss of the last updates is {self.mean:.2f} nats a "
                f"token on average, and may be {self.limit:.2f} (training.diverged_above; if empty "
                "twice that of guessing). The checkpoints written before it are whole. Try a lower "
                "training.learning_rate, or training.max_grad_norm=1."
            )

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs to judge alike."""
        return {"mean": self.mean, "num_updates": self.num_updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self.mean, self.num_updates = float(state["mean"]), int(state["num_updates"])


@contextmanager
def enough_memory(training: Training, batch_size: int) -> Iterator[None]:
    """Say what to do where a device has too little memory for a micro-batch.

    Raises:
        TrainingError: It has.
    """
    try:
        yield
    except RuntimeError as error:
        # On a CPU torch has no error of its own for it.
        is_cpu = "DefaultCPUAllocator" in str(error)
        if not is_cpu and not isinstance(error, torch.OutOfMemoryError):
            raise
        advice = [] if training.save_memory else ["training.save_memory=true"]
        if batch_size > 1:
            advice.append(f"training.micro_batch_size={max(1, batch_size // 2)}")
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"the device has too little memory for {batch_size} examples at once: {reason} Set "
            f"{' or '.join(advice) or 'a smaller model or shorter questions'}; neither changes the "
            "result but for rounding. The last checkpoint is whole."
        ) from None


@contextmanager
def deterministic(is_on: bool) -> Iterator[None]:
    """Within it, torch takes only kernels that give the same bits each time, if that is wanted."""
    if not is_on:
        yield
        return
    was_on = torch.are_deterministic_algorithms_enabled()
    # cuBLAS reads this when it is first used; without it torch refuses its matrix products.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on)
