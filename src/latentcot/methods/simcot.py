"""SIM-CoT: while it learns, a decoder must spell each step from its thoughts (arXiv 2509.20317).

The method is added to a host (Coconut, CODI, PCCoT, …). Thoughts k·c … k·c + c − 1, as they are fed
into their positions, are the prefix from which a second language model writes step k; it never sees
the question:

    [z_kc … z_kc+c−1, tokens of step k, <eos>]        L = L_host + λ·mean over k of CE(step k)
                                                                          (section 3.2, equation 4)

The decoder is a copy of the model before adapters, trained with it, and in the training state
alone: answers do not need it. Its words are looked up in the host's table, without gradient. Steps
beyond the last group are joined into it; where a chain is shorter, the groups left over say
nothing. The released training script never passes these targets on, so that its loss is never
computed; what is built here is what the paper describes. It runs the decoder without dropout; here
it has that of the model.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentcot.curriculum.layout import (
    NO_LABEL,
    EncodedExample,
    LaidOut,
    Layout,
    LayoutRules,
    Rows,
    group_targets,
)
from latentcot.methods.method import Method, Module, Term
from latentcot.methods.registry import host_named
from latentcot.thinking.passes import Passes
from latentcot.thinking.readings import Readings, logits_of

DECODER = "decoder"
SPELLING = "spelling"


@dataclass(frozen=True)
class SimcotSettings:
    """The settings of `simcot`."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic

    host: str | dict[str, Any] = "coconut"
    """The method whose thoughts are spelled: its name, or its name and settings."""
    spelling_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """λ, of the decoder's loss."""
    thoughts_per_group: Annotated[int, Field(ge=1)] | None = None
    """Thoughts that spell one step together; those of a step in the curriculum if empty, and 1
    where the host has a number of thoughts of its own."""


def make_decoder(model: PreTrainedModel) -> nn.Module:
    """Return a copy of the model; a table of its own that nobody reads is frozen."""
    decoder = copy.deepcopy(model)
    table = decoder.get_input_embeddings().get_parameter("weight")
    if table is not decoder.get_output_embeddings().get_parameter("weight"):
        table.requires_grad_(False)
    return decoder


def spelled(readings: Readings, view: str, size: int) -> Tensor:
    """Return the decoder's summed loss for each group of so many thoughts: (G,), nats."""
    decoder: Any = readings.modules[DECODER]
    targets_BGW = readings.targets[SPELLING]
    inputs_BND = readings[view].rollout.latent_inputs
    num_rows, num_groups, width = targets_BGW.shape
    missing = num_groups * size - inputs_BND.shape[1]  # below 0 where some belong to no group
    inputs_BND = nn.functional.pad(inputs_BND, (0, 0, 0, missing))
    prefix = inputs_BND.reshape(num_rows * num_groups, size, -1)
    targets = targets_BGW.reshape(num_rows * num_groups, width)
    is_label = targets != NO_LABEL
    table = readings.model.get_input_embeddings()
    words = table(targets.clamp(min=0)).detach().to(prefix.dtype)
    is_real = torch.cat([torch.ones_like(is_label[:, :1]).expand(-1, size), is_label], dim=1)
    passes = Passes(decoder, len(targets), saves_memory=readings.saves_memory)
    read = passes.read(torch.cat([prefix, words], dim=1), is_real)
    logits = logits_of(decoder, read[:, size - 1 : -1])
    nll = nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=NO_LABEL, reduction="none"
    )
    return nll.view(num_rows, num_groups, width).sum((0, 2))


def spelling(host: Method, group_size: int | None, weight: float) -> Term:
    """Return the term that a decoder adds to a host."""
    name, view = host.answers, host.view
    group_size = group_size or (None if view.num_latents is None else 1)

    def total(readings: Readings) -> Tensor:
        return spelled(readings, name, group_size or readings.plan.thoughts_per_step)

    def targets(example: EncodedExample, layouts: Mapping[str, Layout], rules: LayoutRules) -> Rows:
        plan = rules.plan
        size = group_size or plan.thoughts_per_step
        # What is left over goes into the last group that there ever is, not the last one at hand.
        most = view.num_latents or plan.num_stages * plan.thoughts_per_step
        groups = group_targets(example.steps or (), max(1, most // size))
        present = groups[: layouts[name].num_latents // size]
        return tuple((*group, rules.special_tokens.eos) if group else () for group in present)

    def count(laid: LaidOut) -> tuple[int, ...]:
        return tuple(map(len, laid.targets[SPELLING]))

    return Term(SPELLING, total, count, weight, targets=targets)


def simcot(settings: SimcotSettings) -> Method:
    """Make the method."""
    host = host_named(settings.host)
    if settings.spelling_weight == 0:
        return host
    term = spelling(host, settings.thoughts_per_group, settings.spelling_weight)
    return host.with_(terms=(term,), modules={DECODER: Module(make_decoder, is_kept=False)})
