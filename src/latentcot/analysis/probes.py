"""What a linear map finds in a thought, and how much of it is only learnt by heart.

PROBES says what is asked. Each probe is a ridge regression (`ridge.py`), fitted to one half of the
questions and tested on the other; halves are drawn by the questions' ids. A question's accuracy is,
where m labels of those allowed are true, the share of true ones among the m that score highest.
Selectivity is the accuracy less that of the same kind of probe on control labels
(`probe_labels.py`; Hewitt and Liang 2019).

Thought i is the last hidden state at the column before latent position i; with continuous thoughts
it is what is fed there. One more state, at the last latent position, is what another thought would
have been. Where pauses stand in the latent positions, the states before them are probed just so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from latentcot.analysis.shared.latents import (
    MEANING,
    Chains,
    compared,
    record,
    stream,
    with_latents,
)
from latentcot.analysis.shared.paired import adjusted, difference, short, short_p
from latentcot.analysis.shared.probe_labels import Labels, draw_order, labels_of, types_of
from latentcot.analysis.shared.ridge import Ridge
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.evaluation.statistics import share_interval

SCHEMA_VERSION = 1
SEED = 0
FEWEST = 2
"""Questions that each half must have."""

PROBES = {
    "frontier": "which nodes are exactly `distance` edges from the root; the root is not allowed",
    "within": "which nodes are 1 … `distance` edges from the root; the root is not allowed",
    "answer": "which of the two candidates is the answer, by its name",
    "candidate": "whether the answer is the first or the second candidate of the question",
    "class": "the first token of the answer",
    "thought": "the number of the thought itself, over all thoughts of a question; control: each "
    "type of question has one random order of the numbers",
}
"""Probe → what it is asked."""

Row = dict[str, Any]
Key = tuple[str, int | None, int | None]
"""Probe, distance and thought."""


def measure(
    subject: Subject, against: Subject | None = None, on_progress: Progress = no_progress
) -> Row:
    """Fit probes to every thought and test them on questions that they have not seen.

    Intervals are Wilson's for the accuracies (of a mean over questions they are never too narrow)
    and Student's for the paired differences; `p` is the paired t-test's that the selectivity is 0,
    adjusted by Holm for all probes of the subject.

    Args:
        subject: With latent positions.
        against: Another model with latent positions that is asked the same questions, such as the
            pause control; without latent positions it is left out, and the result says so.
        on_progress: Called with the number of questions thought about since the last call.

    Raises:
        UsageError: The subject has no latent positions, or the two are not asked the same.
    """
    found = compared(subject, against, lambda s: _probe(s, on_progress), _summary, _comparison)
    return {"schema_version": SCHEMA_VERSION, "definitions": PROBES, **found}


@dataclass(frozen=True)
class Tested:
    """One probe on the questions that it has not seen.

    Attributes:
        accuracy: Question → its accuracy.
        control: Question → that of the probe on control labels.
        chance: Question → that of guessing.
        num_train: Questions that it was fitted to.
    """

    accuracy: dict[int, float]
    control: dict[int, float]
    chance: dict[int, float]
    num_train: int


@dataclass(frozen=True)
class _Probed:
    subject: Subject
    chains: Chains
    tested: dict[Key, Tested]


def _probe(subject: Subject, on_progress: Progress) -> _Probed:
    chains = record(with_latents(subject))
    on_progress(len(subject.examples))
    is_train = halves([example.id for example in subject.examples])
    tested = {key: found for key, found in _tests(subject, chains, is_train) if found}
    return _Probed(subject, chains, tested)


def halves(ids: Sequence[str]) -> list[bool]:
    """Return for each question whether probes are fitted to it: half of them, drawn by id."""
    order = sorted(range(len(ids)), key=lambda q: (stream(SEED, "half", ids[q]).random(), q))
    chosen = set(order[: len(ids) // 2])
    return [q in chosen for q in range(len(ids))]


def _tests(
    subject: Subject, chains: Chains, is_train: Sequence[bool]
) -> Iterator[tuple[Key, Tested | None]]:
    asked = list(labels_of(subject))
    for thought in range(1, chains.most + 2):
        able = chains.with_state(thought)
        states = chains.states[:, thought - 1]
        maps: dict[tuple[int, ...], Ridge] = {}
        for labels in asked:
            rows = sorted(set(labels.counted) & set(able))
            yield (
                (labels.probe, labels.distance, thought),
                _test(labels, rows, rows, states, is_train, maps),
            )
    yield ("thought", None, None), _test_numbers(subject, chains, is_train)


def _test(
    labels: Labels,
    rows: Sequence[int],
    questions: Sequence[int],
    states: Tensor,
    is_train: Sequence[bool],
    maps: dict[tuple[int, ...], Ridge],
) -> Tested | None:
    """Fit and test one probe.

    Args:
        labels: What is asked; its tables are over the same rows as `states`.
        rows: The rows used.
        questions: The question that each of them belongs to.
        states: (rows, D).
        is_train: For each question whether it is there to be fitted.
        maps: Those fitted to the same rows before; a new one is added.
    """
    halved = list(zip(rows, questions, strict=True))
    train = tuple(row for row, question in halved if is_train[question])
    test = [(row, question) for row, question in halved if not is_train[question]]
    num_train = len({question for _, question in halved if is_train[question]})
    if min(num_train, len({question for _, question in test})) < FEWEST:
        return None
    if train not in maps:
        maps[train] = Ridge(states[list(train)])
    tested = [row for row, _ in test]
    allowed = labels.allowed_QK[tested]
    found = []
    for table in (labels.true_QK, labels.control_QK):
        scores = maps[train].scores(table[list(train)], states[tested])
        found.append(accuracies(scores, table[tested], allowed))
    found.append(labels.true_QK[tested].sum(1) / allowed.sum(1))
    by_question = [_means([question for _, question in test], values) for values in found]
    return Tested(by_question[0], by_question[1], by_question[2], num_train)


def accuracies(scores_EK: Tensor, true_EK: Tensor, allowed_EK: Tensor) -> Tensor:
    """Return for each row the share of true labels among the m allowed ones that score highest.

    m is how many are true, at least 1.
    """
    scores = scores_EK.masked_fill(~allowed_EK, -torch.inf)
    best_first = scores.argsort(dim=1, descending=True, stable=True)
    num_E1 = true_EK.sum(1, keepdim=True)
    is_chosen = torch.arange(true_EK.shape[1]) < num_E1
    hits = true_EK.gather(1, best_first) & is_chosen
    return hits.sum(1) / num_E1[:, 0]


def _means(questions: Sequence[int], values: Tensor) -> dict[int, float]:
    gathered: dict[int, list[float]] = {}
    for question, value in zip(questions, values.tolist(), strict=True):
        gathered.setdefault(question, []).append(value)
    return {question: fmean(found) for question, found in gathered.items()}


def _test_numbers(subject: Subject, chains: Chains, is_train: Sequence[bool]) -> Tested | None:
    """Ask for the number of the thought, over all thoughts of a question."""
    most = chains.most + 1
    places = [(q, i) for i in range(most) for q in chains.with_state(i + 1)]
    questions = [q for q, _ in places]
    types = types_of(subject)
    orders = {kind: draw_order(most, "thought", kind) for kind in set(types)}
    one_hot = torch.eye(most, dtype=torch.bool)
    labels = Labels(
        probe="thought",
        distance=None,
        counted=tuple(range(len(places))),
        true_QK=one_hot[[i for _, i in places]],
        control_QK=one_hot[[orders[types[q]][i] for q, i in places]],
        allowed_QK=torch.ones(len(places), most, dtype=torch.bool),
    )
    states = chains.states[questions, [i for _, i in places]]
    return _test(labels, range(len(places)), questions, states, is_train, {})


# --- plain values -----------------------------------------------------------------------------


def _summary(probed: _Probed) -> Row:
    rows = [_row(key, tested) for key, tested in probed.tested.items()]
    for row, p in zip(rows, adjusted([row["p_raw"] for row in rows]), strict=True):
        row |= {"p": p, "p_raw": short_p(row["p_raw"])}
    subject = probed.subject
    return {
        "name": subject.name,
        "method": subject.reasoner.info.method,
        "has_thoughts": subject.has_thoughts,
        "thought_means": MEANING[subject.has_thoughts],
        "num_thoughts": probed.chains.most,
        "num_questions": len(subject.examples),
        "probes": rows,
    }


def _row(key: Key, tested: Tested) -> Row:
    accuracy, control = list(tested.accuracy.values()), list(tested.control.values())
    selectivity = difference(accuracy, control)
    return {
        **_named(key),
        "num_train": tested.num_train,
        "num_questions": len(accuracy),
        **_share("accuracy", accuracy),
        **_share("control", control),
        "chance": short(fmean(tested.chance.values())),
        "selectivity": short(selectivity.mean),
        "selectivity_low": short(selectivity.low),
        "selectivity_high": short(selectivity.high),
        "p": None,
        "p_raw": selectivity.p,
    }


def _named(key: Key) -> Row:
    return dict(zip(("probe", "distance", "thought"), key, strict=True))


def _share(name: str, values: Sequence[float]) -> Row:
    mean = fmean(values)
    low, high = share_interval(mean, len(values))
    return {name: short(mean), f"{name}_low": short(low), f"{name}_high": short(high)}


def _comparison(probed: _Probed, other: _Probed) -> list[Row]:
    """Compare the accuracies of the same probes on two subjects, question by question."""
    rows: list[Row] = []
    for key, tested in probed.tested.items():
        there = other.tested[key].accuracy if key in other.tested else {}
        both = [q for q in tested.accuracy if q in there]
        if both:
            more = difference([tested.accuracy[q] for q in both], [there[q] for q in both])
            rows.append(
                {
                    **_named(key),
                    "num_questions": len(both),
                    "more": short(more.mean),
                    "more_low": short(more.low),
                    "more_high": short(more.high),
                    "p": more.p,
                }
            )
    for row, p in zip(rows, adjusted([row["p"] for row in rows]), strict=True):
        row["p"] = p
    return rows
