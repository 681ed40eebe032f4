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
from collections.abc import Callable
from contextlib import ExitStack, chdir
from dataclasses import dataclass
from pathlib import Path

from latentcot.data.formats import files_of, is_hub
from latentcot.errors import DataError, LatentcotError, RunError
from latentcot.recipes.values import read_yaml
from latentcot.studies.jobs import SECONDS_BETWEEN_LOOKS, Training
from latentcot.studies.processes import claim
from latentcot.studies.remote import RemoteFolder, RunCopy, is_url

SECONDS_BETWEEN_PUSHES = 30.0
STOPPED = 130
"""Exit code of a command that was asked for its end."""

Report = Callable[[int, str], bool]
"""(steps done, text in front of the bar) → whether to stop."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do; the recipe lies in the folder of the study.

    Attributes:
        name: Of the run: its folder in that of the study.
        out: The folder of the study: a path or a URL.
        folder: Where relative paths start, on the machine that the study was started on.
        device: The GPU as CUDA_VISIBLE_DEVICES names it, nothing for none; None leaves it as it is.
        batch_size: Questions at a time in the evaluation.
        limit: Ask this many questions of the test file; all if None.
    """

    name: str
    out: str
    folder: str
    device: str | None = None
    batch_size: int = 100
    limit: int | None = None


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
    try:
        with ExitStack() as stack:
            if os.path.isdir(order.folder):
                stack.enter_context(chdir(order.folder))
            study = scratch_folder(order) if is_url(order.out) else Path(order.out)
            training = Training(
                order.name, study / order.name, batch_size=order.batch_size, limit=order.limit
            )
            copy = None
            if is_url(order.out):
                # What a killed worker has left writes one more checkpoint, and ends by itself.
                while (log := claim(training.log)) is None:
                    if report(0, f"{order.name} · waits for an earlier try to end"):
                        return Outcome()
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                log.close()
                shutil.rmtree(study)
                stack.callback(shutil.rmtree, study, ignore_errors=True)  # another may try next
                copy = RunCopy(RemoteFolder(order.out), order.name, study)
                copy.fetch()
            if not training.recipe.is_file():
                raise RunError(
                    f"{order.out}: {os.uname().nodename} does not see the study in this folder. "
                    "Give an --out that all machines see: a shared folder, or a URL such as "
                    "s3://bucket/study."
                )
            return _follow(order, training, copy, report)
    except LatentcotError as error:
        return Outcome(str(error))


def scratch_folder(order: Order) -> Path:
    """Return the folder of a run on this machine: the same at each try, so none piles up.

    Raises:
        RunError: It belongs to somebody else.
    """
    mine = Path(tempfile.gettempdir()) / f"latentcot-{os.getuid()}"
    mine.mkdir(mode=0o700, exist_ok=True)
    if mine.stat().st_uid != os.getuid():
        raise RunError(f"{mine}: belongs to another user. Set TMPDIR to a folder of your own.")
    return mine / hashlib.sha256(f"{order.out}\0{order.name}".encode()).hexdigest()[:16]


def _follow(order: Order, training: Training, copy: RunCopy | None, report: Report) -> Outcome:
    """Train and evaluate; send what is new, and say how it ended."""
    is_stopped, is_well, last_push = False, True, time.monotonic()
    training.begin(order.device)
    try:
        while not (training.is_over or is_stopped):
            is_stopped = report(*training.progress())
            is_due = time.monotonic() - last_push > SECONDS_BETWEEN_PUSHES
            if copy and (is_due or (is_well and copy.has_new_checkpoint())):
                try:
                    copy.push()
                    is_well = True
                except Exception as error:  # a file system that is away costs no training
                    is_well = False
                    with training.log.open("a", encoding="utf-8") as log:
                        wait = f"{SECONDS_BETWEEN_PUSHES:.0f} s"
                        log.write(f"Not sent, and tried again in {wait}: {error}\n")
                last_push = time.monotonic()
            time.sleep(SECONDS_BETWEEN_LOOKS)
            training.move_on()
    finally:
        training.terminate()
        training.wait()
    if copy:
        copy.push()

    if not training.has_failed or is_stopped:
        return Outcome()
    if training.code is not None and (training.code < 0 or training.code == STOPPED):
        return Outcome(f"a command ended with exit code {training.code}.", has_died=True)
    failure = training.failure()
    failure = failure.replace(str(training.log), f"{order.out}/{order.name}.log")
    data = read_yaml(training.recipe)["data"]
    missing = []
    for source in filter(None, (data["train"], data["valid"], data["test"])):
        try:
            is_seen = is_hub(source) or all(file.exists() for file in files_of(source))
        except DataError:
            is_seen = False
        if not is_seen:
            missing.append(source)
    if missing:  # nothing is wrong with them elsewhere
        failure += (
            f"\n{os.uname().nodename} does not see {', '.join(missing)} (from {order.folder}). "
            "Each machine reads the data itself: name files by a path that all of them see, or a "
            "data set of the hub."
        )
    return Outcome(failure)
