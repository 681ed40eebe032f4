"""What a method makes of an example, drawn as text: every token, latent position and label, at
every stage.

    question … <bot> h0 h1 <eot> ┃ steps left, answer, <eos>

Everything behind ┃ carries loss; what stands before it is given when the model answers. The tests
hold these drawings as golden files.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from latentcot.curriculum.layout import (
    NO_LABEL,
    EncodedExample,
    Layout,
    LayoutRules,
    encode,
    lay_out,
)
from latentcot.curriculum.stages import Phase, phases_of
from latentcot.data.examples import Example
from latentcot.methods import Method, method_named
from latentcot.models.loading import load_tokenizer
from latentcot.models.special_tokens import missing_special_tokens, special_tokens_of
from latentcot.recipes.recipe import Recipe
from latentcot.training.build import tokenizer_from_scratch

BAR = "┃"
LEGEND = (
    f"{BAR} loss on every token behind it; what stands before it is given when answering\n"
    "h0, h1, … continuous thoughts, one pass each    s0, s1, … other latents, one pass each"
)


def drawing_tokenizer(recipe: Recipe, examples: list[Example]) -> PreTrainedTokenizerBase:
    """Return a tokenizer that cuts these examples as the recipe's own would.

    For a model from scratch it is made from these examples alone, so that no training file is
    needed: its words are the same, its ids are not.

    Raises:
        RecipeError: The tokenizer of a pretrained model cannot be loaded.
    """
    if not isinstance(recipe.model, str):
        return tokenizer_from_scratch(recipe, recipe.model, examples)
    tokenizer = load_tokenizer(recipe.model)
    tokenizer.add_special_tokens({"additional_special_tokens": missing_special_tokens(tokenizer)})
    return tokenizer


def draw(recipe: Recipe, example: Example, tokenizer: PreTrainedTokenizerBase) -> str:
    """Draw the example at every phase of the recipe's curriculum, equal neighbours as one line.

    Raises:
        DataError: The example cannot be written in the vocabulary.
    """
    method = method_named(recipe.method)
    encoded = encode([example], tokenizer, recipe.template)[0]
    rules = recipe.layout_rules(special_tokens_of(tokenizer))
    phases = phases_of(recipe.curriculum, method)
    drawn = [
        (phase, _row(lay_out(encoded, method, phase.stage, _rules_of(phase, rules)), encoded,
                     method, tokenizer))
        for phase in phases
    ]  # fmt: skip
    lines = []
    for row, same in groupby(drawn, key=lambda pair: pair[1]):
        stages = [phase.stage for phase, _ in same]
        name = str(stages[0]) if stages[0] == stages[-1] else f"{stages[0]}–{stages[-1]}"
        lines.append(f"  {name:>5}  {row}")
    return "\n".join([method.name, *lines])


def columns(
    recipe: Recipe, example: Example, tokenizer: PreTrainedTokenizerBase, stage: int
) -> Iterator[tuple[str, str, str, str]]:
    """Yield (position, what is read there, its token id, what it must predict) for one stage.

    The label of a column is the token that stands one column later, so that a model that reads up
    to here has to say it.
    """
    method = method_named(recipe.method)
    encoded = encode([example], tokenizer, recipe.template)[0]
    rules = recipe.layout_rules(special_tokens_of(tokenizer))
    layout = lay_out(encoded, method, stage, rules)
    read = [*_named(layout.prefix, tokenizer), *_latent_names(layout, method)]
    ids = [*map(str, layout.prefix), *[""] * layout.num_latents, *map(str, layout.suffix)]
    read += _named(layout.suffix, tokenizer)
    labels = [NO_LABEL] * (len(layout) - len(layout.labels)) + list(layout.labels)
    said = [_named([label], tokenizer)[0] if label != NO_LABEL else "" for label in labels]
    for position, (token, id_, label) in enumerate(zip(read, ids, [*said[1:], ""], strict=True)):
        yield str(position), token, id_, label


def _rules_of(phase: Phase, rules: LayoutRules) -> LayoutRules:
    return replace(rules, zero_thoughts=phase.zero_thoughts)


def _row(
    layout: Layout, encoded: EncodedExample, method: Method, tokenizer: PreTrainedTokenizerBase
) -> str:
    special_tokens = layout.prefix[len(encoded.question) :]
    words = _named(layout.suffix, tokenizer)
    given, said = words[: layout.opening], words[layout.opening :]
    latents = _latent_names(layout, method)
    return " ".join(["question", *_named(special_tokens, tokenizer), *latents, *given, BAR, *said])


def _latent_names(layout: Layout, method: Method) -> list[str]:
    letter = "h" if method.fill.is_thought else "s"
    return [f"{letter}{number}" for number in range(layout.num_latents)]


def _named(ids: "tuple[int, ...] | list[int]", tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return tokens as they can be read: byte-level pieces decoded, blanks and line ends shown."""
    pieces = (str(tokenizer.decode([id_])) for id_ in ids)
    return [piece.replace("\n", "⏎").replace(" ", "␣") or "∅" for piece in pieces]
