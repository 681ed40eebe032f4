"""From a recipe to a run folder: start a training, or take one up again."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from transformers import TrainerCallback

from latentcot.data.formats import is_hub, path_of, source_hash
from latentcot.errors import RunError, UsageError
from latentcot.recipes.recipe import Recipe, as_begun, differences, read_recipe, write_recipe
from latentcot.runs.folder import RECIPE, held, open_run, refuse_taken
from latentcot.runs.provenance import add_session, read_provenance, write_provenance
from latentcot.training.build import build
from latentcot.training.loop import Trainer
from latentcot.training.saving import NUM_KEPT
from latentcot.utils.display import say
from latentcot.utils.files import written_whole
from latentcot.utils.memory import keep_freed_memory
from latentcot.utils.parsing import shown
from latentcot.utils.problems import at_most


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    keep_checkpoints: int = NUM_KEPT,
    shards: bool = False,
    is_quiet: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> bool:
    """Train as a recipe says, into a run folder; together with all processes of a launcher.

    Args:
        recipe: What to train.
        out: The run folder.
        resume: Go on with the run that is there, from its newest checkpoint.
        overwrite: Delete the run that is there.
        keep_checkpoints: The newest checkpoints to keep; the best one stays beside them.
        shards: Of several processes, let each hold a share of the weights (FSDP2).
        is_quiet: Show no progress.
        callbacks: Of transformers; docs/ecosystem.md says which of their events are called. They
            are no part of the recipe: a resumed run has those that it is given.

    Returns:
        Whether training reached its end; False if Ctrl-C or a callback ended it, with a checkpoint.

    Raises:
        LatentcotError: With what is wrong; what had been saved stays.
    """
    out = Path(out)
    if not isinstance(recipe, Recipe):
        raise UsageError(
            f"train: needs a Recipe, as read_recipe(path) gives it, got {shown(recipe)}."
        )
    if keep_checkpoints < 1:
        raise UsageError(f"keep_checkpoints: must be at least 1, got {keep_checkpoints}.")
    if resume:
        recipe = _as_begun(recipe, out)
    refuse_taken(out, resume=resume, overwrite=overwrite)
    keep_freed_memory()
    trainer = Trainer(
        build(recipe), out, num_kept=keep_checkpoints, shards=shards, callbacks=callbacks
    )
    recipe = trainer.run.recipe
    accelerator = trainer.train_step.accelerator
    if shards and accelerator.num_processes == 1:
        say("Note: --shard shares nothing out, since this is the only process (docs/devices.md).")
    with held(out) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            open_run(out, resume=resume, overwrite=overwrite)
            if not (out / RECIPE).exists():  # first: it makes the folder a run, to be resumed
                with written_whole(out / RECIPE) as file:
                    file.write(write_recipe(recipe))
            if not (out / "provenance.json").exists():
                files = [recipe.data.train, recipe.data.valid]
                test = recipe.data.test  # is read later, if ever, and need not be here yet
                if test is not None and not is_hub(test) and path_of(test).exists():
                    files.append(test)
                device = str(accelerator.device)
                hash_of = _hash_of(recipe)
                write_provenance(
                    out,
                    files,
                    device,
                    recipe.seed,
                    hash_of,
                    trainer.num_updates,
                    is_base_local=isinstance(recipe.model, str) and Path(recipe.model).exists(),
                )
        accelerator.wait_for_everyone()
        if resume:
            trainer.restore()
            if trainer.update >= trainer.num_updates and not is_quiet:
                say(f"{out}: was finished already, after {trainer.update:,} updates.")
        if resume and accelerator.is_main_process and trainer.update < trainer.num_updates:
            different = add_session(out, str(accelerator.device), trainer.update)
            if different:
                say(
                    f"Note: {', '.join(different)}. The result may differ in its last bits from "
                    "that of a run in one go."
                )
        is_finished = trainer.run_to_end(is_quiet=is_quiet)
    if accelerator.num_processes > 1:  # a rank that leaves while another talks to it would abort
        accelerator.wait_for_everyone()
        accelerator.end_training()
    return is_finished


def _hash_of(recipe: Recipe) -> Callable[[str], str]:
    """A stream is not loaded to tell its hash."""
    data = recipe.data
    return lambda file: source_hash(file, is_streamed=data.stream and file == data.train)


def _as_begun(recipe: Recipe, run: Path) -> Recipe:
    """Return the recipe with which a run began; refuse another, or other data."""
    path = run / RECIPE
    if path.exists():
        before = read_recipe(path)
        recipe = as_begun(recipe, before)
        if recipe != before:
            told = ", ".join(at_most(differences(before, recipe), "and {} more"))
            raise RunError(
                f"{run}: was started with another recipe than the one given, so it can't be "
                f"resumed with it: {told}. Take that back (the whole recipe is in {path}), or "
                "start another run with another --out."
            )
    hash_of = _hash_of(recipe)
    for file, known in read_provenance(run).get("data", {}).items():
        if file in (recipe.data.train, recipe.data.valid) and hash_of(file) != known:
            raise RunError(
                f"{file}: has changed since {run} was started, so the run can't be resumed as it "
                "was. Bring the old file back, or start another run."
            )
    return recipe
