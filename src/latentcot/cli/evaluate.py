"""`latentcot eval`: accuracy of a checkpoint, with its interval and its cost."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from latentcot.cli.draws import Draws
from latentcot.data.examples import Example, read_examples
from latentcot.data.formats import source_hash
from latentcot.errors import UsageError
from latentcot.tasks import AnswerMatch
from latentcot.utils.display import progress_bar, put_json, say
from latentcot.utils.distributed import is_main, join
from latentcot.utils.files import refuse_unwritable

if TYPE_CHECKING:
    from latentcot.evaluation.results import Evaluation


def evaluate(
    checkpoint: str,
    *,
    data: str | None = None,
    num_thoughts: Annotated[tuple[int, ...], Parameter(negative="")] = (),
    force_steps: Annotated[bool, Parameter(negative="")] = False,
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

    With --num-samples the vote of all samples of a question is its answer, and a table says what
    fewer are worth. Under torchrun or accelerate launch the processes share the questions.

    Args:
        checkpoint: A run (its best), a checkpoint folder, a hub id, or quickstart (comes along).
        data: File of examples, or hub:NAME:SPLIT; the run's test file if left out.
        num_thoughts: This number of thoughts, instead of what the checkpoint was trained for;
            repeatable, for a result and a row of a table each.
        force_steps: Make it write at least one step of its chain behind the thoughts.
        draws: How answers differ.
        scorer: With --num-samples: train a scorer of samples on this file, or hub:NAME:SPLIT, of
            other questions, and tell how often the one that it finds best is right.
        limit: Use this many examples, from the beginning of each file.
        batch_size: Answers at a time; they do not depend on it.
        match: When an answer counts as right: the same text, or the same number; the rule of the
            checkpoint's task if left out.
        out: Where to write the result; RUN/evals/DATA.json if left out, and what differs.
        figure: Draw accuracy against samples, and against thoughts, into this PNG and a PDF.
        as_json: Print each result as JSON, records included.
        quiet: Show no progress.
    """
    from latentcot.evaluation.evaluate import evaluate as run_evaluation
    from latentcot.evaluation.reasoner import load
    from latentcot.evaluation.scorer import train_scorer
    from latentcot.runs import folder

    # Before the work, not after it.
    if limit is not None and limit < 1:
        raise UsageError(f"--limit: must be at least 1, got {limit}.")
    numbers: list[int | None] = [*dict.fromkeys(num_thoughts)] or [None]
    _check_files(out, figure, len(numbers), draws.num_samples)
    draws.options()
    join()
    reasoner = load(checkpoint)
    file = data or folder.recipe_test_file(checkpoint)
    examples, results = read_examples(file, limit), []
    others = _others(scorer, limit, examples) if scorer else []
    total = len(numbers) * (len(examples) + len(others))
    with progress_bar("eval", total, is_quiet=quiet or as_json) as move_on:
        for number in numbers:
            ways: Any = {
                "num_thoughts": number,
                "match": AnswerMatch(match) if match else None,
                "force_steps": force_steps,
                "batch_size": batch_size,
                "on_progress": move_on,
                **draws.options(),
            }
            found = train_scorer(reasoner, others, **ways) if others else None
            result = run_evaluation(reasoner, examples, scorer=found, **ways)
            if not is_main():
                continue
            result = _with_source(result, checkpoint, reasoner.info.update, file, scorer)
            target = out or folder.eval_path(
                checkpoint, file, number, limit, force_steps=force_steps, match=match,
                differs=[*draws.differs, *(["scored"] if scorer else [])],
            )  # fmt: skip
            if target is not None:
                result.write(target)
            results.append((result, target))
    if results:
        _show(results, figure, as_json=as_json)


def _show(
    results: "Sequence[tuple[Evaluation, Path | None]]", figure: Path | None, *, as_json: bool
) -> None:
    """Print results, with where they were written, and draw them if that was asked for."""
    from latentcot.cli.tables import print_evaluations

    first = results[0][0]
    if figure is not None:
        from latentcot.analysis.shared.sample_curves import draw
        from latentcot.analysis.shared.style import save

        note = f"{first.accuracy.n:,} questions; intervals 95 %"
        save(draw([result for result, _ in results]), figure, note)
    if as_json:
        for result, _ in results:
            put_json(result.values())
        return
    print_evaluations(results)
    for note in first.notes:  # on the training: those of all
        say(f"Note: {note}")


def _check_files(out: Path | None, figure: Path | None, num_numbers: int, num_samples: int) -> None:
    """Refuse files that could not be written, or would hold nothing or too much."""
    from latentcot.runs.folder import refuse_no_result

    if out is not None:
        if num_numbers > 1:
            raise UsageError(
                f"--out {out}: is one file, but {num_numbers} numbers of thoughts make a result "
                "each. Leave it out, and they go into the run, or give one number."
            )
        refuse_unwritable(out)
        refuse_no_result(out)
    if figure is not None:
        if num_samples < 2 and num_numbers < 2:
            raise UsageError(
                f"--figure {figure}: would be one point. Give --num-samples 2 or more, or "
                "--num-thoughts several times."
            )
        refuse_unwritable(figure)


def _others(file: str, limit: int | None, examples: Sequence[Example]) -> list[Example]:
    """Return the examples that a scorer is trained on: none that it will score."""
    others, asked = read_examples(file, limit), {example.question for example in examples}
    num_same = sum(other.question in asked for other in others)
    if num_same:
        raise UsageError(
            f"--scorer {file}: {num_same} of its {len(others)} questions are among those that are "
            "evaluated, and would be known by heart. Give other questions, such as those of the "
            "validation file."
        )
    return others


def _with_source(
    result: "Evaluation", checkpoint: str, update: int, file: str, scorer: str | None
) -> "Evaluation":
    """Return a result that knows what was evaluated, on what and by what."""
    from latentcot.evaluation.results import Evaluated, Questions
    from latentcot.runs import folder
    from latentcot.runs.provenance import provenance

    run = folder.run_of(checkpoint)
    # Of the whole run until now: the checkpoint was chosen among them on validation.
    rows = folder.read_metrics(run) if run else []
    updates = max([update, *(row["update"] for row in rows)])
    if result.sampled is not None and scorer is not None:
        told = replace(result.sampled, scorer=Questions(source_hash(scorer), scorer))
        result = replace(result, sampled=told)
    return replace(
        result,
        checkpoint=Evaluated(updates, update, checkpoint),
        data=Questions(source_hash(file), file),
        provenance=provenance(),
        notes=tuple(folder.notes_on(run, rows, result.stage, result.last_stage) if run else ()),
    )
