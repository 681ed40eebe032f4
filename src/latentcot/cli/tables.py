"""Tables for the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from latentcot.evaluation.comparison import Row, Summary
from latentcot.evaluation.runs import FailedRun
from latentcot.evaluation.statistics import percent
from latentcot.evaluation.tables import (
    NOTHING,
    accuracy_text,
    by_task,
    difference_text,
    figure_text,
    interval_text,
    legend,
    notes,
    p_text,
    questions_text,
    seeds_text,
    updates_text,
)

if TYPE_CHECKING:
    from latentcot.evaluation.evaluate import (
        Evaluation,  # which imports torch; comparing needs none
    )


def print_table(table: Table) -> None:
    """Print a table; where nobody watches (a file, a pipe), wide enough not to cut names.

    A terminal that is too narrow for its figures breaks the lines itself: none is left out.
    """
    console = Console()
    width = console.width if console.is_terminal else 120
    Console(width=max(width, _least_width(table))).print(table)


def _least_width(table: Table) -> int:
    """Return the width at which no column is cut that must not wrap."""
    width = 0
    for column in table.columns:
        texts = [str(text) for text in (column.header, *column.cells)]
        width += max(map(len, texts)) if column.no_wrap else column.min_width or 1
    return width + 2 * len(table.columns)  # padding and divider


def print_evaluation(result: "Evaluation", written: Path | None) -> None:
    """Print one evaluation, a line a figure."""
    table = Table(show_header=False, box=None)
    table.add_row("method", f"{result.method}, stage {result.stage} of {result.last_stage}")
    interval = f"{100 * result.low:.1f} – {100 * result.high:.1f}"
    table.add_row("accuracy", f"{percent(result.accuracy)} (95 % interval {interval})")
    table.add_row("questions", str(result.num_questions))
    table.add_row("tokens per question", f"{result.tokens_per_question:.2f}")
    table.add_row("thoughts per question", f"{result.thoughts_per_question:.2f}")
    table.add_row("passes per question", f"{result.passes_per_question:.2f}")
    num_cut = sum(not record.is_finished for record in result.records)
    if num_cut:
        share = percent(num_cut / result.num_questions)
        table.add_row("cut off", f"{share} of the texts, by generation.max_new_tokens")
    if result.share_stopped_with_chain is not None:
        share = percent(result.share_stopped_with_chain)
        table.add_row("as many thoughts as its chain", f"{share} of the questions")
    table.add_row(
        "seconds per question",
        f"{result.seconds_per_question:.4f} ({result.batch_size} at a time)",
    )
    if written is not None:
        table.add_row("written to", str(written))
    print_table(table)


def _plain_table(title: Iterable[str], caption: str | None = None) -> Table:
    """Return an empty table without frame, so that figures fit into 80 columns."""
    return Table(
        title=escape(", ".join(title)) or None,
        title_style="",
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
    )


def _common(texts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return what is the same in all rows that have it: it stands above the table, not in it."""
    found = {name: list(dict.fromkeys(values)) for name, values in texts.items()}
    found = {name: [value for value in values if value != NOTHING] or values
             for name, values in found.items()}  # fmt: skip
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def _add_method_column(table: Table) -> None:
    """Where there is no room a name goes on in the next line, and no figure is cut."""
    table.add_column("method", overflow="fold", min_width=12)


def comparison_table(rows: Sequence[Row], caption: str | None = None) -> Table:
    """Return runs side by side; questions, updates and seed above them, where they are the same.

    It then fits into 80 columns. `95 %` is the interval of the accuracy; tokens, thoughts, passes
    and milliseconds are means for a question.
    """
    tasks = [row.task for row in rows]
    texts = {
        **({"task": tasks} if len(set(tasks)) > 1 else {}),
        "questions": [f"{row.num_questions:,}" for row in rows],
        "updates": [f"{row.updates:,}" for row in rows],
        "seed": [str(row.seed) for row in rows],
    }
    common = _common(texts)
    table = _plain_table((f"{name} {value}" for name, value in common.items()), caption)
    _add_method_column(table)
    others = [name for name in texts if name not in common]
    # The columns of task and seed tell runs of one method apart, unless one has been run twice.
    is_told_apart = len({(row.task, row.method, row.seed) for row in rows}) == len(rows)
    for name in ("accuracy", "95 %", "tokens", "thoughts", "passes", "ms", *others):
        table.add_column(name, justify="right", no_wrap=True)
    for number, row in enumerate(rows):
        table.add_row(
            escape(row.method if is_told_apart else f"{row.method} ({row.run})"),
            percent(row.accuracy),
            f"{100 * row.low:.1f}–{100 * row.high:.1f}",
            f"{row.tokens_per_question:.1f}",
            f"{row.thoughts_per_question:.1f}",
            f"{row.passes_per_question:.1f}",
            f"{1000 * row.seconds_per_question:.2f}",
            *(escape(texts[name][number]) for name in others),
        )
    return table


def print_failed(failed: Sequence[FailedRun], *, to_stderr: bool = False) -> None:
    """Print a line for each run of a study that has no result."""
    for one in failed:
        text = f"{one.task}, {one.method}, seed {one.seed} has no result: {one.reason}"
        _print_text(text, to_stderr=to_stderr)


def print_summaries(summaries: Sequence[Summary]) -> None:
    """Print a table for each task, what its figures do not say, and what the columns are."""
    for task, group in by_task(summaries).items():
        print_table(summary_table(task, group))
        for note in notes(group):
            _print_text(note)
        _print_text("")
    _print_text(legend(summaries))


def summary_table(task: str, summaries: Sequence[Summary]) -> Table:
    """Return the methods of a task over their seeds.

    With a baseline there are more columns than 80 characters hold, so that thoughts and seconds are
    left to `--out`.
    """
    texts = {
        "questions": [questions_text(one) for one in summaries],
        "updates": [updates_text(one) for one in summaries],
        "seeds": [seeds_text(one) for one in summaries],
    }
    common = _common(texts)
    baseline = next((one.versus for one in summaries if one.versus), None)
    table = _plain_table(
        [
            task,
            *(f"{name} {value}" for name, value in common.items()),
            *([f"diff and p against {baseline}"] if baseline else []),
        ]
    )
    _add_method_column(table)
    columns = {
        "accuracy %": [accuracy_text(one) for one in summaries],
        "95 %": [interval_text(one) for one in summaries],
        **_figures(summaries, is_tested=baseline is not None),
        **{name: values for name, values in texts.items() if name not in common},
    }
    for name in columns:
        table.add_column(escape(name), justify="right", no_wrap=True)
    for one, *cells in zip(summaries, *columns.values(), strict=True):
        table.add_row(escape(one.method), *cells)
    return table


def _figures(summaries: Sequence[Summary], *, is_tested: bool) -> dict[str, list[str]]:
    tokens = [figure_text(one.tokens_per_question) for one in summaries]
    thoughts = [figure_text(one.thoughts_per_question) for one in summaries]
    passes = [figure_text(one.passes_per_question) for one in summaries]
    if is_tested:
        return {
            "diff": [difference_text(one) for one in summaries],
            "p": [p_text(one.p_holm) for one in summaries],
            "tokens": tokens,
            "passes": passes,
        }
    seconds = [one.seconds_per_question for one in summaries]
    ms = [figure_text(None if one is None else 1000 * one, 2) for one in seconds]
    return {"tokens": tokens, "thoughts": thoughts, "passes": passes, "ms": ms}


def _print_text(text: str, *, to_stderr: bool = False) -> None:
    Console(soft_wrap=True, highlight=False, stderr=to_stderr).print(text, markup=False)
