"""A folder on any file system that fsspec knows: `s3://bucket/study`, `file:///shared/study`.

A file that may change is uploaded under a partial name and then renamed. So what is there under its
own name is whole, also on file systems where an upload that breaks off leaves half a file.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from latentcot.errors import UsageError

PARTIAL = ".partial"
SEEN_BY_ONE_PROCESS = ("memory",)
"""File systems that no other process sees."""


def is_url(path: Path | str) -> bool:
    """Return whether this names a folder by a URL."""
    return re.match(r"[\w.+:-]+://", str(path)) is not None


class RemoteFolder:
    """Files of a folder, by their names relative to it, with / between the parts.

    Args:
        url: Of the folder; it need not exist.

    Raises:
        UsageError: No such file system is known here.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url.rstrip("/")
        if not is_url(self.url):
            raise UsageError(f"{url}: names no folder. Give one, such as file:///shared/study.")
        try:
            self._fs, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UsageError(
                f"{url}: this file system cannot be used: {error}. Install what it needs on all "
                "machines, or give another folder."
            ) from None
        self._root = root.rstrip("/")
        self._sent: dict[str, tuple[int, int]] = {}
        self._made: set[str] = set()

    @property
    def is_of_this_process(self) -> bool:
        """Whether no other process sees this folder."""
        protocol = self._fs.protocol
        names = (protocol,) if isinstance(protocol, str) else protocol
        return any(name in SEEN_BY_ONE_PROCESS for name in names)

    def files(self, under: str = "") -> list[str]:
        """Return the names of all files in it, or below one folder of it; none if it is missing."""
        self._fs.invalidate_cache()  # others write here too
        top = self._path(under)
        if not self._fs.exists(top):
            return []
        found = (path[len(self._root) :].lstrip("/") for path in self._fs.find(top))
        return sorted(name for name in found if _is_inside(name))

    def get(self, name: str, to: Path) -> None:
        """Bring a file here, whole or not at all."""
        beside = to.with_name(f".{to.name}{PARTIAL}")
        beside.parent.mkdir(parents=True, exist_ok=True)
        self._fs.get_file(self._path(name), str(beside))
        beside.replace(to)
        self._sent[name] = _state(to)

    def put(self, path: Path, name: str) -> None:
        """Upload a file under its own name at once: for those that something else vouches for."""
        self._make_parent(name)
        self._fs.put_file(str(path), self._path(name))

    def put_changed(self, paths: Mapping[str, Path]) -> None:
        """Upload those files, by their names, that differ from what was brought or sent last."""
        for name, path in paths.items():
            state = _state(path)
            if self._sent.get(name) != state:
                self._put_whole(path.read_bytes(), name)
                self._sent[name] = state

    def _put_whole(self, content: bytes, name: str) -> None:
        self._make_parent(name)
        beside = self._path(name + PARTIAL)
        self._fs.pipe_file(beside, content)
        self._fs.mv(beside, self._path(name))

    def delete(self, names: Iterable[str]) -> None:
        """Delete files, and folders with all that is in them, one after the other."""
        for name in names:
            self._fs.rm(self._path(name), recursive=True)
            inside = f"{name}/"
            self._sent = {k: v for k, v in self._sent.items() if not f"{k}/".startswith(inside)}
            self._made = {k for k in self._made if not f"{k}/".startswith(inside)}

    def _make_parent(self, name: str) -> None:
        """Object stores have no folders; to others they must be given."""
        parent = posixpath.dirname(name)
        if parent not in self._made:
            self._fs.makedirs(self._path(parent), exist_ok=True)
            self._made.add(parent)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


def _is_inside(name: str) -> bool:
    """Return whether a name stays in its folder here: a key of an object store may be anything."""
    return not any(part in ("", ".", "..") for part in name.split("/"))


def _state(path: Path) -> tuple[int, int]:
    found: Any = path.stat()
    return found.st_mtime_ns, found.st_size
