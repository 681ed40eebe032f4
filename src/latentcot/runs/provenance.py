"""Where a run comes from: commit, versions, machine, command, seed, data; one entry a resume.

    provenance.json
        format_version            of this file
        time, command, commit, …  of the process that started the run
        seed, data                of the run; SHA-256 of each data file
        resumed                   the same of each process that went on with it, with the update

Older files lack what was not written then; nothing is made up for them.
"""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from latentcot.data.formats import source_hash
from latentcot.errors import RunError
from latentcot.utils.files import write_json
from latentcot.utils.parsing import shown
from latentcot.utils.versions import PROVENANCE_VERSION, read_versioned

FILE = "provenance.json"
PACKAGES = ("latentcot", "torch", "transformers", "accelerate", "numpy")


def write_provenance(
    run: Path,
    files: Iterable[str],
    device: str,
    seed: int,
    hash_of: Callable[[str], str] = source_hash,
) -> None:
    """Write down what this run came from, so that its numbers can be believed.

    Args:
        run: The run folder.
        files: Training and validation data; their hashes are written.
        device: As torch names it.
        seed: Of the run.
        hash_of: The hash of a file.

    Raises:
        DataError: A data file cannot be read.
        RunError: The file cannot be written.
    """
    hashes = {file: hash_of(file) for file in files}
    process = {**provenance(), **_place(device)}
    version = {"format_version": PROVENANCE_VERSION}
    write_json(run / FILE, {**version, **process, "seed": seed, "data": hashes})


def read_provenance(run: Path) -> dict[str, Any]:
    """Return what `write_provenance` and `add_session` wrote, or nothing where there is none.

    Raises:
        RunError: The file is damaged, or a newer latentcot wrote it.
    """
    path = run / FILE
    try:
        values = read_versioned(path, PROVENANCE_VERSION)
    except FileNotFoundError:
        return {}
    problem = _problem(values)
    if problem is not None:
        raise RunError(
            f"{path}: {problem}. It is damaged: bring the file back, or delete it, and what it "
            "knew of the run is lost."
        )
    return values


def add_session(run: Path, device: str, update: int) -> list[str]:
    """Write down that this process goes on with a run.

    Args:
        run: The run folder.
        device: As torch names it.
        update: The update of the checkpoint that it goes on from.

    Returns:
        In words, what differs from the process before it and may change the last bits of a result:
        `torch 2.13.0 instead of 2.12.0`.

    Raises:
        RunError: provenance.json is damaged, of a newer latentcot, or cannot be written.
    """
    before = read_provenance(run)
    session = {**provenance(), **_place(device), "update": update}
    sessions = before.get("resumed", [])
    version = {"format_version": PROVENANCE_VERSION}
    write_json(run / FILE, {**version, **before, "resumed": [*sessions, session]})
    return differences(sessions[-1] if sessions else before, session)


def provenance() -> dict[str, Any]:
    """Return commit, versions, machine and command of this process."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _git("rev-parse", "HEAD"),
        "is_tree_dirty": bool(_git("status", "--porcelain", "--", ".")),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": f"{platform.machine()}, {_processor()}, {os.cpu_count()} cores",
        "cores_used": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        **_torch_processes(),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words what differs between two processes and may change the last bits of a result.

    What one of them did not write down is not compared.

    Args:
        before: What provenance.json says of one process.
        now: The same of a later one.
    """
    old, new = _what_matters(before), _what_matters(now)
    return [
        f"{name} {new[name]} instead of {old[name]}"
        for name in old
        if name in new and old[name] != new[name]
    ]


def code_of(process: Mapping[str, Any]) -> str | None:
    """Return the first digits of a commit, with `+ changes` if there were some; None if unknown."""
    commit = process.get("commit")
    return (
        f"{commit[:10]}{' + changes' if process.get('is_tree_dirty') else ''}" if commit else None
    )


def _what_matters(process: Mapping[str, Any]) -> dict[str, Any]:
    versions = process.get("versions") or {}
    machine, device = process.get("machine"), process.get("device")
    found = {
        "commit": code_of(process),
        **{name: versions.get(name) for name in PACKAGES if name != "numpy"},
        "processor": machine.rpartition(", ")[0] if machine else None,
        "device": device.partition(":")[0] if device else None,  # not which one of several
        "GPU": process.get("gpu"),
        "number of threads": process.get("threads"),
        "number of processes": process.get("num_processes"),
    }
    return {name: value for name, value in found.items() if value is not None}


# --- what a file must hold --------------------------------------------------------------------

_KINDS: Mapping[str, Any] = {
    "time": str,
    "command": str,
    "commit": str | None,
    "is_tree_dirty": bool,
    "python": str,
    "versions": dict,
    "machine": str,
    "cores_used": int | None,
    "threads": int,
    "num_processes": int,
    "device": str,
    "gpu": str | None,
    "seed": int,
    "update": int,
    "data": dict,
    "resumed": list,
}


def _problem(values: Mapping[str, Any]) -> str | None:
    """Return what is wrong with values of provenance.json; None if nothing is."""
    for name, value in values.items():
        if name in _KINDS and not isinstance(value, _KINDS[name]):
            return f"{name} cannot be {shown(value)}"
    if any(not isinstance(text, str | None) for text in values.get("versions", {}).values()):
        return f"versions must name a version each, got {shown(values['versions'])}"
    if any(not isinstance(text, str) for text in values.get("data", {}).values()):
        return f"data must hold a SHA-256 each, got {shown(values['data'])}"
    for session in values.get("resumed", []):
        wrong = _problem(session) if isinstance(session, dict) else f"got {shown(session)}"
        if wrong is not None:
            return f"resumed: {wrong}"
    return None


# --- what this process is ---------------------------------------------------------------------


def _torch_processes() -> dict[str, int]:
    import torch  # takes seconds, and reading needs none of it

    group = torch.distributed
    is_one_of_many = group.is_available() and group.is_initialized()
    return {
        "threads": torch.get_num_threads(),
        "num_processes": group.get_world_size() if is_one_of_many else 1,
    }


def _place(device: str) -> dict[str, str | None]:
    import torch

    is_gpu = device.startswith("cuda")
    return {"device": device, "gpu": torch.cuda.get_device_name(device) if is_gpu else None}


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
