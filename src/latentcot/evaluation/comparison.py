"""Runs side by side, and methods over several seeds, from the result files of the runs alone.

    STUDY/study.yaml
    STUDY/<task>/<method>/seed-<n>/       a run
    STUDY/<task>/<method>/seed-<n>.log    what it printed
    STUDY/<task>/<method>/seed-<n>.yaml   its recipe, there before it has begun

In a study the names of the folders are the names of task and method: it may have several variants
of one method. A run of it without a result has failed, and is told, never left out.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from latentcot.errors import RunError, UsageError, did_you_mean
from latentcot.evaluation.results import Estimate, Evaluation
from latentcot.evaluation.statistics import (
    holm,
    mean_and_sd,
    mean_interval,
    paired_p_value,
    share_interval,
)
from latentcot.methods import METHODS
from latentcot.recipes.values import flat
from latentcot.runs.folder import OWN_TEST, RECIPE, STUDY_FILE, read_run_recipe
from latentcot.utils.display import say_once
from latentcot.utils.parsing import one_line, parse_yaml, shown
from latentcot.utils.problems import at_most

_SEED = re.compile(r"seed-(-?\d+)(\.log|\.yaml)?")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Row:
    """One run in a comparison.

    Attributes:
        run: Its folder.
        task: As its result names it; in a study the name of its folder.
        method: The same.
        seed: Of the run.
        result: Accuracy, cost and records.
        recipe: Of the run, as plain values.
    """

    run: str
    task: str
    method: str
    seed: int
    result: Evaluation
    recipe: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def updates(self) -> int:
        """Of the run when it was evaluated; its best checkpoint is one of them."""
        return self.result.checkpoint.updates if self.result.checkpoint else 0

    def values(self) -> dict[str, Any]:
        """Return it as plain values: the summary of its result, and what tells runs apart."""
        names = ("run", "task", "method", "seed", "updates")
        return self.result.summary() | {name: getattr(self, name) for name in names}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A method on a task, over its seeds. Figures are None where no seed has a result.

    Attributes:
        task: Name of the task.
        method: Name of the method.
        accuracy: Mean share of right answers over the seeds, with the 95 % interval (Wilson) over
            which questions were drawn; `n` is the number of questions of each run.
        accuracy_sd: Its standard deviation over the seeds (n − 1); None for one seed.
        over_seeds: The same mean with the 95 % interval (Student) over the seeds, cut at 0 and 1;
            `n` is the number of seeds; None for one seed.
        seeds: With a result.
        accuracies: Of each run, in the order of `seeds`.
        tokens_per_question: Mean over the seeds, as the next three.
        thoughts_per_question: Continuous thoughts.
        passes_per_question: Sequential calls of the backbone.
        seconds_per_question: Wall time of all divided by their number.
        share_stopped_with_chain: Share of questions with exactly the thoughts of their chain.
        updates: Of each run, in the order of `seeds`.
        batch_sizes: Questions at a time; seconds depend on it.
        versus: The baseline; None for the baseline itself and without one.
        difference: Mean accuracy less that of the baseline, in points, over `paired_seeds`; over
            all seeds of both where there are none.
        paired_seeds: That the baseline has too; difference and p are about these.
        p: McNemar's test on the same questions, combined over `paired_seeds`.
        p_adjusted: The same, adjusted (Holm) for all comparisons of this task.
        failed: (seed, reason) of each run without a result.
        unfinished: Seeds whose best checkpoint is of a stage before the last.
        varied: Keys in which the recipes of the runs differ, other than seed and files.
        commits: Of latentcot when the runs were evaluated.
        machines: On which they were evaluated.
    """

    task: str
    method: str
    accuracy: Estimate | None = None
    accuracy_sd: float | None = None
    over_seeds: Estimate | None = None
    seeds: tuple[int, ...] = ()
    accuracies: tuple[float, ...] = ()
    tokens_per_question: float | None = None
    thoughts_per_question: float | None = None
    passes_per_question: float | None = None
    seconds_per_question: float | None = None
    share_stopped_with_chain: float | None = None
    updates: tuple[int, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    versus: str | None = None
    difference: float | None = None
    paired_seeds: tuple[int, ...] = ()
    p: float | None = None
    p_adjusted: float | None = None
    failed: tuple[tuple[int, str], ...] = ()
    unfinished: tuple[int, ...] = ()
    varied: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()


def compare(runs: Sequence[Path], evaluation: str = "test") -> list[Row]:
    """Return a row for each run that has a result.

    Args:
        runs: A list of run folders, or folders of studies: then those of their runs that have a
            result; `read_runs` tells the others.
        evaluation: Which file of their `evals/` to take, without its ending.

    Raises:
        RunError: A run that was given by itself has no such evaluation, or runs were asked
            different questions of one task, or a study has no runs.
        UsageError: One path was given in place of a list.
    """
    return [one for one in read_runs(runs, evaluation) if isinstance(one, Row)]


def summarize(
    runs: Sequence[Path],
    evaluation: str = "test",
    baseline: str | None = None,
) -> list[Summary]:
    """Return a summary for each method on each task, over its seeds.

    Tasks stay together; in each the methods of studies come first, in their order.

    Args:
        runs: Run folders, or folders of studies.
        evaluation: Which file of their `evals/` to take, without its ending.
        baseline: The method that the others are tested against.

    Raises:
        RunError: As `compare`; or two runs have the same task, method and seed, or no run is of
            the baseline.
    """
    found = read_runs(runs, evaluation, studies_first=True)
    tasks = list(dict.fromkeys(one.task for one in found))
    found.sort(key=lambda one: tasks.index(one.task))
    groups: dict[tuple[str, str], dict[int, Row]] = {}
    failures: dict[tuple[str, str], dict[int, str]] = {}
    for one in found:
        key = one.task, one.method
        group = groups.setdefault(key, {})
        if isinstance(one, FailedRun):
            failures.setdefault(key, {})[one.seed] = one.reason
            continue
        twin = group.setdefault(one.seed, one)
        if twin is not one:
            raise RunError(
                f"{twin.run} and {one.run} are both {one.method} on {one.task} with seed "
                f"{one.seed}, and one seed must not count twice. Leave one out, or use "
                "`latentcot compare --runs` without --baseline."
            )
    methods = {method for _, method in groups}
    if baseline is not None and baseline not in methods:
        raise RunError(
            f"baseline {baseline!r}: no run is of this method.{did_you_mean(baseline, methods)} "
            f"There are: {', '.join(sorted(methods))}."
        )

    summaries: list[Summary] = []
    for task in tasks:
        of_task = {m: _summary(task, m, list(group.values()), failures.get((task, m), {}))
                   for (t, m), group in groups.items() if t == task}  # fmt: skip
        if baseline is not None and baseline in of_task:
            reference, theirs = of_task[baseline], groups[task, baseline]
            for method, ours in of_task.items():
                if ours is not reference:
                    of_task[method] = _against(ours, reference, groups[task, method], theirs)
        p_of = {method: one.p for method, one in of_task.items() if one.p is not None}
        adjusted = dict(zip(p_of, holm(list(p_of.values())), strict=True))
        summaries += [replace(one, p_adjusted=adjusted.get(m)) for m, one in of_task.items()]
    return summaries


def _summary(task: str, method: str, rows: Sequence[Row], failures: Mapping[int, str]) -> Summary:
    rows = sorted(rows, key=lambda row: row.seed)
    seeds = tuple(row.seed for row in rows)
    failed = tuple((seed, failures[seed]) for seed in sorted(failures) if seed not in seeds)
    if not rows:
        return Summary(task=task, method=method, failed=failed)
    results = [row.result for row in rows]
    accuracies = tuple(result.accuracy.value for result in results)
    mean, sd = mean_and_sd(accuracies)
    num_questions = results[0].accuracy.n
    interval = mean_interval(accuracies)
    stopped = [share for r in results if (share := r.share_stopped_with_chain) is not None]
    # Recipes should differ in their seed alone; files may be called otherwise elsewhere, and an
    # older latentcot wrote fewer keys.
    recipes = [row.recipe for row in rows]
    keyed = [dict(flat(recipe)) for recipe in recipes]
    keys = set.intersection(*map(set, keyed)) - {"seed", "data.train", "data.valid", "data.test"}
    differing = {key for key in keys if any(one[key] != keyed[0][key] for one in keyed)}
    # A model by its name and one by its settings have no key in common below `model`.
    kinds = {name: {isinstance(one.get(name), Mapping) for one in recipes} for name in recipes[0]}
    return Summary(
        task=task,
        method=method,
        accuracy=Estimate(mean, *share_interval(mean, num_questions), num_questions),
        accuracy_sd=sd,
        over_seeds=(
            Estimate(mean, max(0.0, interval[0]), min(1.0, interval[1]), len(rows))
            if interval
            else None
        ),
        seeds=seeds,
        accuracies=accuracies,
        tokens_per_question=fmean(result.tokens_per_question for result in results),
        thoughts_per_question=fmean(result.thoughts_per_question for result in results),
        passes_per_question=fmean(result.passes_per_question for result in results),
        seconds_per_question=fmean(result.seconds_per_question for result in results),
        share_stopped_with_chain=fmean(stopped) if stopped else None,
        updates=tuple(row.updates for row in rows),
        batch_sizes=tuple(sorted({r.batch_size for r in results if r.batch_size})),
        failed=failed,
        unfinished=tuple(row.seed for row in rows if row.result.stage < row.result.last_stage),
        varied=tuple(sorted(differing | {name for name, kind in kinds.items() if len(kind) > 1})),
        commits=tuple(sorted({r.commit for r in results if r.commit})),
        machines=tuple(sorted({r.machine for r in results if r.machine})),
    )


def _against(
    one: Summary, reference: Summary, ours: Mapping[int, Row], theirs: Mapping[int, Row]
) -> Summary:
    """Return a summary with its difference from the baseline, run by run of the same seed."""
    seeds = tuple(seed for seed in one.seeds if seed in theirs)
    discordant, differences = [], []
    for first, second in ((ours[seed], theirs[seed]) for seed in seeds):
        # The sort is stable, so that questions of the same id stay in the order of the file.
        records = [sorted(row.result.records, key=lambda r: r.id) for row in (first, second)]
        if [r.id for r in records[0]] != [r.id for r in records[1]]:
            raise RunError(
                f"{first.run} and {second.run}: the records of their results have other ids, so "
                "they cannot be paired question by question. Evaluate both again."
            )
        pairs = [(a.is_correct, b.is_correct) for a, b in zip(*records, strict=True)]
        discordant.append((pairs.count((True, False)), pairs.count((False, True))))
        differences.append(first.result.accuracy.value - second.result.accuracy.value)
    difference = fmean(differences) if differences else None
    if difference is None and one.accuracy and reference.accuracy:
        difference = one.accuracy.value - reference.accuracy.value
    return replace(
        one,
        versus=reference.method,
        difference=None if difference is None else 100 * difference,
        paired_seeds=seeds,
        p=paired_p_value(discordant) if discordant else None,
    )


# --- the runs -----------------------------------------------------------------------------------


def read_runs(
    runs: Sequence[Path], evaluation: str = "test", *, studies_first: bool = False
) -> list[Row | FailedRun]:
    """Return what the files of the runs say, those of a study that have no result among them.

    Args:
        runs: Run folders, or folders of studies, which stand for their runs.
        evaluation: Which file of their `evals/` to take, without its ending.
        studies_first: The runs of studies come first, in their order; else all stand as given.

    Raises:
        RunError: As `compare`.
        UsageError: One path was given in place of a list.
    """
    if isinstance(runs, str | Path):
        raise UsageError(f"compare: needs a list of run folders, got {str(runs)!r}: put it in one.")
    if Path(evaluation).name != evaluation or evaluation == "..":
        raise UsageError(
            f"--evaluation: must be the name of a file in evals/, got {shown(evaluation)}."
        )
    runs = _runs_in([Path(run) for run in runs])
    studies = [run for run in runs if _is_study(run)]
    found: list[Row | FailedRun] = []
    _refuse_unevaluated([run for run in runs if run not in studies], evaluation)
    for run in sorted(runs, key=lambda run: studies_first and run not in studies):
        found += _read_study(run, evaluation) if run in studies else [_read(run, evaluation)]
    asked: dict[str, Row] = {}
    for row in (one for one in found if isinstance(one, Row)):
        first = asked.setdefault(row.task, row)
        questions = [
            (one.result.data and one.result.data.sha256, one.result.accuracy.n)
            for one in (first, row)
        ]
        if questions[0] != questions[1]:
            raise RunError(
                f"{first.run} and {row.run} were evaluated on different files (or parts of them) "
                f"of the name {evaluation!r}, so their accuracies cannot be compared. Evaluate "
                "both on one."
            )
    return found


def evaluation_name(limit: int | None) -> str:
    """Return the name of a result file on the first `limit` questions of the test file."""
    return OWN_TEST if limit is None else f"{OWN_TEST}-first-{limit}"


def default_evaluation(runs: Sequence[Path]) -> str:
    """Return the evaluation that is meant where none is named: `test`, or that of the studies.

    A study whose `evaluate.limit` is 100 asks the first 100 questions: `test-first-100`.
    """
    names = set()
    for study in (Path(run) for run in runs if _is_study(Path(run))):
        with suppress(OSError, ValueError, KeyError, TypeError):  # then it says nothing of it
            values = parse_yaml((study / STUDY_FILE).read_text(encoding="utf-8"))
            limit = values["evaluate"]["limit"]
            names.add(evaluation_name(limit))
    return names.pop() if len(names) == 1 else OWN_TEST


def _is_study(path: Path) -> bool:
    return (path / STUDY_FILE).is_file() and not (path / RECIPE).is_file()


def _runs_in(paths: Sequence[Path]) -> list[Path]:
    """Return runs and studies; a folder of runs, such as a quickstart, stands for those in it.

    Whatever else a pattern of the shell has caught (a log, a recipe, data) is told and left out, if
    there are runs beside it.
    """
    found, others = [], []
    for path in paths:
        inside = sorted(recipe.parent for recipe in path.glob(f"*/{RECIPE}"))
        if _is_study(path) or (path / RECIPE).is_file():
            found.append(path)
        elif inside:
            found += inside
        elif path.exists():
            others.append(path)
        else:
            found.append(path)  # whose absence is told when it is read
    if not found:
        return others
    if others:
        # Once: rows and summaries read the same paths.
        say_once(f"Note: no runs, so they are left out: {', '.join(map(str, others))}.")
    return found


def _read_study(study: Path, evaluation: str) -> list[Row | FailedRun]:
    """Return the runs of a study by task, method (in the order of the method table) and seed."""
    asked: set[tuple[str, str]] | None
    seeds: Collection[int] | None = None
    try:
        values = parse_yaml((study / STUDY_FILE).read_text(encoding="utf-8"))
        methods = {name for m in values["methods"] for name in ([m] if isinstance(m, str) else m)}
        asked = {(task, method) for task in values["tasks"] for method in methods}
        seeds = values.get("seeds")
    except (OSError, ValueError, KeyError, TypeError):
        asked = None  # it says nothing, so all are meant
    places = {}
    for path in study.glob("*/*/seed-*"):
        task, method = path.parent.parent.name, path.parent.name
        found = _SEED.fullmatch(path.name)
        if found is None:
            continue
        seed = int(found[1])
        # A task, method or seed may have been taken out of the study since it was run.
        if (asked is None or (task, method) in asked) and (seeds is None or seed in seeds):
            places[task, method, seed] = path.with_name(f"seed-{seed}")
    if not places:
        raise RunError(
            f"{study}: this study has no runs yet: there is no {study}/<task>/<method>/seed-<n>."
        )
    names = list(METHODS)

    def order(place: tuple[str, str, int]) -> tuple[str, int, str, int]:
        task, method, seed = place
        return task, names.index(method) if method in names else len(names), method, seed

    read: list[Row | FailedRun] = []
    for task, method, seed in sorted(places, key=order):
        run = places[task, method, seed]
        if (run / RECIPE).is_file() and _result_of(run, evaluation).is_file():
            read.append(replace(_read(run, evaluation), task=task, method=method))
            continue
        reason = "not finished"
        if others := sorted(path.stem for path in (run / "evals").glob("*.json")):
            reason = f"has no evaluation {evaluation!r}, only {', '.join(others)}"
        else:
            with suppress(OSError):
                log = run.with_name(f"{run.name}.log").read_text(encoding="utf-8", errors="replace")
                # A progress bar writes over its line, and in colour.
                lines = [one_line(line) for line in _CONTROL.sub("", log).splitlines()]
                reason = next((line for line in reversed(lines) if line), reason)
        read.append(FailedRun(task, method, seed, reason))
    return read


def _result_of(run: Path, evaluation: str) -> Path:
    return run / "evals" / f"{evaluation}.json"


def _refuse_unevaluated(runs: Sequence[Path], evaluation: str) -> None:
    """Name all runs at once that lack the evaluation, where some have it."""
    lacking = [
        str(run) for run in runs
        if (run / RECIPE).is_file() and not _result_of(run, evaluation).is_file()
    ]  # fmt: skip
    if 1 < len(lacking) < len(runs):
        raise RunError(
            f"{len(lacking)} of {len(runs)} runs have no evaluation {evaluation!r}: "
            f"{', '.join(at_most(lacking, 'and {} more'))}. Leave them out, or let `latentcot "
            "eval` write it."
        )


def _read(run: Path, evaluation: str) -> Row:
    """Return what the files of a run say.

    Raises:
        RunError: One of them is missing, or is not what was written.
    """
    recipe = read_run_recipe(run)
    path = _result_of(run, evaluation)
    try:
        result = Evaluation.read(path, recipe.get("task", "prosqa"))
    except FileNotFoundError:
        others = sorted(other.stem for other in path.parent.glob("*.json"))
        hint = f" There are: {', '.join(others)} (--evaluation)." if others else ""
        advice = hint or f" `latentcot eval {run}` writes it."
        raise RunError(f"{path}: is missing.{advice}") from None
    seed = recipe.get("seed")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise RunError(f"{run / RECIPE}: seed: must be a whole number, got {shown(seed)}.")
    return Row(str(run), result.task, result.method, seed, result, recipe)
