"""`latentcot data`: make data sets, look at what a data file holds, write it in another rendering.

    latentcot data make prosqa --out data/prosqa --train 17886 --valid 300 --test 500
    latentcot data make prontoqa --out data/prontoqa
    latentcot data make arithmetic --out data/arithmetic
    latentcot data stats data/prosqa/test.jsonl
    latentcot data render prosqa_valid.json --out data/official.jsonl

Errors are `LatentcotError`s; `cli.py` prints them and exits with 2.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from latentcot.cli.making import Maker, make_folder
from latentcot.cli.rendering import render
from latentcot.data.examples import read_examples, write_examples

data = App(name="data", help="Make data sets, and look at what a data file holds.")
make = App(name="make", help="Make the train, valid and test files of a task.")
data.command(make)
data.command(render)

Flag = Annotated[bool, Parameter(negative="")]
MOST_SHOWN = 20_000
"""Examples of a split whose statistics are shown when it has been made."""


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
        layers: two-family: layers of nodes below each root; also the number of hops.
        width: two-family: nodes of a layer, in each family.
        family_nodes: two-family: nodes below each root, spread over the layers at random.
        joins: two-family: nodes of each family with a second parent.
        min_depth: two-family: candidates in a layer drawn from here on, not always in the last.
        shared: two-family: dead ends that hang from both families.
        shallower: two-family: share of the training examples (0 … 1) with fewer layers.
        two_family: paper, symbols: share of the training examples (0 … 1) that are small two-family
            graphs with random ids, so that edges have to be read.
        separator: symbols: "|" after each edge.
        joined: symbols: one token an edge, "3>7"; without bars.
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
    width: int | None = None
    family_nodes: int | None = None
    joins: int | None = None
    min_depth: int | None = None
    shared: int | None = None
    shallower: float | None = None
    two_family: float | None = None
    separator: bool | None = None
    joined: bool | None = None
    ids: Literal["creation", "random"] | None = None
    num_symbols: int | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ProntoqaKnobs:
    """Fields of `ProntoqaOptions`; None leaves them as they are.

    Attributes:
        hops: rules to apply one after the other; the last is about a property.
        min_hops: fewest hops, if their number is to vary.
        distractors: further concepts that each concept of the chain belongs to.
        decoy: lone (official; gives the answer away) or twin (a second chain of the same shape).
        negation: whether properties that are not asked about may be negated.
        negated_queries: whether half of the queries say "not".
        order: random, or forward (the rules of a chain in the order of their use).
        wording: official sentences, or short ones for small models.
        num_concepts: how many names concepts are drawn from.
    """

    hops: int | None = None
    min_hops: int | None = None
    distractors: int | None = None
    decoy: Literal["lone", "twin"] | None = None
    negation: bool | None = None
    negated_queries: bool | None = None
    order: Literal["random", "forward"] | None = None
    wording: Literal["official", "short"] | None = None
    num_concepts: int | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ArithmeticKnobs:
    """Fields of `ArithmeticOptions`; None leaves them as they are.

    Attributes:
        min_steps: fewest steps of a problem.
        max_steps: most steps, up to 8; each number in between is equally likely.
        max_number: the largest number anywhere.
        operations: some of + - * /, written together.
        wording: story (many templates) or short (few words, for small models).
        shape: mixed, or chain (each step has the result before it and one new number).
    """

    min_steps: int | None = None
    max_steps: int | None = None
    max_number: int | None = None
    operations: str | None = None
    wording: Literal["story", "short"] | None = None
    shape: Literal["mixed", "chain"] | None = None


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
    overwrite: Flag = False,
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
    from latentcot.tasks.prosqa.generator import make_splits
    from latentcot.tasks.prosqa.options import options_named

    maker = Maker("prosqa", make_splits, write_examples)
    options = options_named(preset, **asdict(knobs or ProsqaKnobs()))
    sizes = {"train": train, "valid": valid, "test": test}
    _make(maker, f"ProsQA in {out}", options, sizes, seed, out, overwrite)


@make.command
def prontoqa(
    *,
    out: Path,
    train: int = 9_000,
    valid: int = 200,
    test: int = 800,
    seed: int = 0,
    knobs: ProntoqaKnobs | None = None,
    overwrite: Flag = False,
) -> None:
    """Make ProntoQA: true or false, by a chain of rules. Files of the official form and sizes.

    Args:
        out: Folder for train.json, valid.json, test.json and data.json.
        train: Number of training examples.
        valid: Number of validation examples.
        test: Number of test examples.
        seed: Same seed and options, same bytes.
        knobs: What differs from the official 5-hop data.
        overwrite: Replace the files of an earlier run.
    """
    from latentcot.tasks.prontoqa.generator import make_splits, write_official
    from latentcot.tasks.prontoqa.options import ProntoqaOptions

    maker = Maker("prontoqa", make_splits, write_official, ending="json")
    options = ProntoqaOptions(**_given(knobs or ProntoqaKnobs()))
    sizes = {"train": train, "valid": valid, "test": test}
    _make(maker, f"ProntoQA in {out}", options, sizes, seed, out, overwrite)


@make.command
def arithmetic(
    *,
    out: Path,
    train: int = 100_000,
    valid: int = 500,
    test: int = 1_319,
    seed: int = 0,
    knobs: ArithmeticKnobs | None = None,
    overwrite: Flag = False,
) -> None:
    """Make word problems in the form of GSM8k-Aug: an offline stand-in for it.

    Args:
        out: Folder for train.txt, valid.txt, test.txt (iCoT text) and data.json.
        train: Number of training examples.
        valid: Number of validation examples.
        test: Number of test examples.
        seed: Same seed and options, same bytes.
        knobs: What differs from 1 to 8 steps of + - * / up to 10,000.
        overwrite: Replace the files of an earlier run.
    """
    from latentcot.tasks.arithmetic.generator import make_splits, write_icot
    from latentcot.tasks.arithmetic.options import ArithmeticOptions

    maker = Maker("gsm8k", make_splits, write_icot, ending="txt")
    options = ArithmeticOptions(**_given(knobs or ArithmeticKnobs()))
    sizes = {"train": train, "valid": valid, "test": test}
    _make(maker, f"Arithmetic in {out}", options, sizes, seed, out, overwrite)


@data.command
def stats(file: str, *, as_json: Annotated[bool, Parameter("--json", negative="")] = False) -> None:
    """Show what a file holds: sizes, lengths of chains, and what gives the answer away.

    Args:
        file: ProsQA, ProntoQA or GSM8k, in any form that can be read, or hub:NAME:SPLIT.
        as_json: Print JSON instead of a table.
    """
    from latentcot.cli.data_tables import as_values, print_statistics, statistics_of

    found = statistics_of(read_examples(file))
    if as_json:
        sys.stdout.write(json.dumps(as_values(found), indent=1) + "\n")
    else:
        print_statistics(file, {Path(file).name: found})


def _given(knobs: Any) -> dict[str, Any]:
    """Return the fields that were given."""
    return {name: value for name, value in asdict(knobs).items() if value is not None}


def _make(
    maker: Maker,
    title: str,
    options: Any,
    sizes: dict[str, int],
    seed: int,
    out: Path,
    overwrite: bool,
) -> None:
    from latentcot.cli.data_tables import print_statistics, statistics_of

    splits = make_folder(maker, options, sizes, seed, out, overwrite=overwrite)
    # Of many they take longer than making them; `latentcot data stats` shows all.
    shown = {_column(name, split): split[:MOST_SHOWN] for name, split in splits.items()}
    print_statistics(title, {name: statistics_of(split) for name, split in shown.items()})


def _column(name: str, split: Sequence[Any]) -> str:
    return name if len(split) <= MOST_SHOWN else f"{name}, first {MOST_SHOWN:,}"
