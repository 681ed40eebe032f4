"""A run that is kept in a remote folder, and trained in a copy of it here.

A checkpoint counts once its checksums.json is there, which is sent last; and what was brought must
be what that says. So one that was torn on its way, whichever way, is as if it had never been.
"""

import os
import re
import shutil
from collections import defaultdict
from pathlib import Path

from latentcot.errors import DamagedError
from latentcot.runs.checkpoint_folders import CHECKSUMS_FILE, checkpoint_folders, verify
from latentcot.utils.remote import PARTIAL, RemoteFolder

BEST = "checkpoints/best.json"
_PASSED_OVER = (".", "damaged-")
_CHECKPOINT = re.compile(r"checkpoints/(update-\d+)/(.+)")


class RunCopy:
    """A run that is trained here, and kept elsewhere.

    Args:
        remote: The folder of the study.
        name: Of the run in it; its log lies beside it.
        run: The run folder here.
    """

    def __init__(self, remote: RemoteFolder, name: str, run: Path) -> None:
        self.remote, self.name, self.run = remote, name, run
        self._whole: set[str] = set()

    def fetch(self) -> None:
        """Bring the run here as it is there: its log, its files, its whole checkpoints."""
        log = f"{self.name}.log"
        for name in self.remote.files(log):
            self.remote.get(name, self.run.with_name(f"{self.run.name}.log"))
        for name in self._files():
            if not name.endswith(PARTIAL) and not _CHECKPOINT.fullmatch(name):
                self.remote.get(f"{self.name}/{name}", self.run / name)
        for checkpoint, names in self._checkpoints().items():
            if CHECKSUMS_FILE in names and self._fetch_checkpoint(checkpoint, names):
                self._whole.add(checkpoint)

    def _fetch_checkpoint(self, checkpoint: str, names: list[str]) -> bool:
        to = self.run / "checkpoints" / checkpoint
        torn = to.with_name(f".{checkpoint}{PARTIAL}")
        for name in names:
            self.remote.get(f"{self.name}/checkpoints/{checkpoint}/{name}", torn / name)
        try:
            verify(torn)
        except DamagedError:
            shutil.rmtree(torn)
            return False
        torn.rename(to)
        return True

    def push(self) -> None:
        """Send what is new, and delete there the checkpoints that are no longer here.

        A checkpoint goes on from the rows before it, so metrics.jsonl is sent first. The older ones
        are deleted there once the newest is whole.
        """
        here = {folder.name: folder for folder in checkpoint_folders(self.run)}
        files = self._changeable()
        best = files.pop(f"{self.name}/{BEST}", None)
        self.remote.put_changed(files)
        for checkpoint in sorted(here.keys() - self._whole):
            self._push_checkpoint(here[checkpoint])
        if best is not None:
            self.remote.put_changed({f"{self.name}/{BEST}": best})
        if here and max(here) in self._whole:
            self._delete_all_but(here.keys() & self._whole)

    def has_new_checkpoint(self) -> bool:
        """Return whether there is a checkpoint here that has not been sent."""
        return any(folder.name not in self._whole for folder in checkpoint_folders(self.run))

    def _changeable(self) -> dict[str, Path]:
        found = {f"{self.name}.log": self.run.with_name(f"{self.run.name}.log")}
        for folder, folders, files in os.walk(self.run):  # training may delete some meanwhile
            folders[:] = [one for one in folders if not one.startswith(_PASSED_OVER)]
            paths = [Path(folder, one) for one in files if not one.startswith(_PASSED_OVER)]
            names = {path.relative_to(self.run).as_posix(): path for path in paths}
            found |= {
                f"{self.name}/{name}": path
                for name, path in names.items()
                if not _CHECKPOINT.fullmatch(name)
            }
        return {name: path for name, path in found.items() if path.is_file()}

    def _push_checkpoint(self, folder: Path) -> None:
        try:
            paths = [path for path in folder.rglob("*") if path.is_file()]
            for path in sorted(paths, key=lambda path: path.name == CHECKSUMS_FILE):  # last
                name = path.relative_to(folder).as_posix()
                self.remote.put(path, f"{self.name}/checkpoints/{folder.name}/{name}")
        except FileNotFoundError:
            if folder.is_dir():
                raise
            return  # training has deleted it meanwhile, and has newer ones
        if folder.is_dir():
            self._whole.add(folder.name)

    def _delete_all_but(self, kept: set[str]) -> None:
        for checkpoint, names in self._checkpoints().items():
            if checkpoint not in kept:
                folder = f"{self.name}/checkpoints/{checkpoint}"
                # Without its checksums it is none: they go first.
                first = [f"{folder}/{CHECKSUMS_FILE}"] if CHECKSUMS_FILE in names else []
                self.remote.delete([*first, folder] if set(names) - {CHECKSUMS_FILE} else [folder])
        self._whole &= kept

    def _checkpoints(self) -> dict[str, list[str]]:
        """Return checkpoint → names of its files there."""
        found = defaultdict[str, list[str]](list)
        for name in self._files():
            if match := _CHECKPOINT.fullmatch(name):
                found[match[1]].append(match[2])
        return found

    def _files(self) -> list[str]:
        return [name[len(self.name) + 1 :] for name in self.remote.files(self.name)]
