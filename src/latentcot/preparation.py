"""Recipe → model, tokenizer and token ids; whatever is wrong with data or model comes up here."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentcot.backbones import FreshModel, load_pretrained, make_fresh, max_positions
from latentcot.batching import collate
from latentcot.config import Recipe
from latentcot.errors import DataError, RecipeError
from latentcot.examples import Example, read_examples
from latentcot.formats import is_hub
from latentcot.layout import EncodedExample, Layout, encode
from latentcot.methods import method_named
from latentcot.objective import LanguageLoss
from latentcot.stages import phases_of
from latentcot.tasks import extract_answer, task_named
from latentcot.vocabulary import add_markers, bpe_tokenizer, word_tokenizer


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Training and validation examples with their token ids."""

    train: list[EncodedExample]
    valid: list[Example]
    valid_encoded: list[EncodedExample]


def prepare(recipe: Recipe) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, TrainingData]:
    """Load the data and load or make the model.

    Raises:
        DataError: A file cannot be read, or an example cannot be written in the vocabulary.
        RecipeError: The model cannot be loaded or made.
    """
    with _collector_at_rest():
        return _prepare(recipe)


def _prepare(recipe: Recipe) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, TrainingData]:
    train = _read("train", recipe.data.train, recipe.data.max_train)
    valid = _read("valid", recipe.data.valid, recipe.data.max_valid)
    reads_steps = 0 in method_named(recipe.method).stages(recipe.curriculum.plan)
    if reads_steps and not any(example.steps for example in train):
        raise DataError(
            f"{recipe.data.train}: no example has steps, but {recipe.method} learns from them. "
            "Use a method that is trained on answers alone, such as no-cot."
        )
    _refuse_short_chains(recipe, train)
    if isinstance(recipe.model, str):
        model, tokenizer = load_pretrained(recipe.model)
        check_thinks_in_batches(model)
        add_markers(tokenizer, model, recipe.markers_start_from)
    else:
        tokenizer = fresh_tokenizer(recipe, recipe.model, train)
        model = make_fresh(recipe.model, tokenizer, recipe.seed)
    _refuse_lost_answers(recipe, valid, tokenizer)
    data = TrainingData(
        train=encode(train, tokenizer, recipe.template, reads_steps=reads_steps),
        valid=valid,
        valid_encoded=encode(valid, tokenizer, recipe.template, reads_steps=False),
    )
    return model, tokenizer, data


def _read(key: str, file: str, limit: int | None) -> list[Example]:
    if not is_hub(file) and not Path(file).exists():
        raise DataError(
            f"data.{key}: {file}: no such file. Make it, with `latentcot data make` (comments of a "
            "packaged recipe say how; so do docs/data-format.md and the head of a study), or name "
            f"another with --set data.{key}=FILE."
        )
    return read_examples(file, limit)


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


def _refuse_short_chains(recipe: Recipe, train: Sequence[Example]) -> None:
    """Stages that end when they are learned need examples that tell when."""
    rules = recipe.curriculum
    phases = phases_of(rules, method_named(recipe.method))[:-1]  # nothing ends the last one
    gated = [phase for phase in phases if phase.learned_below is not None]
    longest = max(len(example.steps) for example in train)
    if gated and rules.max_updates_per_stage is None and longest < rules.num_stages:
        raise RecipeError(
            f"curriculum.num_stages: is {rules.num_stages}, but the longest chain in "
            f"{recipe.data.train} has {longest} steps, so no example can tell when a stage is "
            "learned. Lower it, give max_updates_per_stage, or use advance: epochs."
        )


def fresh_tokenizer(
    recipe: Recipe, model: FreshModel, examples: Sequence[Example]
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


def _texts(recipe: Recipe, examples: Sequence[Example]) -> Iterator[str]:
    yield from asdict(recipe.template).values()
    for example in examples:
        yield from (example.question, *example.steps, example.answer)
