"""What ProsQA data looks like in numbers: sizes, hops, and what gives the answer away.

The last two of the statistics are shortcuts: half is what a guess gets, more is a leak. The
official files have one (the deeper candidate, 94.5 %): see docs/data-format.md.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.tasks.prosqa.generator import candidates_of, chain_of, graph_of
from latentcot.tasks.prosqa.graphs import Graph, count_shortest_paths, distances


@dataclass(frozen=True, slots=True)
class MeanSd:
    """A mean with the standard deviation over the examples."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class GraphStats:
    """Statistics over the examples of one file; shares are between 0 and 1.

    Attributes:
        num_examples: How many examples there are.
        nodes: Nodes of a graph, as `idx_to_symbol` counts them.
        edges: Edges of a graph.
        hops: Edges on the shortest path from root to target.
        shortest_paths: Number of shortest paths from root to target.
        hop_histogram: Number of examples for each number of hops, in rising order.
        share_gold_shortest: Examples whose steps are a shortest path from root to target.
        share_distractor_reachable: Examples whose negative target can be reached from the root.
        share_answer_first: Examples whose question names the answer before the distractor.
        accuracy_deeper_candidate: What one scores without looking at the root, by always taking
            the deeper candidate, see `depth`; ties count half.
    """

    num_examples: int
    nodes: MeanSd
    edges: MeanSd
    hops: MeanSd
    shortest_paths: MeanSd
    hop_histogram: dict[int, int]
    share_gold_shortest: float
    share_distractor_reachable: float
    share_answer_first: float
    accuracy_deeper_candidate: float


def graph_stats(examples: Sequence[Example]) -> GraphStats:
    """Return the statistics of ProsQA examples, ours or official.

    Raises:
        DataError: There is no example, or one that is not ProsQA.
    """
    if not examples:
        raise DataError("ProsQA statistics: there is no example.")
    pairs = [(example, graph_of(example)) for example in examples]
    reached = [distances(graph, graph.root) for _, graph in pairs]
    hops = [found[graph.target] for found, (_, graph) in zip(reached, pairs, strict=True)]
    return GraphStats(
        num_examples=len(pairs),
        nodes=_mean_sd([graph.num_nodes for _, graph in pairs]),
        edges=_mean_sd([len(graph.edges) for _, graph in pairs]),
        hops=_mean_sd(hops),
        shortest_paths=_mean_sd([count_shortest_paths(g, g.root, g.target) for _, g in pairs]),
        hop_histogram=dict(sorted(Counter(hops).items())),
        share_gold_shortest=fmean(
            _is_gold_shortest(*pair, length) for pair, length in zip(pairs, hops, strict=True)
        ),
        share_distractor_reachable=fmean(
            graph.neg_target in found for found, (_, graph) in zip(reached, pairs, strict=True)
        ),
        share_answer_first=fmean(
            candidates_of(example)[0] == graph.names[graph.target] for example, graph in pairs
        ),
        accuracy_deeper_candidate=fmean(_deeper_is_answer(graph) for _, graph in pairs),
    )


def depth(graph: Graph, node: int) -> int:
    """Return how far `node` is from the farthest node without parents that it descends from.

    Distance is that of the shortest path. The root asked about plays no part in it.
    """
    upwards = {node: 0}
    queue = [node]
    for below in queue:
        for parent in graph.parents[below]:
            if parent not in upwards:
                upwards[parent] = upwards[below] + 1
                queue.append(parent)
    return max(hops for found, hops in upwards.items() if not graph.parents[found])


def _deeper_is_answer(graph: Graph) -> float:
    """Return 1 where the deeper candidate is the answer, 0 where not, a half where they tie."""
    answer, distractor = depth(graph, graph.target), depth(graph, graph.neg_target)
    return 0.5 if answer == distractor else float(answer > distractor)


def _is_gold_shortest(example: Example, graph: Graph, hops: int) -> bool:
    chain = chain_of(example, graph)
    return chain is not None and chain[-1] == graph.target and len(chain) == hops + 1


def _mean_sd(values: Sequence[int]) -> MeanSd:
    return MeanSd(fmean(values), pstdev(values))
