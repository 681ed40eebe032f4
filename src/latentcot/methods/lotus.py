"""LOTUS: blocks of positions, refined in a loop, each of which says its step (arXiv 2606.31779).

    question <bot> [c positions] × K <eot> steps left, answer          K blocks at stage K

    h⁰ = f(E)        hᵗ = f(E + hᵗ⁻¹)      t = 1 … R                   (section 3)
    L = CE(language) + λ·CE(step)

E is the embedding of `<pause>` in every position, and hᵗ the last hidden state at the position
itself, over the cache of question and `<bot>`: nothing moves on by one, as it does in PCCoT. The
curriculum is Coconut's, with c = `curriculum.thoughts_per_step`: one step more becomes a block at
each stage. After the last iteration, block i has to say the tokens of step i through the model's
own output head, one a position: a step is cut to c tokens, and where it is shorter the rest of its
block says nothing. CE(step) is the mean over all tokens that are said. There is no teacher, no
decoder, and nothing to learn beside the model. R + 1 passes: the first one reads h⁰ along with the
question, and the language rides along with the last iteration.

Where paper and released code differ, the code is followed. The paper learns an E for each position;
the code, one for all. Token j of a block is read at the position BEFORE position j, as in any
language model, so the first token of block 1 comes from `<bot>`, which no iteration changes. R of
paper and code is the number of blocks at each stage; here it is one number, the one of the last
stage, which answers: what fills positions does not know how many make a block.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from latentcot.curriculum.layout import (
    EncodedExample,
    LaidOut,
    Layout,
    LayoutRules,
    Rows,
    group_targets,
)
from latentcot.curriculum.views import STEP_PER_STAGE, Parallel, View
from latentcot.methods.method import Method, Term
from latentcot.methods.terms import language, measures
from latentcot.thinking.readings import Readings

ANSWER = "answer"
STEP_LOSS = "step_loss"


@dataclass(frozen=True)
class LotusSettings:
    """The settings of `lotus`; the numbers are those of the released recipe for GPT-2."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by pydantic

    iterations: Annotated[int, Field(ge=0)] = 6
    """R, how often all blocks are refined: 6 in its last stage, which has as many blocks."""
    step_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.05
    """λ, of the loss on the steps: 0.05 on equations, 0.033 on chains in natural language."""


def said(readings: Readings) -> Tensor:
    """Return the summed loss of all tokens that positions have to say: (), nats."""
    return readings[ANSWER].nll_of_latents(readings.targets[STEP_LOSS][..., 0])


def tokens_to_say(
    example: EncodedExample, layouts: Mapping[str, Layout], rules: LayoutRules
) -> Rows:
    """Return what each latent position says: a token, or nothing."""
    size = rules.plan.thoughts_per_step
    num_blocks = layouts[ANSWER].num_latents // size
    steps = group_targets(example.steps or (), num_blocks, joins_rest=False, width=size)
    return tuple(step[number : number + 1] for step in steps for number in range(size))


def count_tokens(laid: LaidOut) -> tuple[int, ...]:
    """Count the tokens that positions have to say."""
    return (sum(map(len, laid.targets[STEP_LOSS])),)


def looped(latent: Any) -> Tensor:
    """Return what is read next at a position, from its own state: E + hᵗ⁻¹."""
    vector: Tensor = latent.embed("pause") + latent.state
    return vector


def lotus(settings: LotusSettings) -> Method:
    """Make the method."""
    blocks = Parallel(
        settings.iterations,
        looped,
        summary="<pause> embeddings plus their own states, all refined at once",
        is_in_place=True,
    )
    terms = [language(ANSWER)]
    if settings.step_weight:
        weight = settings.step_weight
        terms.append(Term(STEP_LOSS, said, count_tokens, weight, targets=tokens_to_say))
    view = View(STEP_PER_STAGE, blocks, has_special_tokens=True)
    return Method("lotus", {ANSWER: view}, (*terms, *measures(ANSWER)))
