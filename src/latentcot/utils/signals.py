"""Ctrl-C as a request, so that nothing is cut off in the middle of an update or a file."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from latentcot.utils.distributed import num_started


class StopRequest:
    """Whether someone asked for an end."""

    is_set = False


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Note the first Ctrl-C, SIGTERM or SIGHUP instead of raising; a second takes effect at once.

    SIGHUP comes when the terminal is closed: from the kernel, from the shell, and often with a
    SIGTERM. So it is never the second.

    Not under a launcher: schedulers send a signal to all processes, the launcher among them, which
    passes it on, so that each comes twice. The launcher kills who does not end.
    """
    request = StopRequest()
    before: dict[signal.Signals, object] = {}

    def note(number: int, frame: FrameType | None) -> None:
        request.is_set = True
        if number == signal.SIGHUP or num_started() > 1:
            return
        for which, handler in before.items():
            signal.signal(which, handler)  # type: ignore[arg-type]

    try:
        for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            is_kept = which == signal.SIGHUP and signal.getsignal(which) is signal.SIG_IGN
            if is_kept:  # as nohup wants it
                continue
            before[which] = signal.signal(which, note)
    except ValueError:  # not in the main thread: there Ctrl-C never arrives
        before.clear()
    try:
        yield request
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)  # type: ignore[arg-type]
