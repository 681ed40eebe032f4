"""ProsQA's graphs: two ways to make them, and the few searches that everything else needs.

No files, no names: `generator.py` turns a graph into an example. All randomness comes from the
`random.Random` that is handed in, so one seed gives one graph on every machine.

In every graph made here nodes 0 and 1 are the roots of the two families, and parents have smaller
numbers than their children.

Sources: arXiv 2412.06769, appendix (the official construction), and, for what the paper leaves
open, the official validation file: see `paper_graph`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from random import Random
from typing import Literal

from latentcot.errors import DataError

Edge = tuple[int, int]
CandidateRule = Literal["official", "balanced"]

MAX_TRIES = 20_000
"""Graphs drawn in a row without an acceptable one before `paper_graph` gives up."""

_NEITHER, _FIRST, _SECOND, _BOTH = range(4)  # bit 0: below node 0; bit 1: below node 1


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph with the question asked about it.

    Attributes:
        num_nodes: Nodes are 0 … num_nodes - 1.
        edges: (parent, child) pairs, each once.
        root: The node asked about.
        target: The candidate that can be reached from `root`.
        neg_target: The candidate that cannot.
        names: One name a node, or empty while the nodes have none.
    """

    num_nodes: int
    edges: tuple[Edge, ...]
    root: int
    target: int
    neg_target: int
    names: tuple[str, ...] = ()

    @cached_property
    def children(self) -> list[list[int]]:
        """The children of each node, in the order of `edges`."""
        children: list[list[int]] = [[] for _ in range(self.num_nodes)]
        for parent, child in self.edges:
            children[parent].append(child)
        return children

    @cached_property
    def parents(self) -> list[list[int]]:
        """The parents of each node, in the order of `edges`."""
        parents: list[list[int]] = [[] for _ in range(self.num_nodes)]
        for parent, child in self.edges:
            parents[child].append(parent)
        return parents


# --- searches ---------------------------------------------------------------------------------


def distances(graph: Graph, source: int) -> dict[int, int]:
    """Return the distance in edges from `source` to every node it reaches, itself included."""
    children = graph.children
    found = {source: 0}
    queue = [source]
    for node in queue:  # grows while it is read: breadth first
        further = found[node] + 1
        for child in children[node]:
            if child not in found:
                found[child] = further
                queue.append(child)
    return found


def distances_to(graph: Graph, goal: int) -> dict[int, int]:
    """Return the distance in edges to `goal` from every node that leads there, itself included."""
    turned = tuple((child, parent) for parent, child in graph.edges)
    return distances(replace(graph, edges=turned), goal)


def count_shortest_paths(graph: Graph, source: int, goal: int) -> int:
    """Return how many shortest paths lead from `source` to `goal`; 0 where none does."""
    return _path_counts(graph, distances(graph, source)).get(goal, 0)


def draw_shortest_path(rng: Random, graph: Graph) -> tuple[int, ...]:
    """Return one shortest path from root to target, each of them equally likely.

    Raises:
        DataError: The target cannot be reached.
    """
    found = distances(graph, graph.root)
    if graph.target not in found:
        raise DataError(f"graph: no path leads from root {graph.root} to target {graph.target}.")
    counts: dict[int, int] | None = None
    path = [graph.target]
    while path[-1] != graph.root:
        above = _steps_up(graph, found, path[-1])
        if len(above) > 1:
            # Weighted by the paths that lead on from there: else short branches are overdrawn.
            counts = counts or _path_counts(graph, found)
            path += rng.choices(above, [counts[node] for node in above])
        else:
            path += above
    return tuple(reversed(path))


def _steps_up(graph: Graph, found: dict[int, int], node: int) -> list[int]:
    """Return the parents of `node` that are one step nearer to the source of `found`."""
    nearer = found[node] - 1
    return [parent for parent in graph.parents[node] if found.get(parent) == nearer]


def _path_counts(graph: Graph, found: dict[int, int]) -> dict[int, int]:
    """Return the number of shortest paths from the source of `found` to each node in it."""
    counts: dict[int, int] = {}
    for node in found:  # insertion order is breadth first: parents on shortest paths come first
        counts[node] = sum(counts[above] for above in _steps_up(graph, found, node)) or 1
    return counts


# --- the symmetric construction -------------------------------------------------------------------


def two_family_graph(
    rng: Random,
    layers: int,
    shared: int,
    min_depth: int | None = None,
    width: int = 2,
    family_nodes: int | None = None,
    joins: int = 0,
) -> Graph:
    """Draw two random graphs of equal shape, and `shared` dead ends that hang from both.

    Each family is a root and `layers` layers of `width` nodes; every node has one random parent in
    the layer above, in its own family. A dead end has one parent in each family, above the last
    layer, so that the candidates stay leaves. Target and distractor are nodes of the two families
    in the same layer: the last one, or, with `min_depth`, one drawn from there to the last. Which
    family is asked about is the last thing drawn, by a fair coin: graph and candidates alone say
    nothing about the answer.

    Nodes are numbered root, root, then layer by layer (those of each family), then the dead ends:
    2·width·layers + 2 + shared nodes, 2·(width·layers + joins + shared) edges.

    Args:
        rng: Where all randomness comes from.
        layers: Layers below each root.
        shared: Dead ends.
        min_depth: First layer in which candidates may stand; None for the last alone.
        width: Nodes of a layer, in each family.
        family_nodes: Nodes below each root, if not width·layers: at least one a layer, the rest
            spread at random, in both families alike.
        joins: Nodes of each family with a second parent in the layer above: several paths, all of
            one length, lead to what lies below.

    Raises:
        DataError: No shape with so many joins came up in `MAX_TRIES` tries.
    """
    uniform = rng.random  # int(uniform() * n) is three times faster than rng.randrange(n)
    edges, node = list[Edge](), 2
    widths = _layer_widths(rng, layers, width, family_nodes or width * layers, joins)
    families: tuple[list[list[int]], list[list[int]]] = ([[0]], [[1]])  # layer by layer
    for num_nodes in widths:
        for family in families:
            family.append(list(range(node, node + num_nodes)))
            parents = family[-2]
            edges += [(parents[int(uniform() * len(parents))], child) for child in family[-1]]
            node += num_nodes
    if joins:
        parent_of = {child: parent for parent, child in edges}
        for family in families:
            able = [(up, n) for up, layer in pairwise(family) if len(up) > 1 for n in layer]
            edges += [
                (rng.choice([one for one in up if one != parent_of[child]]), child)
                for up, child in rng.sample(able, joins)
            ]
    inner = [[one for layer in family[:-1] for one in layer] for family in families]
    for _ in range(shared):
        edges += [(nodes[int(uniform() * len(nodes))], node) for nodes in inner]
        node += 1
    depth = layers
    if min_depth is not None:
        depth = min_depth + int(uniform() * (layers - min_depth + 1))
    candidates = [family[depth][int(uniform() * len(family[depth]))] for family in families]
    asked = int(uniform() * 2)
    return Graph(node, tuple(edges), asked, candidates[asked], candidates[1 - asked])


def _layer_widths(rng: Random, layers: int, width: int, num_nodes: int, joins: int) -> list[int]:
    """Return how many nodes of a family each layer has."""
    if num_nodes == width * layers:
        return [width] * layers
    room = [layer for layer in range(layers) for _ in range(width - 1)]
    for _ in range(MAX_TRIES):
        filled = rng.sample(room, num_nodes - layers)
        widths = [1 + filled.count(layer) for layer in range(layers)]
        if joins <= sum(below for above, below in pairwise(widths) if above > 1):
            return widths
    raise DataError(
        f"ProsQA graphs: none of {MAX_TRIES} draws of {num_nodes} nodes in {layers} layers has "
        f"room for {joins} joins. Ask for fewer."
    )


# --- the official construction --------------------------------------------------------------------


def paper_graph(
    rng: Random,
    min_nodes: int = 28,
    max_nodes: int = 28,
    min_hops: int = 3,
    max_hops: int = 6,
    mean_in_degree: float = 1.5,
    candidates: CandidateRule = "official",
) -> Graph:
    """Draw a graph as the paper's appendix describes; redraw until the answer's depth fits.

    The paper leaves four things open. They are settled here by what the official validation file
    shows (its 300 graphs in brackets):
    - 28 nodes are drawn and those that end up without any edge are dropped: 23.1 ± 2.0 nodes stay
      (22.8 ± 2.0), with 36.3 ± 5.7 edges (36.3 ± 5.6).
    - A new node without parents joins no group: it can become a parent only through the draw from
      all nodes. With the group 0 that the text suggests there are four nodes outside both families
      (0.6; here 1.1).
    - The target is a deepest leaf of both families together (in all 300), ties drawn at random,
      and the family it belongs to is the one asked about; the distractor is any leaf of the other
      family. **So the deeper candidate is nearly always the answer** (94.5 % of the file).
    - Graphs with fewer than 3 hops are redrawn (3 to 6 in the file).

    `candidates="balanced"` removes that shortcut: both are drawn at the greatest depth at which
    both families have a leaf, and the family asked about is drawn last, by a fair coin.

    Args:
        rng: Where all randomness comes from.
        min_nodes: Fewest nodes drawn before those without edges are dropped.
        max_nodes: Most; each number in between is equally likely.
        min_hops: Fewest edges on the shortest path from root to target.
        max_hops: Most.
        mean_in_degree: Mean of the Poisson draw for the number of parents.
        candidates: How the two candidates are chosen, see above.

    Raises:
        DataError: No graph within these bounds came up in `MAX_TRIES` tries.
    """
    for _ in range(MAX_TRIES):
        num_drawn = min_nodes + int(rng.random() * (max_nodes - min_nodes + 1))
        num_nodes, edges, labels = _grow(rng, num_drawn, mean_in_degree)
        graph = Graph(num_nodes, edges, 0, 0, 0)
        leaves = []  # those of one family alone, for each, with their distance to its root
        for root, label in ((0, _FIRST), (1, _SECOND)):
            below = {n: hops for n, hops in distances(graph, root).items() if labels[n] == label}
            leaves.append({n: h for n, h in below.items() if h and not graph.children[n]})
        asked = _draw_candidates(rng, leaves, candidates, min_hops, max_hops)
        if asked is not None:
            return Graph(num_nodes, edges, *asked)
    raise DataError(
        f"ProsQA graphs: none of {MAX_TRIES} draws with {min_nodes} to {max_nodes} nodes and "
        f"mean in-degree {mean_in_degree} has {min_hops} to {max_hops} hops. "
        "Allow other hops or more nodes."
    )


def _grow(
    rng: Random, num_drawn: int, mean_in_degree: float
) -> tuple[int, tuple[Edge, ...], list[int]]:
    """Draw nodes one after the other; return number, edges and labels of those with an edge."""
    labels, depths = [_FIRST, _SECOND], [0, 0]
    groups: tuple[list[int], ...] = ([], [0], [1], [])
    edges: list[Edge] = []
    limit = math.exp(-mean_in_degree)
    for node in range(2, num_drawn):
        # Poisson, by Knuth's product of uniforms: `random` has none.
        num_parents, product = 0, rng.random()
        while product > limit:
            num_parents += 1
            product *= rng.random()
        draw = rng.random()
        if draw <= 0.7:
            allowed = groups[_NEITHER] + groups[_FIRST if draw <= 0.35 else _SECOND]
        else:
            allowed = list(range(node))
        # Without replacement, deep nodes more often.
        weights = [depths[one] * 1.5 + 1 for one in allowed]
        parents = []
        for _ in range(min(num_parents, len(allowed))):
            [place] = rng.choices(range(len(allowed)), weights)
            parents.append(allowed.pop(place))
            weights.pop(place)

        label = _NEITHER
        for parent in parents:
            label |= labels[parent]
            edges.append((parent, node))
        labels.append(label)
        depths.append(min(depths[parent] for parent in parents) + 1 if parents else 0)
        if parents:
            groups[label].append(node)
    kept = sorted({0, 1}.union(*edges))
    new_number = {node: number for number, node in enumerate(kept)}
    renumbered = tuple((new_number[parent], new_number[child]) for parent, child in edges)
    return len(kept), renumbered, [labels[node] for node in kept]


def _draw_candidates(
    rng: Random,
    leaves: Sequence[dict[int, int]],
    rule: CandidateRule,
    min_hops: int,
    max_hops: int,
) -> tuple[int, int, int] | None:
    """Return (root, target, neg_target) of one leaf of each family, or None to redraw."""
    first, second = leaves
    if rule == "balanced":  # at the greatest depth that both have
        common = set(first.values()) & set(second.values())
        allowed = [hops for hops in common if min_hops <= hops <= max_hops]
        if not allowed:
            return None
        depth = max(allowed)
        pair = [rng.choice([n for n, hops in one.items() if hops == depth]) for one in leaves]
        root = int(rng.random() * 2)
        return root, pair[root], pair[1 - root]
    if not first or not second:
        return None
    deepest = max(max(family.values()) for family in leaves)
    if not min_hops <= deepest <= max_hops:
        return None
    root, target = rng.choice(
        [(root, n) for root in (0, 1) for n, hops in leaves[root].items() if hops == deepest]
    )
    return root, target, rng.choice(list(leaves[1 - root]))
