"""The quickstart: data, four methods side by side, one table, one page.

Everything is done by the ordinary commands, each in a process of its own with one thread: at this
size two methods beside each other use two cores better than two threads would.
"""

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from latentcot.errors import RunError
from latentcot.recipes.recipe import read_recipe
from latentcot.studies.jobs import Job, Making, Training, run_jobs, slots_for
from latentcot.utils.files import write_json
from latentcot.utils.versions import read_versioned

# The longest first, so that the shorter ones fill the gaps.
METHODS = ("coconut", "coconut-pause-as-thought", "cot", "no-cot")
SHOWN = ("coconut", "cot", "no-cot", "coconut-pause-as-thought")
RECIPE = Path(str(resources.files("latentcot"))) / "recipes" / "quickstart.yaml"
NOTE = "quickstart.json"
NOTE_VERSION = 1
SIZES = {"train": 100_000, "valid": 500, "test": 2_000}
# Half of the training graphs have 1 or 2 layers, as real data has chains of several lengths: with 3
# layers alone some seeds never leave stage 0 (docs/log.md). All test questions have 3.
GRAPHS = ("--preset", "two-family", "--layers", "3", "--shared", "0", "--shallower", "0.5")


def open_folder(out: Path, seed: int | None, *, resume: bool, overwrite: bool) -> tuple[int, float]:
    """Make the folder of a new quickstart, or take an old one up again.

    Returns:
        The seed, and the seconds that the quickstart has taken before.

    Raises:
        RunError: It exists and not exactly one of `resume` and `overwrite` was asked for, or it was
            begun with another seed.
    """
    note = out / NOTE
    if resume and overwrite:
        raise RunError(f"{out}: --resume and --overwrite exclude each other. Give one of them.")
    is_taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if is_taken and not note.exists():
        raise RunError(f"{out}: holds something else than a quickstart. Give another --out.")
    if is_taken and not (resume or overwrite):
        raise RunError(
            f"{out}: exists already. Give --resume to go on with it (what is done is not done "
            "again), --overwrite to delete it first, or another --out."
        )
    if is_taken and resume:
        begun = _read_note(note)
        if seed is not None and begun["seed"] != seed:
            raise RunError(
                f"{out}: was begun with --seed {begun['seed']}, not {seed}. Leave --seed out, or "
                "give another --out."
            )
        return begun["seed"], begun["seconds"]
    if is_taken:
        shutil.rmtree(out)
    seed = 0 if seed is None else seed
    write_json(note, {"format_version": NOTE_VERSION, "seed": seed, "seconds": 0.0})
    return seed, 0.0


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = read_versioned(path, NOTE_VERSION)
        return {**note, "seed": int(note["seed"]), "seconds": float(note["seconds"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path}: cannot be read: {error!r}. It must hold seed and seconds, such as "
            '{"seed": 0, "seconds": 0}. Write it anew, or start over with --overwrite.'
        ) from None


def note_seconds(out: Path, seconds: float) -> None:
    """Remember how long the quickstart has taken, so that resuming it does not make it shorter."""
    write_json(out / NOTE, _read_note(out / NOTE) | {"seconds": round(seconds, 1)})


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
    slots = slots_for(num_jobs)
    making = _making(out, seed)
    if not making.is_done():
        run_jobs([making], slots, on_failure=_refuse, is_quiet=is_quiet)
    jobs = [_training(method, out, seed) for method in METHODS]
    run_jobs(jobs, slots, on_failure=_refuse, is_quiet=is_quiet)
    return {job.name: job.run for job in jobs}


def _making(out: Path, seed: int) -> Making:
    sizes = [part for split, size in SIZES.items() for part in (f"--{split}", str(size))]
    words = ["prosqa", "--out", str(out / "data"), "--seed", str(seed), *GRAPHS, *sizes]
    return Making("data", out / "data.log", words, out / "data", overwrite=True)


def _training(method: str, out: Path, seed: int) -> Training:
    changes = _changes(method, out, seed)
    num_updates = read_recipe(RECIPE, changes).training.max_updates
    return Training(
        method, out / method, RECIPE, changes=changes, num_updates=num_updates, batch_size=500
    )


def _changes(method: str, out: Path, seed: int) -> list[str]:
    files = [f"data.{split}={out / 'data' / split}.jsonl" for split in SIZES]
    return [f"method={method}", f"seed={seed}", *files]


def _refuse(job: Job) -> None:
    raise RunError(
        f"quickstart: {job.failure(15)}\nThe same command with --resume goes on from what is done."
    )
