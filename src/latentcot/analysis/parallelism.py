"""How many nodes a model keeps in play at once: the best 1, 2 and 3 of them, by their values.

Where the best node has nearly all the value, one branch is followed; where the second and third add
to it, several are open. The gap between the best and the best three narrows as the search goes on
(arXiv 2412.06769, section 5: first against second thought).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from latentcot.analysis.shared import style
from latentcot.analysis.shared.statistics import Row, Rows, mean_of
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.analysis.shared.values import (
    form_of,
    nodes_at,
    scored_counts,
    scored_depth,
    values_after,
)

BEST = 3
"""Nodes that are added up at most."""

DEFINITIONS = {
    "value": "product of the probabilities of the tokens of a node's name where a step names it: "
    "after 'Every' in words, at the beginning of a step in symbols",
    "best": "the nodes of the whole graph with the highest values after k thoughts, added up",
    "percentiles": "0 … 100 over the questions, of each sum by itself, so that the three at one "
    "percentile need not be of the same question",
    "gap": "best three less best one, question by question",
    "narrowing": "gap after k thoughts less gap after k + 1, of the questions that have both",
    "questions": "after k thoughts, those with nodes as deep as is scored then",
    "interval": "95 %, Student's t over the questions",
}


def measure(subject: Subject, on_progress: Progress = no_progress) -> Row:
    """Measure how the value is spread over the best nodes.

    Returns:
        What `parallelism.json` holds: plain values.

    Raises:
        UsageError: After no number of thoughts there is a choice between nodes.
        DataError: A question carries no graph, or does not fit the model.
    """
    counts = scored_counts(subject)
    values = values_after(subject, counts, on_progress=on_progress)
    depths, sums, gaps = {k: scored_depth(subject, k) for k in counts}, {}, {}
    for place, k in enumerate(counts):  # of the questions that have nodes as deep as that
        able = [q for q, graph in enumerate(subject.graphs) if nodes_at(graph, depths[k])]
        sums[k] = {q: best_sums(values[q][place]) for q in able}
        gaps[k] = {q: found[-1] - found[0] for q, found in sums[k].items()}
    narrowing = []
    for k in counts:
        if k + 1 in gaps:
            both = [gap - gaps[k + 1][q] for q, gap in gaps[k].items() if q in gaps[k + 1]]
            narrowing.append({"from": k, "to": k + 1, "narrowing": mean_of(both, lowest=-1.0)})
    return {
        "analysis": "parallelism",
        "method": subject.name,
        "form": form_of(subject),
        "num_questions": len(subject.examples),
        "num_thoughts": subject.most_thoughts,
        "definitions": DEFINITIONS,
        "by_k": [
            {
                "k": k,
                "depth": depths[k],
                "percentiles": percentiles(list(sums[k].values())),
                "gap": mean_of(list(gaps[k].values())),
            }
            for k in counts
        ],
        "narrowing": narrowing,
    }


def best_sums(values: Tensor) -> list[float]:
    """Return the value of the best node, of the best two together, of the best three."""
    best = values.sort(descending=True).values[:BEST].cumsum(0).tolist()
    sums: list[float] = [*best, *[best[-1]] * (BEST - len(best))]
    return sums


def percentiles(sums: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return, for the best 1, 2 and 3, percentiles 0 … 100 over the questions."""
    by_question = torch.tensor(sums, dtype=torch.float64)
    shares = torch.linspace(0, 1, 101, dtype=torch.float64)
    rows = torch.quantile(by_question, shares, dim=0).T.tolist()
    return [[round(value, 5) for value in row] for row in rows]


# --- drawing ----------------------------------------------------------------------------------

MOST_PANELS = 4
"""Numbers of thoughts that are drawn, from the smallest on; the CSV has all."""

_LOOKS = (
    ("best node", style.BLUE, "-"),
    ("best two", style.ORANGE, "--"),
    ("best three", style.GREEN, ":"),
)


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """Return a row for each k and percentile; the mean gap is repeated in each."""
    rows = [
        {
            "k": row["k"],
            "depth": row["depth"],
            "percentile": percent,
            **{f"best {i}": value for i, value in enumerate(values, start=1)},
            "mean_gap": row["gap"]["mean"],
            "mean_gap_low": row["gap"]["low"],
            "mean_gap_high": row["gap"]["high"],
            "num_questions": row["gap"]["num_questions"],
        }
        for row in result["by_k"]
        for percent, values in enumerate(zip(*row["percentiles"], strict=True))
    ]
    return {"parallelism": rows}


def draw(result: Mapping[str, Any]) -> Figure:
    """Draw the sums by percentile, a panel for each k; what lies between best one and three is
    shaded."""
    by_k = result["by_k"][:MOST_PANELS]
    with style.figure(2 * style.COLUMN if len(by_k) > 2 else style.COLUMN, 2.1) as drawn:
        panels = drawn.subplots(1, len(by_k), sharey=True, squeeze=False)[0]
        for axes, row in zip(panels, by_k, strict=True):
            best, percents, gap = row["percentiles"], range(101), row["gap"]
            axes.fill_between(percents, best[0], best[-1], color="#E4E4E4")
            for (label, colour, line), values in zip(_LOOKS, best, strict=True):
                axes.plot(percents, values, label=label, color=colour, linestyle=line)
            axes.set_title(f"k = {row['k']} (depth {row['depth']})")
            text = f"mean gap {gap['mean']:.2f}"
            if gap["low"] is not None:
                text += f"\n({gap['low']:.2f} – {gap['high']:.2f})"
            axes.text(98, 0.02, text, ha="right", va="bottom", fontsize=6.5)
            axes.set(xlabel="percentile of questions", xticks=[0, 50, 100], xlim=(0, 100))
            axes.set(ylim=(0, 1.04), yticks=[0, 0.5, 1])
        panels[0].set_ylabel("sum of values")
        style.legend(drawn, panels[:1], 3)
    return drawn
