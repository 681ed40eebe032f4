"""Recipe → model, tokenizer and token ids; whatever is wrong with data or model comes up here."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from latentcot.backbones import load_pretrained, make_fresh
from latentcot.config import Recipe
from latentcot.errors import DataError
from latentcot.examples import Example, read_examples
from latentcot.layout import EncodedExample, encode
from latentcot.vocabulary import add_markers, word_tokenizer


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
    train = read_examples(recipe.data.train, recipe.data.max_train)
    valid = read_examples(recipe.data.valid, recipe.data.max_valid)
    stepless = next((example.id for example in train if not example.steps), None)
    if stepless is not None:
        raise DataError(f"{recipe.data.train}: example {stepless!r} has no steps to learn from.")
    if isinstance(recipe.model, str):
        model, tokenizer = load_pretrained(recipe.model)
        add_markers(tokenizer, model, recipe.markers_start_from)
    else:
        # The words of the training file alone: a word that only the test set has is an error.
        tokenizer = word_tokenizer(_texts(recipe, train))
        model = make_fresh(recipe.model, tokenizer, recipe.seed)
    data = TrainingData(
        train=encode(train, tokenizer, recipe.template),
        valid=valid,
        valid_encoded=encode(valid, tokenizer, recipe.template),
    )
    return model, tokenizer, data


def _texts(recipe: Recipe, examples: Sequence[Example]) -> Iterator[str]:
    yield from asdict(recipe.template).values()
    for example in examples:
        yield from (example.question, *example.steps, example.answer)
