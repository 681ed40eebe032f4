"""From a run to `analysis/`: measure, write, draw, one analysis after the other; then the page.

analysis/outcomes.json         what was measured, with where it comes from
analysis/outcomes.csv          the figure as numbers
analysis/outcomes.png, .pdf    the figure
…
analysis/against-NAME/         what the page shows of the second model, in the same form
analysis/report.html           all of it to play with, in one file
"""

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latentcot.analysis.registry import ANALYSES, Analysis, Result
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.errors import RunError, UsageError
from latentcot.runs.provenance import provenance
from latentcot.utils.files import write_json, written_whole

ON_PAGE = ("outcomes", "tree", "superposition", "interventions")
"""What the page shows of each model."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one analysis.

    Attributes:
        name: Of the analysis.
        seconds: It took, figures included.
        reason: Why it was not done; None if it was.
        result: What was measured.
    """

    name: str
    seconds: float
    reason: str | None = None
    result: Result | None = None


def analyze(
    subject: Subject,
    analyses: Sequence[Analysis],
    out: Path,
    others: Sequence[Subject] = (),
    on_start: Callable[[str], Progress] = lambda name: no_progress,
) -> list[Done]:
    """Do analyses and write what comes of them.

    Args:
        subject: The model and the questions.
        analyses: What is to be done.
        out: The folder to write into.
        others: Other models with the same questions, for those that compare.
        on_start: Called as each begins; returns what takes the number of questions done.

    Raises:
        DataError: The questions do not fit the model.
        RunError: Something cannot be written.
    """
    source = provenance()
    return [_analyze_one(one, subject, out, others, source, on_start) for one in analyses]


def analyze_other(
    other: Subject,
    done: Sequence[Done],
    out: Path,
    on_start: Callable[[str], Progress] = lambda name: no_progress,
) -> list[Done]:
    """Do for the second model what the page shows of the first.

    Those that compare have measured it already, beside the first.
    """
    shown = [one for one in done if one.result is not None and one.name in ON_PAGE]
    left = [ANALYSES[one.name] for one in shown if not ANALYSES[one.name].compares]
    found = analyze(other, left, out / f"against-{other.name}", on_start=on_start)
    for one in shown:
        beside = (one.result or {}).get("against", {})
        if ANALYSES[one.name].compares and "reason" not in beside:
            found.append(replace(one, result=beside))
    return found


def _analyze_one(
    analysis: Analysis,
    subject: Subject,
    out: Path,
    others: Sequence[Subject],
    source: dict[str, Any],
    on_start: Callable[[str], Progress],
) -> Done:
    start = time.perf_counter()
    try:
        result = analysis.measure(subject, others, on_start(f"{subject.name} · {analysis.name}"))
    except UsageError as error:  # not with this model: the others may still be done
        return Done(analysis.name, time.perf_counter() - start, reason=str(error))
    _forget(analysis.name, out)
    info = subject.reasoner.info
    about = {"checkpoint": {"method": info.method, "update": info.update, "seed": info.seed},
             "data": subject.source, "provenance": source}  # fmt: skip
    write_json(out / f"{analysis.name}.json", {**result, **about})
    _write_figures(analysis, result, out, _note(subject, result))
    return Done(analysis.name, time.perf_counter() - start, result=result)


def _forget(name: str, out: Path) -> None:
    """Delete what an earlier analysis left, and the page, which would show it."""
    old = (out / "report.html", *out.glob(f"{name}.*"), *out.glob(f"{name}-*.*"))
    try:
        for path in old:
            if path.suffix in (".json", ".csv", ".png", ".pdf", ".html"):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{out}: what an earlier analysis left cannot be deleted: {error}."
        ) from None


def _note(subject: Subject, result: Result) -> str:
    """Say above a figure what it is of."""
    count = result.get("num_questions", len(subject.examples))
    return f"{subject.name}, {count:,} questions; intervals 95 %"


def _write_figures(analysis: Analysis, result: Result, out: Path, note: str) -> None:
    from latentcot.analysis.figures.style import save

    for name, rows in analysis.rows(result).items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with written_whole(out / f"{name}.csv") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    for name, figure in analysis.draw(result).items():
        save(figure, out / name, f"{name}: {note}")
