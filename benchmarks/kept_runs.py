"""The finished runs of a study as one file of the repository, without their weights.

A study asks no more of a run than its evaluation, so with this file it goes on on another machine:
what is in it counts as done. And each question's answer is at hand for whoever doubts a p-value.
"""

import io
import json
import lzma
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from latentcot.runs.folder import STUDY_FILE
from latentcot.utils.files import written_whole

FILES = ("recipe.yaml", "provenance.json", "metrics.jsonl", "evals/*.json")
RUNS = "runs.tar.xz"
SITTINGS = "sittings.json"
"""In the folder of a study: how long it has run, each time."""
UPDATES = 100
"""Of the rows of so many updates the first is kept; those of validations and stages all are."""


def finished(study: Path) -> list[Path]:
    """Return the folders of the runs that have been evaluated."""
    return sorted({file.parent.parent for file in study.glob("*/*/seed-*/evals/*.json")})


def pack(study: Path, archive: Path) -> None:
    """Write the finished runs of a study's folder: the same bytes for the same runs."""
    with written_whole(archive, "wb") as file, tarfile.open(fileobj=file, mode="w:xz") as tar:
        times = [path for path in (study / SITTINGS,) if path.exists()]  # not of one run by hand
        # What makes it a study comes last.
        for path in (*_files_of(study), *times, study / STUDY_FILE):
            content = path.read_bytes()
            if path.name == "metrics.jsonl":
                content = b"".join(_thinned(content))
            entry = tarfile.TarInfo(str(path.relative_to(study)))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def unpack(archive: Path, study: Path) -> None:
    """Put the runs of an archive into the folder of a study that has not been begun.

    Raises:
        SystemExit: There is no archive, or it is damaged.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(study, filter="data")
    except FileNotFoundError:
        sys.exit(f"{archive}: does not exist: no run of this study is kept. Leave out --kept.")
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        sys.exit(f"{archive}: is damaged ({error}). Bring it back: git checkout {archive}")
    print(f"{study}: begins with {len(finished(study))} finished runs of {archive}")


def _files_of(study: Path) -> Iterator[Path]:
    for run in finished(study):
        for pattern in FILES:
            yield from sorted(run.glob(pattern))


def _thinned(metrics: bytes) -> Iterator[bytes]:
    """Yield the rows that are kept; of kept rows all."""
    stretch = -1
    for line in metrics.splitlines(keepends=True):
        row = json.loads(line)
        if row["kind"] == "train":
            if row["update"] // UPDATES == stretch:
                continue
            stretch = row["update"] // UPDATES
        yield line
