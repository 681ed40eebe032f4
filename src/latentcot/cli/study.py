"""`latentcot study`: tasks × methods × seeds from one file, and their table."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latentcot.studies.jobs import Job
    from latentcot.studies.remote import StudyFolder
    from latentcot.studies.study import Cell, Study


def study(
    file: Path,
    /,
    *,
    out: Annotated[str, Parameter(alias="--output-dir")],
    backend: Literal["local", "ray"] = "local",
    address: str | None = None,
    jobs: int | None = None,
    devices: str | None = None,
    only: tuple[str, ...] = (),
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Train and evaluate every task with every method and seed, and compare them.

    The same command again resumes: what is done is not done again, what was stopped continues from
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
    from latentcot.cli.shared.tables import print_summaries
    from latentcot.studies.folder import open_study, write_tables
    from latentcot.studies.jobs import slots_for
    from latentcot.studies.remote import opened
    from latentcot.studies.study import cells_of, read_study, selected
    from latentcot.utils.display import say

    names = _gpus(out, backend, address, jobs, devices)
    asked = read_study(file)
    cells = cells_of(asked)
    chosen = selected(cells, only)
    slots = slots_for(jobs, names)
    with opened(out) as place:
        open_study(asked, cells, place.folder, overwrite=overwrite)
        place.push(overwrite=overwrite)
        try:
            with_ray = (address, jobs) if backend == "ray" else None
            failed = _run(asked, chosen, place, slots, with_ray, quiet=quiet)
        except KeyboardInterrupt:
            say("Stopped. The same command resumes from the checkpoints.")
            sys.exit(130)
        print_summaries(write_tables(asked, place.folder))
        place.push()
    for job in failed:
        say(f"{job.name}: {job.failure()}")
    if failed:
        say(f"{len(failed)} of {len(chosen)} runs failed. The same command tries again.")
        sys.exit(1)


def _gpus(
    out: str, backend: str, address: str | None, jobs: int | None, devices: str | None
) -> list[str]:
    """Refuse options that do not fit together, before any work; return the names of the GPUs."""
    from latentcot.errors import UsageError
    from latentcot.studies.remote import is_url

    if backend == "ray":
        import latentcot.studies.ray  # noqa: F401  (a UsageError where Ray is not installed)
    names = [] if devices is None else [name.strip() for name in devices.split(",")]
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs: must be at least 1, got {jobs}.")
    if not all(names):
        raise UsageError(f"--devices: must be GPUs with commas between, like 0,1, got {devices!r}.")
    if backend == "ray" and names:
        raise UsageError("--devices: Ray hands out the GPUs itself. Leave it out.")
    if backend == "local" and address is not None:
        raise UsageError("--address: is that of a Ray cluster. Give --backend ray too.")
    if backend == "local" and is_url(out):
        raise UsageError(
            f"--out: must be a folder of this machine, got {out!r}. A URL needs --backend ray."
        )
    return names


def _run(
    asked: "Study",
    chosen: "Sequence[Cell]",
    place: "StudyFolder",
    slots: "Sequence[str | None]",
    with_ray: tuple[str | None, int | None] | None,
    *,
    quiet: bool,
) -> "list[Job]":
    """Make the data, train and evaluate; return the runs that failed.

    With Ray the slots are for the data alone; `with_ray` is (address, runs at a time).
    """
    from latentcot.errors import RunError
    from latentcot.studies.folder import making_jobs, training_jobs
    from latentcot.studies.jobs import run_jobs

    def refuse(job: "Job") -> None:
        raise RunError(f"{job.name}: {job.failure()}")

    try:
        run_jobs(making_jobs(asked, place.folder), slots, on_failure=refuse, is_quiet=quiet)
    finally:
        place.push()
    failed: list[Job] = []
    runs = training_jobs(asked, chosen, place.folder)
    if with_ray is None:
        run_jobs(runs, slots, on_failure=failed.append, is_quiet=quiet)
    elif not all(run.is_done() for run in runs):
        from latentcot.studies.ray import joined, ray_jobs

        address, num_jobs = with_ray
        place.push()  # the recipes too, which the workers read
        with joined(address, is_quiet=quiet) as cluster:
            tasks = ray_jobs(cluster, asked, chosen, runs, place)
            slots = [None] * (num_jobs or len(tasks))
            run_jobs(tasks, slots, on_failure=failed.append, is_quiet=quiet)
    return failed
