"""What can be chosen about ProsQA data: one dataclass, two presets, all problems in one message."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from latentcot.errors import RecipeError, did_you_mean
from latentcot.tasks.options import options_error, wrong_choices
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
_CHOICES = {
    "construction": Construction, "rendering": Rendering,
    "candidates": CandidateRule, "ids": IdOrder,
}  # fmt: skip
_ONLY_FOR_SYMBOLS = ("separator", "joined", "ids", "num_symbols", "two_family")
_LIMITS = {
    "min_nodes": 4, "max_nodes": 4, "min_hops": 1, "max_hops": 1, "layers": 1, "width": 1,
    "family_nodes": 1, "joins": 0, "min_depth": 1, "shared": 0, "num_symbols": 1,
}  # fmt: skip


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
    min_nodes: int = 28
    max_nodes: int = 28
    min_hops: int = 3
    max_hops: int = 6
    mean_in_degree: float = 1.5
    candidates: CandidateRule = "official"
    two_family: float = 0.0
    layers: int = 3
    width: int = 2
    family_nodes: int | None = None
    joins: int = 0
    min_depth: int | None = None
    shared: int = 1
    shallower: float = 0.0
    separator: bool = True
    joined: bool = False
    ids: IdOrder = "creation"
    num_symbols: int | None = None

    def __post_init__(self) -> None:
        problems = [*wrong_choices(self, _CHOICES), *_wrong_values(self)] or _contradictions(self)
        if problems:
            raise options_error("ProsQA", problems)

    @property
    def max_graph_nodes(self) -> int:
        """The most nodes that a graph of these options can have."""
        if self.construction == "paper":
            return self.max_nodes
        return 2 * (self.family_nodes or self.width * self.layers) + 2 + self.shared


def _wrong_values(options: ProsqaOptions) -> list[str]:
    problems = []
    for name, least in _LIMITS.items():
        value = getattr(options, name)
        if value is None and name in ("num_symbols", "min_depth", "family_nodes"):
            continue
        if type(value) is not int or value < least:
            problems.append(f"{name} must be a whole number of at least {least}, got {value!r}.")
    flags = {name: getattr(options, name) for name in ("separator", "joined")}
    problems += [
        f"{name} must be true or false, got {value!r}."
        for name, value in flags.items()
        if type(value) is not bool
    ]
    for name in ("shallower", "two_family"):
        share = getattr(options, name)
        if type(share) not in (int, float) or not 0 <= share <= 1:
            problems.append(f"{name} must be a share from 0 to 1, got {share!r}.")
    mean = options.mean_in_degree
    if type(mean) not in (int, float) or not 0 < mean <= 20:
        problems.append(f"mean_in_degree must be above 0 and at most 20, got {mean!r}.")
    return problems


def _contradictions(options: ProsqaOptions) -> list[str]:
    """Return what is wrong between fields that are each fine alone."""
    problems = []
    for low, high in (("min_nodes", "max_nodes"), ("min_hops", "max_hops")):
        if getattr(options, low) > getattr(options, high):
            problems.append(
                f"{low} must not be above {high}, "
                f"got {getattr(options, low)} and {getattr(options, high)}."
            )
    if options.min_depth is not None and options.min_depth > options.layers:
        problems.append(
            f"min_depth must not be above layers, got {options.min_depth} and {options.layers}."
        )
    if options.construction == "two-family":
        problems += _impossible_shape(options)
    most = options.max_graph_nodes
    if options.rendering == "words" and most - 2 > NUM_SPECIES:
        problems.append(
            f"words has {NUM_SPECIES} names for concepts, but a graph may need {most - 2}. "
            "Make graphs smaller, or use rendering symbols."
        )
    if options.two_family and (options.construction, options.rendering) != ("paper", "symbols"):
        problems.append("two_family is for construction paper in symbols. Leave it out.")
    elif options.two_family and most < EASY.max_graph_nodes:
        problems.append(
            f"two_family needs max_nodes of at least {EASY.max_graph_nodes}, got {most}."
        )
    if options.num_symbols is not None and options.num_symbols < most:
        problems.append(
            f"num_symbols must be at least {most}, the largest graph, got {options.num_symbols}."
        )
    return problems


def _impossible_shape(options: ProsqaOptions) -> list[str]:
    """Return what is wrong with a two-family graph's layers, nodes and joins."""
    layers, width, nodes = options.layers, options.width, options.family_nodes
    if nodes is not None and not layers <= nodes <= width * layers:
        return [
            f"family_nodes must be from layers to width × layers, {layers} to {width * layers}, "
            f"got {nodes}."
        ]
    most = most_joins(layers, width, nodes)
    if options.joins > most:
        return [f"joins must be at most {most} in such graphs, got {options.joins}."]
    return []


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
    if preset not in PRESETS:
        raise RecipeError(
            f"ProsQA preset {preset!r} does not exist.{did_you_mean(preset, PRESETS)} "
            f"There are: {', '.join(PRESETS)}."
        )
    changes = {name: value for name, value in changes.items() if value is not None}
    allowed = [field.name for field in fields(ProsqaOptions)]
    problems = [
        f"{name!r} is no option.{did_you_mean(name, allowed)}"
        for name in changes
        if name not in allowed
    ]
    if problems:
        raise options_error("ProsQA", problems)
    options = replace(PRESETS[preset], **changes)
    _refuse_ignored(options, changes)
    return options


def _refuse_ignored(options: ProsqaOptions, changes: Mapping[str, Any]) -> None:
    ignored = [
        f"{name!r} has no effect with construction {options.construction!r}"
        for construction, names in _ONLY_FOR.items()
        for name in names
        if name in changes and construction != options.construction
    ]
    if options.rendering != "symbols":
        ignored += [
            f"{name!r} has no effect with rendering {options.rendering!r}"
            for name in _ONLY_FOR_SYMBOLS
            if name in changes
        ]
    if options.joined and "separator" in changes:
        ignored.append("'separator' has no effect with joined")
    if options.ids == "creation" and "num_symbols" in changes:
        ignored.append("'num_symbols' has no effect with ids 'creation'")
    if ignored:
        raise options_error("ProsQA", [f"{one}. Leave it out." for one in ignored])
