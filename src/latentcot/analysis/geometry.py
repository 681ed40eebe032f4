"""The shape of thoughts: how long they are, how many directions they fill, how they turn.

Effective rank is exp of the entropy of the singular values over their sum (Roy 2007), participation
ratio (Σ s²)² / Σ s⁴, both of the thoughts less their mean. One more state than there are thoughts,
at the last latent position, is what another one would have been.

Shapes: R vectors, D hidden size.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from math import sqrt
from statistics import fmean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure
from scipy.stats import t
from torch import Tensor
from torch.nn.functional import cosine_similarity

from latentcot.analysis.shared import style
from latentcot.analysis.shared.latents import (
    MEANING,
    compared,
    models_of,
    record,
    tables_of,
    with_latents,
)
from latentcot.analysis.shared.statistics import Row, Rows, Values, mean_fields, more_rows
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.models.loading import width_of

NUM_GROUPS = 10
"""Parts of the questions that the jackknife leaves out in turn."""
PAIRED = ("relative_norm", "cosine_to_mean", "cosine_to_next")


def measure(
    subject: Subject, on_progress: Progress = no_progress, against: Sequence[Subject] = ()
) -> Row:
    """Measure every thought, and the token embeddings to compare with.

    Intervals are Student's over questions; those of rank and participation come from a jackknife
    that leaves out a tenth of the questions at a time.

    Raises:
        UsageError: The subject has no latent positions, or the two are not asked the same.
    """

    def shape(subject: Subject) -> tuple[Row, Values]:
        """Return all figures, and for each thought what can be paired question by question."""
        chains, model = record(with_latents(subject)), subject.reasoner.model
        on_progress(len(subject.examples))
        table = model.get_input_embeddings().get_parameter("weight").detach().double().cpu()
        norms, singular = table.norm(dim=-1).tolist(), spectrum(table)
        thoughts, paired = Rows(), Values()
        for thought in range(1, chains.most + 2):
            questions = chains.with_state(thought)
            vectors = chains.states[questions, thought - 1].double()
            lengths = vectors.norm(dim=-1)
            to_mean = cosine_similarity(vectors, vectors.mean(0, keepdim=True))
            followed = chains.with_state(thought + 1) if thought <= chains.most else []
            here = chains.states[followed, thought - 1].double()
            there = chains.states[followed, thought].double() if followed else here
            row = {"thought": thought, "num_questions": len(questions)}
            for name, numbers, values in (
                ("norm", questions, lengths),
                ("relative_norm", questions, lengths / fmean(norms)),
                ("cosine_to_mean", questions, to_mean),
                ("cosine_to_next", followed, cosine_similarity(here, there)),
            ):
                row |= _spread(name, values.tolist())
                if name in PAIRED:
                    paired[name, thought] = dict(zip(numbers, values.tolist(), strict=True))
            thoughts.append(row | _ranks(vectors))
        found = {
            "thought_means": MEANING[subject.has_thoughts],
            "num_thoughts": chains.most,
            "num_questions": len(subject.examples),
            "hidden_size": width_of(model),
            "embeddings": {
                "num": len(norms),
                **_spread("norm", norms),
                "effective_rank": round(effective_rank(singular), 4),
                "participation_ratio": round(participation_ratio(singular), 4),
            },
            "thoughts": thoughts,
        }
        return found, paired

    compare = partial(more_rows, ("name", "thought"))
    return compared(subject, against, shape, compare)


def _spread(name: str, values: Sequence[float]) -> Row:
    """Return mean, standard deviation and interval; None where there is nothing."""
    found = dict.fromkeys((name, f"{name}_sd", f"{name}_low", f"{name}_high"))
    if values:
        found |= mean_fields(name, values, digits=4)
        found[f"{name}_sd"] = round(stdev(values), 4) if len(values) > 1 else None
    return found


def spectrum(vectors_RD: Tensor) -> Tensor:
    """Return the singular values of vectors less their mean, in rising order: (D,)."""
    centred = vectors_RD - vectors_RD.mean(0)
    return _roots(centred.T @ centred)


def _roots(gram_DD: Tensor) -> Tensor:
    found: Tensor = torch.linalg.eigvalsh(gram_DD).clamp(min=0).sqrt()
    return found


def effective_rank(singular_D: Tensor) -> float:
    """Return exp of the entropy of the singular values over their sum; 0 if all are 0."""
    total = singular_D.sum()
    return float(torch.special.entr(singular_D / total).sum().exp()) if total > 0 else 0.0


def participation_ratio(singular_D: Tensor) -> float:
    """Return (Σ s²)² / Σ s⁴, how many equal directions would spread as much; 0 if all are 0."""
    squares = singular_D.square()
    total = float(squares.square().sum())
    return float(squares.sum()) ** 2 / total if total > 0 else 0.0


def _ranks(vectors_RD: Tensor) -> Row:
    """Return both, with 95 % intervals from leaving groups of vectors out (jackknife, Student)."""
    without, num = list[Tensor](), len(vectors_RD)
    if num >= 2 * NUM_GROUPS:
        total, gram = vectors_RD.sum(0), vectors_RD.T @ vectors_RD
        for group in range(NUM_GROUPS):  # every tenth vector, for each place to begin
            out = vectors_RD[group::NUM_GROUPS]
            left, mean = num - len(out), (total - out.sum(0)) / (num - len(out))
            without.append(_roots(gram - out.T @ out - left * torch.outer(mean, mean)))
    singular, found = spectrum(vectors_RD), Row()
    for name, of in (
        ("effective_rank", effective_rank),
        ("participation_ratio", participation_ratio),
    ):
        whole, parts = of(singular), [of(one) for one in without]
        found |= {name: round(whole, 4), f"{name}_low": None, f"{name}_high": None}
        if parts:
            squares = sum((value - fmean(parts)) ** 2 for value in parts)
            error = sqrt((NUM_GROUPS - 1) / NUM_GROUPS * squares)
            half = float(t.ppf(0.975, NUM_GROUPS - 1)) * error
            found |= {f"{name}_low": round(whole - half, 4), f"{name}_high": round(whole + half, 4)}
    return found


# --- drawing ----------------------------------------------------------------------------------

_PANELS = {
    "relative_norm": "norm / mean norm\nof embeddings",
    "effective_rank": "effective rank",
    "participation_ratio": "participation ratio",
    "cosine_to_mean": "cosine to\nmean thought",
    "cosine_to_next": "cosine to\nnext thought",
}


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files, by their names."""
    parts = {"geometry": "thoughts", "geometry_embeddings": "embeddings"}
    return tables_of(result, **parts, geometry_comparison="comparison")


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw a panel for each figure, by thought, with the same of the token embeddings."""
    with style.figure(style.COLUMN, 4.2) as drawn:
        panels = list(drawn.subplots(3, 2).flat)
        models = models_of(result)
        for panel, (key, label) in zip(panels, _PANELS.items(), strict=False):
            for number, model in enumerate(models):
                rows = [row for row in model["thoughts"] if row[key] is not None]
                at, look = [row["thought"] for row in rows], style.look_of(number)
                style.points(panel, at, rows, key, label=model["name"], **look)
                if key in model["embeddings"]:
                    name = "the same of its embeddings" if number == 0 else None
                    line: Any = {"color": look["color"], "linestyle": ":", "linewidth": 0.9}
                    panel.axhline(model["embeddings"][key], label=name, **line)
            if key == "relative_norm":
                panel.axhline(1, color=style.GREY, linestyle=":", linewidth=0.9)
            style.thought_axis(panel, max(model["num_thoughts"] for model in models))
            panel.set_ylim(0, 1.05 * panel.get_ylim()[1])
            panel.set_ylabel(label)
        for panel in panels[3:5]:
            panel.set_xlabel("thought")
        panels[5].axis("off")
        style.legend(drawn, [panels[1]], 2, "upper")
    return drawn
