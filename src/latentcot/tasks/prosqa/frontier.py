"""The chain of a breadth-first search: one step a layer, in the rendering of the question."""

from latentcot.data.examples import Example
from latentcot.tasks.prosqa.generator import fact, graph_of, rendering_of
from latentcot.tasks.prosqa.graphs import distances
from latentcot.tasks.prosqa.rendering import edges_in_order


def frontier_chain(example: Example) -> tuple[str, ...]:
    """Return what is reached in 1, 2, … edges from the root, down to the layer of the target.

    In symbols a step names the nodes, in words it states an edge to each; both in the order in
    which the question first leads to them.

    Raises:
        DataError: The example carries no graph, or its question says something else.
    """
    graph = graph_of(example)
    depth = distances(graph, graph.root)
    is_words = rendering_of(example) == "words"
    layers: list[dict[int, str]] = [{} for _ in range(depth[graph.target])]
    for parent, child in edges_in_order(example, graph):
        number = depth.get(parent, len(layers))
        if number < len(layers) and depth[child] == number + 1:
            names = graph.names[parent], graph.names[child]
            layers[number].setdefault(child, fact(*names) if is_words else names[1])
    return tuple(" ".join(layer.values()) for layer in layers)
