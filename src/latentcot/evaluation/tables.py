"""A comparison as texts, and as a file: Markdown, LaTeX, CSV or JSON, by the file's ending.

Markdown and LaTeX show what a reader wants, CSV and JSON hold every field of every `Summary`.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from io import StringIO
from pathlib import Path
from typing import Any

from latentcot.errors import UsageError
from latentcot.evaluation.comparison import Summary
from latentcot.evaluation.results import Evaluation
from latentcot.evaluation.statistics import percent
from latentcot.utils.files import write_csv, written_whole

COMPARISON_VERSION = 2
"""Of the JSON file. Version 1 had the figures of accuracy side by side."""

NOTHING = "–"
"""Stands where there is no figure."""


def refuse_unknown_form(path: Path) -> None:
    """Check, before any work, that a comparison can be written in the form of this ending.

    Raises:
        UsageError: No form has this ending.
    """
    if path.suffix.lower() not in _FORMS:
        got = repr(path.suffix) if path.suffix else "none"
        raise UsageError(
            f"{path}: a comparison is written as {', '.join(_FORMS)}, by the ending of the file; "
            f"got {got}. Give it one of these."
        )


def write_summaries(
    path: Path | str, summaries: Sequence[Summary], evaluation: str = "test"
) -> None:
    """Write a comparison, whole or not at all.

    Args:
        path: Its ending says the form: .md, .tex (needs the package booktabs), .csv or .json.
        summaries: From `summarize`.
        evaluation: Name of the evaluation that was compared.

    Raises:
        UsageError: No form has this ending.
        RunError: It cannot be written.
    """
    path = Path(path)
    refuse_unknown_form(path)
    text = _FORMS[path.suffix.lower()](summaries, evaluation)
    with written_whole(path) as file:
        file.write(text)


# --- texts ------------------------------------------------------------------------------------


def by_task(summaries: Iterable[Summary]) -> dict[str, list[Summary]]:
    """Return the summaries of each task, in their order."""
    tasks: dict[str, list[Summary]] = {}
    for one in summaries:
        tasks.setdefault(one.task, []).append(one)
    return tasks


def figures(one: Summary | Evaluation) -> dict[str, str]:
    """Return the figures of a run, or of a method over its seeds, as texts.

    accuracy and its 95 % interval, tokens, thoughts, passes, seconds and ms of a question, and the
    share of questions that stopped with their chain.
    """

    def text(value: float | None, digits: int = 1) -> str:
        return NOTHING if value is None else f"{value:.{digits}f}"

    accuracy, seconds, stopped = (
        one.accuracy,
        one.seconds_per_question,
        one.share_stopped_with_chain,
    )
    return {
        "accuracy": percent(accuracy.value) if accuracy else NOTHING,
        "95 %": f"{100 * accuracy.low:.1f}–{100 * accuracy.high:.1f}" if accuracy else NOTHING,
        "questions": f"{accuracy.n:,}" if accuracy else NOTHING,
        "tokens": text(one.tokens_per_question),
        "thoughts": text(one.thoughts_per_question),
        "passes": text(one.passes_per_question),
        "seconds": text(seconds, 4),
        "ms": text(seconds if seconds is None else 1000 * seconds, 2),
        "stopped": NOTHING if stopped is None else percent(stopped).removesuffix(" %"),
    }


def texts(one: Summary) -> dict[str, str]:
    """Return all that a table shows of a summary, as texts, by name of the column.

    `accuracy` is `97.0 ± 0.3` here, in points: mean and standard deviation over the seeds. A
    p-value that is very small is not called 0, and `seeds` is `2 of 3` if one failed.
    """
    shown = figures(one)
    spread = "" if one.accuracy_sd is None else f" ± {100 * one.accuracy_sd:.1f}"
    ends = sorted({min(one.updates), max(one.updates)}) if one.updates else []
    num_all = len(one.seeds) + len(one.failed)
    difference, p = one.difference, one.p_adjusted
    return shown | {
        "accuracy": shown["accuracy"].removesuffix(" %") + spread,
        "diff": NOTHING if difference is None else f"{difference:+.1f}".replace("-", "−"),
        "p": NOTHING if p is None else "<0.001" if p < 0.001 else f"{p:.3f}",
        "seeds": f"{len(one.seeds)} of {num_all}" if one.failed else str(num_all),
        "updates": "–".join(f"{end:,}" for end in ends) or NOTHING,
    }


def baseline_of(summaries: Iterable[Summary]) -> str | None:
    """Return the method that the others were tested against; None if there is none."""
    return next((one.versus for one in summaries if one.versus), None)


def _seeds(seeds: Sequence[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))


def notes(summaries: Sequence[Summary]) -> list[str]:
    """Return what the figures of a task do not say: failed runs, and what is not alike."""
    found: list[str] = []
    for one in summaries:
        reasons = [f"seed {seed} has no result: {reason}" for seed, reason in one.failed]
        if reasons:
            found.append(f"{one.method}: {texts(one)['seeds']} seeds; {'; '.join(reasons)}")
        if one.unfinished:
            found.append(f"{one.method}: {_seeds(one.unfinished)} ended before the last stage")
        if one.varied:
            found.append(f"{one.method}: the recipes of its runs differ in {', '.join(one.varied)}")
        theirs = next((other.seeds for other in summaries if other.method == one.versus), ())
        if one.versus and one.seeds and {*one.seeds, *theirs} != set(one.paired_seeds):
            which = "there is no p"
            if one.paired_seeds:
                which = f"difference and p are about {_seeds(one.paired_seeds)} alone"
            found.append(f"{one.method}: {which}, as {one.versus} has other seeds")
    sizes = sorted({size for one in summaries for size in one.batch_sizes})
    if len(sizes) > 1:
        together = ", ".join(map(str, sizes))
        found.append(f"seconds cannot be compared: measured with {together} questions at a time")
    return found


def legend(summaries: Sequence[Summary]) -> str:
    """Say what the columns are."""
    text = (
        "Accuracy: mean ± standard deviation over the seeds. 95 %: Wilson's interval of the mean, "
        "over the questions. Tokens (words and thoughts), thoughts, passes and seconds: means for "
        "a question."
    )
    baseline = baseline_of(summaries)
    if baseline is None:
        return text
    return (
        f"{text} Difference from {baseline} in points. p: McNemar's exact test on the same "
        "questions, combined over the seeds, adjusted by Holm for the comparisons of a task."
    )


# --- files ------------------------------------------------------------------------------------


def _table(
    summaries: Sequence[Summary],
) -> tuple[list[str], dict[str, list[list[str]]]]:
    """Return the titles of Markdown and LaTeX, and heading → the cells of each row of a task."""
    titles = {"Method": "method", "Accuracy (%)": "accuracy", "95 %": "95 %", "Tokens": "tokens",
              "Thoughts": "thoughts", "Passes": "passes", "Seconds": "seconds"}  # fmt: skip
    if baseline := baseline_of(summaries):
        titles |= {f"vs {baseline}": "diff", "p": "p"}
    if len({one.share_stopped_with_chain for one in summaries} - {None}) > 1:
        titles |= {"Stops with the chain (%)": "stopped"}
    titles |= {"Seeds": "seeds", "Updates": "updates"}
    tasks = {}
    for task, group in by_task(summaries).items():
        shown = [texts(one) | {"method": one.method} for one in group]
        questions = next((t["questions"] for t in shown if t["questions"] != NOTHING), None)
        heading = f"{task}, {questions} questions" if questions else task
        tasks[heading] = [[cells[name] for name in titles.values()] for cells in shown]
    return list(titles), tasks


def _sources(summaries: Sequence[Summary]) -> dict[str, list[str]]:
    return {
        "commits": sorted({commit for one in summaries for commit in one.commits}),
        "machines": sorted({machine for one in summaries for machine in one.machines}),
    }


def _markdown(summaries: Sequence[Summary], evaluation: str) -> str:
    def plain(text: str) -> str:
        """Keep a text from being more than text in Markdown: no cell, no HTML."""
        return text.replace("|", r"\|").replace("<", "&lt;")

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    titles, tasks = _table(summaries)
    lines = [f"# Comparison: {evaluation}", ""]
    for (heading, rows), group in zip(tasks.items(), by_task(summaries).values(), strict=True):
        lines += [f"## {plain(heading)}", ""]
        lines += [line(titles), line(["---", *["---:"] * (len(titles) - 1)])]
        lines += [*(line(map(plain, row)) for row in rows), ""]
        if remarks := notes(group):
            lines += [*(f"- {plain(remark)}" for remark in remarks), ""]
    lines += [legend(summaries), ""]
    for name, all_ in _sources(summaries).items():
        if all_:
            lines.append(f"{name.capitalize()}: {plain('; '.join(all_))}.")
    return "\n".join(lines).rstrip() + "\n"


_LATEX = str.maketrans(
    {char: f"\\{char}" for char in "%_&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
       "±": r"$\pm$", "−": "$-$", "<": "$<$", ">": "$>$", "–": "--", "…": r"\dots{}"}
)  # fmt: skip


def _latex(summaries: Sequence[Summary], evaluation: str) -> str:
    def row(cells: Iterable[str]) -> str:
        return f"{' & '.join(cell.translate(_LATEX) for cell in cells)} \\\\"

    titles, tasks = _table(summaries)
    remarks = [f"{task}: {note.rstrip('.')}." for task, group in by_task(summaries).items()
               for note in notes(group)]  # fmt: skip
    caption = " ".join([f"Evaluation {evaluation}.", legend(summaries), *remarks])
    lines = [f"% {name}: {'; '.join(all_)}" for name, all_ in _sources(summaries).items() if all_]
    lines += [r"\begin{table*}", r"\centering", r"\small",
              rf"\caption{{{caption.translate(_LATEX)}}}",
              rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}", r"\toprule",
              row(titles)]  # fmt: skip
    for heading, rows in tasks.items():
        shown = heading.translate(_LATEX)
        lines += [r"\midrule", rf"\multicolumn{{{len(titles)}}}{{l}}{{\textit{{{shown}}}}} \\"]
        lines += map(row, rows)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def document(summaries: Sequence[Summary], evaluation: str = "test") -> dict[str, Any]:
    """Return a comparison as the JSON file holds it."""
    rows = [
        asdict(one)
        | {
            "failed": [{"seed": seed, "reason": reason} for seed, reason in one.failed],
            "num_seeds": len(one.seeds),
            "num_failed": len(one.failed),
        }
        for one in summaries
    ]
    return {
        "format_version": COMPARISON_VERSION,
        "evaluation": evaluation,
        "rows": rows,
        "provenance": _sources(summaries),
    }


def _csv(summaries: Sequence[Summary], evaluation: str) -> str:
    """One row a summary; an estimate is four columns (`accuracy.value`, `.low`, `.high`, `.n`).

    Several values in one cell are parted by `;`, nothing is an empty cell.
    """
    estimates = ("accuracy", "over_seeds")
    names = ["evaluation"]
    for field in fields(Summary):
        parts = [f"{field.name}.{part}" for part in ("value", "low", "high", "n")]
        names += parts if field.name in estimates else [field.name]
    file = StringIO(newline="")
    rows = []
    for one in document(summaries)["rows"]:
        row = {"evaluation": evaluation}
        for name, value in one.items():
            if name in estimates:
                row |= {f"{name}.{part}": figure for part, figure in (value or {}).items()}
            elif name == "failed":
                row[name] = "; ".join(f"{run['seed']}: {run['reason']}" for run in value)
            else:
                row[name] = "; ".join(map(str, value)) if isinstance(value, tuple) else value
        rows.append(row)
    write_csv(file, [*names, "num_seeds", "num_failed"], rows)
    return file.getvalue()


_FORMS: dict[str, Callable[[Sequence[Summary], str], str]] = {
    ".md": _markdown,
    ".tex": _latex,
    ".csv": _csv,
    ".json": lambda *of: json.dumps(document(*of), indent=1, ensure_ascii=False) + "\n",
}
