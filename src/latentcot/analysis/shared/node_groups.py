"""Groups of nodes, and of edges, seen from a search that has come some way from the root.

The groups of arXiv 2505.12514, made disjoint where they can be: see NODE_GROUPS and EDGE_GROUPS.
That paper's "reachable" is passed and frontier together; its "not reachable" is unreachable and
not_yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentcot.analysis.shared.subject import Subject
from latentcot.tasks.prosqa.graphs import Graph, distances

NODE_GROUPS = {
    "unreachable": "no path from the root",
    "passed": "reachable from the root, at distance < depth",
    "frontier": "at distance = depth from the root; optimal and off_path together",
    "optimal": "the frontier's nodes on a shortest path from root to target",
    "off_path": "the frontier's other nodes",
    "not_yet": "reachable from the root, at distance > depth",
}
EDGE_GROUPS = {
    "unreachable": "the edge's parent cannot be reached from the root",
    "passed": "its parent is at distance < depth from the root",
    "frontier": "its parent is at distance = depth; optimal and off_path together",
    "optimal": "the frontier's edges on a shortest path from root to target",
    "off_path": "the frontier's other edges",
    "not_yet": "its parent is reachable, at distance > depth",
}
NEVER = float("inf")
"""The distance of what cannot be reached."""


def mirror_of(graph: Graph) -> dict[int, list[int]]:
    """Return, by depth, what would be the frontier if the other candidate's root were asked about.

    Nodes that the root reaches too are left out. A model that only repeats the two candidates puts
    as much on this layer as on the frontier, a search does not.
    """
    reached = distances(graph, graph.root)
    found: dict[int, set[int]] = {}
    for source in range(graph.num_nodes):
        below = distances(graph, source) if not graph.parents[source] else {}
        if graph.neg_target in below:
            for node, depth in below.items():
                if node not in reached:
                    found.setdefault(depth, set()).add(node)
    return {depth: sorted(nodes) for depth, nodes in found.items()}


def depth_of(thought: int, thoughts_per_step: int) -> int:
    """Return how far from the root a breadth-first search is with thought i: ⌈i / c⌉."""
    return -(-thought // thoughts_per_step)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the nodes, or the edges, of some questions lie; M the most of any of them."""

    # (B, M). Of a node, or of an edge's parent, from the root; NEVER without a path.
    distances: Tensor
    is_optimal: Tensor  # (B, M). Whether it lies on a shortest path from root to target.
    is_used: Tensor  # (B, M). Whether it is there at all, and can be looked up.

    def groups(self, depths: Sequence[int]) -> dict[str, Tensor]:
        """Return which are in each group, seen from each of N depths: (B, N, M) each."""
        away = self.distances[:, None, :]
        depth = torch.tensor(depths, device=away.device)[None, :, None]
        frontier, optimal = away == depth, self.is_optimal[:, None, :]
        found = {
            "unreachable": (away == NEVER).expand_as(frontier),
            "passed": away < depth,
            "frontier": frontier,
            "optimal": frontier & optimal,
            "off_path": frontier & ~optimal,
            "not_yet": (away > depth) & (away < NEVER),
        }
        return {name: is_in & self.is_used[:, None, :] for name, is_in in found.items()}


def node_places(graphs: Sequence[Graph], usable: Sequence[Sequence[bool]]) -> Places:
    """Return where the nodes of some graphs lie; those that are not usable are left out."""
    rows = []
    for graph in graphs:
        away, on_path = distances(graph, graph.root), optimal_nodes(graph)
        rows.append([(away.get(node, NEVER), node in on_path) for node in range(graph.num_nodes)])
    return _places(rows, usable)


def edge_places(graphs: Sequence[Graph], usable: Sequence[Sequence[bool]]) -> Places:
    """Return where the edges of some graphs lie, in the order of `edges`."""
    rows = []
    for graph in graphs:
        away, on_path = distances(graph, graph.root), optimal_nodes(graph)
        optimal = [
            {parent, child} <= on_path and away[child] == away[parent] + 1
            for parent, child in graph.edges
        ]
        starts = [away.get(parent, NEVER) for parent, _ in graph.edges]
        rows.append(list(zip(starts, optimal, strict=True)))
    return _places(rows, usable)


def optimal_nodes(graph: Graph) -> set[int]:
    """Return the nodes on a shortest path from root to target, both ends included."""
    away = distances(graph, graph.root)
    level = {graph.target}
    found = set(level)
    while level:
        level = {
            parent
            for node in level
            for parent in graph.parents[node]
            if away.get(parent) == away[node] - 1
        }
        found |= level
    return found


def _places(
    rows: Sequence[Sequence[tuple[float, bool]]], usable: Sequence[Sequence[bool]]
) -> Places:
    def padded(values: Sequence[Sequence[float]]) -> Tensor:
        found = [torch.tensor(row, dtype=torch.float) for row in values]
        return nn.utils.rnn.pad_sequence(found, batch_first=True)

    return Places(
        distances=padded([[away for away, _ in row] for row in rows]),
        is_optimal=padded([[on_path for _, on_path in row] for row in rows]).bool(),
        is_used=padded(usable).bool(),
    )


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """How many names, or results, are told by what."""

    num_whole: int  # those that are one token
    num_begun: int  # those of several tokens, told by the first
    num_left_out: int  # those that begin like another of their question, or cannot be told

    def counts(self, things: str = "nodes") -> dict[str, int]:
        """Return the same as results say it; their sum is `num_{things}`."""
        return {
            f"num_{things}": self.num_whole + self.num_begun + self.num_left_out,
            "num_whole": self.num_whole,
            "num_by_first_token": self.num_begun,
            "num_left_out": self.num_left_out,
        }


@dataclass(frozen=True, slots=True)
class NameTokens(FirstTokens):
    """One token for each node by which its name is told, for each question."""

    ids: tuple[tuple[int, ...], ...]  # the name's first token; 0 where it cannot be used
    # whether no other name of the question begins with the same token
    is_used: tuple[tuple[bool, ...], ...]

    def padded(self, numbers: Sequence[int]) -> Tensor:
        """Return the ids of some questions side by side, (B, M), padded with 0."""
        rows = [torch.tensor(self.ids[i]) for i in numbers]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def name_tokens(subject: Subject) -> NameTokens:
    """Find the token by which each node's name is told."""
    unknown = subject.reasoner.tokenizer.unk_token_id
    ids, is_used, is_whole = [], [], []
    for names in subject.name_ids:
        first = [name[0] if name else unknown for name in names]
        usable = [token != unknown and first.count(token) == 1 for token in first]
        ids.append(tuple(token if ok else 0 for token, ok in zip(first, usable, strict=True)))
        is_used.append(tuple(usable))
        is_whole += [ok and len(name) == 1 for name, ok in zip(names, usable, strict=True)]
    num_used, num_whole = sum(map(sum, is_used)), sum(is_whole)
    num_left_out = len(is_whole) - num_used
    return NameTokens(num_whole, num_used - num_whole, num_left_out, tuple(ids), tuple(is_used))
