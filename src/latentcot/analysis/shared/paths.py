"""What a text says about a graph: its chain read exactly, and one of six outcomes.

The outcomes are those of arXiv 2412.06769, section 5, and cover all texts without overlap:

    correct_path      a shortest path from the root to the target, or the end of one
    longer_path       a path to the target, or the end of one, that is longer
    hallucination     an edge that does not exist, a name that no node has, steps that do not join,
                      or a start to which nothing leads
    wrong_target      a path from the root, or the end of one, to another node
    correct_label     no step is written; the answer is right
    incorrect_label   no step is written; the answer is wrong, or there is none

**A chain that begins in the middle.** After k thoughts the first steps are not written. The chain
is right if something can be put in front of it, and the paper does not say how much. Two readings:

    any       a path of any length leads from the root to its start. Without thoughts there is
              nothing that could stand for a step, so at k = 0 the whole chain must be written
              ("Coconut (k = 0) and CoT generate the full path").
    given_k   a path of exactly so many edges leads there as steps were thought: k / c. Where that
              is no whole number, both neighbours will do.

With several paths to the start the shortest that is allowed counts: the chain is the end of a
shortest path if that one and the written edges together are as short as a path can be.

**A chain that ends early.** Two readings again, for texts that give no answer:

    as_written    the chain leads to the last node that it names.
    open          it could have gone on from there: it is the middle of a path to the target, if
                  there is one.

Where an answer is given the chain has ended, and the last node that it names is where it leads.

**Answer and chain.** The chain alone decides, as it does in the paper ("the destination node is not
the one being asked"). An answer that names another node than the last of the chain changes nothing;
such texts are counted apart (`is_inconsistent`), since they are right by accuracy and not by their
path, or the other way round.

**Reading.** The chain stands before the first mark of the answer, the answer behind the last one,
where scoring reads it. In words every "[Every] A is a B" is a step; what stands between is passed
over (`has_junk`). In symbols every word is a step, so a word that is no node's name is a
hallucination. A name that the limit of tokens has cut off is no name yet, and its step is left out.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, get_args

from latentcot.tasks import extract_answer
from latentcot.tasks.prosqa.graphs import Graph, distances

Outcome = Literal[
    "correct_path",
    "longer_path",
    "hallucination",
    "wrong_target",
    "correct_label",
    "incorrect_label",
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
Lead = Literal["any", "given_k"]
End = Literal["as_written", "open"]

_FACT = re.compile(r"(?:[Ee]very\s+)?([^\s.,?!]+)\s+is\s+an?\s+([^\s.,?!]+)")


@dataclass(frozen=True, slots=True)
class Form:
    """How chains are written.

    Attributes:
        is_in_words: In sentences, and not in symbols.
        answer_start: The template's mark of the answer.
        step_end: The template's end of a step.
    """

    is_in_words: bool
    answer_start: str
    step_end: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A text, read.

    Attributes:
        edges: The steps as (parent, child); the parent of the first is None in symbols, where it is
            not written.
        label: The name that the answer gives; empty where there is none.
        has_answer: Whether the mark of the answer is there.
        has_junk: Whether there is something beside steps in front of the answer.
    """

    edges: tuple[tuple[str | None, str], ...]
    label: str
    has_answer: bool
    has_junk: bool

    @property
    def is_inconsistent(self) -> bool:
        """Whether the answer names another node than the last of the chain."""
        return bool(self.edges and self.label) and self.label != self.edges[-1][1]


# --- reading ----------------------------------------------------------------------------------


def read(text: str, form: Form, names: Collection[str], *, is_finished: bool = True) -> Written:
    """Read the steps and the answer of a text.

    Args:
        text: All that was written behind the thoughts.
        form: How.
        names: Of the nodes; only to see whether the last one was cut off.
        is_finished: Whether the text ended by itself, and not at a limit of tokens.
    """
    body, mark, _ = text.partition(form.answer_start.strip())
    is_cut = not is_finished and not mark
    edges, has_junk = (_facts if form.is_in_words else _symbols)(body, form, is_cut)
    if is_cut and edges and body.endswith(edges[-1][1]) and _is_cut_off(edges[-1][1], names):
        edges = edges[:-1]
    answer = extract_answer(text, form.answer_start)
    return Written(tuple(edges), _label(answer), bool(mark), has_junk)


_Edges = list[tuple[str | None, str]]


def _facts(body: str, form: Form, is_cut: bool) -> tuple[_Edges, bool]:
    found = list(_FACT.finditer(body))
    if is_cut:  # the beginning of a sentence is no junk
        body = body[: found[-1].end()] if found else ""
    return [(match[1], match[2]) for match in found], _has_words(_FACT.sub(" ", body))


def _symbols(body: str, form: Form, is_cut: bool) -> tuple[_Edges, bool]:
    pieces = [piece for piece in body.split() if piece != form.step_end.strip()]
    words = [piece for piece in pieces if _has_words(piece)]
    edges = list(zip([None, *words], words, strict=False))
    return edges, len(words) < len(pieces)


def _has_words(text: str) -> bool:
    return re.search(r"\w", text) is not None


def _is_cut_off(name: str, names: Collection[str]) -> bool:
    return name not in names and any(whole.startswith(name) for whole in names)


def _label(answer: str) -> str:
    fact = _FACT.search(answer)
    return fact[2] if fact else answer.rstrip(". ")


# --- classifying ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judge:
    """One graph, ready to judge any number of texts about it."""

    graph: Graph

    def outcome(
        self,
        written: Written,
        *,
        is_right: bool,
        hidden: Collection[int] | None = None,
        end: End = "as_written",
    ) -> Outcome:
        """Return what became of a question.

        Args:
            written: The text.
            is_right: Whether its answer counts as right; only read where no step is written.
            hidden: How many steps may be missing in front; None for any number.
            end: What a chain without an answer leads to.
        """
        if not written.edges:
            return "correct_label" if is_right else "incorrect_label"
        chain = self._chain(written.edges)
        leads = self._leads(chain, hidden, written.edges[0][0] is None) if chain else []
        if not leads:
            return "hallucination"
        to_go = self._to_target if end == "open" and not written.has_answer else {self._target: 0}
        if chain[-1] not in to_go:
            return "wrong_target"
        length = min(leads) + len(chain) - 1 + to_go[chain[-1]]
        return "correct_path" if length == min(self._lengths[self._target]) else "longer_path"

    def _chain(self, edges: Sequence[tuple[str | None, str]]) -> list[int]:
        """Return the nodes that are named, first to last; none if they are no path."""
        names = [edges[0][0], *(child for _, child in edges)]
        if any(parent != before for (parent, _), before in zip(edges, names, strict=False)):
            return []
        chain = [self._number.get(name) for name in names if name is not None]
        known = [node for node in chain if node is not None]
        are_edges = all(b in self.graph.children[a] for a, b in pairwise(known))
        return known if len(known) == len(chain) and are_edges else []

    def _leads(
        self, chain: Sequence[int], hidden: Collection[int] | None, is_symbols: bool
    ) -> list[int]:
        """Return the allowed numbers of edges from the root to where a chain starts.

        In symbols the first node named is the end of a step that counts as written.
        """
        found = self._lengths.get(chain[0], set())
        return [
            n for n in found if n >= is_symbols and (hidden is None or n - is_symbols in hidden)
        ]

    @property
    def _target(self) -> int:
        return self.graph.target

    @cached_property
    def _number(self) -> dict[str, int]:
        return {name: node for node, name in enumerate(self.graph.names)}

    @cached_property
    def _lengths(self) -> dict[int, set[int]]:
        """The lengths of all paths from the root, by where they end."""
        found: dict[int, set[int]] = {}
        level, length = {self.graph.root}, 0
        while level:  # ends, as there are no circles
            for node in level:
                found.setdefault(node, set()).add(length)
            level = {child for node in level for child in self.graph.children[node]}
            length += 1
        return found

    @cached_property
    def _to_target(self) -> dict[int, int]:
        """How far it is to the target, for each node from which it can be reached."""
        turned = tuple((child, parent) for parent, child in self.graph.edges)
        graph = Graph(self.graph.num_nodes, turned, self._target, 0, 0)
        return distances(graph, self._target)
