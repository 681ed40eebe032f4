"""Products of few rows with a weight, where a CPU's library leaves a core and the memory idle.

A word of one text multiplies a single row with each weight, and reading the weights is all that it
costs. On an AMD processor MKL does that on one core only, at a third of what the memory gives. On
an Intel one it takes all cores, and parts would cost more than they gain (the output head of GPT-2
12 ms in place of 5).
The same product as a batch of smaller ones takes all cores: the outputs of a linear layer in parts,
next to each other; the inputs of GPT-2's layers in parts, whose products are then summed.

Shapes: R rows, I inputs, O outputs, P parts.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from latentcot.models.backend.split_cache import patched
from latentcot.utils.processor import processor_name

MOST_ROWS = 4
"""From 8 rows on there is nothing to gain (0.6 to 1.3 times as fast, at widths of 512 to 1,024)."""
LARGE = 2**18
"""Numbers of a weight, 512 × 512: at a width of 256 a call from Python costs more than it gains."""
PARTS = 8


@contextmanager
def few_rows_in_parts(backbone: nn.Module, num_rows: int) -> Iterator[None]:
    """Within it, the linear layers of a backbone multiply so many rows by `multiplied`.

    Whoever enters holds the backbone's lock: its layers are patched.
    """
    with ExitStack() as patches:
        if _pays(num_rows):
            for layer in backbone.modules():
                if _takes_parts(layer):
                    do = partial(multiplied, layer, whole=layer.forward)
                    patches.enter_context(patched(layer, do))
        yield


def multiplied(layer: Any, inputs: Tensor, whole: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what a layer gives: of few rows in parts, of others what `whole` gives.

    In parts are the products in float32 from which nothing is learned.
    """
    is_few = _pays(inputs.numel() // inputs.shape[-1])
    is_low = inputs.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    if not is_few or is_low or not _takes_parts(layer):
        return whole(inputs)
    rows_RI = inputs.reshape(-1, inputs.shape[-1])
    outputs = (by_outputs if type(layer) is nn.Linear else by_inputs)(rows_RI, layer.weight)
    if layer.bias is not None:
        outputs = outputs + layer.bias
    return outputs.view(*inputs.shape[:-1], -1)


def is_amd() -> bool:
    """Return whether this is a processor on which parts have been measured to gain."""
    return "AMD" in processor_name()


def _pays(num_rows: int) -> bool:
    return num_rows <= MOST_ROWS and not torch.is_grad_enabled() and is_amd()


def _takes_parts(layer: nn.Module) -> bool:
    # Not what is derived from them: it may compute something else. One core alone sums no faster.
    is_known = type(layer) is nn.Linear or (type(layer) is Conv1D and torch.get_num_threads() > 1)
    if not is_known:
        return False
    weight = layer.get_parameter("weight")
    is_wide = weight.numel() >= LARGE and min(weight.shape) >= PARTS
    return is_wide and weight.device.type == "cpu" and weight.dtype == torch.float32


def by_outputs(rows_RI: Tensor, weight_OI: Tensor) -> Tensor:
    """Return (R, O), the outputs of `nn.Linear` without its bias."""
    num_outputs, num_inputs = weight_OI.shape
    even = num_outputs - num_outputs % PARTS
    parts_PoI = weight_OI[:even].view(PARTS, -1, num_inputs)
    # Not by `@`, which would make one product of them again.
    found_OR = torch.bmm(parts_PoI, rows_RI.mT.expand(PARTS, -1, -1)).view(even, -1)
    if even < num_outputs:
        found_OR = torch.cat([found_OR, weight_OI[even:] @ rows_RI.mT])
    return found_OR.mT.contiguous()


def by_inputs(rows_RI: Tensor, weight_IO: Tensor) -> Tensor:
    """Return (R, O), the outputs of `Conv1D` without its bias."""
    num_inputs = len(weight_IO)
    even = num_inputs - num_inputs % PARTS
    rows_PRi = rows_RI[:, :even].reshape(len(rows_RI), PARTS, -1).transpose(0, 1)
    found_RO = (rows_PRi @ weight_IO[:even].view(PARTS, even // PARTS, -1)).sum(0)
    if even < num_inputs:
        found_RO = torch.addmm(found_RO, rows_RI[:, even:], weight_IO[even:])
    return found_RO
