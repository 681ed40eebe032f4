"""MUX: each thought says a weighted bag of the tokens of its span (arXiv 2607.18264).

The method is added to a host (CODI, Coconut, PCCoT, …). The chain is cut into as many spans as
there are thoughts, and the output head, read at the state that becomes thought i, has to say all
tokens of span i at once, the first one loudest:

    q_i = Σ_j w_j·onehot(token_j)        w_j ∝ γ^j, j = 0 … within the span, Σ_j w_j = 1
    L = L_host + λ·mean over spans i of KL(q_i ‖ softmax(W·h_i / τ))

No decoder, and no vector as long as the vocabulary is made of q: with q(token_j) the sum of the
weights of all its places in the span,

    KL = Σ_j w_j·(log q(token_j) − log softmax(W·h_i / τ)[token_j])

h_i is the last hidden state at the position before thought i, which is the thought itself in
Coconut, and that before the projection in CODI; in a host that refines thoughts in parallel, that
of the last iteration. No code of the paper could be read; what is not told of it
is decided here: thoughts without a span say nothing, and cuts at random are drawn once for each
example, seeded by its id, so that they are the same in each epoch and each run.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from latentcot.curriculum.layout import (
    NO_LABEL,
    EncodedExample,
    LaidOut,
    Layout,
    LayoutRules,
    Rows,
    group_targets,
)
from latentcot.curriculum.views import ALL_AT_ONCE
from latentcot.errors import MethodError
from latentcot.methods.method import Method, Term
from latentcot.methods.registry import host_named
from latentcot.thinking.readings import Readings, logits_of

SPAN_LOSS = "span_loss"


@dataclass(frozen=True)
class MuxSettings:
    """The settings of `mux`; the numbers are those of the paper."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic

    host: str | dict[str, Any] = field(default_factory=lambda: {"name": "codi", "num_latents": 6})
    """The method whose thoughts say spans: its name, or its name and settings. The paper's six
    thoughts, with CODI's term."""
    span_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """λ, of the loss on the spans."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    """γ, by which each token of a span weighs less than the one before it."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """τ, by which logits are divided."""
    cuts: Literal["steps", "random"] = "steps"
    """Where the chain is cut: thought i gets step i, the last one what is left, and where a step
    has c thoughts, each gets an even part of it; or anywhere, which was best in the paper."""


def divergence(logits: Tensor, targets: Tensor, decay: float) -> Tensor:
    """Return the divergence of what is said from the bag of each span: (…,), nats.

    Args:
        logits: (…, V).
        targets: (…, W), token ids of the spans, padded with NO_LABEL; 0 where there are none.
        decay: γ.
    """
    is_token = targets != NO_LABEL
    weights = decay ** torch.arange(targets.shape[-1], device=targets.device, dtype=logits.dtype)
    weights = weights * is_token
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    is_same = targets[..., :, None] == targets[..., None, :]
    bag = (is_same * weights[..., None, :]).sum(-1).where(is_token, 1.0)
    log_probs = logits.gather(-1, targets.clamp(min=0)) - logits.logsumexp(-1, keepdim=True)
    return (weights * (bag.log() - log_probs)).sum(-1)


def cut(tokens: Sequence[int], borders: Sequence[int]) -> Rows:
    """Return what lies between borders that follow one another."""
    return tuple(tuple(tokens[start:end]) for start, end in pairwise(borders))


def spans_of(host: Method, cuts: str) -> Callable[..., Rows]:
    """Return what finds the span of each thought of an example."""
    name, view = host.answers, host.view

    def in_steps(
        example: EncodedExample, layouts: Mapping[str, Layout], rules: LayoutRules
    ) -> Rows:
        size = rules.plan.thoughts_per_step if view.num_latents is None else 1
        most = view.num_latents or rules.plan.num_stages * size
        steps = group_targets(example.steps or (), max(1, most // size))
        parts = [cut(s, [-(-len(s) * k // size) for k in range(size + 1)]) for s in steps]
        return tuple(chain.from_iterable(parts))[: layouts[name].num_latents]

    def anywhere(
        example: EncodedExample, layouts: Mapping[str, Layout], rules: LayoutRules
    ) -> Rows:
        tokens = tuple(chain.from_iterable(example.steps or ()))
        count, num_latents = len(tokens), layouts[name].num_latents
        many = max(1, min(count, num_latents))
        places = random.Random(example.id).sample(range(1, max(1, count)), many - 1)
        spans = cut(tokens, [0, *sorted(places), count])
        return (*spans, *[()] * (num_latents - many))[:num_latents]

    return in_steps if cuts == "steps" else anywhere


def mux(settings: MuxSettings) -> Method:
    """Make the method."""
    host = host_named(settings.host)
    if settings.cuts == "random" and host.view.schedule is not ALL_AT_ONCE:
        raise MethodError(
            f"method.cuts: 'random' needs a host that writes no step at any stage, and "
            f"{host.name} does. Use cuts: steps, or codi, pccot, coconut-no-curriculum as host."
        )
    if settings.span_weight == 0:
        return host

    def total(readings: Readings) -> Tensor:
        states_BND = readings[host.answers].rollout.states_before_latents
        targets_BNW = readings.targets[SPAN_LOSS][:, : states_BND.shape[1]]
        logits = logits_of(readings.model, states_BND) / settings.temperature
        return divergence(logits, targets_BNW, settings.decay).sum()

    def count(laid: LaidOut) -> tuple[int, ...]:
        return (sum(map(bool, laid.targets[SPAN_LOSS])),)

    targets = spans_of(host, settings.cuts)
    term = Term(SPAN_LOSS, total, count, settings.span_weight, targets=targets)
    return host.with_(terms=(term,))
