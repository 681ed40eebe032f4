"""Questions unlike those of training: other numbers of hops, joins, dead ends, denser graphs.

ProsQA's generator makes them from the options of the training data with one of them changed. No
graph has more nodes than the model knows names of; and since a model may fail at any other length
of question, a set has as many edges as the training data where that can be done. Sets whose name
ends with `-longer` have more, and `shorter` has fewer, to show what length alone does.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latentcot.analysis.shared.subject import Subject
from latentcot.data.formats import is_hub, path_of
from latentcot.errors import LatentcotError, UsageError
from latentcot.tasks.prosqa.graphs import distances
from latentcot.tasks.prosqa.options import NUM_SPECIES, ProsqaOptions, most_joins
from latentcot.tasks.prosqa.stats import graph_stats
from latentcot.utils.parsing import parse_json

SAME = "in-distribution"
"""The set with the options of the training data."""
HOPS = (-1, 1, 2, 3)
"""More, or fewer, than in training: of two families."""
DEAD_ENDS = (1, 2)
DEAD_ENDS_LONGER = 4
MOST_NODES = 1.5
"""Times those of the training data: of the official construction."""
IN_DEGREE = 1.0
"""More parents drawn a node, with as many edges; twice as many more without."""
_KEPT_NODES = 23.1 / 28
"""Of the nodes that the official construction draws, how many end up with an edge."""


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """A kind of questions."""

    name: str  # what tables and figures call it
    about: str  # what is unlike the training data, in words
    options: ProsqaOptions  # how they are made

    @property
    def is_about_hops(self) -> bool:
        """Whether nothing but the number of hops is unlike the training data, as far as can be."""
        return self.name.startswith("hops-")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A set that is not made."""

    name: str  # of the set
    reason: str  # why, in words


def question_sets(base: ProsqaOptions, num_names: int) -> tuple[list[QuestionSet], list[LeftOut]]:
    """Return the sets that can be made, the one with the base's own options first.

    Args:
        base: The options of the training data.
        num_names: How many names of nodes the model knows; a graph may not have more nodes.
    """
    base = replace(base, shallower=0.0, two_family=0.0)  # of training alone
    if base.rendering == "symbols" and base.ids == "random":
        base = replace(base, num_symbols=num_names)
    make = _of_two_families if base.construction == "two-family" else _of_paper
    found = make(base, num_names)
    same = QuestionSet(SAME, "the options of the training data, other graphs", base)
    sets = [same, *(one for one in found if isinstance(one, QuestionSet))]
    return sets, [one for one in found if isinstance(one, LeftOut)]


def _of_two_families(base: ProsqaOptions, num_names: int) -> list[QuestionSet | LeftOut]:
    layers, shared, joins = base.layers, base.shared, base.joins
    nodes = base.family_nodes or base.width * layers
    found: list[QuestionSet | LeftOut] = []

    def add(name: str, about: str, **changes: int) -> None:
        """Add the base with changes, or why it cannot be."""
        shape = {"layers": layers, "width": base.width, "joins": joins, "shared": shared}
        shape |= {"family_nodes": nodes} | changes
        needed, reason = 2 * shape["family_nodes"] + 2 + shape["shared"], ""
        if shape["family_nodes"] < shape["layers"]:
            reason = (
                f"{shape['family_nodes']} nodes below each root are too few for "
                f"{shape['layers']} layers."
            )
        elif shape["joins"] > most_joins(shape["layers"], shape["width"], shape["family_nodes"]):
            reason = (
                f"{shape['family_nodes']} nodes in {shape['layers']} layers have no room for "
                f"{shape['joins']} joins."
            )
        elif needed > num_names:
            reason = f"needs {needed} names of nodes, but the model knows {num_names}."
        if reason:
            found.append(LeftOut(name, reason))
        else:
            options = replace(base, **{"family_nodes": nodes} | changes)  # type: ignore[arg-type]
            found.append(QuestionSet(name, about, options))

    for hops in (layers + more for more in HOPS):
        if hops > 0 and base.min_depth is None:  # as many nodes, in wider layers if need be
            most = max(nodes, hops)
            width = max(base.width, -(-most // hops))
            add(f"hops-{hops}", f"{hops} hops", layers=hops, family_nodes=most, width=width)
    about = "one more node of each family has two parents"
    add(f"joins-{joins + 1}", about, joins=joins + 1, family_nodes=nodes - 1)
    for more in DEAD_ENDS:
        about = f"{more} more that {'leads' if more == 1 else 'lead'} nowhere, from both families"
        add(f"dead-ends-{shared + more}", about, shared=shared + more, family_nodes=nodes - more)
    add("shorter", "one node fewer below each root", family_nodes=nodes - 1)
    most = most_joins(layers, base.width, nodes)
    if most > joins + 1:
        add(f"joins-{most}-longer", "all nodes that can have two parents", joins=most)
    ends = shared + DEAD_ENDS_LONGER
    room = min(nodes, (num_names - 2 - ends) // 2)
    if room + ends > nodes + shared:
        about = f"{DEAD_ENDS_LONGER} more that lead nowhere, from both families"
        add(f"dead-ends-{ends}-longer", about, shared=ends, family_nodes=room)
    return found


def _of_paper(base: ProsqaOptions, num_names: int) -> list[QuestionSet | LeftOut]:
    """Return sets of the official construction.

    Chains longer than in training are too rare in graphs of the same size: they are drawn from the
    largest that the names allow. `nodes-…` has graphs of that size too, and the hops of training.
    """
    size = min(num_names, round(MOST_NODES * base.max_nodes))
    large = replace(base, min_nodes=size, max_nodes=size)
    is_larger = size > base.max_nodes
    ending = "-longer" if is_larger else ""
    found: list[QuestionSet | LeftOut] = []
    for more in (1, 2):
        hops = base.max_hops + more
        if more == 1 or is_larger:
            about = f"{hops} hops, in graphs of {size} nodes"
            options = replace(large, min_hops=hops, max_hops=hops)
            found.append(QuestionSet(f"hops-{hops}{ending}", about, options))
        else:
            reason = f"too rare in graphs of {size} nodes, and the model knows no more names."
            found.append(LeftOut(f"hops-{hops}", reason))
    if is_larger:
        about = f"{size} nodes, and so more that mislead"
        found.append(QuestionSet(f"nodes-{size}-longer", about, large))
    else:
        found.append(LeftOut("nodes", f"the model knows no more names than {size}."))
    # More parents a node: fewer nodes to keep the length, or as many. Edges grow faster than
    # in-degree × nodes, as fewer nodes are dropped: found by trying.
    first, second = (base.mean_in_degree + more * IN_DEGREE for more in (1, 2))
    scale = (base.mean_in_degree / first) ** (2 / 3)
    least, most = (max(4, round(scale * number)) for number in (base.min_nodes, base.max_nodes))
    about = "parents drawn a node: denser, more joins"
    as_long = replace(base, mean_in_degree=first, min_nodes=least, max_nodes=most)
    longer = replace(base, mean_in_degree=second)
    return [
        *found,
        QuestionSet(f"in-degree-{first:g}", f"{first:g} {about}, fewer nodes", as_long),
        QuestionSet(f"in-degree-{second:g}-longer", f"{second:g} {about}", longer),
    ]


def training_options(subject: Subject) -> tuple[ProsqaOptions, str]:
    """Return the options of the training data, and in words where they are from."""
    if subject.source and (found := options_beside(subject.source)):
        return found, "data.json beside the questions"
    return guess_options(subject), "read off the questions' graphs"


def options_beside(data: Path | str) -> ProsqaOptions | None:
    """Return the options with which a data file was made, from the data.json beside it.

    None where there is none, or it does not tell: data of others, or of another version.
    """
    if is_hub(data):
        return None
    path = path_of(data).parent / "data.json"
    if not path.is_file():
        return None
    try:
        about = parse_json(path.read_text(encoding="utf-8"))
        return ProsqaOptions(**about["options"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, LatentcotError):
        return None


def num_names(subject: Subject, base: ProsqaOptions) -> int:
    """Return how many names of nodes a model can be asked about: those that it was trained with.

    Raises:
        UsageError: Nodes have names that the generator does not make.
    """
    if base.rendering == "words":
        return NUM_SPECIES + 2
    names = {name for graph in subject.graphs for name in graph.names}
    if not all(name.isdecimal() for name in names):
        odd = min(name for name in names if not name.isdecimal())
        raise UsageError(
            f"distribution: the generator names nodes by numbers, but the data have {odd!r}, so "
            "no further questions can be made for this model. Leave this analysis out."
        )
    return max(base.num_symbols or base.max_graph_nodes, 1 + max(map(int, names)))


def guess_options(subject: Subject) -> ProsqaOptions:
    """Return options that give graphs like those of a subject, read off its questions."""
    in_words = subject.is_in_words
    rendering: dict[str, Any] = {"rendering": "words" if in_words else "symbols"}
    if not in_words:
        is_created = all(
            name == str(node) for graph in subject.graphs for node, name in enumerate(graph.names)
        )
        question = subject.examples[0].question
        rendering["separator"], rendering["joined"] = " | " in question, ">" in question
        rendering["ids"] = "creation" if is_created else "random"
    # How many nodes each layer of either family has.
    families = []
    for graph in subject.graphs:
        below = [distances(graph, root) for root in (0, 1)]
        families.append(
            [
                Counter(hops for node, hops in mine.items() if node not in other)
                for mine, other in (below, below[::-1])
            ]
        )
    if any(first != second for first, second in families):
        found = graph_stats(subject.examples)
        drawn = min(round(found.nodes.mean / _KEPT_NODES), NUM_SPECIES + 2)
        return ProsqaOptions(
            **rendering,
            min_nodes=drawn,
            max_nodes=drawn,
            min_hops=min(found.hop_histogram),
            max_hops=max(found.hop_histogram),
            candidates="official" if found.accuracy_deeper_candidate > 0.6 else "balanced",
        )
    # The shape is that of the largest graph; the smaller ones are the shallower ones of training.
    pairs = zip(subject.graphs, (first for first, _ in families), strict=True)
    graph, family = max(pairs, key=lambda pair: len(pair[0].edges))
    nodes, layers = family.total() - 1, max(family)
    width = max(max(first.values()) for first, _ in families)
    shared = graph.num_nodes - 2 * family.total()
    joins = min(len(graph.edges) // 2 - nodes - shared, most_joins(layers, width, nodes))
    depths = {distances(graph, graph.root)[graph.target] for graph in subject.graphs}
    return ProsqaOptions(
        construction="two-family",
        **rendering,
        layers=layers,
        width=width,
        family_nodes=None if nodes == width * layers else nodes,
        joins=joins,
        min_depth=None if layers in depths and len(depths) == 1 else min(depths),
        shared=shared,
    )
