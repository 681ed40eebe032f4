"""`latentcot data render`: the questions of a ProsQA file in the other rendering.

    latentcot data render prosqa_valid.json --out data/official.jsonl --no-separator

So a model that was made from scratch, in symbols, answers the official questions, which are in
words. Errors are `LatentcotError`s; nothing is written then.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from latentcot.data.examples import Example
    from latentcot.tasks.prosqa.rendering import RenderOptions


def render(
    file: str,
    *,
    out: Path,
    rendering: Literal["symbols", "words"] = "symbols",
    ids: Literal["creation", "random"] | None = None,
    separator: bool | None = None,
    joined: bool | None = None,
    num_symbols: int | None = None,
    seed: int = 0,
    shuffle_edges: Annotated[
        bool, Parameter(name="--shuffle-edges", negative="--keep-edges")
    ] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write the questions of a ProsQA file in the other rendering, words or symbols.

    Graphs, chains, candidates, their order and the ids of the examples stay as they are.

    Args:
        file: ProsQA, official or ours, in words or symbols, or hub:NAME:SPLIT.
        out: The JSON Lines file to write.
        rendering: symbols (one token a node) or words (official wording).
        ids: symbols: a node's number in FILE (creation, the default), or drawn at random.
        separator: symbols: "|" after each edge, unless --no-separator: as in training.
        joined: symbols: one token an edge, "3>7"; without bars.
        num_symbols: random ids: how many numbers they are drawn from. As many as the largest graph
            needs, unless given.
        seed: Same seed, same bytes: of random ids, of names in words, of shuffled edges.
        shuffle_edges: Draw the order of edges; else it is that of FILE.
        overwrite: Replace the file OUT.
    """
    from latentcot.data.examples import write_examples
    from latentcot.tasks.prosqa.rendering import RenderOptions

    options = RenderOptions(
        rendering=rendering,
        ids=ids,
        separator=separator,
        joined=joined,
        num_symbols=num_symbols,
        shuffle_edges=shuffle_edges,
    )
    _check_out(out, overwrite)
    examples = _rendered(file, options, seed)
    write_examples(out, examples)
    _print_summary(file, out, rendering, examples)


def _rendered(file: str, options: "RenderOptions", seed: int) -> "list[Example]":
    from latentcot.data.examples import read_examples
    from latentcot.errors import DataError
    from latentcot.tasks.prosqa.rendering import render_anew

    examples = read_examples(file)
    try:
        return render_anew(examples, options, seed)
    except DataError as error:  # knows the example, but not the file
        raise DataError(f"{file}: {error}") from None


def _check_out(out: Path, overwrite: bool) -> None:
    from latentcot.errors import DataError

    if out.is_dir():
        raise DataError(f"{out}: is a folder, but --out must be a file. Choose another.")
    if out.exists() and not overwrite:
        raise DataError(f"{out}: exists. Choose another file, or replace it with --overwrite.")


def _print_summary(file: str, out: Path, rendering: str, examples: Sequence["Example"]) -> None:
    """Print what a model must have been trained on to answer these questions."""
    names = {name for example in examples for name in example.meta["idx_to_symbol"]}
    steps = sorted(Counter(len(example.steps) for example in examples).items())
    print(f"{file} → {out}")
    print(f"  questions  {len(examples):,}, in {rendering}")
    print(f"  steps      {', '.join(f'{length}: {count}' for length, count in steps)}")
    print(f"  nodes      {_range(len(one.meta['idx_to_symbol']) for one in examples)}")
    print(f"  edges      {_range(len(one.meta['edges']) for one in examples)}")
    numbers = f", {_range(map(int, names))}" if rendering == "symbols" else ""
    print(f"  names      {len(names)}{numbers}")


def _range(numbers: Iterable[int]) -> str:
    found = sorted(numbers)
    return f"{found[0]} to {found[-1]}"
