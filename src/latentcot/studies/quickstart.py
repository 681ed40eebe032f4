"""The quickstart: data, four methods next to each other, one table, one page.

Everything is done by the ordinary commands, as the jobs of a study are, each in a process of its
own with one thread: at this size two methods at a time use two cores better than two threads would.
"""

from pathlib import Path
from typing import Any

import yaml

from latentcot.data.examples import Example
from latentcot.errors import RunError
from latentcot.recipes.recipe import make_recipe
from latentcot.recipes.values import RECIPES, read_values
from latentcot.studies.folder import clear, is_taken, training_job
from latentcot.studies.jobs import Job, Making, run_jobs, slots_for
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import options_named
from latentcot.utils.files import write_json
from latentcot.utils.versions import read_versioned

# The longest first, so that the shorter ones fill the gaps.
METHODS = ("coconut", "coconut-pause-as-thought", "cot", "no-cot")
SHOWN = ("coconut", "cot", "no-cot", "coconut-pause-as-thought")
RECIPE = RECIPES / "quickstart.yaml"
NOTE = "quickstart.json"
NOTE_VERSION = 1
SIZES = {"train": 100_000, "valid": 500, "test": 2_000}
# Half of the training graphs have 1 or 2 layers, as real data has chains of several lengths: with 3
# layers alone some seeds never leave stage 0 (docs/dev/log.md). All test questions have 3.
GRAPHS = ("--preset", "two-family", "--layers", "3", "--shared", "0", "--shallower", "0.5")


def make_examples(number: int) -> list[Example]:
    """Return questions like those of the quickstart's training; no run has had these."""
    flags, values = GRAPHS[::2], map(yaml.safe_load, GRAPHS[1::2])
    named = {flag.removeprefix("--"): value for flag, value in zip(flags, values, strict=True)}
    return make_splits(options_named(**named), {"train": number}, seed=0)["train"]


def open_folder(out: Path, seed: int | None, *, resume: bool, overwrite: bool) -> tuple[int, float]:
    """Make the folder of a new quickstart, or resume the one that is there.

    Returns:
        The seed, and the seconds that the quickstart has taken before.

    Raises:
        RunError: It exists and not exactly one of `resume` and `overwrite` was asked for, or it was
            begun with another seed.
    """
    if resume and overwrite:
        raise RunError(f"{out}: --resume and --overwrite exclude each other. Give one of them.")
    if is_taken(out, NOTE, "a quickstart"):
        if resume:
            begun = _read_note(out)
            if seed is not None and begun["seed"] != seed:
                raise RunError(
                    f"{out}: was begun with --seed {begun['seed']}, not {seed}. Leave --seed out, "
                    "or give another --out."
                )
            return begun["seed"], begun["seconds"]
        if not overwrite:
            raise RunError(
                f"{out}: exists already. Give --resume to continue it (what is done is not done "
                "again), --overwrite to delete it first, or another --out."
            )
        clear(out, NOTE)
    note = {"format_version": NOTE_VERSION, "seed": seed or 0, "seconds": 0.0}
    write_json(out / NOTE, note)
    return seed or 0, 0.0


def _read_note(out: Path) -> dict[str, Any]:
    try:
        note = read_versioned(out / NOTE, NOTE_VERSION)
        return {**note, "seed": int(note["seed"]), "seconds": float(note["seconds"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{out / NOTE}: cannot be read: {error!r}. It must hold seed and seconds, such as "
            '{"seed": 0, "seconds": 0}. Write it again, or start over with --overwrite.'
        ) from None


def note_seconds(out: Path, seconds: float) -> None:
    """Remember how long the quickstart has taken, so that resuming it does not make it shorter."""
    write_json(out / NOTE, _read_note(out) | {"seconds": round(seconds, 1)})


def run_methods(out: Path, *, seed: int, num_jobs: int, is_quiet: bool) -> dict[str, Path]:
    """Make the data, train and evaluate every method; return the run folder of each.

    What an interrupted quickstart has done already is not done again.

    Args:
        out: Folder of the whole quickstart.
        seed: Of data, weights and order.
        num_jobs: Methods at a time, at least 1.
        is_quiet: Show no progress.

    Raises:
        RunError: A command failed; its output is in the message and in the method's log.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what runs has written checkpoints.
    """

    def refuse(job: Job) -> None:
        raise RunError(
            f"quickstart: {job.failure(15)}\nThe same command with --resume continues from what is "
            "done."
        )

    slots, data = slots_for(num_jobs), out / "data"
    sizes = [part for split, size in SIZES.items() for part in (f"--{split}", str(size))]
    words = ["prosqa", "--out", str(data), "--seed", str(seed), *GRAPHS, *sizes]
    making = Making("data", out / "data.log", words, data)
    if not making.is_done():
        run_jobs([making], slots, on_failure=refuse, is_quiet=is_quiet)
    changes = {"seed": seed, "data": {split: str(data / f"{split}.jsonl") for split in SIZES}}
    recipes = {name: read_values(RECIPE, [f"method={name}"]) | changes for name in METHODS}
    jobs = [
        training_job(name, out / name, make_recipe(values), batch_size=500)
        for name, values in recipes.items()
    ]
    run_jobs(jobs, slots, on_failure=refuse, is_quiet=is_quiet)
    return {job.name: job.run for job in jobs}
