"""Groups of nodes and edges, on a graph made by hand and against their definitions."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from frontier_reference import shortest_paths
from latentcot.analysis.shared.node_groups import (
    EDGE_GROUPS,
    NODE_GROUPS,
    depth_of,
    edge_places,
    node_places,
    optimal_nodes,
)
from latentcot.tasks.prosqa.graphs import Graph, distances

# 0 → 2, 3 → 4 → 6 (target); 3 → 5 → 7; 2 → 7; 0 → 4 is missing. 1 → 8 beside it, 1 → 4.
EDGES = ((0, 2), (0, 3), (2, 4), (3, 4), (3, 5), (4, 6), (5, 7), (2, 7), (1, 8), (1, 4))
GRAPH = Graph(9, EDGES, 0, 6, 8)


def members(groups, depth_place, question=0):
    return {
        name: [i for i, ok in enumerate(is_in[question, depth_place].tolist()) if ok]
        for name, is_in in groups.items()
    }


class TestNodes:
    def test_what_cannot_be_used_is_in_no_group(self):
        usable = [True] * 9
        usable[2] = usable[8] = False
        found = members(node_places([GRAPH], [usable]).groups([1]), 0)
        assert found["frontier"] == [3] and found["unreachable"] == [1]
        assert found["not_yet"] == [4, 5, 6, 7]

    def test_smaller_graphs_beside_larger_ones_get_no_more_nodes(self):
        small = Graph(4, ((0, 2), (1, 3)), 0, 2, 3)
        groups = node_places([GRAPH, small], [[True] * 9, [True] * 4]).groups([1, 2])
        assert members(groups, 0, 1) == {
            "unreachable": [1, 3],
            "passed": [0],
            "frontier": [2],
            "optimal": [2],
            "off_path": [],
            "not_yet": [],
        }
        assert members(groups, 1, 1)["frontier"] == []


@st.composite
def graphs(draw):
    num = draw(st.integers(3, 9))
    pairs = [(a, b) for a in range(num) for b in range(a + 1, num)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, min_size=1))
    target = draw(st.sampled_from(sorted({b for _, b in edges})))
    roots = sorted(
        {a for a, _ in edges if target in distances(Graph(num, tuple(edges), a, 0, 0), a)}
    )
    root = draw(st.sampled_from([a for a in roots if a != target]))
    return Graph(num, tuple(edges), root, target, 0)


def groups_by_definition(away, optimal, depth):
    """Members of each group, from the distance of each node or edge and whether it is optimal."""
    frontier = [i for i, distance in enumerate(away) if distance == depth]
    return {
        "unreachable": [i for i, distance in enumerate(away) if distance is None],
        "passed": [i for i, d in enumerate(away) if d is not None and d < depth],
        "frontier": frontier,
        "optimal": [i for i in frontier if optimal[i]],
        "off_path": [i for i in frontier if not optimal[i]],
        "not_yet": [i for i, d in enumerate(away) if d is not None and d > depth],
    }


@given(graphs())
def test_groups_are_those_of_their_definitions(graph):
    away = distances(graph, graph.root)
    paths = shortest_paths(graph, graph.root, graph.target)
    nodes = {node for path in paths for node in path}
    steps = {pair for path in paths for pair in pairwise(path)}
    assert optimal_nodes(graph) == nodes
    of_nodes = node_places([graph], [[True] * graph.num_nodes]).groups(range(7))
    of_edges = edge_places([graph], [[True] * len(graph.edges)]).groups(range(7))
    assert list(of_nodes) == list(NODE_GROUPS) == list(EDGE_GROUPS)
    for depth in range(7):
        far, is_optimal = zip(
            *((away.get(n), n in nodes) for n in range(graph.num_nodes)), strict=True
        )
        assert members(of_nodes, depth) == groups_by_definition(far, is_optimal, depth)
        far, is_optimal = zip(
            *((away.get(edge[0]), edge in steps) for edge in graph.edges), strict=True
        )
        assert members(of_edges, depth) == groups_by_definition(far, is_optimal, depth)


def test_depths_with_several_thoughts_a_step():
    assert [depth_of(i, 1) for i in range(5)] == [0, 1, 2, 3, 4]
    assert [depth_of(i, 2) for i in range(5)] == [0, 1, 1, 2, 2]
