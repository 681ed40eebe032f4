"""KaVa: thoughts are also pulled to what the teacher keeps of its chain (arXiv 2510.02312).

PCCoT's student and CODI's teacher, and a further distance, for each block and each head of keys:

    L = CE(student) + γ·CE(teacher) + α1·L_KD + α2·L_KV
    L_KV = 1/(2N)·(|K_student − sg K̃| + |V_student − sg Ṽ|)

K_student, V_student are keys and values of the N latent positions. K̃, Ṽ are those of N tokens of
the teacher's chain, in their order: the ones with the highest λ·I + (1 − λ)·R, where

    I_j = mean over the answer's tokens of the most that any query of the head looks at j
    R_j = softmax over the chain of −(mean cosine of key j with all keys of the chain)

We found no code. What is left open is settled here so: keys are those of the cache, behind rotary
positions; of queries that share keys the largest attention is taken token by token, before the
mean; attention is that over all that the teacher sees, as it is; the answer's tokens are those of
the answer with its opening words, without the end of text; |·| is a mean over heads, positions and
width, then over blocks. Of a chain with fewer than N tokens all are kept, for as many of the first
thoughts, and N is their number; an example with none does not count. The target is read once more,
without gradient and without dropout (`thinking/attention.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from latentcot.curriculum.layout import NO_LABEL, EncodedExample, LaidOut, Layout, LayoutRules, Rows
from latentcot.curriculum.views import WITHOUT_LAST_STEP, View
from latentcot.methods.codi import STUDENT, TEACHER, Weight
from latentcot.methods.method import Method, Term
from latentcot.methods.pccot import PccotSettings, pccot
from latentcot.thinking.attention import Attention, read_attention
from latentcot.thinking.readings import Readings

CACHE = "cache_distillation"
APART = {"smooth-l1": nn.functional.smooth_l1_loss, "mse": nn.functional.mse_loss}


@dataclass(frozen=True)
class KavaSettings(PccotSettings):
    """The settings of `kava`; numbers are those for Llama-3.2-1B and equations (table 6), with
    PCCoT's 24 thoughts and 3 iterations. `spread` divides both distances."""

    distillation_weight: Weight = 10.0
    """α1, of CODI's distance: 10 for 1B and Qwen2.5-0.5B, 20 for 3B."""
    cache_weight: Weight = 1.0
    """α2, of the distance to the teacher's cache: 1, and 2 for 3B."""
    importance_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """λ, what attention counts beside redundancy when a chain is compressed: 0.1."""
    distance: Literal["smooth-l1", "mse"] = "smooth-l1"
    """Between keys, and between values: SmoothL1 for equations, squares for chains in words."""


def compressed(
    read: Attention, lengths_B: Tensor, ends_B: Tensor, most: int, share: float
) -> tuple[Tensor, Tensor]:
    """Return keys and values of the tokens with the highest scores, in their order.

    Args:
        read: What a block keeps of chain and answer: T tokens.
        lengths_B: How many tokens of a row are chain; they come first.
        ends_B: Where the answer behind it ends.
        most: M, how many are kept; at most T.
        share: λ.

    Returns:
        (B, heads of keys, M, E) each, no longer in the precision of autocast; of no meaning behind
        the end of a chain with fewer than M tokens.
    """
    wide = torch.promote_types(read.keys.dtype, torch.float32)
    keys, values = read.keys.to(wide), read.values.to(wide)
    token = torch.arange(keys.shape[2], device=keys.device)
    is_chain = (token < lengths_B[:, None])[:, None]  # (B, 1, T)
    is_answer = (token < ends_B[:, None])[:, None] & ~is_chain
    # Queries that share keys stand beside each other.
    weights = read.weights.reshape(*keys.shape[:2], -1, *read.weights.shape[2:]).amax(2).to(wide)
    num_answer = is_answer.sum(-1, keepdim=True).clamp(min=1)
    importance = (weights * is_answer[..., None]).sum(2) / num_answer
    unit = nn.functional.normalize(keys, dim=-1) * is_chain[..., None]
    cosine = (unit * unit.sum(2, keepdim=True)).sum(-1) / lengths_B[:, None, None].clamp(min=1)
    redundancy = (-cosine).masked_fill(~is_chain, torch.finfo(wide).min).softmax(-1)
    score = share * importance + (1 - share) * redundancy
    best = score.masked_fill(~is_chain, -torch.inf).topk(most).indices
    # What is no chain is only there where a chain is short, and stands behind all that is.
    at = best.sort(-1).values[..., None].expand(-1, -1, -1, keys.shape[-1])
    return keys.gather(2, at), values.gather(2, at)


def apart(own: Tensor, target: Tensor, is_kept: Tensor, settings: KavaSettings) -> Tensor:
    """Return the mean distance over heads, positions and width, summed over rows: ().

    Args:
        own: (B, heads of keys, M, E), of the student.
        target: The same, of the teacher.
        is_kept: (B, 1, M, 1), which of the M there are.
        settings: What is a distance, and what it is divided by.
    """
    each = APART[settings.distance](own.to(target.dtype), target, reduction="none") * is_kept
    if settings.spread != "none":
        over = (0, 1, 2, 3) if settings.spread == "batch" else (1, 2, 3)
        share = is_kept.expand_as(target)
        count = share.sum(over, keepdim=True)
        off = target - (target * share).sum(over, keepdim=True) / count.clamp(min=1)
        variance = (off.square() * share).sum(over, keepdim=True) / (count - 1).clamp(min=1)
        each = each / variance.sqrt().clamp(min=1e-6)
    count = is_kept.sum((1, 2, 3)).clamp(min=1) * own.shape[1] * own.shape[3]
    return (each.sum((1, 2, 3)) / count).sum()


def cache_distillation(settings: KavaSettings) -> Term:
    """Return the distance between what is cached of the thoughts and of the teacher's chain."""

    def total(readings: Readings) -> Tensor:
        student, batch = readings[STUDENT].rollout, readings[TEACHER].batch
        lengths_B = (readings.targets[CACHE][:, 0] != NO_LABEL).sum(1)
        most = min(student.columns.shape[1], batch.suffix.shape[1])
        token = torch.arange(most, device=lengths_B.device)
        is_kept = (token < lengths_B[:, None])[:, None, :, None]
        cached = student.passes.cached(student.columns[:, :most])
        found = []
        for own, read in zip(cached, read_attention(readings.model, batch), strict=True):
            kept = compressed(
                read, lengths_B, batch.suffix_lengths - 1, most, settings.importance_share
            )
            pairs = zip(own, kept, strict=True)
            found += [apart(mine, target, is_kept, settings) for mine, target in pairs]
        return torch.stack(found).mean()

    def chain(example: EncodedExample, layouts: Mapping[str, Layout], rules: LayoutRules) -> Rows:
        words = layouts[TEACHER].suffix
        return (words[: len(words) - len(example.answer) - 1],)

    def count(laid: LaidOut) -> tuple[int, ...]:
        return (int(laid.targets[CACHE] != ((),)),)

    return Term(CACHE, total, count, settings.cache_weight, targets=chain)


def kava(settings: KavaSettings) -> Method:
    """Make the method."""
    host = pccot(settings)
    if settings.cache_weight == 0:
        return host
    views = {**host.views, TEACHER: View(WITHOUT_LAST_STEP)}
    return host.with_(terms=(cache_distillation(settings),), views=views)
