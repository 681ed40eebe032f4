"""A study file: tasks × methods × seeds, and a recipe for each cell.

`read_study` reads the file, `cells_of` makes the recipes, `selected` picks some of the cells. What
becomes of them is in `folder.py`; docs/studies.md explains the keys.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from latentcot.errors import RecipeError, UsageError, did_you_mean
from latentcot.evaluation.comparison import evaluation_name
from latentcot.recipes.recipe import Count, Positive, Recipe, make_recipe
from latentcot.recipes.values import exists, flat, read_values, read_yaml, set_key
from latentcot.utils.parsing import MAX_NAME, is_plain_name, named, shown
from latentcot.utils.problems import Form, at_most, explain_all, listed

METHOD = "{method}"
"""In the name of a recipe."""
_NOT_OF_RECIPES = ("recipe", "resources")
"""Keys of a task or a method that are no keys of its recipes."""


def _methods(value: Any) -> Any:
    """Turn `[cot, icot: {KEY: VALUE}]` into a mapping: name → what differs."""
    if not isinstance(value, list):
        raise ValueError(
            f"must be a list of names, or of NAME: {{KEY: VALUE}}, got {shown(value)}."
        )
    items = [{item: {}} if isinstance(item, str) else item for item in value]
    for item in items:
        if not isinstance(item, dict) or len(item) != 1:
            raise ValueError(f"must be names, or one NAME: {{KEY: VALUE}} each, got {shown(item)}.")
    names = [name for item in items for name in item]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"must name each once, got {_listed(twice)} more than once.")
    return {name: changes or {} for item in items for name, changes in item.items()}


def _tasks(value: Any) -> Any:
    """Let `task: recipe.yaml` stand for `task: {recipe: recipe.yaml}`."""
    if not isinstance(value, dict):
        return value
    tasks = {k: {"recipe": v} if isinstance(v, str) else v for k, v in value.items()}
    wrong = [k for k, v in tasks.items()
             if isinstance(v, dict) and not isinstance(v.get("recipe"), str)]  # fmt: skip
    if wrong:
        raise ValueError(f"{_listed(wrong)}: must be a recipe file, or hold the key recipe.")
    return tasks


def _fit_for_folders(value: dict[str, Any]) -> dict[str, Any]:
    wrong = [name for name in value if not is_plain_name(name)]
    if wrong:
        raise ValueError(
            f"{', '.join(map(shown, wrong[:5]))}: names a folder, so it must be of letters, "
            f"digits, and - _ . + behind the first, at most {MAX_NAME} characters."
        )
    return value


Named = Annotated[dict[str, dict[str, Any]], AfterValidator(_fit_for_folders)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


@dataclass(frozen=True)
class Asked:
    """The `evaluate:` part of a study."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    batch_size: Count = 100
    """Questions at a time; answers do not depend on it."""
    limit: Count | None = None
    """Ask this many questions of each test file; all if empty."""


@dataclass(frozen=True)
class Resources:
    """The `resources:` part of a study: what Ray reserves for a run."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    cpus: Positive = 1
    """Cores. A run has one thread of its own, whatever this says."""
    gpus: Annotated[float, Field(ge=0, le=1)] | None = None
    """One GPU, none, or a part of one, which several runs then share; if empty one where the
    cluster has any."""
    memory: Annotated[ByteSize, Field(gt=0), AfterValidator(int)] | None = None
    """Bytes, or a text such as 8GB; if empty it is not counted."""


@dataclass(frozen=True)
class Study:
    """What a study file says. Later ones count: `set`, then the task's, then the method's keys."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    tasks: Annotated[Named, BeforeValidator(_tasks), Field(min_length=1)]
    """Name of a row → its recipe; or `{recipe: …, KEY: VALUE}`, where keys of it differ.
    `{method}` in the name of the recipe stands for the method."""
    methods: Annotated[Named, BeforeValidator(_methods), Field(min_length=1)]
    """Methods, or `NAME: {method: …, KEY: VALUE}` for a variant with a name of its own."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = field(default_factory=lambda: [0])
    """A run for each."""
    data: list[str] = field(default_factory=list)
    """What stands behind `latentcot data make`, for data sets that are made first; or behind
    `latentcot data` where it begins with `render`."""
    set: dict[str, Any] = field(default_factory=dict)
    """Keys of all recipes."""
    evaluate: Asked = field(default_factory=Asked)
    """How the test file is asked."""
    baseline: str | None = None
    """The method that the others are compared with at the end."""
    resources: Resources = field(default_factory=Resources)
    """What Ray reserves for a run; a task and a method may hold this key too."""
    max_retries: Annotated[int, Field(ge=0)] = 3
    """On Ray, how often a run is tried again whose process or machine died."""

    @property
    def evaluation(self) -> str:
        """The name of the result file of each run."""
        return evaluation_name(self.evaluate.limit)


_ADAPTER = TypeAdapter(Study)
_FORM = Form("a study", Study, unions={}, inner={"evaluate": Asked, "resources": Resources})
_RESOURCES = TypeAdapter(Resources)


@dataclass(frozen=True)
class Cell:
    """One run of a study: a task, a method, a seed, the recipe that they make, what it needs."""

    task: str
    method: str
    seed: int
    recipe: Recipe
    resources: Resources = field(default_factory=Resources)

    @property
    def name(self) -> str:
        """Its folder, in that of the study."""
        return f"{self.task}/{self.method}/seed-{self.seed}"


def read_study(path: Path) -> Study:
    """Read a study file, and find the recipes that it names next to it.

    Raises:
        RecipeError: With every mistake in it; those of its recipes come with `cells_of`.
    """
    values = read_yaml(path)
    try:
        study = _ADAPTER.validate_python({k: v for k, v in values.items() if v is not None})
    except ValidationError as error:
        raise RecipeError(listed(str(path), explain_all(error.errors(), _FORM))) from None
    problems = []
    if len(set(study.seeds)) < len(study.seeds):
        problems.append(f"seeds: must name each seed once, got {shown(study.seeds)}.")
    places = set[Path]()
    for line in study.data:
        try:
            place = data_folder(line).resolve()
        except ValueError as problem:
            problems.append(f"data: {shown(line)} {problem}")
            continue
        if place in places:
            problems.append(f"data: {shown(line)} names a folder that another line makes.")
        places.add(place)
    if study.baseline is not None and study.baseline not in study.methods:
        problems.append(
            f"baseline: {shown(study.baseline)} is none of the methods of this study."
            f"{did_you_mean(study.baseline, study.methods)} There are: {_listed(study.methods)}."
        )
    if problems:
        raise RecipeError(listed(str(path), problems))
    tasks = {}
    for task, changes in study.tasks.items():
        neighbor = str(path.parent / changes["recipe"])
        tasks[task] = {**changes, "recipe": neighbor} if is_file(neighbor, study) else changes
    return replace(study, tasks=tasks)


def is_file(recipe: str, study: Study) -> bool:
    """Return whether this names a recipe file for one of the methods, and not a packaged one."""
    methods = [_method_of(name, changes) for name, changes in study.methods.items()]
    return any(exists(Path(recipe.replace(METHOD, method))) for method in methods)


def _method_of(name: str, changes: Mapping[str, Any]) -> str:
    """Return the method of a variant, which may be given with its settings."""
    method = changes.get("method", name)
    return str(method.get("name") if isinstance(method, dict) else method)


def data_folder(line: str) -> Path:
    """Return the folder, or the file, that a line of `data:` names.

    Raises:
        ValueError: It names none or several, or asks to replace what is there.
    """
    try:
        words = shlex.split(line)
    except ValueError:  # a quotation mark that does not end
        words = []
    given = [(*word.partition("="), after)
             for word, after in zip(words, [*words[1:], ""], strict=False)]  # fmt: skip
    found = [value if is_given else after
             for name, is_given, value, after in given if name == "--out"]  # fmt: skip
    if not any(found):
        raise ValueError("names no folder with --out.")
    if len(found) > 1:
        raise ValueError("names two folders with --out. Give one.")
    if any(name == "--overwrite" for name, *_ in given):
        raise ValueError(
            "holds --overwrite. Leave it out: a study replaces only data that it has begun."
        )
    return Path(found[0])


def cells_of(study: Study) -> list[Cell]:
    """Return all cells, seed by seed, so that there is soon one of each.

    Raises:
        RecipeError: With the problems of all recipes.
    """
    cells, problems = [], []
    for seed, task, method in product(study.seeds, study.tasks, study.methods):
        try:
            of_task, of_method = study.tasks[task], study.methods[method]
            name = _method_of(method, of_method)
            path = of_task["recipe"].replace(METHOD, name)
            # The method first: a recipe may say of it what it says of no other (for_method).
            values = read_values(path, [f"method={name}"])
            parts = [{k: v for k, v in part.items() if k not in _NOT_OF_RECIPES}
                     for part in (of_task, of_method)]  # fmt: skip
            for key, value in chain(flat(study.set), *map(flat, parts)):
                if key == "method":
                    continue  # by its name alone: with the settings that the recipe has for it
                try:
                    set_key(values, key, deepcopy(value))
                except RecipeError as error:
                    raise RecipeError(f"{named(key)}: {error}") from None
            recipe = make_recipe({**values, "seed": seed}, where=path)
            if recipe.data.test is None:
                raise RecipeError(
                    f"{named(path)}: data.test: is missing; a study evaluates every run on it."
                )
            needs = asdict(study.resources)
            for part in (of_task, of_method):
                asked = part.get("resources") or {}
                if not isinstance(asked, dict):
                    raise RecipeError(f"resources: must hold keys and values, got {shown(asked)}.")
                needs |= asked
            try:
                resources = _RESOURCES.validate_python(needs)
            except ValidationError as error:
                form = Form("the resources of a run", Resources, unions={}, inner={})
                raise RecipeError(listed("resources", explain_all(error.errors(), form))) from None
            cells.append(Cell(task, method, seed, recipe, resources))
        except RecipeError as error:
            problems.append(f"{task}/{method}: {error}")
    if problems:
        raise RecipeError("\n".join(at_most(list(dict.fromkeys(problems)), "and {} more")))
    return cells


def selected(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """Return the cells that one of the patterns TASK[/METHOD[/SEED]] fits, in their order.

    Raises:
        UsageError: A pattern fits none.
    """
    for pattern in patterns:
        if not any(_fits(cell, pattern) for cell in cells):
            names = ", ".join(dict.fromkeys(f"{cell.task}/{cell.method}" for cell in cells))
            raise UsageError(
                f"--only: {pattern!r} fits nothing in this study. Give TASK, TASK/METHOD or "
                f"TASK/METHOD/SEED, with * for anything. There are: {names}."
            )
    return [cell for cell in cells
            if not patterns or any(_fits(cell, pattern) for pattern in patterns)]  # fmt: skip


def _fits(cell: Cell, pattern: str) -> bool:
    parts = pattern.split("/")
    names = (cell.task, cell.method, str(cell.seed))
    return len(parts) <= 3 and all(map(fnmatchcase, names, parts))


def _listed(names: Iterable[object]) -> str:
    """Return names for a message, the first ones of many."""
    texts = [named(name) for name in names]
    return ", ".join(texts[:20]) + (f" and {len(texts) - 20} more" if len(texts) > 20 else "")
