"""Moving the answer: thoughts pushed along the difference of two, towards the other candidate.

A question has two candidates, the target t and the other one u. Thought i is replaced by

    thought + alpha · |thought| · direction,   |direction| = 1

and alpha > 0 pushes towards u, alpha < 0 away from it. DIRECTIONS says which directions there are;
a random one shows what any push of that length does. Latents behind it get what the model computes
there. "Flipped" is a question whose unchanged answer names one candidate, and now names the other.

Shapes: B batch, Q questions, N most latent positions of any question, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentcot.analysis.shared.latents import (
    Chains,
    compared,
    feed_of_latents,
    record,
    unit_noise,
    with_latents,
)
from latentcot.analysis.shared.naming import answer_naming
from latentcot.analysis.shared.paired import adjusted, short, short_p
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.evaluation.reasoner import Output
from latentcot.evaluation.statistics import mcnemar, share_with_interval
from latentcot.thinking.think import Feed, Latent

SCHEMA_VERSION = 1
MAX_QUESTIONS = 400
"""Questions steered at most, the first of the file; the means are over all of them."""
ALPHAS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
SEED = 0

DIRECTIONS = {
    "thoughts": "the mean thought i of other questions whose answer is u, less that of other "
    "questions whose answer is t",
    "embeddings": "the embedding of u, less that of t (the mean over the tokens of a name)",
    "random": "a Gaussian direction drawn for each question and thought, the same for all alphas",
}
"""Direction → its definition."""

Row = dict[str, Any]
Named = dict[int, str | None]
"""Question → the candidate that its answer names: "target", "neg_target", or neither."""
Key = tuple[str, int, float]
"""Direction, thought and alpha."""


def measure(
    subject: Subject, against: Subject | None = None, on_progress: Progress = no_progress
) -> Row:
    """Push every thought along every direction, and count the answers that flip.

    p-values are McNemar's: are as many answers flipped as along the random direction of the same
    length, on the same questions (two-sided)? `p` is adjusted by Holm for all of a subject,
    `p_raw` is not.

    Args:
        subject: With latent positions; its questions carry graphs.
        against: Another model with latent positions that is asked the same questions, such as the
            pause control; without latent positions it is left out, and the result says so.
        on_progress: Called with the number of questions answered since the last call.

    Raises:
        UsageError: The subject has no latent positions, or the two are not asked the same.
        DataError: A question carries no graph.
    """
    found = compared(subject, against, lambda s: _steer(s, on_progress), _summary, _comparison)
    return {"schema_version": SCHEMA_VERSION, "definitions": DIRECTIONS, **found}


@dataclass(frozen=True)
class _Steered:
    """What was answered along each direction.

    Attributes:
        subject: The questions that were steered.
        num_given: How many questions there were; the means are over all of them.
        most: Latents of a question at most.
        unchanged: What the unchanged answers name.
        answers: What they name when pushed.
    """

    subject: Subject
    num_given: int
    most: int
    unchanged: Named
    answers: dict[Key, Named]

    def flips(self, key: Key) -> dict[int, bool]:
        """Return question → whether it is flipped, of those whose answer named a candidate."""
        return {
            q: name is not None and name != self.unchanged[q]
            for q, name in self.answers[key].items()
            if self.unchanged[q] is not None
        }


def _steer(subject: Subject, on_progress: Progress) -> _Steered:
    latentted = with_latents(subject)
    chains = record(latentted)
    steered = latentted.first(MAX_QUESTIONS)
    towards = {
        "thoughts": thought_directions(latentted, chains),
        "embeddings": embedding_directions(steered),
        "random": random_directions(steered, chains.most),
    }
    numbers = range(len(steered.examples))
    unchanged = steered.answers(on_progress=on_progress)
    answers = {
        (name, thought, alpha): _answered(steered, chains, table, thought, alpha, on_progress)
        for name, table in towards.items()
        for thought in range(1, chains.most + 1)
        for alpha in ALPHAS
    }
    return _Steered(
        subject=steered,
        num_given=len(subject.examples),
        most=chains.most,
        unchanged=_named(steered, numbers, unchanged),
        answers={key: named for key, named in answers.items() if named},
    )


# --- directions -------------------------------------------------------------------------------


def thought_directions(subject: Subject, chains: Chains) -> Tensor:
    """Return where thoughts lead that end at u and not at t: (Q, N, D).

    The question itself is left out of the means. Zero where no other question has the answer t, or
    none has u, or all latent positions hold the same vector.
    """
    latent_inputs = chains.latent_inputs.double()
    if chains.is_constant:
        return torch.zeros_like(latent_inputs)
    groups: dict[str, list[int]] = {}
    for number, graph in enumerate(subject.graphs):
        groups.setdefault(graph.names[graph.target], []).append(number)
    length = torch.tensor(chains.num_latents)
    is_there = (torch.arange(chains.most) < length[:, None]).double()  # (Q, N)
    sums = {name: latent_inputs[members].sum(0) for name, members in groups.items()}
    nums = {name: is_there[members].sum(0) for name, members in groups.items()}
    found = torch.zeros_like(latent_inputs)
    for number, graph in enumerate(subject.graphs):
        here, there = graph.names[graph.target], graph.names[graph.neg_target]
        if there in groups:
            num_here, num_there = nums[here] - is_there[number], nums[there]
            gap = _mean(sums[there], num_there) - _mean(
                sums[here] - latent_inputs[number], num_here
            )
            found[number] = gap * ((num_here > 0) & (num_there > 0))[:, None]
    return found


def _mean(total_ND: Tensor, num_N: Tensor) -> Tensor:
    return total_ND / num_N.clamp(min=1)[:, None]


def embedding_directions(subject: Subject) -> Tensor:
    """Return e(u) − e(t), the same for each thought: (Q, 1, D)."""
    table = subject.reasoner.model.get_input_embeddings()
    device = subject.reasoner.model.device
    found = []
    with torch.no_grad():
        for graph, ids in zip(subject.graphs, subject.name_ids, strict=True):
            there, here = (
                table(torch.tensor(ids[node], device=device)).double().mean(0).cpu()
                for node in (graph.neg_target, graph.target)
            )
            found.append(there - here)
    return torch.stack(found)[:, None]


def random_directions(subject: Subject, most: int) -> Tensor:
    """Return a direction for each of so many thoughts of each question: (Q, N, D)."""
    size, thoughts = subject.reasoner.model.config.hidden_size, range(1, most + 1)
    return torch.stack(
        [
            torch.stack([unit_noise(size, SEED, "steer", example.id, i) for i in thoughts])
            for example in subject.examples
        ]
    )


# --- answers ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Push:
    """One thought, pushed along a unit vector of each question: (Q, D)."""

    latent: int
    alpha: float
    direction: Tensor

    def feed(self, own: Feed, numbers: Sequence[int]) -> Feed:
        rows = self.direction[list(numbers)]

        def feed(latent: Latent) -> Tensor:
            vectors = own(latent)
            if latent.number != self.latent:
                return vectors
            lengths: Tensor = vectors.norm(dim=-1, keepdim=True)
            return vectors + self.alpha * lengths * rows.to(vectors)

        return feed


def _answered(
    subject: Subject,
    chains: Chains,
    towards: Tensor,
    thought: int,
    alpha: float,
    on_progress: Progress,
) -> Named:
    """Return question → the candidate that its answer names; of questions with a direction."""
    place = min(thought, towards.shape[1]) - 1
    lengths = towards[:, place].norm(dim=-1)
    numbers = [
        q
        for q in range(len(subject.examples))
        if chains.num_latents[q] >= thought and lengths[q] > 0
    ]
    if not numbers:
        return {}
    push = _Push(thought - 1, alpha, (towards[:, place] / lengths[:, None])[numbers])
    feed_for = partial(push.feed, feed_of_latents(subject))
    outputs = subject.of(numbers).answers(feed_for=feed_for, on_progress=on_progress)
    return _named(subject, numbers, outputs)


def _named(subject: Subject, numbers: Sequence[int], outputs: Sequence[Output]) -> Named:
    """Return question → "target", "neg_target", or None where its answer names neither."""
    return {q: _candidate(subject, q, output) for q, output in zip(numbers, outputs, strict=True)}


def _candidate(subject: Subject, question: int, output: Output) -> str | None:
    graph = subject.graphs[question]
    for role, node in (("target", graph.target), ("neg_target", graph.neg_target)):
        answer = answer_naming(subject, question, graph.names[node])
        if subject.task.is_correct(output.answer, answer):
            return role
    return None


# --- counting ---------------------------------------------------------------------------------


def _summary(steered: _Steered) -> Row:
    rows = [_row(steered, key) for key in steered.answers]
    tested = [row for row in rows if row["p_raw"] is not None]
    for row, p in zip(tested, adjusted([row["p_raw"] for row in tested]), strict=True):
        row |= {"p": p, "p_raw": short_p(row["p_raw"])}
    there = {name for name, _, _ in steered.answers}
    return {
        "name": steered.subject.name,
        "method": steered.subject.reasoner.info.method,
        "has_thoughts": steered.subject.has_thoughts,
        "num_thoughts": steered.most,
        "num_questions": len(steered.subject.examples),
        "num_given": steered.num_given,
        "unchanged": _shares(steered.unchanged),
        "steered": rows,
        "left_out": {
            name: "no question has two groups of thoughts that differ"
            for name in DIRECTIONS
            if name not in there
        },
    }


def _row(steered: _Steered, key: Key) -> Row:
    name, thought, alpha = key
    flips = steered.flips(key)
    randomly = steered.flips(("random", thought, alpha))
    return {
        "direction": name,
        "thought": thought,
        "alpha": alpha,
        "num_questions": len(steered.answers[key]),
        **_shares(steered.answers[key]),
        **_share("flipped", list(flips.values())),
        "flipped_num_questions": len(flips),
        "p": None,
        "p_raw": None if name == "random" or not flips else _test(flips, randomly),
    }


def _test(one: dict[int, bool], two: dict[int, bool]) -> float:
    """Compare two on the questions of both, by McNemar."""
    both = [q for q in one if q in two]
    only_one = sum(one[q] and not two[q] for q in both)
    return mcnemar(only_one, sum(two[q] and not one[q] for q in both))


def _comparison(steered: _Steered, other: _Steered) -> list[Row]:
    """Compare the shares flipped of two subjects, on the questions of both (McNemar, Holm)."""
    rows: list[Row] = []
    for key in steered.answers:
        here = steered.flips(key)
        there = other.flips(key) if key in other.answers else {}
        both = [q for q in here if q in there]
        if both:
            name, thought, alpha = key
            rows.append(
                {
                    "direction": name,
                    "thought": thought,
                    "alpha": alpha,
                    "num_questions": len(both),
                    "flipped": short(sum(here[q] for q in both) / len(both)),
                    "flipped_against": short(sum(there[q] for q in both) / len(both)),
                    "p": _test(here, there),
                }
            )
    for row, p in zip(rows, adjusted([row["p"] for row in rows]), strict=True):
        row["p"] = p
    return rows


def _shares(named: Named) -> Row:
    """Return how many answers name the target, the other candidate, and neither."""
    roles = {"target": "target", "neg_target": "neg_target", "neither": None}
    shares: Row = {}
    for key, role in roles.items():
        shares |= _share(key, [one == role for one in named.values()])
    return shares


def _share(key: str, are_so: Sequence[bool]) -> Row:
    if not are_so:
        return {key: None, f"{key}_low": None, f"{key}_high": None}
    share, low, high = share_with_interval(sum(are_so), len(are_so))
    return {key: short(share), f"{key}_low": short(low), f"{key}_high": short(high)}
