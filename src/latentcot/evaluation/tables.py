"""A comparison as texts, and as a file: Markdown, LaTeX, CSV or JSON, by the file's ending.

Markdown and LaTeX show what a reader wants, CSV and JSON hold every field of every `Summary`.
"""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from io import StringIO
from pathlib import Path
from typing import Any

from latentcot.errors import UsageError
from latentcot.evaluation.comparison import Summary
from latentcot.evaluation.statistics import percent
from latentcot.utils.files import written_whole

SCHEMA_VERSION = 1
"""Of the JSON file."""

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


def accuracy_text(one: Summary) -> str:
    """Return `97.0 ± 0.3`: points, mean and standard deviation over the seeds."""
    if one.accuracy_mean is None:
        return NOTHING
    mean = percent(one.accuracy_mean).removesuffix(" %")
    return mean if one.accuracy_sd is None else f"{mean} ± {100 * one.accuracy_sd:.1f}"


def interval_text(one: Summary) -> str:
    """Return `95.1–98.2`: points, over the questions."""
    if one.low is None or one.high is None:
        return NOTHING
    return f"{100 * one.low:.1f}–{100 * one.high:.1f}"


def figure_text(value: float | None, digits: int = 1) -> str:
    """Return a figure with so many digits behind the point."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def difference_text(one: Summary) -> str:
    """Return `+3.1` or `−3.1`: points ahead of the baseline or behind it."""
    if one.difference is None:
        return NOTHING
    return f"{one.difference:+.1f}".replace("-", "−")


def p_text(p_value: float | None) -> str:
    """Return a p-value with three digits; a smaller one is not called 0."""
    if p_value is None:
        return NOTHING
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def seeds_text(one: Summary) -> str:
    """Return how many seeds have a result: `3`, or `2 of 3` if one failed."""
    num_all = len(one.seeds) + len(one.failed)
    return f"{len(one.seeds)} of {num_all}" if one.failed else str(num_all)


def updates_text(one: Summary) -> str:
    """Return the updates of the runs, as a range where they differ."""
    if not one.updates:
        return NOTHING
    ends = sorted({min(one.updates), max(one.updates)})
    return "–".join(f"{end:,}" for end in ends)


def questions_text(one: Summary) -> str:
    """Return the number of questions of each run."""
    return NOTHING if one.num_questions is None else f"{one.num_questions:,}"


def notes(summaries: Sequence[Summary]) -> list[str]:
    """Return what the figures of a task do not say: failed runs, and what is not alike."""
    found: list[str] = []
    for one in summaries:
        reasons = [f"seed {seed} has no result: {reason}" for seed, reason in one.failed]
        if reasons:
            found.append(f"{one.method}: {seeds_text(one)} seeds; {'; '.join(reasons)}")
        if one.unfinished:
            seeds = ", ".join(map(str, one.unfinished))
            found.append(f"{one.method}: seeds {seeds} ended before the last stage")
        if one.varied:
            found.append(f"{one.method}: the recipes of its runs differ in {', '.join(one.varied)}")
        both = {*one.seeds, *_seeds(one, summaries)}
        if one.versus and one.seeds and both != set(one.paired_seeds):
            paired = ", ".join(map(str, one.paired_seeds))
            which = (
                f"difference and p are about seeds {paired} alone" if paired else "there is no p"
            )
            found.append(f"{one.method}: {which}, as {one.versus} has other seeds")
    sizes = sorted({size for one in summaries for size in one.batch_sizes})
    if len(sizes) > 1:
        together = ", ".join(map(str, sizes))
        found.append(f"seconds cannot be compared: measured with {together} questions at a time")
    return found


def _seeds(one: Summary, summaries: Sequence[Summary]) -> tuple[int, ...]:
    """Return the seeds of the baseline of a summary."""
    return next((other.seeds for other in summaries if other.method == one.versus), ())


def legend(summaries: Sequence[Summary]) -> str:
    """Say what the columns are."""
    text = (
        "Accuracy: mean ± standard deviation over the seeds. 95 %: Wilson's interval of the mean, "
        "over the questions. Tokens (words and thoughts), thoughts, passes and seconds: means for "
        "a question."
    )
    baselines = sorted({one.versus for one in summaries if one.versus})
    if baselines:
        text += (
            f" Difference from {', '.join(baselines)} in points. p: McNemar's exact test on the "
            "same questions, combined over the seeds, adjusted by Holm for the comparisons of a "
            "task."
        )
    return text


def _columns(summaries: Sequence[Summary]) -> dict[str, Callable[[Summary], str]]:
    """Return the columns of Markdown and LaTeX: title → text of a summary."""
    columns: dict[str, Callable[[Summary], str]] = {
        "Method": lambda one: one.method,
        "Accuracy (%)": accuracy_text,
        "95 %": interval_text,
        "Tokens": lambda one: figure_text(one.tokens_per_question),
        "Thoughts": lambda one: figure_text(one.thoughts_per_question),
        "Passes": lambda one: figure_text(one.passes_per_question),
        "Seconds": lambda one: figure_text(one.seconds_per_question, 4),
    }
    baseline = next((one.versus for one in summaries if one.versus), None)
    if baseline is not None:
        columns[f"vs {baseline}"] = difference_text
        columns["p"] = lambda one: p_text(one.p_holm)
    if len({one.share_stopped_with_chain for one in summaries} - {None}) > 1:
        columns["Stops with the chain (%)"] = _stopped_text
    return columns | {"Seeds": seeds_text, "Updates": updates_text}


def _stopped_text(one: Summary) -> str:
    share = one.share_stopped_with_chain
    return NOTHING if share is None else percent(share).removesuffix(" %")


def _heading(task: str, summaries: Sequence[Summary]) -> str:
    asked = [one for one in summaries if one.num_questions is not None]
    return f"{task}, {questions_text(asked[0])} questions" if asked else task


def _sources(summaries: Sequence[Summary]) -> dict[str, list[str]]:
    return {
        "commits": sorted({commit for one in summaries for commit in one.commits}),
        "machines": sorted({machine for one in summaries for machine in one.machines}),
    }


# --- forms ------------------------------------------------------------------------------------


def _markdown(summaries: Sequence[Summary], evaluation: str) -> str:
    columns = _columns(summaries)
    lines = [f"# Comparison: {evaluation}", ""]
    for task, group in by_task(summaries).items():
        rows = [[_plain(text(one)) for text in columns.values()] for one in group]
        lines += [f"## {_plain(_heading(task, group))}", ""]
        lines += [_line(columns), _line(["---", *["---:"] * (len(columns) - 1)])]
        lines += [*map(_line, rows), ""]
        lines += [f"- {_plain(note)}" for note in notes(group)]
        lines += [""] if notes(group) else []
    lines += [legend(summaries), ""]
    lines += [f"{name.capitalize()}: {_plain('; '.join(all_))}." for name, all_ in
              _sources(summaries).items() if all_]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _plain(text: str) -> str:
    """Keep a text from being more than text in Markdown: no cell, no HTML."""
    return text.replace("|", r"\|").replace("<", "&lt;")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


_LATEX = str.maketrans(
    {char: f"\\{char}" for char in "%_&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
       "±": r"$\pm$", "−": "$-$", "<": "$<$", ">": "$>$", "–": "--", "…": r"\dots{}"}
)  # fmt: skip


def _escaped(text: str) -> str:
    return text.translate(_LATEX)


def _latex(summaries: Sequence[Summary], evaluation: str) -> str:
    columns = _columns(summaries)

    def row(cells: Iterable[str]) -> str:
        return f"{' & '.join(map(_escaped, cells))} \\\\"

    remarks = [f"{task}: {note.rstrip('.')}." for task, group in by_task(summaries).items()
               for note in notes(group)]  # fmt: skip
    caption = " ".join([f"Evaluation {evaluation}.", legend(summaries), *remarks])
    lines = [f"% {name}: {'; '.join(all_)}" for name, all_ in _sources(summaries).items() if all_]
    lines += [r"\begin{table*}", r"\centering", r"\small", rf"\caption{{{_escaped(caption)}}}",
              rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", r"\toprule",
              row(columns)]  # fmt: skip
    for task, group in by_task(summaries).items():
        heading = _escaped(_heading(task, group))
        lines += [r"\midrule", rf"\multicolumn{{{len(columns)}}}{{l}}{{\textit{{{heading}}}}} \\"]
        lines += [row(text(one) for text in columns.values()) for one in group]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _values(one: Summary) -> dict[str, Any]:
    """Return a summary as plain values, with the number of its seeds beside them."""
    values = asdict(one)
    values["failed"] = [{"seed": seed, "reason": reason} for seed, reason in one.failed]
    return values | {"num_seeds": len(one.seeds), "num_failed": len(one.failed)}


def document(summaries: Sequence[Summary], evaluation: str = "test") -> dict[str, Any]:
    """Return a comparison as the JSON file holds it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation": evaluation,
        "rows": [_values(one) for one in summaries],
        "provenance": _sources(summaries),
    }


def _json(summaries: Sequence[Summary], evaluation: str) -> str:
    return json.dumps(document(summaries, evaluation), indent=1, ensure_ascii=False) + "\n"


def _csv(summaries: Sequence[Summary], evaluation: str) -> str:
    """One row a summary; several values in one cell are parted by `;`, nothing is an empty cell."""
    names = ["evaluation", *(field.name for field in fields(Summary)), "num_seeds", "num_failed"]
    file = StringIO(newline="")
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    for one in summaries:
        values = {"evaluation": evaluation} | _values(one)
        values["failed"] = [f"{seed}: {reason}" for seed, reason in one.failed]
        writer.writerow({name: _cell(value) for name, value in values.items()})
    return file.getvalue()


def _cell(value: object) -> object:
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else value


_FORMS: dict[str, Callable[[Sequence[Summary], str], str]] = {
    ".md": _markdown,
    ".tex": _latex,
    ".csv": _csv,
    ".json": _json,
}
