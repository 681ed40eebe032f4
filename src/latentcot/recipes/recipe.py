"""Recipes: a YAML file with only what differs from the defaults.

`read_recipe` reads one, applies overrides and reports all mistakes in one message. The parts
`curriculum:` and `model:` are described in `curriculum/stages.py` and `models/settings.py`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from latentcot.curriculum.layout import LayoutRules, SpecialTokens, Template
from latentcot.curriculum.stages import MOST, Curriculum, Epochs, Few
from latentcot.curriculum.views import Sequential
from latentcot.data.fields import Columns, Fields
from latentcot.data.named import for_key
from latentcot.errors import LatentcotError, RecipeError
from latentcot.methods import method_named
from latentcot.methods.method import Method
from latentcot.models.settings import FromScratch, Lora
from latentcot.recipes.aliases import ELSEWHERE
from latentcot.recipes.values import (
    flat,
    read_values,
    with_defaults_from_scratch,
    with_new_keys,
)
from latentcot.tasks import AnswerMatch, task_named
from latentcot.utils.problems import Form, explain_all, listed

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Split = Annotated[str, Field(min_length=1)]


def _validator(find: Callable[[Any], Any]) -> AfterValidator:
    """Make one of a function that raises for a name that does not exist."""

    def check(name: Any) -> Any:
        try:
            return find(name)
        except LatentcotError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(check)


def _source(key: str) -> AfterValidator:
    """Make a validator of `data.KEY`: the name of a data set gets the split that stands there."""
    return _validator(lambda source: for_key(source, key))


@dataclass(frozen=True)
class Data:
    """The `data:` part of a recipe: files in any format of docs/data-format.md."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    train: Annotated[str, _source("train")]
    """Training examples: a file or folder, hub:NAME:SPLIT, or a name of `latentcot list data`."""
    valid: Annotated[str, _source("valid")]
    """Examples on which the best checkpoint is chosen."""
    test: Annotated[str, _source("test")] | None = None
    """Examples for `latentcot eval`; training only counts how many of them it knows."""
    columns: Columns | None = None
    """Which column is `question`, `steps`, `answer` and `id`; the usual names if empty."""
    steps_split: Split | None = None
    """How a chain that is one text becomes steps: equations, lines, sentences, words, or the text
    between two steps. As docs/data-format.md says if empty."""
    answer_after: Split | None = None
    """The answer is what follows this text in its column, the chain what stands before it; `####`
    if empty."""
    max_train: Count | None = None
    """Use this many training examples at most, from the beginning of the file."""
    max_valid: Count | None = None
    """Use this many validation examples at most."""
    skip_long: bool = False
    """Leave out training examples that are longer than the model has positions, and say how many;
    otherwise one of them is an error. Not with `stream`."""
    stream: bool = False
    """Read training examples while training goes on, for files that do not fit in memory; `train`
    may then be a folder or a pattern of files."""
    shuffle_buffer: Count = 32_768
    """Has no effect: all examples of a stream are shuffled. Recipes of earlier versions have it."""
    num_examples: Count | None = None
    """How many training examples a stream must have; another number is an error."""

    @property
    def fields(self) -> Fields:
        """How question, steps and answer are found in a record."""
        return Fields(self.columns, self.steps_split, self.answer_after)


@dataclass(frozen=True)
class Training:
    """The `training:` part of a recipe."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    epochs: Epochs | None = 50
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
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Autocast precision; what `auto` is on the machine at hand is settled when a run begins."""
    validate_every: Count | None = None
    """Updates between validations; once an epoch if empty. Each phase ends with one too."""
    save_every: Count | None = None
    """Write a checkpoint after this many updates too."""
    save_memory: bool = False
    """Drop what the blocks computed, thoughts included, and compute it again for the gradients."""
    deterministic: bool = False
    """Take only kernels that give the same bits each time; on a CPU all do."""
    diverged_above: Positive | None = None
    """End training when the loss, averaged over some 100 updates, is above this many nats; above
    twice the loss of guessing if empty."""
    log_every: Count = 10
    """Updates between two rows of metrics.jsonl."""
    # A text alone, `report_to: tensorboard`, stands for a list of one.
    report_to: Annotated[
        tuple[str, ...],
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value or []),
    ] = ()
    """Trackers that get the rows of metrics.jsonl too, by their names in accelerate."""

    def num_updates(self, updates_per_epoch: int) -> int:
        """Return how many updates the whole training has."""
        limits = [math.inf if self.max_updates is None else self.max_updates]
        if self.epochs is not None:
            limits.append(max(1, round(self.epochs * updates_per_epoch)))
        return int(min(limits))


@dataclass(frozen=True)
class Stop:
    """The `stop:` part of a recipe; `stop: classifier` is short for `stop: {rule: classifier}`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    rule: Literal["constant", "classifier"] = "constant"
    """How latent mode ends: after the number of thoughts of the layout, or by a classifier."""
    loss_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the classifier's loss beside the language's."""
    max_thoughts: Annotated[int, Field(ge=1)] | None = None
    """The most thoughts that the classifier may take; as many as the last stage has if empty."""


@dataclass(frozen=True)
class Generation:
    """The `generation:` part of a recipe: how answers are read off."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    max_new_tokens: Few = 64
    """Words at most, the end of text included."""
    batch_size: Count = 100
    """Questions at a time."""


# All settings of a method are written out, so that a run knows them whatever the defaults become.
_KnownMethod = Annotated[str | dict[str, Any], _validator(lambda name: method_named(name).choice)]
_KnownTask = Annotated[str | AnswerMatch, _validator(lambda name: task_named(name) and name)]


@dataclass(frozen=True)
class Recipe:
    """Everything that one training run depends on."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    data: Data
    """Files."""
    method: _KnownMethod = "coconut"
    """A name of `latentcot list methods`, or `{name: …}` with settings of the method."""
    task: _KnownTask = "prosqa"
    """How answers are scored: `latentcot list tasks`, or how to match those of your own data."""
    model: str | FromScratch = "openai-community/gpt2"
    """A hub id, a folder, a GGUF file, or the settings of a model made from scratch."""
    special_tokens_start_from: str = "<<"
    """The token whose embedding and output row the special tokens of a pretrained model start
    from."""
    lora: Lora | None = None
    """Train adapters beside the frozen weights of a pretrained model; all weights if empty."""
    template: Template = field(default_factory=Template)
    """The text between question, steps and answer."""
    curriculum: Curriculum = field(default_factory=Curriculum)
    """Stages and thoughts."""
    # A text alone, `stop: classifier`, stands for `stop: {rule: classifier}`.
    stop: Annotated[
        Stop, BeforeValidator(lambda value: {"rule": value} if isinstance(value, str) else value)
    ] = field(default_factory=Stop)
    """When latent mode ends: `constant`, `classifier`, or the settings of these."""
    training: Training = field(default_factory=Training)
    """Optimizer, batches, precision."""
    generation: Generation = field(default_factory=Generation)
    """How answers are read off."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Draws the fresh weights, the order of the data and the stage mixing."""

    @property
    def bound_method(self) -> Method:
        """The method with its settings, and with the stop classifier if there is one."""
        method = method_named(self.method)
        if self.stop.rule != "classifier":
            return method
        from latentcot.methods.stopping import with_stop_classifier  # it loads torch

        return with_stop_classifier(method, self.stop.loss_weight)

    @property
    def method_name(self) -> str:
        """The name of the method alone."""
        return self.method if isinstance(self.method, str) else str(self.method["name"])

    def layout_rules(self, special_tokens: SpecialTokens) -> LayoutRules:
        """Return what `layout.py` needs to know of this recipe."""
        return LayoutRules(
            special_tokens=special_tokens,
            plan=self.curriculum.plan,
            zero_thoughts=self.curriculum.zero_thoughts,
        )


_ADAPTER = TypeAdapter(Recipe)
_UNIONS = {
    "method": "the name of a method, or its name and settings ({name: …, …})",
    "task": "the name of a task, or how to match answers (match: exact, number or regex)",
    "model": "a hub id, a folder, or the settings of a fresh model",
    "question": "the name of a column, or several in a list",
    "learned_below": "a number above 0, or a list with one for each phase but the last",
    "max_updates_per_stage": "a number of updates, or a list with one for each phase but the last",
}
"""Fields that take one thing or another, and what they take."""
_INNER = {
    "model": FromScratch, "task": AnswerMatch, "stop": Stop, "lora": Lora, "columns": Columns,
}  # fmt: skip
_FORM = Form("a recipe", Recipe, _UNIONS, _INNER, ELSEWHERE)
_PARTS = ("template", "curriculum", "stop", "training", "generation")  # may be named and left empty


def read_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides of the form `training.learning_rate=3e-4`.

    Args:
        path: A file, or the name of a recipe that comes with the package.
        overrides: What differs.

    Raises:
        RecipeError: With every mistake in the fields; what several fields together tell comes
            once each of them is right.
    """
    return make_recipe(read_values(path, overrides), where=str(path))


def make_recipe(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Check values against the fields of `Recipe`, and what only several fields together tell.

    Raises:
        RecipeError: With every mistake.
    """
    given = {
        key: value
        for key, value in with_new_keys(values).items()
        if value is not None or key not in _PARTS
    }
    try:
        recipe = _ADAPTER.validate_python(with_defaults_from_scratch(given))
    except ValidationError as error:
        raise RecipeError(listed(where, explain_all(error.errors(), _FORM))) from None
    problems = []  # those that several fields together have
    training, curriculum = recipe.training, recipe.curriculum
    if not recipe.template.answer_start.strip():
        problems.append(
            "template.answer_start: must hold a word or sign, by which answers are found, got "
            f"{recipe.template.answer_start!r}."
        )
    if training.epochs is None and training.max_updates is None:
        problems.append("training: needs epochs or max_updates, both are empty.")
    if recipe.data.skip_long and recipe.data.stream:
        problems.append("data.skip_long: a stream is not read before training. Set it to false.")
    if (training.micro_batch_size or 1) > training.batch_size:
        problems.append(
            f"training.micro_batch_size: must not exceed batch_size {training.batch_size}, got "
            f"{training.micro_batch_size}."
        )
    if recipe.lora is not None and not isinstance(recipe.model, str):
        problems.append(
            "lora: adapters change little of what a model can do already, and one made from "
            "scratch can do nothing. Leave lora out, or name a pretrained model."
        )
    if recipe.data.num_examples is not None and not recipe.data.stream:
        problems.append("data.num_examples: is for data.stream: true; otherwise all are counted.")
    if curriculum.num_stages * curriculum.thoughts_per_step > MOST:
        problems.append(
            f"curriculum: num_stages × thoughts_per_step must be at most {MOST:,}, got "
            f"{curriculum.num_stages} × {curriculum.thoughts_per_step}."
        )
    if recipe.stop.rule != "constant":
        view = method_named(recipe.method).view
        is_varied = view.compression is None and view.num_latents is None
        if not isinstance(view.latents, Sequential) or not is_varied:
            problems.append(
                "stop: a classifier needs latent positions that are filled one by one, as many as "
                f"an example has steps, which {recipe.method_name} does not have. Use stop: "
                "constant."
            )
        if curriculum.pad_to_num_stages:
            problems.append(
                "stop: a classifier learns where each chain ends, so that every example must have "
                "its own number of thoughts. Set curriculum.pad_to_num_stages: false."
            )
        if curriculum.num_stages == 0:
            problems.append("stop: a classifier needs thoughts. Set curriculum.num_stages above 0.")
    if curriculum.restarts and isinstance(recipe.model, str):
        problems.append(
            "curriculum.restarts: there are no other weights to begin from than those of "
            f"{recipe.model}. Leave it out, or let model hold settings."
        )
    for name in ("learned_below", "max_updates_per_stage"):
        value = getattr(curriculum, name)
        needed = curriculum.num_phases - 1
        if isinstance(value, list) and not needed:
            problems.append(f"curriculum.{name}: there is one phase alone, so give one number.")
        elif isinstance(value, list) and len(value) != needed:
            problems.append(
                f"curriculum.{name}: a list needs one value for each phase but the last, that is "
                f"{needed}, got {len(value)}."
            )
    if problems:
        raise RecipeError(listed(where, problems))
    return recipe


def write_recipe(recipe: Recipe) -> str:
    """Return the fully resolved recipe as YAML."""
    return yaml.safe_dump(
        _ADAPTER.dump_python(recipe, mode="json"), sort_keys=False, allow_unicode=True
    )


def as_begun(recipe: Recipe, before: Recipe) -> Recipe:
    """Return a recipe as it was begun: what it leaves to the machine is what `before` says."""
    if recipe.training.precision != "auto":
        return recipe
    return replace(recipe, training=replace(recipe.training, precision=before.training.precision))


def flat_values(recipe: Recipe) -> dict[str, Any]:
    """Return the fully resolved recipe as key → plain value, `training.batch_size` → 128."""
    return dict(flat(_ADAPTER.dump_python(recipe, mode="json")))


def differences(before: Recipe, now: Recipe) -> list[str]:
    """Return in words which keys of two recipes differ."""
    old, new = flat_values(before), flat_values(now)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in keys]
