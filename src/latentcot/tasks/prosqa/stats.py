"""What ProsQA data looks like in numbers: sizes, hops, and what gives the answer away.

The last two of the statistics are shortcuts: half is what a guess gets, more is a leak. The
official files have one (the deeper candidate, 94.5 %): see docs/data-format.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated

from latentcot.data.examples import Example
from latentcot.tasks.prosqa.generator import candidates_of, chain_of, graph_of
from latentcot.tasks.prosqa.graphs import Graph, count_shortest_paths, distances, distances_to
from latentcot.tasks.statistics import MeanSd, histogram, need_examples


@dataclass(frozen=True, slots=True)
class GraphStats:
    """Statistics over the examples of one file; shares are between 0 and 1.

    Attributes:
        nodes: As `idx_to_symbol` counts them.
        hops: Edges on the shortest path from root to target.
        shortest_paths: Number of shortest paths from root to target.
        share_gold_shortest: Examples whose steps are a shortest path from root to target.
        share_distractor_reachable: Examples whose negative target can be reached from the root.
        accuracy_deeper_candidate: What one scores without looking at the root, by always taking
            the deeper candidate, see `depth`; ties count half.
    """

    num_examples: Annotated[int, "examples"]
    nodes: Annotated[MeanSd, "nodes"]
    edges: Annotated[MeanSd, "edges"]
    hops: Annotated[MeanSd, "hops"]
    shortest_paths: Annotated[MeanSd, "shortest paths"]
    hop_histogram: Annotated[dict[int, int], "hops: examples"]
    share_gold_shortest: Annotated[float, "chain is a shortest path"]
    share_distractor_reachable: Annotated[float, "distractor reachable"]
    share_answer_first: Annotated[float, "answer named first"]
    accuracy_deeper_candidate: Annotated[float, "right by taking the deeper"]


def graph_stats(examples: Sequence[Example]) -> GraphStats:
    """Return the statistics of ProsQA examples, ours or official.

    Raises:
        DataError: There is no example, or one that is not ProsQA.
    """
    need_examples(examples)
    graphs = [graph_of(example) for example in examples]
    reached = [distances(graph, graph.root) for graph in graphs]
    hops = [found[graph.target] for found, graph in zip(reached, graphs, strict=True)]
    chains = [chain_of(*pair) or () for pair in zip(examples, graphs, strict=True)]
    gold = [
        len(chain) == length + 1 and chain[-1] == graph.target
        for chain, graph, length in zip(chains, graphs, hops, strict=True)
    ]
    depths = [(depth(g, g.target), depth(g, g.neg_target)) for g in graphs]
    first = [candidates_of(example)[0] for example in examples]
    return GraphStats(
        num_examples=len(examples),
        nodes=MeanSd.of([graph.num_nodes for graph in graphs]),
        edges=MeanSd.of([len(graph.edges) for graph in graphs]),
        hops=MeanSd.of(hops),
        shortest_paths=MeanSd.of([count_shortest_paths(g, g.root, g.target) for g in graphs]),
        hop_histogram=histogram(hops),
        share_gold_shortest=fmean(gold),
        share_distractor_reachable=fmean(
            graph.neg_target in found for found, graph in zip(reached, graphs, strict=True)
        ),
        share_answer_first=fmean(
            name == graph.names[graph.target] for name, graph in zip(first, graphs, strict=True)
        ),
        accuracy_deeper_candidate=fmean(
            0.5 if answer == distractor else float(answer > distractor)
            for answer, distractor in depths
        ),
    )


def depth(graph: Graph, node: int) -> int:
    """Return how far `node` is from the farthest node without parents that it descends from.

    Distance is that of the shortest path. The root asked about plays no part in it.
    """
    upwards = distances_to(graph, node)
    return max(hops for found, hops in upwards.items() if not graph.parents[found])
