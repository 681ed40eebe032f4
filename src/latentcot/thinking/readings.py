"""What a model has read of a batch, in every view, and what the output head says of it.

The head runs where somebody asks for it, and on language positions alone: those of the question are
most of its arithmetic. Not on labelled ones alone: how many these are is not known without asking
the device, which would wait for it and could not be captured (`models/backend/cuda_graphs.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentcot.curriculum.layout import NO_LABEL
from latentcot.curriculum.views import Plan
from latentcot.models.backend.few_rows import multiplied
from latentcot.thinking.batch import Batch
from latentcot.thinking.think import Rollout


def logits_of(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Return the logits (…, V) of last hidden states (…, D).

    Never in bfloat16: GPT-2's logits lie near -100, where its steps are half a nat.
    """
    head = model.get_output_embeddings()
    with torch.autocast(states.device.type, enabled=False):
        return multiplied(head, states.to(head.get_parameter("weight").dtype), whole=head)


class Reading:
    """One view of a batch, as it was read.

    Args:
        model: Who read it.
        batch: (B, …).
        rollout: What came of it.
    """

    def __init__(self, model: PreTrainedModel, batch: Batch, rollout: Rollout) -> None:
        self.model, self.batch, self.rollout = model, batch, rollout

    @cached_property
    def logits(self) -> Tensor:
        """(B, T, V), what predicts each language token."""
        return logits_of(self.model, self.rollout.states[:, :-1])

    @cached_property
    def nll(self) -> Tensor:
        """(B, T), nats of each labelled token; 0 elsewhere."""
        labels = self.batch.labels
        return nn.functional.cross_entropy(
            self.logits.flatten(0, 1), labels.flatten(), ignore_index=NO_LABEL, reduction="none"
        ).view_as(labels)

    def nll_of_latents(self, labels_BN: Tensor) -> Tensor:
        """Return the nats of what each latent position says through the head, summed: ().

        Args:
            labels_BN: A token each; `NO_LABEL` where it says nothing. Longer rows are cut.
        """
        states_BND = self.rollout.states_before_latents
        labels_BN = labels_BN[:, : states_BND.shape[1]]
        logits = logits_of(self.model, states_BND).flatten(0, 1)
        return nn.functional.cross_entropy(
            logits, labels_BN.flatten(), ignore_index=NO_LABEL, reduction="sum"
        )

    @property
    def is_correct(self) -> Tensor:
        """(B, T), whether a labelled token is the most probable one."""
        labels = self.batch.labels
        return (self.logits.detach().argmax(-1) == labels) & (labels != NO_LABEL)


@dataclass(frozen=True, slots=True)
class Readings:
    """All views of a batch, with all that a term of the loss may look at.

    Attributes:
        views: By name.
        targets: By term, (B, G, W), see `batch.Batches`.
        modules: What the method learns beside the model, by name.
        model: Who read it.
        plan: The numbers of the curriculum.
        saves_memory: Whether blocks are computed a second time for their gradients.
    """

    views: Mapping[str, Reading]
    targets: Mapping[str, Tensor]
    modules: Mapping[str, nn.Module]
    model: PreTrainedModel
    plan: Plan
    saves_memory: bool = False

    def __getitem__(self, view: str) -> Reading:
        """Return one view."""
        return self.views[view]
