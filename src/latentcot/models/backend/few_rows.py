"""Products of few rows with a weight, where a CPU's library leaves a core and the memory idle.

A word of one text multiplies a single row with each weight, and reading the weights is all that it
costs. MKL does that on one core only, at a third of what the memory gives (AMD EPYC, two cores).
The same product as a batch of smaller ones takes all cores: the outputs of a linear layer in parts,
next to each other; the inputs of GPT-2's layers in parts, whose products are then summed.

Shapes: R rows, I inputs, O outputs, P parts.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from latentcot.models.backend.split_cache import patched

MOST_ROWS = 4
"""From 8 rows on there is nothing to gain (0.6 to 1.3 times as fast, at widths of 512 to 1,024)."""
LARGE = 2**18
"""Numbers of a weight, 512 × 512: at a width of 256 a call from Python costs more than it gains."""
PARTS = 8


@contextmanager
def few_rows_in_parts(model: nn.Module) -> Iterator[None]:
    """Within it, the linear layers of a model on a CPU multiply few rows in parts.

    In float32, and where nothing is learned; all else they compute as before.
    """
    # Not what is derived from them: it may compute something else. One core alone sums no faster.
    kinds = (nn.Linear, Conv1D) if torch.get_num_threads() > 1 else (nn.Linear,)
    with ExitStack() as patches:
        for layer in model.modules():
            if type(layer) in kinds:
                weight: Tensor = layer.get_parameter("weight")
                is_wide = weight.numel() >= LARGE and min(weight.shape) >= PARTS
                if is_wide and weight.device.type == "cpu" and weight.dtype == torch.float32:
                    patches.enter_context(patched(layer, _InParts(layer)))
        yield


class _InParts:
    """The forward of a linear layer, which looks at the number of rows."""

    def __init__(self, layer: Any) -> None:
        self.layer, self.forward = layer, layer.forward

    def __call__(self, inputs: Tensor) -> Tensor:
        is_few = inputs.numel() <= MOST_ROWS * inputs.shape[-1]
        is_low = inputs.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
        if not is_few or is_low or torch.is_grad_enabled():
            whole: Tensor = self.forward(inputs)
            return whole
        weight, rows_RI = self.layer.weight, inputs.reshape(-1, inputs.shape[-1])
        multiply = by_outputs if type(self.layer) is nn.Linear else by_inputs
        outputs = multiply(rows_RI, weight)
        if self.layer.bias is not None:
            outputs = outputs + self.layer.bias
        return outputs.view(*inputs.shape[:-1], -1)


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
