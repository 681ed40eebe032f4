"""One update: micro-batches, devices, the loss over all of them, the optimizer."""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor
from transformers import PreTrainedModel

from latentcot.curriculum.layout import NO_LABEL, Layout
from latentcot.models.backend.activation_checkpointing import check_can_checkpoint
from latentcot.models.backend.cuda_graphs import Captured, Function, Record, Recording, cuda_graphs
from latentcot.models.backend.split_cache import blocks_of, takes_split_cache
from latentcot.models.lora import adapters_of, trained_names
from latentcot.recipes.recipe import Training
from latentcot.thinking.batch import ROUNDED, Batch, collate
from latentcot.thinking.loss import LanguageLoss, LossParts
from latentcot.thinking.stopping import StopHead
from latentcot.thinking.think import Feed
from latentcot.training.guards import enough_memory
from latentcot.training.optimizer import make_optimizer, set_learning_rate
from latentcot.training.sharding import (
    gathered_weights,
    let_go,
    load_optimizer,
    load_weights,
    local,
    shard,
    whole,
    without_sync,
)
from latentcot.utils.distributed import frees_between_passes, prepare_to_join, take_shard_request


@dataclass(frozen=True, slots=True)
class Shard:
    """What one process learns of an update.

    Attributes:
        micro_batches: Each goes through the model at once.
        num_labels: Labels of the whole update, in all processes.
        num_latents: Latents of the whole update.
    """

    micro_batches: list[Batch]
    num_labels: int
    num_latents: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Copies on the CPU of what was learned, put together from all processes.

    Attributes:
        weights: The model's, by name; tied ones are one tensor. With adapters only these.
        optimizer: State of the optimizer.
        stop_head: The stop classifier, if there is one.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    stop_head: StopHead | None


class TrainStep:
    """A model with its optimizer, on as many devices as accelerate was started with.

    Args:
        model: What is trained.
        training: The recipe's settings.
        feed: What is fed into a latent position; the thought if left out.
        stop_head: The classifier that ends latent mode, if one is trained too.
        stop_weight: Weight of its loss.
        record: Stands in for CUDA graphs (`replay.py`).
        shards: Let each process hold a share of the weights (`sharding.py`); a config of accelerate
            may ask for it too.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        training: Training,
        *,
        feed: Feed | None = None,
        stop_head: StopHead | None = None,
        stop_weight: float = 1.0,
        record: Record | None = None,
        shards: bool = False,
    ) -> None:
        self.training = training
        self.stop_weight = stop_weight
        prepare_to_join()
        self.shards, self._frees = take_shard_request(shards), frees_between_passes()
        # torch's own autocast: accelerate keeps one precision for all that a process does.
        self.accelerator = Accelerator(mixed_precision="no")
        self.shards = self.shards and self.accelerator.num_processes > 1
        if training.save_memory:
            check_can_checkpoint(model)
        loss = LanguageLoss(model, feed, stop_head, saves_memory=training.save_memory)
        self._unwrapped = loss
        self.loss = self._placed(loss)
        trained = (p for p in self.loss.parameters() if p.requires_grad)
        self._adamw = make_optimizer(trained, training)
        self.optimizer: Any = self.accelerator.prepare(self._adamw)
        self._captured: Captured | None = None
        self._grads: list[tuple[Tensor, Tensor]] = []
        if record is not None:
            self._captured = Captured(self._without_trace(record), sights=1)
        elif self._can_record() and (graphs := cuda_graphs(self.accelerator.device)):
            self._captured = Captured(self._without_trace(graphs))
        if self._captured is not None:
            weights = [weight for weight in self.loss.parameters() if weight.requires_grad]
            self._grads = [(weight, torch.zeros_like(weight)) for weight in weights]

    @property
    def model(self) -> PreTrainedModel:
        """The backbone, out of its wrappers."""
        return self._unwrapped.model

    @property
    def stop_head(self) -> StopHead | None:
        """The stop classifier, out of its wrappers."""
        return self._unwrapped.stop_head

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

    def _placed(self, loss: LanguageLoss) -> Any:
        """Put the model where it learns: on one device, a copy on each, or a share on each."""
        if not self.shards:
            return self.accelerator.prepare(loss)
        blocks = blocks_of(loss.model.base_model)
        return shard(loss.to(self.accelerator.device), blocks, frees_between_passes=self._frees)

    def seed_dropout(self, seed: str) -> None:
        """Draw what is random in the next update from a seed and the number of this process."""
        number = random.Random(f"{seed}/{self.accelerator.process_index}").getrandbits(63)
        # torch.manual_seed does this too, but takes a millisecond where there is no GPU.
        torch.default_generator.manual_seed(number)
        if self.accelerator.device.type == "cuda":
            torch.cuda.manual_seed(number)

    def shard_of(self, layouts: Sequence[Layout]) -> Shard:
        """Return what this process learns of an update.

        Args:
            layouts: The whole update.
        """
        num_ranks = self.accelerator.num_processes
        size = num_ranks * (self.training.micro_batch_size or max(1, len(layouts) // num_ranks))
        return Shard(
            micro_batches=[
                self._part_of(layouts[i : i + size]) for i in range(0, len(layouts), size)
            ],
            num_labels=sum(label != NO_LABEL for layout in layouts for label in layout.labels),
            num_latents=sum(layout.num_latents for layout in layouts),
        )

    def _part_of(self, layouts: Sequence[Layout]) -> Batch:
        """Return this process's part of a micro-batch.

        Every process makes as many passes as the row with the most thoughts needs, in whatever
        process it is: sharded weights are gathered together, pass by pass.
        """
        return collate(
            layouts[self.accelerator.process_index :: self.accelerator.num_processes],
            columns=ROUNDED if self._captured else (1, 1),
            max_latents=max(layout.num_latents for layout in layouts),
        )

    def learn(self, layouts: Sequence[Layout], rate: float) -> dict[str, float]:
        """Make one optimizer update from layouts, see `learn_from`."""
        return self.learn_from(self.shard_of(layouts), rate)

    def learn_from(self, share: Shard, rate: float) -> dict[str, float]:
        """Make one optimizer update, or none if the loss is not finite.

        Args:
            share: Of `shard_of`.
            rate: Learning rate.

        Returns:
            The fields of `LossParts`, summed over micro-batches and devices.

        Raises:
            TrainingError: The device has too little memory; nothing was updated.
        """
        accelerator = self.accelerator
        totals = torch.zeros(len(fields(LossParts)), device=accelerator.device)
        self.loss.train()
        for number, micro_batch in enumerate(share.micro_batches, start=1):
            is_last = number == len(share.micro_batches)
            with self._sync(is_last), enough_memory(self.training, len(micro_batch.prefix)):
                totals += self._gradients(micro_batch.to(accelerator.device), share)
        if self.shards:
            let_go(self.loss)
        sums = accelerator.reduce(totals).tolist()
        parts = dict(zip((field.name for field in fields(LossParts)), sums, strict=True))
        if math.isfinite(parts["nll_sum"]) and math.isfinite(parts["stop_nll_sum"]):
            self._update(rate)
        return parts

    def _sync(self, is_last: bool) -> AbstractContextManager[Any]:
        """Let processes exchange gradients with the last micro-batch alone."""
        if is_last:
            return nullcontext()
        return without_sync(self.loss) if self.shards else self.accelerator.no_sync(self.loss)

    def _gradients(self, batch: Batch, share: Shard) -> Tensor:
        """Add a micro-batch's gradients; return the fields of `LossParts`."""
        device = self.accelerator.device
        sizes = torch.tensor([share.num_labels, max(1, share.num_latents)], device=device)
        if self._captured is None:
            return self._backward(batch, sizes)
        self._put_gradients_back()

        def backward(*inputs: Tensor) -> Tensor:
            return self._backward(batch.with_tensors(inputs[:-1]), inputs[-1])

        parts: Tensor = self._captured(batch.max_latents, backward, (*batch.tensors, sizes))
        return parts

    def _backward(self, batch: Batch, sizes: Tensor) -> Tensor:
        accelerator = self.accelerator
        with self.autocast():
            parts: LossParts = self.loss(batch)
        num_labels, num_latents = sizes
        # The mean over all labels of the update. Wrappers average over devices: undo that.
        loss = parts.nll_sum / num_labels
        if (
            self.stop_head is not None
        ):  # without latent positions too: wrappers want every weight to be used
            loss = loss + self.stop_weight * parts.stop_nll_sum / num_latents
        accelerator.backward(loss * accelerator.num_processes)
        values = [getattr(parts, field.name).detach().float() for field in fields(parts)]
        return torch.stack(values)

    def _can_record(self) -> bool:
        """Return whether an update can be one CUDA graph, see `replay.py`."""
        return (
            self.accelerator.device.type == "cuda"
            and self.accelerator.distributed_type == DistributedType.NO
            and self.loss is self._unwrapped
            and not self.training.save_memory
            and takes_split_cache(self.model)
        )

    def _without_trace(self, record: Record) -> Record:
        """Let recording, which runs the update several times, leave no gradients behind.

        Nor may it use up random numbers: a resumed run, which records anew, draws the same dropout.
        """
        device = self.accelerator.device
        drawn_from = [device] if device.type == "cuda" else []  # and of torch's own on the CPU

        def record_update(function: Function, inputs: tuple[Tensor, ...]) -> Recording:
            before = [grad.clone() for _, grad in self._grads]
            try:
                with torch.random.fork_rng(drawn_from):
                    recording = record(function, inputs)
            finally:
                for (_, grad), value in zip(self._grads, before, strict=True):
                    grad.copy_(value)
            return recording

        return record_update

    def _put_gradients_back(self) -> None:
        """Let each weight have the gradient that recordings add to, whoever has taken it away."""
        for weight, grad in self._grads:
            if weight.grad is not grad:
                grad.zero_()
                weight.grad = grad

    def has_finite_weights(self) -> bool:
        """Return whether every weight is a number, in all processes."""
        weights = (local(weight) for weight in self.loss.parameters())
        return not self.is_any(not all(bool(weight.isfinite().all()) for weight in weights))

    @contextmanager
    def answering(self) -> Iterator[PreTrainedModel]:
        """Within it the model, in evaluation mode, may be run by each process as it likes."""
        with gathered_weights(self.loss, frees_between_passes=self._frees):
            yield self.model.eval()

    # --- what was learned ---

    def snapshot(self) -> Snapshot:
        """Return a copy of what was learned; all processes must come here, the main one gets it."""
        keeps, seen = self.accelerator.is_main_process, dict[int, Any]()
        weights = self.model.state_dict(keep_vars=True)
        if adapters_of(self.model) is not None:  # a checkpoint holds nothing of the base
            weights = {name: weights[name] for name in trained_names(self.model)}
        optimizer = self._adamw.state_dict()
        head = None if self.stop_head is None else self.stop_head.state_dict(keep_vars=True)
        copies = whole([weights, optimizer, head], keeps=keeps, seen=seen)
        return Snapshot(copies[0], copies[1], self._head_of(copies[2]) if keeps else None)

    def take_over(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot, made by however many processes.

        Raises:
            RuntimeError, ValueError: It is that of another model.
        """
        load_weights(self.model, snapshot.weights)
        if self.stop_head is not None and snapshot.stop_head is not None:
            load_weights(self.stop_head, snapshot.stop_head.state_dict())
        load_optimizer(self._adamw, snapshot.optimizer)

    def _head_of(self, weights: dict[str, Tensor] | None) -> StopHead | None:
        if weights is None:
            return None
        head = StopHead(self.model.config.hidden_size)
        head.load_state_dict(weights)
        return head

    def _update(self, rate: float) -> None:
        if self.training.max_grad_norm is not None:
            self.accelerator.clip_grad_norm_(self.loss.parameters(), self.training.max_grad_norm)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=not self._grads)
