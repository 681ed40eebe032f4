"""CODI: one model learns the chain in words, and pulls its thoughts to it (arXiv 2502.21074).

Each example is read twice by the same weights, in one update:

    teacher   question, the chain without its last step, answer
    student   question <bot> z1 … zN <eot> answer              z_k = P(h at the position before)

    L = CE(student) + γ·CE(teacher) + β·L_KD                   (section 3.3, equation 5)
    L_KD = mean over layers l of SmoothL1(student_l, sg teacher_l) ÷ std(sg teacher_l)

where the hidden states are those at the position that predicts the first token of the answer
proper, l goes over the embedding output and all blocks (the last one behind the final norm), and P
is Linear → GELU → Linear → LayerNorm. The last step is left out of the teacher's chain: else its
state would be a copy of that step's result.

Where paper and released code differ, the code is followed. It runs the teacher twice, so that
target and loss have different dropout masks; here one pass serves both. It holds `<bot>` and
`<eot>` frozen at random values; here they are trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentcot.curriculum.layout import LaidOut
from latentcot.curriculum.views import (
    ALL_AT_ONCE,
    THOUGHT,
    WITHOUT_LAST_STEP,
    Latents,
    Sequential,
    View,
)
from latentcot.methods.method import Method, Module, Term
from latentcot.methods.terms import language, measures
from latentcot.models.loading import width_of
from latentcot.thinking.readings import Readings

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
STUDENT, TEACHER = "student", "teacher"


@dataclass(frozen=True)
class CodiSettings:
    """The settings of `codi`; the numbers are those of the released recipe for GPT-2."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic

    num_latents: Annotated[int, Field(ge=1)] = 6
    """Thoughts of every example."""
    teacher_weight: Weight = 1.0
    """γ, of the loss on the chain in words."""
    distillation_weight: Weight = 1.0
    """β, of the distance to the teacher's states: 1 for GPT-2, 20 for Llama."""
    projection: Literal["mlp", "identity"] = "mlp"
    """What a state goes through before it is fed back."""
    spread: Literal["batch", "example", "none"] = "batch"
    """What a distance is divided by: the standard deviation over the micro-batch of one process, as
    in the release, which depends on how an update is cut up; that of each example for itself; 1."""


def make_projection(model: PreTrainedModel) -> nn.Module:
    """Return P, (…, D) → (…, D)."""
    size = width_of(model)
    layers = nn.Linear(size, size), nn.GELU(), nn.Linear(size, size), nn.LayerNorm(size)
    return nn.Sequential(*layers).to(model.dtype)


def project(latent: Any) -> Tensor:
    """Return what is fed back of a state: P(h)."""
    vector: Tensor = latent.modules["projection"](latent.state)
    return vector.to(latent.state.dtype)


def distillation(spread: str, weight: float) -> Term:
    """Return the distance between the states of student and teacher at the answer's anchor."""

    def total(readings: Readings) -> Tensor:
        pairs = zip(readings[STUDENT].rollout.layers, readings[TEACHER].rollout.layers, strict=True)
        layers = []
        for student_BD, teacher_BD in pairs:
            wide = torch.promote_types(teacher_BD.dtype, torch.float32)
            student_BD, target_BD = student_BD.to(wide), teacher_BD.detach().to(wide)
            apart = nn.functional.smooth_l1_loss(student_BD, target_BD, reduction="none")
            if spread == "batch":
                apart = apart / target_BD.std().clamp(min=1e-6)
            elif spread == "example":
                apart = apart / target_BD.std(1, keepdim=True).clamp(min=1e-6)
            layers.append(apart.mean(1).sum())  # the mean over examples is that of the term
        return torch.stack(layers).mean()

    return Term("distillation", total, count_one, weight, anchored=(STUDENT, TEACHER))


def count_one(laid: LaidOut) -> tuple[int, ...]:
    """Count examples."""
    return (1,)


def self_distillation(
    name: str, latents: Latents, settings: CodiSettings, modules: Mapping[str, Module]
) -> Method:
    """Return a method of student and teacher, whatever fills the student's latent positions."""
    terms = [language(STUDENT)]
    if settings.teacher_weight:
        terms.append(language(TEACHER, settings.teacher_weight, "teacher_loss"))
    if settings.distillation_weight:
        terms.append(distillation(settings.spread, settings.distillation_weight))
    student = View(ALL_AT_ONCE, latents, True, settings.num_latents)
    views = {STUDENT: student, TEACHER: View(WITHOUT_LAST_STEP)}
    if len(terms) == 1:
        del views[TEACHER]
    return Method(name, views, (*terms, *measures(STUDENT)), modules, answers=STUDENT)


def codi(settings: CodiSettings) -> Method:
    """Make the method."""
    if settings.projection == "identity":
        return self_distillation("codi", THOUGHT, settings, {})
    modules = {"projection": Module(make_projection)}
    return self_distillation("codi", Sequential(project, "projected states"), settings, modules)
