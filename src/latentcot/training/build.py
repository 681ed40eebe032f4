"""Recipe → model, tokenizer and token ids; whatever is wrong with data or model comes up here."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Timer

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentcot.curriculum.layout import EncodedExample, Layout, encode
from latentcot.curriculum.stages import phases_of
from latentcot.data.examples import Example, read_examples
from latentcot.data.formats import files_of, is_hub, is_pattern
from latentcot.data.sources import Stream, open_stream
from latentcot.errors import DataError, RecipeError
from latentcot.methods.table import method_named
from latentcot.models.loading import FromScratch, load_pretrained, make_from_scratch, max_positions
from latentcot.models.lora import Adapters, add_adapters, fingerprint, hold_lightly, require_peft
from latentcot.models.special_tokens import (
    bpe_tokenizer,
    install_special_tokens,
    rows_of_special_tokens,
    word_tokenizer,
)
from latentcot.recipes.recipe import Data, Recipe
from latentcot.tasks import extract_answer, task_named
from latentcot.thinking.batch import collate
from latentcot.thinking.loss import LanguageLoss
from latentcot.training.stream import EncodedStream
from latentcot.utils.display import progress_bar, say

MANY, STRIDE = 200_000, 10_000
"""Examples of a stream that take so long to read that a bar is shown, and between its moves."""
SLOW = 2.0
"""Seconds after which a person wants to know what goes on."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Training and validation examples with their token ids."""

    train: list[EncodedExample] | EncodedStream
    valid: list[Example]
    valid_encoded: list[EncodedExample]


def prepare(recipe: Recipe) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, TrainingData]:
    """Load the data and load or make the model.

    Raises:
        DataError: A file cannot be read, or an example cannot be written in the vocabulary.
        RecipeError: The model cannot be loaded or made.
    """
    if recipe.lora is not None:
        require_peft("lora")
    with _collector_at_rest():
        return _prepare(recipe)


def _prepare(recipe: Recipe) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, TrainingData]:
    train = _training_examples(recipe.data)
    valid = _read("valid", recipe.data.valid, recipe.data.max_valid)
    reads_steps = 0 in method_named(recipe.method).stages(recipe.curriculum.plan)
    if reads_steps and not any(example.steps for example in train):
        raise DataError(
            f"{recipe.data.train}: no example has steps, but {recipe.method} learns from them. "
            "Use a method that is trained on answers alone, such as no-cot."
        )
    _refuse_short_chains(recipe, train)
    if isinstance(recipe.model, str):
        model, tokenizer = _pretrained(recipe, recipe.model)
    else:
        with _seen(train) as examples:
            tokenizer = tokenizer_from_scratch(recipe, recipe.model, examples)
        model = make_from_scratch(recipe.model, tokenizer, recipe.seed)
    _refuse_lost_answers(recipe, valid, tokenizer)
    data = TrainingData(
        train=_encoded(recipe, train, tokenizer, reads_steps=reads_steps),
        valid=valid,
        valid_encoded=encode(valid, tokenizer, recipe.template, reads_steps=False),
    )
    return model, tokenizer, data


def _pretrained(recipe: Recipe, name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model, and give it what the recipe asks for: special tokens, adapters."""
    model, tokenizer = load_pretrained(name)
    check_thinks_in_batches(model)
    before = fingerprint(model) if recipe.lora is not None else ""
    install_special_tokens(tokenizer, model, recipe.special_tokens_start_from)
    if recipe.lora is not None:
        base = str(Path(name).resolve()) if Path(name).is_dir() else name
        adapters = Adapters(base, before, recipe.lora)
        add_adapters(model, adapters, rows_of_special_tokens(tokenizer), recipe.seed)
        if recipe.training.precision == "bfloat16":
            hold_lightly(model)
    return model, tokenizer


def _training_examples(data: Data) -> list[Example] | Stream:
    if not data.stream:
        return _read("train", data.train, data.max_train)
    if not is_hub(data.train):
        _check_files(data)
    note = Timer(SLOW, say, [f"Counting the examples of {data.train} …"])
    note.start()
    try:
        return open_stream(data.train, data.max_train, data.num_examples)
    finally:
        note.cancel()


def _check_files(data: Data) -> None:
    """Make sure that there are files, and that examples to be judged by are not among several."""
    if not is_pattern(data.train):
        _refuse_missing("train", data.train)
    try:
        files = {file.resolve(): file for file in files_of(data.train)}
    except DataError as error:
        raise DataError(f"data.train: {error}") from None
    if not is_pattern(data.train) and not Path(data.train).is_dir():
        return
    for key, other in (("valid", data.valid), ("test", data.test)):
        found = None if other is None or is_hub(other) else files.get(Path(other).resolve())
        if found is not None:
            raise DataError(
                f"data.train: {data.train} holds data.{key} ({found.name}), which would be trained "
                "on. Move it, or give a pattern such as "
                f"{found.with_name(f'train*{found.suffix}')}."
            )


def _encoded(
    recipe: Recipe,
    train: list[Example] | Stream,
    tokenizer: PreTrainedTokenizerBase,
    *,
    reads_steps: bool,
) -> list[EncodedExample] | EncodedStream:
    def to_ids(examples: Sequence[Example]) -> list[EncodedExample]:
        return encode(examples, tokenizer, recipe.template, reads_steps=reads_steps)

    if isinstance(train, Stream):
        return EncodedStream(train, to_ids)
    return to_ids(train)


@contextmanager
def _seen(train: list[Example] | Stream) -> Iterator[Iterable[Example]]:
    """Show how far a reader is with a long stream."""
    is_short = isinstance(train, list) or len(train) < MANY
    with progress_bar("reading all words", len(train), is_quiet=is_short) as advance:

        def shown() -> Iterator[Example]:
            for number, example in enumerate(train, start=1):
                yield example
                if number % STRIDE == 0:
                    advance(STRIDE)

        yield train if is_short else shown()


def _read(key: str, file: str, limit: int | None) -> list[Example]:
    if key == "train" and not is_hub(file) and (is_pattern(file) or Path(file).is_dir()):
        raise DataError(
            f"data.train: {file}: stands for several files, which are read with data.stream: true."
        )
    _refuse_missing(key, file)
    return read_examples(file, limit)


def _refuse_missing(key: str, file: str) -> None:
    if not is_hub(file) and not Path(file).exists():
        raise DataError(
            f"data.{key}: {file}: no such file. Make it, with `latentcot data make` (comments of a "
            "packaged recipe say how; so do docs/data-format.md and the head of a study), or name "
            f"another with --set data.{key}=FILE."
        )


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Python's collector looks again and again through the examples that are being read."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _refuse_short_chains(recipe: Recipe, train: Sequence[Example] | Stream) -> None:
    """Stages that end when they are learned need examples that tell when."""
    rules = recipe.curriculum
    phases = phases_of(rules, method_named(recipe.method))[:-1]  # nothing ends the last one
    gated = [phase for phase in phases if phase.learned_below is not None]
    if not gated or rules.max_updates_per_stage is not None:
        return
    if not any(len(example.steps) >= rules.num_stages for example in train):
        longest = max(len(example.steps) for example in train)
        raise RecipeError(
            f"curriculum.num_stages: is {rules.num_stages}, but the longest chain in "
            f"{recipe.data.train} has {longest} steps, so no example can tell when a stage is "
            "learned. Lower it, give max_updates_per_stage, or use advance: epochs."
        )


def tokenizer_from_scratch(
    recipe: Recipe, model: FromScratch, examples: Iterable[Example]
) -> PreTrainedTokenizerBase:
    """Make the tokenizer of a model from scratch.

    From the training examples alone: a word that only the test set has is an error, if whole words
    are tokens.
    """
    if model.tokenizer == "words":
        return word_tokenizer(_texts(recipe, examples))
    return bpe_tokenizer(_texts(recipe, examples), model.vocabulary_size)


def check_thinks_in_batches(model: PreTrainedModel) -> None:
    """Make sure that padded rows of a batch give what each gives alone.

    Some families mix in pads where no mask reaches: convolutions, recurrent states, position biases
    counted by columns, windows of local attention.

    Raises:
        RecipeError: They do not.
    """
    window = getattr(model.config, "window_size", None)
    width = (window if isinstance(window, int) else 0) + 12
    width = min(width, (max_positions(model) or width + 8) - 8)
    suffix = (3, 4, 5)
    rows = [
        Layout(tuple(1 + i % 7 for i in range(length)), thoughts, suffix, suffix)
        for length, thoughts in ((width, 1), (max(1, width // 2), 3))
    ]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        together = LanguageLoss(model)(collate(rows)).nll_sum
        alone = sum(LanguageLoss(model)(collate([row])).nll_sum for row in rows)
    model.train(was_training)
    if not torch.allclose(together, torch.as_tensor(alone), rtol=1e-3):
        raise RecipeError(
            f"model: {type(model).__name__} gives other results for a row in a padded batch than "
            "for the row alone, so thoughts in batches would be wrong. GPT-2, Llama, Qwen2, Qwen3 "
            "and others with plain causal attention do not."
        )


def _refuse_lost_answers(
    recipe: Recipe, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Make sure that a right answer, written and read again, counts as right."""
    task = task_named(recipe.task)
    for example in examples:
        text = recipe.template.answer_start + example.answer
        written = str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]))
        answer = extract_answer(written, recipe.template.answer_start)
        if not task.is_correct(answer, example.answer):
            raise DataError(
                f"{recipe.data.valid}: example {example.id!r}: its answer {example.answer!r} comes "
                f"back from the tokenizer as {answer!r}, so it could never be right. Write it in "
                "another way, or change template.answer_start."
            )


def _texts(recipe: Recipe, examples: Iterable[Example]) -> Iterator[str]:
    yield from asdict(recipe.template).values()
    for example in examples:
        yield from (example.question, *example.steps, example.answer)
