"""What more than one page shows, as plain values: nothing here is computed, loaded or trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from latentcot.errors import DataError


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the numbers come from."""

    commit: str
    """Commit of the code."""
    machine: str
    """Processor or accelerator and its memory, in words."""
    date: str
    """When the run ended."""
    command: str
    """The command that makes this page again."""


@dataclass(frozen=True, slots=True)
class DepthMass:
    """How much probability one thought gives to the layer that it should hold."""

    thought: int
    """Number of the thought, from 1. Each thought has one entry."""
    depth: int
    """The layer meant: distance from the root that the question names."""
    mass: float
    """Mean probability on the nodes of that layer, 0 to 1."""
    uniform: float
    """The same if the probability were spread evenly over all nodes, 0 to 1."""


@dataclass(frozen=True, slots=True)
class GraphQuestion:
    """A question about a graph: which of two candidates can be reached from the root?"""

    id: str
    """Identifier of the question in its file."""
    nodes: Sequence[str]
    """Names of the nodes; everywhere else a node is its index in this list."""
    edges: Sequence[tuple[int, int]]
    """Edges from parent to child."""
    root: int
    """The root that the question names."""
    target: int
    """The candidate that can be reached from the root."""
    neg_target: int
    """The candidate that cannot be reached from the root."""
    path: Sequence[int]
    """The nodes of the gold chain from root to target."""

    def __post_init__(self) -> None:
        """Refuse a question that a page could not draw."""
        num_nodes = len(self.nodes)
        ends = [end for edge in self.edges for end in edge]
        for index in (self.root, self.target, self.neg_target, *self.path, *ends):
            if not 0 <= index < num_nodes:
                raise DataError(
                    f"question {self.id!r}: node {index} does not exist. "
                    f"There are {num_nodes} nodes, counted from 0."
                )
