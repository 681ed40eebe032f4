"""The small runs of benchmarks/faults.py: their recipes, what they must give, trials of them."""

import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import yaml
from faults_processes import (
    OUR_ERROR,
    Before,
    Child,
    FileOperations,
    Lost,
    command,
    die,
    import_what_it_needs,
)

from latentcot.data.examples import Example, write_examples
from latentcot.errors import LatentcotError
from latentcot.runs.checkpoint import load_checkpoint, load_training_state
from latentcot.runs.checkpoint_folders import CHECKSUMS_FILE, STATE_FILE, checkpoint_folders
from latentcot.runs.folder import METRICS, read_metrics
from latentcot.utils.files import written_whole

# --- recipes and data --------------------------------------------------------------------------

SIZES = {"train": 32, "valid": 12, "test": 12}
NUM_UPDATES = 24

# Everything random is on; no interval divides another, so saves fall everywhere.
_COMMON: dict[str, Any] = {
    "model": {
        "hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_positions": 96, "dropout": 0.2,
    },
    "template": {"question_end": " ", "step_end": " ", "answer_start": "[A] "},
    "curriculum": {
        "num_stages": 2, "epochs_stage_0": 1, "epochs_per_stage": 1, "stage_mix_prob": 0.3,
    },
    "training": {
        "epochs": None, "max_updates": NUM_UPDATES, "batch_size": 8, "learning_rate": 3e-2,
        "log_every": 1, "validate_every": 3, "save_every": 2, "warmup_updates": 2,
        "decay_share": 0.5, "max_grad_norm": 1.0,
    },
    "generation": {"max_new_tokens": 8},
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "classifier": {
        "method": "coconut", "seed": 3, "stop": "classifier",
        "curriculum": {"pad_to_num_stages": False},
    },
    "learned": {
        "method": "coconut", "seed": 2,
        "curriculum": {"advance": "learned", "learned_window": 3, "max_updates_per_stage": 5},
        "training": {"micro_batch_size": 4, "deterministic": True},
    },
    "plain": {"method": "coconut"},
}  # fmt: skip
"""Name → what differs. The clock of `learned` depends on the losses that it saw; `plain` is for
studies."""


def make_data(folder: Path) -> None:
    """Write train.jsonl, valid.jsonl and test.jsonl.

    The answers are words drawn blindly, so that what the model says changes from one validation to
    the next, and the best checkpoint need not be the newest.
    """
    rng = Random(0)
    for split, size in SIZES.items():
        write_examples(
            folder / f"{split}.jsonl", [_example(rng, f"{split}-{i}") for i in range(size)]
        )


def _example(rng: Random, name: str) -> Example:
    words = ["gram", "lop", "ster", "vum", "quil"]
    steps = [" ".join(rng.choices(words, k=2)) for _ in range(rng.randint(1, 2))]
    return Example(name, " ".join(rng.choices(words, k=5)), tuple(steps), rng.choice(words[:3]))


def write_recipe(variant: str, data: Path, path: Path) -> Path:
    """Write the recipe of a variant."""
    values = {**_COMMON, "data": {split: str(data / f"{split}.jsonl") for split in SIZES}}
    for key, change in VARIANTS[variant].items():
        values[key] = values[key] | change if key in values else change
    with written_whole(path) as file:
        yaml.safe_dump(values, file)
    return path


# --- what a run must give ----------------------------------------------------------------------


def result_of(run: Path) -> dict[str, str]:
    """Return name → content or its hash, of all that a run must give, however often it was stopped.

    That is each file of each checkpoint, the pointer to the best one, and the rows of metrics.jsonl
    but their rates. The training state is compared by content: its file has the order in which
    Python made its values.
    """
    found = {}
    for folder in checkpoint_folders(run):
        for path in folder.rglob("*"):
            if path.is_file():
                found[f"{folder.name}/{path.relative_to(folder)}"] = _file_hash(path)
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


# --- runs left alone, and those that something happens to --------------------------------------

PAGE = 4096
"""Bytes."""
HALFWAY = 20


@dataclass(frozen=True)
class Reference:
    """A variant that was trained without an interruption.

    Attributes:
        variant: Its name.
        recipe: Its file.
        data: Folder of its data.
        result: As `result_of` gives it.
        halfway: A run folder of it that was killed in the middle, with several checkpoints.
        seconds: Of the whole run.
        seconds_before: Of it, until the first update was done.
        seconds_of_save: Of one save, from its first file to the rename.
        num_saves: Saves of the run.
        num_operations: Operations on files of the run folder.
        num_bytes: Space that it takes, with a save under way.
    """

    variant: str
    recipe: Path
    data: Path
    result: dict[str, str]
    halfway: Path
    seconds: float
    seconds_before: float
    seconds_of_save: float
    num_saves: int
    num_operations: int
    num_bytes: int


def make_reference(variant: str, folder: Path) -> Reference:
    """Train a variant in one go, twice, and a third time until it is killed halfway.

    Raises:
        Lost: The first two differ, so that nothing could be compared.
    """
    data, run, log = folder / "data", folder / "run", folder / "log"
    data.mkdir(parents=True)
    make_data(data)
    recipe = write_recipe(variant, data, folder / "recipe.yaml")
    words = ["train", recipe, "--quiet", "--out"]
    import_what_it_needs([*words, folder / "first"], log)
    seen = FileOperations(run)
    child, watch = command([*words, run], log, seen), Watch(run)
    while not child.has_ended():
        watch.look()
        time.sleep(0.001)
    if child.wait():
        raise Lost(f"a run without faults fails: {child.printed()}")
    compare(result_of(folder / "first"), run)
    halfway = folder / "halfway"
    if command([*words, halfway], log, killed_halfway(halfway)).wait() == 0:
        raise Lost(f"update {HALFWAY} has no checkpoint")
    return Reference(
        variant, recipe, data, result_of(run), halfway,
        seconds=watch.seconds(), seconds_before=watch.seconds_before,
        seconds_of_save=watch.seconds_of_save(), num_saves=len(watch.saves),
        num_operations=seen.last()[0],
        num_bytes=num_bytes(run) + num_bytes(checkpoint_folders(run)[-1]),
    )  # fmt: skip


def killed_halfway(run: Path) -> FileOperations:
    """Kill a run as soon as the checkpoint of update HALFWAY is there."""
    return FileOperations(run, at=1, do=die, pattern=f"update-{HALFWAY:08d}", is_after=True)


class Watch:
    """Looks at a run folder from outside, as often as it can.

    Attributes:
        saves: Name of a folder that is being written → seconds at which it was seen first and last.
        seconds_before: Until the first row of metrics.jsonl.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.saves: dict[str, tuple[float, float]] = {}
        self.seconds_before = 0.0
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Return the time since it began."""
        return time.monotonic() - self._start

    def seconds_of_save(self) -> float:
        """Return how long a save took, on average."""
        return sum(last - first for first, last in self.saves.values()) / max(1, len(self.saves))

    def look(self) -> None:
        """Take note of what is there now."""
        now = self.seconds()
        for name in being_written(self.run):
            self.saves[name] = (self.saves.get(name, (now, now))[0], now)
        if not self.seconds_before and (self.run / METRICS).exists():
            self.seconds_before = now


def being_written(run: Path) -> list[str]:
    """Return the names of checkpoints that are being written, or were when a process died."""
    try:
        names = os.listdir(run / "checkpoints")
    except FileNotFoundError:
        return []
    return [name for name in names if name.startswith(".update-") and name[-9].isdigit()]


def num_bytes(folder: Path) -> int:
    """Return the space that the files of a folder take, each in whole pages of memory."""
    sizes = [path.stat().st_size for path in folder.rglob("*")]
    return sum(-(-size // PAGE) * PAGE for size in sizes)


class Trial:
    """A run that something happens to.

    Args:
        reference: Whose recipe it is trained with.
        folder: Where the run and its log lie.
        rng: Draws what happens.
    """

    def __init__(self, reference: Reference, folder: Path, rng: Random) -> None:
        self.reference, self.folder, self.rng = reference, folder, rng
        self.recipe, self.run, self.log = reference.recipe, folder / "run", folder / "log"
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, before: Before | None = None, resume: bool | None = None) -> Child:
        """Start training: go on, if there is a run, or as asked."""
        is_run = (self.run / "recipe.yaml").exists()
        words = ["train", self.recipe, "--out", self.run, "--quiet"]
        if is_run if resume is None else resume:
            words.append("--resume")
        return command(words, self.log, before)

    def use_data(self, data: Path) -> None:
        """Train with these data files instead of those of the reference."""
        self.recipe = write_recipe(self.reference.variant, data, self.folder / "recipe.yaml")

    def check_whole(self) -> None:
        """Make sure that its checkpoints can be loaded."""
        check_whole(self.run, self.log)

    def finish(self, *named: str, wanted: dict[str, str] | None = None) -> None:
        """Train to the end, and compare.

        Args:
            *named: What must be printed meanwhile.
            wanted: What it must give, if that is not all that the reference gave.

        Raises:
            Lost: It does not reach the end, does not print this, or gives something else.
        """
        child = self.start()
        if child.wait() != 0:
            raise Lost(f"cannot be resumed: {child.printed()}")
        absent = [text for text in named if not child.says(text)]
        if absent:
            raise Lost(f"says nothing of {', '.join(absent)}, but: {child.printed()!r}")
        compare(self.reference.result if wanted is None else wanted, self.run)

    def be_halfway(self) -> Path:
        """Begin with what a run was that was killed halfway; return its newest checkpoint."""
        shutil.copytree(self.reference.halfway, self.run, dirs_exist_ok=True)
        return checkpoint_folders(self.run)[-1]

    def refuse(self, *named: object) -> None:
        """Start it, and make sure that it ends with an error of ours that names all of these."""
        self.has_refused(self.start(), *named)

    def has_refused(self, child: Child, *named: object) -> None:
        """Make sure that a process ended with an error of ours, and did no harm.

        Raises:
            Lost: It ended otherwise, or the error does not name this.
        """
        if child.wait() != OUR_ERROR or "Error: " not in child.printed():
            raise Lost(f"ended with {child.code} and not in words of ours: {child.printed()}")
        absent = [str(text) for text in named if not child.says(text)]
        if absent:
            raise Lost(f"does not name {', '.join(absent)}, but says: {child.printed()}")

    def progress(self) -> float:
        """Return how much of the training the newest checkpoint holds, from 0 to 1."""
        folders = checkpoint_folders(self.run)
        return int(folders[-1].name.removeprefix("update-")) / NUM_UPDATES if folders else 0.0
