"""`latentcot study`: tasks × methods × seeds from one file, and their table."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latentcot.studies.jobs import Job, Training
    from latentcot.studies.places import StudyFolder
    from latentcot.studies.study import Cell, Study

NUM_LINES = 5
"""Of the log of a run that failed."""


def study(
    file: Path,
    *,
    out: str,
    backend: Literal["local", "ray"] = "local",
    address: str | None = None,
    jobs: int | None = None,
    devices: str | None = None,
    only: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Train and evaluate every task with every method and seed, and compare them.

    The same command again goes on: what is done is not done again, what was stopped goes on from
    its checkpoint, what failed is tried again.

    Args:
        file: YAML file; docs/studies.md explains its keys.
        out: Folder of the study: the runs, and table.md, .tex, .csv and .json. With Ray also a URL,
            such as s3://bucket/study.
        backend: Processes of this machine, or tasks of a Ray cluster.
        address: The Ray cluster: auto, or HOST:PORT; if left out one is started on this machine.
        jobs: Runs at a time, one thread each; if left out one for each GPU, or for each core where
            there is none. With Ray as many as its machines have room for.
        devices: GPUs to use, such as 0,1; all if left out.
        only: Do this part alone: TASK, TASK/METHOD or TASK/METHOD/SEED, * is anything. Repeatable.
        overwrite: Delete the study in this folder first.
        quiet: Show no progress.
    """
    from latentcot.errors import UsageError
    from latentcot.studies.folder import open_study, training_jobs
    from latentcot.studies.jobs import slots_for
    from latentcot.studies.places import opened
    from latentcot.studies.study import cells_of, read_study, selected

    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs: must be at least 1, got {jobs}.")
    _refuse_what_does_not_fit(out, backend, address, devices)
    names = _names(devices)
    asked = read_study(file)
    cells = cells_of(asked)
    chosen = selected(cells, only)
    slots = slots_for(jobs, names)
    with opened(out) as place:
        open_study(asked, cells, place.folder, overwrite=overwrite)
        place.push(anew=overwrite)
        try:
            _make_data(asked, place, slots, quiet=quiet)
            runs = training_jobs(asked, chosen, place.folder)
            if backend == "local":
                failed = _run(runs, slots, quiet=quiet)
            else:
                failed = _run_on_ray(asked, chosen, runs, place, address, jobs, quiet=quiet)
        except KeyboardInterrupt:
            sys.stderr.write("Stopped. The same command goes on from the checkpoints.\n")
            sys.exit(130)
        _show(asked, place.folder)
        place.push()
    _tell(failed, len(chosen))


def _refuse_what_does_not_fit(
    out: str, backend: str, address: str | None, devices: str | None
) -> None:
    from latentcot.errors import UsageError
    from latentcot.utils.remote import is_url

    if backend == "ray":
        # Before any work: this raises UsageError where Ray is not installed.
        import latentcot.studies.ray  # noqa: F401
    if backend == "ray" and devices is not None:
        raise UsageError("--devices: Ray hands out the GPUs itself. Leave it out.")
    if backend == "local" and address is not None:
        raise UsageError("--address: is that of a Ray cluster. Give --backend ray too.")
    if backend == "local" and is_url(out):
        raise UsageError(
            f"--out: must be a folder of this machine, got {out!r}. A URL needs --backend ray."
        )


def _make_data(
    asked: "Study", place: "StudyFolder", slots: "Sequence[str | None]", *, quiet: bool
) -> None:
    from latentcot.errors import RunError
    from latentcot.studies.folder import making_jobs
    from latentcot.studies.jobs import run_jobs

    def refuse(job: "Job") -> None:
        raise RunError(f"{job.name}: {job.failure(NUM_LINES)}")

    try:
        run_jobs(making_jobs(asked, place.folder), slots, on_failure=refuse, is_quiet=quiet)
    finally:
        place.push()


def _run_on_ray(
    asked: "Study",
    chosen: "Sequence[Cell]",
    runs: "Sequence[Training]",
    place: "StudyFolder",
    address: str | None,
    num_jobs: int | None,
    *,
    quiet: bool,
) -> "list[Job]":
    """Return the runs that failed."""
    from latentcot.studies.ray import joined, ray_jobs

    place.push()
    if all(run.is_done() for run in runs):
        return []
    with joined(address, is_quiet=quiet) as cluster:
        tasks = ray_jobs(cluster, asked, chosen, runs, place)
        return _run(tasks, [None] * (num_jobs or len(tasks)), quiet=quiet)


def _run(runs: "Sequence[Job]", slots: "Sequence[str | None]", *, quiet: bool) -> "list[Job]":
    """Return the runs that failed."""
    from latentcot.studies.jobs import run_jobs

    failed: list[Job] = []
    run_jobs(runs, slots, on_failure=failed.append, is_quiet=quiet)
    return failed


def _names(devices: str | None) -> list[str]:
    from latentcot.errors import UsageError

    names = [] if devices is None else [name.strip() for name in devices.split(",")]
    if not all(names):
        raise UsageError(f"--devices: must be GPUs with commas between, like 0,1, got {devices!r}.")
    return names


def _show(asked: "Study", out: Path) -> None:
    """Print the table of the whole study, and write it."""
    from latentcot.cli.tables import print_summaries
    from latentcot.evaluation.comparison import summarize
    from latentcot.evaluation.tables import write_summaries

    # With --only the baseline may be missing still.
    has_baseline = any(out.glob(f"*/{asked.baseline}/seed-*"))
    summaries = summarize([out], asked.evaluation, asked.baseline if has_baseline else None)
    print_summaries(summaries)
    for ending in ("md", "tex", "csv", "json"):
        write_summaries(out / f"table.{ending}", summaries, asked.evaluation)


def _tell(failed: "Sequence[Job]", num_runs: int) -> None:
    """Say what failed; then the exit code is 1."""
    if not failed:
        return
    for job in failed:
        sys.stderr.write(f"{job.name}: {job.failure(NUM_LINES)}\n")
    sys.stderr.write(f"{len(failed)} of {num_runs} runs failed. The same command tries again.\n")
    sys.exit(1)
