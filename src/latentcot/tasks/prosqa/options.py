"""What can be chosen about ProsQA data: one dataclass, two presets, all problems in one message."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from latentcot.tasks.generators import Range, check, chosen, refuse
from latentcot.tasks.prosqa.graphs import CandidateRule

Construction = Literal["paper", "two-family"]
Rendering = Literal["words", "symbols"]
IdOrder = Literal["creation", "random"]

NUM_SPECIES = 38
"""Names that the rendering in words has for nodes with parents; `prosqa.SPECIES` lists them."""

_ONLY_FOR: dict[Construction, tuple[str, ...]] = {
    "paper": (
        "min_nodes", "max_nodes", "min_hops", "max_hops", "mean_in_degree", "candidates",
        "two_family",
    ),
    "two-family": (
        "layers", "width", "family_nodes", "joins", "min_depth", "shared", "shallower",
    ),
}  # fmt: skip
_ONLY_FOR_SYMBOLS = ("separator", "joined", "ids", "num_symbols", "two_family")
Count = Annotated[int, Range(1)]
Share = Annotated[float, Range(0, 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProsqaOptions:
    """How ProsQA data is made. The defaults are the preset `paper`.

    Attributes:
        construction: `paper`, or `two-family` (two trees of equal shape, no shortcut).
        rendering: `words` (the official wording) or `symbols` (one token a node).
        min_nodes: paper: fewest nodes drawn; those left without an edge are dropped afterwards.
        max_nodes: paper: most nodes drawn; each number in between is equally likely.
        min_hops: paper: fewest edges on the shortest path from root to target.
        max_hops: paper: most edges on it.
        mean_in_degree: paper: mean number of parents drawn for a node, before capping.
        candidates: paper: `official` (the deeper one is nearly always the answer) or `balanced`
            (equal depth, no shortcut).
        two_family: paper, symbols: share of the training examples, 0 … 1, that are two-family
            graphs of up to three layers, with ids drawn at random from as many as there may be. No
            number gives anything away in these, so that edges have to be read.
        layers: two-family: layers of nodes below each root; also the number of hops.
        width: two-family: nodes of a layer, in each family.
        family_nodes: two-family: nodes below each root, spread over the layers at random, at least
            one and at most `width` in each; None for width × layers.
        joins: two-family: nodes of each family with a second parent, in the layer above: several
            paths, all of one length, lead to what lies below.
        min_depth: two-family: the candidates stand in a layer drawn from here to the last, each
            equally often, in all splits: chains of several lengths in graphs of one size. None for
            the last layer.
        shared: two-family: dead ends that hang from both families.
        shallower: two-family: share of the training examples, 0 … 1, with fewer layers, each number
            from 1 on equally often. Validation and test have none.
        answer_first: share of the training examples, 0 … 1, in which the answer is named first of
            the two candidates, a shortcut; a coin decides in the others. Validation and test have
            none.
        separator: symbols: whether "|" stands after each edge (three tokens an edge, not two).
        joined: symbols: one token an edge, "3>7"; without bars.
        ids: symbols: numbers in the order of creation, or drawn at random for each example.
        num_symbols: symbols: how many numbers random ids are drawn from; None for as many as the
            largest graph needs.

    Raises:
        RecipeError: With all problems at once.
    """

    construction: Construction = "paper"
    rendering: Rendering = "words"
    min_nodes: Annotated[int, Range(4)] = 28
    max_nodes: Annotated[int, Range(4)] = 28
    min_hops: Count = 3
    max_hops: Count = 6
    mean_in_degree: Annotated[float, Range(0, 20, is_open=True)] = 1.5
    candidates: CandidateRule = "official"
    two_family: Share = 0.0
    layers: Count = 3
    width: Count = 2
    family_nodes: Annotated[int | None, Range(1)] = None
    joins: Annotated[int, Range(0)] = 0
    min_depth: Annotated[int | None, Range(1)] = None
    shared: Annotated[int, Range(0)] = 1
    shallower: Share = 0.0
    answer_first: Share = 0.0
    separator: bool = True
    joined: bool = False
    ids: IdOrder = "creation"
    num_symbols: Annotated[int | None, Range(1)] = None

    def __post_init__(self) -> None:
        check("ProsQA", self)
        problems = []
        for low, high in (("min_nodes", "max_nodes"), ("min_hops", "max_hops")):
            if getattr(self, low) > getattr(self, high):
                problems.append(
                    f"{low} must not be above {high}, "
                    f"got {getattr(self, low)} and {getattr(self, high)}."
                )
        if self.min_depth is not None and self.min_depth > self.layers:
            problems.append(
                f"min_depth must not be above layers, got {self.min_depth} and {self.layers}."
            )
        if self.construction == "two-family":
            layers, width, nodes = self.layers, self.width, self.family_nodes
            joins = most_joins(layers, width, nodes)
            if nodes is not None and not layers <= nodes <= width * layers:
                problems.append(
                    f"family_nodes must be from layers to width × layers, {layers} to "
                    f"{width * layers}, got {nodes}."
                )
            elif self.joins > joins:
                problems.append(f"joins must be at most {joins} in such graphs, got {self.joins}.")
        most = self.max_graph_nodes
        if self.rendering == "words" and most - 2 > NUM_SPECIES:
            problems.append(
                f"words has {NUM_SPECIES} names for concepts, but a graph may need {most - 2}. "
                "Make graphs smaller, or use rendering symbols."
            )
        if self.two_family and (self.construction, self.rendering) != ("paper", "symbols"):
            problems.append("two_family is for construction paper in symbols. Leave it out.")
        elif self.two_family and most < EASY.max_graph_nodes:
            problems.append(
                f"two_family needs max_nodes of at least {EASY.max_graph_nodes}, got {most}."
            )
        if self.num_symbols is not None and self.num_symbols < most:
            problems.append(
                f"num_symbols must be at least {most}, the largest graph, got {self.num_symbols}."
            )
        refuse("ProsQA", problems)

    @property
    def max_graph_nodes(self) -> int:
        """The most nodes that a graph of these options can have."""
        if self.construction == "paper":
            return self.max_nodes
        return 2 * (self.family_nodes or self.width * self.layers) + 2 + self.shared

    def refuse_ignored(self, given: Collection[str]) -> None:
        """Refuse options that were given, but have no effect with the others.

        Raises:
            RecipeError: With all of them.
        """
        ignored: dict[str, str] = {}
        for one, names in _ONLY_FOR.items():
            if one != self.construction:
                ignored |= dict.fromkeys(names, f"construction {self.construction!r}")
        ignored |= ignored_by_rendering(self.rendering, self.ids, self.joined)
        refuse("ProsQA", without_effect(ignored, given))


def ignored_by_rendering(
    rendering: Rendering, ids: IdOrder | None, joined: bool | None
) -> dict[str, str]:
    """Return which options of a rendering have no effect, each with what it has none with."""
    if rendering == "words":
        return dict.fromkeys(_ONLY_FOR_SYMBOLS, "rendering 'words'")
    ignored = {"separator": "joined"} if joined else {}
    return ignored if ids == "random" else ignored | {"num_symbols": "ids 'creation'"}


def without_effect(ignored: Mapping[str, str], given: Collection[str]) -> list[str]:
    """Return a problem for each ignored option that was given."""
    return [
        f"{name!r} has no effect with {why}. Leave it out."
        for name, why in ignored.items()
        if name in given
    ]


def most_joins(layers: int, width: int, family_nodes: int | None = None) -> int:
    """Return how many nodes of a family can have two parents in the layer above."""
    spare = (family_nodes or width * layers) - layers
    wide = min(spare, layers - 1)  # layers of two or more, from the first: all below can be joins
    if wide < 1:
        return 0
    return 2 * wide - 1 + min(spare - wide, (wide - 1) * (width - 2) + width - 1)


PRESETS: dict[str, ProsqaOptions] = {
    "paper": ProsqaOptions(),
    "two-family": ProsqaOptions(
        construction="two-family", rendering="symbols", separator=False, ids="random"
    ),
}


EASY = replace(PRESETS["two-family"], shared=0, shallower=0.5)
"""What `two_family` mixes in."""


def options_named(preset: str, **changes: Any) -> ProsqaOptions:
    """Return a preset with some fields changed; a change to None is no change.

    Raises:
        RecipeError: No such preset or field, a wrong value, or a field that the construction or
            rendering would ignore.
    """
    options: ProsqaOptions = chosen("ProsQA", PRESETS, preset, changes)
    return options
