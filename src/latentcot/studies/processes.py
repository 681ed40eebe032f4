"""A `latentcot` command as a process: one thread, one log, and an end when its parent ends.

- Ctrl-C is for the parent, which passes it on once: a child has a session of its own.
- A child's standard input is a pipe that says nothing. It closes when the parent is gone, however
  that came about; then the child stops as on SIGTERM, so that no training continues unseen.
- A child holds a lock on its log while it lives. Whoever resumes after a parent that was killed
  waits until the child is gone too, so two processes never write into one run folder.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from latentcot.errors import RunError

if sys.platform != "win32":
    import fcntl

Process = subprocess.Popen[bytes]

_CHILD = (
    "from latentcot.studies.processes import end_with_parent; end_with_parent(); "
    "from latentcot.cli import main; main()"
)


def claim(log: Path) -> BinaryIO | None:
    """Open a log to add to it; None while another process has claimed it.

    The claim ends when the file has been closed here and in the processes that print into it.

    Raises:
        RunError: It cannot be written to, or is a link, which may lead anywhere, or a pipe.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.is_symlink() or (log.exists() and not log.is_file()):
            raise RunError(f"{log}: must be a file, but it is none, or a link. Delete it.")
        file = log.open("ab")
    except OSError as error:
        raise RunError(f"{log}: cannot be written to: {error}.") from None
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        except OSError:  # a file system without locks: then nobody is kept out
            return file
    return file


def start(command: Sequence[str], log: BinaryIO, device: str | None = None) -> Process:
    """Start a command.

    Args:
        command: The words behind `latentcot`.
        log: Takes what it prints.
        device: The GPU that it sees, as CUDA_VISIBLE_DEVICES names it; None changes nothing.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    if device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = device
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )


def end_with_parent() -> None:
    """In the child: stop as on SIGTERM once the parent is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    sys.argv[0] = "latentcot"  # what provenance.json shows as the command
    threading.Thread(target=watch, daemon=True).start()
