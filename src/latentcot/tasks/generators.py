"""What all generators of data share: options that check themselves, and splits without a clash.

`fill_splits` makes small splits first, each from its own stream of random numbers, so that a larger
training split leaves validation and test as they are. docs/data-format.md shows a task made so.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from random import Random
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from latentcot.data.examples import Example
from latentcot.errors import DataError, RecipeError, did_you_mean

MAX_CLASHES = 1_000
"""Draws in a row that all exist already before a generator gives up."""
PROGRESS_BLOCK = 100
"""Examples between two calls of `on_progress`: a progress bar moved for each takes longer."""

Splits = dict[str, list[Example]]
Progress = Callable[[int], None]
New = Callable[[Callable[[], Any], Callable[[Any], Hashable]], Any]
"""(drawn, key) → what `drawn` returns once it is in no split yet; with equal keys two are one."""

# --- options ----------------------------------------------------------------------------------


class Range(NamedTuple):
    """The numbers that an option may be: from `least` to `most`, or above `least` if it is open."""

    least: float
    most: float | None = None
    is_open: bool = False


def check(task: str, options: Any, problems: Iterable[str] = ()) -> None:
    """Hold each option against its type.

    Args:
        task: What the message calls it.
        options: A dataclass whose fields are choices (`Literal`), flags, texts, or numbers with an
            `Annotated` `Range`; each may be None if its type says so.
        problems: Further ones of single fields.

    Raises:
        RecipeError: With all problems at once.
    """
    found = []
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        value = getattr(options, name)
        hint, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        kinds = (hint,) if get_origin(hint) is Literal else get_args(hint) or (hint,)
        if value is None and type(None) in kinds:
            continue
        kind, must = kinds[0], ""
        if get_origin(kind) is Literal and value not in get_args(kind):
            must = f"be one of {', '.join(get_args(kind))}"
        elif kind is bool and type(value) is not bool:
            must = "be true or false"
        elif notes:
            [(least, most, is_open)] = notes
            is_number = type(value) is int or (kind is float and type(value) is float)
            is_above = is_number and (value > least if is_open else value >= least)
            if not is_above or (most is not None and value > most):
                span = f"of at least {least}" if most is None else f"from {least} to {most}"
                span = f"above {least} and at most {most}" if is_open else span
                must = f"be {'a whole number' if kind is int else 'a number'} {span}"
        if must:
            found.append(f"{name} must {must}, got {value!r}.")
    refuse(task, [*found, *problems])


def refuse(task: str, problems: Sequence[str]) -> None:
    """Raise one error for all problems of a generator's options, if there are any.

    Raises:
        RecipeError: With all of them.
    """
    if problems:
        raise RecipeError(f"{task} options:\n" + "\n".join(f"- {one}" for one in problems))


def chosen(
    task: str,
    presets: Mapping[str, Any],
    preset: str | None,
    changes: Mapping[str, Any],
) -> Any:
    """Return a preset, the first if none is named, with some fields changed.

    Args:
        task: What the message calls it.
        presets: By name. Options that have a method `refuse_ignored` (names of the fields that were
            given → None) are asked whether all of these have an effect.
        preset: One of the names.
        changes: To its fields; None is no change.

    Raises:
        RecipeError: No such preset or field, a wrong value, or a field that would be ignored.
    """
    preset = next(iter(presets)) if preset is None else preset
    if preset not in presets:
        raise RecipeError(
            f"{task} preset {preset!r} does not exist.{did_you_mean(preset, presets)} "
            f"There are: {', '.join(presets)}."
        )
    base = presets[preset]
    changes = {name: value for name, value in changes.items() if value is not None}
    allowed = [field.name for field in fields(base)]
    unknown = [name for name in changes if name not in allowed]
    refuse(task, [f"{one!r} is no option.{did_you_mean(one, allowed)}" for one in unknown])
    options = replace(base, **changes)
    if hasattr(options, "refuse_ignored"):
        options.refuse_ignored(changes)
    return options


# --- splits -----------------------------------------------------------------------------------


def fill_splits(
    task: str,
    sizes: Mapping[str, int],
    seed: int,
    draw: Callable[[Random, str, int, New], Example],
    on_progress: Progress | None = None,
    *,
    things: str = "examples",
    advice: str = "or allow more of them",
) -> Splits:
    """Make the examples of every split.

    Args:
        task: Its name; with seed and split it tells the stream of random numbers.
        sizes: Number of examples of each split.
        seed: Same seed, same examples.
        draw: (stream, split, number, new) → example number 0, 1, … of a split; `new` calls a
            function until what it returns is in no split yet.
        on_progress: Called now and then with the number of examples made since the last call.
        things: What must differ, for the message where there are too few.
        advice: What to do then, besides asking for fewer.

    Raises:
        DataError: `new` has called its function `MAX_CLASHES` times in vain.
    """
    taken: set[Hashable] = set()

    def new(drawn: Callable[[], Any], key: Callable[[Any], Hashable]) -> Any:
        for _ in range(MAX_CLASHES):
            found = drawn()
            identity = key(found)
            if identity not in taken:
                taken.add(identity)
                return found
        raise DataError(
            f"{task} data: after {len(taken)} different {things} {MAX_CLASHES} draws in a row "
            f"brought none that is new, but {sum(sizes.values())} are asked for. Ask for fewer, "
            f"{advice}."
        )

    splits: Splits = {split: [] for split in sizes}
    for split in sorted(sizes, key=lambda name: (sizes[name], name)):
        rng = Random(f"{task}/{seed}/{split}")
        for number in range(sizes[split]):
            splits[split].append(draw(rng, split, number, new))
            if on_progress is not None and (number + 1) % PROGRESS_BLOCK == 0:
                on_progress(PROGRESS_BLOCK)
        if on_progress is not None:
            on_progress(sizes[split] % PROGRESS_BLOCK)
    return splits
