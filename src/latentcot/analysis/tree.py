"""The latent search tree: the values of the nodes that a model chooses between after k thoughts.

Three looks at it: value against height, questions that one more thought puts right, and the values
themselves, for the page (arXiv 2412.06769, section 5).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from statistics import fmean
from typing import Any, Literal, NamedTuple

from matplotlib.figure import Figure

from latentcot.analysis.shared import case, style
from latentcot.analysis.shared.statistics import Row, Rows, mean_of
from latentcot.analysis.shared.subject import NUM_LISTED, Progress, Subject, asked, no_progress
from latentcot.analysis.shared.values import (
    form_of,
    nodes_at,
    possible_counts,
    scored_counts,
    scored_depth,
    values_after,
)
from latentcot.evaluation.reasoner import Output
from latentcot.tasks.prosqa.graphs import Graph, distances_to

HeightRule = Literal["longest", "shortest"]
HEIGHT_RULES: dict[HeightRule, str] = {
    "longest": "height (longest path)",
    "shortest": "height (shortest path)",
}
"""How height is counted → the words below the axis."""

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
    return set(distances_to(graph, graph.target))


@dataclass(frozen=True)
class Seen:
    """A question, and what the model makes of it."""

    graph: Graph  # its graph
    values: dict[int, list[float]]  # number of thoughts → the value of each node
    outputs: dict[int, Output]  # number of thoughts → what is written
    is_right: dict[int, bool]  # number of thoughts → whether the answer is right
    depths: dict[int, int]  # number of thoughts → the depth that is scored


def measure(subject: Subject, on_progress: Progress = no_progress) -> Row:
    """Measure the search tree in a model's values.

    Returns:
        What `tree.json` holds: plain values.

    Raises:
        UsageError: After no number of thoughts there is a choice between nodes.
        DataError: A question carries no graph, or does not fit the model.
    """
    counts = scored_counts(subject)
    listed = [k for k in possible_counts(subject) if k <= subject.most_thoughts]
    valued = sorted({*counts, *listed})
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
    seen = [found[i] for i in range(len(subject.examples))]
    return {
        "analysis": "tree",
        "method": subject.name,
        "form": form_of(subject),
        "num_questions": len(subject.examples),
        "num_thoughts": subject.most_thoughts,
        "definitions": DEFINITIONS,
        "by_k": [_sums(seen, k) for k in counts],
        "heights": list(_by_height(seen, counts)),
        "corrections": [_correction(seen, k) for k in counts if k + 1 in counts],
        "case": _case(subject, seen, counts),
        "questions": [
            {"id": example.id, "values": [_rounded(one.values[k]) for k in listed]}
            for example, one in zip(subject.examples[:NUM_LISTED], seen, strict=False)
        ],
    }


def _sums(seen: Sequence[Seen], k: int) -> Row:
    """Return how the values after k thoughts add up, over the nodes scored and over the others."""
    depth, sums = seen[0].depths[k], defaultdict[str, list[float]](list)
    for one in seen:
        scored, values = set(nodes_at(one.graph, depth)), one.values[k]
        if scored:
            correct = scored & leading_to_target(one.graph)
            total = {
                "correct": sum(values[node] for node in correct),
                "incorrect": sum(values[node] for node in scored - correct),
            }
            for group, value in total.items():
                sums[group].append(value)
            sums["elsewhere"].append(sum(values) - sum(total.values()))
    return {"k": k, "depth": depth, "sums": {group: mean_of(v) for group, v in sums.items()}}


def _by_height(seen: Sequence[Seen], counts: Sequence[int]) -> Iterator[Row]:
    """Yield the mean value of the nodes of one height, correct and incorrect ones apart.

    After any number of thoughts (k is None), and after each.
    """
    for rule in HEIGHT_RULES:
        about = [(one, heights(one.graph, rule), leading_to_target(one.graph)) for one in seen]
        for k in (None, *counts):
            groups = defaultdict[tuple[bool, int], list[list[float]]](list)
            for one, height, correct in about:
                mine = defaultdict[tuple[bool, int], list[float]](list)
                for n in counts if k is None else [k]:
                    for node in nodes_at(one.graph, one.depths[n]):
                        mine[node in correct, height[node]].append(one.values[n][node])
                for group, values in mine.items():
                    groups[group].append(values)
            for (is_correct, high), means in sorted(groups.items(), reverse=True):
                yield {
                    "definition": rule,
                    "k": k,
                    "depth": None if k is None else seen[0].depths[k],
                    "is_correct": is_correct,
                    "height": high,
                    **mean_of([fmean(values) for values in means]),
                    "num_nodes": sum(map(len, means)),
                }


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


def _correction(seen: Sequence[Seen], k: int) -> Row:
    """Return how many questions thought k + 1 puts right, and the leads of those and of others."""
    groups = defaultdict[tuple[bool, bool], list[tuple[Lead, Lead]]](list)
    for one in seen:
        leads = _leads(one, k)
        if leads is not None:
            groups[one.is_right[k], one.is_right[k + 1]].append(leads)

    def mean_leads(pairs: Sequence[tuple[Lead, Lead]]) -> Row:
        """Return the mean lead after k and after k + 1 thoughts."""
        ways = zip(("from", "to"), zip(*pairs, strict=True), strict=True)
        return {when: mean_of([lead.value for lead in leads], lowest=-1.0) for when, leads in ways}

    corrected, always = groups[False, True], groups[True, True]
    return {
        "from": k,
        "to": k + 1,
        "num_questions": sum(map(len, groups.values())),
        "num_corrected": len(corrected),
        "num_broken": len(groups[True, False]),
        "num_overtaken": sum(first.value < 0 < second.value for first, second in corrected),
        "lead_corrected": mean_leads(corrected) if corrected else None,
        "lead_always_right": mean_leads(always) if always else None,
    }


def _case(subject: Subject, seen: Sequence[Seen], counts: Sequence[int]) -> Row | None:
    """Choose the clearest question that one more thought puts right; None where there is none.

    Returns all that is needed to draw and tell it.
    """
    found = [
        (leads[1].value - leads[0].value, -k, -number)
        for k in counts
        if k + 1 in counts
        for number, one in enumerate(seen)
        if not one.is_right[k] and one.is_right[k + 1] and (leads := _leads(one, k))
    ]
    if not found:
        return None
    _, k, number = max(found)  # ties go to fewer thoughts, then to the question that comes first
    k, number = -k, -number
    one, states, why = seen[number], Rows(), list[str]()
    graph, height = one.graph, heights(one.graph, "longest")
    for n, lead in zip((k, k + 1), _leads(one, k) or (), strict=True):
        values, is_right = one.values[n], one.is_right[n]
        about: Rows = [
            {"node": i, "name": graph.names[i], "value": round(values[i], 5), "height": height[i]}
            for i in (lead.correct, lead.wrong)
        ]
        best, wrong = about
        text = one.outputs[n].text
        states.append(
            {
                "k": n,
                "depth": one.depths[n],
                "values": _rounded(values),
                "best_correct": best,
                "best_wrong": wrong,
                "lead": round(lead.value, 5),
                "text": text,
                "answer": one.outputs[n].answer,
                "is_correct": is_right,
            }
        )
        why.append(
            f"After {n} {'thought' if n == 1 else 'thoughts'} the nodes at distance "
            f"{one.depths[n]} from the root are scored: {best['name']!r}, on a way to the target "
            f"{graph.names[graph.target]!r}, has {_share(best['value'])} (height "
            f"{best['height']}), {'ahead of' if lead.value > 0 else 'behind'} {wrong['name']!r}, "
            f"which does not lead there and has {_share(wrong['value'])} (height "
            f"{wrong['height']}); the text is {text!r}, which is "
            f"{'right' if is_right else 'wrong'}."
        )
    return {
        **asked(subject.examples[number], subject.graphs[number]),
        "number": number,
        "from": k,
        "to": k + 1,
        "states": states,
        "why": " ".join(why),
    }


def _share(value: float) -> str:
    """Write two digits, but neither 0.00 nor 1.00 for what is only near."""
    return "below 0.01" if value < 0.005 else "above 0.99" if value >= 0.995 else f"{value:.2f}"


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 5) for value in values]


# --- drawing ----------------------------------------------------------------------------------

MOST_PANELS = 3
"""Numbers of thoughts that get a panel, from the smallest on; the CSV has all."""

_LOOKS = {True: ("correct", style.BLUE, "o", "-"), False: ("incorrect", style.VERMILION, "s", "--")}


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files, by their names."""
    shown = result["case"]
    return {"tree": result["heights"]} | ({} if shown is None else {"tree-case": case.rows(shown)})


def draw(result: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw `tree`, value against height, and, where there is a case, `tree-case`."""
    titles = {
        row["k"]: f"k = {row['k']}: nodes at depth {row['depth']}"
        for row in result["by_k"][:MOST_PANELS]
    }
    if len(result["by_k"]) > 1:
        titles = {None: "all k"} | titles
    most = max(row["height"] for row in result["heights"])
    with style.figure(2 * style.COLUMN if len(titles) > 2 else style.COLUMN, 3.2) as drawn:
        grid = drawn.subplots(len(HEIGHT_RULES), len(titles), sharey=True, squeeze=False)
        for panels, (rule, label) in zip(grid, HEIGHT_RULES.items(), strict=True):
            for panel, k in zip(panels, titles, strict=True):
                rows = [row for row in result["heights"] if row["definition"] == rule]
                rows = sorted((r for r in rows if r["k"] == k), key=lambda row: row["height"])
                for is_correct, (name, colour, marker, line) in _LOOKS.items():
                    if chosen := [row for row in rows if row["is_correct"] == is_correct]:
                        at = [row["height"] for row in chosen]
                        look: Any = {"color": colour, "marker": marker, "linestyle": line}
                        look["markerfacecolor"] = colour if is_correct else "white"
                        style.points(
                            panel, at, chosen, "mean", ends="", label=name, capsize=2, **look
                        )
                panel.set(xlabel=label, xticks=range(most + 1), xlim=(-0.4, most + 0.4))
                panel.set(ylim=(-0.04, 1.04), yticks=[0, 0.5, 1])
            panels[0].set_ylabel("value of a node")
        for panel, title in zip(grid[0], titles.values(), strict=True):
            panel.set_title(title)
        style.legend(drawn, grid.flat, 2)
    with_case = {} if result["case"] is None else {"tree-case": case.draw(result["case"])}
    return {"tree": drawn, **with_case}
