"""ProsQA files in the other rendering: the same questions, in words or in symbols.

    official = read_examples("prosqa_valid.json")  # in words
    in_symbols = render_again(official, RenderOptions(separator=False))

What an example says stays: graph, root, the order of edges and candidates, the path of the chain
(`read_telling`). Only the names change, and how they are put together. A file is never corrected:
an example whose question, steps or answer say something else than its graph is an error.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import zip_longest
from random import Random
from typing import Annotated

from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.tasks.generators import Range, check, refuse
from latentcot.tasks.prosqa.generator import (
    BARS,
    JOINED,
    PAIRS,
    Telling,
    candidates_of,
    chain_of,
    edge_form_of,
    fact,
    graph_of,
    refused,
    rendering_of,
    symbol_names,
    word_names,
    write_out,
)
from latentcot.tasks.prosqa.graphs import Edge, Graph, distances, draw_shortest_path
from latentcot.tasks.prosqa.options import IdOrder, Rendering, ignored_by_rendering, without_effect
from latentcot.utils.parsing import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """How questions are written again. What is left out (None) is the default named here.

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
    num_symbols: Annotated[int | None, Range(1)] = None
    shuffle_edges: bool = False

    def __post_init__(self) -> None:
        check("ProsQA rendering", self)
        given = [one.name for one in fields(self) if getattr(self, one.name) is not None]
        ignored = ignored_by_rendering(self.rendering, self.ids, self.joined)
        refuse("ProsQA rendering", without_effect(ignored, given))


def render_again(
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
    most, num_symbols = max((one.num_nodes for one in graphs), default=0), options.num_symbols
    if num_symbols is not None and num_symbols < most:
        largest = next(e.id for e, g in zip(examples, graphs, strict=True) if g.num_nodes == most)
        raise DataError(
            f"example {largest}: its graph has {most} nodes, but num_symbols is {num_symbols}. "
            f"Draw ids from at least {most} numbers (--num-symbols {most})."
        )
    form = JOINED if options.joined else PAIRS if options.separator is False else BARS
    found = []
    for example, graph in zip(examples, graphs, strict=True):
        rng, telling = Random(f"prosqa-render/{seed}/{example.id}"), read_telling(example, graph)
        names = graph.names
        if options.rendering == "symbols":
            ids = options.ids or "creation"
            names = symbol_names(rng, graph.num_nodes, ids, num_symbols or most)
        elif rendering_of(example) == "symbols":
            try:
                names = word_names(rng, graph)
            except DataError as error:
                raise DataError(f"example {example.id}: {error}") from None
        if options.shuffle_edges:  # behind the names, which are thus the same with and without it
            edges = list(telling.edges)
            rng.shuffle(edges)
            telling = replace(telling, edges=tuple(edges))
        new = write_out(replace(graph, names=names), telling, options.rendering, form, example.id)
        found.append(replace(new, meta=example.meta | new.meta))
    return found


def twin(example: Example) -> Example | None:
    """Return the same question asked from another root, whose answer is the other candidate.

    The graph, the order of edges and candidates, and the number of hops are the same, so that
    nothing but the search differs. None where no root without parents has such an answer.

    Raises:
        DataError: As for `read_telling`.
    """
    graph = graph_of(example)
    hops = distances(graph, graph.root)[graph.target]
    for root in range(graph.num_nodes):
        away = distances(graph, root) if not graph.parents[root] else {}
        if away.get(graph.neg_target) == hops and graph.target not in away:
            other = replace(graph, root=root, target=graph.neg_target, neg_target=graph.target)
            path = draw_shortest_path(Random(f"prosqa-twin/{example.id}"), other)
            telling = replace(read_telling(example, graph), path=path)
            form = edge_form_of(example), f"{example.id}-twin"
            return write_out(other, telling, rendering_of(example), *form)
    return None


# --- reading ----------------------------------------------------------------------------------


def read_telling(example: Example, graph: Graph) -> Telling:
    """Return the order of edges and candidates in a question, and the path of its chain.

    The path is empty where there are no steps.

    Raises:
        DataError: The question, the steps or the answer do not say what the graph is. Blanks do not
            matter.
    """
    target, distractor = graph.names[graph.target], graph.names[graph.neg_target]
    asked = candidates_of(example)
    if set(asked) != {target, distractor}:
        rule = f"must ask about 'target' and 'neg_target', {shown([target, distractor])}"
        raise refused(example, f"its question {rule}, got {shown(list(asked))}.")
    candidates = graph.target, graph.neg_target
    path = chain_of(example, graph) if example.steps else ()
    if path is None or (path and path[-1] != graph.target):
        rule = "its steps must be a path from 'root' to 'target' along 'edges'"
        raise refused(example, f"{rule}, got {shown(list(example.steps))}.")
    edges = edges_in_order(example, graph)
    telling = Telling(edges, candidates if asked[0] == target else candidates[::-1], path)

    # Refuse what would not come out again if it were written in the rendering that it is in.
    again = write_out(graph, telling, rendering_of(example), edge_form_of(example), example.id)
    for part in ("question", "answer"):
        right, got = getattr(again, part).split(), getattr(example, part).split()
        if right != got:
            pairs = enumerate(zip_longest(right, got))
            start = next(place for place, (a, b) in pairs if a != b)
            raise refused(
                example,
                f"its {part} must say, by its graph, {shown(' '.join(right[start:]))} from word "
                f"{start + 1} on, got {shown(' '.join(got[start:]))}.",
            )
    return telling


def edges_in_order(example: Example, graph: Graph) -> tuple[Edge, ...]:
    """Return the edges as the question states them: all of them, and nothing else."""
    names, question = graph.names, example.question
    if rendering_of(example) == "words":
        edge_of = {fact(names[a], names[b]): (a, b) for a, b in graph.edges}
        sentences = question.rpartition(".")[0].split(".")
        stated = [f"{' '.join(sentence.split())}." for sentence in sentences]
    else:
        edge_of = {f"{names[a]} {names[b]}": (a, b) for a, b in graph.edges}
        words = question.partition("[Q]")[0].replace(">", " ").replace("|", " ").split()
        stated = [" ".join(words[start : start + 2]) for start in range(0, len(words), 2)]
    odd = next((one for one in stated if one not in edge_of), None)
    told, there = Counter(map(edge_of.get, stated)), Counter(graph.edges)
    wrong = next((one for one, edge in edge_of.items() if told[edge] != there[edge]), None)
    if odd is not None or wrong is not None:
        problem = f"{shown(odd)}, which is no edge"
        if odd is None and wrong is not None:
            problem = f"{shown(wrong)} {told[edge_of[wrong]]} times"
        rule = "its question must state each of 'edges' once, and no other"
        raise refused(example, f"{rule}, but it states {problem}.")
    return tuple(edge_of[one] for one in stated)
