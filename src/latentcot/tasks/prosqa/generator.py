"""ProsQA as data: graphs to examples, examples back to graphs, splits without a common graph.

Two renderings of the same graph:
- words: "Every lorpus is a rorpus. … Is Tom a lempus or scrompus?", as the official files say it
  (arXiv 2412.06769);
- symbols: "3 7 | 3 9 | … [Q] 9 12 [R] 3", one token a node (arXiv 2505.12514).

`meta` carries the graph under the official keys, so `graph_of` reads our files and theirs.
docs/data-format.md shows all of it. How a generation is scored is not here; `prosqa_rendering.py`
turns a file from one rendering into the other.
"""

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Any

from latentcot.data.examples import Example
from latentcot.data.formats import HELP
from latentcot.errors import DataError
from latentcot.tasks.prosqa.graphs import (
    Edge,
    Graph,
    distances,
    draw_shortest_path,
    has_circle,
    paper_graph,
    two_family_graph,
)
from latentcot.tasks.prosqa.options import EASY, IdOrder, ProsqaOptions, Rendering, most_joins
from latentcot.tasks.splits import MAX_CLASHES, draw_new, fill_splits
from latentcot.utils.parsing import shown

# The names that occur in the official files.
_PERSONS = (
    "Alex Bob Carol Davis Eva Fae Gabriel Jack Max Oliver Polly Rex Sally Sam Stella Tom Wren"
)
_SPECIES = """
    bompus boompus brimpus chorpus dumpus felpus fompus gerpus gorpus grimpus gwompus hilpus impus
    jelpus jompus kerpus lempus lorpus numpus quimpus rempus rompus rorpus scrompus shumpus sterpus
    storpus terpus timpus tumpus vumpus worpus wumpus yerpus yimpus yumpus zhorpus zumpus
"""
PERSONS = tuple(_PERSONS.split())
SPECIES = tuple(_SPECIES.split())

# --- making -----------------------------------------------------------------------------------


def make_splits(
    options: ProsqaOptions,
    sizes: Mapping[str, int],
    seed: int,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, list[Example]]:
    """Make examples for each split, none of them twice and none in two splits.

    Two examples are the same if they agree in named edges, root and candidates. Small splits are
    made first, each from its own stream of random numbers, so a larger training split leaves
    validation and test as they are.

    Args:
        options: How the graphs are drawn and rendered.
        sizes: Number of examples of each split; ids are "split-0", "split-1", …
        seed: With `options`, the split's name and the smaller splits it determines every byte.
        on_progress: Called now and then with the number of examples made since the last call.

    Raises:
        DataError: There are too few different graphs, or none, under these options.
    """
    taken: set[Hashable] = set()

    def draw(rng: Random, split: str, number: int) -> Example:
        drawn = _drawn_options(rng, options, split)
        graph = draw_new(lambda: draw_graph(rng, drawn), _identity, taken)
        if graph is None:
            raise _too_few(taken, sizes)
        return render(rng, graph, options, id=f"{split}-{number}")

    return fill_splits("prosqa", sizes, seed, draw, on_progress)


def _drawn_options(rng: Random, options: ProsqaOptions, split: str) -> ProsqaOptions:
    """Return the options of the next graph: the same, with fewer layers, or of an easier kind."""
    if options.two_family and split == "train" and rng.random() < options.two_family:
        easy = replace(EASY, num_symbols=options.num_symbols or options.max_graph_nodes)
        return _drawn_options(rng, easy, split)
    is_fixed = options.shallower == 0 or split != "train" or options.layers == 1
    if is_fixed or rng.random() >= options.shallower:
        return options
    layers = rng.randint(1, options.layers - 1)
    symbols = options.num_symbols
    if options.rendering == "symbols" and options.ids == "random":
        symbols = symbols or options.max_graph_nodes  # names are drawn from as many as before
    depth, nodes = options.min_depth, options.family_nodes
    nodes = None if nodes is None else min(nodes, options.width * layers)
    return replace(
        options,
        layers=layers,
        family_nodes=nodes,
        joins=min(options.joins, most_joins(layers, options.width, nodes)),
        min_depth=None if depth is None else min(depth, layers),
        shallower=0.0,
        num_symbols=symbols,
    )


def _too_few(taken: set[Hashable], sizes: Mapping[str, int]) -> DataError:
    return DataError(
        f"ProsQA data: after {len(taken)} different graphs {MAX_CLASHES} draws in a row brought "
        f"none that is new, but {sum(sizes.values())} are asked for. Ask for fewer, make graphs "
        "larger, or draw ids at random (symbols: --ids random)."
    )


def draw_graph(rng: Random, options: ProsqaOptions) -> Graph:
    """Draw one graph, with names, as `options` say.

    Raises:
        DataError: No graph of this kind can be found or named.
    """
    if options.construction == "two-family":
        graph = two_family_graph(
            rng,
            options.layers,
            options.shared,
            options.min_depth,
            options.width,
            options.family_nodes,
            options.joins,
        )
    else:
        graph = paper_graph(
            rng,
            options.min_nodes,
            options.max_nodes,
            options.min_hops,
            options.max_hops,
            options.mean_in_degree,
            options.candidates,
        )
    if options.rendering == "words":
        return replace(graph, names=word_names(rng, graph))
    num_symbols = options.num_symbols or options.max_graph_nodes
    return replace(graph, names=symbol_names(rng, graph.num_nodes, options.ids, num_symbols))


def word_names(rng: Random, graph: Graph) -> tuple[str, ...]:
    """Draw a person for each node without parents and a species for every other node.

    Raises:
        DataError: There are too few names.
    """
    has_parents = {child for _, child in graph.edges}
    num_persons = graph.num_nodes - len(has_parents)
    if num_persons > len(PERSONS):
        raise DataError(
            f"ProsQA graph: {num_persons} nodes have no parents, but there are {len(PERSONS)} "
            "names for persons. Make graphs smaller, raise mean_in_degree, or use symbols."
        )
    if len(has_parents) > len(SPECIES):
        raise DataError(
            f"ProsQA graph: {len(has_parents)} nodes have parents, but there are {len(SPECIES)} "
            "names for concepts. Make graphs smaller, or use symbols."
        )
    persons = iter(rng.sample(PERSONS, num_persons))
    species = iter(rng.sample(SPECIES, len(has_parents)))
    return tuple(
        next(species if node in has_parents else persons) for node in range(graph.num_nodes)
    )


def symbol_names(rng: Random, num_nodes: int, ids: IdOrder, num_symbols: int) -> tuple[str, ...]:
    """Return a number for each node: its own, or one drawn from 0 … num_symbols - 1."""
    if ids == "creation":
        return tuple(str(node) for node in range(num_nodes))
    return tuple(str(number) for number in rng.sample(range(num_symbols), num_nodes))


def _identity(graph: Graph) -> tuple[Any, ...]:
    names = graph.names
    asked = (names[graph.root], names[graph.target], names[graph.neg_target])
    return (frozenset((names[parent], names[child]) for parent, child in graph.edges), *asked)


# --- rendering --------------------------------------------------------------------------------


BARS, PAIRS, JOINED = "{} {} | ", "{} {} ", "{}>{} "
"""How an edge stands in a question in symbols: three tokens, two, or one."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What a graph leaves open about its example.

    Attributes:
        edges: Those of the graph, in the order of the question.
        candidates: Target and negative target, in the order of the question.
        path: The nodes of the chain, root first.
    """

    edges: tuple[Edge, ...]
    candidates: tuple[int, int]
    path: tuple[int, ...]


def render(rng: Random, graph: Graph, options: ProsqaOptions, id: str) -> Example:
    """Return the example of a named graph; edge order, candidate order and chain are drawn."""
    edges = list(graph.edges)
    rng.shuffle(edges)
    first, second = graph.target, graph.neg_target
    if rng.random() < 0.5:
        first, second = second, first
    telling = Telling(tuple(edges), (first, second), draw_shortest_path(rng, graph))
    return write_out(graph, telling, options.rendering, _edge_form(options), id)


def _edge_form(options: ProsqaOptions) -> str:
    if options.joined:
        return JOINED
    return BARS if options.separator else PAIRS


def write_out(
    graph: Graph, telling: Telling, rendering: Rendering, edge_form: str, id: str
) -> Example:
    """Return the example of a named graph told in this way; `edge_form` is for symbols only."""
    names, root = graph.names, graph.names[graph.root]
    first, second = telling.candidates
    if rendering == "words":
        facts = " ".join(fact(names[parent], names[child]) for parent, child in telling.edges)
        question = f"{facts} Is {root} a {names[first]} or {names[second]}?"
        steps = tuple(fact(names[a], names[b]) for a, b in pairwise(telling.path))
        answer = fact(root, names[graph.target])
    else:
        edges = (edge_form.format(names[parent], names[child]) for parent, child in telling.edges)
        facts = "".join(edges)
        question = f"{facts}[Q] {names[first]} {names[second]} [R] {root}"
        steps = tuple(names[node] for node in telling.path[1:])
        answer = names[graph.target]
    meta = {
        "idx_to_symbol": list(names),
        "edges": [list(edge) for edge in graph.edges],
        "root": graph.root,
        "target": graph.target,
        "neg_target": graph.neg_target,
    }
    return Example(id, question, steps, answer, meta)


def fact(subject: str, species: str) -> str:
    """Return the official sentence of an edge: "Tom is a lempus.", "Every lorpus is a rorpus."."""
    return (
        f"{subject} is a {species}." if subject[0].isupper() else f"Every {subject} is a {species}."
    )


# --- reading ----------------------------------------------------------------------------------


def graph_of(example: Example) -> Graph:
    """Return the graph that an example carries in `meta`, from our files or the official ones.

    Raises:
        DataError: A key is missing, or what they say does not fit together.
    """
    meta = example.meta
    missing = [
        k for k in ("idx_to_symbol", "edges", "root", "target", "neg_target") if k not in meta
    ]
    if missing:
        raise DataError(f"example {example.id}: has no {', '.join(map(repr, missing))}. {HELP}")
    names, edges = meta["idx_to_symbol"], meta["edges"]
    asked = [meta[key] for key in ("root", "target", "neg_target")]
    problem = (
        _names_problem(names) or _edges_problem(edges, len(names)) or _asked_problem(asked, names)
    )
    if problem:
        raise DataError(f"example {example.id}: {problem} {HELP}")
    root, target, neg_target = asked
    pairs = tuple((parent, child) for parent, child in edges)
    graph = Graph(len(names), pairs, root, target, neg_target, tuple(names))
    if graph.target not in distances(graph, graph.root):
        raise DataError(
            f"example {example.id}: 'target' {graph.target} cannot be reached from "
            f"'root' {graph.root}. {HELP}"
        )
    if has_circle(graph):
        raise DataError(f"example {example.id}: 'edges' lead in a circle. {HELP}")
    return graph


def _names_problem(names: Any) -> str:
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        return "'idx_to_symbol' must be a list of names."
    doubled = next((name for name in names if names.count(name) > 1), None)
    return "" if doubled is None else f"'idx_to_symbol' holds {shown(doubled)} twice."


def _edges_problem(edges: Any, num_nodes: int) -> str:
    if not isinstance(edges, list):
        return f"'edges' must be a list of pairs, got {type(edges).__name__}."
    for edge in edges:
        is_pair = isinstance(edge, list | tuple) and len(edge) == 2
        if not is_pair or not all(_is_node(end, num_nodes) for end in edge):
            return f"'edges' must hold pairs of numbers below {num_nodes}, got {shown(edge)}."
    return ""


def _asked_problem(asked: list[Any], names: list[str]) -> str:
    if not all(_is_node(node, len(names)) for node in asked) or len(set(asked)) < 3:
        return (
            "'root', 'target' and 'neg_target' must be three different numbers below "
            f"{len(names)}, got {shown(asked)}."
        )
    return ""


def _is_node(value: Any, num_nodes: int) -> bool:
    return type(value) is int and 0 <= value < num_nodes


def candidates_of(example: Example) -> tuple[str, str]:
    """Return the names of the two candidates in the order in which the question has them.

    Raises:
        DataError: The question is in neither rendering.
    """
    match = _CANDIDATES.search(example.question)
    if match is None:
        raise DataError(
            f"example {example.id}: the question must end with 'Is NAME a X or Y?' or "
            f"'[Q] X Y [R] ROOT', got {example.question[-40:]!r}. {HELP}"
        )
    first, second = [name for name in match.groups() if name is not None]
    return first, second


_CANDIDATES = re.compile(r"Is \S+ an? (\S+) or (\S+)\?$|\[Q\] (\S+) (\S+) \[R\] \S+$")


def chain_of(example: Example, graph: Graph) -> tuple[int, ...] | None:
    """Return the nodes that the steps go through, root first; None if a step is not an edge."""
    number = {name: node for node, name in enumerate(graph.names)}
    path = [graph.root]
    for step in example.steps:
        node = number.get(step.rstrip(".").rsplit(" ", 1)[-1])
        if node is None or node not in graph.children[path[-1]]:
            return None
        if " " in step and step != fact(graph.names[path[-1]], graph.names[node]):
            return None
        path.append(node)
    return tuple(path)
