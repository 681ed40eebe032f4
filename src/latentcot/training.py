"""From a recipe to a run folder: start a training, or take one up again."""

from pathlib import Path

from latentcot.config import Recipe, read_recipe, write_recipe
from latentcot.errors import RunError
from latentcot.files import written_whole
from latentcot.formats import source_hash
from latentcot.preparation import prepare
from latentcot.runs import open_run, read_provenance, refuse_taken, write_provenance
from latentcot.trainer import Trainer


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    is_quiet: bool = False,
) -> bool:
    """Train as a recipe says, into a run folder.

    Args:
        recipe: What to train.
        out: The run folder.
        resume: Go on with the run that is there, from its newest checkpoint.
        overwrite: Delete the run that is there.
        is_quiet: Show no progress.

    Returns:
        Whether training reached its end; False if Ctrl-C ended it, with a checkpoint.

    Raises:
        LatentcotError: With what is wrong; what had been saved stays.
    """
    out = Path(out)
    if resume:
        _refuse_other_recipe(recipe, out)
        _refuse_other_data(recipe, out)
    refuse_taken(out, resume=resume, overwrite=overwrite)
    model, tokenizer, data = prepare(recipe)
    trainer = Trainer(recipe, out, model, tokenizer, data)
    accelerator = trainer.learner.accelerator
    if accelerator.is_main_process:
        open_run(out, resume=resume, overwrite=overwrite)
    if accelerator.is_main_process and not resume:
        with written_whole(out / "recipe.yaml") as file:
            file.write(write_recipe(recipe))
        files = [recipe.data.train, recipe.data.valid]
        write_provenance(out, files, str(accelerator.device), recipe.seed)
    accelerator.wait_for_everyone()
    if resume:
        trainer.restore()
    is_finished = trainer.run_to_end(is_quiet=is_quiet)
    if accelerator.num_processes > 1:  # a rank that leaves while another talks to it would abort
        accelerator.wait_for_everyone()
        accelerator.end_training()
    return is_finished


def _refuse_other_recipe(recipe: Recipe, run: Path) -> None:
    path = run / "recipe.yaml"
    if path.exists() and read_recipe(path) != recipe:
        raise RunError(
            f"{run}: was started with another recipe than the one given, so it can't go on with "
            f"it. Compare with {path}, or start another run with another --out."
        )


def _refuse_other_data(recipe: Recipe, run: Path) -> None:
    for file, before in read_provenance(run).get("data", {}).items():
        if file in (recipe.data.train, recipe.data.valid) and source_hash(file) != before:
            raise RunError(
                f"{file}: has changed since {run} was started, so the run can't go on as it was. "
                "Bring the old file back, or start another run."
            )
