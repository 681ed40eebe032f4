"""What a run of benchmarks/faults.py has to give: hashes of its files."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from faults_processes import Child, Lost

from latentcot.errors import LatentcotError
from latentcot.runs.checkpoint import load_checkpoint, load_training_state
from latentcot.runs.checkpoint_folders import CHECKSUMS_FILE, STATE_FILE, checkpoint_folders
from latentcot.runs.folder import read_metrics


def result_of(run: Path) -> dict[str, str]:
    """Return name → content or its hash, of all that a run must give, however often it was stopped.

    That is each file of each checkpoint, the pointer to the best one, and the rows of metrics.jsonl
    but their rates. The training state is compared by content: its file has the order in which
    Python made its values.
    """
    found = {}
    for folder in checkpoint_folders(run):
        for path in folder.iterdir():
            found[f"{folder.name}/{path.name}"] = _file_hash(path)
    best = run / "checkpoints" / "best.json"
    found["best.json"] = best.read_text() if best.exists() else "none"
    rows = [{k: v for k, v in row.items() if "per_second" not in k} for row in read_metrics(run)]
    found["metrics.jsonl"] = _hash(json.dumps(rows).encode())
    return found


def newest_and_best(result: dict[str, str]) -> dict[str, str]:
    """Leave out other checkpoints: one that a stop has written may have taken their place."""
    folders = sorted({name.partition("/")[0] for name in result if "/" in name})
    stay = {folders[-1], json.loads(result["best.json"])["checkpoint"]}
    return {k: v for k, v in result.items() if "/" not in k or k.partition("/")[0] in stay}


def _file_hash(path: Path) -> str:
    if path.name == STATE_FILE:
        state = torch.load(path, weights_only=True)
        state.pop("metrics", None)  # of the file with the rates in it
        return _hash(_canonical(state).encode())
    if path.name == CHECKSUMS_FILE:
        values = json.loads(path.read_bytes())
        values["sha256"].pop(STATE_FILE, None)
        return _hash(json.dumps(values, sort_keys=True).encode())
    return _hash(path.read_bytes())


def _canonical(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)} {_hash(value.numpy().tobytes())}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k!r}: {_canonical(v)}' for k, v in sorted(value.items()))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_canonical, value))}]"
    return repr(value)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def compare(wanted: dict[str, str], run: Path) -> None:
    """Make sure that a run gave what the unbroken one gave.

    Raises:
        Lost: It did not; with the names of what differs.
    """
    try:
        found = result_of(run)
    except (LatentcotError, OSError, ValueError, RuntimeError) as error:
        raise Lost(f"the finished run cannot be read: {error!r}") from None
    wrong = [
        f"{name} {'is missing' if name not in found else 'differs'}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]
    if wrong:
        raise Lost(f"the resumed run gave something else: {', '.join(wrong)}")


def check_whole(run: Path, log: Path) -> None:
    """Make sure that all checkpoints of a run can be loaded, whatever has just happened to it.

    Raises:
        Lost: One of them cannot.
    """

    def load_all() -> None:
        for folder in checkpoint_folders(run):
            load_checkpoint(folder)
            load_training_state(folder)
        if checkpoint_folders(run):
            load_checkpoint(run)

    child = Child(load_all, log)
    if child.wait():
        raise Lost(f"a checkpoint cannot be loaded: {child.printed()[-1500:]}")
