"""Damage for benchmarks/faults.py: files that were cut, changed or deleted between two starts."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from faults_processes import Lost
from faults_results import compare
from faults_runs import Trial, killed_halfway

from latentcot.runs.checkpoint_folders import CHECKSUMS_FILE, best_checkpoint, checkpoint_folders

Damage = Callable[[Trial, Path], None]


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
    names = sorted(path.name for path in newest.iterdir())
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
        path = trial.rng.choice([p for p in sorted(folder.iterdir()) if p.name != CHECKSUMS_FILE])
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
    path = trial.rng.choice([p for p in sorted(best.iterdir()) if p.name != CHECKSUMS_FILE])
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
