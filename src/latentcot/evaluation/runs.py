"""The runs of a comparison: where they lie, alone or in a study, and what their files say.

    STUDY/study.yaml
    STUDY/<task>/<method>/seed-<n>/       a run
    STUDY/<task>/<method>/seed-<n>.log    what it printed
    STUDY/<task>/<method>/seed-<n>.yaml   its recipe, there before it has begun

In a study the names of the folders are the names of task and method: it may have several variants
of one method. A run of it without a result has failed, and is told, never left out.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from latentcot.errors import RunError, UsageError
from latentcot.evaluation.files import EvaluationFile, read_evaluation
from latentcot.methods import METHODS
from latentcot.runs.folder import read_run_recipe
from latentcot.utils.parsing import one_line, parse_yaml, shown

OWN_TASK = "own"
"""What data of one's own is called, whose recipe says how answers are matched."""

_SEED = re.compile(r"seed-(-?\d+)(\.log|\.yaml)?")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


Group = tuple[str, str]
"""Task and method."""


@dataclass(frozen=True, slots=True)
class Place:
    """A run folder.

    Attributes:
        run: The folder. In a study it may not exist, where the run failed before it was made.
        task: The name of its task in a study; elsewhere None, and its files tell.
        method: The name of its method in a study.
        seed: The seed in its name in a study.
    """

    run: Path
    task: str | None = None
    method: str | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run of a study that has no result.

    Attributes:
        task: Name of its task.
        method: Name of its method.
        seed: Its seed.
        reason: In words: the last line that it printed, or that it has not finished.
    """

    task: str
    method: str
    seed: int
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """One run in a comparison.

    Attributes:
        run: Its folder.
        method: A row of the method table; in a study the name of its folder.
        accuracy: Share of right answers, 0 … 1.
        low: Lower end of its 95 % interval (Wilson).
        high: Upper end.
        num_questions: Questions.
        tokens_per_question: Words without end of text, and thoughts, as the paper counts them.
        thoughts_per_question: Continuous thoughts.
        passes_per_question: Sequential calls of the backbone.
        seconds_per_question: Wall time of all divided by their number.
        seed: Of the run.
        updates: Of the run when it was evaluated; its best checkpoint is one of them.
        task: As the recipe names it, `own` for data of one's own; in a study its folder's name.
        share_stopped_with_chain: Share of questions with exactly the thoughts of their chain; None
            where that is not known.
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
    task: str = "prosqa"
    share_stopped_with_chain: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One run with what a summary needs beyond its row.

    Attributes:
        row: Its figures.
        data_hash: SHA-256 of its questions.
        records: (id, whether it is right) of each question, sorted by id.
        recipe: Of the run.
        batch_size: Questions at a time.
        commit: Of latentcot when the run was evaluated.
        machine: On which it was evaluated.
        is_unfinished: Whether its checkpoint is of a stage before the last, as far as is known.
    """

    row: Row
    data_hash: str
    records: tuple[tuple[str, bool], ...]
    recipe: dict[str, Any]
    batch_size: int | None
    commit: str | None
    machine: str | None
    is_unfinished: bool = False

    @property
    def group(self) -> Group:
        """Task and method."""
        return self.row.task, self.row.method


def find_places(runs: Iterable[Path]) -> list[Place]:
    """Return the run folders, with those of a study in place of the study.

    Raises:
        RunError: A study has no runs.
        UsageError: One path was given in place of a list.
    """
    if isinstance(runs, str | Path):
        raise UsageError(f"compare: needs a list of run folders, got {str(runs)!r}: put it in one.")
    places: list[Place] = []
    for run in map(Path, runs):
        is_study = (run / "study.yaml").is_file() and not (run / "recipe.yaml").is_file()
        places += _study_places(run) if is_study else [Place(run)]
    return places


def _study_places(study: Path) -> list[Place]:
    places: dict[Path, Place] = {}
    is_asked = _asked(study)
    for path in study.glob("*/*/seed-*"):
        if not is_asked(path.parent.parent.name, path.parent.name):
            continue  # taken out of the study since it was run
        if found := _SEED.fullmatch(path.name):
            run = path.with_name(f"seed-{found[1]}")
            places[run] = Place(run, path.parent.parent.name, path.parent.name, int(found[1]))
    if not places:
        raise RunError(
            f"{study}: this study has no runs yet: there is no {study}/<task>/<method>/seed-<n>."
        )
    names = list(METHODS)

    def order(place: Place) -> tuple[str, int, str, int]:
        method = place.method or ""
        number = names.index(method) if method in names else len(names)
        return place.task or "", number, method, place.seed or 0

    return sorted(places.values(), key=order)


def _asked(study: Path) -> Callable[[str, str], bool]:
    """Return (task, method) → whether the study says so; where it says nothing, all are."""
    try:
        values = parse_yaml((study / "study.yaml").read_text(encoding="utf-8"))
        tasks, methods = set(values["tasks"]), values["methods"]
        names = {name for one in methods for name in ([one] if isinstance(one, str) else one)}
    except (OSError, ValueError, KeyError, TypeError):
        return lambda task, method: True
    return lambda task, method: task in tasks and method in names


def failure(place: Place, evaluation: str) -> FailedRun | None:
    """Return why a run of a study has no such evaluation; None if it has, or is in no study."""
    if place.task is None or place.method is None or place.seed is None:
        return None
    if (place.run / "recipe.yaml").is_file() and _result_path(place.run, evaluation).is_file():
        return None
    return FailedRun(place.task, place.method, place.seed, _reason(place.run, evaluation))


def _reason(run: Path, evaluation: str) -> str:
    others = _other_evaluations(run)
    if others:
        return f"has no evaluation {evaluation!r}, only {', '.join(others)}"
    try:
        text = run.with_name(f"{run.name}.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "not finished"
    # A progress bar writes over its line, and in colour.
    lines = [one_line(line) for line in _CONTROL.sub("", text).splitlines()]
    return next((line for line in reversed(lines) if line), "not finished")


def read_results(places: Iterable[Place], evaluation: str) -> list[Result]:
    """Return the results of run folders; runs of studies without one are left out.

    Raises:
        RunError: A run that was given by itself has none, or runs were asked different questions
            of one task.
    """
    results: list[Result] = []
    asked: dict[str, Result] = {}
    for place in places:
        if failure(place, evaluation) is not None:
            continue
        result = _result(place, evaluation)
        first = asked.setdefault(result.row.task, result)
        questions = [(one.data_hash, one.row.num_questions) for one in (first, result)]
        if questions[0] != questions[1]:
            raise RunError(
                f"{first.row.run} and {result.row.run} were evaluated on different files (or parts "
                f"of them) of the name {evaluation!r}, so their accuracies cannot be compared. "
                "Evaluate both on one."
            )
        results.append(result)
    return results


_FIGURES = (
    "accuracy", "low", "high", "tokens_per_question", "thoughts_per_question",
    "passes_per_question", "seconds_per_question", "num_questions", "share_stopped_with_chain",
)  # fmt: skip


def _result(place: Place, evaluation: str) -> Result:
    """Return what the files of a run say.

    Raises:
        RunError: One of them is missing, or is not what was written.
    """
    recipe = read_run_recipe(place.run)
    found = _evaluation_of(place.run, evaluation, recipe)
    return Result(
        row=Row(
            run=str(place.run),
            task=place.task or _task_label(found.task),
            method=place.method or found.method,
            seed=_seed_of(recipe, place.run),
            updates=found.checkpoint.run_updates,
            **{name: getattr(found, name) for name in _FIGURES},
        ),
        data_hash=found.data.sha256,
        # The sort is stable, so that questions of the same id stay in the order of the file.
        records=tuple(sorted(((r.id, r.is_correct) for r in found.records), key=itemgetter(0))),
        recipe=recipe,
        batch_size=found.batch_size,
        commit=found.provenance.code,
        machine=found.provenance.machine,
        is_unfinished=found.stage < found.last_stage,
    )


def _evaluation_of(run: Path, evaluation: str, recipe: Mapping[str, Any]) -> EvaluationFile:
    path = _result_path(run, evaluation)
    try:
        return read_evaluation(path, recipe)
    except FileNotFoundError:
        others = _other_evaluations(run)
        hint = f" There are: {', '.join(others)} (--evaluation)." if others else ""
        advice = hint or f" `latentcot eval {run}` writes it."
        raise RunError(f"{path}: is missing.{advice}") from None


def _seed_of(recipe: Mapping[str, Any], run: Path) -> int:
    seed = recipe.get("seed")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise RunError(f"{run / 'recipe.yaml'}: seed: must be a whole number, got {shown(seed)}.")
    return seed


def _task_label(task: object) -> str:
    """Return the name of a task as recipes and results have it: a text, or how to match answers."""
    return task if isinstance(task, str) else OWN_TASK


def _result_path(run: Path, evaluation: str) -> Path:
    if Path(evaluation).name != evaluation or evaluation == "..":
        raise UsageError(
            f"--evaluation: must be the name of a file in evals/, got {shown(evaluation)}."
        )
    return run / "evals" / f"{evaluation}.json"


def _other_evaluations(run: Path) -> list[str]:
    return sorted(path.stem for path in (run / "evals").glob("*.json"))
