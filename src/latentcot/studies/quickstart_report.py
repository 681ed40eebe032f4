"""What the quickstart shows: the comparison, the frontier inside the thoughts, report.html."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from latentcot.analysis import superposition
from latentcot.analysis.shared.subject import asked, open_subject
from latentcot.data.examples import Example
from latentcot.evaluation.comparison import Row
from latentcot.evaluation.results import Evaluation, Record
from latentcot.evaluation.statistics import percent
from latentcot.methods import METHODS
from latentcot.pages import DepthMass, pick, write_page
from latentcot.pages.report import (
    AccuracyPoint,
    Curve,
    Frontier,
    LossPoint,
    ReportData,
    SearchQuestion,
    TableRow,
)
from latentcot.runs.folder import read_metrics
from latentcot.runs.provenance import code_of, provenance
from latentcot.tasks.prosqa.generator import graph_of
from latentcot.utils.files import write_json

FORMAT_VERSION = 1
NUM_SHOWN = 12
NUM_POINTS = 300
CAPTION = (
    "Trained from scratch on two-family graphs, with as many updates for each method. The thoughts "
    "are trained by the paper's loss alone: no label stands on a thought, though the state that "
    "becomes thought 1 had one at stage 0."
)


def measure_frontier(run: Path, data: Path) -> dict[str, Any]:
    """Read off a run what its thoughts hold on the test questions; write analysis/frontier.json."""
    subject = open_subject(run, str(data))
    mass = superposition.measure(subject)["frontier"]
    records = Evaluation.read(run / "evals" / f"{data.stem}.json").records
    frontier = {
        "format_version": FORMAT_VERSION,
        "method": subject.reasoner.info.method,
        "num_questions": len(subject.examples),
        "mass": [pick(DepthMass, row) for row in mass],
        "questions": shown_questions(
            subject.examples, superposition.node_probabilities(subject), records, NUM_SHOWN
        ),
    }
    write_json(run / "analysis" / "frontier.json", frontier)
    return frontier


def shown_questions(
    examples: Sequence[Example],
    probabilities: Sequence[Tensor],
    records: Sequence[Record],
    count: int,
) -> list[SearchQuestion]:
    """Return some questions with graph, thoughts and answer, as the report draws them.

    The first ones of the file, with wrong answers (up to a quarter) moved to the end.
    """
    wrong = [i for i, record in enumerate(records) if not record.is_correct][: count // 4]
    right = [i for i, record in enumerate(records) if record.is_correct]
    return [
        {
            **asked(examples[i], graph_of(examples[i])),
            "probabilities": [[round(float(p), 4) for p in row] for row in probabilities[i]],
            "answer": records[i].gold,
            "predicted": records[i].answer,
            "is_correct": records[i].is_correct,
        }
        for i in right[: count - len(wrong)] + wrong
    ]


def write_result(
    path: Path, rows: Sequence[Row], frontier: Mapping[str, Any], *, seconds: float, num_jobs: int
) -> None:
    """Write the figures of a quickstart and where they come from, for the tables of the README."""
    write_json(
        path,
        {
            "format_version": FORMAT_VERSION,
            "seed": rows[0].seed,
            "seconds": round(seconds, 1),
            "jobs": num_jobs,
            "rows": [row.values() for row in rows],
            "mass": frontier["mass"],
            "provenance": provenance(),
        },
    )


def conclusion(rows: Sequence[Row]) -> str:
    """Say in one sentence what the table shows, from its numbers alone."""
    by_method = {row.method: row for row in rows}
    coconut = by_method["coconut"]
    others = [row for row in rows if row is not coconut]
    behind = [row for row in others if coconut.result.accuracy.low > row.result.accuracy.high]
    level = [row for row in others if row not in behind]
    result = coconut.result
    text = (
        f"With {result.thoughts_per_question:.0f} continuous thoughts and no written chain, "
        f"Coconut answers {percent(result.accuracy.value)} of {result.accuracy.n:,} new questions"
    )
    if behind:
        text += f"; after as many updates {_each(behind)}"
    if level:
        text += f"; it is not clearly ahead of the rest: {_each(level)}"
    return f"{text} (a guess is right in 50 %)."


def _each(rows: Sequence[Row]) -> str:
    *first, last = [f"{row.method} has {percent(row.result.accuracy.value)}" for row in rows]
    return f"{', '.join(first)} and {last}" if first else last


def mass_lines(frontier: Mapping[str, Any]) -> list[str]:
    """Say what share of each thought lies on the nodes at exactly the right depth."""
    return [
        f"thought {mass['thought']}: {mass['mass']:.2f} of its probability is on the nodes at "
        f"depth {mass['depth']} below the root (evenly spread: {mass['uniform']:.2f})"
        for mass in frontier["mass"]
    ]


def write_quickstart_report(
    path: Path, rows: Sequence[Row], runs: Mapping[str, Path], frontier: Mapping[str, Any]
) -> None:
    """Write report.html from the result files of the runs."""
    curves: list[Curve] = []
    for row in rows:
        metrics = read_metrics(runs[row.method])
        losses = [point for point in metrics if point["kind"] == "train"]
        every = max(1, math.ceil(len(losses) / NUM_POINTS))
        thinned = [*losses[every - 1 :: every], *(losses[-1:] if len(losses) % every else ())]
        accuracies = [point for point in metrics if point["kind"] == "valid"]
        curves.append(
            {
                "method": row.method,
                "losses": [pick(LossPoint, point) for point in thinned],
                "accuracies": [pick(AccuracyPoint, point) for point in accuracies],
            }
        )
    source = provenance()
    data: ReportData = {
        "title": "Reasoning in continuous thoughts: the quickstart",
        "conclusion": conclusion(rows),
        "caption": CAPTION,
        "rows": [
            pick(
                TableRow,
                {**row.values(), **asdict(row.result.accuracy)}
                | {"accuracy": row.result.accuracy.value, "num_questions": row.result.accuracy.n}
                | {"summary": METHODS[row.method].summary},
            )
            for row in rows
        ],
        "curves": curves,
        "frontier": pick(Frontier, frontier),
        "chance": 0.5,
        "provenance": {
            "command": f"latentcot quickstart --seed {rows[0].seed}",
            "commit": code_of(source) or "not in a git checkout",
            "seed": rows[0].seed,
            "machine": source["machine"],
            "date": source["time"],
        },
    }
    write_page(path, "report", data)
