"""The folder of a study, and what is to be run in it.

    STUDY/study.yaml                      the study as it was read
    STUDY/data-….log                      what making the data printed
    STUDY/<task>/<method>/seed-<n>/       a run: its recipe, checkpoints, evals/test.json
    STUDY/<task>/<method>/seed-<n>.yaml   the recipe that it is trained with
    STUDY/<task>/<method>/seed-<n>.log    what it printed
    STUDY/table.{md,tex,csv,json}         the comparison over the seeds

Nothing else is remembered: what is done and what is left is read off these files.
"""

import hashlib
import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from itertools import product
from pathlib import Path

import yaml

from latentcot.data.examples import read_examples
from latentcot.data.sources import count_examples
from latentcot.errors import DataError, RunError
from latentcot.evaluation.comparison import Summary, summarize
from latentcot.evaluation.tables import write_summaries
from latentcot.recipes.recipe import Data, Recipe, as_begun, differences, read_recipe, write_recipe
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import RECIPE, STUDY_FILE
from latentcot.studies.jobs import Making, Training
from latentcot.studies.processes import claim
from latentcot.studies.study import Cell, Study, data_folder, is_file, read_study
from latentcot.utils.files import written_whole
from latentcot.utils.problems import listed

NUM_TOLD = 5


def is_taken(out: Path, note: str, what: str) -> bool:
    """Return whether a folder holds a study already, or whatever else this note stands for.

    Args:
        out: The folder.
        note: The file that makes it one.
        what: How it is called, with its article: `a study`.

    Raises:
        RunError: It holds something else.
    """
    found = [path for path in out.iterdir() if path.suffix != ".partial"] if out.is_dir() else []
    if (found and not (out / note).is_file()) or (out.exists() and not out.is_dir()):
        raise RunError(f"{out}: holds something else than {what}. Give another --out.")
    return bool(found)


def clear(out: Path, note: str) -> None:
    """Delete all that is in such a folder, and follow no link out of it.

    Raises:
        RunError: A process that outlived its command would write into the new one, or something
            cannot be deleted.
    """
    for log in out.rglob("*.log"):
        claimed = claim(log)
        if claimed is None:
            raise RunError(
                f"{out}: a process of an earlier command still writes to {log}. It ends by itself "
                "soon; try again then, or end it."
            )
        claimed.close()
    try:
        # The note makes it what it is: it goes last.
        for path in sorted(out.iterdir(), key=lambda path: path.name == note):
            is_folder = path.is_dir() and not path.is_symlink()
            shutil.rmtree(path) if is_folder else path.unlink()
    except OSError as error:
        raise RunError(f"{out}: cannot be deleted: {error}.") from None


def open_study(study: Study, cells: Sequence[Cell], out: Path, *, overwrite: bool) -> None:
    """Make the folder of a study, or resume the one that is there.

    Args:
        study: What was read.
        cells: Of it.
        out: The folder of the study.
        overwrite: Delete what is there first, if it is a study.

    Raises:
        RunError: There is something else, or data or runs were begun with other values.
    """
    found = is_taken(out, STUDY_FILE, "a study")
    if found and overwrite:
        clear(out, STUDY_FILE)
    elif found:  # data are not made again, and a run is resumed only if its recipe is the same
        before = {data_folder(line): line for line in read_study(out / STUDY_FILE).data}
        for line in study.data:
            old = before.get(data_folder(line), line)
            if shlex.split(old) != shlex.split(line):
                raise RunError(
                    f"{out}: its data were made with {old!r}, and the study now says {line!r}. "
                    "Name another folder with --out in this line, or give the study another --out."
                )
        problems = []
        for cell in cells:
            run = out / cell.name
            is_begun = checkpoint_folders(run) or any(run.glob("evals/*.json"))
            if not is_begun or not (run / RECIPE).is_file():
                continue  # it starts from the beginning
            begun = read_recipe(run / RECIPE)
            if begun != (recipe := as_begun(cell.recipe, begun)):
                problems.append(f"{cell.name}: {', '.join(differences(begun, recipe))}")
        if problems:
            told = problems[:NUM_TOLD]
            if len(problems) > NUM_TOLD:
                told[-1] += f"\n  and {len(problems) - NUM_TOLD} more"
            raise RunError(
                listed(f"{out}: runs were begun with other recipes", told)
                + "\nTake the change back, delete these runs, or give another --out."
            )
    # Its recipe files are named as they are found from its folder.
    tasks = {
        task: {**changes, "recipe": os.path.relpath(changes["recipe"], out)}
        if is_file(changes["recipe"], study)
        else changes
        for task, changes in study.tasks.items()
    }
    methods = [{name: changes} if changes else name for name, changes in study.methods.items()]
    values = {**asdict(study), "tasks": tasks, "methods": methods}
    with written_whole(out / STUDY_FILE) as file:
        file.write(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def making_jobs(study: Study, out: Path) -> list[Making]:
    """Return what makes the data that are not there yet."""
    jobs = []
    for line in study.data:
        words = shlex.split(line)
        # Named after the line, not its place: whoever has a log has been made by this very line.
        log = out / f"data-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:8]}.log"
        jobs.append(Making(f"data {words[0]}", log, words, data_folder(line)))
    return [job for job in jobs if not job.is_done()]


def training_jobs(study: Study, cells: Sequence[Cell], out: Path) -> list[Training]:
    """Return what trains and evaluates these cells, and write the recipes of those left to do."""
    asked = asdict(study.evaluate)
    return [training_job(cell.name, out / cell.name, cell.recipe, **asked) for cell in cells]


def training_job(
    name: str, run: Path, recipe: Recipe, *, batch_size: int, limit: int | None = None
) -> Training:
    """Return what trains a recipe in this folder and evaluates it; its file lies next to it.

    Args:
        name: In front of its bar.
        run: Its folder.
        recipe: What it is trained with.
        batch_size: Questions at a time in the evaluation.
        limit: Ask this many questions of the test file; all if None.
    """
    total = num_updates_of(recipe)
    job = Training(name, run, num_updates=total, batch_size=batch_size, limit=limit)
    if not job.is_done():
        with written_whole(job.recipe) as file:
            file.write(write_recipe(recipe))
    return job


def num_updates_of(recipe: Recipe) -> int | None:
    """Return how many updates a run has, for its bar; None if the data cannot tell."""
    training = recipe.training
    if training.epochs is None:
        return training.max_updates
    try:
        num_examples = _num_examples(recipe.data)
    except DataError:  # the run itself will say so
        return training.max_updates
    return training.num_updates(max(1, num_examples // training.batch_size))


@cache
def _num_examples(data: Data) -> int:
    if data.stream:
        return count_examples(data.train, data.max_train, data.num_examples, data.fields)
    return len(read_examples(data.train, data.max_train, data.fields))


def write_tables(study: Study, out: Path) -> list[Summary]:
    """Compare all runs of a study over their seeds; write table.md, .tex, .csv and .json."""
    # Of a part of the study the baseline may be missing still.
    has_baseline = any(
        (out / task / str(study.baseline) / f"seed-{seed}{ending}").exists()
        for task, seed, ending in product(study.tasks, study.seeds, ("", ".yaml"))
    )
    summaries = summarize([out], study.evaluation, study.baseline if has_baseline else None)
    for ending in ("md", "tex", "csv", "json"):
        write_summaries(out / f"table.{ending}", summaries, study.evaluation)
    return summaries
