"""Thoughts read as words: what the output head would write, if a word came next.

In latent mode nothing is written, and the head was never trained on thoughts; but both live in the
same space (arXiv 2412.06769, section 4: decoded thoughts hold intermediate results). Reported are
the most probable tokens of each thought, and how often they name what the search needs:

- with graphs, a node of one of the groups of `node_groups.py`: the top token alone;
- with chains of equations, each intermediate result: among the top 1, 5 and 10. A result of several
  tokens is told by its first, which with one token a digit is easily guessed.

*By chance* is what the thoughts of the other questions give, read for this one: those that count
in the same row, all of them, so that nothing is drawn.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentcot.analysis.shared.latents import MEANING, Chains, record, with_latents
from latentcot.analysis.shared.naming import has_graphs
from latentcot.analysis.shared.node_groups import (
    NODE_GROUPS,
    depth_of,
    mean_fields,
    name_tokens,
    node_places,
    rounded,
)
from latentcot.analysis.shared.result_tokens import ResultTokens, result_tokens
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.evaluation.statistics import share_with_interval

SCHEMA_VERSION = 1
TOPS = (1, 5, 10)
NUM_EXAMPLES = 20
NUM_SHOWN = 5
"""Tokens of each thought in the examples, and most frequent ones of all."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The most probable tokens of one thought, for the questions that have it.

    Attributes:
        numbers: Of the questions.
        tokens: For each of them its tokens, most probable first.
        probabilities: Theirs.
    """

    numbers: list[int]
    tokens: list[list[int]]
    probabilities: list[list[float]]

    def counts(self, top: int) -> Counter[int]:
        """Return for how many questions each token is among the first `top`."""
        return Counter(token for tokens in self.tokens for token in tokens[:top])


def measure(subject: Subject, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Read every thought through the output head.

    Returns:
        `thoughts`, a row for each; `nodes`, a row for each thought and group of nodes, empty
        without graphs; `results`, one for each thought, step and top, empty without equations;
        `examples`, the first questions. Ends of intervals, and chance, are None for one question.

    Raises:
        UsageError: The method has no latent positions.
        DataError: A question's graph is wrong.
    """
    decoded = decode(subject, max(TOPS), on_progress)
    results = result_tokens(subject)
    return {
        "schema_version": SCHEMA_VERSION,
        "method": subject.reasoner.info.method,
        "num_questions": len(subject.examples),
        "num_thoughts": subject.most_thoughts,
        "thought_meaning": MEANING[subject.has_thoughts],
        "by_chance": "the same with the thoughts of the other questions of a row, averaged",
        "definitions": NODE_GROUPS,
        "thoughts": [
            {"thought": i, **_summary(subject, one)} for i, one in enumerate(decoded, start=1)
        ],
        "nodes": _node_rows(subject, decoded) if has_graphs(subject) else [],
        "results": _result_rows(decoded, results),
        "result_tokens": {
            "num_results": results.num_whole + results.num_begun + results.num_left_out,
            "num_whole": results.num_whole,
            "num_by_first_token": results.num_begun,
            "num_left_out": results.num_left_out,
        },
        "examples": _examples(subject, decoded),
    }


def decode(subject: Subject, top: int, on_progress: Progress = no_progress) -> list[Decoded]:
    """Return the most probable tokens of thought 1, 2, … for every question that has it.

    Raises:
        UsageError: The method has no latent positions.
    """
    chains = record(with_latents(subject))
    found = [Decoded([], [], []) for _ in range(chains.most)]
    for start in range(0, len(subject.examples), subject.batch_size):
        rows = slice(start, start + subject.batch_size)
        probabilities, ids = _top(subject, chains.states[rows, : chains.most], top)
        _sort_in(found, start, chains, ids.tolist(), probabilities.tolist())
        on_progress(len(ids))
    return found


@torch.no_grad()
def _top(subject: Subject, thoughts_BND: Tensor, top: int) -> tuple[Tensor, Tensor]:
    model = subject.reasoner.model
    shares_BNV = model.get_output_embeddings()(thoughts_BND.to(model.device)).float().softmax(-1)
    probabilities, ids = shares_BNV.topk(min(top, shares_BNV.shape[-1]), dim=-1)
    return probabilities.cpu(), ids.cpu()


def _sort_in(
    found: Sequence[Decoded],
    start: int,
    chains: Chains,
    ids: Sequence[Sequence[list[int]]],
    probabilities: Sequence[Sequence[list[float]]],
) -> None:
    """Add a batch's tokens to those of each thought."""
    for row, (tokens, shares) in enumerate(zip(ids, probabilities, strict=True)):
        for thought in range(chains.num_latents[start + row]):
            found[thought].numbers.append(start + row)
            found[thought].tokens.append(tokens[thought])
            found[thought].probabilities.append(shares[thought])


# --- all tasks --------------------------------------------------------------------------------


def _summary(subject: Subject, decoded: Decoded) -> dict[str, Any]:
    """Return how sure the head is of its top token, and which ones are most frequent."""
    num = len(decoded.numbers)
    frequent = decoded.counts(1).most_common(NUM_SHOWN)
    return {
        "num_questions": num,
        **mean_fields("probability", [row[0] for row in decoded.probabilities], is_share=True),
        "most_frequent": [
            {"token": _text(subject, token), **_share_fields(count, num)}
            for token, count in frequent
        ],
    }


def _share_fields(count: int, num: int) -> dict[str, float | None]:
    share, low, high = share_with_interval(count, num)
    return {"share": rounded(share), "low": rounded(low), "high": rounded(high)}


def _text(subject: Subject, token: int) -> str:
    return str(subject.reasoner.tokenizer.decode([token]))


def _examples(subject: Subject, decoded: Sequence[Decoded]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"id": e.id, "question": e.question, "steps": list(e.steps), "answer": e.answer}
        | {"thoughts": list[Any]()}
        for e in subject.examples[:NUM_EXAMPLES]
    ]
    for one in decoded:
        for number, ids, shares in zip(one.numbers, one.tokens, one.probabilities, strict=True):
            if number < len(found):
                shown = list(zip(ids, shares, strict=True))[:NUM_SHOWN]
                found[number]["thoughts"].append(
                    [{"token": _text(subject, t), "probability": round(p, 4)} for t, p in shown]
                )
    return found


# --- hits and chance --------------------------------------------------------------------------


def hits_and_chance(
    decoded: Decoded, wanted: Callable[[int], Iterable[int]], top: int
) -> tuple[list[bool], list[float]]:
    """Return for each question whether a wanted token is among its first, and how often by chance.

    Args:
        decoded: One thought.
        wanted: Number of a question → its tokens; questions without any are left out.
        top: How many tokens are looked at. With more than one, a question may want one at most:
            the chances of several do not add up.

    Returns:
        Hits; and for each the share of the other questions, among those that want any, that have a
        wanted token there (none for a single question).
    """
    pairs = zip(decoded.numbers, decoded.tokens, strict=True)
    rows = [(set(wanted(number)), tokens[:top]) for number, tokens in pairs]
    rows = [(here, tokens) for here, tokens in rows if here]
    counts = Counter(token for _, tokens in rows for token in tokens)
    num_own = [len(here & set(tokens)) for here, tokens in rows]
    num_others = len(rows) - 1
    chances = [
        (sum(counts[token] for token in here) - own) / num_others
        for (here, _), own in zip(rows, num_own, strict=True)
        if num_others
    ]
    return [own > 0 for own in num_own], chances


def _hit_fields(hits: Sequence[bool], chances: Sequence[float]) -> dict[str, Any]:
    by_chance = rounded(sum(chances) / len(chances)) if chances else None
    shares = _share_fields(sum(hits), len(hits))
    return {"num_questions": len(hits), **shares, "by_chance": by_chance}


def _node_rows(subject: Subject, decoded: Sequence[Decoded]) -> list[dict[str, Any]]:
    """Say how often the top token of a thought is a node of each group."""
    names, rows = name_tokens(subject), []
    depths = [
        depth_of(i + 1, subject.reasoner.info.plan.thoughts_per_step) for i in range(len(decoded))
    ]
    groups = node_places(subject.graphs, names.is_used).groups(depths)
    for place, one in enumerate(decoded):
        for group, is_in_QNM in groups.items():
            is_in = is_in_QNM[:, place].tolist()

            def wanted(number: int, is_in: list[list[bool]] = is_in) -> list[int]:
                pairs = zip(names.ids[number], is_in[number], strict=False)  # the latter is padded
                return [token for token, ok in pairs if ok]

            hits, chances = hits_and_chance(one, wanted, 1)
            if hits:
                about = {"thought": place + 1, "depth": depths[place], "group": group}
                rows.append(about | _hit_fields(hits, chances))
    return rows


def _result_rows(decoded: Sequence[Decoded], results: ResultTokens) -> list[dict[str, Any]]:
    """Say how often the result of each step is among the top tokens of each thought."""
    rows = []
    for thought, one in enumerate(decoded, start=1):
        for step in range(results.most_steps):
            for top in TOPS:
                hits, chances = hits_and_chance(one, partial(results.of, step=step), top)
                if hits:
                    about = {"thought": thought, "step": step + 1, "top": top}
                    rows.append(about | _hit_fields(hits, chances))
    return rows
