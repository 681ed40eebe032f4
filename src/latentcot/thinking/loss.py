"""The loss: negative log-likelihood of the language that is left, given question and thoughts.

The whole roll-out is the `forward` of one module, so that a wrapper such as DistributedDataParallel
sees all passes of an update as one call.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentcot.curriculum.layout import NO_LABEL
from latentcot.thinking.batch import Batch
from latentcot.thinking.rollouts import roll_out
from latentcot.thinking.stopping import StopHead, stop_loss
from latentcot.thinking.think import Feed


@dataclass(frozen=True, slots=True)
class LossParts:
    """Sums over a batch, to be divided once the number of labels of the whole update is known.

    Attributes:
        nll_sum: Scalar, nats, differentiable: summed over all labelled tokens.
        num_labels: Scalar: how many there are.
        next_nll_sum: Scalar, nats, detached: summed over the first remaining step alone.
        num_next: Scalar: how many tokens that is.
        num_correct: Scalar: labelled tokens whose most probable prediction is right.
        stop_nll_sum: Scalar, nats, differentiable: of the stop classifier, over all latent
            positions.
        num_stops: Scalar: over how many latent positions; 0 without a classifier.
    """

    nll_sum: Tensor
    num_labels: Tensor
    next_nll_sum: Tensor
    num_next: Tensor
    num_correct: Tensor
    stop_nll_sum: Tensor
    num_stops: Tensor


class LanguageLoss(nn.Module):
    """arXiv 2412.06769, section 3: loss on remaining steps, answer and end of text only.

    Args:
        model: The language model.
        feed: What is fed into a latent position; the thought if left out.
        stop_head: The classifier that ends latent mode, if one is to be trained.
        saves_memory: Compute blocks a second time for their gradients (`recompute.py`).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        feed: Feed | None = None,
        stop_head: StopHead | None = None,
        *,
        saves_memory: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.feed = feed
        self.stop_head = stop_head
        self.saves_memory = saves_memory

    def forward(self, batch: Batch) -> LossParts:
        """Roll a batch out and return its loss in parts."""
        saves_memory = self.saves_memory and self.training
        rollout = roll_out(self.model, batch, feed=self.feed, saves_memory=saves_memory)
        is_label = batch.labels != NO_LABEL
        # The output head runs on the language columns only: the question's are most of its
        # arithmetic. Not on labelled ones alone: how many these are is not known without asking
        # the device, which would wait for it and could not be recorded (`replay.py`).
        head = self.model.get_output_embeddings()
        states = rollout.states[:, :-1]
        # Never in bfloat16: GPT-2's logits lie near -100, where its steps are half a nat.
        with torch.autocast(states.device.type, enabled=False):
            logits = head(states.to(head.get_parameter("weight").dtype))
        nll = nn.functional.cross_entropy(
            logits.flatten(0, 1), batch.labels.flatten(), ignore_index=NO_LABEL, reduction="none"
        ).view_as(batch.labels)
        is_correct = (logits.detach().argmax(-1) == batch.labels) & is_label
        stop_nll = num_stops = torch.zeros((), device=nll.device)
        if self.stop_head is not None:
            stop_nll, num_stops = stop_loss(
                self.stop_head, rollout.latent_states, batch.num_latents, batch.stop_after
            )
        return LossParts(
            nll_sum=nll.sum(),
            num_labels=is_label.sum(),
            next_nll_sum=nll.detach().where(batch.is_next, 0.0).sum(),
            num_next=batch.is_next.sum(),
            num_correct=is_correct.sum(),
            stop_nll_sum=stop_nll,
            num_stops=num_stops,
        )
