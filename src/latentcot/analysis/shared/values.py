"""The value of a node after k thoughts: the probability of writing its name where a step would.

That is the product of the probabilities of its tokens, behind "Every" in words and behind nothing
in symbols (arXiv 2412.06769, section 5), for all nodes, the unreachable ones too. Question and
thoughts are read once; names of several tokens are read over copies of their question's cache.

Shapes: B questions of a batch, P candidates (pairs of a question and a name), D hidden size,
C positions that a pass adds, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.curriculum.layout import Layout
from latentcot.errors import DataError, UsageError
from latentcot.evaluation.reasoner import Reasoner
from latentcot.models.loading import check_lengths, max_positions
from latentcot.tasks.prosqa.graphs import Graph, distances
from latentcot.thinking.batch import collate
from latentcot.thinking.decoding import roll_out
from latentcot.thinking.passes import Passes
from latentcot.thinking.readings import logits_of

Form = Literal["words", "symbols"]
Ids = tuple[int, ...]

MOST_THOUGHTS = 6
"""The paper's largest k: thoughts up to which a model is asked, whatever it was trained for."""

_FRONT: dict[Form, str] = {"words": "Every", "symbols": ""}


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is asked for after the thoughts."""

    front: Ids  # token ids of the forced beginning of a step; none in symbols
    # for each question, the token ids of each node's name behind it
    names: tuple[tuple[Ids, ...], ...]

    @property
    def num_positions(self) -> int:
        """The most positions that are read behind a prompt: the last token is never read."""
        return len(self.front) + max(len(ids) for names in self.names for ids in names) - 1


def form_of(subject: Subject) -> Form:
    """Return how the graphs are told."""
    return "words" if subject.is_in_words else "symbols"


def scored_depth(subject: Subject, num_thoughts: int) -> int:
    """Return the distance from the root of the nodes that the values after k thoughts are about.

    c thoughts stand for a step, so after k of them step k // c + 1 is written. In symbols that is
    the name of the node it leads to. In words it begins with the node it starts from ("Every A is a
    B."): k = 1 scores the children of the root (arXiv 2412.06769), and k = 0 the root itself, whose
    name is a person's and never stands behind "Every".
    """
    num_steps = num_thoughts // subject.reasoner.rules.plan.thoughts_per_step
    return num_steps + (1 if form_of(subject) == "symbols" else 0)


def nodes_at(graph: Graph, depth: int) -> list[int]:
    """Return the nodes at this distance from the root."""
    return [node for node, found in distances(graph, graph.root).items() if found == depth]


def forced_numbers(subject: Subject, room: int) -> tuple[list[int], str | None]:
    """Return the numbers of thoughts to force, and in words which were left out, if any.

    0, and on to as many as in training, or MOST_THOUGHTS if these are more, as far as the longest
    prompt and `room` positions behind it fit the model; 0 alone without latent positions.
    """
    if not subject.can_force_thoughts:
        return [0], None
    numbers = list(range(max(subject.most_thoughts, MOST_THOUGHTS) + 1))
    limit = max_positions(subject.reasoner.model)
    needed = [max(map(len, subject.prompts(k))) + room for k in numbers]
    fit = [k for k in numbers if k == 0 or limit is None or needed[k] <= limit]
    if fit == numbers:
        return fit, None
    return fit, (
        f"k from {fit[-1] + 1} to {numbers[-1]}: would need up to {needed[-1]} positions, but the "
        f"model has {limit}."
    )


def possible_counts(subject: Subject) -> list[int]:
    """Return the numbers of thoughts after which values can be had.

    Raises:
        DataError: Not even the questions fit.
    """
    room, ids = candidates_of(subject).num_positions, [example.id for example in subject.examples]
    check_lengths(subject.reasoner.model, subject.prompts(0), ids, new_tokens=room)
    return forced_numbers(subject, room)[0]


def scored_counts(subject: Subject) -> list[int]:
    """Return those of `possible_counts` after which some question has nodes to score.

    The root alone is none: there is nothing to choose.

    Raises:
        UsageError: There is none.
    """
    deepest = max(max(distances(graph, graph.root).values()) for graph in subject.graphs)
    counts = [k for k in possible_counts(subject) if 1 <= scored_depth(subject, k) <= deepest]
    if not counts:
        raise UsageError(
            f"{subject.name}: there is no number of thoughts after which it chooses between nodes. "
            "Values in words are those after thoughts: use a run of a method with thoughts or "
            "pauses in their place, or questions in symbols."
        )
    return counts


def candidates_of(subject: Subject) -> Candidates:
    """Return the tokens of all names, as they stand in a step.

    Raises:
        DataError: The tokenizer joins the name with what stands before it.
    """
    begin = _FRONT[form_of(subject)]
    names = sorted({name for graph in subject.graphs for name in graph.names})
    texts = [begin, *(f"{begin} {name}".lstrip() for name in names)]  # up to the end of the name
    ids = subject.reasoner.tokenizer(texts, add_special_tokens=False)["input_ids"]
    front, *wholes = map(tuple, ids)
    found = {}
    for name, text, whole in zip(names, texts[1:], wholes, strict=True):
        if whole[: len(front)] != front or whole == front:
            raise DataError(
                f"node {name!r}: the tokens of {text!r} are not those of {begin!r} and of the name "
                "in a row, so the name has no probability of its own. Use a tokenizer that keeps "
                "words apart."
            )
        found[name] = whole[len(front) :]
    return Candidates(
        front, tuple(tuple(found[name] for name in graph.names) for graph in subject.graphs)
    )


@torch.no_grad()
def values_after(
    subject: Subject,
    counts: Sequence[int],
    *,
    on_progress: Progress = no_progress,
) -> list[Tensor]:
    """Return the value of every node after each number of thoughts.

    Returns:
        For each question (counts, nodes), float64, on the CPU.

    Raises:
        UsageError: A method without latent positions is asked for thoughts.
        DataError: A name has no tokens of its own.
    """
    reasoner, rows_of = subject.reasoner, defaultdict[int, list[Tensor]](list)
    for numbers in subject.batches(subject.prompts(0)):
        part = subject.of(numbers)
        candidates = candidates_of(part)
        pairs = [(row, ids) for row, names in enumerate(candidates.names) for ids in names]
        rows = torch.tensor([row for row, _ in pairs])
        first = torch.tensor([ids[0] for _, ids in pairs])
        longer = [i for i, (_, ids) in enumerate(pairs) if len(ids) > 1]
        front, sizes = candidates.front, [len(names) for names in candidates.names]
        for count in counts:
            # The forced words stand behind the thoughts, so that they ride along in the last pass.
            prompts = [
                replace(prompt, suffix=prompt.suffix + front, labels=prompt.labels + front)
                for prompt in part.prompts(count)
            ]
            rollout = roll_out(reasoner.model, prompts, reasoner.thinker)
            ends = [len(prompt.suffix) for prompt in prompts]
            state_BD = rollout.states[range(len(prompts)), ends]
            log_P = _log_probabilities(reasoner, state_BD).cpu()[rows, first]
            # In pieces, so that copied caches take as much room as a batch does at most.
            for start in range(0, len(longer), subject.batch_size):
                chosen = longer[start : start + subject.batch_size]
                log_P[chosen] += _log_of_rest(reasoner, rollout.passes, [pairs[i] for i in chosen])
            for number, values in zip(numbers, torch.split(log_P.exp(), sizes), strict=True):
                rows_of[number].append(values)
        on_progress(len(numbers))
    return [torch.stack(rows_of[i]) for i in range(len(subject.examples))]


def _log_of_rest(reasoner: Reasoner, passes: Passes, pairs: list[tuple[int, Ids]]) -> Tensor:
    """Return the log-probability of each name's tokens behind its first: (P,).

    Reads them over a copy of the rows of `passes`, which itself is left as it is.
    """
    # Laid out as a prompt, a name's tokens are padded like any words.
    names = collate([Layout(ids, 0, ids[1:], ids[1:]) for _, ids in pairs])
    names = names.to(reasoner.model.device)
    num_next = int(names.suffix_lengths.max())
    place = torch.arange(num_next, device=names.suffix.device)
    is_real_PC = place < names.suffix_lengths[:, None]
    over = passes.copied()
    over.keep_rows(torch.tensor([row for row, _ in pairs], device=names.suffix.device))
    embeds = reasoner.model.get_input_embeddings()(names.prefix[:, :num_next])
    log_PCV = _log_probabilities(reasoner, over.read(embeds, is_real_PC))
    log_PC = log_PCV.gather(-1, names.suffix[:, :, None])[:, :, 0]
    return (log_PC * is_real_PC).sum(1).cpu()


def _log_probabilities(reasoner: Reasoner, states: Tensor) -> Tensor:
    """Read states by the output head, in double precision from there on."""
    return logits_of(reasoner.model, states).double().log_softmax(-1)
