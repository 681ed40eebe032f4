"""One update: micro-batches, devices, the loss over all of them, the optimizer."""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentcot.curriculum.layout import LaidOut
from latentcot.models.backend.activation_checkpointing import check_can_checkpoint
from latentcot.models.backend.cuda_graphs import (
    Captured,
    Function,
    Record,
    Recording,
    cuda_graphs,
)
from latentcot.models.backend.split_cache import blocks_of, takes_split_cache
from latentcot.models.backend.weight_gradients import joint_weight_gradients
from latentcot.models.lora import adapters_of, trained_names
from latentcot.recipes.recipe import Training
from latentcot.thinking.batch import ROUNDED, Batches, collate_views
from latentcot.training.guards import enough_memory
from latentcot.training.objective import Counts, Objective
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
class Part:
    """What one process reads of an update.

    Attributes:
        micro_batches: Each goes through the model at once.
        counts: By what the sums of the whole update, of all processes, are divided.
    """

    micro_batches: list[Batches]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Copies on the CPU of what was learned, put together from all processes.

    Attributes:
        weights: The model's, by name; tied ones are one tensor. With adapters only these.
        optimizer: State of the optimizer.
        modules: What was learned beside the model, by the name of the module and of the weight.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    modules: dict[str, Tensor]


class TrainStep:
    """A model with its optimizer, on as many devices as accelerate was started with.

    Args:
        objective: What is trained.
        training: The recipe's settings.
        record: Stands in for CUDA graphs (`models/backend/cuda_graphs.py`).
        shards: Let each process hold a shard of the weights (`sharding.py`); a config of accelerate
            may ask for it too.
    """

    def __init__(
        self,
        objective: Objective,
        training: Training,
        *,
        record: Record | None = None,
        shards: bool = False,
    ) -> None:
        self.training = training
        self.objective = objective
        prepare_to_join()
        self.shards, self._frees = take_shard_request(shards), frees_between_passes()
        # torch's own autocast: accelerate keeps one precision for all that a process does.
        self.accelerator = Accelerator(mixed_precision="no")
        self.shards = self.shards and self.accelerator.num_processes > 1
        if training.save_memory:
            check_can_checkpoint(objective.model)
        self.wrapped: Any = objective  # where it learns: on one device, a copy or a shard on each
        if self.shards:
            blocks = blocks_of(objective)
            on_device = objective.to(self.accelerator.device)
            self.wrapped = shard(on_device, blocks, frees_between_passes=self._frees)
        else:
            self.wrapped = self.accelerator.prepare(objective)
        weights = [weight for weight in self.wrapped.parameters() if weight.requires_grad]
        self._adamw = make_optimizer(weights, training)
        self.optimizer: Any = self.accelerator.prepare(self._adamw)
        self._captured: Captured | None = None
        self._grads: list[tuple[Tensor, Tensor]] = []
        if record is not None:
            self._captured = Captured(self._without_trace(record), sights=1)
        elif (  # an update can be one CUDA graph
            self.accelerator.device.type == "cuda"
            and self.accelerator.distributed_type == DistributedType.NO
            and self.wrapped is objective
            and not training.save_memory
            and takes_split_cache(self.model)
            and (graphs := cuda_graphs(self.accelerator.device))
        ):
            self._captured = Captured(self._without_trace(graphs))
        if self._captured is not None:
            self._grads = [(weight, torch.zeros_like(weight)) for weight in weights]

    @property
    def model(self) -> PreTrainedModel:
        """The model, out of its wrappers."""
        return self.objective.model

    def autocast(self) -> torch.autocast:
        """Return the context in which the recipe's precision holds."""
        is_on = self.training.precision == "bfloat16"
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=is_on)

    def begin_again(self, model: nn.Module, modules: nn.Module) -> None:
        """Take over the weights of others, with nothing learned yet."""
        load_weights(self.model, model.state_dict())
        load_weights(self.objective.learned, modules.state_dict())
        self.restart_optimizer()

    def restart_optimizer(self) -> None:
        """Forget the optimizer's moments, as the paper does when the stage changes."""
        self._adamw.state.clear()

    def is_any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process, so that all of them act alike."""
        if self.accelerator.num_processes == 1:
            return flag
        flags = torch.tensor(float(flag), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flags) > 0)

    def seed_dropout(self, seed: str) -> None:
        """Draw what is random in the next update from a seed and the number of this process."""
        number = random.Random(f"{seed}/{self.accelerator.process_index}").getrandbits(63)
        # torch.manual_seed does this too, but takes a millisecond where there is no GPU.
        torch.default_generator.manual_seed(number)
        if self.accelerator.device.type != "cpu":
            torch.get_device_module(self.accelerator.device).manual_seed(number)

    def part_of(self, update: Sequence[LaidOut]) -> Part:
        """Return what this process reads of an update.

        Every process makes as many passes as the row with the most thoughts needs, in whatever
        process it is: sharded weights are gathered together, pass by pass.

        Args:
            update: The whole update.
        """
        rank, num_ranks = self.accelerator.process_index, self.accelerator.num_processes
        size = num_ranks * (self.training.micro_batch_size or max(1, len(update) // num_ranks))
        columns = ROUNDED if self._captured else (1, 1)
        wholes = [update[i : i + size] for i in range(0, len(update), size)]
        return Part(
            micro_batches=[
                collate_views(whole[rank::num_ranks], whole=whole, update=update, columns=columns)
                for whole in wholes
            ],
            counts=Counts(self.objective.method, update),
        )

    def step(self, part: Part, rate: float) -> dict[str, float | None]:
        """Make one optimizer update, or none if the loss is not finite.

        Args:
            part: Of `part_of`.
            rate: Learning rate.

        Returns:
            Each term by its name, over the whole update, and `total`, what was minimised.

        Raises:
            TrainingError: The device has too little memory; nothing was updated.
        """
        accelerator = self.accelerator
        wide = next(self.wrapped.parameters()).dtype == torch.float64
        factors = part.counts.coefficients()
        coefficients = torch.tensor(
            factors, dtype=torch.float64 if wide else torch.float32, device=accelerator.device
        )
        totals = torch.zeros(len(coefficients), device=accelerator.device)
        self.wrapped.train()
        for number, micro_batch in enumerate(part.micro_batches, start=1):
            is_last = number == len(part.micro_batches)
            # Processes exchange gradients with the last micro-batch alone.
            alone: AbstractContextManager[Any] = nullcontext()
            if not is_last and self.shards:
                alone = without_sync(self.wrapped)
            elif not is_last:
                alone = accelerator.no_sync(self.wrapped)
            with alone, enough_memory(self.training, len(micro_batch)):
                totals += self._gradients(micro_batch.to(accelerator.device), coefficients)
        if self.shards:
            let_go(self.wrapped)
        sums = accelerator.reduce(totals).tolist()
        # Those that are only measured have coefficient 0, and may be what they like.
        pairs = zip(sums, factors, strict=True)
        total = sum(value * coefficient for value, coefficient in pairs if coefficient)
        if math.isfinite(total):
            if self.training.max_grad_norm is not None:
                accelerator.clip_grad_norm_(self.wrapped.parameters(), self.training.max_grad_norm)
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=not self._grads)
        return {**part.counts.means(sums), "total": total}

    def _gradients(self, batches: Batches, coefficients: Tensor) -> Tensor:
        """Add a micro-batch's gradients; return the sums of its terms."""
        if self._captured is None:
            return self._backward(batches, coefficients)
        # Recordings add to the gradients that they have seen, whoever has taken them away.
        for weight, grad in self._grads:
            if weight.grad is not grad:
                grad.zero_()
                weight.grad = grad

        def backward(*inputs: Tensor) -> Tensor:
            return self._backward(batches.with_tensors(inputs[:-1]), inputs[-1])

        sums: Tensor = self._captured(
            batches.max_latents, backward, (*batches.tensors, coefficients)
        )
        return sums

    def _backward(self, batches: Batches, coefficients: Tensor) -> Tensor:
        is_whole = not self.shards and not self.training.save_memory
        blocks = blocks_of(self.objective) if is_whole else []
        with self.autocast(), joint_weight_gradients(blocks):
            sums: Tensor = self.wrapped(batches)
        # The mean over the whole update. Wrappers average over devices: undo that.
        loss = (sums * coefficients).sum() * self.accelerator.num_processes
        self.accelerator.backward(loss)
        return sums.detach().float()

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

    def has_finite_weights(self) -> bool:
        """Return whether every weight is a number, in all processes."""
        weights = (local(weight) for weight in self.wrapped.parameters())
        return not self.is_any(not all(bool(weight.isfinite().all()) for weight in weights))

    @contextmanager
    def answering(self) -> Iterator[PreTrainedModel]:
        """Within it the model, in evaluation mode, may be run by each process as it likes."""
        with gathered_weights(self.wrapped, frees_between_passes=self._frees):
            self.objective.eval()
            yield self.model

    # --- what was learned ---

    def snapshot(self) -> Snapshot:
        """Return a copy of what was learned; all processes must come here, the main one gets it."""
        keeps, seen = self.accelerator.is_main_process, dict[int, Any]()
        weights = self.model.state_dict(keep_vars=True)
        if adapters_of(self.model) is not None:  # a checkpoint holds nothing of the base
            weights = {name: weights[name] for name in trained_names(self.model)}
        optimizer = self._adamw.state_dict()
        modules = self.objective.learned.state_dict(keep_vars=True)
        return Snapshot(*whole([weights, optimizer, modules], keeps=keeps, seen=seen))

    def take_over(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot, made by however many processes.

        Raises:
            RuntimeError, ValueError: It is that of another model.
        """
        load_weights(self.model, snapshot.weights)
        load_weights(self.objective.learned, snapshot.modules)
        load_optimizer(self._adamw, snapshot.optimizer)
