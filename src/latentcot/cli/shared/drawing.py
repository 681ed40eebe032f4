"""What a method makes of an example, drawn as text: every token, latent position and label, at
every stage.

    question … <bot> h0 h1 <eot> ┃ steps left, answer, <eos>

Everything behind ┃ carries loss; what stands before it is given when the model answers. The tests
hold these drawings as golden files.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from rich import box
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from latentcot.curriculum.layout import NO_LABEL, Layout, encode, lay_out
from latentcot.curriculum.stages import phases_of
from latentcot.curriculum.views import View
from latentcot.data.examples import Example
from latentcot.errors import UsageError
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
    method = recipe.bound_method
    encoded = encode(method.with_chains([example]), tokenizer, recipe.template)[0]
    rules = recipe.layout_rules(special_tokens_of(tokenizer))
    lines = [method.name]
    for view_name, view in method.views.items():
        if len(method.views) > 1:
            lines.append(f"  {view_name}:")
        drawn = []
        for phase in phases_of(recipe.curriculum, method.view):
            rules = replace(rules, zero_thoughts=phase.zero_thoughts)
            layout = lay_out(encoded, view, phase.stage, rules)
            given = _named(layout.prefix[len(encoded.question) :], tokenizer)
            words = _named(layout.suffix, tokenizer)
            said = [*words[: layout.opening], BAR, *words[layout.opening :]]
            row = " ".join(["question", *given, *_latent_names(layout, view), *said])
            drawn.append((phase.stage, row))
        for row, same in groupby(drawn, key=lambda pair: pair[1]):
            stages = [stage for stage, _ in same]
            name = str(stages[0]) if stages[0] == stages[-1] else f"{stages[0]}–{stages[-1]}"
            lines.append(f"  {name:>5}  {row}")
    return "\n".join(lines)


def stage_table(
    recipe: Recipe, example: Example, tokenizer: PreTrainedTokenizerBase, stage: int
) -> Table:
    """Return one stage position by position: what is read, its token id, what it must predict.

    The label of a position is the token that stands one position later, so that a model that reads
    up to here has to say it.

    Raises:
        UsageError: The method has no such stage with this recipe.
        DataError: The example cannot be written in the vocabulary.
    """
    method = recipe.bound_method
    stages = method.stages(recipe.curriculum.plan)
    if stage not in stages:
        raise UsageError(
            f"--stage: {method.name} has the stages {stages[0]} to {stages[-1]} with this "
            f"recipe, got {stage}."
        )
    encoded = encode(method.with_chains([example]), tokenizer, recipe.template)[0]
    layout = lay_out(encoded, method.view, stage, recipe.layout_rules(special_tokens_of(tokenizer)))
    read = [*_named(layout.prefix, tokenizer), *_latent_names(layout, method.view)]
    read += _named(layout.suffix, tokenizer)
    ids = [*map(str, layout.prefix), *[""] * layout.num_latents, *map(str, layout.suffix)]
    labels = [NO_LABEL] * (len(layout) - len(layout.labels)) + list(layout.labels)
    said = [_named([label], tokenizer)[0] if label != NO_LABEL else "" for label in labels]
    table = Table(title=f"{method.name}, stage {stage}", title_justify="left", box=box.SIMPLE)
    for name in ("position", "id"):
        table.add_column(name, justify="right")
    table.add_column("reads")
    table.add_column("has to say next")
    for position, (token, id_, label) in enumerate(zip(read, ids, [*said[1:], ""], strict=True)):
        table.add_row(str(position), id_, token, label)
    return table


def _latent_names(layout: Layout, view: View) -> list[str]:
    letter = "h" if view.latents.is_thought else "s"
    return [f"{letter}{number}" for number in range(layout.num_latents)]


def _named(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return tokens as they can be read: byte-level pieces decoded, blanks and line ends shown."""
    pieces = (str(tokenizer.decode([id_])) for id_ in ids)
    return [piece.replace("\n", "⏎").replace(" ", "␣") or "∅" for piece in pieces]
