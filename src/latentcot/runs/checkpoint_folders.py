"""The checkpoints of a run folder: which are there, which are whole, which one is the best.

RUN/checkpoints/update-00001200/          a checkpoint; checksums.json in it lists its files
RUN/checkpoints/best.json                 names the one that validation chose
RUN/checkpoints/.update-….partial         one that is being written, or was when a process died
RUN/checkpoints/damaged-update-00001200/  one that a resumed run found damaged and passed over
"""

import hashlib
import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from latentcot.errors import CheckpointError, DamagedError, RunError
from latentcot.utils.files import hash_of, write_json
from latentcot.utils.parsing import is_plain_name, one_line, parse_json, shown

INFO_FILE = "latentcot.json"
STATE_FILE = "training_state.pt"
CHECKSUMS_FILE = "checksums.json"
BEST_FILE = "best.json"
QUESTIONS_FILE = "questions.jsonl"
"""Questions that a checkpoint without a run may bring along, for `eval` and `analyze`."""
SHIPPED = Path(__file__).parent / "shipped"
"""Checkpoints that come with the package: small ones, with the provenance of their runs."""
MAX_TOLD = 10


def here_or_shipped(path: Path | str) -> Path:
    """Return the folder that comes with the package, where a path is its name and none is here."""
    is_shipped = is_plain_name(str(path)) and not Path(path).exists() and (SHIPPED / path).is_dir()
    return SHIPPED / path if is_shipped else Path(path)


def checkpoint_folders(run: Path) -> list[Path]:
    """Return the checkpoints of a run folder, oldest first; those half written do not count."""
    return sorted(path for path in (run / "checkpoints").glob("update-*") if path.is_dir())


def best_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint that validation chose; before it has, the newest or None.

    Raises:
        CheckpointError: best.json is damaged, or names a checkpoint that is not there.
    """
    folders = checkpoint_folders(run)
    pointer = run / "checkpoints" / BEST_FILE
    if not os.path.lexists(pointer):
        return folders[-1] if folders else None
    try:
        if not pointer.is_file():
            raise ValueError("it is no file")
        best = dict(parse_json(pointer.read_text(encoding="utf-8")))
        written = best.pop("sha256", None)  # not in those of older versions
        if written is not None and written != hash_of(best):
            raise ValueError("its hash is another one, so it was damaged or edited")
        name = best["checkpoint"]
        found = next((folder for folder in folders if folder.name == name), None)
        if found is None:
            raise ValueError(f"it names {shown(name, 80)}, which is not there")
    except (OSError, ValueError, KeyError, TypeError) as error:
        there = ", ".join(folder.name for folder in folders[-MAX_TOLD:]) or "none"
        which = f", such as {folders[-1]}" if folders else ""
        raise CheckpointError(
            f"{pointer}: does not name a checkpoint: {one_line(str(error))}. There are: {there}. "
            f"Give one of them by its own folder{which}; `latentcot train … --resume` writes the "
            "file again."
        ) from None
    return found


def write_best(run: Path, update: int, accuracy: float) -> None:
    """Point to the checkpoint that validation chose."""
    best = {"checkpoint": folder_of(run, update).name, "accuracy": accuracy}
    write_json(run / "checkpoints" / BEST_FILE, {**best, "sha256": hash_of(best)})


def folder_of(run: Path, update: int) -> Path:
    """Return where the checkpoint of an update lies."""
    return run / "checkpoints" / f"update-{update:08d}"


def prune_checkpoints(run: Path, num_kept: int) -> None:
    """Delete all checkpoints but the newest ones and the best, and what dead processes left.

    As long as best.json is damaged nobody can tell which is the best: then all of them stay.

    Raises:
        RunError: Something cannot be deleted.
    """
    try:
        kept = {*checkpoint_folders(run)[-num_kept:], best_checkpoint(run)}
    except CheckpointError:
        kept = {*checkpoint_folders(run)}
    try:
        for folder in checkpoint_folders(run):
            if folder not in kept:  # by one rename, so that none is ever there by half
                folder.rename(folder.with_name(f".{folder.name}.old.partial"))
        for torn in (run / "checkpoints").glob(".update-*.partial"):
            shutil.rmtree(torn)
    except OSError as error:
        raise RunError(f"{run}: an old checkpoint cannot be deleted: {error}.") from None


def set_aside(folder: Path) -> Path:
    """Give a damaged checkpoint a name under which it is none; return it.

    Raises:
        RunError: It cannot be renamed.
    """
    aside = folder.with_name(f"damaged-{folder.name}")
    try:
        if aside.exists():
            shutil.rmtree(aside)
        return folder.rename(aside)
    except OSError as error:
        raise RunError(f"{folder}: is damaged, but cannot be renamed: {error}.") from None


# --- checksums --------------------------------------------------------------------------------


def write_checksums(folder: Path) -> None:
    """Write down the SHA-256 of each file of a checkpoint."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): _sha256(path) for path in files}
    write_json(folder / CHECKSUMS_FILE, {"sha256": sums})


def verify(folder: Path, leave_out: Collection[str] = ()) -> bool:
    """Make sure that the files of a checkpoint are what was written.

    Args:
        folder: The checkpoint.
        leave_out: Names of files that are not needed now.

    Returns:
        False where there is nothing to compare with: a checkpoint of formats 1 and 2, or one
        whose list was deleted on purpose.

    Raises:
        DamagedError: With every file that is not, or that is missing.
    """
    path = folder / CHECKSUMS_FILE
    if not path.exists():
        if not (folder / INFO_FILE).exists():
            raise DamagedError(f"{folder}: this checkpoint is damaged: {INFO_FILE} is missing.")
        return False
    try:
        sums = dict(parse_json(path.read_text(encoding="utf-8"))["sha256"])
        if not all(is_plain_name(part) for name in sums for part in name.split("/")):
            raise ValueError("it names other than files of its own folder")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            f"{path}: cannot be read: {one_line(str(error))}. This checkpoint is damaged; take "
            "another one of the same run."
        ) from None
    wrong = []
    for name, digest in sums.items():
        try:
            if name not in leave_out and _sha256(folder / name) != digest:
                wrong.append(f"{name} is not what was written")
        except FileNotFoundError:
            wrong.append(f"{name} is missing")
        except OSError as error:
            wrong.append(f"{name} cannot be read ({error})")
    if wrong:
        more = f" and {len(wrong) - MAX_TOLD} more" if len(wrong) > MAX_TOLD else ""
        raise DamagedError(
            f"{folder}: this checkpoint is damaged: {', '.join(wrong[:MAX_TOLD])}{more}. Take "
            f"another one of the same run; if the change was made on purpose, delete {path}."
        )
    return True


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_missing(source: Path) -> None:
    """Make sure that there is something to make a checkpoint of.

    Raises:
        CheckpointError: There is not.
    """
    if not source.exists():
        raise CheckpointError(f"{source}: no such file or folder.")


def refuse_place(out: Path, inputs: Sequence[Path]) -> None:
    """Check that a folder has a name, and that nothing lies in it that is read meanwhile.

    Raises:
        RunError: One of the two is not so.
    """
    if not out.name:  # it is written beside, and renamed
        raise RunError(f"--out {out}: must have a name of its own, such as {out / 'checkpoint'}.")
    place = out.resolve()
    for path in inputs:
        if path.exists() and place in (path.resolve(), *path.resolve().parents):
            raise RunError(f"{out}: {path} is read from there. Give another --out.")


def refuse_taken(out: Path, inputs: Sequence[Path] = (), *, overwrite: bool) -> None:
    """Make sure that a checkpoint may be written into a folder.

    Args:
        out: The folder.
        inputs: What is read to make it, and may not lie there.
        overwrite: Whether a checkpoint that is there may be replaced.

    Raises:
        RunError: It may not.
    """
    refuse_place(out, inputs)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / INFO_FILE).is_file():
        raise RunError(
            f"{out}: exists, and is no checkpoint of latentcot (it holds no {INFO_FILE}), so it "
            "will not be replaced. Delete it yourself, or give another --out."
        )
    if not overwrite:
        raise RunError(f"{out}: exists already. Give --overwrite to replace it, or another --out.")
