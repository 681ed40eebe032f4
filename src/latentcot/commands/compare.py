"""`latentcot compare`: runs side by side."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def compare(
    *runs: Path,
    evaluation: str = "test",
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Compare runs that have been evaluated on the same questions.

    Args:
        runs: Run folders.
        evaluation: Which file of their evals/ to take, without its ending.
        as_json: Print the rows as JSON.
    """
    from dataclasses import asdict

    from latentcot.commands.tables import comparison_table, print_table
    from latentcot.comparison import compare as read_rows
    from latentcot.errors import RunError

    if not runs:
        raise RunError("compare: needs at least one run folder.")
    rows = read_rows(runs, evaluation)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], ensure_ascii=False))
    else:
        print_table(comparison_table(rows))
