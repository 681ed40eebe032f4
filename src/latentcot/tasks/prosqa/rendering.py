"""ProsQA files in the other rendering: the same questions, in words or in symbols.

    official = read_examples("prosqa_valid.json")  # in words
    in_symbols = render_anew(official, RenderOptions(separator=False))

What an example says stays: graph, root, the order of edges and candidates, the path of the chain
(`read_telling`). Only the names change, and how they are put together. A file is never mended: an
example whose question, steps or answer say something else than its graph is an error.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from random import Random

from latentcot.data.examples import Example
from latentcot.data.formats import HELP
from latentcot.errors import DataError
from latentcot.tasks.options import options_error, wrong_choices
from latentcot.tasks.prosqa.generator import (
    BARS,
    JOINED,
    PAIRS,
    Telling,
    candidates_of,
    chain_of,
    fact,
    graph_of,
    symbol_names,
    word_names,
    write_out,
)
from latentcot.tasks.prosqa.graphs import Edge, Graph
from latentcot.tasks.prosqa.options import IdOrder, Rendering
from latentcot.utils.parsing import shown

_ONLY_FOR_SYMBOLS = ("ids", "separator", "joined", "num_symbols")


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """How questions are written anew. What is left out (None) is the default named here.

    Attributes:
        rendering: `symbols` (one token a node) or `words` (the official wording).
        ids: symbols: `creation` (a node's number in the file, the default), or `random`.
        separator: symbols: whether "|" stands after each edge; true.
        joined: symbols: one token an edge, "3>7"; without bars.
        num_symbols: random ids: how many numbers they are drawn from; as many as the largest graph
            needs.
        shuffle_edges: Draw the order of edges, instead of leaving it as it is.

    Raises:
        RecipeError: With all problems at once.
    """

    rendering: Rendering = "symbols"
    ids: IdOrder | None = None
    separator: bool | None = None
    joined: bool | None = None
    num_symbols: int | None = None
    shuffle_edges: bool = False

    def __post_init__(self) -> None:
        problems = _wrong_values(self) or _ignored(self)
        if problems:
            raise options_error("ProsQA rendering", problems)


def _wrong_values(options: RenderOptions) -> list[str]:
    choices = {"rendering": Rendering} | ({} if options.ids is None else {"ids": IdOrder})
    problems = wrong_choices(options, choices)
    for name in ("separator", "joined", "shuffle_edges"):
        value = getattr(options, name)
        if type(value) is not bool and (value is not None or name == "shuffle_edges"):
            problems.append(f"{name} must be true or false, got {value!r}.")
    number = options.num_symbols
    if number is not None and (type(number) is not int or number < 1):
        problems.append(f"num_symbols must be a whole number of at least 1, got {number!r}.")
    return problems


def _ignored(options: RenderOptions) -> list[str]:
    if options.rendering == "words":
        given = [name for name in _ONLY_FOR_SYMBOLS if getattr(options, name) is not None]
        return [f"{name!r} has no effect with rendering 'words'. Leave it out." for name in given]
    problems = []
    if options.joined and options.separator is not None:
        problems.append("'separator' has no effect with joined. Leave it out.")
    if options.num_symbols is not None and options.ids != "random":
        problems.append(
            "'num_symbols' has no effect with ids 'creation'. Use ids 'random', or leave it out."
        )
    return problems


def render_anew(
    examples: Sequence[Example], options: RenderOptions, seed: int = 0
) -> list[Example]:
    """Return the same questions in another rendering, under the same ids.

    Names are drawn for random ids, and for words where the question is in symbols: one that is in
    words already keeps its names. Other keys of `meta` stay.

    Args:
        examples: ProsQA, ours or official, in words or symbols.
        options: How they are to be written.
        seed: With the options and an example's id it determines all that is drawn for it; but for
            the number of symbols, where that is left open.

    Raises:
        DataError: An example has no graph, or one that its question, steps or answer contradict, or
            it needs more names than there are.
    """
    graphs = [graph_of(example) for example in examples]
    num_symbols = _enough_symbols(examples, graphs, options.num_symbols)
    return [
        _rendered(
            Random(f"prosqa-render/{seed}/{example.id}"), example, graph, options, num_symbols
        )
        for example, graph in zip(examples, graphs, strict=True)
    ]


def _enough_symbols(
    examples: Sequence[Example], graphs: Sequence[Graph], num_symbols: int | None
) -> int:
    most = max((graph.num_nodes for graph in graphs), default=0)
    if num_symbols is not None and num_symbols < most:
        largest = next(e.id for e, g in zip(examples, graphs, strict=True) if g.num_nodes == most)
        raise DataError(
            f"example {largest}: its graph has {most} nodes, but num_symbols is {num_symbols}. "
            f"Draw ids from at least {most} numbers (--num-symbols {most})."
        )
    return most if num_symbols is None else num_symbols


def _rendered(
    rng: Random, example: Example, graph: Graph, options: RenderOptions, num_symbols: int
) -> Example:
    telling = read_telling(example, graph)
    if options.rendering == "symbols":
        names = symbol_names(rng, graph.num_nodes, options.ids or "creation", num_symbols)
    elif rendering_of(example) == "words":
        names = graph.names
    else:
        names = _new_words(rng, example, graph)
    if options.shuffle_edges:  # behind the names, which are thus the same with and without it
        edges = list(telling.edges)
        rng.shuffle(edges)
        telling = replace(telling, edges=tuple(edges))
    form = JOINED if options.joined else PAIRS if options.separator is False else BARS
    new = write_out(replace(graph, names=names), telling, options.rendering, form, example.id)
    return replace(new, meta=example.meta | new.meta)


def _new_words(rng: Random, example: Example, graph: Graph) -> tuple[str, ...]:
    try:
        return word_names(rng, graph)
    except DataError as error:
        raise DataError(f"example {example.id}: {error}") from None


# --- reading ----------------------------------------------------------------------------------


def rendering_of(example: Example) -> Rendering:
    """Return which rendering a ProsQA question is in."""
    return "symbols" if "[Q]" in example.question else "words"


def read_telling(example: Example, graph: Graph) -> Telling:
    """Return the order of edges and candidates in a question, and the path of its chain.

    The path is empty where there are no steps.

    Raises:
        DataError: The question, the steps or the answer do not say what the graph is. Blanks do not
            matter.
    """
    number = {name: node for node, name in enumerate(graph.names)}
    asked = [number.get(name) for name in candidates_of(example)]
    if set(asked) != {graph.target, graph.neg_target}:
        both = [graph.names[node] for node in (graph.target, graph.neg_target)]
        raise DataError(
            f"example {example.id}: its question must ask about 'target' and 'neg_target', "
            f"{shown(both)}, got {shown(list(candidates_of(example)))}. {HELP}"
        )
    candidates = graph.target, graph.neg_target
    if asked[0] != graph.target:
        candidates = graph.neg_target, graph.target
    telling = Telling(_edges_in_order(example, graph), candidates, _path(example, graph))
    _refuse_other_text(example, graph, telling)
    return telling


def _edges_in_order(example: Example, graph: Graph) -> tuple[Edge, ...]:
    """Return the edges as the question states them: all of them, and nothing else."""
    names, is_in_words = graph.names, rendering_of(example) == "words"
    edge_of = {
        fact(names[a], names[b]) if is_in_words else f"{names[a]} {names[b]}": (a, b)
        for a, b in graph.edges
    }
    stated = _sentences(example) if is_in_words else _pairs(example)
    problem = _stated_problem(stated, edge_of, graph)
    if problem:
        raise DataError(
            f"example {example.id}: its question must state each of 'edges' once, and no other, "
            f"but it {problem}. {HELP}"
        )
    return tuple(edge_of[one] for one in stated)


def _stated_problem(stated: Sequence[str], edge_of: Mapping[str, Edge], graph: Graph) -> str:
    odd = next((one for one in stated if one not in edge_of), None)
    if odd is not None:
        return f"states {shown(odd)}, which is no edge"
    told, there = Counter(edge_of[one] for one in stated), Counter(graph.edges)
    wrong = next((one for one, edge in edge_of.items() if told[edge] != there[edge]), None)
    return "" if wrong is None else f"states {shown(wrong)} {told[edge_of[wrong]]} times"


def _sentences(example: Example) -> list[str]:
    facts = example.question.rpartition(".")[0]
    return [f"{' '.join(sentence.split())}." for sentence in facts.split(".")]


def _pairs(example: Example) -> list[str]:
    facts = example.question.partition("[Q]")[0]
    names = [word for word in facts.replace(">", " ").split() if word != "|"]
    return [" ".join(names[start : start + 2]) for start in range(0, len(names), 2)]


def _path(example: Example, graph: Graph) -> tuple[int, ...]:
    if not example.steps:
        return ()
    path = chain_of(example, graph)
    if path is None or path[-1] != graph.target:
        raise DataError(
            f"example {example.id}: its steps must be a path from 'root' to 'target' along "
            f"'edges', got {shown(list(example.steps))}. {HELP}"
        )
    return path


def _refuse_other_text(example: Example, graph: Graph, telling: Telling) -> None:
    """Refuse what would not come out again if it were written in the rendering it is in."""
    form = BARS if "|" in example.question.split() else PAIRS
    form = JOINED if ">" in example.question else form
    again = write_out(graph, telling, rendering_of(example), form, example.id)
    for part, right, got in (
        ("question", again.question.split(), example.question.split()),
        ("answer", again.answer.split(), example.answer.split()),
    ):
        if right != got:
            pairs = enumerate(zip_longest(right, got))
            start = next(place for place, (a, b) in pairs if a != b)
            raise DataError(
                f"example {example.id}: its {part} must say, by its graph, "
                f"{shown(' '.join(right[start:]))} from word {start + 1} on, "
                f"got {shown(' '.join(got[start:]))}. {HELP}"
            )
