"""Trouble with the disk for benchmarks/faults.py, and two processes that want the same folder."""

import errno
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults_processes import STOPPED, Child, FileOperations, Lost
from faults_results import compare, newest_and_best
from faults_runs import PAGE, Trial

from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import METRICS

NAMED = (
    "metrics.jsonl", "best.json", "training_state.pt", "checksums.json", "latentcot.json",
    "recipe.yaml", "provenance.json",
)  # fmt: skip
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES)
NUM_FILES = 60
"""More than a run has at a time."""
SIZE_OF_LOG = 1200
"""Bytes; a limit for files holds for the log too, which must hold the error."""


def can_mount(folder: Path) -> bool:
    """Return whether this user may mount a file system."""
    folder.mkdir()
    is_mounted = _mount("-t", "tmpfs", "-o", f"size={PAGE}", "faults", folder)
    if is_mounted:
        subprocess.run(["umount", folder], check=True)
    folder.rmdir()
    return is_mounted


def _mount(*words: str | Path) -> bool:
    try:
        done = subprocess.run(["mount", *words], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


class SmallDisk:
    """A tmpfs of few pages, or of few files."""

    def __init__(self, folder: Path, num_bytes: int, num_files: int = 0) -> None:
        self.folder = folder
        folder.mkdir()
        options = f"size={num_bytes // PAGE * PAGE},nr_inodes={num_files}"
        if not _mount("-t", "tmpfs", "-o", options, "faults", folder):
            raise OSError(f"{folder}: cannot be mounted")

    def change(self, options: str) -> bool:
        """Mount it with other options; return False if that is not possible now."""
        return _mount("-o", f"remount,{options}", self.folder)

    def fill(self) -> None:
        """Leave no page free."""
        for _ in range(100):
            stat = os.statvfs(self.folder)
            if self.change(f"size={(stat.f_blocks - stat.f_bfree) * stat.f_frsize}"):
                return
        raise OSError(f"{self.folder}: cannot be made smaller")

    def close(self) -> None:
        """Unmount it; what is on it is gone."""
        subprocess.run(["umount", "--lazy", self.folder], check=True)


@contextmanager
def _on_small_disk(trial: Trial, num_bytes: int, num_files: int = 0) -> Iterator[SmallDisk]:
    disk = SmallDisk(trial.folder / "disk", num_bytes, num_files)
    trial.run = disk.folder / "run"
    try:
        yield disk
    finally:
        disk.close()


# --- a full disk ------------------------------------------------------------------------------


def too_little_room(trial: Trial, number: int) -> str:
    """Let a disk be full at some point of the training; then make room, and go on."""
    room = trial.rng.randrange(0, trial.reference.num_bytes, PAGE) + PAGE
    with _on_small_disk(trial, room) as disk:
        has_failed = _fails_or_is_done(trial, trial.start())
        disk.change(f"size={10 * trial.reference.num_bytes}")
        trial.finish()
    return f"{room // 1024} KiB{'' if has_failed else ', enough'}"


def too_few_files(trial: Trial, number: int) -> str:
    """The same with the number of files."""
    room = trial.rng.randint(3, NUM_FILES)
    with _on_small_disk(trial, 10 * trial.reference.num_bytes, room) as disk:
        has_failed = _fails_or_is_done(trial, trial.start())
        disk.change("nr_inodes=10000")
        trial.finish()
    return f"{room} files{'' if has_failed else ', enough'}"


def suddenly_full(trial: Trial, number: int) -> str:
    """Fill the disk while training goes on."""
    with _on_small_disk(trial, 10 * trial.reference.num_bytes) as disk:
        child = trial.start()
        _wait_for_updates(trial, child)
        disk.fill()
        has_failed = _fails_or_is_done(trial, child)
        disk.change(f"size={10 * trial.reference.num_bytes}")
        trial.finish()
    return "while training" if has_failed else "too late"


def files_too_long(trial: Trial, number: int) -> str:
    """What everybody may do instead: let writing fail beyond so many bytes of a file."""
    largest = max(p.stat().st_size for p in trial.reference.halfway.rglob("*") if p.is_file())
    limit = trial.rng.randrange(SIZE_OF_LOG, largest)

    def before() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    has_failed = _fails_or_is_done(trial, trial.start(before))
    trial.finish()
    return f"{limit} bytes a file{'' if has_failed else ', enough'}"


def _wait_for_updates(trial: Trial, child: Child) -> None:
    """Wait until the first row of metrics.jsonl, and then some part of the training."""
    delay = trial.rng.uniform(0, 0.8 * (trial.reference.seconds - trial.reference.seconds_before))
    while not (trial.run / METRICS).exists() and not child.has_ended():
        time.sleep(0.001)
    end = time.monotonic() + delay
    while time.monotonic() < end and not child.has_ended():
        time.sleep(0.001)


def _fails_or_is_done(trial: Trial, child: Child) -> bool:
    """Return whether it failed, in words of ours and with whole checkpoints.

    Raises:
        Lost: It failed otherwise, or reached its end with something else.
    """
    if child.wait() == 0:
        compare(trial.reference.result, trial.run)
        return False
    trial.has_refused(child)
    trial.check_whole()
    return True


# --- other trouble ----------------------------------------------------------------------------


def operation_fails(trial: Trial, number: int) -> str:
    """Let one operation on a file fail, or it and all later ones; then go on."""
    left = trial.reference.num_operations
    if number % 3 == 0:
        trial.be_halfway()
        left = int(left * (1 - trial.progress()))
    code = trial.rng.choice(ERRORS)

    def fail(name: str) -> None:
        raise OSError(code, os.strerror(code), name)

    operations = FileOperations(
        trial.run, at=trial.rng.randint(1, left), do=fail, is_lasting=number % 2 == 0
    )
    has_failed = _fails_or_is_done(trial, trial.start(operations))
    if trial.run.exists():
        trial.finish()
    number_of_it, text = operations.last()
    how = f"{errno.errorcode[code]}{' from then on' if operations.is_lasting else ''}"
    return (
        f"{how} at {operations.at}{'' if has_failed else ', no harm'}; last {number_of_it} {text}"
    )


def named_file_fails(trial: Trial, number: int) -> str:
    """The same with one certain file, at one of the first times that it is used."""
    name = NAMED[number % len(NAMED)]
    code = trial.rng.choice(ERRORS)

    def fail(path: str) -> None:
        raise OSError(code, os.strerror(code), path)

    operations = FileOperations(trial.run, at=trial.rng.randint(1, 4), do=fail, pattern=f"*{name}*")
    has_failed = _fails_or_is_done(trial, trial.start(operations))
    if trial.run.exists():
        trial.finish()
    how = "" if has_failed else ", no harm"
    return f"{name}: {errno.errorcode[code]} at {operations.at}{how}"


def read_only_disk(trial: Trial, number: int) -> str:
    """Resume, or start, where nothing can be written."""
    with _on_small_disk(trial, 10 * trial.reference.num_bytes) as disk:
        if number % 2 == 0:
            trial.be_halfway()
        disk.change("ro")
        trial.refuse(trial.run)
        trial.check_whole()
        disk.change("rw")
        trial.finish()
    return "a new run" if number % 2 else "a run halfway"


def read_only_folder(trial: Trial, number: int) -> str:
    """The same by permissions. For root there are none, so there nothing is tried."""
    if os.geteuid() == 0:
        return "not possible here"
    trial.be_halfway()
    folders = [path for path in trial.run.rglob("*") if path.is_dir()]
    for path in (trial.run, *folders):
        path.chmod(0o555)
    try:
        trial.refuse(trial.run)
        trial.check_whole()
    finally:
        for path in (trial.run, *folders):
            path.chmod(0o755)
    trial.finish()
    return "a run halfway"


def stopped(trial: Trial, number: int) -> str:
    """Stop it as Ctrl-C and batch systems do, at any moment: it writes a checkpoint first."""
    which = (signal.SIGTERM, signal.SIGINT)[number % 2]
    child = trial.start()
    while not (trial.run / "recipe.yaml").exists() and not child.has_ended():
        time.sleep(0.001)
    _wait_for_updates(trial, child)
    child.send(which)
    if child.wait() not in (0, STOPPED):
        raise Lost(f"{which.name} ended it with {child.code}: {child.printed()}")
    trial.check_whole()
    if child.code == STOPPED:
        newest = int(checkpoint_folders(trial.run)[-1].name.removeprefix("update-"))
        if not child.says(f"after update {newest}."):
            raise Lost(f"newest is {newest}, but it says: {child.printed()}")
    trial.finish(wanted=newest_and_best(trial.reference.result))
    return which.name


def second_process(trial: Trial, number: int) -> str:
    """Start another process on a run that is being trained: it is refused."""
    child = trial.start()
    _wait_for_updates(trial, child)
    if child.has_ended():
        return "too late"
    child.send(signal.SIGSTOP)
    try:
        trial.refuse(trial.run, "another process")
    finally:
        child.send(signal.SIGCONT)
    if child.wait() != 0:
        raise Lost(f"the first one ended with {child.code}: {child.printed()}")
    trial.finish()
    return "while training"
