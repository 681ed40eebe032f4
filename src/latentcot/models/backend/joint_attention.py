"""Attention of a few queries over two sets of keys: many that never change, and a few new ones.

Each thought looks at the keys and values of the whole question. By autograd's rule each thought
would have a gradient for them, as large as they are, that is written out and added to those before
it, though it comes of a single column. Here a thought only notes what its gradient is made of. When
the last one has done so, one larger product gives the sum:

    Σ_i dS_iᵀ Q_i  =  [dS_1; dS_2; …]ᵀ [Q_1; Q_2; …]        and the same for values, with P_iᵀ dO_i

Autograd itself keeps the order: each thought takes in a token that the node of this sum gave out,
so the node runs when all thoughts are done.

Shapes: N batch × heads of keys, R queries that share keys, E width of a head, F fixed columns, M
columns behind them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from latentcot.models.backend.dropout import drop


class Fixed:
    """Keys and values that many calls of `attend_jointly` look at.

    Args:
        keys: (B, heads of keys, F, E).
        values: The same shape.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys_NFE = keys.detach().flatten(0, 1)
        self.values_NFE = values.detach().flatten(0, 1)
        self.notes: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        has_gradient = keys.requires_grad or values.requires_grad
        self.token: Tensor | None = None
        if has_gradient:
            self.token = _Sum.apply(keys, values, self.notes)  # type: ignore[no-untyped-call]


def attend_jointly(
    query: Tensor, fixed: Fixed, keys: Tensor, values: Tensor, mask_B1CK: Tensor, dropout: float
) -> Tensor:
    """Attend over fixed and further keys under one softmax.

    Args:
        query: (B, heads, C, E), scaled.
        fixed: Seen first.
        keys: (B, heads of keys, M, E), seen behind them.
        values: The same shape.
        mask_B1CK: (B, 1, C, F + M), added to the scores.
        dropout: Share of the weights that is dropped.

    Returns:
        (B, heads, C, E).
    """
    # Heads that share keys stand below each other: more rows for the same keys.
    rows_NRE = query.reshape(keys.shape[0] * keys.shape[1], -1, query.shape[-1])
    found: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        rows_NRE, keys.flatten(0, 1), values.flatten(0, 1), fixed.token, fixed, mask_B1CK, dropout
    )
    return found.view(query.shape)


def attend_causally(
    query: Tensor, keys: Tensor, values: Tensor, dropout: float, *, rows: int = 128
) -> Tensor:
    """Attend over equally many keys, each query to those up to its own, and drop weights.

    torch's fused kernels for CPUs drop none, so it would take the whole square of weights for it.
    Here stretches of queries see no key behind them.

    Args:
        query: (B, heads, C, E), scaled.
        keys: (B, heads of keys, C, E).
        values: The same shape.
        dropout: Share of the weights that is dropped.
        rows: Queries of one stretch.

    Returns:
        (B, heads, C, E).
    """
    nothing = Fixed(keys[..., :0, :].detach(), values[..., :0, :].detach())
    column, found = torch.arange(keys.shape[-2], device=keys.device), []
    for start in range(0, keys.shape[-2], rows):
        mine = column[start : start + rows]
        end = start + len(mine)
        can_see = column[:end] <= mine[:, None]
        mask_B1CK = torch.zeros(can_see.shape).masked_fill_(~can_see, -torch.inf)
        mask_B1CK = mask_B1CK.expand(len(keys), 1, -1, -1)
        few = query[..., start:end, :], nothing, keys[..., :end, :], values[..., :end, :]
        found.append(attend_jointly(*few, mask_B1CK, dropout))
    return torch.cat(found, dim=-2)


class _Attention(Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, keys: Tensor, values: Tensor, token: Tensor | None,
        fixed: Fixed, mask: Tensor, dropout: float,
    ) -> Tensor:  # fmt: skip
        scores = torch.cat([query @ fixed.keys_NFE.mT, query @ keys.mT], dim=-1)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        scores.view(mask.shape[0], -1, *mask.shape[2:]).add_(mask)
        P = scores.softmax(-1)
        used, is_kept = drop(P, dropout) if dropout else (P, None)
        used = used.to(query.dtype)
        ctx.save_for_backward(query, keys, values, P, is_kept)
        ctx.fixed, ctx.dropout = fixed, dropout
        num_fixed = fixed.keys_NFE.shape[1]
        of_fixed = used[..., :num_fixed] @ fixed.values_NFE
        return torch.baddbmm(of_fixed, used[..., num_fixed:], values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dO: Tensor) -> Any:
        query, keys, values, P, is_kept = ctx.saved_tensors
        fixed, num_fixed = ctx.fixed, ctx.fixed.keys_NFE.shape[1]
        used, dP = P, torch.cat([dO @ fixed.values_NFE.mT, dO @ values.mT], dim=-1).to(P.dtype)
        if is_kept is not None:
            share = is_kept / (1 - ctx.dropout)
            used, dP = P * share, dP * share
        dS = torch.ops.aten._softmax_backward_data(dP, P, -1, P.dtype).to(query.dtype)
        used = used.to(query.dtype)
        dS_fixed, dS_rest = dS.split([num_fixed, keys.shape[1]], dim=-1)
        dQ = torch.baddbmm(dS_fixed @ fixed.keys_NFE, dS_rest, keys)
        # Not where this backward pass does not come to `_Sum`, asked for other gradients: what was
        # noted for nothing would be added to the sum of a later pass over the same graph.
        node = None if fixed.token is None else fixed.token.grad_fn
        if node is not None and torch._C._will_engine_execute_node(node):
            fixed.notes.append((dS_fixed, query, used[..., :num_fixed], dO))
        dK, dV = dS_rest.mT @ query, used[..., num_fixed:].mT @ dO
        return dQ, dK, dV, None if fixed.token is None else dO.new_zeros(()), None, None, None


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, keys: Tensor, values: Tensor, notes: Any) -> Tensor:
        ctx.notes, ctx.shape = notes, keys.shape
        return keys.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> Any:
        dS, query, P, dO = (torch.cat(tensors, dim=-2) for tensors in zip(*ctx.notes, strict=True))
        ctx.notes.clear()
        return (dS.mT @ query).view(ctx.shape), (P.mT @ dO).view(ctx.shape), None
