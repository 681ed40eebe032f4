"""The folder of a study: one that all machines see, or a copy of one that is kept elsewhere."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latentcot.errors import LatentcotError, RunError, UsageError
from latentcot.runs.checkpoint_folders import CHECKSUMS_FILE
from latentcot.studies.folder import NOTE
from latentcot.utils.parsing import one_line
from latentcot.utils.remote import PARTIAL, RemoteFolder, is_url

_LOOKED_AT = re.compile(
    r"study\.yaml|data-[^/]+\.log|[^/]+/[^/]+/seed-\d+\.(?:yaml|log)|"
    r"[^/]+/[^/]+/seed-\d+/(?:[^/]+\.(?:yaml|json|jsonl)|evals/[^/]+\.json)"
)
"""Files of a study that its results are made of."""


class StudyFolder:
    """The folder of a study that all machines see, or that this one keeps for itself.

    Attributes:
        folder: Where its files are looked at and written here.
        name: By which all machines know it: a whole path, or a URL.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.folder, self.name = folder, name or str(folder.absolute())

    def fetch(self, name: str) -> None:
        """Bring what a run has given, if it is not there yet."""

    def push(self, *, anew: bool = False) -> None:
        """Send what the study itself has written, if it is not there yet.

        Args:
            anew: Delete all that is there first.
        """


class StudyCopy(StudyFolder):
    """A copy of a study that is kept elsewhere, without its checkpoints.

    Args:
        remote: The folder of the study.
        folder: An empty folder here.

    Raises:
        RunError: There is something else than a study, or it cannot be reached.
    """

    def __init__(self, remote: RemoteFolder, folder: Path) -> None:
        super().__init__(folder, remote.url)
        self.remote = remote
        with _told(remote.url):
            names = remote.files()
            if names and NOTE not in names:
                raise RunError(
                    f"{remote.url}: holds something else than a study. Give another --out."
                )
            self._bring(names)

    def _bring(self, names: list[str]) -> None:
        for name in names:
            if name.endswith(PARTIAL):
                continue
            if _LOOKED_AT.fullmatch(name):
                self.remote.get(name, self.folder / name)
            elif name.endswith(f"/{CHECKSUMS_FILE}"):
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)

    def fetch(self, name: str) -> None:
        """Bring what a run has given: its log and all its files but the checkpoints."""
        with _told(self.remote.url):
            self._bring([*self.remote.files(f"{name}.log"), *self.remote.files(name)])

    def push(self, *, anew: bool = False) -> None:
        """Send study.yaml, the recipes, the logs of the data and the table."""
        paths = [*self.folder.glob("[!.]*.*"), *self.folder.glob("*/*/seed-*.yaml")]
        names = {path.relative_to(self.folder).as_posix(): path for path in paths}
        with _told(self.remote.url):
            if anew:  # the note makes it a study: it goes last
                there = {name.partition("/")[0] for name in self.remote.files()}
                self.remote.delete(sorted(there, key=lambda name: name == NOTE))
            self.remote.put_changed(names)


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
            "same command goes on."
        ) from None


@contextmanager
def opened(out: str) -> Iterator[StudyFolder]:
    """Look at a study, wherever it is kept.

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
            yield StudyCopy(remote, Path(folder))
        except LatentcotError as error:  # nobody knows the copy
            raise type(error)(str(error).replace(folder, remote.url)) from None
