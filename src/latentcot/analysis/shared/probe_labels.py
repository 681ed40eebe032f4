"""What linear probes are asked, and the control labels that have nothing to do with it.

A probe that finds a label may have learnt it by heart from what it can recognize. A control task
(Hewitt and Liang 2019) has labels that can only be learnt so: each *type* of input has random ones,
the same wherever it occurs. Here the type of a question is the name of the node it starts from, or,
without a graph, its first word. Each type has one random order of all labels; where m labels are
true, the control has the m allowed ones that come first in it.

Shapes: Q questions, K labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentcot.analysis.shared.latents import stream
from latentcot.analysis.shared.naming import has_graphs
from latentcot.analysis.shared.subject import Subject
from latentcot.tasks.prosqa.generator import candidates_of
from latentcot.tasks.prosqa.graphs import Graph, distances

MAX_CLASSES = 50
SEED = 0


@dataclass(frozen=True)
class Labels:
    """One question to the probes, about every example that it makes sense for.

    Attributes:
        probe: Its name.
        distance: From the root, where it is about one.
        counted: Numbers of the examples.
        true_QK: 1 where a label is true. Rows of the others mean nothing.
        control_QK: The control labels.
        allowed_QK: Which labels could be true.
    """

    probe: str
    distance: int | None
    counted: tuple[int, ...]
    true_QK: Tensor
    control_QK: Tensor
    allowed_QK: Tensor


def types_of(subject: Subject) -> list[str]:
    """Return the type of each question."""
    if has_graphs(subject):
        return [graph.names[graph.root] for graph in subject.graphs]
    return [example.question.split(maxsplit=1)[0] for example in subject.examples]


def labels_of(subject: Subject) -> Iterator[Labels]:
    """Yield all that is asked about a subject's questions, but for the number of the thought."""
    if has_graphs(subject):
        yield from _graph_labels(subject)
    else:
        yield from _class_labels(subject)


def _graph_labels(subject: Subject) -> Iterator[Labels]:
    graphs, types = subject.graphs, types_of(subject)
    column = {name: i for i, name in enumerate(sorted({n for g in graphs for n in g.names}))}
    depths = [distances(graph, graph.root) for graph in graphs]
    nodes = [[n for n in range(graph.num_nodes) if n != graph.root] for graph in graphs]
    for distance in range(1, max(max(found.values()) for found in depths) + 1):
        for probe in ("frontier", "within"):
            meant = [
                [
                    n
                    for n, d in found.items()
                    if (0 < d <= distance if probe == "within" else d == distance)
                ]
                for found in depths
            ]
            is_deep = [max(found.values()) >= distance for found in depths]
            if probe == "frontier" or distance > 1:
                yield _of_names(probe, distance, graphs, column, types, meant, nodes, is_deep)
    answers = [[graph.target] for graph in graphs]
    pairs = [[graph.target, graph.neg_target] for graph in graphs]
    yield _of_names("answer", None, graphs, column, types, answers, pairs, [True] * len(graphs))
    yield _candidate_labels(subject, types)


def _of_names(
    probe: str,
    distance: int | None,
    graphs: Sequence[Graph],
    column: dict[str, int],
    types: Sequence[str],
    true: Sequence[Sequence[int]],
    allowed: Sequence[Sequence[int]],
    is_counted: Sequence[bool],
) -> Labels:
    """Return labels that are names of nodes, given as nodes of each graph."""

    def table(nodes: Sequence[Sequence[int]]) -> Tensor:
        found = torch.zeros(len(graphs), len(column), dtype=torch.bool)
        for row, (graph, chosen) in enumerate(zip(graphs, nodes, strict=True)):
            found[row, [column[graph.names[node]] for node in chosen]] = True
        return found

    return _labels(
        probe,
        distance,
        [q for q, is_so in enumerate(is_counted) if is_so],
        table(true),
        table(allowed),
        {kind: draw_order(len(column), probe, kind) for kind in set(types)},
        types,
    )


def _candidate_labels(subject: Subject, types: Sequence[str]) -> Labels:
    """Return whether the answer is the first or the second candidate of the question."""
    true = torch.zeros(len(types), 2, dtype=torch.bool)
    for row, (example, graph) in enumerate(zip(subject.examples, subject.graphs, strict=True)):
        true[row, candidates_of(example).index(graph.names[graph.target])] = True
    orders = {kind: draw_order(2, "candidate", kind) for kind in set(types)}
    every = range(len(types))
    return _labels("candidate", None, every, true, torch.ones_like(true), orders, types)


def _class_labels(subject: Subject) -> Iterator[Labels]:
    """Yield the first token of the answer, where there are few of them."""
    texts = [f" {example.answer}" for example in subject.examples]
    ids = subject.reasoner.tokenizer(texts, add_special_tokens=False)["input_ids"]
    tokens = [tuple(found[:1]) for found in ids]
    classes = sorted(set(tokens))
    if not 1 < len(classes) <= MAX_CLASSES:
        return
    true = torch.tensor([[token == one for one in classes] for token in tokens])
    types = types_of(subject)
    orders = {}
    for kind in set(types):  # a common class comes first more often, as among the true labels
        drawn = [classes.index(tokens[i]) for i in draw_order(len(tokens), "class", kind)]
        orders[kind] = list(dict.fromkeys(drawn))
    yield _labels("class", None, range(len(tokens)), true, torch.ones_like(true), orders, types)


def _labels(
    probe: str,
    distance: int | None,
    counted: Sequence[int],
    true_QK: Tensor,
    allowed_QK: Tensor,
    orders: dict[str, list[int]],
    types: Sequence[str],
) -> Labels:
    control = torch.zeros_like(true_QK)
    for row, kind in enumerate(types):
        able = [place for place in orders[kind] if allowed_QK[row, place]]
        control[row, able[: int(true_QK[row].sum())]] = True
    return Labels(probe, distance, tuple(counted), true_QK, control, allowed_QK)


def draw_order(num: int, *parts: object) -> list[int]:
    """Return 0 … num - 1 in the random order that belongs to what is named."""
    return stream(SEED, "control", *parts).sample(range(num), num)
