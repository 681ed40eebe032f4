"""The folder of a study, and what is to be run in it.

    STUDY/study.yaml                      the study as it was read
    STUDY/data-1.log                      what making the data printed
    STUDY/<task>/<method>/seed-<n>/       a run: its recipe, checkpoints, evals/test.json
    STUDY/<task>/<method>/seed-<n>.yaml   the recipe that it is trained with
    STUDY/<task>/<method>/seed-<n>.log    what it printed

Nothing else is remembered: what is done and what is left is read off these files.
"""

import hashlib
import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import yaml

from latentcot.data.examples import read_examples
from latentcot.data.sources import count_examples
from latentcot.errors import DataError, RunError
from latentcot.recipes.recipe import Data, Recipe, differences, read_recipe, write_recipe
from latentcot.recipes.values import read_yaml
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.studies.jobs import Making, Training
from latentcot.studies.study import Cell, Study, data_folder, is_file
from latentcot.utils.files import written_whole
from latentcot.utils.problems import listed
from latentcot.utils.processes import claim

NOTE = "study.yaml"
NUM_TOLD = 5


def open_study(study: Study, cells: Sequence[Cell], out: Path, *, overwrite: bool) -> None:
    """Make the folder of a study, or take it up again.

    Args:
        study: What was read.
        cells: Of it.
        out: The folder of the study.
        overwrite: Delete what is there first, if it is a study.

    Raises:
        RunError: There is something else, or runs were begun with other recipes.
    """
    found = [path for path in out.iterdir() if path.suffix != ".partial"] if out.is_dir() else []
    if (found and not (out / NOTE).is_file()) or (out.exists() and not out.is_dir()):
        raise RunError(f"{out}: holds something else than a study. Give another --out.")
    if found and overwrite:
        _refuse_running(out)
        _clear(out)
    elif found:
        _refuse_other_data(study, out)
        _refuse_other_recipes(cells, out)
    with written_whole(out / NOTE) as file:
        file.write(_as_read(study, out))


def _clear(out: Path) -> None:
    """Delete what is in the folder, and follow no link out of it.

    Raises:
        RunError: Something cannot be deleted.
    """
    try:
        # The note makes it a study: it goes last.
        for path in sorted(out.iterdir(), key=lambda path: path.name == NOTE):
            is_folder = path.is_dir() and not path.is_symlink()
            shutil.rmtree(path) if is_folder else path.unlink()
    except OSError as error:
        raise RunError(f"{out}: the study cannot be deleted: {error}.") from None


def _refuse_running(out: Path) -> None:
    """A process that outlived its study would write into the new one."""
    for log in out.rglob("*.log"):
        claimed = claim(log)
        if claimed is None:
            raise RunError(
                f"{out}: a process of an earlier study still writes to {log}. It ends by itself "
                "soon; try again then, or end it."
            )
        claimed.close()


def _as_read(study: Study, out: Path) -> str:
    """Return the study as YAML, with its recipe files as they are seen from its folder."""
    tasks = {}
    for task, changes in study.tasks.items():
        recipe = changes["recipe"]
        seen = os.path.relpath(recipe, out) if is_file(recipe, study) else recipe
        tasks[task] = {**changes, "recipe": seen}
    methods = [{name: changes} if changes else name for name, changes in study.methods.items()]
    values = {**asdict(study), "tasks": tasks, "methods": methods}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _refuse_other_data(study: Study, out: Path) -> None:
    """Data that are there are not made again, so they must be what the study says."""
    lines = read_yaml(out / NOTE).get("data")
    before = {
        data_folder(line): line
        for line in (lines if isinstance(lines, list) else [])
        if isinstance(line, str)
    }
    for line in study.data:
        old = before.get(data_folder(line), line)
        if shlex.split(old) != shlex.split(line):
            raise RunError(
                f"{out}: its data were made with {old!r}, and the study now says {line!r}. Name "
                "another folder with --out in this line, or give the study another --out."
            )


def _refuse_other_recipes(cells: Sequence[Cell], out: Path) -> None:
    """A run goes on, or counts as done, only with the recipe that it was begun with."""
    problems = []
    for cell in cells:
        run = out / cell.name
        path = run / "recipe.yaml"
        if not path.is_file() or not (checkpoint_folders(run) or any(run.glob("evals/*.json"))):
            continue  # it starts from the beginning
        before = read_recipe(path)
        if before != cell.recipe:
            problems.append(f"{cell.name}: {', '.join(differences(before, cell.recipe))}")
    if problems:
        told = [*problems[:NUM_TOLD]]
        if len(problems) > NUM_TOLD:
            told[-1] += f"\n  and {len(problems) - NUM_TOLD} more"
        raise RunError(
            listed(f"{out}: runs were begun with other recipes", told)
            + "\nTake the change back, delete these runs, or give another --out."
        )


def making_jobs(study: Study, out: Path) -> list[Making]:
    """Return what makes the data that are not there yet."""
    jobs = []
    for line in study.data:
        words = shlex.split(line)
        # Named after the line, not its place: whoever has a log has been made by this very line.
        log = out / f"data-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:8]}.log"
        name = f"data {words[0]}"
        folder = data_folder(line) or Path()
        # Only what this study has begun itself is replaced.
        jobs.append(Making(name, log, words, folder, overwrite=log.exists()))
    return [job for job in jobs if not job.is_done()]


def training_jobs(study: Study, cells: Sequence[Cell], out: Path) -> list[Training]:
    """Return what trains and evaluates these cells, and write the recipes of those left to do."""
    jobs = [_training(study, cell, out) for cell in cells]
    for cell, job in zip(cells, jobs, strict=True):
        if not job.is_done():
            with written_whole(job.recipe) as file:
                file.write(write_recipe(cell.recipe))
    return jobs


def _training(study: Study, cell: Cell, out: Path) -> Training:
    run = out / cell.name
    return Training(
        cell.name,
        run,
        run.with_name(f"{run.name}.yaml"),
        num_updates=_num_updates(cell.recipe),
        batch_size=study.evaluate.batch_size,
        limit=study.evaluate.limit,
    )


def _num_updates(recipe: Recipe) -> int | None:
    """Return how many updates a run has, for its bar; None if the data cannot tell."""
    training, data = recipe.training, recipe.data
    if training.epochs is None:
        return training.max_updates
    try:
        num_examples = _num_examples(data)
    except DataError:  # the run itself will say so
        return training.max_updates
    return training.num_updates(max(1, num_examples // training.batch_size))


@cache
def _num_examples(data: Data) -> int:
    if data.stream:
        return count_examples(data.train, data.max_train, data.num_examples)
    return len(read_examples(data.train, data.max_train))
