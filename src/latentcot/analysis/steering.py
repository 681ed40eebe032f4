"""Moving the answer: thoughts pushed along the difference of two, towards the other candidate.

A question has two candidates, the target t and the other one u. Thought i is replaced by

    thought + alpha · |thought| · direction,   |direction| = 1

and alpha > 0 pushes towards u. "Flipped" is a question whose unchanged answer names one candidate,
and now names the other.

Shapes: B batch, Q questions, N most latent positions of any question, D hidden size.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from latentcot.analysis.shared import style
from latentcot.analysis.shared.latents import (
    Chains,
    answers_with,
    compared,
    models_of,
    random_directions,
    record,
    tables_of,
    with_latents,
)
from latentcot.analysis.shared.statistics import (
    Row,
    Rows,
    adjust,
    mcnemar_of,
    paired,
    share_fields,
)
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.evaluation.reasoner import Output
from latentcot.thinking.think import Latent

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

Named = dict[int, str | None]
"""Question → the candidate that its answer names: "target", "neg_target", or neither."""
KEYS = ("direction", "thought", "alpha")
"""What tells pushes apart."""
Key = tuple[str, int, float]
Flips = dict[Key, dict[int, bool]]
"""Push → question → whether it flips the answer."""


def measure(
    subject: Subject, on_progress: Progress = no_progress, against: Sequence[Subject] = ()
) -> Row:
    """Push every thought along every direction, and count the answers that flip.

    p-values are McNemar's: are as many answers flipped as along the random direction of the same
    length, on the same questions (two-sided)? `p` is adjusted by Holm for all of a subject,
    `p_raw` is not.

    Raises:
        UsageError: The subject has no latent positions, or the two are not asked the same.
        DataError: A question carries no graph.
    """

    def steer(subject: Subject) -> tuple[Row, Flips]:
        whole = with_latents(subject)
        chains, steered = record(whole), whole.first(MAX_QUESTIONS)
        towards = {
            "thoughts": thought_directions(whole, chains),
            "embeddings": embedding_directions(steered).expand(-1, chains.most, -1),
            "random": random_directions(steered, range(1, chains.most + 1), SEED, "steer"),
        }
        numbers = range(len(steered.examples))
        unchanged = named_by(steered, numbers, steered.answers(on_progress=on_progress))
        answers: dict[Key, Named] = {}
        for name, table in towards.items():
            for thought in range(1, chains.most + 1):
                along = table[:, thought - 1]
                lengths = along.norm(dim=-1)
                able = [q for q in numbers if chains.num_latents[q] >= thought and lengths[q] > 0]
                if able:
                    units = (along / lengths[:, None])[able]
                    for alpha in ALPHAS:
                        outputs = pushed(steered.of(able), thought, alpha, units, on_progress)
                        answers[name, thought, alpha] = named_by(steered, able, outputs)
        rows, flips = counted(unchanged, answers)
        there = {name for name, _, _ in answers}
        about = {
            "num_thoughts": chains.most,
            "num_questions": len(steered.examples),
            "num_given": len(subject.examples),
            "unchanged": _shares(unchanged),
            "steered": rows,
            "left_out": {
                name: "no question has two groups of thoughts that differ"
                for name in DIRECTIONS
                if name not in there
            },
        }
        return about, flips

    found = compared(subject, against, steer, _comparison)
    return {"definitions": DIRECTIONS, **found}


# --- directions -------------------------------------------------------------------------------


def thought_directions(subject: Subject, chains: Chains) -> Tensor:
    """Return where thoughts lead that end at u and not at t: (Q, N, D).

    The question itself is left out of the means. Zero where no other question has the answer t, or
    none has u, or all latent positions hold the same vector.
    """
    latent_inputs = chains.latent_inputs.double()
    if chains.is_constant:
        return torch.zeros_like(latent_inputs)
    is_there = chains.is_latent.double()
    ends = [(g.names[g.target], g.names[g.neg_target]) for g in subject.graphs]
    group_of = {name: i for i, name in enumerate({name for pair in ends for name in pair})}
    here, there = torch.tensor([[group_of[name] for name in pair] for pair in ends]).T
    sums = torch.zeros(len(group_of), *latent_inputs.shape[1:]).double()
    sums.index_add_(0, here, latent_inputs)
    nums = torch.zeros(len(group_of), chains.most).double().index_add_(0, here, is_there)
    num_here, num_there = (nums[here] - is_there)[..., None], nums[there][..., None]
    mean_here = (sums[here] - latent_inputs) / num_here.clamp(min=1)
    mean_there = sums[there] / num_there.clamp(min=1)
    return (mean_there - mean_here) * ((num_here > 0) & (num_there > 0))


def embedding_directions(subject: Subject) -> Tensor:
    """Return e(u) − e(t), the same for each thought: (Q, 1, D)."""
    table = subject.reasoner.model.get_input_embeddings().get_parameter("weight").detach().cpu()

    def mean_of(ids: Sequence[int]) -> Tensor:
        return table[list(ids)].double().mean(0)

    named = zip(subject.graphs, subject.name_ids, strict=True)
    found = [mean_of(ids[g.neg_target]) - mean_of(ids[g.target]) for g, ids in named]
    return torch.stack(found)[:, None]


# --- answers ----------------------------------------------------------------------------------


def pushed(
    subject: Subject, thought: int, alpha: float, units_QD: Tensor, on_progress: Progress
) -> list[Output]:
    """Answer questions with one thought pushed along a unit vector of each."""

    def replace(rows: Tensor, latent: Latent, own: Tensor) -> Tensor:
        if latent.number != thought - 1:
            return own
        lengths: Tensor = own.norm(dim=-1, keepdim=True)
        return own + alpha * lengths * units_QD[rows].to(own)

    return answers_with(subject, replace, on_progress)


def named_by(subject: Subject, numbers: Sequence[int], outputs: Sequence[Output]) -> Named:
    """Return question → "target", "neg_target", or None where its answer names neither."""
    found: Named = {}
    for number, output in zip(numbers, outputs, strict=True):
        graph, found[number] = subject.graphs[number], None
        for role, node in (("neg_target", graph.neg_target), ("target", graph.target)):
            answer = subject.answer_naming(number, graph.names[node])
            if subject.task.is_correct(output.answer, answer):
                found[number] = role
    return found


# --- counting ---------------------------------------------------------------------------------


def counted(unchanged: Named, answers: Mapping[Key, Named]) -> tuple[Rows, Flips]:
    """Return a row for each push, and which answers it flipped, of those that named a candidate."""
    flips, rows = Flips(), Rows()
    for key, named in answers.items():
        able = {q: name for q, name in named.items() if unchanged[q] is not None}
        flips[key] = {q: name is not None and name != unchanged[q] for q, name in able.items()}
    controls = {key: flips["random", *key[1:]] for key in flips if key[0] != "random"}
    p_values = {key: mcnemar_of(one, control) for key, one, control in paired(flips, controls)}
    for key, named in answers.items():
        rows.append(
            {
                **dict(zip(KEYS, key, strict=True)),
                "num_questions": len(named),
                **_shares(named),
                **share_fields("flipped", list(flips[key].values()), digits=4),
                "flipped_num_questions": len(flips[key]),
                "p": None,
                "p_raw": p_values.get(key),
            }
        )
    adjust(rows, raw="p_raw")
    return rows, flips


def _comparison(flips: Flips, others: Flips) -> Rows:
    """Compare the shares flipped of two subjects, on the questions of both (McNemar, Holm)."""
    rows = [
        {
            **dict(zip(KEYS, key, strict=True)),
            "num_questions": len(here),
            "flipped": round(fmean(here), 4),
            "flipped_against": round(fmean(there), 4),
            "p": mcnemar_of(here, there),
        }
        for key, here, there in paired(flips, others)
    ]
    adjust(rows)
    return rows


def _shares(named: Named) -> Row:
    """Return how many answers name the target, the other candidate, and neither."""
    shares: Row = {}
    for key, role in (("target", "target"), ("neg_target", "neg_target"), ("neither", None)):
        shares |= share_fields(key, [one == role for one in named.values()], digits=4)
    return shares


# --- drawing ----------------------------------------------------------------------------------

_LOOKS = {
    "thoughts": ("difference of thoughts", style.BLUE, "-o"),
    "embeddings": ("difference of embeddings", style.ORANGE, "-s"),
    "random": ("random direction", style.GREY, "--^"),
}


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return the rows of the CSV files, by their names."""
    return tables_of(result, steering="steered", steering_comparison="comparison")


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw the share flipped by α: a panel for each thought, and a row of them for each model."""
    models = models_of(result)
    nothing = {"alpha": 0, "flipped": 0.0, "flipped_low": 0.0, "flipped_high": 0.0}
    most = max(model["num_thoughts"] for model in models)
    width = style.COLUMN if most < 4 else 2 * style.COLUMN
    with style.figure(width, 0.5 + 1.45 * len(models)) as drawn:
        grid = drawn.subplots(len(models), most, sharex=True, sharey=True, squeeze=False)
        for panels, model in zip(grid, models, strict=True):
            rows = [row for row in model["steered"] if row["flipped"] is not None]
            for thought, panel in enumerate(panels, start=1):
                for name, (label, colour, line) in _LOOKS.items():
                    keys = (name, thought)
                    found = [row for row in rows if (row["direction"], row["thought"]) == keys]
                    if not found:
                        continue
                    found = sorted([*found, nothing], key=lambda row: float(row["alpha"]))
                    alphas, shares, low, high = ([row[key] for row in found] for key in nothing)
                    panel.plot(alphas, shares, line, color=colour, label=label)
                    panel.fill_between(alphas, low, high, color=colour, alpha=0.25, linewidth=0)
                panel.axvline(0, color=style.GREY, linewidth=0.5)
                panel.set(xticks=[-2, -1, 0, 1, 2], ylim=(-0.03, 1.03))
                style.percents(panel.yaxis)
            panels[0].set_ylabel(f"flipped\n({model['name']})" if len(models) > 1 else "flipped")
        for thought, panel in enumerate(grid[0], start=1):
            panel.set_title(f"thought {thought}")
        for panel in grid[-1]:
            panel.set_xlabel("α")
        style.legend(drawn, grid[0][:1], 2 if most < 4 else 3, "upper")
    return drawn
