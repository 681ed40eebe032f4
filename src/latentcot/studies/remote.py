"""A study on another file system, by fsspec: `s3://bucket/study`, `file:///shared/study`.

    RunCopy       one run of it, which a worker trains in a copy on its own machine
    StudyFolder   the study as its command sees it: a plain folder, or a copy without checkpoints

Two rules keep a broken upload from being taken for a file. One that may change is sent under a
partial name and then renamed. A checkpoint counts once its checksums.json is there, which is sent
last, and what was brought must be what that says.
"""

import os
import posixpath
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from latentcot.errors import DamagedError, LatentcotError, RunError, UsageError
from latentcot.runs.checkpoint_folders import CHECKSUMS_FILE, checkpoint_folders, verify
from latentcot.runs.folder import STUDY_FILE
from latentcot.utils.parsing import one_line

PARTIAL = ".partial"
_PASSED_OVER = (".", "damaged-")
_CHECKPOINT = re.compile(r"(.*/checkpoints/update-\d+)/.+")
_RESULTS = re.compile(
    r"study\.yaml|data-[^/]+\.log|[^/]+/[^/]+/seed-\d+\.(?:yaml|log)|"
    r"[^/]+/[^/]+/seed-\d+/(?:[^/]+\.(?:yaml|json|jsonl)|evals/[^/]+\.json)"
)
"""Files of a study that its table and its bars are made of."""


def is_url(path: Path | str) -> bool:
    """Return whether this names a folder by a URL."""
    return re.match(r"[\w.+:-]+://", str(path)) is not None


class RemoteFolder:
    """Files behind a URL and their copies in a local folder, both by the same relative names.

    Args:
        url: Of the folder; it need not exist.

    Raises:
        UsageError: No such file system is known here.
    """

    def __init__(self, url: str) -> None:
        import fsspec
        from fsspec.implementations.dirfs import DirFileSystem

        self.url = url.rstrip("/")
        if not is_url(self.url):
            raise UsageError(f"{url}: names no folder. Give one, such as file:///shared/study.")
        try:
            whole, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UsageError(
                f"{url}: this file system cannot be used: {error}. Install what it needs on all "
                "machines, or give another folder."
            ) from None
        self.fs = DirFileSystem(root.rstrip("/"), whole)
        self.is_of_this_process = "memory" in whole.protocol
        self._sent: dict[str, tuple[int, int]] = {}

    def files(self, under: str = "") -> list[str]:
        """Return the names of all whole files in it, or below one folder; none if it is missing."""
        self.fs.invalidate_cache()  # others write here too
        names = self.fs.find(under) if self.fs.exists(under) else []
        # A key of an object store may be anything, also one that leads out of the folder here.
        return sorted(
            name
            for name in names
            if not name.endswith(PARTIAL) and not {"", ".", ".."} & {*name.split("/")}
        )

    def get(self, name: str, to: Path) -> None:
        """Bring a file here, whole or not at all."""
        partial = to.with_name(f".{to.name}{PARTIAL}")
        partial.parent.mkdir(parents=True, exist_ok=True)
        self.fs.get_file(name, str(partial))
        partial.replace(to)
        self._sent[name] = _state(to)

    def put(self, path: Path, name: str) -> None:
        """Send a file under its own name at once: for those that checksums vouch for."""
        self._make_parent(name)
        self.fs.put_file(str(path), name)

    def _make_parent(self, name: str) -> None:
        """Object stores have no folders; others must be given them."""
        self.fs.makedirs(posixpath.dirname(name), exist_ok=True)

    def put_changed(self, folder: Path, names: Iterable[str]) -> None:
        """Send those files of a local folder that differ from what was brought or sent last."""
        for name in names:
            state = _state(folder / name)
            if self._sent.get(name) != state:
                self._make_parent(name)  # the bytes of now: a log grows while it is sent
                self.fs.pipe_file(name + PARTIAL, (folder / name).read_bytes())
                self.fs.mv(name + PARTIAL, name)
                self._sent[name] = state

    def delete(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it."""
        self.fs.rm(name, recursive=True)
        self._sent = {k: v for k, v in self._sent.items() if not f"{k}/".startswith(f"{name}/")}


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


class RunCopy:
    """A run that is trained here, and kept elsewhere.

    Args:
        remote: The folder of the study.
        name: Of the run in it; its recipe and its log lie next to it.
        study: The folder of the study here.
    """

    def __init__(self, remote: RemoteFolder, name: str, study: Path) -> None:
        self.remote, self.name, self.study, self.run = remote, name, study, study / name
        self._whole: set[str] = set()

    def fetch(self) -> None:
        """Bring the run here as it is there: recipe, log, files, and its whole checkpoints."""
        names = [name for under in (f"{self.name}.yaml", f"{self.name}.log", self.name)
                 for name in self.remote.files(under)]  # fmt: skip
        for name in names:
            if not _CHECKPOINT.fullmatch(name):
                self.remote.get(name, self.study / name)
        for folder, files in _by_checkpoint(names).items():
            if f"{folder}/{CHECKSUMS_FILE}" not in files:
                continue
            to = self.study / folder
            partial = to.with_name(f".{to.name}{PARTIAL}")
            for name in files:
                self.remote.get(name, partial / name.removeprefix(f"{folder}/"))
            try:
                verify(partial)
            except DamagedError:
                shutil.rmtree(partial)
            else:
                partial.rename(to)
                self._whole.add(to.name)

    def push(self) -> None:
        """Send what is new, and delete there the checkpoints that are no longer here.

        Training may delete files and checkpoints meanwhile. It resumes from the rows of
        metrics.jsonl before a checkpoint, so these are sent first; best.json names a checkpoint, so
        it is sent after them. Older checkpoints are deleted there once the newest is whole.
        """
        here = {folder.name: folder for folder in checkpoint_folders(self.run)}
        paths = [self.run.with_name(f"{self.run.name}.log")]
        for at, folders, files in os.walk(self.run):
            folders[:] = [one for one in folders if not one.startswith(_PASSED_OVER)]
            paths += [Path(at, one) for one in files if not one.startswith(_PASSED_OVER)]
        names = [path.relative_to(self.study).as_posix() for path in paths if path.is_file()]
        best = f"{self.name}/checkpoints/best.json"
        self.remote.put_changed(
            self.study, (one for one in names if one != best and not _CHECKPOINT.fullmatch(one))
        )
        for checkpoint in sorted(here.keys() - self._whole):
            folder = here[checkpoint]
            inside = [path for path in folder.rglob("*") if path.is_file()]
            try:
                for path in sorted(inside, key=lambda path: path.name == CHECKSUMS_FILE):  # last
                    self.remote.put(path, path.relative_to(self.study).as_posix())
            except FileNotFoundError:
                if folder.is_dir():
                    raise
            if folder.is_dir():  # otherwise training has deleted it, and has newer ones
                self._whole.add(checkpoint)
        self.remote.put_changed(self.study, {best} & {*names})

        kept = here.keys() & self._whole
        if here and max(here) in kept:
            for there, files in _by_checkpoint(self.remote.files(self.name)).items():
                if posixpath.basename(there) not in kept:
                    # Without its checksums it is none: they go first.
                    if f"{there}/{CHECKSUMS_FILE}" in files and len(files) > 1:
                        self.remote.delete(f"{there}/{CHECKSUMS_FILE}")
                    self.remote.delete(there)
            self._whole = kept

    def has_new_checkpoint(self) -> bool:
        """Return whether there is a checkpoint here that has not been sent."""
        return any(folder.name not in self._whole for folder in checkpoint_folders(self.run))


def _by_checkpoint(names: Iterable[str]) -> dict[str, list[str]]:
    """Return folder of a checkpoint → names of its files."""
    found = defaultdict[str, list[str]](list)
    for name in names:
        if match := _CHECKPOINT.fullmatch(name):
            found[match[1]].append(name)
    return found


class StudyFolder:
    """The folder of a study: one that all machines see, or a copy of one behind a URL.

    The copy is without checkpoints: that they are there is all that counts here.

    Attributes:
        folder: Where its files are read and written here; with `remote` an empty folder at first.
        remote: What it is a copy of, if it is one.
        name: By which all machines know it: a whole path, or a URL.

    Raises:
        RunError: There is something else than a study, or it cannot be reached.
    """

    def __init__(self, folder: Path, remote: RemoteFolder | None = None) -> None:
        self.folder, self.remote = folder, remote
        self.name = remote.url if remote else str(folder.absolute())
        self.fetch("")

    def fetch(self, name: str) -> None:
        """Bring the results of a run, or of all with an empty name, if they are not here yet."""
        if self.remote is None:
            return
        with _told(self.name):
            found = [*(self.remote.files(f"{name}.log") if name else []), *self.remote.files(name)]
            if not name and found and STUDY_FILE not in found:
                raise RunError(
                    f"{self.name}: holds something else than a study. Give another --out."
                )
            for file in found:
                if _RESULTS.fullmatch(file):
                    self.remote.get(file, self.folder / file)
                elif file.endswith(f"/{CHECKSUMS_FILE}"):
                    (self.folder / file).parent.mkdir(parents=True, exist_ok=True)

    def push(self, *, overwrite: bool = False) -> None:
        """Send study.yaml, recipes, logs of the data and table; `overwrite` deletes all else."""
        if self.remote is None:
            return
        paths = [*self.folder.glob("[!.]*.*"), *self.folder.glob("*/*/seed-*.yaml")]
        paths = [path for path in paths if path.is_file()]  # a task's name may hold a dot
        names = [path.relative_to(self.folder).as_posix() for path in paths]
        with _told(self.name):
            if overwrite:  # the note makes it a study: it goes last
                there = {name.partition("/")[0] for name in self.remote.files()}
                for name in sorted(there, key=lambda name: name == STUDY_FILE):
                    self.remote.delete(name)
            self.remote.put_changed(self.folder, names)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Each file system has errors of its own: no network, no bucket, no key, no right to write."""
    try:
        yield
    except LatentcotError:
        raise
    except Exception as error:
        reason = one_line(str(error)).rstrip(".") or type(error).__name__
        raise RunError(
            f"{url}: cannot be read or written: {reason}. What was sent before is there, and the "
            "same command resumes."
        ) from None


@contextmanager
def opened(out: str) -> Iterator[StudyFolder]:
    """Open the folder of a study, wherever it is kept.

    Args:
        out: A folder, or a URL that fsspec knows.

    Raises:
        RunError: There is something else than a study, or it cannot be reached.
        UsageError: The URL cannot be used, or is of no use to other processes.
    """
    if not is_url(out):
        yield StudyFolder(Path(out))
        return
    with _told(out):
        remote = RemoteFolder(out)
    if remote.is_of_this_process:
        raise UsageError(
            f"--out: no other process sees {out}, and each run is one. Give a folder or a file "
            "system that all machines see, such as s3://bucket/study."
        )
    with tempfile.TemporaryDirectory(prefix="latentcot-study-") as folder:
        try:
            yield StudyFolder(Path(folder), remote)
        except LatentcotError as error:  # nobody knows the copy
            raise type(error)(str(error).replace(folder, remote.url)) from None
