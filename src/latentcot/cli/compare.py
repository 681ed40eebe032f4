"""`latentcot compare`: runs side by side, methods over several seeds."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def compare(
    *runs: Path,
    evaluation: str | None = None,
    baseline: str | None = None,
    out: tuple[Path, ...] = (),
    each_run: Annotated[bool, Parameter("--runs", negative="")] = False,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Compare runs that have been evaluated on the same questions.

    Runs of one method with several seeds become one row: mean ± standard deviation.

    Args:
        runs: Run folders, or folders of runs: of a study, of a quickstart.
        evaluation: Which file of their evals/ to take, without its ending; if left out test, or
            that of a study whose evaluate.limit asks a part of the questions.
        baseline: The method that the others are tested against, on the same questions.
        out: Write the comparison over the seeds to this file too: .md, .tex, .csv or .json by its
            ending. Repeatable.
        each_run: Show a row for each run, even if there are several seeds.
        as_json: Print the rows as JSON.
    """
    from latentcot.cli.shared.tables import (
        comparison_table,
        print_failed,
        print_summaries,
        print_table,
    )
    from latentcot.errors import RunError, UsageError
    from latentcot.evaluation.comparison import Row, default_evaluation, read_runs, summarize
    from latentcot.evaluation.tables import document, refuse_unknown_form, write_summaries
    from latentcot.utils.display import put_json

    if not runs:
        raise RunError("compare: needs at least one run folder.")
    if each_run and baseline is not None:
        raise UsageError("--runs shows single runs, and --baseline compares methods. Give one.")
    for path in out:
        refuse_unknown_form(path)
    evaluation = evaluation or default_evaluation(runs)
    found = read_runs(runs, evaluation)
    rows = [one for one in found if isinstance(one, Row)]
    failed = [one for one in found if not isinstance(one, Row)]
    seeds = {(one.task, one.method, one.seed) for one in found}
    has_one_seed = len(seeds) == len({(task, method) for task, method, _ in seeds})
    shows_runs = each_run or (bool(rows) and has_one_seed and baseline is None)
    summaries = [] if shows_runs and not out else summarize(runs, evaluation, baseline)
    for path in out:
        write_summaries(path, summaries, evaluation)
    if as_json:
        shown = [row.values() for row in rows] if shows_runs else document(summaries, evaluation)
        put_json(shown)
        print_failed(failed if shows_runs else [], to_stderr=True)
    elif shows_runs:
        print_table(comparison_table(rows))
        print_failed(failed)
    else:
        print_summaries(summaries)
