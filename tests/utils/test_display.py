"""What is printed: texts of others stay texts, and a terminal that is gone ends nothing."""

import errno
import json
import re
import sys
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
from rich.table import Table

from latentcot.cli import main
from latentcot.cli.shared.tables import print_table, print_text
from latentcot.utils import display
from latentcot.utils.display import console, progress_bars, put, put_json, say

HOSTILE = "\x1b]0;owned\x07[/red]\x9b31m[bold]\r:smile:\ud800"


class Gone(StringIO):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def flush(self) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def isatty(self) -> bool:
        return True


def in_table() -> None:
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    table.add_row(HOSTILE)
    print_table(table)


def in_bar() -> None:
    with progress_bars() as bars:
        bars.add_task(HOSTILE, total=1)


WAYS = [
    in_table,
    in_bar,
    lambda: print_text(HOSTILE),
    lambda: say(HOSTILE),
    lambda: put(HOSTILE),
]


@pytest.mark.parametrize("way", WAYS, ids=["table", "bar", "text", "say", "put"])
def test_a_hostile_text_is_no_more_than_a_text(way, capsys):
    """It moves no cursor, is no markup, and can be written."""
    way()
    printed = "".join(capsys.readouterr())
    assert not set(printed) & set("\x1b\x07\x9b\r\ud800")
    assert "[/red]" in printed and "[bold]" in printed and ":smile:" in printed


def test_json_comes_back_from_a_terminal_as_it_was(capsys):
    put_json({"text": HOSTILE + "ü\u2028"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"text": HOSTILE + "ü\u2028"}
    assert "ü" in printed and not set(printed) & set("\x1b\x07\x9b\r\ud800\u2028")


def test_a_closed_terminal_ends_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Gone())
    say("one")
    with progress_bars() as bars:
        bar = bars.add_task("two", total=1)
        bars.refresh()
        say("three")
        bars.advance(bar)
    assert console.file.isatty()


def test_a_result_that_nobody_takes_is_told(monkeypatch):
    """On standard output: `… | head` and a full disk are not passed over."""
    monkeypatch.setattr(sys, "stdout", Gone())
    for way in (in_table, lambda: put("text"), lambda: put_json({})):
        with pytest.raises(OSError, match="Input/output"):
            way()


def test_a_terminal_that_knows_few_letters(monkeypatch):
    for show, printed in ((put, b"\\xfc \\u2192"), (put_json, b'"\\u00fc \\u2192"')):
        monkeypatch.setattr(sys, "stdout", TextIOWrapper(BytesIO(), encoding="ascii"))
        monkeypatch.setattr("latentcot.cli.app", lambda show=show: show("ü →"))
        main()
        sys.stdout.flush()
        assert sys.stdout.buffer.getvalue().strip() == printed


def test_a_system_without_threads_is_told(monkeypatch, capsys):
    def start():
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("latentcot.cli.app", start)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "the system lets this process start no more threads" in capsys.readouterr().err


def test_all_that_is_printed_goes_through_here():
    # Not behind a quote: a model card shows lines of Python.
    raw = re.compile(r"(?<![\w.\"])print\(|(?<!\w)Console\(|std(out|err)\.write\(")
    package = Path(display.__file__).parents[1]
    found = {path.name for path in package.rglob("*.py") if raw.search(path.read_text())}
    assert found == {"display.py"}
