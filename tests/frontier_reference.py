"""The mass of thoughts on the search frontier, written a second time, one question after another.

A thought is a hidden state, so the output head can read it as if a word came next, although
nothing is written in latent mode. What probability it gives to the name of each node shows how the
search has spread: a model that searches breadth first puts thought i on the nodes i edges away from
the root (arXiv 2412.06769, section 5; arXiv 2505.12514).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.evaluation.reasoner import Reasoner
from latentcot.tasks.prosqa.generator import graph_of
from latentcot.tasks.prosqa.graphs import distances


@dataclass(frozen=True, slots=True)
class DepthMass:
    """How much probability one thought gives to the nodes that a breadth-first search reaches then.

    Attributes:
        thought: Number of the thought, from 1.
        depth: Distance from the root of the nodes meant; the same number.
        mass: Mean over the questions of the summed probability of those nodes, 0 … 1. The rest of
            the vocabulary counts against it.
        uniform: The same if all nodes of the graph were equally probable.
    """

    thought: int
    depth: int
    mass: float
    uniform: float


def node_probabilities(
    reasoner: Reasoner, examples: Sequence[Example], batch_size: int = 100
) -> list[Tensor]:
    """Return what probability each thought gives to each node: (thoughts, nodes) an example.

    Thought i is the vector fed into latent position i. Read by the output head, over the whole
    vocabulary.

    Raises:
        DataError: An example carries no graph, or a node's name is more than one token.
    """
    head = reasoner.model.get_output_embeddings()
    found = []
    for start in range(0, len(examples), batch_size):
        chosen = examples[start : start + batch_size]
        thoughts = reasoner.think([example.question for example in chosen]).thoughts
        with torch.no_grad():
            probabilities = head(thoughts).softmax(-1).cpu()
        found += [
            shares[:, _name_tokens(reasoner, example)]
            for shares, example in zip(probabilities, chosen, strict=True)
        ]
    return found


def _name_tokens(reasoner: Reasoner, example: Example) -> list[int]:
    names = graph_of(example).names
    ids = reasoner.tokenizer(list(names), add_special_tokens=False)["input_ids"]
    for name, tokens in zip(names, ids, strict=True):
        if len(tokens) != 1:
            raise DataError(
                f"example {example.id!r}: the frontier is read off single tokens, but the node "
                f"{name!r} is {len(tokens)} tokens of this vocabulary."
            )
    return [tokens[0] for tokens in ids]


def depth_masses(examples: Sequence[Example], probabilities: Sequence[Tensor]) -> list[DepthMass]:
    """Average over questions the mass of thought i on nodes exactly i edges from the root.

    Questions whose graph has no node so deep are left out of that thought's mean.
    """
    masses = []
    for thought in range(max((len(p) for p in probabilities), default=0)):
        depth = thought + 1
        mass, uniform = [], []
        for example, shares in zip(examples, probabilities, strict=True):
            graph = graph_of(example)
            nodes = [n for n, d in distances(graph, graph.root).items() if d == depth]
            if nodes and thought < len(shares):
                mass.append(float(shares[thought, nodes].sum()))
                uniform.append(len(nodes) / len(graph.names))
        if mass:
            masses.append(DepthMass(depth, depth, fmean(mass), fmean(uniform)))
    return masses
