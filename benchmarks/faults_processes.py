"""Runs of benchmarks/faults.py as processes, and what they do to files.

A process that has imported torch once forks a child for each run; the child is `latentcot.cli.main`
with its words, and prints into a log. So a run takes a second, not the five that imports take.
"""

import mmap
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from latentcot.cli import main

PATIENCE = 120.0
"""Seconds after which a process hangs."""
OUR_ERROR, STOPPED = 2, 130
"""Exit codes."""


class Lost(Exception):
    """What must never be lost was lost, or a command did not say what it should."""


Before = Callable[[], object]
"""Called in the child before the command begins."""


class Child:
    """A forked process with its log.

    Attributes:
        code: Exit code, or minus the signal that ended it; None while it runs.
    """

    def __init__(self, do: Callable[[], object], log: Path, before: Before | None = None) -> None:
        self.log = log
        self.code: int | None = None
        self._from = log.stat().st_size if log.exists() else 0
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run_and_exit(do, log, before)

    def has_ended(self) -> bool:
        """Return whether it is over."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if not self.has_ended():
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end; return its exit code.

        Raises:
            Lost: It hangs, or it printed a traceback.
        """
        last = time.monotonic() + PATIENCE
        while not self.has_ended():
            if time.monotonic() > last:
                self.send(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.code = -signal.SIGKILL
                raise Lost(f"hangs for {PATIENCE:.0f} s; printed: {self.printed()}")
            time.sleep(0.002)
        if "Traceback" in self.printed():
            raise Lost(f"a traceback: {self.printed()[-2500:]}")
        assert self.code is not None
        return self.code

    def says(self, text: object) -> bool:
        """Return whether it printed this; where lines were broken does not matter."""
        return "".join(str(text).split()) in "".join(self.printed().split())

    def printed(self) -> str:
        """Return what it printed so far."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[self._from :].decode("utf-8", errors="replace")


def command(words: Sequence[object], log: Path, before: Before | None = None) -> Child:
    """Start `latentcot` with these words."""

    def run() -> None:
        sys.argv = ["latentcot", *map(str, words)]
        main()

    return Child(run, log, before)


def _run_and_exit(do: Callable[[], object], log: Path, before: Before | None) -> NoReturn:
    code: Any = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if before is not None:
            before()
        do()
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def import_what_it_needs(words: Sequence[object], log: Path) -> None:
    """Run a command once, and import here what it has imported there, to fork it along."""
    names = log.with_suffix(".modules")

    def run() -> None:
        sys.argv = ["latentcot", *map(str, words)]
        try:
            main()
        finally:
            names.write_text("\n".join(sys.modules))

    child = Child(run, log)
    if child.wait():
        raise Lost(f"a run without faults fails: {child.printed()}")
    for name in names.read_text().splitlines():
        if name.partition(".")[0] in ("accelerate", "latentcot", "torch", "transformers"):
            with suppress(ImportError):
                import_module(name)


# --- what it does to files --------------------------------------------------------------------

_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


class FileOperations:
    """Sees each operation of a child on the files of a folder, just before it is done.

    Args:
        folder: The run folder.
        at: Number of the operation at which `do` is called, from 1; none if 0.
        do: Kills the process, or raises the error that the operation ends with.
        pattern: Only operations on files of such a name count; the new name, for one renamed.
        is_after: Call it not then, but at the next operation on any file.
        is_lasting: Call it at all later ones too.
    """

    def __init__(
        self,
        folder: Path,
        at: int = 0,
        do: Callable[[str], object] = lambda name: None,
        pattern: str = "*",
        is_after: bool = False,
        is_lasting: bool = False,
    ) -> None:
        self.prefix, self.at, self.do = str(folder), at, do
        self.pattern, self.is_after, self.is_lasting = pattern, is_after, is_lasting
        self._seen = self._matched = 0
        self._is_next = False
        self._shared = mmap.mmap(-1, 4096)

    def __call__(self) -> None:
        """Begin, in the child. There is no end: an audit hook stays."""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not self._is_ours(event, args):
            return
        self._seen += 1
        name = os.fsdecode(args[1] if event == "os.rename" else args[0])
        text = f"{self._seen} {event} {name.removeprefix(self.prefix)}"
        self._shared[:256] = text.encode()[:256].ljust(256)
        if self._is_due(os.path.basename(name)):
            self.do(name)

    def _is_due(self, name: str) -> bool:
        if self._is_next:
            return True
        if not self.at or not fnmatchcase(name, self.pattern):
            return False
        self._matched += 1
        is_it = self._matched == self.at or (self.is_lasting and self._matched > self.at)
        self._is_next = is_it and self.is_after
        return is_it and not self.is_after

    def _is_ours(self, event: str, args: tuple[Any, ...]) -> bool:
        path = args[0]
        if isinstance(path, int):
            return False
        is_inside = os.fsdecode(path).startswith(self.prefix)
        # rmtree names what it deletes by the handle of its folder.
        return is_inside or (event in ("os.remove", "os.rmdir") and args[1] != -1)

    def last(self) -> tuple[int, str]:
        """Return the number and the text of the last operation, from outside."""
        number, _, text = self._shared[:256].decode(errors="replace").strip("\0 ").partition(" ")
        return int(number or 0), text


def die(name: str = "") -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)
