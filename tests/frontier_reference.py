"""Shortest paths, and the mass of thoughts on the frontier, written a second time and slowly."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from latentcot.data.examples import Example
from latentcot.evaluation.reasoner import Reasoner
from latentcot.tasks.prosqa.generator import graph_of
from latentcot.tasks.prosqa.graphs import Graph, distances


@dataclass(frozen=True, slots=True)
class DepthMass:
    """The mass of one thought on the nodes at one distance from the root, and evenly spread."""

    mass: float
    uniform: float


@torch.no_grad()
def node_probabilities(reasoner: Reasoner, examples: Sequence[Example]) -> list[Tensor]:
    """What the output head gives each node, of one token, in each thought: (thoughts, nodes)."""
    head, found = reasoner.model.get_output_embeddings(), []
    for example in examples:
        names = list(graph_of(example).names)
        ids = reasoner.tokenizer(names, add_special_tokens=False)["input_ids"]
        shares = head(reasoner.think([example.question]).thoughts[0]).softmax(-1)
        found.append(shares[:, [token for [token] in ids]])
    return found


def depth_masses(examples: Sequence[Example], probabilities: Sequence[Tensor]) -> list[DepthMass]:
    """Average over questions the mass of thought i on nodes exactly i edges from the root."""
    masses = []
    for thought in range(max(map(len, probabilities))):
        mass, uniform = [], []
        for example, shares in zip(examples, probabilities, strict=True):
            graph = graph_of(example)
            away = distances(graph, graph.root)
            nodes = [node for node, depth in away.items() if depth == thought + 1]
            if nodes and thought < len(shares):
                mass.append(float(shares[thought, nodes].sum()))
                uniform.append(len(nodes) / len(graph.names))
        masses.append(DepthMass(fmean(mass), fmean(uniform)))
    return masses


def shortest_paths(graph: Graph, source: int, goal: int) -> list[tuple[int, ...]]:
    """All shortest paths from `source` to `goal`, both ends included, by trying every path."""
    level = [(source,)]
    while level:
        found = [path for path in level if path[-1] == goal]
        if found:
            return found
        level = [(*p, child) for p in level for child in graph.children[p[-1]] if child not in p]
    return []
