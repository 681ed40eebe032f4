"""One update: micro-batches, devices, the loss over all of them, the optimizer."""

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from latentcot.batching import collate
from latentcot.config import Training
from latentcot.errors import UsageError
from latentcot.guards import enough_memory
from latentcot.layout import NO_LABEL, Layout
from latentcot.objective import LanguageLoss, LossParts
from latentcot.optimization import make_optimizer, set_learning_rate
from latentcot.recompute import check_recomputes
from latentcot.stopping import StopHead
from latentcot.thoughts import Feed


class Learner:
    """A model with its optimizer, on as many devices as accelerate was started with."""

    def __init__(
        self,
        model: PreTrainedModel,
        training: Training,
        *,
        feed: Feed | None = None,
        stop_head: StopHead | None = None,
        stop_weight: float = 1.0,
    ) -> None:
        self.training = training
        self.stop_weight = stop_weight
        # torch's own autocast: accelerate keeps one precision for all that a process does.
        self.accelerator = Accelerator(mixed_precision="no")
        self._refuse_lone_ranks()
        if training.save_memory:
            check_recomputes(model)
        loss = LanguageLoss(model, feed, stop_head, saves_memory=training.save_memory)
        self.loss = self.accelerator.prepare(loss)
        trained = (p for p in self.loss.parameters() if p.requires_grad)
        self._adamw = make_optimizer(trained, training)
        self.optimizer: Any = self.accelerator.prepare(self._adamw)

    @property
    def model(self) -> PreTrainedModel:
        """The backbone, out of its wrappers."""
        model: PreTrainedModel = self.accelerator.unwrap_model(self.loss).model
        return model

    @property
    def stop_head(self) -> StopHead | None:
        """The stop classifier, out of its wrappers."""
        head: StopHead | None = self.accelerator.unwrap_model(self.loss).stop_head
        return head

    def autocast(self) -> torch.autocast:
        """Return the context in which the recipe's precision holds."""
        is_on = self.training.precision == "bfloat16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=is_on)

    def restart_optimizer(self) -> None:
        """Forget the optimizer's moments, as the paper does when the stage changes."""
        self._adamw.state.clear()

    def is_any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process, so that all of them act alike."""
        if self.accelerator.num_processes == 1:
            return flag
        flags = torch.tensor(float(flag), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flags) > 0)

    def _refuse_lone_ranks(self) -> None:
        """Without a GPU accelerate takes each process of torchrun for the only one."""
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size > 1 and self.accelerator.num_processes == 1:
            raise UsageError(
                f"{world_size} processes were started, but accelerate sees one. On a CPU set "
                "ACCELERATE_USE_CPU=true."
            )

    def learn(self, layouts: Sequence[Layout], rate: float) -> dict[str, float]:
        """Make one optimizer update, or none if the loss is not finite.

        Args:
            layouts: The whole batch; each device takes its share of it.
            rate: Learning rate.

        Returns:
            The fields of `LossParts`, summed over micro-batches and devices.

        Raises:
            TrainingError: The device has too little memory; nothing was updated.
        """
        accelerator = self.accelerator
        mine = layouts[accelerator.process_index :: accelerator.num_processes]
        size = self.training.micro_batch_size or max(1, len(mine))
        micro_batches = [mine[i : i + size] for i in range(0, len(mine), size)]
        num_labels = sum(label != NO_LABEL for layout in layouts for label in layout.labels)
        num_slots = sum(layout.num_slots for layout in layouts)
        totals = torch.zeros(len(fields(LossParts)), device=accelerator.device)
        self.loss.train()
        for number, micro_batch in enumerate(micro_batches, start=1):
            is_last = number == len(micro_batches)
            alone = nullcontext() if is_last else accelerator.no_sync(self.loss)
            with alone, enough_memory(self.training, len(micro_batch)):
                totals += self._backward(micro_batch, num_labels, num_slots)
        sums = accelerator.reduce(totals).tolist()
        parts = dict(zip((field.name for field in fields(LossParts)), sums, strict=True))
        if math.isfinite(parts["nll_sum"]) and math.isfinite(parts["stop_nll_sum"]):
            self._update(rate)
        return parts

    def _backward(self, layouts: Sequence[Layout], num_labels: int, num_slots: int) -> torch.Tensor:
        accelerator = self.accelerator
        with self.autocast():
            parts: LossParts = self.loss(collate(layouts).to(accelerator.device))
        # The mean over all labels of the update. Wrappers average over devices: undo that.
        loss = parts.nll_sum / num_labels
        if self.stop_head is not None:  # without slots too: wrappers want every weight to be used
            loss = loss + self.stop_weight * parts.stop_nll_sum / max(1, num_slots)
        accelerator.backward(loss * accelerator.num_processes)
        values = [getattr(parts, field.name).detach().float() for field in fields(parts)]
        return torch.stack(values)

    def has_finite_weights(self) -> bool:
        """Return whether every weight is a number."""
        return all(bool(parameter.isfinite().all()) for parameter in self.loss.parameters())

    def _update(self, rate: float) -> None:
        if self.training.max_grad_norm is not None:
            self.accelerator.clip_grad_norm_(self.loss.parameters(), self.training.max_grad_norm)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad()
