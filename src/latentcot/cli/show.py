"""`latentcot show`: what a recipe makes of an example, or what a run folder says of itself."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from latentcot.errors import DataError, UsageError
from latentcot.utils.display import put, say

if TYPE_CHECKING:
    from latentcot.data.examples import Example
    from latentcot.recipes.recipe import Data


def show(
    path: Path,
    /,
    *changes: str,
    example: str | None = None,
    method: str | None = None,
    stage: int | None = None,
    set_: Annotated[tuple[str, ...], Parameter("--set")] = (),
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Draw what a recipe makes of an example, or show how far a run is and where it comes from.

    A drawing has tokens, latent positions and labels at every stage; the options but --json belong
    to it. Of a run: method, model, progress; commit, versions, machine, command, data; each time
    that it was resumed; its checkpoints, compared with their checksums; its evaluations.

    Args:
        path: A recipe (a YAML file, or the name of one that comes with the package), or the folder
            of a run or checkpoint. `quickstart` is both, and both are shown.
        changes: KEY=VALUE, as behind --set.
        example: FILE:LINE, or FILE for its first example; the first validation example of the
            recipe if left out. Examples of a file are counted from 1.
        method: Draw this method instead of the recipe's; `all` for every one.
        stage: Show this stage position by position: token, id, label.
        set_: Change a key of the recipe, for example --set curriculum.thoughts_per_step=2.
        as_json: Print what is shown of a run as JSON.
    """
    from latentcot.recipes.values import find_recipe, packaged_recipes
    from latentcot.runs.checkpoint_folders import here_or_shipped

    given = {"--example": example, "--method": method, "--stage": stage, "--set": set_ + changes}
    options = [name for name, value in given.items() if value not in (None, ())]
    is_shipped = (folder := here_or_shipped(path)) != path
    if path.is_dir() or (is_shipped and not options):
        from latentcot.cli.show_run import show_run

        if options:
            raise UsageError(
                f"{', '.join(options)}: belongs to the drawing of a recipe, but {path} is a "
                f"folder. For a run give {path / 'recipe.yaml'}."
            )
        show_run(folder, as_json=as_json)
        if as_json or not is_shipped or str(path) not in packaged_recipes():
            return
        say(f"That is the checkpoint {path}, which comes with the package. The recipe {path}:")
    from latentcot.methods import METHODS, load_entry_points
    from latentcot.recipes.recipe import read_recipe

    files = "the folder of a run or checkpoint, the file of a recipe"
    find_recipe(path, wanted="recipe, run or checkpoint", files=files)
    if as_json:
        raise UsageError(f"--json: is for the folder of a run, but {path} is none.")
    if method == "all":
        load_entry_points()
    names = list(METHODS) if method == "all" else [method]
    recipes = [
        read_recipe(path, [*([f"method={name}"] if name else []), *set_, *changes])
        for name in names
    ]
    found = _example(example, recipes[0].data, path)
    # After what is wrong at once: this loads torch.
    from latentcot.cli.shared.drawing import LEGEND, draw, drawing_tokenizer, stage_table
    from latentcot.cli.shared.tables import print_table

    tokenizer = drawing_tokenizer(recipes[0], [found])
    put(f"question: {found.question}")
    put(f"steps: {' / '.join(found.steps) or '(none)'}")
    put(f"answer: {found.answer}")
    if stage is None:
        put(LEGEND)
    for recipe in recipes:
        put()
        try:
            if stage is None:
                put(draw(recipe, found, tokenizer))
            else:
                print_table(stage_table(recipe, found, tokenizer, stage))
        except (DataError, UsageError) as error:
            if method != "all":
                raise
            put(f"{recipe.method_name}\n  {error}")  # of this method alone: others are drawn


def _example(place: str | None, data: "Data", recipe: Path) -> "Example":
    """Find FILE:LINE; a file whose name ends so is meant as a whole.

    None is the first validation example; where there is none, a question that a checkpoint of the
    recipe's name brings along.
    """
    from latentcot.data.examples import read_examples
    from latentcot.data.formats import is_hub, path_of
    from latentcot.recipes.values import command_for
    from latentcot.runs.folder import questions_beside

    beside = questions_beside(recipe)
    if place is None and not is_hub(data.valid) and not path_of(data.valid).exists():
        if beside is None:
            made = command_for(data.valid)
            hint = f" Make it: `{made}`." if made else ""
            raise DataError(
                f"data.valid: {data.valid}: no such file.{hint} Or give an example: --example "
                "FILE:LINE."
            )
        say(f"Note: there is no {data.valid}; the question is one that comes with {recipe}.")
        return read_examples(beside, 1)[0]
    place = place or data.valid
    match = re.fullmatch(r"(.+):(\d+)", place)
    if match is None or Path(place).exists():
        return read_examples(place, 1, data.fields)[0]
    number = int(match[2])
    examples = read_examples(match[1], max(1, number), data.fields)
    if not 1 <= number <= len(examples):
        raise DataError(
            f"--example {place}: examples are counted from 1, and {match[1]} has "
            f"{len(examples) if number else 'no number 0'}."
        )
    return examples[number - 1]
