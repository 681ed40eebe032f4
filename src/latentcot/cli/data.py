"""`latentcot data`: make data sets, look at what a data file holds, write it in another rendering.

    latentcot data make prosqa --out data/prosqa --train 17886 --valid 300 --test 500
    latentcot data make prontoqa --out data/prontoqa
    latentcot data make arithmetic --out data/arithmetic
    latentcot data stats data/prosqa/test.jsonl
    latentcot data split questions.csv --out data/mine
    latentcot data render prosqa_valid.json --out data/official.jsonl

`data make` has a command for each task whose data can be made, its parameters read off the task's
dataclass of options. Errors are `LatentcotError`s; the command line prints them and exits with 2.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import App, Parameter

from latentcot.data.examples import Example, read_examples, write_examples
from latentcot.data.fields import USUAL, Fields
from latentcot.errors import DataError, MethodError, did_you_mean
from latentcot.tasks import TASKS, Task, load_entry_points, task_named, task_of
from latentcot.tasks.prosqa.rendering import RenderOptions, render_again
from latentcot.tasks.statistics import custom_stats, histogram, rows_of
from latentcot.utils.display import Terminal, put, say
from latentcot.utils.files import write_json
from latentcot.utils.parsing import is_plain_name, parse_json

data = App(name="data", help="Make data sets, and look at what a data file holds.")
# The flags for help are those of its commands: see `_outside`.
make = App(
    name="make",
    usage="Usage: latentcot data make TASK --out FOLDER [OPTIONS]",
    help="Make the train, valid and test files of a task.",
    help_flags=[],
)
data.command(make)

HELP_FLAGS = ("--help", "-h")
Flag = Annotated[bool, Parameter(negative="")]
FORMAT_VERSION = 1
"""Of data.json."""
MOST_SHOWN = 20_000
"""Examples of a split whose statistics are shown when it has been made."""

# --- making -----------------------------------------------------------------------------------


def _add(task: Task) -> None:
    """Add the command that makes the data of a task."""
    if task.options is None or task.name in make:
        return

    def command(*, out: Path, seed: int = 0, overwrite: bool = False, **given: Any) -> None:
        sizes = {split: given.pop(split, size) for split, size in task.sizes.items()}
        _make_folder(task, task.options_of(**given), sizes, seed, out, overwrite=overwrite)

    kinds: dict[str, Any] = {"out": Path, **dict.fromkeys([*task.sizes, "seed"], int)}
    defaults: dict[str, Any] = {**task.sizes, "seed": 0, "overwrite": False}
    if task.presets:
        kinds["preset"] = Literal[tuple(task.presets)]
        defaults["preset"] = next(iter(task.presets))
    # None until given, so that an option that would be ignored can be refused.
    kinds |= {name: hint | None for name, hint in get_type_hints(task.options).items()}
    kinds["overwrite"] = Flag
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if name == "out" else defaults.get(name),
            annotation=kind,
        )
        for name, kind in kinds.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    files = ", ".join(f"{split}.{task.ending}" for split in task.sizes)
    about = [
        f"out: Folder for {files} and data.json.",
        *(f"{split}: Number of examples." for split in task.sizes),
        "seed: Same seed and options, same bytes.",
        f"preset: What the options below are, unless given: {' or '.join(task.presets)}.",
        "overwrite: Replace the files of an earlier run.",
    ]
    options = (inspect.getdoc(task.options) or "").partition("Attributes:\n")[2]
    lines = [
        f"Make data of {task.name}: {task.summary}.",
        "",
        "Args:",
        *(f"    {one}" for one in about),
    ]
    command.__doc__ = "\n".join(lines) + "\n" + options.partition("\n\n")[0]
    make.command(command, name=task.name, help_flags=HELP_FLAGS)


for _task in TASKS.values():
    _add(_task)


@make.default
def _outside(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
) -> Any:
    """Add the tasks that came from outside; then do what was asked for."""
    load_entry_points()
    for task in TASKS.values():
        _add(task)
    if not tokens or tokens[0] in HELP_FLAGS:
        return make.help_print([])
    name = tokens[0]
    if name not in TASKS:
        made = [task.name for task in TASKS.values() if task.make is not None]
        raise MethodError(
            f"task {name!r} does not exist.{did_you_mean(name, made)} Data are made of: "
            f"{', '.join(made)}."
        )
    TASKS[name].options_of()  # or says why not
    return make(tokens, exit_on_error=False, print_error=False)


def _files_made(note: Path) -> set[str]:
    """Return the files that an earlier `data make` has written beside its note."""
    try:
        names = parse_json(note.read_text(encoding="utf-8"))["sha256"]
        return {name for name in names if is_plain_name(name)}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _make_folder(
    task: Task, options: Any, sizes: Mapping[str, int], seed: int, out: Path, *, overwrite: bool
) -> None:
    """Make all splits, write them and data.json, and print their statistics.

    Raises:
        DataError: A size is below 1, or the folder holds something.
    """
    from latentcot.utils.display import progress_bar

    wrong = [f"--{split} {size}" for split, size in sizes.items() if size < 1]
    if wrong:
        raise DataError(f"data make: every split needs at least 1 example, got {', '.join(wrong)}.")
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file, but --out must be a folder. Choose another.")
    if not overwrite and out.is_dir() and any(one.name[0] != "." for one in out.iterdir()):
        raise DataError(
            f"{out}: is not empty. Choose another folder, or replace its data with --overwrite."
        )
    assert task.make is not None
    with progress_bar("examples", sum(sizes.values())) as advance:
        splits = task.make(options, sizes, seed, advance)
    old = _files_made(out / "data.json")
    # While an old data.json stands next to new files, it would vouch for the wrong bytes.
    (out / "data.json").unlink(missing_ok=True)
    for name in old - {f"{split}.{task.ending}" for split in splits}:  # of another task
        (out / name).unlink(missing_ok=True)
    digests = {}
    for split, examples in splits.items():
        path = out / f"{split}.{task.ending}"
        task.write(path, examples)
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        own_version = version("latentcot")
    except PackageNotFoundError:  # run from a source tree that is not installed
        own_version = None
    about = {
        "format_version": FORMAT_VERSION,
        "task": task.name,
        "options": asdict(options),
        "seed": seed,
        "counts": {split: len(examples) for split, examples in splits.items()},
        "sha256": digests,
        "latentcot": own_version,
    }
    write_json(out / "data.json", about)
    # Of many they take longer than making them; `latentcot data stats` shows all.
    columns = {
        split if len(made) <= MOST_SHOWN else f"{split}, first {MOST_SHOWN:,}": made[:MOST_SHOWN]
        for split, made in splits.items()
    }
    _print_statistics(
        f"{task.name} in {out}", {name: task.stats(made) for name, made in columns.items()}
    )


# --- looking ----------------------------------------------------------------------------------


@data.command
def stats(
    file: str,
    /,
    *,
    task: str | None = None,
    fields: Annotated[Fields, Parameter(name="*")] = USUAL,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Show what a file holds: sizes, lengths of chains, and what gives the answer away.

    Args:
        file: Examples in any form that can be read, hub:NAME:SPLIT, or a name of `list data`.
        task: Whose statistics; told by what the file holds if left out.
        fields: How question, steps and answer are found.
        as_json: Print JSON instead of a table.
    """
    examples = read_examples(file, fields=fields)
    if task is not None:
        found = task_named(task).stats(examples)
    else:
        try:
            found = task_of(examples).stats(examples)
        except DataError as error:  # a word or a key of another task, and none of its questions
            say(f"Note: counted as custom data, since {error}")
            found = custom_stats(examples)
    if as_json:
        put(json.dumps(asdict(found), indent=1))
    else:
        _print_statistics(file, {Path(file).name: found})


def _print_statistics(title: str, columns: Mapping[str, Any]) -> None:
    """Print statistics of one task, one column for each file."""
    from rich.table import Table

    table = Table("", *columns, title=title, title_justify="left")
    for row in zip(*map(rows_of, columns.values()), strict=True):
        table.add_row(row[0][0], *[value for _, value in row])
    Terminal().print(table)


# --- splitting ---------------------------------------------------------------------------------


@data.command
def split(
    file: str,
    /,
    *,
    out: Path,
    valid: int | None = None,
    test: int | None = None,
    fields: Annotated[Fields, Parameter(name="*")] = USUAL,
    seed: int = 0,
    overwrite: Flag = False,
) -> None:
    """Split a file of your own into train.jsonl, valid.jsonl and test.jsonl, by chance.

    The same question, however often it stands there, comes into one of the three.

    Args:
        file: Examples in any form that can be read, a folder, or hub:NAME:SPLIT.
        out: Folder for the three files.
        valid: Questions for validation; a tenth, 500 at most, if left out.
        test: Questions for the test; a tenth, 500 at most, if left out.
        fields: How question, steps and answer are found.
        seed: Same seed, same files.
        overwrite: Replace the files of an earlier split.
    """
    by_question: dict[str, list[Example]] = {}
    for example in read_examples(file, fields=fields):
        by_question.setdefault(example.question.strip(), []).append(example)
    count = len(by_question)
    tenth = min(500, max(1, count // 10))
    sizes = {"test": tenth if test is None else test, "valid": tenth if valid is None else valid}
    if min(sizes.values()) < 1 or sum(sizes.values()) >= count:
        raise DataError(
            f"{file}: has {count:,} different questions, which cannot be {sizes['valid']:,} for "
            f"--valid, {sizes['test']:,} for --test, and at least one to train on. Each must be at "
            "least 1."
        )
    files = {name: out / f"{name}.jsonl" for name in ("train", "valid", "test")}
    there = [path for path in files.values() if path.exists()]
    if there and not overwrite:
        raise DataError(f"{there[0]}: exists. Choose another --out, or --overwrite the files.")
    questions = list(by_question)
    Random(seed).shuffle(questions)
    first = sizes["test"] + sizes["valid"]
    parts = {
        "train": questions[first:],
        "valid": questions[sizes["test"] : first],
        "test": questions[: sizes["test"]],
    }
    for name, chosen in parts.items():
        examples = [example for question in chosen for example in by_question[question]]
        write_examples(files[name], examples)
        put(f"{files[name]}: {len(examples):,} examples")


# --- rendering --------------------------------------------------------------------------------


@data.command
def render(
    file: str,
    /,
    *,
    out: Path,
    options: Annotated[RenderOptions, Parameter(name="*")] = RenderOptions(),  # noqa: B008 - frozen
    seed: int = 0,
    overwrite: Flag = False,
) -> None:
    """Write the questions of a ProsQA file in the other rendering, words or symbols.

    Graphs, chains, candidates, their order and the ids of the examples stay as they are.

    Args:
        file: ProsQA, official or ours, in words or symbols, or hub:NAME:SPLIT.
        out: The JSON Lines file to write.
        options: What they are to look like.
        seed: Same seed, same bytes: of random ids, of names in words, of shuffled edges.
        overwrite: Replace the file OUT.
    """
    if out.is_dir():
        raise DataError(f"{out}: is a folder, but --out must be a file. Choose another.")
    if out.exists() and not overwrite:
        raise DataError(f"{out}: exists. Choose another file, or replace it with --overwrite.")
    examples = read_examples(file)
    try:
        examples = render_again(examples, options, seed)
    except DataError as error:  # knows the example, but not the file
        raise DataError(f"{file}: {error}") from None
    write_examples(out, examples)

    # What a model must have been trained on to answer these questions.
    names = {name for example in examples for name in example.meta["idx_to_symbol"]}
    steps = histogram(len(example.steps) for example in examples)
    nodes, edges = (
        sorted(len(example.meta[key]) for example in examples) for key in ("idx_to_symbol", "edges")
    )
    numbers = sorted(map(int, names)) if options.rendering == "symbols" else []
    put(f"{file} → {out}")
    put(f"  questions  {len(examples):,}, in {options.rendering}")
    put(f"  steps      {', '.join(f'{length}: {count}' for length, count in steps.items())}")
    put(f"  nodes      {nodes[0]} to {nodes[-1]}")
    put(f"  edges      {edges[0]} to {edges[-1]}")
    put(f"  names      {len(names)}{f', {numbers[0]} to {numbers[-1]}' if numbers else ''}")
