"""The latent search tree: the values of the nodes that a model chooses between after k thoughts.

A model that searches gives high values to the nodes from which the target can be reached and low
ones to the others, and tells them apart the better the lower they stand (arXiv 2412.06769,
section 5). Three looks at that: value against height, questions that one more thought puts right,
and the values themselves, for the page.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from statistics import fmean
from typing import Any, Literal, NamedTuple

from latentcot.analysis.shared.subject import NUM_LISTED, Progress, Subject, no_progress
from latentcot.analysis.shared.values import (
    form_of,
    mean_of,
    nodes_at,
    possible_counts,
    scored_counts,
    scored_depth,
    values_after,
)
from latentcot.errors import UsageError
from latentcot.evaluation.reasoner import Output
from latentcot.tasks.prosqa.generator import chain_of
from latentcot.tasks.prosqa.graphs import Graph, distances

SCHEMA_VERSION = 1

HeightRule = Literal["longest", "shortest"]
Groups = dict[tuple[bool, int], list[float]]
"""(is correct, height) → the values of such nodes of one question."""
HEIGHT_RULES: tuple[HeightRule, ...] = ("longest", "shortest")

DEFINITIONS = {
    "value": "product of the probabilities of the tokens of a node's name where a step names it: "
    "after 'Every' in words, at the beginning of a step in symbols",
    "depth": "nodes are scored at their distance from the root: in words k, in symbols k + 1 "
    "(k thoughts; k // c with c thoughts a step)",
    "correct": "some path from the root to the target goes through the node",
    "incorrect": "of the nodes that are scored, one from which the target cannot be reached",
    "longest": "height: edges of the longest path down to a leaf (caption of the paper's figure)",
    "shortest": "height: edges of the shortest path down to a leaf (text of the paper)",
    "interval": "95 %, Student's t over the questions, of each of which the mean is taken first",
    "lead": "value of the best correct node that is scored, less that of the best node of the "
    "whole graph from which the target cannot be reached",
    "case": "of the questions that are wrong after k thoughts and right after k + 1, the one whose "
    "lead grows most; ties go to fewer thoughts, then to the question that comes first",
}


def heights(graph: Graph, rule: HeightRule) -> list[int]:
    """Return the height of each node: edges down to a leaf, on the longest or shortest way."""
    choose = max if rule == "longest" else min
    found = [0] * graph.num_nodes
    for node in TopologicalSorter(dict(enumerate(graph.children))).static_order():  # leaves first
        below = [found[child] for child in graph.children[node]]
        found[node] = 1 + choose(below) if below else 0
    return found


def leading_to_target(graph: Graph) -> set[int]:
    """Return the nodes from which the target can be reached, itself included."""
    upwards = replace(graph, edges=tuple((child, parent) for parent, child in graph.edges))
    return set(distances(upwards, graph.target))


@dataclass(frozen=True)
class Seen:
    """A question, and what the model makes of it.

    Attributes:
        graph: Its graph.
        values: Number of thoughts → the value of each node.
        outputs: Number of thoughts → what is written.
        is_right: Number of thoughts → whether the answer is right.
        depths: Number of thoughts → the depth that is scored.
    """

    graph: Graph
    values: dict[int, list[float]]
    outputs: dict[int, Output]
    is_right: dict[int, bool]
    depths: dict[int, int]


def measure(subject: Subject, on_progress: Progress = no_progress) -> dict[str, Any]:
    """Measure the search tree in a model's values.

    Args:
        subject: The model, and questions with graphs.
        on_progress: Called with the number of questions that have just been done.

    Returns:
        What `tree.json` holds: plain values.

    Raises:
        UsageError: After no number of thoughts there is a choice between nodes.
        DataError: A question carries no graph, or does not fit the model.
    """
    counts = counts_with_choice(subject)
    listed = [k for k in possible_counts(subject) if k <= subject.most_thoughts]
    seen = _look(subject, counts, sorted({*counts, *listed}), on_progress)
    return {
        "schema_version": SCHEMA_VERSION,
        "analysis": "tree",
        "method": subject.name,
        "form": form_of(subject),
        "num_questions": len(subject.examples),
        "num_thoughts": subject.most_thoughts,
        "definitions": DEFINITIONS,
        "by_k": [_sums(seen, k) for k in counts],
        "heights": list(_by_height(seen, counts)),
        "corrections": [_correction(seen, k) for k in _pairs(counts)],
        "case": _case(subject, seen, counts),
        "questions": _listed(subject, seen, listed),
    }


def counts_with_choice(subject: Subject) -> list[int]:
    """Return the numbers of thoughts after which nodes are scored.

    Raises:
        UsageError: There is none.
    """
    counts = scored_counts(subject)
    if not counts:
        raise UsageError(
            f"{subject.name}: there is no number of thoughts after which it chooses between nodes. "
            "Values in words are those after thoughts: use a run of a method with thoughts or "
            "pauses in their place, or questions in symbols."
        )
    return counts


def _look(
    subject: Subject, counts: Sequence[int], valued: Sequence[int], on_progress: Progress
) -> list[Seen]:
    """Get the values after some numbers of thoughts, and texts after `counts` of them."""
    depths = {k: scored_depth(subject, k) for k in counts}
    found: dict[int, Seen] = {}
    for numbers in subject.batches(subject.prompts(0)):
        part = subject.of(numbers)
        values = values_after(part, valued)
        outputs = {k: part.answers(k) for k in counts}
        is_right = {k: part.are_right(outputs[k]) for k in counts}
        for i, number in enumerate(numbers):
            found[number] = Seen(
                part.graphs[i],
                dict(zip(valued, values[i].tolist(), strict=True)),
                {k: outputs[k][i] for k in counts},
                {k: is_right[k][i] for k in counts},
                depths,
            )
        on_progress(len(numbers))
    return [found[i] for i in range(len(subject.examples))]


# --- value against height ---------------------------------------------------------------------


def _sums(seen: Sequence[Seen], k: int) -> dict[str, Any]:
    """Return how the values after k thoughts add up, over the nodes scored and over the others."""
    depth = seen[0].depths[k]
    sums = defaultdict[str, list[float]](list)
    for one in seen:
        scored = set(nodes_at(one.graph, depth))
        if not scored:
            continue
        correct = scored & leading_to_target(one.graph)
        values = one.values[k]
        total = {
            "correct": sum(values[node] for node in correct),
            "incorrect": sum(values[node] for node in scored - correct),
        }
        for group, value in total.items():
            sums[group].append(value)
        sums["elsewhere"].append(sum(values) - sum(total.values()))
    return {"k": k, "depth": depth, "sums": {group: mean_of(v) for group, v in sums.items()}}


def _by_height(seen: Sequence[Seen], counts: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the mean value of the nodes of one height, correct and incorrect ones apart.

    After any number of thoughts (k is None), and after each.
    """
    for rule in HEIGHT_RULES:
        by_question = [{k: _values_by_height(one, k, rule) for k in counts} for one in seen]
        for k in (None, *counts):
            groups = defaultdict[tuple[bool, int], list[list[float]]](list)
            for found in by_question:
                for group, values in _joined(found.values() if k is None else [found[k]]).items():
                    groups[group].append(values)
            for (is_correct, height), means in sorted(groups.items(), reverse=True):
                yield {
                    "definition": rule,
                    "k": k,
                    "depth": None if k is None else seen[0].depths[k],
                    "is_correct": is_correct,
                    "height": height,
                    **mean_of([fmean(values) for values in means]),
                    "num_nodes": sum(map(len, means)),
                }


def _joined(parts: Iterable[Groups]) -> Groups:
    """Return the values of several numbers of thoughts together."""
    found = defaultdict[tuple[bool, int], list[float]](list)
    for part in parts:
        for group, values in part.items():
            found[group] += values
    return found


def _values_by_height(one: Seen, k: int, rule: HeightRule) -> Groups:
    """Return the values of the nodes that are scored after k thoughts."""
    height, correct = heights(one.graph, rule), leading_to_target(one.graph)
    found = defaultdict[tuple[bool, int], list[float]](list)
    for node in nodes_at(one.graph, one.depths[k]):
        found[node in correct, height[node]].append(one.values[k][node])
    return found


# --- questions that one more thought puts right -----------------------------------------------


class Lead(NamedTuple):
    """The best node on a way to the target, the best one that is not, and their distance."""

    correct: int
    wrong: int
    value: float


def lead_of(graph: Graph, values: Sequence[float], depth: int) -> Lead | None:
    """Return how far the best correct node at a depth is ahead; None where there is no such node,
    or no wrong one.

    A model may also write a node that it cannot have reached, so wrong ones count wherever they
    are.
    """
    leading = leading_to_target(graph)
    correct = [node for node in nodes_at(graph, depth) if node in leading]
    wrong = [node for node in range(graph.num_nodes) if node not in leading]
    if not correct or not wrong:
        return None
    best, worst = (max(nodes, key=values.__getitem__) for nodes in (correct, wrong))
    return Lead(best, worst, values[best] - values[worst])


def _leads(one: Seen, k: int) -> tuple[Lead, Lead] | None:
    """Return the leads after k and after k + 1 thoughts, where both have nodes to score."""
    first, second = (lead_of(one.graph, one.values[n], one.depths[n]) for n in (k, k + 1))
    return None if first is None or second is None else (first, second)


def _pairs(counts: Sequence[int]) -> list[int]:
    """Return each k that is scored together with k + 1."""
    return [k for k in counts if k + 1 in counts]


def _correction(seen: Sequence[Seen], k: int) -> dict[str, Any]:
    """Return how many questions thought k + 1 puts right, and the leads of those and of others."""
    groups = defaultdict[tuple[bool, bool], list[tuple[Lead, Lead]]](list)
    for one in seen:
        leads = _leads(one, k)
        if leads is not None:
            groups[one.is_right[k], one.is_right[k + 1]].append(leads)
    corrected = groups[False, True]
    return {
        "from": k,
        "to": k + 1,
        "num_questions": sum(map(len, groups.values())),
        "num_corrected": len(corrected),
        "num_broken": len(groups[True, False]),
        "num_overtaken": sum(first.value < 0 < second.value for first, second in corrected),
        "lead_corrected": _mean_leads(corrected),
        "lead_always_right": _mean_leads(groups[True, True]),
    }


def _mean_leads(leads: Sequence[tuple[Lead, Lead]]) -> dict[str, Any] | None:
    if not leads:
        return None
    first, second = zip(*leads, strict=True)
    return {
        when: mean_of([lead.value for lead in found], lowest=-1.0)
        for when, found in (("from", first), ("to", second))
    }


def _case(subject: Subject, seen: Sequence[Seen], counts: Sequence[int]) -> dict[str, Any] | None:
    """Choose the clearest question that one more thought puts right; None where there is none."""
    best: tuple[float, int, int] | None = None
    for k in _pairs(counts):
        for number, one in enumerate(seen):
            leads = _leads(one, k)
            if leads is None or one.is_right[k] or not one.is_right[k + 1]:
                continue
            growth = leads[1].value - leads[0].value
            if best is None or growth > best[0]:
                best = growth, k, number
    return None if best is None else _told(subject, seen[best[2]], best[1], best[2])


def _told(subject: Subject, one: Seen, k: int, number: int) -> dict[str, Any]:
    """Return all that is needed to draw and tell a case."""
    example, graph = subject.examples[number], one.graph
    states = [_state(one, n) for n in (k, k + 1)]
    target = graph.names[graph.target]
    return {
        "id": example.id,
        "number": number,
        "from": k,
        "to": k + 1,
        "nodes": list(graph.names),
        "edges": [list(edge) for edge in graph.edges],
        "root": graph.root,
        "target": graph.target,
        "neg_target": graph.neg_target,
        "path": list(chain_of(example, graph) or ()),
        "states": states,
        "why": " ".join(_in_words(state, target) for state in states),
    }


def _state(one: Seen, k: int) -> dict[str, Any]:
    """Return the values after k thoughts, the best correct and wrong node, and the text."""
    lead = lead_of(one.graph, one.values[k], one.depths[k])
    assert lead is not None  # the case was chosen by it
    height = heights(one.graph, "longest")
    best, wrong = (
        {
            "node": node,
            "name": one.graph.names[node],
            "value": round(one.values[k][node], 5),
            "height": height[node],
        }
        for node in (lead.correct, lead.wrong)
    )
    return {
        "k": k,
        "depth": one.depths[k],
        "values": _rounded(one.values[k]),
        "best_correct": best,
        "best_wrong": wrong,
        "lead": round(lead.value, 5),
        "text": one.outputs[k].text,
        "answer": one.outputs[k].answer,
        "is_correct": one.is_right[k],
    }


def _in_words(state: dict[str, Any], target: str) -> str:
    best, wrong = state["best_correct"], state["best_wrong"]
    ahead = "ahead of" if state["lead"] > 0 else "behind"
    thoughts = "thought" if state["k"] == 1 else "thoughts"
    return (
        f"After {state['k']} {thoughts} the nodes at distance {state['depth']} from the root are "
        f"scored: {best['name']!r}, on a way to the target {target!r}, has "
        f"{_share(best['value'])} (height {best['height']}), {ahead} {wrong['name']!r}, which does "
        f"not lead there and has {_share(wrong['value'])} (height {wrong['height']}); the text is "
        f"{state['text']!r}, which is {'right' if state['is_correct'] else 'wrong'}."
    )


def _share(value: float) -> str:
    """Write two digits, but neither 0.00 nor 1.00 for what is only near."""
    return "below 0.01" if value < 0.005 else "above 0.99" if value >= 0.995 else f"{value:.2f}"


# --- for the page -----------------------------------------------------------------------------


def _listed(subject: Subject, seen: Sequence[Seen], counts: Sequence[int]) -> list[dict[str, Any]]:
    """Return the values of every node of the first questions, after 0 … as many as in training."""
    return [
        {"id": example.id, "values": [_rounded(one.values[k]) for k in counts]}
        for example, one in zip(subject.examples[:NUM_LISTED], seen, strict=False)
    ]


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 5) for value in values]
