"""CoLaR: each thought stands for r consecutive tokens of the chain (arXiv 2505.16552).

    question, r × <pause> | z1 … zN | answer           N = ⌈tokens of the chain ÷ r⌉

In training the chain is known, so that all thoughts are read in one pass (section 3.2):

    z_k = Σ e(token) ÷ √n over the n ≤ r tokens of group k         e: the embedding table

and the state before z_k learns two things of group k (equations 3 and 4): through the output head
one of its tokens, drawn anew each update, and through a head of its own the vector itself,

    L = CE(one token of each group, answer) + λ·mean over groups of |μ + σ·ε − sg z_k ÷ s|² ÷ D

with μ and log σ from Linear → GELU → Linear → LayerNorm → Linear, ε ~ N(0, 1), and s the standard
deviation of the table. r is drawn once for each update. When it answers, z_k = μ·s, and latent
mode ends where the first token of the answer is the most probable one, or after so many thoughts.

The released code tells r in words ("Thinking speed: 2") and draws thoughts and words at random;
here `<pause>` tokens tell it, and answers are greedy: with this loss, σ goes to 0 anyway. Its
reinforcement learning that follows is left out.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentcot.curriculum.layout import (
    EncodedExample,
    LaidOut,
    Layout,
    LayoutRules,
    Rows,
)
from latentcot.curriculum.views import ALL_AT_ONCE, Compression, Sequential, View
from latentcot.methods.method import Method, Module, Term
from latentcot.methods.terms import measures, num_labels
from latentcot.models.loading import width_of
from latentcot.thinking.readings import Readings

VIEW, HEAD = "answer", "head"


@dataclass(frozen=True)
class ColarSettings:
    """The settings of `colar`; the numbers are those of the released recipe."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic

    most_rate: Annotated[int, Field(ge=1, le=1000)] = 5
    """In training, r is drawn from 1 … this number."""
    rate: Annotated[int, Field(ge=1, le=1000)] = 2
    """The r of answers: 2 is slow and good, 5 fast."""
    max_thoughts: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    """Thoughts of an answer at most."""
    latent_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """λ, of the distance to the vector of the next group."""


def compressed(embeds: Tensor, is_real: Tensor) -> Tensor:
    """Return the sum of each group's embeddings, divided by the root of their number: (…, D).

    Args:
        embeds: (…, W, D).
        is_real: (…, W). Of a group without tokens the sum is 0.
    """
    count = is_real.sum(-1, keepdim=True).clamp(min=1)
    return (embeds * is_real[..., None]).sum(-2) / count.to(embeds.dtype).sqrt()


class Head(nn.Module):
    """What the next thought will be: a Gaussian, in standard deviations of the embedding table."""

    scale: Tensor

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        size = width_of(model)
        layers = nn.Linear(size, size), nn.GELU(), nn.Linear(size, size), nn.LayerNorm(size)
        self.trunk = nn.Sequential(*layers)
        self.mean, self.log_std = nn.Linear(size, size), nn.Linear(size, size)
        table = model.get_input_embeddings().get_parameter("weight")
        self.register_buffer("scale", table.detach().float().std())

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log standard deviations, (…, D) each, of states (…, D)."""
        inner = self.trunk(states)
        return self.mean(inner), self.log_std(inner)


def next_thought(latent: Any) -> Tensor:
    """Return what goes into a latent position of an answer: the mean."""
    head = latent.modules[HEAD]
    mean, _ = head(latent.state)
    thought: Tensor = mean * head.scale
    return thought.to(latent.state.dtype)


def said(readings: Readings) -> Tensor:
    """Return the loss on one token of each group and on the answer, summed: nats."""
    reading = readings[VIEW]
    return reading.nll.sum() + reading.nll_of_latents(readings.targets["loss"][..., 0])


def said_targets(
    example: EncodedExample, layouts: Mapping[str, Layout], rules: LayoutRules
) -> Rows:
    """Draw one token of each group, the same whatever stands beside the example."""
    draw = random.Random(f"{rules.seed}/{example.id}")
    return tuple((draw.choice(group),) for group in layouts[VIEW].groups or ())


def apart(readings: Readings) -> Tensor:
    """Return the distance of a drawn thought from the vector of its group, summed over groups.

    In evaluation mode, that of the mean.
    """
    head: Any = readings.modules[HEAD]
    rollout = readings[VIEW].rollout
    mean, log_std = head(rollout.states_before_latents)
    if head.training:
        mean = mean + log_std.exp() * torch.randn_like(mean)
    wide = torch.promote_types(mean.dtype, torch.float32)
    target = rollout.latent_inputs.detach().to(wide) / head.scale
    number = torch.arange(mean.shape[1], device=mean.device)
    is_group = number < rollout.num_latents_B[:, None]
    squared: Tensor = (mean.to(wide) - target).square().mean(-1)
    return (squared * is_group).sum()


def num_said(laid: LaidOut) -> tuple[int, ...]:
    """Count groups and labelled tokens."""
    return (laid.layouts[VIEW].num_latents + num_labels(VIEW)(laid)[0],)


def colar(settings: ColarSettings) -> Method:
    """Make the method."""
    view = View(
        ALL_AT_ONCE,
        Sequential(next_thought, "compressed tokens of the chain", given=compressed),
        num_latents=settings.max_thoughts,
        compression=Compression(tuple(range(1, settings.most_rate + 1)), settings.rate),
    )
    terms = (
        Term("loss", said, num_said, targets=said_targets),
        Term(
            "latent_loss",
            apart,
            lambda laid: (laid.layouts[VIEW].num_latents,),
            settings.latent_weight,
        ),
        *measures(VIEW),
    )
    modules = {HEAD: Module(lambda model: Head(model).to(model.dtype))}
    return Method("colar", {VIEW: view}, terms, modules)
