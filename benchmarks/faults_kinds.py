"""What happens to the runs of benchmarks/faults.py: damaged files, kills, a full disk, signals."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from faults_processes import STOPPED, Child, FileOperations, Lost, die
from faults_runs import PAGE, Trial, being_written, compare, killed_halfway, newest_and_best

from latentcot.runs.checkpoint_folders import CHECKSUMS_FILE, best_checkpoint, checkpoint_folders
from latentcot.runs.folder import METRICS

# --- files cut, changed or deleted between two starts ------------------------------------------

Damage = Callable[[Trial, Path], None]
Fault = Callable[[Trial, int], str]


def cut(trial: Trial, path: Path) -> None:
    """Leave some bytes of the beginning, or none."""
    size = path.stat().st_size
    os.truncate(path, trial.rng.choice([0, 1, trial.rng.randrange(size), size - 1]))


def flip(trial: Trial, path: Path) -> None:
    """Change one byte."""
    content = bytearray(path.read_bytes())
    content[trial.rng.randrange(len(content))] ^= trial.rng.randrange(1, 256)
    path.write_bytes(content)


def delete(trial: Trial, path: Path) -> None:
    """Delete it."""
    path.unlink()


WAYS: dict[str, Damage] = {"cut": cut, "flip": flip, "delete": delete}
RUN_FILES = ("checkpoints/best.json", "metrics.jsonl", "recipe.yaml", "provenance.json")


def hurt_checkpoint(trial: Trial, number: int) -> str:
    """Damage one file of the newest checkpoint: it is named and passed over.

    Args:
        trial: A run that did not begin yet.
        number: Tells the file and the way, one after the other.
    """
    newest = trial.be_halfway()
    names = sorted(str(p.relative_to(newest)) for p in newest.rglob("*") if p.is_file())
    name = names[number // len(WAYS) % len(names)]
    way = list(WAYS)[number % len(WAYS)]
    before = (newest / name).read_bytes()
    WAYS[way](trial, newest / name)
    is_harmless = name == CHECKSUMS_FILE and _says_the_same(newest / name, before)
    trial.finish(*([] if is_harmless else [newest.name, "damaged"]))
    is_aside = newest.with_name(f"damaged-{newest.name}").exists()
    if is_aside == is_harmless:
        raise Lost(f"{name}, {way}: the damaged checkpoint is still there, or a whole one is not")
    return f"{name}: {way}"


def _vouched_for(folder: Path) -> list[Path]:
    """Return the files of a checkpoint that its checksums name."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS_FILE)


def _says_the_same(checksums: Path, before: bytes) -> bool:
    """Return whether the files of a checkpoint still count as whole."""
    if not checksums.exists():  # whoever deletes it wants them as they are
        return True
    try:
        return bool(json.loads(checksums.read_bytes()) == json.loads(before))
    except ValueError:
        return False


def hurt_all_checkpoints(trial: Trial, number: int) -> str:
    """Damage one file in each checkpoint: an error says so, and one brought back is enough."""
    trial.be_halfway()
    names = []
    for folder in checkpoint_folders(trial.run):
        path = trial.rng.choice(_vouched_for(folder))
        list(WAYS.values())[number % len(WAYS)](trial, path)
        names.append(path.name)
    trial.refuse(trial.run, "damaged", names[-1])
    whole = trial.rng.choice(checkpoint_folders(trial.reference.halfway))
    shutil.copytree(whole, trial.run / "checkpoints" / whole.name, dirs_exist_ok=True)
    child = trial.start()
    if child.wait() != 0:
        raise Lost(f"cannot go on from the one brought back: {child.printed()}")
    compare(_without_best(trial), trial.run)
    return " ".join(names)


def hurt_best(trial: Trial, number: int) -> str:
    """Damage the best checkpoint, not the newest: it is named, the rest does not suffer."""
    trial.be_halfway()
    best = best_checkpoint(trial.run)
    assert best is not None
    path = trial.rng.choice(_vouched_for(best))
    list(WAYS.values())[number % len(WAYS)](trial, path)
    child = trial.start()
    if child.wait() != 0:
        raise Lost(f"cannot be resumed: {child.printed()}")
    if not child.says(best.name) or not child.says("damaged"):
        raise Lost(f"says nothing of {best.name}, but: {child.printed()!r}")
    compare(_without_best(trial), trial.run)
    return path.name


def _without_best(trial: Trial) -> dict[str, str]:
    """Return what a run must give whose best checkpoint halfway may be gone for good."""
    best = best_checkpoint(trial.reference.halfway)
    assert best is not None
    wanted = {k: v for k, v in trial.reference.result.items() if best.name not in k}
    return {k: v for k, v in wanted.items() if k != "best.json"}


def hurt_run(trial: Trial, number: int) -> str:
    """Damage a file beside the checkpoints: it does no harm, or it is named and brought back."""
    trial.be_halfway()
    name = RUN_FILES[number // len(WAYS) % len(RUN_FILES)]
    way = list(WAYS)[number % len(WAYS)]
    path = trial.run / name
    before = path.read_bytes()
    WAYS[way](trial, path)
    child = trial.start(resume=True)
    if child.wait() == 0:
        is_told = way == "delete" and child.says(path)
        # Figures that somebody deleted are gone; it is enough to say so.
        wanted = {k: v for k, v in trial.reference.result.items() if k != name or not is_told}
        compare(wanted, trial.run)
        return f"{name}: {way}, {'told' if is_told else 'no harm'}"
    trial.has_refused(child, path.name)
    path.write_bytes(before)
    trial.finish()
    return f"{name}: {way}, refused"


def take_data_away(trial: Trial, number: int) -> str:
    """Let a data file vanish, or change, between two starts."""
    data = shutil.copytree(trial.reference.data, trial.folder / "data")
    trial.use_data(data)
    trial.start(killed_halfway(trial.run)).wait()
    path = data / trial.rng.choice(["train.jsonl", "valid.jsonl"])
    before = path.read_bytes()
    way = list(WAYS)[number % len(WAYS)]
    WAYS[way](trial, path)
    trial.refuse(path)
    path.write_bytes(before)
    trial.check_whole()
    trial.finish()
    return f"{path.name}: {way}"


# --- kills: at any moment, within a save, at one operation on a file ---------------------------

MOST_KILLS = 4
"""Of one run; the last time it is let through."""
EXACTLY = (
    ("recipe.yaml", False),
    ("provenance.json", False),
    ("update-00000002", False),
    ("best.json", False),
    (".update-*.old.partial", False),
    ("update-00000024", True),
    ("metrics.jsonl", True),
    ("provenance.json", True),
    ("damaged-update-*", True),
)
"""Name of a file → whether the run has been killed halfway already."""


def kill_and_resume(trial: Trial, number: int) -> Counter[str]:
    """Kill a run several times, each time it was resumed; finish it, and compare.

    Returns:
        Where the kills hit, and how often.
    """
    hits: Counter[str] = Counter()
    for _ in range(trial.rng.randint(1, MOST_KILLS)):
        how = trial.rng.choices([_at_any_moment, _within_a_save, _at_an_operation], [1, 2, 1])[0]
        child = how(trial)
        child.send(signal.SIGKILL)
        if child.wait() == 0:  # it was faster
            break
        if child.code != -signal.SIGKILL:
            raise Lost(f"ended with {child.code} before it was killed: {child.printed()}")
        hits[_where(trial, child)] += 1
        trial.check_whole()
    trial.finish()
    return hits


def kill_exactly(trial: Trial, number: int) -> Counter[str]:
    """Kill a run once, before or after a file that matters has got its name; finish it.

    Returns:
        Where it hit, and how often: once.
    """
    pattern, is_halfway = EXACTLY[number % len(EXACTLY)]
    is_after = number // len(EXACTLY) % 2 == 0
    if is_halfway:
        newest = trial.be_halfway()
        if pattern.startswith("damaged"):
            flip(trial, newest / "model.safetensors")
    child = trial.start(FileOperations(trial.run, at=1, do=die, pattern=pattern, is_after=is_after))
    if child.wait() != -signal.SIGKILL:
        raise Lost(f"{pattern} was not written")
    if is_after or not pattern.startswith("damaged"):
        trial.check_whole()
    trial.finish()
    return Counter({f"{'after' if is_after else 'before'} {pattern}": 1})


def _at_any_moment(trial: Trial) -> Child:
    reference = trial.reference
    left = (reference.seconds - reference.seconds_before) * (1 - trial.progress())
    delay = trial.rng.uniform(0, reference.seconds_before + left)
    child, end = trial.start(), time.monotonic() + delay
    while time.monotonic() < end and not child.has_ended():
        time.sleep(0.001)
    return child


def _within_a_save(trial: Trial) -> Child:
    """Wait until a new folder is being written, and then some part of what that takes."""
    reference = trial.reference
    num_left = int(reference.num_saves * (1 - trial.progress()))
    wanted = trial.rng.randrange(max(1, num_left)) + 1
    delay = trial.rng.uniform(0, reference.seconds_of_save)
    old = set(being_written(trial.run))
    new: set[str] = set()
    child = trial.start()
    while not child.has_ended():
        new |= set(being_written(trial.run)) - old
        if len(new) >= wanted:
            time.sleep(delay)
            break
        time.sleep(0.0003)
    return child


def _at_an_operation(trial: Trial) -> Child:
    """The process ends itself, just before it opens, renames or deletes some file."""
    left = trial.reference.num_operations * (1 - trial.progress())
    operations = FileOperations(trial.run, at=trial.rng.randint(1, int(left) + 10), do=die)
    child = trial.start(operations)
    while not child.has_ended():
        time.sleep(0.001)
    return child


def _where(trial: Trial, child: Child) -> str:
    if not (trial.run / "recipe.yaml").exists():
        return "before there is a run"
    if any(f".{child.pid}." in name for name in being_written(trial.run)):
        return "within a save"
    if not checkpoint_folders(trial.run):
        return "before the first checkpoint"
    return "between saves"


# --- the disk, and two processes that want the same folder -------------------------------------

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


# --- all of them ------------------------------------------------------------------------------


def kinds_of_faults(is_mounting: bool) -> dict[str, Fault]:
    """Return name → what is done, for this machine."""
    of_disk: dict[str, Fault] = {
        "disk too small": too_little_room,
        "disk with too few files": too_few_files,
        "disk suddenly full": suddenly_full,
        "read-only": read_only_disk,
    }
    for_everybody: dict[str, Fault] = {
        "disk too small": files_too_long,
        "read-only": read_only_folder,
    }
    return {
        "checkpoint file damaged": hurt_checkpoint,
        "run file damaged": hurt_run,
        **(of_disk if is_mounting else for_everybody),
        "operation fails": operation_fails,
        "named file fails": named_file_fails,
        "all checkpoints damaged": hurt_all_checkpoints,
        "best checkpoint damaged": hurt_best,
        "data gone or changed": take_data_away,
        "stopped": stopped,
        "second process": second_process,
    }
