"""What a person sees while long work goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from latentcot.utils.distributed import is_main

console = Console(stderr=True)


def say(text: str) -> None:
    """Tell the person something, as it is, once: lines of any length, brackets and all."""
    if not is_main():
        return
    with suppress(OSError):  # the terminal was closed: what goes on is worth more than the note
        console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


class RateColumn(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        """Show the rate, or a dash before there is one."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "–/s", style="dim")


def progress_bars(*, is_quiet: bool = False) -> Progress:
    """Return rich bars with rate and time left, which fit into 80 columns."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=is_quiet or not is_main(),
    )


@contextmanager
def progress_bar(
    description: str, total: int, *, is_quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show one bar; yield the function that moves it on."""
    with progress_bars(is_quiet=is_quiet) as bars:
        bar = bars.add_task(description, total=total)
        yield lambda count: bars.advance(bar, count)
