"""A run folder: the recipe, where it came from, what it measured.

    recipe.yaml       fully resolved
    provenance.json   commit, versions, device, command, data hashes
    metrics.jsonl     one row a line, `kind` train, valid or stage
    checkpoints/      update-00001200/ …, best.json names the best
    evals/            one file an evaluation

Analysis, comparison and report read these files only.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from latentcot.errors import RunError
from latentcot.files import write_json, written_whole
from latentcot.formats import is_hub, source_hash

METRICS = "metrics.jsonl"


def refuse_taken(path: Path, *, resume: bool, overwrite: bool) -> None:
    """Check that a folder can be used as asked, before any long work; change nothing.

    Raises:
        RunError: It exists and neither `resume` nor `overwrite` was asked for, or there is nothing
            to resume or overwrite.
    """
    if resume and overwrite:
        raise RunError(f"{path}: --resume and --overwrite exclude each other. Give one of them.")
    is_taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    if is_taken and resume and not (path / "recipe.yaml").is_file():
        raise RunError(
            f"{path}: is no run folder, so there is nothing to resume. Give another --out."
        )
    if resume and not is_taken:
        raise RunError(f"{path}: there is no run to resume. Leave --resume out to start one.")
    if is_taken and not (resume or overwrite):
        raise RunError(
            f"{path}: exists already. Give --resume to go on with it, --overwrite to delete it "
            "first, or another --out."
        )
    if is_taken and overwrite and not (path / "recipe.yaml").exists():
        raise RunError(
            f"{path}: is no run folder (it holds no recipe.yaml), so --overwrite will not delete "
            "it. Delete it yourself, or give another --out."
        )


def open_run(path: Path, *, resume: bool, overwrite: bool) -> Path:
    """Make the folder of a new run, or take an old one up again.

    Raises:
        RunError: As `refuse_taken`, or the folder cannot be made.
    """
    refuse_taken(path, resume=resume, overwrite=overwrite)
    if overwrite and path.exists():
        shutil.rmtree(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: the run folder cannot be made: {error}.") from None
    return path


def append_metrics(run: Path, row: dict[str, Any]) -> None:
    """Add one row to metrics.jsonl."""
    with (run / METRICS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl; a last line that is not whole is left out."""
    path = run / METRICS
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def forget_metrics_after(run: Path, update: int) -> None:
    """Drop the rows that a resumed run will write again."""
    rows = [row for row in read_metrics(run) if row["update"] <= update]
    with written_whole(run / METRICS) as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_provenance(run: Path, files: Iterable[str], device: str, seed: int) -> None:
    """Write down what this run came from, so that its numbers can be believed."""
    write_json(run / "provenance.json", {**provenance(), "device": device, "seed": seed,
               "data": {file: source_hash(file) for file in files}})  # fmt: skip


def read_provenance(run: Path) -> dict[str, Any]:
    """Return what `write_provenance` wrote, or nothing where there is none."""
    try:
        found = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def provenance() -> dict[str, Any]:
    """Return commit, versions, machine and command of this process."""
    packages = ("latentcot", "torch", "transformers", "accelerate", "numpy")
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _git("rev-parse", "HEAD"),
        "is_tree_dirty": bool(_git("status", "--porcelain", "--", ".")),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "machine": f"{platform.machine()}, {_processor()}, {os.cpu_count()} cores",
        "cores_used": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def _git(*arguments: str) -> str | None:
    """Ask git about the source that is running; None where git does not keep it."""
    here = Path(__file__)

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=here.parent, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        ask("ls-files", "--error-unmatch", here.name)  # not some project that it is installed in
        return ask(*arguments)
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def read_run_recipe(run: Path) -> dict[str, Any]:
    """Return the resolved recipe of a run, as plain values.

    Raises:
        RunError: The folder holds none.
    """
    path = run / "recipe.yaml"
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RunError(
            f"{run}: is no run folder: its recipe.yaml cannot be read: {error}"
        ) from None
    if not isinstance(recipe, dict):
        raise RunError(f"{path}: must hold keys and values, got {type(recipe).__name__}.")
    return recipe


def run_of(checkpoint: Path | str) -> Path | None:
    """Return the run folder that a path is or lies in, or None."""
    path = Path(checkpoint)
    return next((p for p in (path, path.parent.parent) if (p / "recipe.yaml").is_file()), None)


def recipe_test_file(checkpoint: Path | str) -> str:
    """Return the test file (or data set of the hub) that the recipe of a checkpoint's run names.

    Raises:
        RunError: There is no run, or its recipe names none.
    """
    run = run_of(checkpoint)
    file = read_run_recipe(run).get("data", {}).get("test") if run else None
    if file is None:
        raise RunError(f"{checkpoint}: its recipe names no test file. Give one with --data.")
    return str(file)


def refuse_no_result(path: Path) -> None:
    """Check that an evaluation would replace nothing but an earlier one.

    Raises:
        RunError: Something else is there.
    """
    try:
        is_result = "accuracy" in json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError):
        is_result = False
    if not is_result or path.name == "best.json":
        raise RunError(
            f"{path}: exists, and is no result of an evaluation, so it will not be replaced. Give "
            "another --out."
        )


def eval_path(
    checkpoint: Path | str,
    data: str,
    num_thoughts: int | None,
    limit: int | None,
    *,
    force_steps: bool = False,
) -> Path | None:
    """Return where the result of an evaluation goes: into its run, if it has one.

    Its name tells what differs from the run's best checkpoint on the whole file.
    """
    run = run_of(checkpoint)
    if run is None:
        return None
    parts = [data.rpartition(":")[2] if is_hub(data) else Path(data).stem]
    if Path(checkpoint) != run:
        parts.append(Path(checkpoint).name)
    if num_thoughts is not None:
        parts.append(f"{num_thoughts}-thoughts")
    if force_steps:
        parts.append("forced-steps")
    if limit is not None:
        parts.append(f"first-{limit}")
    return run / "evals" / f"{'-'.join(parts)}.json"
