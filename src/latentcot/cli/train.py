"""`latentcot train`: one recipe, one run folder."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def train(
    recipe: Path,
    /,
    *changes: str,
    out: Annotated[Path, Parameter(alias="--output-dir")],
    method: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter("--set")] = (),
    resume: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    keep_checkpoints: int = 2,
    shard: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Train a model as a recipe says.

    Under torchrun or accelerate launch all processes train it together (docs/devices.md).

    Args:
        recipe: A YAML file (docs/recipes.md), or the name of a recipe of `latentcot list recipes`.
        changes: KEY=VALUE, as behind --set.
        out: The run folder to write.
        method: Train this one of `latentcot list methods` instead of the recipe's.
        set_: Change a key of the recipe, for example --set training.learning_rate=3e-4. Repeatable.
        resume: Continue the run in this folder from its newest checkpoint.
        overwrite: Delete the run in this folder first.
        keep_checkpoints: The newest checkpoints to keep; the best one stays with them.
        shard: Of several processes, let each hold a shard of the weights (FSDP2), for models that
            are too large for one device.
        quiet: Show no progress.
    """
    from latentcot.recipes.recipe import read_recipe
    from latentcot.utils.display import say

    read = read_recipe(recipe, [*([f"method={method}"] if method else []), *set_, *changes])
    from latentcot.training.train import train as run  # after what is wrong at once: it loads torch

    is_finished = run(
        read,
        out,
        resume=resume,
        overwrite=overwrite,
        keep_checkpoints=keep_checkpoints,
        shards=shard,
        is_quiet=quiet,
    )
    if not is_finished:
        sys.exit(130)
    if not quiet:
        say(f"Done. `latentcot eval {out}` evaluates its best checkpoint.")
