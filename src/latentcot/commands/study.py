"""`latentcot study`: tasks × methods × seeds from one file, and their table."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from latentcot.jobs import Job
    from latentcot.study import Study

NUM_LINES = 5
"""Of the log of a run that failed."""


def study(
    file: Path,
    *,
    out: Path,
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
        out: Folder of the study: the runs, and table.md, .tex, .csv and .json.
        jobs: Runs at a time, one thread each; if left out one for each GPU, or for each core where
            there is none.
        devices: GPUs to use, such as 0,1; all if left out.
        only: Do this part alone: TASK, TASK/METHOD or TASK/METHOD/SEED, * is anything. Repeatable.
        overwrite: Delete the study in this folder first.
        quiet: Show no progress.
    """
    from latentcot.errors import RunError, UsageError
    from latentcot.jobs import run_jobs, slots_for
    from latentcot.study import cells_of, read_study, selected
    from latentcot.study_folder import making_jobs, open_study, training_jobs

    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs: must be at least 1, got {jobs}.")
    asked = read_study(file)
    cells = cells_of(asked)
    chosen = selected(cells, only)
    slots = slots_for(jobs, _names(devices))
    open_study(asked, cells, out, overwrite=overwrite)

    def refuse(job: "Job") -> None:
        raise RunError(f"{job.name}: {job.failure(NUM_LINES)}")

    failed: list[Job] = []
    try:
        run_jobs(making_jobs(asked, out), slots, on_failure=refuse, is_quiet=quiet)
        runs = training_jobs(asked, chosen, out)
        run_jobs(runs, slots, on_failure=failed.append, is_quiet=quiet)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. The same command goes on from the checkpoints.\n")
        sys.exit(130)
    _show(asked, out)
    _tell(failed, len(runs))


def _names(devices: str | None) -> list[str]:
    from latentcot.errors import UsageError

    names = [] if devices is None else [name.strip() for name in devices.split(",")]
    if not all(names):
        raise UsageError(f"--devices: must be GPUs with commas between, like 0,1, got {devices!r}.")
    return names


def _show(asked: "Study", out: Path) -> None:
    """Print the table of the whole study, and write it."""
    from latentcot.commands.tables import print_summaries
    from latentcot.comparison import summarize
    from latentcot.comparison_files import write_summaries

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
