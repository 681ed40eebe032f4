"""When latent mode ends: after a number of thoughts, or when a classifier or the next word says so.

The paper names both ("a binary classifier on latent thoughts", arXiv 2412.06769, section 3) and
found them comparable. The classifier reads the last hidden state at each latent position. It is
trained together with the language, by its own loss: at every latent position that an example has,
the target is whether the whole chain has been thought by then. So the target of a latent position
is the same at every stage, and before the last stage most say "go on". When answering, a row stops
at the first latent position whose probability reaches the threshold, which is chosen on validation
questions, or at an upper bound.

Views that compress (`curriculum/views.py`) end it where the first token of the answer is the most
probable one, as words do.

Shapes: B batch, N most latent positions of any row, D hidden size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentcot.curriculum.layout import LaidOut
from latentcot.methods.method import Method, Module, Term
from latentcot.models.loading import width_of
from latentcot.thinking.readings import Readings, logits_of

NUM_THRESHOLDS = 99
DEFAULT_THRESHOLD = 0.5
STOP = "stop"
"""The name of the module."""


class StopHead(nn.Module):
    """A linear layer on the state at a latent position: the logit of "the chain ends here"."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)  # from scratch it has no opinion, and needs no seed
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Return the logits (…,) of states (…, D)."""
        with torch.autocast(states.device.type, enabled=False):
            logits: Tensor = self.linear(states.to(self.linear.weight.dtype)).squeeze(-1)
        return logits


@dataclass(frozen=True, slots=True)
class StopRule:
    """A trained classifier with its threshold and its upper bound."""

    head: nn.Module
    threshold: float
    max_thoughts: int

    def __call__(self, states: Tensor) -> Tensor:
        """Return whether each row of states (B, D) thinks no more: (B,), bool."""
        is_over: Tensor = self.head(states).sigmoid() >= self.threshold
        return is_over


@dataclass(frozen=True, slots=True)
class WordRule:
    """Ends latent mode where the model would now say one of some tokens; for any model."""

    model: PreTrainedModel
    ends: tuple[int, ...]
    max_thoughts: int

    def __call__(self, states: Tensor) -> Tensor:
        """Return whether each row of states (B, D) thinks no more: (B,), bool."""
        said = logits_of(self.model, states).argmax(-1)
        return torch.isin(said, torch.tensor(self.ends, device=said.device))


def with_stop_classifier(method: Method, weight: float = 1.0) -> Method:
    """Return a method that also learns when to stop.

    Args:
        method: One whose latent positions are filled one after the other.
        weight: Of the classifier's loss, beside the language's.
    """
    view = method.answers

    def total(readings: Readings) -> Tensor:
        rollout, batch = readings[view].rollout, readings[view].batch
        head = readings.modules[STOP]
        return stop_loss(head, rollout.latent_states, batch.num_latents, batch.stop_after)

    def count(laid: LaidOut) -> tuple[int, ...]:
        return (laid.layouts[view].num_latents,)

    make = Module(lambda model: StopHead(width_of(model)))
    return method.with_(terms=(Term("stop_loss", total, count, weight),), modules={STOP: make})


def stop_loss(
    head: nn.Module, latent_states: Tensor, num_latents: Tensor, stop_after: Tensor
) -> Tensor:
    """Return the classifier's loss in nats, summed over latent positions.

    Args:
        head: The classifier.
        latent_states: (B, N, D), as `think.Rollout` has them.
        num_latents: (B,). Positions behind a row's last one do not count.
        stop_after: (B,). Latent positions that the whole chain takes; rows with -1 do not count.
    """
    number = torch.arange(1, latent_states.shape[1] + 1, device=latent_states.device)
    counts = (number <= num_latents[:, None]) & (stop_after >= 0)[:, None]
    logits = head(latent_states)
    target = (number >= stop_after[:, None]).to(logits.dtype)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * counts).sum()


def stops_at(probabilities: Tensor, threshold: float) -> Tensor:
    """Return after how many latent positions each row stops, given (B, N) probabilities: (B,), 1
    … N."""
    is_over = probabilities >= threshold
    is_over[:, -1] = True
    return is_over.int().argmax(1) + 1


def choose_threshold(probabilities: Tensor, stop_after: Tensor) -> float:
    """Return the threshold with which most rows stop exactly where their chain would.

    Args:
        probabilities: (B, N), of validation questions that were let think to the upper bound.
        stop_after: (B,). Where each chain ends; beyond the bound, the bound is right.

    Of several equally good thresholds the middle one is taken: the farthest from doing worse.
    """
    grid = [(i + 1) / (NUM_THRESHOLDS + 1) for i in range(NUM_THRESHOLDS)]
    ends = stop_after.clamp(max=probabilities.shape[1])
    right = [int((stops_at(probabilities, t) == ends).sum()) for t in grid]
    best = [t for t, count in zip(grid, right, strict=True) if count == max(right)]
    return best[len(best) // 2]
