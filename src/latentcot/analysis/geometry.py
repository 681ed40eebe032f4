"""The shape of thoughts: how long they are, how many directions they fill, how they turn.

Over the questions, for each thought i: its norm, also in units of the mean norm of the token
embeddings; its cosine to the mean thought i, and to the next thought; and of the thoughts less
their mean

    effective rank      exp of the entropy of the singular values over their sum (Roy 2007)
    participation ratio (Σ s²)² / Σ s⁴

Thought i is the last hidden state at the column before latent position i; with continuous thoughts
it is what is fed there. One more state, at the last latent position, is what another thought would
have been. Where pauses stand in the latent positions, all of them hold one vector, and the states
before them are looked at.

Shapes: R vectors, D hidden size, G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import torch
from scipy.stats import t
from torch import Tensor
from torch.nn.functional import cosine_similarity

from latentcot.analysis.shared.latents import (
    MEANING,
    Chains,
    compared,
    record,
    with_latents,
)
from latentcot.analysis.shared.paired import adjusted, difference, short
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.evaluation.statistics import mean_interval

SCHEMA_VERSION = 1
NUM_GROUPS = 10
"""Parts of the questions that the jackknife leaves out in turn."""
PAIRED = ("relative_norm", "cosine_to_mean", "cosine_to_next")

Row = dict[str, Any]
Values = dict[str, dict[int, float]]
"""Name → question → value."""


def measure(
    subject: Subject, against: Subject | None = None, on_progress: Progress = no_progress
) -> Row:
    """Measure every thought, and the token embeddings to compare with.

    Intervals are Student's over questions; those of rank and participation come from a jackknife
    that leaves out a tenth of the questions at a time.

    Args:
        subject: With latent positions.
        against: Another model with latent positions that is asked the same questions, such as the
            pause control; without latent positions it is left out, and the result says so.
        on_progress: Called with the number of questions thought about since the last call.

    Raises:
        UsageError: The subject has no latent positions, or the two are not asked the same.
    """
    found = compared(subject, against, lambda s: _shape(s, on_progress), _summary, _comparison)
    return {"schema_version": SCHEMA_VERSION, **found}


@dataclass(frozen=True)
class _Shape:
    """What was measured.

    Attributes:
        subject: Whose thoughts.
        num_thoughts: Latents of a question at most.
        embeddings: The token embeddings.
        thoughts: For each thought its figures as plain values.
        values: For each thought what can be paired question by question.
    """

    subject: Subject
    num_thoughts: int
    embeddings: Row
    thoughts: list[Row]
    values: list[Values]


def _shape(subject: Subject, on_progress: Progress) -> _Shape:
    chains = record(with_latents(subject))
    on_progress(len(subject.examples))
    weight: Tensor = subject.reasoner.model.get_input_embeddings().weight  # type: ignore[assignment]
    table = weight.detach().double().cpu()
    norms = table.norm(dim=-1).tolist()
    embeddings = {"num": len(norms), **_spread("norm", norms), **_filled(spectrum(table))}
    values = [_values(chains, thought, fmean(norms)) for thought in range(1, chains.most + 2)]
    thoughts = [
        {
            "thought": thought,
            "num_questions": len(found["norm"]),
            **_means(found),
            **_ranks(chains.states[chains.with_state(thought), thought - 1].double()),
        }
        for thought, found in enumerate(values, start=1)
    ]
    return _Shape(subject, chains.most, embeddings, thoughts, values)


def _values(chains: Chains, thought: int, embedding_norm: float) -> Values:
    """Return what belongs to each question's thought, and to the step to the next one."""
    questions = chains.with_state(thought)
    vectors = chains.states[questions, thought - 1].double()
    norms = vectors.norm(dim=-1)
    to_mean = cosine_similarity(vectors, vectors.mean(0, keepdim=True))
    found = {
        "norm": norms,
        "relative_norm": norms / embedding_norm,
        "cosine_to_mean": to_mean,
    }
    values = {name: _by(questions, those) for name, those in found.items()}
    followed = chains.with_state(thought + 1) if thought <= chains.most else []
    here, there = (
        (chains.states[followed, i].double() for i in (thought - 1, thought))
        if followed
        else (vectors[:0],) * 2
    )
    return values | {"cosine_to_next": _by(followed, cosine_similarity(here, there))}


def _by(questions: Sequence[int], values: Tensor) -> dict[int, float]:
    return dict(zip(questions, values.tolist(), strict=True))


def _means(values: Values) -> Row:
    found: Row = {}
    for name, by_question in values.items():
        found |= _spread(name, list(by_question.values()))
    return found


def _spread(name: str, values: Sequence[float]) -> Row:
    """Return mean, standard deviation and interval; None where there is nothing."""
    interval = mean_interval(values) if len(values) > 1 else None
    low, high = interval or (None, None)
    return {
        name: short(fmean(values)) if values else None,
        f"{name}_sd": short(stdev(values)) if len(values) > 1 else None,
        f"{name}_low": short(low),
        f"{name}_high": short(high),
    }


# --- how many directions ----------------------------------------------------------------------


def spectrum(vectors_RD: Tensor) -> Tensor:
    """Return the singular values of vectors less their mean, in rising order: (D,)."""
    centred = vectors_RD - vectors_RD.mean(0)
    return _roots(centred.T @ centred)


def _roots(gram_DD: Tensor) -> Tensor:
    found: Tensor = torch.linalg.eigvalsh(gram_DD).clamp(min=0).sqrt()
    return found


def effective_rank(singular_D: Tensor) -> float:
    """Return exp of the entropy of the singular values over their sum; 0 if all are 0."""
    if not bool((singular_D > 0).any()):
        return 0.0
    shares = singular_D[singular_D > 0] / singular_D.sum()
    return float((-(shares * shares.log()).sum()).exp())


def participation_ratio(singular_D: Tensor) -> float:
    """Return (Σ s²)² / Σ s⁴, how many equal directions would spread as much; 0 if all are 0."""
    squares = singular_D.square()
    total = float(squares.square().sum())
    return float(squares.sum()) ** 2 / total if total > 0 else 0.0


def _filled(singular: Tensor) -> Row:
    return {
        "effective_rank": short(effective_rank(singular)),
        "participation_ratio": short(participation_ratio(singular)),
    }


def _ranks(vectors_RD: Tensor) -> Row:
    """Return both with their jackknife intervals."""
    without = _spectra_without(vectors_RD)
    found: Row = {}
    for name, of in (
        ("effective_rank", effective_rank),
        ("participation_ratio", participation_ratio),
    ):
        whole = of(spectrum(vectors_RD))
        low, high = _jackknife(whole, [of(singular) for singular in without])
        found |= {name: short(whole), f"{name}_low": short(low), f"{name}_high": short(high)}
    return found


def _spectra_without(vectors_RD: Tensor) -> list[Tensor]:
    """Return the singular values with every tenth vector left out, for each place to begin."""
    num = len(vectors_RD)
    if num < 2 * NUM_GROUPS:
        return []
    total, gram = vectors_RD.sum(0), vectors_RD.T @ vectors_RD
    spectra = []
    for group in range(NUM_GROUPS):
        out = vectors_RD[group::NUM_GROUPS]
        left, mean = num - len(out), (total - out.sum(0)) / (num - len(out))
        spectra.append(_roots(gram - out.T @ out - left * torch.outer(mean, mean)))
    return spectra


def _jackknife(whole: float, without: Sequence[float]) -> tuple[float | None, float | None]:
    """Return a 95 % interval from what is found when a group is left out (Student's t)."""
    num = len(without)
    if num == 0:
        return None, None
    mean = fmean(without)
    error = sqrt((num - 1) / num * sum((value - mean) ** 2 for value in without))
    half = float(t.ppf(0.975, num - 1)) * error
    return whole - half, whole + half


# --- plain values -----------------------------------------------------------------------------


def _summary(shape: _Shape) -> Row:
    subject = shape.subject
    return {
        "name": subject.name,
        "method": subject.reasoner.info.method,
        "has_thoughts": subject.has_thoughts,
        "thought_means": MEANING[subject.has_thoughts],
        "num_thoughts": shape.num_thoughts,
        "num_questions": len(subject.examples),
        "hidden_size": subject.reasoner.model.config.hidden_size,
        "embeddings": shape.embeddings,
        "thoughts": shape.thoughts,
    }


def _comparison(shape: _Shape, other: _Shape) -> list[Row]:
    """Compare norms and cosines question by question (paired t-test, Holm)."""
    rows: list[Row] = []
    for thought, (here, there) in enumerate(zip(shape.values, other.values, strict=False), start=1):
        for name in PAIRED:
            both = [q for q in here[name] if q in there[name]]
            if both:
                more = difference([here[name][q] for q in both], [there[name][q] for q in both])
                rows.append(
                    {
                        "name": name,
                        "thought": thought,
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
