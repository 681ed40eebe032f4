"""Kills for benchmarks/faults.py: at any moment, within a save, or at one operation on a file."""

import signal
import time
from collections import Counter

from faults_files import flip
from faults_processes import Child, FileOperations, Lost, die
from faults_runs import Trial, being_written

from latentcot.runs.checkpoint_folders import checkpoint_folders

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
