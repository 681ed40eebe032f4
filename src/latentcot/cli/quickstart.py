"""`latentcot quickstart`: four methods, one table, one page, in minutes on two CPU cores."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def quickstart(
    *,
    out: Annotated[Path, Parameter(alias="--output-dir")] = Path("runs/quickstart"),
    seed: int | None = None,
    jobs: int = 2,
    resume: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Train Coconut, CoT, No-CoT and the pause control from scratch, and show what comes out.

    Args:
        out: Folder for data, runs, result.json and report.html.
        seed: Seed of graphs, weights and order; 0 if left out, with --resume that of the first run.
        jobs: Methods trained at a time, one thread each.
        resume: Continue a quickstart that was interrupted.
        overwrite: Delete the quickstart in this folder first.
        quiet: Show no progress.
    """
    import time

    from latentcot.cli.shared.tables import comparison_table, print_table
    from latentcot.errors import UsageError
    from latentcot.evaluation.comparison import compare
    from latentcot.studies.quickstart import SHOWN, note_seconds, open_folder, run_methods
    from latentcot.studies.quickstart_report import (
        CAPTION,
        conclusion,
        mass_lines,
        measure_frontier,
        write_quickstart_report,
        write_result,
    )
    from latentcot.utils.display import Terminal, say

    if jobs < 1:  # before --overwrite deletes anything
        raise UsageError(f"--jobs: must be at least 1, got {jobs}.")
    if seed is not None and seed < 0:
        raise UsageError(f"--seed: must be at least 0, got {seed}.")
    start = time.perf_counter()
    seed, seconds_before = open_folder(out, seed, resume=resume, overwrite=overwrite)
    try:
        runs = run_methods(out, seed=seed, num_jobs=jobs, is_quiet=quiet)
    except KeyboardInterrupt:
        note_seconds(out, seconds_before + time.perf_counter() - start)
        say("Stopped. The same command with --resume continues from the checkpoints.")
        sys.exit(130)
    rows = compare([runs[method] for method in SHOWN])
    frontier = measure_frontier(runs["coconut"], out / "data" / "test.jsonl")
    seconds = seconds_before + time.perf_counter() - start
    note_seconds(out, seconds)
    write_result(out / "result.json", rows, frontier, seconds=seconds, num_jobs=jobs)
    write_quickstart_report(out / "report.html", rows, runs, frontier)
    print_table(comparison_table(rows, caption=CAPTION))
    console = Terminal()
    console.print(conclusion(rows))
    for line in mass_lines(frontier):
        console.print(line)
    console.print(f"The page with the search inside the thoughts: {out / 'report.html'}")
