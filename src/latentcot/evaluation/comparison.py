"""Runs side by side, and methods over several seeds, from the result files of the runs alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from latentcot.errors import RunError, did_you_mean
from latentcot.evaluation.runs import (
    FailedRun,
    Group,
    Place,
    Result,
    failure,
    find_places,
    read_results,
)
from latentcot.evaluation.runs import Row as Row  # the public name is here
from latentcot.evaluation.statistics import (
    holm,
    mean_and_sd,
    mean_interval,
    paired_p_value,
    share_interval,
)
from latentcot.recipes.values import flat


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A method on a task, over its seeds. Figures are None where no seed has a result.

    Attributes:
        task: Name of the task.
        method: Name of the method.
        accuracy_mean: Mean share of right answers over the seeds, 0 … 1.
        accuracy_sd: Its standard deviation over the seeds (n − 1); None for one seed.
        low: Lower end of the 95 % interval (Wilson) over which questions were drawn.
        high: Upper end.
        seed_low: Lower end of the 95 % interval (Student) over the seeds, cut at 0.
        seed_high: Upper end, cut at 1.
        seeds: With a result.
        accuracies: Of each run, in the order of `seeds`.
        num_questions: Questions of each run.
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
        paired_seeds: That the baseline has too; difference and p-value are about these.
        p_value: McNemar's test on the same questions, combined over `paired_seeds`.
        p_holm: The same, adjusted for all comparisons of this task.
        failed: (seed, reason) of each run without a result.
        unfinished: Seeds whose best checkpoint is of a stage before the last.
        varied: Keys in which the recipes of the runs differ, other than seed and files.
        commits: Of latentcot when the runs were evaluated.
        machines: On which they were evaluated.
    """

    task: str
    method: str
    accuracy_mean: float | None = None
    accuracy_sd: float | None = None
    low: float | None = None
    high: float | None = None
    seed_low: float | None = None
    seed_high: float | None = None
    seeds: tuple[int, ...] = ()
    accuracies: tuple[float, ...] = ()
    num_questions: int | None = None
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
    p_value: float | None = None
    p_holm: float | None = None
    failed: tuple[tuple[int, str], ...] = ()
    unfinished: tuple[int, ...] = ()
    varied: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()


def compare(runs: Sequence[Path], evaluation: str = "test") -> list[Row]:
    """Return a row for each run that has a result.

    Args:
        runs: A list of run folders, or folders of studies: then those of their runs that have a
            result; `failed_runs` tells the others.
        evaluation: Which file of their `evals/` to take, without its ending.

    Raises:
        RunError: A run that was given by itself has no such evaluation, or runs were asked
            different questions of one task.
    """
    return [result.row for result in read_results(find_places(runs), evaluation)]


def failed_runs(runs: Sequence[Path], evaluation: str = "test") -> list[FailedRun]:
    """Return the runs of the studies among `runs` that have no such evaluation."""
    return _failed(find_places(runs), evaluation)


def summarize(
    runs: Sequence[Path],
    evaluation: str = "test",
    baseline: str | None = None,
    failed: Sequence[FailedRun] = (),
) -> list[Summary]:
    """Return a summary for each method on each task, over its seeds.

    Args:
        runs: Run folders, or folders of studies.
        evaluation: Which file of their `evals/` to take, without its ending.
        baseline: The method that the others are tested against.
        failed: Further runs without a result, beside those that are found in studies.

    Raises:
        RunError: As `compare`; or two runs have the same task, method and seed, or no run is of
            the baseline.
    """
    places = find_places(runs)
    groups = _grouped(read_results(places, evaluation))
    failures: dict[Group, dict[int, str]] = {}
    for one in (*_failed(places, evaluation), *failed):
        failures.setdefault((one.task, one.method), {})[one.seed] = one.reason
    keys = _ordered([*groups, *failures], places)
    if baseline is not None:
        _refuse_unknown(baseline, {method for _, method in keys})
    summaries = {key: _summary(key, groups.get(key, []), failures.get(key, {})) for key in keys}
    if baseline is None:
        return list(summaries.values())
    tasks = dict.fromkeys(task for task, _ in keys)
    return [one for task in tasks for one in _tested(task, baseline, summaries, groups)]


def _failed(places: Iterable[Place], evaluation: str) -> list[FailedRun]:
    found = (failure(place, evaluation) for place in places)
    return [one for one in found if one is not None]


def _ordered(keys: Iterable[Group], places: Iterable[Place]) -> list[Group]:
    """Task by task; first those of studies, in their order, then the others as they were given."""
    known = dict.fromkeys(keys)
    in_study = ((place.task or "", place.method or "") for place in places)
    in_order = dict.fromkeys(key for key in in_study if key in known) | known
    tasks = list(dict.fromkeys(task for task, _ in in_order))
    return sorted(in_order, key=lambda key: tasks.index(key[0]))


def _grouped(results: Iterable[Result]) -> dict[Group, list[Result]]:
    groups: dict[Group, dict[int, Result]] = {}
    for result in results:
        group = groups.setdefault(result.group, {})
        twin = group.setdefault(result.row.seed, result)
        if twin is not result:
            raise RunError(
                f"{twin.row.run} and {result.row.run} are both {result.row.method} on "
                f"{result.row.task} with seed {result.row.seed}, and one seed must not count "
                "twice. Leave one out, or use `latentcot compare --runs` without --baseline."
            )
    return {key: [group[seed] for seed in sorted(group)] for key, group in groups.items()}


def _refuse_unknown(baseline: str, methods: set[str]) -> None:
    if baseline not in methods:
        raise RunError(
            f"baseline {baseline!r}: no run is of this method.{did_you_mean(baseline, methods)} "
            f"There are: {', '.join(sorted(methods))}."
        )


def _summary(key: Group, results: Sequence[Result], failures: Mapping[int, str]) -> Summary:
    task, method = key
    rows = [result.row for result in results]
    seeds = tuple(row.seed for row in rows)
    failed = tuple((seed, failures[seed]) for seed in sorted(failures) if seed not in seeds)
    if not rows:
        return Summary(task=task, method=method, failed=failed)
    accuracies = [row.accuracy for row in rows]
    mean, sd = mean_and_sd(accuracies)
    low, high = share_interval(mean, rows[0].num_questions)
    over_seeds = mean_interval(accuracies)
    return Summary(
        task=task,
        method=method,
        accuracy_mean=mean,
        accuracy_sd=sd,
        low=low,
        high=high,
        seed_low=max(0.0, over_seeds[0]) if over_seeds else None,
        seed_high=min(1.0, over_seeds[1]) if over_seeds else None,
        seeds=seeds,
        accuracies=tuple(accuracies),
        num_questions=rows[0].num_questions,
        tokens_per_question=fmean(row.tokens_per_question for row in rows),
        thoughts_per_question=fmean(row.thoughts_per_question for row in rows),
        passes_per_question=fmean(row.passes_per_question for row in rows),
        seconds_per_question=fmean(row.seconds_per_question for row in rows),
        share_stopped_with_chain=_mean([row.share_stopped_with_chain for row in rows]),
        updates=tuple(row.updates for row in rows),
        batch_sizes=tuple(sorted({one.batch_size for one in results if one.batch_size})),
        failed=failed,
        unfinished=tuple(one.row.seed for one in results if one.is_unfinished),
        varied=_varied([result.recipe for result in results]),
        commits=tuple(sorted({result.commit for result in results if result.commit})),
        machines=tuple(sorted({result.machine for result in results if result.machine})),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _varied(recipes: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the keys in which recipes differ that should differ in their seed alone.

    Files may be called otherwise elsewhere, and an older latentcot wrote fewer keys.
    """
    keyed = [dict(flat(recipe)) for recipe in recipes]
    expected = {"seed", "data.train", "data.valid", "data.test"}
    keys = set.intersection(*(set(one) for one in keyed)) - expected
    differing = {key for key in keys if any(one[key] != keyed[0][key] for one in keyed)}
    # A model by its name and one by its settings have no key in common below `model`.
    kinds = {name: {isinstance(one.get(name), Mapping) for one in recipes} for name in recipes[0]}
    return tuple(sorted(differing | {name for name, kind in kinds.items() if len(kind) > 1}))


def _tested(
    task: str,
    baseline: str,
    summaries: Mapping[Group, Summary],
    groups: Mapping[Group, Sequence[Result]],
) -> list[Summary]:
    """Return the summaries of a task, each tested against the baseline."""
    reference = summaries.get((task, baseline))
    of_task = [one for key, one in summaries.items() if key[0] == task]
    if reference is None:
        return of_task
    theirs = {result.row.seed: result for result in groups.get((task, baseline), [])}
    return _adjusted(
        [
            one
            if one is reference
            else _against(one, reference, groups.get((task, one.method), []), theirs)
            for one in of_task
        ]
    )


def _against(
    one: Summary, reference: Summary, ours: Iterable[Result], theirs: Mapping[int, Result]
) -> Summary:
    """Return a summary with its difference from the baseline, run by run of the same seed."""
    pairs = {
        result.row.seed: _discordant(result, theirs[result.row.seed])
        for result in ours
        if result.row.seed in theirs
    }
    difference = None
    if pairs:
        both = [(one.accuracies[one.seeds.index(s)], theirs[s].row.accuracy) for s in pairs]
        difference = 100 * fmean(first - second for first, second in both)
    elif one.accuracy_mean is not None and reference.accuracy_mean is not None:
        difference = 100 * (one.accuracy_mean - reference.accuracy_mean)
    return replace(
        one,
        versus=reference.method,
        difference=difference,
        paired_seeds=tuple(pairs),
        p_value=paired_p_value(list(pairs.values())) if pairs else None,
    )


def _adjusted(tested: Sequence[Summary]) -> list[Summary]:
    p_values = {one.method: one.p_value for one in tested if one.p_value is not None}
    by_method = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [replace(one, p_holm=by_method.get(one.method)) for one in tested]


def _discordant(first: Result, second: Result) -> tuple[int, int]:
    """Return how many questions only the first gets right, and only the second."""
    if [name for name, _ in first.records] != [name for name, _ in second.records]:
        raise RunError(
            f"{first.row.run} and {second.row.run}: the records of their results have other ids, "
            "so they cannot be paired question by question. Evaluate both anew."
        )
    pairs = [(a, b) for (_, a), (_, b) in zip(first.records, second.records, strict=True)]
    return pairs.count((True, False)), pairs.count((False, True))
