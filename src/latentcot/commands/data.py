"""`latentcot data`: make data sets, and look at what a data file holds.

    latentcot data make prosqa --out data/prosqa --train 17886 --valid 300 --test 500
    latentcot data make prosqa --out data/two-family --preset two-family
    latentcot data stats data/prosqa/test.jsonl

Errors are `LatentcotError`s; `cli.py` prints them and exits with 2.
"""

import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from latentcot.errors import DataError
from latentcot.examples import Example, read_examples, write_examples
from latentcot.files import write_json

if TYPE_CHECKING:
    from latentcot.tasks.graph_stats import GraphStats
    from latentcot.tasks.prosqa_options import ProsqaOptions

data = App(name="data", help="Make data sets, and look at what a data file holds.")
make = App(name="make", help="Make the train, valid and test files of a task.")
data.command(make)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ProsqaKnobs:
    """Fields of `ProsqaOptions` that change the preset; None leaves them as they are.

    Attributes:
        rendering: words (official wording) or symbols (one token a node).
        min_nodes: paper: fewest nodes drawn; those left without an edge are dropped.
        max_nodes: paper: most nodes drawn.
        min_hops: paper: fewest edges on the shortest path from root to target.
        max_hops: paper: most edges on it.
        mean_in_degree: paper: mean number of parents drawn for a node.
        candidates: paper: official (the deeper is nearly always the answer) or balanced.
        layers: two-family: layers of two nodes below each root; also the number of hops.
        shared: two-family: dead ends that hang from both families.
        shallower: two-family: share of the training examples (0 … 1) with fewer layers.
        separator: symbols: "|" after each edge.
        ids: symbols: numbers in order of creation, or drawn at random for each example.
        num_symbols: symbols: how many numbers random ids are drawn from.
    """

    rendering: Literal["words", "symbols"] | None = None
    min_nodes: int | None = None
    max_nodes: int | None = None
    min_hops: int | None = None
    max_hops: int | None = None
    mean_in_degree: float | None = None
    candidates: Literal["official", "balanced"] | None = None
    layers: int | None = None
    shared: int | None = None
    shallower: float | None = None
    separator: bool | None = None
    ids: Literal["creation", "random"] | None = None
    num_symbols: int | None = None


@make.command
def prosqa(
    *,
    out: Path,
    train: int = 17_886,
    valid: int = 300,
    test: int = 500,
    seed: int = 0,
    preset: Literal["paper", "two-family"] = "paper",
    knobs: ProsqaKnobs | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Make ProsQA: paths in a graph of concepts. The default sizes are the official ones.

    Args:
        out: Folder for train.jsonl, valid.jsonl, test.jsonl and data.json.
        train: Number of training examples.
        valid: Number of validation examples.
        test: Number of test examples.
        seed: Same seed and options, same bytes.
        preset: paper (official construction, words) or two-family (symmetric, symbols).
        knobs: What differs from the preset.
        overwrite: Replace the files of an earlier run.
    """
    from latentcot.tasks.graph_stats import graph_stats
    from latentcot.tasks.prosqa_options import options_named

    options = options_named(preset, **asdict(knobs or ProsqaKnobs()))
    sizes = {"train": train, "valid": valid, "test": test}
    _check_sizes(sizes)
    _check_folder(out, overwrite)
    splits = _make_with_progress(options, sizes, seed)
    _write_folder(out, splits, options, seed)
    _print_table(f"ProsQA in {out}", {name: graph_stats(split) for name, split in splits.items()})


@data.command
def stats(
    file: Path, *, as_json: Annotated[bool, Parameter("--json", negative="")] = False
) -> None:
    """Show what a ProsQA file holds: sizes, hops, and what gives the answer away.

    Args:
        file: Our JSON Lines, or the official JSON as it is.
        as_json: Print JSON instead of a table.
    """
    from latentcot.tasks.graph_stats import graph_stats

    found = graph_stats(read_examples(file))
    if as_json:
        sys.stdout.write(json.dumps(asdict(found), indent=1) + "\n")
    else:
        _print_table(str(file), {file.name: found})


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


def _make_with_progress(
    options: "ProsqaOptions", sizes: dict[str, int], seed: int
) -> dict[str, list[Example]]:
    from latentcot.display import progress_bar
    from latentcot.tasks.prosqa import make_splits

    with progress_bar("graphs", sum(sizes.values())) as advance:
        return make_splits(options, sizes, seed, advance)


def _write_folder(
    out: Path, splits: dict[str, list[Example]], options: "ProsqaOptions", seed: int
) -> None:
    """Write one file a split, then data.json, which says how to make them again."""
    # While an old data.json stands beside new files, it would vouch for the wrong bytes.
    (out / "data.json").unlink(missing_ok=True)
    digests = {}
    for split, examples in splits.items():
        path = out / f"{split}.jsonl"
        write_examples(path, examples)
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {
        "task": "prosqa",
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


def _print_table(title: str, columns: "dict[str, GraphStats]") -> None:
    """Print statistics to standard output, one column for each file."""
    from rich.console import Console
    from rich.table import Table

    table = Table("", *columns, title=title, title_justify="left")
    for row in zip(*map(_rows, columns.values()), strict=True):
        table.add_row(row[0][0], *[value for _, value in row])
    Console().print(table)


def _rows(stats: "GraphStats") -> list[tuple[str, str]]:
    """Return (what, value) as a person reads them; mean ± standard deviation."""
    spread = {
        "nodes": stats.nodes,
        "edges": stats.edges,
        "hops": stats.hops,
        "shortest paths": stats.shortest_paths,
    }
    shares = {
        "chain is a shortest path": stats.share_gold_shortest,
        "distractor reachable": stats.share_distractor_reachable,
        "answer named first": stats.share_answer_first,
        "right by taking the deeper": stats.accuracy_deeper_candidate,
    }
    return [
        ("examples", f"{stats.num_examples:,}"),
        *((name, f"{value.mean:.2f} ± {value.sd:.2f}") for name, value in spread.items()),
        ("hops: examples", ", ".join(f"{h}: {n}" for h, n in stats.hop_histogram.items())),
        *((name, f"{share:.1%}") for name, share in shares.items()),
    ]
