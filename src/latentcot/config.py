"""Recipes: a YAML file with only what differs from the defaults.

`read_recipe` reads one, applies overrides and reports all mistakes in one message. The parts
`curriculum:` and `model:` are described where they are used, in `stages.py` and `backbones.py`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from latentcot.backbones import FreshModel
from latentcot.errors import LatentcotError, RecipeError, did_you_mean
from latentcot.layout import LayoutRules, MarkerIds, Template
from latentcot.methods import method_named
from latentcot.stages import Curriculum
from latentcot.tasks import task_named

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Data:
    """The `data:` part of a recipe: files in any format of docs/data-format.md."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    train: str
    """Training examples."""
    valid: str
    """Examples on which the best checkpoint is chosen."""
    test: str | None = None
    """Examples for `latentcot eval`; never looked at in training."""
    max_train: Count | None = None
    """Use this many training examples at most, from the beginning of the file."""
    max_valid: Count | None = None
    """Use this many validation examples at most."""


@dataclass(frozen=True)
class Training:
    """The `training:` part of a recipe."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    epochs: Positive | None = 50
    """Length of the whole training; leave empty to use `max_updates` alone."""
    max_updates: Count | None = None
    """Updates at most."""
    batch_size: Count = 128
    """Examples of one update, over all devices and micro-batches."""
    micro_batch_size: Count | None = None
    """Examples that go through the model at once on one device; all of them if empty."""
    learning_rate: Positive = 1e-4
    """Peak learning rate of AdamW."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    """AdamW's decay rates."""
    weight_decay: NotNegative = 0.01
    """AdamW's weight decay, on all weights as in the paper."""
    max_grad_norm: Positive | None = None
    """Clip the gradient's norm to this; no clipping if empty."""
    warmup_updates: Annotated[int, Field(ge=0)] = 0
    """Updates over which the learning rate rises from 0; anew after an optimizer restart."""
    decay_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of all updates, at the end, over which the learning rate falls linearly."""
    final_learning_rate_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Where it falls to, as a share of the peak."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Autocast precision."""
    validate_every: Count | None = None
    """Updates between validations; once an epoch if empty. Each phase ends with one too."""
    save_every: Count | None = None
    """Write a checkpoint after this many updates too."""
    log_every: Count = 10
    """Updates between two rows of metrics.jsonl."""


@dataclass(frozen=True)
class Generation:
    """The `generation:` part of a recipe: how answers are read off."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    max_new_tokens: Count = 64
    """Words at most, the end of text included."""
    batch_size: Count = 100
    """Questions at a time."""


def _known(find: Callable[[str], object]) -> Callable[[str], str]:
    """Make a validator of a function that raises for a name that does not exist."""

    def check(name: str) -> str:
        try:
            find(name)
        except LatentcotError as error:
            raise ValueError(str(error)) from None
        return name

    return check


@dataclass(frozen=True)
class Recipe:
    """Everything that one training run depends on."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    data: Data
    """Files."""
    method: Annotated[str, AfterValidator(_known(method_named))] = "coconut"
    """A row of the method table: `latentcot list methods`."""
    task: Annotated[str, AfterValidator(_known(task_named))] = "prosqa"
    """How answers are read and scored: `latentcot list tasks`."""
    model: str | FreshModel = "openai-community/gpt2"
    """A hub id, a folder, or the settings of a model made from scratch."""
    markers_start_from: str = "<<"
    """The token whose embedding and output row the markers of a pretrained model start from."""
    template: Template = field(default_factory=Template)
    """The text between question, steps and answer."""
    curriculum: Curriculum = field(default_factory=Curriculum)
    """Stages and thoughts."""
    training: Training = field(default_factory=Training)
    """Optimizer, batches, precision."""
    generation: Generation = field(default_factory=Generation)
    """How answers are read off."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Draws the fresh weights, the order of the data and the stage mixing."""

    def layout_rules(self, markers: MarkerIds) -> LayoutRules:
        """Return what `layout.py` needs to know of this recipe."""
        return LayoutRules(
            markers=markers,
            num_stages=self.curriculum.num_stages,
            thoughts_per_step=self.curriculum.thoughts_per_step,
            pad_to_num_stages=self.curriculum.pad_to_num_stages,
            zero_thoughts=self.curriculum.zero_thoughts,
        )


_ADAPTER = TypeAdapter(Recipe)
_PARTS = ("template", "curriculum", "training", "generation")  # may be named and left empty


def read_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply overrides of the form `training.learning_rate=3e-4`.

    Raises:
        RecipeError: With every mistake in the fields; what several fields together tell comes
            once each of them is right.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe. See docs/recipes.md.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecipeError(f"{path}: is not YAML: {error}") from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: must hold keys and values, got {type(values).__name__}.")
    for override in overrides:
        _apply(values, override)
    return make_recipe(values, where=str(path))


def make_recipe(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Check values against the fields of `Recipe`, and what only several fields together tell.

    Raises:
        RecipeError: With every mistake.
    """
    given = {key: value for key, value in values.items() if value is not None or key not in _PARTS}
    try:
        recipe = _ADAPTER.validate_python(given)
    except ValidationError as error:
        raise RecipeError(_listed(where, _explain_all(error.errors()))) from None
    problems = _across_fields(recipe)
    if problems:
        raise RecipeError(_listed(where, problems))
    return recipe


def write_recipe(recipe: Recipe) -> str:
    """Return the fully resolved recipe as YAML."""
    return yaml.safe_dump(
        _ADAPTER.dump_python(recipe, mode="json"), sort_keys=False, allow_unicode=True
    )


def _apply(values: dict[str, Any], override: str) -> None:
    key, is_given, text = override.partition("=")
    if not is_given or not key.strip():
        raise RecipeError(f"override {override!r}: must be KEY=VALUE, like training.batch_size=64.")
    *parents, last = key.strip().split(".")
    for parent in parents:
        inner = values[parent] = values.get(parent) or {}
        if not isinstance(inner, dict):
            raise RecipeError(f"override {override!r}: {parent} holds a value, not keys.")
        values = inner
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError:  # such as <<, which YAML keeps for itself
        values[last] = text


def _across_fields(recipe: Recipe) -> list[str]:
    problems = []
    training, curriculum = recipe.training, recipe.curriculum
    if not recipe.template.answer_start.strip():
        problems.append(
            "template.answer_start: must hold a word or sign, by which answers are found, got "
            f"{recipe.template.answer_start!r}."
        )
    if training.epochs is None and training.max_updates is None:
        problems.append("training: needs epochs or max_updates, both are empty.")
    if (training.micro_batch_size or 1) > training.batch_size:
        problems.append(
            f"training.micro_batch_size: must not exceed batch_size {training.batch_size}, got "
            f"{training.micro_batch_size}."
        )
    for name in ("learned_below", "max_updates_per_stage"):
        value = getattr(curriculum, name)
        needed = curriculum.num_phases - 1
        if isinstance(value, list) and len(value) != needed:
            problems.append(
                f"curriculum.{name}: a list needs one value for each phase but the last, that is "
                f"{needed}, got {len(value)}."
            )
    return problems


_UNIONS = {
    "model": "a hub id, a folder, or the settings of a fresh model",
    "learned_below": "a number above 0, or a list with one for each phase but the last",
    "max_updates_per_stage": "a number of updates, or a list with one for each phase but the last",
}
"""Fields that take one thing or another, and what they take."""


def _explain_all(problems: Sequence[Any]) -> list[str]:
    """Put pydantic's problems into the recipe's words, one for each mistake."""
    explained: dict[str, str] = {}
    for problem in problems:
        place, is_inside = _place(problem)
        where = ".".join(place)
        if is_inside or where not in explained:
            explained[where] = _explain(problem, place, is_inside)
    # A value inside a union is complained about by its other branch too, for the whole of it.
    inner = {where.rpartition(".")[0] for where in explained}
    return [
        text
        for where, text in explained.items()
        if not (where.rpartition(".")[2] in _UNIONS and where in inner)
    ]


def _place(problem: Any) -> tuple[list[str], bool]:
    """Return where a problem is in the recipe, and whether it is no other branch's business.

    pydantic puts the branch that it tried behind the name of a union: that is left out.
    """
    place: list[str] = []
    branch = ""
    for part in problem["loc"]:
        if place and place[-1] in _UNIONS and not branch and isinstance(part, str):
            branch = part
        else:
            place.append(str(part))
    return place, not branch or place[-1] not in _UNIONS


def _explain(problem: Any, place: Sequence[str], is_inside: bool) -> str:
    where = ".".join(place)
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        allowed = _fields_at(place[:-1])
        return (
            f"{where}: is not a key of a recipe.{did_you_mean(place[-1], allowed)} "
            f"There are: {', '.join(allowed)}."
        )
    if problem["type"] == "missing":
        return f"{where}: is missing."
    if not is_inside:
        return f"{where}: must be {_UNIONS[place[-1]]}, got {problem['input']!r}."
    message = problem["msg"].removeprefix("Value error, ")
    shown = "" if problem["type"] == "value_error" else f", got {problem['input']!r}."
    return f"{where}: {message[0].lower()}{message[1:]}{shown}"


def _fields_at(place: Sequence[str]) -> list[str]:
    owner: Any = Recipe
    for part in place:
        if part == "model":
            owner = FreshModel
        elif dataclasses.is_dataclass(owner):
            kinds = {f.name: f.type for f in dataclasses.fields(owner)}
            owner = kinds.get(part, owner)
    return [f.name for f in dataclasses.fields(owner)] if dataclasses.is_dataclass(owner) else []


def _listed(where: str, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    return "\n".join([f"{where}: {len(problems)} problems", *(f"  - {p}" for p in problems)])
