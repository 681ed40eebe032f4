"""What a text says about a graph: its chain read exactly, and one of six outcomes.

Those of arXiv 2412.06769, section 5: `correct_path` (a shortest one, or its end), `longer_path`,
`hallucination` (an edge or a name that there is not, steps that do not join, or a start to which
nothing leads), `wrong_target`; and where no step is written, `correct_label` or `incorrect_label`.
The chain decides, not the answer. It stands before the first mark of the answer; the answer is
behind the last one, where scoring reads it.

In words every "[Every] A is a B" is a step, and what stands between is junk. In symbols every word
is one. A name that the limit of tokens has cut off is none yet.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, get_args

from latentcot.tasks import extract_answer
from latentcot.tasks.prosqa.graphs import Graph, distances_to

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
    """How chains are written."""

    is_in_words: bool  # in sentences, and not in symbols
    answer_start: str  # the template's mark of the answer
    step_end: str = ""  # the template's end of a step


@dataclass(frozen=True, slots=True)
class Written:
    """A text, read."""

    # the steps as (parent, child); the parent of the first is None in symbols, where it is
    # not written
    edges: tuple[tuple[str | None, str], ...]
    label: str  # the name that the answer gives; empty where there is none
    has_answer: bool  # whether the mark of the answer is there
    has_junk: bool  # whether there is something beside steps in front of the answer

    @property
    def is_inconsistent(self) -> bool:
        """Whether the answer names another node than the last of the chain."""
        return bool(self.edges and self.label) and self.label != self.edges[-1][1]


def read(text: str, form: Form, names: Collection[str], *, is_finished: bool = True) -> Written:
    """Read the steps and the answer of all that was written behind the thoughts.

    A text that did not end by itself (`is_finished`) may have the last of the names cut off.
    """
    body, mark, _ = text.partition(form.answer_start.strip())
    is_cut = not is_finished and not mark
    edges: list[tuple[str | None, str]]
    if form.is_in_words:
        facts = list(_FACT.finditer(body))
        edges, told = [(match[1], match[2]) for match in facts], body
        if is_cut:  # the beginning of a sentence is no junk
            told = body[: facts[-1].end()] if facts else ""
        has_junk = re.search(r"\w", _FACT.sub(" ", told)) is not None
    else:
        pieces = [piece for piece in body.split() if piece != form.step_end.strip()]
        words = [piece for piece in pieces if re.search(r"\w", piece)]
        edges = list(zip([None, *words], words, strict=False))
        has_junk = len(words) < len(pieces)
    last = edges[-1][1] if edges else ""
    if is_cut and edges and body.endswith(last) and last not in names:
        is_begun = any(whole.startswith(last) for whole in names)
        edges = edges[:-1] if is_begun else edges  # cut off in the middle of a name
    answer = extract_answer(text, form.answer_start)
    fact = _FACT.search(answer)
    label = fact[2] if fact else answer.rstrip(". ")
    return Written(tuple(edges), label, bool(mark), has_junk)


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
            hidden: How many steps may be missing in front, behind thoughts; None for any number.
                Of several ways to the first node written the shortest that is allowed counts.
            end: What a chain without an answer leads to: the last node that it names
                (`as_written`), or whatever it could have gone on to from there (`open`).
        """
        if not written.edges:
            return "correct_label" if is_right else "incorrect_label"
        number = {name: node for node, name in enumerate(self.graph.names)}
        names = [written.edges[0][0], *(child for _, child in written.edges)]
        nodes = [number.get(name) for name in names if name is not None]
        chain = [node for node in nodes if node is not None]
        parents = [parent for parent, _ in written.edges]
        is_path = (
            len(chain) == len(nodes)
            and all(a == b for a, b in zip(parents, names, strict=False))
            and all(child in self.graph.children[parent] for parent, child in pairwise(chain))
        )
        if not is_path:
            return "hallucination"
        # In symbols the first node named is the end of a step that counts as written.
        first = names[0] is None
        leads = [
            n
            for n in self._lengths.get(chain[0], set())
            if n >= first and (hidden is None or n - first in hidden)
        ]
        if not leads:
            return "hallucination"
        target = self.graph.target
        to_go = {target: 0}
        if end == "open" and not written.has_answer:  # how far it is from where it can be reached
            to_go = distances_to(self.graph, target)
        if chain[-1] not in to_go:
            return "wrong_target"
        length = min(leads) + len(chain) - 1 + to_go[chain[-1]]
        return "correct_path" if length == min(self._lengths[target]) else "longer_path"

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
