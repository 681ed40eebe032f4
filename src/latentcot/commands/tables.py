"""Tables for the terminal."""

from collections.abc import Sequence
from pathlib import Path

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
    """Return runs side by side."""
    table = Table(caption=caption)
    table.add_column("method", no_wrap=True)
    for name in ("accuracy", "95 % interval", "questions", "tokens", "thoughts", "passes"):
        table.add_column(name, justify="right")
    table.add_column("ms per question", justify="right")
    table.add_column("updates", justify="right")
    table.add_column("seed", justify="right")
    for row in rows:
        table.add_row(
            row.method,
            percent(row.accuracy),
            f"{100 * row.low:.1f} – {100 * row.high:.1f}",
            str(row.num_questions),
            f"{row.tokens_per_question:.1f}",
            f"{row.thoughts_per_question:.1f}",
            f"{row.passes_per_question:.1f}",
            f"{1000 * row.seconds_per_question:.2f}",
            str(row.updates),
            str(row.seed),
        )
    return table
