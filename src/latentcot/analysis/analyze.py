"""From a run to `analysis/`: measure, write, draw, one analysis after the other; then the page.

analysis/outcomes.json         what was measured, with where it comes from
analysis/outcomes.csv          the figure as numbers
analysis/outcomes.png, .pdf    the figure
…
analysis/against-NAME/         what the page shows of the second model, in the same form
analysis/report.html           all of it to play with, in one file
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from latentcot.analysis.registry import ANALYSES, Analysis, Result
from latentcot.analysis.shared.style import save
from latentcot.analysis.shared.subject import Progress, Subject, no_progress
from latentcot.errors import DataError, RunError, UsageError
from latentcot.runs.provenance import provenance
from latentcot.utils.files import write_csv, write_json, written_whole

ANALYSIS_VERSION = 1
"""Earlier files call it schema_version."""
ON_PAGE = ("outcomes", "tree", "superposition", "interventions")
"""What the page shows of each model."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one analysis."""

    name: str
    seconds: float  # it took, figures included
    reason: str | None = None  # why it was not done; None if it was
    result: Result | None = None  # what was measured


def analyze(
    subject: Subject,
    analyses: Sequence[Analysis],
    out: Path,
    others: Sequence[Subject] = (),
    on_start: Callable[[str], Progress] = lambda name: no_progress,
) -> list[Done]:
    """Do analyses and write what comes of them into the folder `out`.

    Args:
        subject: The model and the questions.
        analyses: What is to be done.
        out: The folder to write into.
        others: Other models with the same questions, for those that compare.
        on_start: Called as each begins; returns what takes the number of questions done.

    Raises:
        RunError: Something cannot be written.
    """
    done, source, info = list[Done](), provenance(), subject.reasoner.info
    about = {
        "format_version": ANALYSIS_VERSION,
        "checkpoint": {"method": info.method_name, "update": info.update, "seed": info.seed},
        "data": subject.source,
        "provenance": source,
    }
    for analysis in analyses:
        start = time.perf_counter()
        on_progress = on_start(f"{subject.name} · {analysis.name}")
        try:
            result, reason = analysis.run(subject, others, on_progress), None
        except (UsageError, DataError) as error:  # not with this model, or its questions
            result, reason = None, str(error)
        _delete_earlier(out, analysis.name)
        if result is None:
            done.append(Done(analysis.name, time.perf_counter() - start, reason=reason))
            continue
        write_json(out / f"{analysis.name}.json", {**result, **about})
        for table, rows in analysis.rows(result).items():
            columns = list(dict.fromkeys(column for row in rows for column in row))
            shown = [  # a place that is none means all of them
                row | {key: "all" for key in ("thought", "k") if row.get(key, "") is None}
                for row in rows
            ]
            with written_whole(out / f"{table}.csv") as file:
                write_csv(file, columns, shown)
        count = result.get("num_questions", len(subject.examples))
        for title, drawn in analysis.figures(result).items():
            note = f"{title}: {subject.name}, {count:,} questions; intervals 95 %"
            save(drawn, out / title, note)
        done.append(Done(analysis.name, time.perf_counter() - start, result=result))
    return done


def _delete_earlier(out: Path, name: str) -> None:
    """Delete what an earlier analysis of this name left, and the page, which would show it."""
    try:
        for path in (out / "report.html", *out.glob(f"{name}.*"), *out.glob(f"{name}-*.*")):
            if path.suffix in (".json", ".csv", ".png", ".pdf", ".html"):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{out}: what an earlier analysis left cannot be deleted: {error}."
        ) from None


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
