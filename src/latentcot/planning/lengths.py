"""How long the micro-batches of a recipe are, at each phase, without training anything.

The examples are those of the recipe, as far as its file can be read; otherwise typical ones of the
task (`typical_lengths.json`, written by `benchmarks/plan.py lengths`). Order, stages and layouts
come from the functions that training calls.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from latentcot.curriculum.layout import EncodedExample, Layout, SpecialTokens, encode, lay_out
from latentcot.curriculum.stages import Phase, draw_stages
from latentcot.data.examples import Example, read_examples
from latentcot.data.sources import open_stream
from latentcot.errors import DataError, RecipeError
from latentcot.methods.table import method_named
from latentcot.models.loading import load_tokenizer
from latentcot.planning.work import Shape
from latentcot.recipes.recipe import Recipe
from latentcot.thinking.batch import epoch_order
from latentcot.training.build import tokenizer_from_scratch

TYPICAL = Path(__file__).parent / "typical_lengths.json"
_MARKERS = SpecialTokens(0, 0, 0, 0)
_STRETCH = 64
"""Batches among which `epoch_order` sorts by length: so many examples show how batches look."""
_SEEN = 16
"""Batches of each phase that are laid out."""
_WORDS = 1000
"""Tokens of a fresh vocabulary whose training file is not there."""
# Roughly what byte-level vocabularies cut a text into: words, up to three digits, signs, blanks.
_PIECE = re.compile(r" ?[^\W\d_]+| ?\d{1,3}| ?[^\s\w]+|\s")


@dataclass(frozen=True)
class Lengths:
    """The examples of a training, as far as its cost depends on them.

    Attributes:
        sample: Some of them; their token ids mean nothing.
        num_examples: How many there are.
        vocabulary_size: Of a fresh model; None where the model brings its own.
        notes: What is estimated, in words.
    """

    sample: list[EncodedExample]
    num_examples: int
    vocabulary_size: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class UpdateBatch:
    """The updates of one phase, on one of the devices.

    Attributes:
        micro_batches: (shape, how many of it an update has on average).
        longest: The largest micro-batch.
        num_tokens: Real columns of an update, thoughts included, on all devices.
    """

    micro_batches: tuple[tuple[Shape, float], ...]
    longest: Shape
    num_tokens: float


# --- examples -----------------------------------------------------------------------------------


def lengths_of(recipe: Recipe) -> Lengths:
    """Find out how long the training examples of a recipe are.

    Raises:
        DataError: Its file cannot be read, and of its task no typical lengths are known.
    """
    try:
        examples, number = _read(recipe)
    except DataError as error:
        return _typical(recipe, error)
    wanted = _STRETCH * recipe.training.batch_size
    sample = examples[:: max(1, len(examples) // wanted)][:wanted]
    notes = []
    if number > len(examples):
        notes.append(f"lengths are those of the first {len(examples):,} examples of the stream")
    try:
        tokenizer: Any = (
            load_tokenizer(recipe.model)
            if isinstance(recipe.model, str)
            else tokenizer_from_scratch(recipe, recipe.model, examples)
        )
        encoded = encode(sample, tokenizer, recipe.template, reads_steps=False)
        size = None if isinstance(recipe.model, str) else len(tokenizer)
    except RecipeError:
        encoded, size = [roughly_encoded(example, recipe) for example in sample], None
        notes.append("tokens are estimated, since the model's tokenizer is not here")
    return Lengths(encoded, number, size, tuple(notes))


def _read(recipe: Recipe) -> tuple[list[Example], int]:
    """Return examples and how many there are in all: of a stream only the first are read."""
    data = recipe.data
    if not data.stream:
        examples = read_examples(data.train, data.max_train)
        return examples, len(examples)
    stream = open_stream(data.train, data.max_train, data.num_examples)
    return list(islice(stream, _STRETCH * recipe.training.batch_size)), len(stream)


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


def _typical(recipe: Recipe, error: DataError) -> Lengths:
    known = _typical_lengths().get(recipe.task if isinstance(recipe.task, str) else "")
    if known is None:
        raise DataError(
            f"{error} A plan needs it, since the task has no typical lengths."
        ) from None
    number = min(known["num_examples"], recipe.data.max_train or known["num_examples"])
    sample = [
        EncodedExample("", (0,) * q, tuple((0,) * step for step in steps), (0,) * a)
        for q, steps, a in known["shapes"]
    ]
    return Lengths(
        sample,
        number,
        None if isinstance(recipe.model, str) else _WORDS,
        (
            f"{recipe.data.train} is not here: {number:,} examples of typical length, as "
            f"{len(sample)} picked from {known['source']}, in roughly counted tokens",
        ),
    )


@cache
def _typical_lengths() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TYPICAL.read_text(encoding="utf-8"))
    return found


# --- micro-batches ------------------------------------------------------------------------------


class UpdateBatches:
    """The micro-batches of a recipe on one of several devices.

    Attributes:
        batch_size: Examples of an update.
        updates_per_epoch: Length of an epoch.
    """

    def __init__(self, recipe: Recipe, lengths: Lengths, phases: Sequence[Phase], gpus: int):
        self.recipe, self.phases, self.gpus = recipe, phases, gpus
        self.method = method_named(recipe.method)
        self.rules = recipe.layout_rules(_MARKERS)
        self.batch_size = min(recipe.training.batch_size, lengths.num_examples)
        self.updates_per_epoch = max(1, lengths.num_examples // self.batch_size)
        wanted = min(self.updates_per_epoch, _STRETCH) * self.batch_size
        times = -(-wanted // len(lengths.sample))
        self.sample = (lengths.sample * times)[:wanted]
        sizes = [len(self._layout(example, phases[0].stage, phases[0])) for example in self.sample]
        self.order = epoch_order(sizes, self.batch_size, "plan")
        # The longest questions stand together, in one of the batches.
        self.longest = max(self.order, key=lambda batch: max(sizes[i] for i in batch))

    def of(self, phase: Phase) -> UpdateBatch:
        """Return what the updates of a phase look like."""
        seen = [self._layouts(phase, batch, n) for n, batch in enumerate(self.order[:_SEEN])]
        shapes = [shape for layouts in seen for shape in self._shapes(layouts)]
        longest = self._shapes(self._layouts(phase, self.longest, -1))
        return UpdateBatch(
            micro_batches=_joined(shapes, len(seen)),
            longest=max([*longest, *shapes], key=_columns),
            num_tokens=sum(len(one) for layouts in seen for one in layouts) / len(seen),
        )

    def _layouts(self, phase: Phase, batch: Sequence[int], number: int) -> list[Layout]:
        stages = draw_stages(
            self.recipe.curriculum,
            self.method.schedule,
            (one.stage for one in self.phases),
            phase.stage,
            len(batch),
            f"plan/{number}",
        )
        examples = [self.sample[i] for i in batch]
        return [self._layout(*pair, phase) for pair in zip(examples, stages, strict=True)]

    def _layout(self, example: EncodedExample, stage: int, phase: Phase) -> Layout:
        rules = replace(self.rules, zero_thoughts=phase.zero_thoughts)
        return lay_out(example, self.method, stage, rules)

    def _shapes(self, layouts: Sequence[Layout]) -> list[Shape]:
        """Cut a batch as `TrainStep.shard_of` does; of each micro-batch, the first device's
        part."""
        gpus = self.gpus
        size = gpus * (self.recipe.training.micro_batch_size or max(1, len(layouts) // gpus))
        return [_shape(layouts[i : i + size], gpus) for i in range(0, len(layouts), size)]


def _shape(layouts: Sequence[Layout], gpus: int) -> Shape:
    mine = layouts[::gpus]
    return Shape(
        len(mine),
        max(len(one.prefix) for one in mine),
        max(one.num_latents for one in layouts),
        max(len(one.suffix) for one in mine),
    )


def _joined(shapes: Sequence[Shape], num_updates: int) -> tuple[tuple[Shape, float], ...]:
    """Take the mean of shapes with as many rows and latent positions: cost is nearly a plane in
    the rest."""
    alike: dict[tuple[int, int], list[Shape]] = defaultdict(list)
    for shape in shapes:
        alike[shape.rows, shape.latents].append(shape)
    return tuple(
        (
            Shape(
                rows,
                round(sum(shape.prefix for shape in same) / len(same)),
                latents,
                round(sum(shape.suffix for shape in same) / len(same)),
            ),
            len(same) / num_updates,
        )
        for (rows, latents), same in sorted(alike.items())
    )


def _columns(shape: Shape) -> int:
    return shape.rows * (shape.prefix + shape.latents + shape.suffix)
