"""How many nodes a model keeps in play at once: the best 1, 2 and 3 of them, by their values.

Where the best node has nearly all the value, one branch is followed; where the second and third add
to it, several are open. The gap between the best and the best three narrows as the search goes on
(arXiv 2412.06769, section 5: first against second thought).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.analysis.shared.values import form_of, mean_of, nodes_at, scored_depth, values_after
from latentcot.analysis.tree import counts_with_choice

SCHEMA_VERSION = 1
BEST = 3
"""Nodes that are added up at most."""

DEFINITIONS = {
    "value": "product of the probabilities of the tokens of a node's name where a step names it: "
    "after 'Every' in words, at the beginning of a step in symbols",
    "best": "the nodes of the whole graph with the highest values after k thoughts, added up",
    "percentiles": "0 … 100 over the questions, of each sum by itself, so that the three at one "
    "percentile need not be of the same question",
    "gap": "best three less best one, question by question",
    "narrowing": "gap after k thoughts less gap after k + 1, of the questions that have both",
    "questions": "after k thoughts, those with nodes as deep as is scored then",
    "interval": "95 %, Student's t over the questions",
}


def measure(subject: Subject, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Measure how the value is spread over the best nodes.

    Args:
        subject: The model, and questions with graphs.
        on_progress: Called with the number of questions that have just been done.

    Returns:
        What `parallelism.json` holds: plain values.

    Raises:
        UsageError: After no number of thoughts there is a choice between nodes.
        DataError: A question carries no graph, or does not fit the model.
    """
    counts = counts_with_choice(subject)
    values = values_after(subject, counts, on_progress=on_progress)
    sums = {k: _sums(subject, values, place, k) for place, k in enumerate(counts)}
    return {
        "schema_version": SCHEMA_VERSION,
        "analysis": "parallelism",
        "method": subject.name,
        "form": form_of(subject),
        "num_questions": len(subject.examples),
        "num_thoughts": subject.most_thoughts,
        "definitions": DEFINITIONS,
        "by_k": [
            {
                "k": k,
                "depth": scored_depth(subject, k),
                "percentiles": percentiles(list(sums[k].values())),
                "gap": mean_of(list(_gaps(sums[k]).values())),
            }
            for k in counts
        ],
        "narrowing": [_narrowing(sums, k) for k in counts if k + 1 in sums],
    }


def best_sums(values: Tensor) -> list[float]:
    """Return the value of the best node, of the best two together, of the best three."""
    best = values.sort(descending=True).values[:BEST].cumsum(0).tolist()
    sums: list[float] = [*best, *[best[-1]] * (BEST - len(best))]
    return sums


def percentiles(sums: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return, for the best 1, 2 and 3, percentiles 0 … 100 over the questions."""
    by_question = torch.tensor(sums, dtype=torch.float64)
    shares = torch.linspace(0, 1, 101, dtype=torch.float64)
    rows = torch.quantile(by_question, shares, dim=0).T.tolist()
    return [[round(value, 5) for value in row] for row in rows]


def _sums(subject: Subject, values: Sequence[Tensor], place: int, k: int) -> dict[int, list[float]]:
    """Return number of the question → its best sums after k thoughts."""
    depth = scored_depth(subject, k)
    return {
        number: best_sums(found[place])
        for number, (graph, found) in enumerate(zip(subject.graphs, values, strict=True))
        if nodes_at(graph, depth)
    }


def _gaps(sums: dict[int, list[float]]) -> dict[int, float]:
    return {number: found[-1] - found[0] for number, found in sums.items()}


def _narrowing(sums: dict[int, dict[int, list[float]]], k: int) -> dict[str, Any]:
    """Return how much smaller the gap is after one more thought."""
    before, after = _gaps(sums[k]), _gaps(sums[k + 1])
    both = [number for number in before if number in after]
    found = mean_of([before[n] - after[n] for n in both], lowest=-1.0) if both else None
    return {"from": k, "to": k + 1, "narrowing": found}
