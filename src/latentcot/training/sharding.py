"""Models that need more than one device: each process keeps a shard of every weight (FSDP2).

torch's `fully_shard` does it, block by block; the rest of the model (embeddings, last norm, output
head) is one more group. A roll-out runs every block once a pass. Gathering the weights again for
each would cost far more than a thought itself, so they are gathered once an update and let go at
its end: what processes exchange does not depend on the number of thoughts. Gradients and optimizer
stay shared out; the gradients of all passes are summed up before they are exchanged.

Where even one copy of the weights is too large for a device, they are let go after each pass. Then
each run of a block is something that all processes do together, so that all must make the same
number of passes, or wait for each other for ever. `TrainStep.part_of` sees to it: all count
latent positions up to those of the longest row in any process.

accelerate prepares models for FSDP2 too, but not on a CPU, where all of this is tested.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

M = TypeVar("M", bound=nn.Module)


def shard(module: M, blocks: Sequence[nn.Module], *, frees_between_passes: bool = False) -> M:
    """Share the weights of a module out among all processes, in place.

    Args:
        module: Its forward is the whole roll-out.
        blocks: The blocks in it.
        frees_between_passes: Let gathered weights go after each pass.
    """
    for block in blocks:
        fully_shard(block, reshard_after_forward=frees_between_passes)
    fully_shard(module)
    for part in _parts(module):
        part.set_reshard_after_backward(frees_between_passes, recurse=False)
    return module


def let_go(module: nn.Module) -> None:
    """Free the gathered weights: before the optimizer changes the shares that they came from."""
    for part in _parts(module):
        part.reshard()


@contextmanager
def gathered_weights(module: nn.Module, *, frees_between_passes: bool = False) -> Iterator[None]:
    """Within it each process has all weights, and may make as many passes as it likes.

    Args:
        module: Sharded or not.
        frees_between_passes: As it was given to `shard`.
    """
    parts = list(_parts(module))
    for part in parts:  # the module itself comes first, by which the others know their root
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
        for part in parts[1:]:
            part.set_reshard_after_forward(frees_between_passes, recurse=False)


@contextmanager
def without_sync(module: nn.Module) -> Iterator[None]:
    """Within it, gradients are summed up in this process alone."""
    assert isinstance(module, FSDPModule)
    module.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        module.set_requires_gradient_sync(True)


def _parts(module: nn.Module) -> Iterator[FSDPModule]:
    return (part for part in module.modules() if isinstance(part, FSDPModule))


# --- whole tensors and shares -----------------------------------------------------------------


def local(tensor: Tensor) -> Tensor:
    """Return the share of a tensor that this process holds: all of it, if it is not shared out."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(value: Any, *, keeps: bool = True, seen: dict[int, Any] | None = None) -> Any:
    """Return a copy on the CPU of tensors in dicts and lists, put together from all shares.

    All processes must come here. What is the same tensor in two places stays so.

    Args:
        value: Tensors, dicts, lists, and plain values.
        keeps: Whether this process wants the copy; if not it gets tensors without elements.
        seen: Copies of tensors by their `id`; those stay alive in `value` meanwhile.
    """
    seen = {} if seen is None else seen
    if isinstance(value, Tensor):
        if id(value) not in seen:
            full = value.detach()
            full = full.full_tensor() if isinstance(full, DTensor) else full
            seen[id(value)] = full.to("cpu", copy=True) if keeps else torch.empty(0)
        return seen[id(value)]
    if isinstance(value, Mapping):
        return {key: whole(item, keeps=keeps, seen=seen) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item, keeps=keeps, seen=seen) for item in value]
    return value


def share_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return this process's share of a whole tensor, as `other` of the same shape is shared out."""
    if not isinstance(other, DTensor):
        return tensor
    on_device = tensor.to(other.device)
    # Every process has read the whole tensor: each cuts its share out of it.
    return distribute_tensor(on_device, other.device_mesh, other.placements, src_data_rank=None)


@torch.no_grad()
def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy whole weights into a module, sharded or not.

    Raises:
        RuntimeError: Names or shapes differ.
    """
    own = module.state_dict(keep_vars=True)
    is_shape_other = any(own[name].shape != weights[name].shape for name in own.keys() & weights)
    if not is_sharded(module) or own.keys() != weights.keys() or is_shape_other:
        module.load_state_dict(weights)  # which tells in words what differs
        return
    for name, tensor in own.items():
        tensor.copy_(share_like(weights[name], tensor))


def is_sharded(module: nn.Module) -> bool:
    """Return whether some weight of a module is shared out."""
    return any(isinstance(weight, DTensor) for weight in module.parameters())


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Give an optimizer its whole state back, each process its share.

    Raises:
        ValueError: It is that of other weights.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    shares = {
        index: {
            key: share_like(value, weights[index])
            if isinstance(value, Tensor) and value.shape == weights[index].shape
            else value
            for key, value in of_weight.items()
        }
        for index, of_weight in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": shares})
