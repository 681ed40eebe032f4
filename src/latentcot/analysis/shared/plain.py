"""Questions read in the plainest way, so that what may be seen, and what is kept, can be changed.

No cache and no split: for each latent position and each word the whole sequence is read again, by
transformers' own eager attention with a mask of our own. Slow, for small models.

Shapes: B batch, K positions of the longest row, L blocks, N most latent positions, D hidden size.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentcot.analysis.shared.latents import Chains, update_of_latents
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.models.backend.split_cache import additive, attends_by, blocks_of
from latentcot.models.loading import max_positions
from latentcot.models.ways import backbone_of, lock_of
from latentcot.tasks import extract_answer
from latentcot.thinking.readings import logits_of
from latentcot.thinking.think import Latent


@dataclass(frozen=True, slots=True)
class Span:
    """Where the latent positions of a question stand: `num` of them, from `start` on."""

    question: int
    start: int
    num: int


Hidden = Callable[[Span], tuple[int, int | None, int] | None]
"""Where a row's latent positions stand → the first position that looks, the one behind the last
that does (None: on to the end), and the one that they may not see; None for nothing."""


@dataclass(frozen=True, slots=True)
class Patch:
    """What is put in place of what a block gives.

    Attributes:
        block: Its number, from 0.
        latent: At this latent position, from 0.
        values: (Q, D), by question.
    """

    block: int
    latent: int
    values: Tensor


@dataclass(frozen=True, slots=True)
class Plain:
    """What was read.

    Attributes:
        answers: Of each question.
        blocks: (L, Q, N, D). What each block gave at each latent position; zero behind a question's
            last one.
    """

    answers: list[str]
    blocks: Tensor


@torch.no_grad()
def read_plainly(
    subject: Subject,
    chains: Chains,
    *,
    hidden: Hidden | None = None,
    patch: Patch | None = None,
    on_progress: Progress = no_progress,
) -> Plain:
    """Think about and answer every question of a subject of `with_latents`, greedily.

    Args:
        subject: The model and the questions.
        chains: Recorded of it; only how many latent positions there are is taken from them.
        hidden: What may not be seen.
        patch: What is put in place of what a block gives.
        on_progress: Called after each batch.
    """
    reasoner, layouts = subject.reasoner, subject.prompts()
    model, eos = reasoner.model, reasoner.rules.special_tokens.eos
    table, own = model.get_input_embeddings(), update_of_latents(subject)
    kept = torch.zeros(len(blocks_of(backbone_of(model))), *chains.latent_inputs.shape)
    answers, most_positions = [""] * len(layouts), max_positions(model) or sys.maxsize

    def embedded(ids: Sequence[int]) -> Tensor:
        found: Tensor = table(torch.tensor(ids, dtype=torch.long, device=model.device))
        return found

    for numbers in subject.batches(layouts):
        spans = [Span(n, len(layouts[n].prefix), layouts[n].num_latents) for n in numbers]
        rows = [embedded(layouts[span.question].prefix) for span in spans]
        read = partial(read_rows, model, spans=spans, hidden=hidden, patch=patch)
        for latent in range(max(span.num for span in spans)):
            state_BD = read(rows)
            vector_BD = own(Latent(latent, state_BD, table, reasoner.thinker))
            rows = [
                torch.cat([row, vector[None]]) if latent < span.num else row
                for row, vector, span in zip(rows, vector_BD, spans, strict=True)
            ]
        rows = [
            torch.cat([row, embedded(layouts[span.question].suffix)])
            for row, span in zip(rows, spans, strict=True)
        ]
        words: list[list[int]] = [[] for _ in spans]
        rooms = [most_positions - len(row) for row in rows]
        limits = [max(1, min(reasoner.info.max_new_tokens, room)) for room in rooms]
        for step in range(max(limits)):
            states_BD = read(rows, kept=kept if step == 0 else None)
            chosen_B = logits_of(model, states_BD).argmax(-1)
            for text, word, limit in zip(words, chosen_B.tolist(), limits, strict=True):
                if eos not in text and len(text) < limit:
                    text.append(word)
            is_open = [eos not in t and len(t) < n for t, n in zip(words, limits, strict=True)]
            if not any(is_open):
                break
            rows = [
                torch.cat([row, word[None]]) if goes_on else row
                for row, word, goes_on in zip(rows, table(chosen_B), is_open, strict=True)
            ]
        for span, text in zip(spans, words, strict=True):
            said = str(reasoner.tokenizer.decode([word for word in text if word != eos]))
            answers[span.question] = extract_answer(said, reasoner.info.template.answer_start)
        on_progress(len(spans))
    return Plain(answers, kept)


def read_rows(
    model: PreTrainedModel,
    rows: Sequence[Tensor],
    *,
    spans: Sequence[Span],
    hidden: Hidden | None,
    patch: Patch | None,
    kept: Tensor | None = None,
) -> Tensor:
    """Read whole rows in one pass; return the last hidden state of each: (B, D).

    What the blocks give at latent positions goes into `kept` (L, Q, N, D), if there is one.
    """
    embeds_BKD = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    size, device, backbone = embeds_BKD.shape[1], embeds_BKD.device, backbone_of(model)
    column = torch.arange(size, device=device)
    can_see = (column <= column[:, None]).repeat(len(rows), 1, 1)
    for row, span in enumerate(spans):
        if hidden is not None and (found := hidden(span)) is not None:
            first, end, seen = found
            can_see[row, first:end, seen : seen + 1] = False
    last = torch.tensor([len(row) - 1 for row in rows], device=device)

    def visit(module: nn.Module, inputs: Any, output: Any, *, block: int) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        if patch is not None and patch.block == block:
            states = states.clone()
            for row, span in enumerate(spans):
                place = span.start + patch.latent
                if patch.latent < span.num and place < len(rows[row]):
                    states[row, place] = patch.values[span.question].to(states)
        if kept is not None:
            for row, span in enumerate(spans):
                there = states[row, span.start : span.start + span.num]
                kept[block, span.question, : span.num] = there.float().cpu()
        return (states, *output[1:]) if isinstance(output, tuple) else states

    with ExitStack() as way:
        way.enter_context(lock_of(backbone))
        way.enter_context(attends_by(backbone.config, "eager"))
        for number, block in enumerate(blocks_of(backbone)):
            hook = block.register_forward_hook(partial(visit, block=number))
            way.callback(hook.remove)
        states_BKD: Tensor = backbone(
            inputs_embeds=embeds_BKD,
            attention_mask=additive(can_see[:, None]).to(embeds_BKD.dtype),
            position_ids=column.expand(len(rows), -1),
            use_cache=False,
        ).last_hidden_state
    return states_BKD[torch.arange(len(rows), device=device), last]
