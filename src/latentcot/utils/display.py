"""What a person sees while long work goes on."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text

from latentcot.utils.distributed import is_main
from latentcot.utils.parsing import printable


class Terminal(Console):
    """A console that shows the texts of others as texts, and may be closed while work goes on.

    No markup is read in them, and what would move the cursor or change colours is replaced. What
    is told on standard error after the terminal has gone is lost, and ends nothing.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a text, such as a cell of a table, into what is printed."""
        return super().render_str(printable(text), **options)

    @property
    def file(self) -> IO[str]:
        """Where it prints."""
        file = super().file
        return cast(IO[str], _Closable(file)) if self.stderr else file

    @file.setter
    def file(self, new: IO[str]) -> None:
        self._file = new


class _Closable:
    """A file that takes what is written to it, whether or not anybody can read it still."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


console = Terminal(stderr=True)


def say(text: str) -> None:
    """Tell the person something on standard error, once: lines of any length, brackets and all."""
    if is_main():
        console.print(text, highlight=False, soft_wrap=True)


@cache
def say_once(text: str) -> None:
    """Tell the person something that many runs or readers would say alike."""
    say(text)


def put(text: str = "") -> None:
    """Print a line of a result on standard output, as it is but for control characters."""
    print(printable(text))


def put_json(value: Any) -> None:
    """Print JSON on standard output, in one line, its control characters escaped."""
    takes_all = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=not takes_all)
    print(_UNSAFE.sub(lambda one: f"\\u{ord(one[0]):04x}", text))


_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What `json.dumps` leaves as it is, though a terminal acts on it or no file takes it."""


class _NameColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(printable(task.description))


class RateColumn(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        """Show the rate, or a dash before there is one."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "–/s", style="dim")


def progress_bars(*, is_quiet: bool = False) -> Progress:
    """Return rich bars with rate and time left, which fit into 80 columns."""
    return Progress(
        _NameColumn(),
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
