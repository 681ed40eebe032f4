"""What all of `latentcot data make …` do: check, make with a progress bar, write a folder."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from latentcot.data.examples import Example
from latentcot.errors import DataError
from latentcot.utils.files import write_json

FORMAT_VERSION = 1
"""Of data.json."""
Splits = dict[str, list[Example]]


@dataclass(frozen=True)
class Maker:
    """How the data of one task is made and written.

    Attributes:
        task: As recipes name it.
        make_splits: (options, sizes, seed, on_progress) → examples of each split.
        write: (path, examples) → one file.
        ending: Of these files.
    """

    task: str
    make_splits: Callable[[Any, Mapping[str, int], int, Callable[[int], None] | None], Splits]
    write: Callable[[Path, list[Example]], None]
    ending: str = "jsonl"


def make_folder(
    maker: Maker, options: Any, sizes: dict[str, int], seed: int, out: Path, *, overwrite: bool
) -> Splits:
    """Make all splits and write them; return them.

    Raises:
        DataError: A size is below 1, or the folder holds something.
    """
    from latentcot.utils.display import progress_bar

    _check_sizes(sizes)
    _check_folder(out, overwrite)
    with progress_bar("examples", sum(sizes.values())) as advance:
        splits = maker.make_splits(options, sizes, seed, advance)
    _write_folder(maker, out, splits, options, seed)
    return splits


def _check_sizes(sizes: dict[str, int]) -> None:
    wrong = [f"--{split} {size}" for split, size in sizes.items() if size < 1]
    if wrong:
        raise DataError(f"data make: every split needs at least 1 example, got {', '.join(wrong)}.")


def _check_folder(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file, but --out must be a folder. Choose another.")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise DataError(
            f"{out}: is not empty. Choose another folder, or replace its data with --overwrite."
        )


def _write_folder(maker: Maker, out: Path, splits: Splits, options: Any, seed: int) -> None:
    """Write one file a split, then data.json, which says how to make them again."""
    # While an old data.json stands beside new files, it would vouch for the wrong bytes.
    (out / "data.json").unlink(missing_ok=True)
    digests = {}
    for split, examples in splits.items():
        path = out / f"{split}.{maker.ending}"
        maker.write(path, examples)
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {
        "format_version": FORMAT_VERSION,
        "task": maker.task,
        "options": asdict(options),
        "seed": seed,
        "counts": {split: len(examples) for split, examples in splits.items()},
        "sha256": digests,
        "latentcot": _own_version(),
    }
    write_json(out / "data.json", about)


def _own_version() -> str | None:
    try:
        return version("latentcot")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return None
