"""How long the micro-batches of a recipe are, at each phase, without training anything.

The examples are those of the recipe, as far as its file can be read; otherwise typical ones of the
task (`typical_lengths.json`, written by `benchmarks/plan.py lengths`). Order, stages and layouts
come from the loader of training.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from latentcot.curriculum.layout import EncodedExample, LaidOut, SpecialTokens, encode
from latentcot.curriculum.stages import Phase
from latentcot.data.examples import Example, read_examples
from latentcot.data.formats import is_hub, path_of
from latentcot.data.sources import open_stream
from latentcot.errors import DataError, RecipeError
from latentcot.methods import Method
from latentcot.models.loading import load_tokenizer
from latentcot.planning.work import Shape, views_of
from latentcot.recipes.recipe import Recipe
from latentcot.recipes.values import command_for
from latentcot.training.build import Run, TrainingData, tokenizer_from_scratch
from latentcot.training.loader import Loader
from latentcot.training.stream import STRETCH

TYPICAL = Path(__file__).parent / "typical_lengths.json"
_WORDS = 1000
"""Tokens of a vocabulary from scratch whose training file is not there."""
# Roughly what byte-level vocabularies cut a text into: words, up to three digits, signs, blanks.
_PIECE = re.compile(r" ?[^\W\d_]+| ?\d{1,3}| ?[^\s\w]+|\s")


@dataclass(frozen=True)
class Lengths:
    """The examples of a training, as far as its cost depends on them.

    Attributes:
        sample: Some of them; their token ids mean nothing.
        num_examples: How many there are.
        vocabulary_size: Of a model from scratch; None where the model brings its own.
        notes: What is estimated, in words.
    """

    sample: list[EncodedExample]
    num_examples: int
    vocabulary_size: int | None
    notes: tuple[str, ...]


def lengths_of(recipe: Recipe) -> Lengths:
    """Find out how long the training examples of a recipe are.

    Raises:
        DataError: Its file is there and cannot be read; or it is not there, and of its task no
            typical lengths are known.
    """
    data, wanted = recipe.data, STRETCH * recipe.training.batch_size
    try:
        if data.stream:  # only the first are read
            stream = open_stream(data.train, data.max_train, data.num_examples, data.fields)
            examples, number = list(islice(stream, wanted)), len(stream)
        else:
            examples = read_examples(data.train, data.max_train, data.fields)
            number = len(examples)
    except DataError as error:
        if not is_hub(data.train) and path_of(data.train).exists():
            raise
        # Typical examples of its task stand in for what is not here yet.
        tasks: dict[Any, Any] = json.loads(TYPICAL.read_text(encoding="utf-8"))
        known = tasks.get(recipe.task if isinstance(recipe.task, str) else None)
        if known is None:
            raise DataError(
                f"{error} A plan needs it, since the task has no typical lengths."
            ) from None
        number = data.num_examples or known["num_examples"]
        number = min(number, data.max_train or number)
        shapes = [
            EncodedExample("", (0,) * q, tuple((0,) * step for step in steps), (0,) * a)
            for q, steps, a in known["shapes"]
        ]
        note = (
            f"{data.train} is not here: {number:,} examples of typical length, as {len(shapes)} "
            f"picked from {known['source']}, in roughly counted tokens"
        )
        if isinstance(recipe.model, str):
            return Lengths(shapes, number, None, (note,))
        # Whether its words are symbols, which are fewer, only its data say.
        made = command_for(data.train)
        note += "; questions rendered in symbols are shorter: "
        note += f"`{made}` makes those of this recipe" if made else "make the data for those"
        return Lengths(shapes, number, _WORDS, (note,))
    sample = examples[:: max(1, len(examples) // wanted)][:wanted]
    notes = []
    if number > len(examples):
        notes.append(f"lengths are those of the first {len(examples):,} examples of the stream")
    is_pretrained = isinstance(recipe.model, str)
    try:
        tokenizer: Any = (
            load_tokenizer(recipe.model)
            if isinstance(recipe.model, str)
            else tokenizer_from_scratch(recipe, recipe.model, examples)
        )
    except RecipeError:
        notes.append("tokens are estimated, since the model's tokenizer is not here")
        return Lengths([roughly_encoded(one, recipe) for one in sample], number, None, (*notes,))
    read = recipe.bound_method.with_chains(sample)
    encoded = encode(read, tokenizer, recipe.template, reads_steps=False)
    return Lengths(encoded, number, None if is_pretrained else len(tokenizer), (*notes,))


def roughly_encoded(example: Example, recipe: Recipe) -> EncodedExample:
    """Cut an example into as many tokens as a vocabulary of words and digits would."""
    template = recipe.template

    def ids(text: str) -> tuple[int, ...]:
        return (0,) * max(1, len(_PIECE.findall(text)))

    return EncodedExample(
        example.id,
        ids(example.question + template.question_end),
        tuple(ids(step + template.step_end) for step in example.steps),
        ids(template.answer_start + example.answer),
    )


# --- micro-batches ------------------------------------------------------------------------------


@dataclass(frozen=True)
class UpdateBatch:
    """The updates of one phase, on one of the devices.

    Attributes:
        micro_batches: (shape, how many of it an update has on average).
        longest: The largest micro-batch.
        num_tokens: Positions of an update, of all views, latent ones included, on all devices.
    """

    micro_batches: tuple[tuple[Shape, float], ...]
    longest: Shape
    num_tokens: float


def update_batches(
    recipe: Recipe, method: Method, lengths: Lengths, phases: Sequence[Phase], gpus: int
) -> dict[Phase, UpdateBatch]:
    """Return what the updates of each phase look like, from an epoch of the sample."""
    batch_size = min(recipe.training.batch_size, lengths.num_examples)
    wanted = min(max(1, lengths.num_examples // batch_size), STRETCH) * batch_size
    sample = (lengths.sample * -(-wanted // len(lengths.sample)))[:wanted]

    def shapes_of(update: Sequence[LaidOut]) -> Any:
        """Cut a batch as `TrainStep.part_of` does; of each part, that of the first device."""
        size = gpus * (recipe.training.micro_batch_size or max(1, len(update) // gpus))
        shapes = []
        for start in range(0, len(update), size):
            together = update[start : start + size]
            mine = together[::gpus]
            first, *others = [
                (
                    max(len(one.layouts[name].prefix) for one in mine),
                    max(one.layouts[name].num_latents for one in together),
                    max(len(one.layouts[name].suffix) for one in mine),
                )
                for name in views_of(method)
            ]
            targets = tuple(
                (
                    max(len(one.targets[term]) for one in update),
                    max((len(group) for one in mine for group in one.targets[term]), default=0),
                )
                for term in update[0].targets
            )
            shapes.append(Shape(len(mine), *first, tuple(others), targets))
        return shapes, sum(len(one) for laid in update for one in laid.layouts.values())

    rules = recipe.layout_rules(SpecialTokens(0, 0, 0, 0))
    nothing = cast(Any, None)  # no model is there, nor anything to write with
    run = Run(
        recipe=recipe,
        method=method,
        tokenizer=nothing,
        data=TrainingData(sample, [], []),
        phases=phases,
        rules={phase: replace(rules, zero_thoughts=phase.zero_thoughts) for phase in phases},
        objective=nothing,
    )
    loader = Loader(run, shapes_of)
    count = loader.updates_per_epoch
    found = {}
    for phase in phases:
        seen: list[Any] = [loader.update_batch(n, phase, n + 1).part for n in range(count)]
        shapes = [shape for cut, _ in seen for shape in cut]
        # Of shapes with as many rows, latent positions and groups the mean: cost is nearly a plane
        # in the rest.
        alike = defaultdict[Any, list[Shape]](list)
        for one in shapes:
            latents, groups = [view[1] for view in one.views], [many for many, _ in one.targets]
            alike[one.rows, *latents, *groups].append(one)
        found[phase] = UpdateBatch(
            tuple((_mean(same), len(same) / count) for same in alike.values()),
            max(shapes, key=lambda one: one.positions),
            sum(tokens for _, tokens in seen) / count,
        )
    return found


def _mean(shapes: Sequence[Shape]) -> Shape:
    def mean(pairs: Any) -> Any:
        return tuple(map(tuple, np.mean(pairs, axis=0).round().astype(int).tolist()))

    (prefix, latents, suffix), *others = mean([shape.views for shape in shapes])
    targets = mean([shape.targets for shape in shapes]) if shapes[0].targets else ()
    return Shape(shapes[0].rows, prefix, latents, suffix, tuple(others), targets)
