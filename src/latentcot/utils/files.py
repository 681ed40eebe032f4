"""Atomic writes: a file is whole or absent. Write next to it, sync, rename."""

import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal

from latentcot.errors import RunError
from latentcot.utils.parsing import one_line


def why_unwritten(error: Exception, folder: Path) -> str:
    """Return what an error in writing says, or that the disk is full where it does not say so.

    torch, safetensors and tokenizers have errors of their own, with words about their insides.

    Args:
        error: What was raised.
        folder: Where it was to be written; it, or one above it, is there, with what was written.
    """
    text = one_line(str(error))
    above = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    with suppress(OSError):
        is_full = shutil.disk_usage(above).free < LITTLE
        is_full |= getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if is_full or any(words in text for words in _FULL):
            return f"the disk is full, or its quota is used up ({text})"
    return text


LITTLE = 2**16
"""Bytes; a disk with less than that free is full."""
_FULL = ("No space left", "quota exceeded", f"os error {errno.ENOSPC}", f"os error {errno.EDQUOT}")


@contextmanager
def written_whole(path: Path | str, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under `path` only once it has been written completely.

    Text is UTF-8, and what of a file's name is none is escaped, as JSON does; `wb` takes bytes.

    Raises:
        RunError: It cannot be written.
    """
    path = Path(path)
    next_to = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        encoding, errors = ("utf-8", "backslashreplace") if mode == "w" else (None, None)
        with next_to.open(mode, encoding=encoding, errors=errors) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        next_to.replace(path)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written: {why_unwritten(error, path.parent)}. What was there is as "
            "it was."
        ) from None
    finally:
        with suppress(OSError):
            next_to.unlink(missing_ok=True)


def put_in_place(made: Path, folder: Path) -> None:
    """Rename a folder that is whole to where it belongs; what lay there is deleted after that.

    Raises:
        OSError: It cannot be renamed.
    """
    before = folder.with_name(f".{folder.name}.before.partial")
    if folder.exists():
        shutil.rmtree(before, ignore_errors=True)  # of a process that was killed below
        folder.rename(before)
    made.rename(folder)
    shutil.rmtree(before, ignore_errors=True)


def refuse_unwritable(path: Path) -> None:
    """Make the folder of a file that will be written later.

    Raises:
        RunError: It cannot be made or written into, or the path is a folder itself.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error}.") from None
    if path.is_dir():
        raise RunError(f"{path}: must be a file, but it is a folder.")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with written_whole(path) as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")


def hash_of(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values, as hex digits."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def write_csv(file: IO[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV with a line of names, and no cell that a spreadsheet would compute.

    Texts may come from strangers' files: one that begins as a formula does gets an apostrophe in
    front, unless it is a number.
    """

    def cell(value: Any) -> Any:
        text = value if isinstance(value, str) else ""
        if not text.startswith(_FORMULA):
            return value
        with suppress(ValueError):  # a number computes nothing
            float(text)
            return value
        return f"'{text}"

    writer = csv.DictWriter(file, [*map(cell, columns)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({cell(key): cell(value) for key, value in row.items()} for row in rows)


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
