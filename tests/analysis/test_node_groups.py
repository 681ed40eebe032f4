"""Groups of nodes and edges, on a graph made by hand and against their definitions."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from latentcot.analysis.shared.node_groups import (
    EDGE_GROUPS,
    NODE_GROUPS,
    depth_of,
    edge_places,
    node_places,
    optimal_nodes,
)
from latentcot.tasks.prosqa.graphs import Graph, distances, shortest_paths

# 0 → 2, 3 → 4 → 6 (target); 3 → 5 → 7; 2 → 7; 0 → 4 is missing. 1 → 8 beside it, 1 → 4.
EDGES = ((0, 2), (0, 3), (2, 4), (3, 4), (3, 5), (4, 6), (5, 7), (2, 7), (1, 8), (1, 4))
GRAPH = Graph(9, EDGES, 0, 6, 8)


def members(groups, depth_place, question=0):
    return {
        name: [i for i, ok in enumerate(is_in[question, depth_place].tolist()) if ok]
        for name, is_in in groups.items()
    }


class TestNodes:
    def test_by_hand(self):
        groups = node_places([GRAPH], [[True] * 9]).groups([1, 2, 3])
        assert members(groups, 0) == {
            "unreachable": [1, 8],
            "passed": [0],
            "frontier": [2, 3],
            "optimal": [2, 3],
            "off_path": [],
            "not_yet": [4, 5, 6, 7],
        }
        assert members(groups, 1) == {
            "unreachable": [1, 8],
            "passed": [0, 2, 3],
            "frontier": [4, 5, 7],
            "optimal": [4],
            "off_path": [5, 7],
            "not_yet": [6],
        }
        assert members(groups, 2)["frontier"] == members(groups, 2)["optimal"] == [6]

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


class TestEdges:
    def test_by_hand(self):
        groups = edge_places([GRAPH], [[True] * len(EDGES)]).groups([0, 1, 2])
        at = {
            place: {
                name: {EDGES[i] for i in found} for name, found in members(groups, place).items()
            }
            for place in range(3)
        }
        assert at[0] == {
            "unreachable": {(1, 8), (1, 4)},
            "passed": set(),
            "frontier": {(0, 2), (0, 3)},
            "optimal": {(0, 2), (0, 3)},
            "off_path": set(),
            "not_yet": {(2, 4), (3, 4), (3, 5), (4, 6), (5, 7), (2, 7)},
        }
        assert at[1]["passed"] == {(0, 2), (0, 3)}
        assert at[1]["optimal"] == {(2, 4), (3, 4)}
        assert at[1]["off_path"] == {(3, 5), (2, 7)}
        assert at[2]["frontier"] == {(4, 6), (5, 7)}
        assert at[2]["optimal"] == {(4, 6)}


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


@given(graphs())
def test_optimal_nodes_are_those_of_all_shortest_paths(graph):
    paths = shortest_paths(graph, graph.root, graph.target)
    assert optimal_nodes(graph) == {node for path in paths for node in path}
    steps = {pair for path in paths for pair in pairwise(path)}
    depths = range(graph.num_nodes)
    groups = edge_places([graph], [[True] * len(graph.edges)]).groups(depths)
    found = {graph.edges[i] for place in depths for i in members(groups, place)["optimal"]}
    assert found == steps


@given(graphs(), st.integers(0, 5))
def test_four_groups_share_out_all_nodes_and_two_the_frontier(graph, depth):
    usable = [[True] * graph.num_nodes]
    found = members(node_places([graph], usable).groups([depth]), 0)
    assert list(found) == list(NODE_GROUPS) == list(EDGE_GROUPS)
    parts = [found[name] for name in ("unreachable", "passed", "frontier", "not_yet")]
    assert sorted(node for part in parts for node in part) == list(range(graph.num_nodes))
    assert sorted(found["optimal"] + found["off_path"]) == found["frontier"]


def test_depths_with_several_thoughts_a_step():
    assert [depth_of(i, 1) for i in range(5)] == [0, 1, 2, 3, 4]
    assert [depth_of(i, 2) for i in range(5)] == [0, 1, 1, 2, 2]
