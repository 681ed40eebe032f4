"""Tables for the terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from latentcot.comparison import Row
from latentcot.evaluation import Evaluation
from latentcot.statistics import percent


def print_table(table: Table) -> None:
    """Print a table; where nobody watches (a file, a pipe), wide enough not to cut names."""
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    console.print(table)


def print_evaluation(result: Evaluation, written: Path | None) -> None:
    """Print one evaluation, a line a figure."""
    table = Table(show_header=False, box=None)
    table.add_row("method", f"{result.method}, stage {result.stage}")
    interval = f"{100 * result.low:.1f} – {100 * result.high:.1f}"
    table.add_row("accuracy", f"{percent(result.accuracy)} (95 % interval {interval})")
    table.add_row("questions", str(result.num_questions))
    table.add_row("tokens per question", f"{result.tokens_per_question:.2f}")
    table.add_row("thoughts per question", f"{result.thoughts_per_question:.2f}")
    table.add_row("passes per question", f"{result.passes_per_question:.2f}")
    table.add_row(
        "seconds per question",
        f"{result.seconds_per_question:.4f} ({result.batch_size} at a time)",
    )
    if written is not None:
        table.add_row("written to", str(written))
    print_table(table)


def comparison_table(rows: Sequence[Row], caption: str | None = None) -> Table:
    """Return runs side by side; questions, updates and seed above them, where they are the same.

    It then fits into 80 columns. `95 %` is the interval of the accuracy; tokens, thoughts, passes
    and milliseconds are means for a question.
    """
    texts = {
        "questions": [f"{row.num_questions:,}" for row in rows],
        "updates": [f"{row.updates:,}" for row in rows],
        "seed": [str(row.seed) for row in rows],
    }
    common = {name: values[0] for name, values in texts.items() if len(set(values)) == 1}
    table = Table(
        title=", ".join(f"{name} {value}" for name, value in common.items()) or None,
        title_style="",
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
    )
    table.add_column("method", no_wrap=True)
    others = [name for name in texts if name not in common]
    is_told_apart = len({row.method for row in rows}) == len(rows)
    for name in ("accuracy", "95 %", "tokens", "thoughts", "passes", "ms", *others):
        table.add_column(name, justify="right", no_wrap=True)
    for number, row in enumerate(rows):
        table.add_row(
            row.method if is_told_apart else f"{row.method} ({row.run})",
            percent(row.accuracy),
            f"{100 * row.low:.1f}–{100 * row.high:.1f}",
            f"{row.tokens_per_question:.1f}",
            f"{row.thoughts_per_question:.1f}",
            f"{row.passes_per_question:.1f}",
            f"{1000 * row.seconds_per_question:.2f}",
            *(texts[name][number] for name in others),
        )
    return table
