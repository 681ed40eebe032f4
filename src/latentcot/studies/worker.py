"""What a worker does for one run of a study, on whichever machine it is.

The run goes through the same commands as on the local backend, in the folder of the study if that
is one that all machines see. If it is kept elsewhere, it is trained in a scratch folder of this
machine: what is there is brought first, a new checkpoint is sent at once, the rest now and then.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from latentcot.data.formats import files_of, is_hub
from latentcot.errors import DataError, LatentcotError, RunError
from latentcot.studies.jobs import Training
from latentcot.studies.remote_runs import RunCopy
from latentcot.utils.files import written_whole
from latentcot.utils.parsing import parse_yaml
from latentcot.utils.processes import claim
from latentcot.utils.remote import RemoteFolder, is_url

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_PUSHES = 30.0
STOPPED = 130
"""Exit code of a command that was asked for its end."""

Report = Callable[[int, str], bool]
"""(steps done, text in front of the bar) → whether to stop."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do.

    Attributes:
        name: Of the run: its folder in that of the study.
        out: The folder of the study: a path or a URL.
        recipe: As YAML.
        folder: Where relative paths start, on the machine that the study was started on.
        device: The GPU as CUDA_VISIBLE_DEVICES names it, nothing for none; None leaves it as it is.
        batch_size: Questions at a time in the evaluation.
        limit: Ask this many questions of the test file; all if None.
        num_lines: Of its log, if it fails.
    """

    name: str
    out: str
    recipe: str
    folder: str
    device: str | None
    batch_size: int
    limit: int | None
    num_lines: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        failure: In words; None if it has come to its end, or was asked to stop.
        has_died: Whether something from outside ended it, so that it may be tried again.
    """

    failure: str | None = None
    has_died: bool = False


def work(order: Order, report: Report) -> Outcome:
    """Do what is left of a run, and tell meanwhile how far it is.

    Args:
        order: What to do.
        report: Told twice a second; once it returns True, training writes a checkpoint and ends.

    Returns:
        How it ended, with every error of ours in words. Whatever else happens is raised.
    """
    has_folder = os.path.isdir(order.folder)
    try:
        with chdir(order.folder) if has_folder else nullcontext(), _place(order, report) as place:
            training, copy = place
            return _follow(order, training, copy, report)
    except _AskedToStop:
        return Outcome()
    except LatentcotError as error:
        return Outcome(str(error))


class _AskedToStop(Exception):
    """Before there was anything to stop."""


@contextmanager
def _place(order: Order, report: Report) -> Iterator[tuple[Training, RunCopy | None]]:
    """Return the run where it is trained, and what keeps it elsewhere, if anything does."""
    if not is_url(order.out):
        training = _training(order, Path(order.out))
        if not training.recipe.is_file():
            raise RunError(
                f"{order.out}: {os.uname().nodename} does not see the study in this folder. Give "
                "an --out that all machines see: a shared folder, or a URL such as "
                "s3://bucket/study."
            )
        yield training, None
        return
    scratch = _scratch(order)
    training = _training(order, scratch)
    _wait_until_free(training, report)
    shutil.rmtree(scratch)
    with written_whole(training.recipe) as file:
        file.write(order.recipe)
    copy = RunCopy(RemoteFolder(order.out), order.name, training.run)
    copy.fetch()
    try:
        yield training, copy
    finally:  # the next try may be that of another machine
        shutil.rmtree(scratch, ignore_errors=True)


def _training(order: Order, study: Path) -> Training:
    run = study / order.name
    return Training(
        order.name,
        run,
        run.with_name(f"{run.name}.yaml"),
        batch_size=order.batch_size,
        limit=order.limit,
    )


def _scratch(order: Order) -> Path:
    """Return the folder of this run on this machine: the same at each try, so none piles up.

    Raises:
        RunError: It belongs to somebody else.
    """
    whole = hashlib.sha256(f"{order.out}\0{order.name}".encode()).hexdigest()
    mine = Path(tempfile.gettempdir()) / f"latentcot-{os.getuid()}"
    mine.mkdir(mode=0o700, exist_ok=True)
    if mine.stat().st_uid != os.getuid():
        raise RunError(f"{mine}: belongs to another user. Set TMPDIR to a folder of your own.")
    return mine / whole[:16]


def _wait_until_free(training: Training, report: Report) -> None:
    """What a worker left that was killed writes one more checkpoint, and ends by itself."""
    while (log := claim(training.log)) is None:
        if report(0, f"{training.name} · waits for an earlier try to end"):
            raise _AskedToStop
        time.sleep(SECONDS_BETWEEN_LOOKS)
    log.close()


def _follow(order: Order, training: Training, copy: RunCopy | None, report: Report) -> Outcome:
    is_stopped, is_well, last_push = False, True, time.monotonic()
    training.begin(order.device)
    try:
        while not (training.is_over or is_stopped):
            is_stopped = report(*training.progress())
            if copy and ((is_well and copy.has_new_checkpoint()) or _is_due(last_push)):
                is_well, last_push = _has_pushed(copy, training.log), time.monotonic()
            time.sleep(SECONDS_BETWEEN_LOOKS)
            training.move_on()
    finally:
        training.terminate()
        training.wait()
    if copy:
        copy.push()
    return _outcome(order, training, is_stopped)


def _has_pushed(copy: RunCopy, log: Path) -> bool:
    """Send what is new; a file system that cannot be reached for a while costs no training."""
    try:
        copy.push()
    except Exception as error:  # file systems raise many kinds
        with log.open("a", encoding="utf-8") as file:
            file.write(f"Not sent, and tried again in {SECONDS_BETWEEN_PUSHES:.0f} s: {error}\n")
        return False
    return True


def _is_due(last_push: float) -> bool:
    return time.monotonic() - last_push > SECONDS_BETWEEN_PUSHES


def _outcome(order: Order, training: Training, is_stopped: bool) -> Outcome:
    if not training.has_failed or is_stopped:
        return Outcome()
    if training.code is not None and (training.code < 0 or training.code == STOPPED):
        return Outcome(f"a command ended with exit code {training.code}.", has_died=True)
    failure = training.failure(order.num_lines)
    return Outcome("\n".join([failure.replace(str(training.log), f"{order.out}/{order.name}.log"),
                              *_unseen(order)]))  # fmt: skip


def _unseen(order: Order) -> list[str]:
    """Say which data this machine does not see: nothing is wrong with them elsewhere."""
    data = parse_yaml(order.recipe)["data"]
    files = [file for file in (data["train"], data["valid"], data["test"]) if file]
    missing = [file for file in files if not is_hub(file) and not _sees(file)]
    if not missing:
        return []
    return [
        f"{os.uname().nodename} does not see {', '.join(missing)} (from {order.folder}). Each "
        "machine reads the data itself: name files by a path that all of them see, or a data set "
        "of the hub."
    ]


def _sees(source: str) -> bool:
    try:
        return all(file.exists() for file in files_of(source))
    except DataError:
        return False
