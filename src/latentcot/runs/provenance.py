"""Where a run comes from: commit, versions, machine, command, seed, data; one entry a resume.

    provenance.json
        format_version            of this file
        time, command, commit, …  of the process that started the run
        seed, data                of the run; SHA-256 of each data file
        resumed                   the same of each process that resumed it, with the update

Older files lack what was not written then; nothing is made up for them.
"""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import StrictBool, StrictInt, TypeAdapter, ValidationError

from latentcot.data.formats import is_hub, source_hash
from latentcot.errors import DataError, RunError
from latentcot.utils.files import write_json
from latentcot.utils.processor import processor_name
from latentcot.utils.versions import PROVENANCE_VERSION, problems_of, read_versioned

FILE = "provenance.json"
PACKAGES = ("latentcot", "torch", "transformers", "accelerate", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A process that trained a run; what was not written down is None.

    Attributes:
        update: Updates that the run had before it.
        time: When it began, in UTC.
        command: Its command line.
        commit: Of latentcot; None too where git does not keep it.
        is_tree_dirty: Whether the commit had been changed.
        python: Its version.
        versions: Package → version.
        machine: Kind of machine, processor, cores.
        cores_used: Cores that it could use.
        threads: Of torch.
        num_processes: Devices that trained together.
        device: As torch names it.
        gpu: What the device is, if it is a GPU.
        differs: In words, what differs from the process before and may change the last bits.
    """

    update: StrictInt = 0
    time: str | None = None
    command: str | None = None
    commit: str | None = None
    is_tree_dirty: StrictBool | None = None
    python: str | None = None
    versions: dict[str, str | None] | None = None
    machine: str | None = None
    cores_used: StrictInt | None = None
    threads: StrictInt | None = None
    num_processes: StrictInt | None = None
    device: str | None = None
    gpu: str | None = None
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _File(Session):
    """What the file must hold where it holds it."""

    seed: StrictInt = 0
    is_base_local: StrictBool = False
    data: dict[str, str] = field(default_factory=dict)
    resumed: list[Session] = field(default_factory=list)


def write_provenance(
    run: Path,
    files: Iterable[str],
    device: str,
    seed: int,
    hash_of: Callable[[str], str] = source_hash,
    num_updates: int | None = None,
    *,
    is_base_local: bool = False,
) -> None:
    """Write down what this run came from, so that its numbers can be believed.

    Args:
        run: The run folder.
        files: Training, validation and test data; their hashes are written.
        device: As torch names it.
        seed: Of the run.
        hash_of: The hash of a file.
        num_updates: Of the whole training: of epochs only the data could tell it later.
        is_base_local: Whether the model that it began from was a folder or a file here: its name
            may be that of something else on the hub.

    Raises:
        DataError: A data file cannot be read.
        RunError: The file cannot be written.
    """
    hashes = {file: hash_of(file) for file in files}
    process = provenance(device)
    version = {"format_version": PROVENANCE_VERSION}
    whole = {"seed": seed, "num_updates": num_updates, "data": hashes}
    whole |= {"is_base_local": True} if is_base_local else {}
    write_json(run / FILE, {**version, **process, **whole})


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
    try:
        TypeAdapter(_File).validate_python(values)
    except ValidationError as error:
        raise RunError(
            f"{path}: {problems_of(error)}. It is damaged: bring the file back, or delete it, and "
            "what it knew of the run is lost."
        ) from None
    return values


def changed_data(run: Path) -> list[str]:
    """Return the data files that are not what they were when a run was trained with them.

    Data sets of the hub, and files that are not here now, are left out.

    Raises:
        RunError: provenance.json is damaged, or of a newer latentcot.
    """
    changed = []
    for file, digest in read_provenance(run).get("data", {}).items():
        with suppress(DataError):
            if not is_hub(file) and source_hash(file) != digest:
                changed.append(file)
    return changed


def sessions_of(origin: Mapping[str, Any]) -> tuple[Session, ...]:
    """Return the process that started a run, and each that resumed it.

    Args:
        origin: What `read_provenance` gave.
    """
    if not origin:
        return ()
    processes = [origin, *origin.get("resumed", [])]
    read = TypeAdapter(Session).validate_python
    return tuple(
        replace(read(now), differs=tuple(differences(before, now)))
        for before, now in zip([origin, *processes], processes, strict=False)
    )


def add_session(run: Path, device: str, update: int) -> list[str]:
    """Write down that this process resumes a run.

    Args:
        run: The run folder.
        device: As torch names it.
        update: The update of the checkpoint that it resumes.

    Returns:
        In words, what differs from the process before it and may change the last bits of a result:
        `torch 2.13.0 instead of 2.12.0`.

    Raises:
        RunError: provenance.json is damaged, of a newer latentcot, or cannot be written.
    """
    before = read_provenance(run)
    session = {**provenance(device), "update": update}
    sessions = before.get("resumed", [])
    version = {"format_version": PROVENANCE_VERSION}
    write_json(run / FILE, {**version, **before, "resumed": [*sessions, session]})
    return differences(sessions[-1] if sessions else before, session)


def set_num_updates(run: Path, num_updates: int) -> None:
    """Write down that a run has another number of updates than it began with, if anything is.

    Raises:
        RunError: provenance.json is damaged, of a newer latentcot, or cannot be written.
    """
    before = read_provenance(run)
    if before and before.get("num_updates") != num_updates:
        write_json(run / FILE, {**before, "num_updates": num_updates})


def provenance(device: str | None = None) -> dict[str, Any]:
    """Return commit, versions, machine and command of this process, and the device it is given."""
    import torch  # takes seconds, and reading needs none of it

    versions: dict[str, str | None] = dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    group = torch.distributed
    is_one_of_many = group.is_available() and group.is_initialized()
    place: dict[str, str | None] = {}
    if device is not None:
        is_gpu = device.startswith("cuda")
        gpu = torch.cuda.get_device_name(device) if is_gpu else None
        place = {"device": device, "gpu": gpu}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _git("rev-parse", "HEAD"),
        "is_tree_dirty": bool(_git("status", "--porcelain", "--", ".")),
        "python": platform.python_version(),
        "versions": versions,
        "machine": f"{platform.machine()}, {processor_name()}, {os.cpu_count()} cores",
        "cores_used": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": torch.get_num_threads(),
        "num_processes": group.get_world_size() if is_one_of_many else 1,
        **place,
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words what differs between two processes and may change the last bits of a result.

    What one of them did not write down is not compared.

    Args:
        before: What provenance.json says of one process.
        now: The same of a later one.
    """

    def what_matters(process: Mapping[str, Any]) -> dict[str, Any]:
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

    old, new = what_matters(before), what_matters(now)
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


def _git(*arguments: str) -> str | None:
    """Ask git in the folder of the whole package; None where git does not keep it."""
    here = Path(__file__)
    try:
        for words in (["ls-files", "--error-unmatch", str(here)], arguments):  # no other project's
            told = subprocess.run(
                ["git", *words], cwd=here.parents[1], capture_output=True, text=True, check=True
            ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.strip()
