"""`latentcot eval`: accuracy of a checkpoint, with its interval and its cost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from latentcot.cli.shared.draws import Draws
from latentcot.data.examples import Example, read_examples
from latentcot.data.fields import USUAL, Fields
from latentcot.data.formats import source_hash
from latentcot.data.named import asked, label_of, notes_on
from latentcot.errors import UsageError
from latentcot.tasks import AnswerMatch
from latentcot.utils.display import progress_bar, put, put_json, say
from latentcot.utils.distributed import is_main, join
from latentcot.utils.files import refuse_unwritable

if TYPE_CHECKING:
    from latentcot.evaluation.results import Evaluation

    Result = tuple[str, str | None, Evaluation, Path | None]

Several = Annotated[
    tuple[str, ...], Parameter(consume_multiple=True, negative="", negative_iterable="")
]


def evaluate(
    checkpoint: str,
    /,
    *,
    data: Several = (),
    fields: Annotated[Fields, Parameter(name="*")] = USUAL,
    num_thoughts: tuple[int, ...] = (),
    force_steps: Annotated[bool, Parameter(negative="")] = False,
    force_answer: Annotated[bool, Parameter(negative="")] = False,
    draws: Annotated[Draws, Parameter(name="*")] = Draws(),  # noqa: B008 - frozen
    scorer: str | None = None,
    limit: int | None = None,
    batch_size: int = 100,
    match: Literal["exact", "number"] | None = None,
    out: Path | None = None,
    figure: Path | None = None,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Evaluate a checkpoint; it knows its method, stage and number of thoughts.

    Several files (gsm-hard svamp, or gsm-hard=FILE) give one table. With --num-samples the vote of
    all is the answer. Under torchrun or accelerate launch the processes share the questions.

    Args:
        checkpoint: A run (its best), a checkpoint folder, a hub id, or quickstart (packaged).
        data: File, hub:NAME:SPLIT, or name of `list data`; the run's test file if left out.
        fields: How question and answer are found; as in the run's recipe if left out.
        num_thoughts: This number of thoughts instead of the trained one; repeatable, one row each.
        force_steps: Write at least one step of the chain after the thoughts.
        force_answer: Answer straight after the thoughts, with no step of the chain.
        draws: How answers differ.
        scorer: With --num-samples: other questions to train a scorer on, which picks a sample.
        limit: Use only this many examples, the first of each file.
        batch_size: Answers at a time; they do not depend on it.
        match: Compare answers as text or number; the rule of data set or task if left out.
        out: Where to write the result of one file; RUN/evals/DATA.json if left out.
        figure: Draw accuracy against samples, and against thoughts, into this PNG and a PDF.
        as_json: Print the result as JSON, records included; of several a list.
        quiet: Show no progress.
    """
    from latentcot.evaluation.evaluate import evaluate as run_evaluation
    from latentcot.evaluation.scorer import train_scorer
    from latentcot.runs import folder

    numbers: list[int | None] = [*dict.fromkeys(num_thoughts)] or [None]
    _check(data, limit, out, figure, len(numbers), draws)  # before the work, not after it
    join()
    reasoner, results = draws.load(checkpoint), list["Result"]()
    files = data or [folder.recipe_test_file(checkpoint)]
    forced: Any = {"force_steps": force_steps, "force_answer": force_answer}
    by_scorer = [] if scorer is None else [f"scored-by-{folder.short_name(label_of(scorer))}"]
    targets = {
        (file, number): out or folder.eval_path(
            checkpoint, label_of(file) if data else file, number, limit,
            **forced, match=match, differs=[*fields.differs, *draws.differs, *by_scorer],
        )
        for file, number in product(files, numbers)
    }  # fmt: skip
    if out is None:
        _refuse_other_results(targets)
    own = {f: folder.recipe_fields(checkpoint, f) if fields == USUAL else fields for f in files}
    questions = {file: read_examples(file, limit, own[file]) for file in files}
    others = {f: _others(scorer, limit, own[f], questions[f]) if scorer else [] for f in files}
    total = len(numbers) * sum(map(len, [*questions.values(), *others.values()]))
    with progress_bar("eval", total, is_quiet=quiet or as_json) as move_on:
        for file, number in product(files, numbers):
            rule = match or (named.row.match if (named := asked(file)) else None)
            ways: Any = {
                "num_thoughts": number,
                "match": AnswerMatch(rule) if rule else None,
                **forced,
                "batch_size": batch_size,
                "on_progress": move_on,
                **draws.options(),
            }
            found = train_scorer(reasoner, others[file], **ways) if others[file] else None
            result = run_evaluation(reasoner, questions[file], scorer=found, **ways)
            if not is_main():  # of several processes one writes
                continue
            result = _with_source(result, checkpoint, reasoner.info.update, file, scorer, limit)
            target = targets[file, number]
            results.append((file, rule, result, target))
            if target is not None:
                result.write(target)
    if results:
        _show(results, figure, as_json=as_json)


def _show(
    results: "Sequence[Result]",
    figure: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print results, with where they were written, and draw them if that was asked for."""
    from latentcot.cli.shared.tables import evaluations_table, print_evaluations, print_table

    found = [result for _, _, result, _ in results]
    if figure is not None:
        from latentcot.analysis.shared.style import save
        from latentcot.cli.shared.sample_curves import draw

        save(draw(found), figure, f"{found[0].accuracy.n:,} questions; intervals 95 %")
        say(f"Drawn: {figure}, and {figure.with_suffix('.pdf').name} beside it.")
    if as_json:
        values = [result.values() for result in found]
        return put_json(values if len(values) > 1 else values[0])
    if len({file for file, *_ in results}) == 1:
        print_evaluations([(result, target) for _, _, result, target in results])
    else:
        rows = [(label_of(file), rule or one.task, one) for file, rule, one, _ in results]
        print_table(evaluations_table(rows))
        put("\n".join(f"written to {target}" for *_, target in results if target is not None))
    for note in dict.fromkeys(note for result in found for note in result.notes):
        say(f"Note: {note}")


def _check(
    data: Sequence[str],
    limit: int | None,
    out: Path | None,
    figure: Path | None,
    num_numbers: int,
    draws: Draws,
) -> None:
    """Refuse files that could not be written, or would hold nothing or too much."""
    from latentcot.runs.folder import refuse_no_result

    if limit is not None and limit < 1:
        raise UsageError(f"--limit: must be at least 1, got {limit}.")
    draws.options()
    if len(data) > 1 and (num_numbers > 1 or figure is not None):
        raise UsageError(
            f"--data names {len(data)} files: several numbers of thoughts, and a figure, are for "
            "one. Ask for each file by itself."
        )
    if out is not None:
        if len(data) > 1:
            raise UsageError(
                f"--out: takes the result of one file, and --data names {len(data)}. Leave it out: "
                "each result goes into the evals/ of its run; or ask for --json."
            )
        if num_numbers > 1:
            raise UsageError(
                f"--out {out}: is one file, but {num_numbers} numbers of thoughts make a result "
                "each. Leave it out, and they go into the run, or give one number."
            )
        refuse_unwritable(out)
        refuse_no_result(out)
    if figure is not None:
        if draws.num_samples < 2 and num_numbers < 2:
            raise UsageError(
                f"--figure {figure}: would be one point. Give --num-samples 2 or more, or "
                "--num-thoughts several times."
            )
        if figure.suffix != ".png":
            raise UsageError(
                f"--figure {figure}: must end in .png, and a PDF is written beside it."
            )
        refuse_unwritable(figure)


def _refuse_other_results(targets: Mapping[tuple[str, int | None], Path | None]) -> None:
    """Refuse two results under one name, and to replace one that is about other questions."""
    from latentcot.runs.folder import refuse_other_result

    files = dict[Path, str]()
    for (file, _), target in targets.items():
        if target is None:
            continue
        if files.setdefault(target, file) != file:
            raise UsageError(
                f"--data {files[target]} {file}: both results would be {target}. Ask for each file "
                "by itself, with --out."
            )
        refuse_other_result(target, file)


def _others(
    file: str, limit: int | None, fields: Fields, examples: Sequence[Example]
) -> list[Example]:
    """Return the examples that a scorer is trained on: none that it will score."""
    others, known = read_examples(file, limit, fields), {one.question for one in examples}
    num_same = sum(other.question in known for other in others)
    if num_same:
        raise UsageError(
            f"--scorer {file}: {num_same} of its {len(others)} questions are among those that are "
            "evaluated, and would be known by heart. Give other questions, such as those of the "
            "validation file."
        )
    return others


def _with_source(
    result: "Evaluation",
    checkpoint: str,
    update: int,
    file: str,
    scorer: str | None,
    limit: int | None,
) -> "Evaluation":
    """Return a result that knows what was evaluated, on what and by what."""
    from latentcot.evaluation.results import Evaluated, Questions
    from latentcot.runs import folder
    from latentcot.runs.provenance import provenance

    run = folder.run_of(checkpoint)
    # Of the whole run until now: the checkpoint was chosen among them on validation.
    rows = folder.read_metrics(run) if run else []
    updates = max([update, *(row["update"] for row in rows)])
    on_data = notes_on(file, result.accuracy.n) if limit is None else []
    of_training = folder.notes_on(run, rows, result.stage, result.last_stage) if run else []
    if result.sampled is not None and scorer is not None:
        told = replace(result.sampled, scorer=Questions(source_hash(scorer), scorer))
        result = replace(result, sampled=told)
    return replace(
        result,
        checkpoint=Evaluated(updates, update, checkpoint),
        data=Questions(source_hash(file), file),
        provenance=provenance(),
        notes=(*of_training, *on_data, *result.notes),
    )
