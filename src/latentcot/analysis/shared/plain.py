"""Questions read in the plainest way, so that what may be seen, and what is kept, can be changed.

No cache and no split: for each latent position and each word the whole sequence is read again, by
transformers' own eager attention with a mask of our own. Slow, for small models.

Shapes: B batch, K positions of the longest row, L blocks, N most latent positions, D hidden size.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentcot.analysis.shared.latents import Chains, update_of_latents
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.models.backend.split_cache import additive, attends_by, blocks_of
from latentcot.models.ways import backbone_of, lock_of
from latentcot.tasks import extract_answer
from latentcot.thinking.think import Latent


@dataclass(frozen=True, slots=True)
class Span:
    """Where the parts of a row stand: the question before `start`, then `num` latent positions."""

    start: int
    num: int


Hidden = Callable[[int, Span], tuple[range, int] | None]
"""(question, where its latent positions stand) → (positions that look, the one that they may not
see); None for nothing. A range that ends at -1 goes on to the end."""


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
    reasoner = subject.reasoner
    model, layouts = reasoner.model, subject.prompts()
    backbone, table = backbone_of(model), model.get_input_embeddings()
    blocks, head = blocks_of(backbone), model.get_output_embeddings()
    own, eos = update_of_latents(subject), reasoner.rules.special_tokens.eos
    num_questions, width = chains.latent_inputs.shape[0], chains.latent_inputs.shape[-1]
    kept = torch.zeros(len(blocks), num_questions, chains.most, width)
    answers = [""] * num_questions

    def read(rows: Sequence[Tensor], numbers: Sequence[int], is_last: bool) -> Tensor:
        """Return the newest state of each row: (B, D)."""
        embeds_BKD = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        size = embeds_BKD.shape[1]
        column = torch.arange(size, device=embeds_BKD.device)
        can_see = (column <= column[:, None]).repeat(len(rows), 1, 1)
        spans = [Span(len(layouts[n].prefix), layouts[n].num_latents) for n in numbers]
        for row, (number, span) in enumerate(zip(numbers, spans, strict=True)):
            if hidden is not None and (found := hidden(number, span)) is not None:
                looking, seen = found
                stop = size if looking.stop < 0 else min(looking.stop, size)
                can_see[row, looking.start : stop, seen : seen + 1] = False
        at = torch.tensor([len(row) - 1 for row in rows], device=column.device)

        def visit(block: int) -> Callable[..., Any]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
                states = output[0] if isinstance(output, tuple) else output
                if patch is not None and patch.block == block:
                    states = states.clone()
                    for row, (number, span) in enumerate(zip(numbers, spans, strict=True)):
                        place = span.start + patch.latent
                        if patch.latent < span.num and place < len(rows[row]):
                            states[row, place] = patch.values[number].to(states)
                if is_last:
                    for row, (number, span) in enumerate(zip(numbers, spans, strict=True)):
                        there = states[row, span.start : span.start + span.num]
                        kept[block, number, : span.num] = there.float().cpu()
                return (states, *output[1:]) if isinstance(output, tuple) else states

            return hook

        with ExitStack() as way:
            way.enter_context(lock_of(backbone))
            way.enter_context(attends_by(backbone.config, "eager"))
            for number, block in enumerate(blocks):
                way.callback(block.register_forward_hook(visit(number)).remove)
            states: Tensor = backbone(
                inputs_embeds=embeds_BKD,
                attention_mask=additive(can_see[:, None]).to(embeds_BKD.dtype),
                position_ids=column.expand(len(rows), -1),
                use_cache=False,
            ).last_hidden_state
        return states[torch.arange(len(rows), device=at.device), at]

    for numbers in subject.batches(layouts):
        rows = [table(torch.tensor(layouts[n].prefix, device=model.device)) for n in numbers]
        for latent in range(max(layouts[n].num_latents for n in numbers)):
            state = read(rows, numbers, False)
            vector = own(Latent(latent, state, table, reasoner.thinker))
            rows = [
                torch.cat([row, one[None]]) if latent < layouts[number].num_latents else row
                for row, one, number in zip(rows, vector, numbers, strict=True)
            ]
        ends = [torch.tensor(layouts[n].suffix, dtype=torch.long) for n in numbers]
        rows = [
            torch.cat([row, table(end.to(model.device))])
            for row, end in zip(rows, ends, strict=True)
        ]
        words: list[list[int]] = [[] for _ in numbers]
        for step in range(reasoner.info.max_new_tokens):
            chosen = head(read(rows, numbers, step == 0)).argmax(-1)
            for text, word in zip(words, chosen.tolist(), strict=True):
                if eos not in text:
                    text.append(word)
            if all(eos in text for text in words):
                break
            rows = [torch.cat([r, new[None]]) for r, new in zip(rows, table(chosen), strict=True)]
        for number, text in zip(numbers, words, strict=True):
            said = str(reasoner.tokenizer.decode([word for word in text if word != eos]))
            answers[number] = extract_answer(said, reasoner.info.template.answer_start)
        on_progress(len(numbers))
    return Plain(answers, kept)
