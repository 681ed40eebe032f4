"""ProsQA as data: graphs to examples, examples back to graphs, splits without a common graph.

Two renderings of the same graph:
- words: "Every lorpus is a rorpus. … Is Tom a lempus or scrompus?", as the official files say it
  (arXiv 2412.06769);
- symbols: "3 7 | 3 9 | … [Q] 9 12 [R] 3", one token a node (arXiv 2505.12514).

`meta` carries the graph under the official keys, so `graph_of` reads our files and theirs.
docs/data-format.md shows all of it. How a generation is scored is not here; `rendering.py`
turns a file from one rendering into the other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from random import Random
from typing import Any

from latentcot.data.examples import Example
from latentcot.data.formats import HELP
from latentcot.errors import DataError
from latentcot.tasks.generators import New, Progress, Splits, fill_splits
from latentcot.tasks.prosqa.graphs import (
    Edge,
    Graph,
    distances,
    draw_shortest_path,
    paper_graph,
    two_family_graph,
)
from latentcot.tasks.prosqa.options import EASY, IdOrder, ProsqaOptions, Rendering, most_joins
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
    on_progress: Progress | None = None,
) -> Splits:
    """Make examples for each split (see `Task.make`), none of them twice and none in two splits.

    Two examples are the same if they agree in named edges, root and candidates.

    Raises:
        DataError: There are too few different graphs, or none, under these options.
    """

    def key(graph: Graph) -> tuple[Any, ...]:
        names = graph.names
        asked = (names[graph.root], names[graph.target], names[graph.neg_target])
        return (frozenset((names[parent], names[child]) for parent, child in graph.edges), *asked)

    def draw(rng: Random, split: str, number: int, new: New) -> Example:
        drawn = _drawn_options(rng, options, split)
        graph = new(lambda: draw_graph(rng, drawn), key)
        share = options.answer_first if split == "train" else 0.0
        return render(rng, graph, options, id=f"{split}-{number}", answer_first=share)

    advice = "make graphs larger, or draw ids at random (symbols: --ids random)"
    return fill_splits("prosqa", sizes, seed, draw, on_progress, things="graphs", advice=advice)


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


def draw_graph(rng: Random, options: ProsqaOptions) -> Graph:
    """Draw one graph, with names, as `options` say.

    Raises:
        DataError: No graph of this kind can be found or named.
    """
    o = options
    if o.construction == "two-family":
        shape = (o.layers, o.shared, o.min_depth, o.width, o.family_nodes, o.joins)
        graph = two_family_graph(rng, *shape)
    else:
        bounds = (o.min_nodes, o.max_nodes, o.min_hops, o.max_hops)
        graph = paper_graph(rng, *bounds, o.mean_in_degree, o.candidates)
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
    for count, names, what, do in (
        (num_persons, PERSONS, "nodes have no parents", ", raise mean_in_degree"),
        (len(has_parents), SPECIES, "nodes have parents", ""),
    ):
        if count > len(names):
            kind = "persons" if names is PERSONS else "concepts"
            raise DataError(
                f"ProsQA graph: {count} {what}, but there are {len(names)} names for {kind}. "
                f"Make graphs smaller{do}, or use symbols."
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


def render(
    rng: Random, graph: Graph, options: ProsqaOptions, id: str, answer_first: float = 0.0
) -> Example:
    """Return the example of a named graph; edge order, candidate order and chain are drawn.

    With `answer_first` as with `ProsqaOptions.answer_first`; all else stays what it is without.
    """
    edges = list(graph.edges)
    rng.shuffle(edges)
    first, second = graph.target, graph.neg_target
    if rng.random() < 0.5 * (1 - answer_first):
        first, second = second, first
    telling = Telling(tuple(edges), (first, second), draw_shortest_path(rng, graph))
    form = JOINED if options.joined else BARS if options.separator else PAIRS
    return write_out(graph, telling, options.rendering, form, id)


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
        facts = "".join(edge_form.format(names[a], names[b]) for a, b in telling.edges)
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
    return f"{'' if subject[0].isupper() else 'Every '}{subject} is a {species}."


# --- reading ----------------------------------------------------------------------------------


_GRAPH_KEYS = ("idx_to_symbol", "edges", "root", "target", "neg_target")


def refused(example: Example, problem: str) -> DataError:
    """Return the error that an example is not what it must be."""
    return DataError(f"example {example.id}: {problem} {HELP}")


def graph_of(example: Example) -> Graph:
    """Return the graph that an example carries in `meta`, from our files or the official ones.

    Raises:
        DataError: A key is missing, or what they say does not fit together.
    """
    missing = [repr(key) for key in _GRAPH_KEYS if key not in example.meta]
    if missing:
        raise refused(example, f"has no {', '.join(missing)}.")
    names, edges, *asked = (example.meta[key] for key in _GRAPH_KEYS)
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise refused(example, "'idx_to_symbol' must be a list of names.")
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise refused(example, f"'idx_to_symbol' holds {shown(doubled)} twice.")

    def are_nodes(values: Any) -> bool:
        return all(type(value) is int and 0 <= value < len(names) for value in values)

    if not isinstance(edges, list):
        got = type(edges).__name__
        raise refused(example, f"'edges' must be a list of pairs, got {got}.")
    for edge in edges:
        if not isinstance(edge, list | tuple) or len(edge) != 2 or not are_nodes(edge):
            rule = f"'edges' must hold pairs of numbers below {len(names)}"
            raise refused(example, f"{rule}, got {shown(edge)}.")
    if not are_nodes(asked) or len(set(asked)) < 3:
        rule = "'root', 'target' and 'neg_target' must be three different numbers below"
        raise refused(example, f"{rule} {len(names)}, got {shown(asked)}.")
    root, target, neg_target = asked
    pairs = tuple((parent, child) for parent, child in edges)
    graph = Graph(len(names), pairs, root, target, neg_target, tuple(names))
    if target not in distances(graph, root):
        raise refused(example, f"'target' {target} cannot be reached from 'root' {root}.")
    try:
        TopologicalSorter(dict(enumerate(graph.parents))).prepare()
    except CycleError:
        raise refused(example, "'edges' lead in a circle.") from None
    return graph


def rendering_of(example: Example) -> Rendering:
    """Return which rendering a ProsQA question is in."""
    return "symbols" if "[Q]" in example.question else "words"


def edge_form_of(example: Example) -> str:
    """Return how the edges of a question in symbols stand in it: `BARS`, `PAIRS` or `JOINED`."""
    if ">" in example.question:
        return JOINED
    return BARS if "|" in example.question.split() else PAIRS


def candidates_of(example: Example) -> tuple[str, str]:
    """Return the names of the two candidates in the order in which the question has them.

    Raises:
        DataError: The question is in neither rendering.
    """
    match = _CANDIDATES.search(example.question)
    if match is None:
        rule = "the question must end with 'Is NAME a X or Y?' or '[Q] X Y [R] ROOT'"
        raise refused(example, f"{rule}, got {example.question[-40:]!r}.")
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
