"""The gradient of a weight as one product for all passes of an update.

By autograd's rule each thought would have a gradient for every weight, as large as the weight, that
is written out and added to those before it, though it comes of one column a row. Here a thought
only notes what its gradient is made of. The first pass, the question, whose backward pass comes
last, makes one sum of all of them:

    Σ_i X_iᵀ dY_i  =  [X_1; X_2; …]ᵀ [dY_1; dY_2; …]

Autograd itself keeps the order: each later pass takes in a token that the first one gave out. Under
autocast the weight is put into the lower precision once, for all passes of the update, and its
gradient is rounded once.

Shapes: R rows of one pass, I inputs, O outputs.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from latentcot.models.backend.split_cache import in_autocast, patched

LARGE = 2**16
"""Numbers of a weight from which on its gradient costs more than a call from Python does: at d = 64
an update would take 7 % longer, at d = 256 it is a tie, at d = 768 it is 7 % shorter."""


@contextmanager
def joint_weight_gradients(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Within it, each linear layer of some blocks has one gradient for all of its calls.

    For what is read within it and then learned from, by one backward pass. The layers must be
    whole: not sharded, and not run a second time for their gradients.
    """
    with ExitStack() as patches:
        for module in chain.from_iterable(block.modules() for block in blocks):
            # Not what is derived from them: it may compute something else.
            layer: Any = module if type(module) in (nn.Linear, Conv1D) else None
            if layer is not None and layer.weight.requires_grad and layer.weight.numel() >= LARGE:
                patches.enter_context(patched(layer, _Joint(layer)))
        yield


class _Joint:
    """The forward of a linear layer, in all passes of one update."""

    def __init__(self, layer: Any) -> None:
        self.forward, self.gradient = layer.forward, _Gradient(layer)
        self.token: Tensor | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        if not torch.is_grad_enabled():  # of a target, say: no later pass may depend on this one
            target: Tensor = self.forward(inputs)
            return target
        rows_RI, gradient = in_autocast(inputs).flatten(0, -2), self.gradient
        outputs: Tensor
        with torch.autocast(inputs.device.type, enabled=False):
            if self.token is None:
                outputs, self.token = _First.apply(  # type: ignore[no-untyped-call]
                    rows_RI, gradient.weight, gradient.bias, gradient
                )
            else:
                outputs = _Later.apply(  # type: ignore[no-untyped-call]
                    rows_RI, self.token, gradient
                )
        return outputs.view(*inputs.shape[:-1], -1)


class _Gradient:
    """What all passes note of one layer's gradient, and the layer's weights as they multiply them.

    Autograd's nodes hold it. So it must not hold the token, which holds a node: neither Python nor
    torch would ever free such a ring, and each update would leave its weights behind.
    """

    def __init__(self, layer: Any) -> None:
        self.weight, self.bias = layer.weight, layer.bias
        self.is_linear = type(layer) is nn.Linear  # (O, I); Conv1D has (I, O)
        self.weight_IO: Any = None  # both in the precision of the update
        self.bias_O: Any = None
        self.notes: list[tuple[Tensor, Tensor]] = []

    def multiply(self, rows_RI: Tensor) -> Tensor:
        """Return (R, O)."""
        if self.bias_O is None:
            product: Tensor = rows_RI @ self.weight_IO
            return product
        return torch.addmm(self.bias_O, rows_RI, self.weight_IO)

    def total(self) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Return that of weight and bias, summed over all notes."""
        if not self.notes:
            return None, None
        # The first pass notes last. Its rows are many: they are not copied beside the others'.
        *few, (rows_RI, d_RO) = self.notes
        self.notes = []
        left, right = (d_RO, rows_RI) if self.is_linear else (rows_RI, d_RO)
        d_weight, d_bias_O = left.mT @ right, d_RO.sum(0)
        if few:
            rows_RI, d_RO = (torch.cat(tensors) for tensors in zip(*few, strict=True))
            left, right = (d_RO, rows_RI) if self.is_linear else (rows_RI, d_RO)
            d_weight.addmm_(left.mT, right)
            d_bias_O = d_bias_O + d_RO.sum(0)
        return d_weight.to(self.weight.dtype), d_bias_O.to(self.weight.dtype)


class _First(Function):
    @staticmethod
    def forward(
        ctx: Any, rows_RI: Tensor, weight: Tensor, bias: Tensor | None, gradient: _Gradient
    ) -> tuple[Tensor, Tensor]:
        lower = weight.to(rows_RI.dtype)
        gradient.weight_IO = lower.mT if gradient.is_linear else lower
        gradient.bias_O = None if bias is None else bias.to(rows_RI.dtype)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(rows_RI)
        ctx.gradient = gradient
        return gradient.multiply(rows_RI), rows_RI.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_RO: Tensor | None, _: Tensor | None) -> Any:
        gradient: _Gradient = ctx.gradient
        if d_RO is not None:  # the loss may look at later passes alone
            gradient.notes.append((ctx.saved_tensors[0], d_RO))
        d_weight, d_bias = gradient.total()
        d_RI = None if d_RO is None else d_RO @ gradient.weight_IO.mT
        return d_RI, d_weight, None if gradient.bias is None else d_bias, None


class _Later(Function):
    @staticmethod
    def forward(ctx: Any, rows_RI: Tensor, token: Tensor, gradient: _Gradient) -> Tensor:
        ctx.save_for_backward(rows_RI)
        ctx.gradient = gradient
        return gradient.multiply(rows_RI)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_RO: Tensor) -> Any:
        ctx.gradient.notes.append((ctx.saved_tensors[0], d_RO))
        return d_RO @ ctx.gradient.weight_IO.mT, None, None
