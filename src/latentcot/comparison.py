"""Runs side by side, from their result files alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentcot.errors import RunError
from latentcot.runs import read_run_recipe


@dataclass(frozen=True, slots=True)
class Row:
    """One run in a comparison.

    Attributes:
        run: Its folder.
        method: A row of the method table.
        accuracy: Share of right answers, 0 … 1.
        low: Lower end of its 95 % interval (Wilson).
        high: Upper end.
        num_questions: Questions.
        tokens_per_question: Words, without markers and end of text.
        thoughts_per_question: Continuous thoughts.
        passes_per_question: Sequential calls of the backbone.
        seconds_per_question: Wall time of all divided by their number.
        seed: Of the run.
        updates: Of the run when it was evaluated; its best checkpoint is one of them.
    """

    run: str
    method: str
    accuracy: float
    low: float
    high: float
    num_questions: int
    tokens_per_question: float
    thoughts_per_question: float
    passes_per_question: float
    seconds_per_question: float
    seed: int
    updates: int


def compare(runs: Sequence[Path], evaluation: str = "test") -> list[Row]:
    """Return a row for each run.

    Args:
        runs: Run folders.
        evaluation: Which file of their `evals/` to take, without its ending.

    Raises:
        RunError: A run has no such evaluation, or the runs were asked different questions.
    """
    rows: list[Row] = []
    asked: dict[tuple[str, int], str] = {}
    for run in runs:
        row, data_hash = _row(Path(run), evaluation)
        rows.append(row)
        asked[data_hash, row.num_questions] = str(run)
    if len(asked) > 1:
        first, second = list(asked.values())[:2]
        raise RunError(
            f"{first} and {second} were evaluated on different files (or parts of them) of the "
            f"name {evaluation!r}, so their accuracies cannot be compared. Evaluate both on one."
        )
    return rows


def _row(run: Path, evaluation: str) -> tuple[Row, str]:
    path = run / "evals" / f"{evaluation}.json"
    recipe = read_run_recipe(run)
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        row = Row(
            run=str(run),
            seed=recipe["seed"],
            updates=result["checkpoint"]["run_updates"],
            **{name: result[name] for name in Row.__dataclass_fields__ if name in result},
        )
        return row, result["data"]["sha256"]
    except FileNotFoundError:
        others = sorted(other.stem for other in path.parent.glob("*.json"))
        hint = f" There are: {', '.join(others)} (--evaluation)." if others else ""
        raise RunError(f"{path}: is missing. `latentcot eval {run}` writes it.{hint}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: is no result file of latentcot: {error!r}.") from None
