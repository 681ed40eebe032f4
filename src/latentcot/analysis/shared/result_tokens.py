"""The tokens of the results in chains of equations: of the 12 in "<<3*4=12>>" or "3 * 4 = 12"."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latentcot.analysis.shared.subject import Subject

_RESULT = re.compile(r"=\s*(-?(?:\d[\d,]*(?:\.\d+)?|\.\d+))\s*(?:>>)?\s*$")


@dataclass(frozen=True, slots=True)
class ResultTokens:
    """The token by which each result is told.

    Attributes:
        first: For each question and step the first token of the result; None where the step is no
            equation, or its result does not begin a token.
        num_whole: Results that are one token.
        num_begun: Results of several tokens, told by the first.
        num_left_out: Results that do not begin a token.
    """

    first: tuple[tuple[int | None, ...], ...]
    num_whole: int
    num_begun: int
    num_left_out: int

    @property
    def most_steps(self) -> int:
        """The last step of any question that has a result."""
        steps = [i for row in self.first for i, token in enumerate(row) if token is not None]
        return max(steps, default=-1) + 1

    def of(self, question: int, step: int) -> list[int]:
        """Return the token of one step's result, steps counted from 0; none where it has none."""
        row = self.first[question]
        token = row[step] if step < len(row) else None
        return [] if token is None else [token]


def result_tokens(subject: Subject) -> ResultTokens:
    """Find the results in the steps of all questions, tokenized as in training."""
    steps = sorted({step for example in subject.examples for step in example.steps})
    spans = {step: match.span(1) for step in steps if (match := _RESULT.search(step))}
    found = _tokens(subject, spans)
    ids = [[found.get(step) for step in example.steps] for example in subject.examples]
    results = [tokens for row in ids for tokens in row if tokens is not None]
    return ResultTokens(
        first=tuple(tuple(tokens[0] if tokens else None for tokens in row) for row in ids),
        num_whole=sum(len(tokens) == 1 for tokens in results),
        num_begun=sum(len(tokens) > 1 for tokens in results),
        num_left_out=sum(not tokens for tokens in results),
    )


def _tokens(subject: Subject, spans: Mapping[str, tuple[int, int]]) -> dict[str, list[int]]:
    """Return the tokens of the part of each step; none where no token begins with it."""
    tokenizer, end = subject.reasoner.tokenizer, subject.reasoner.info.template.step_end
    if not spans or not tokenizer.is_fast:  # only fast ones tell where their tokens stand
        return {step: [] for step in spans}
    texts = [step + end for step in spans]
    found: Any = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    ids_and_offsets = zip(found["input_ids"], found["offset_mapping"], strict=True)
    return {
        step: _tokens_at(span, step, ids, offsets)
        for (step, span), (ids, offsets) in zip(spans.items(), ids_and_offsets, strict=True)
    }


def _tokens_at(
    span: tuple[int, int], step: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]
) -> list[int]:
    inside = [i for i, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
    if not inside or step[offsets[inside[0]][0] : span[0]].strip():
        return []
    return [ids[i] for i in inside]
