"""`latentcot eval`: accuracy of a checkpoint, with its interval and its cost."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from latentcot.data.examples import read_examples
from latentcot.data.formats import source_hash
from latentcot.errors import UsageError
from latentcot.tasks import AnswerMatch
from latentcot.utils.display import progress_bar, put_json, say
from latentcot.utils.distributed import is_main, join
from latentcot.utils.files import refuse_unwritable


def evaluate(
    checkpoint: str,
    *,
    data: str | None = None,
    num_thoughts: int | None = None,
    force_steps: Annotated[bool, Parameter(negative="")] = False,
    limit: int | None = None,
    batch_size: int = 100,
    match: Literal["exact", "number"] | None = None,
    out: Path | None = None,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Evaluate a checkpoint; it knows its method, stage and number of thoughts.

    Under torchrun or accelerate launch the processes share the questions.

    Args:
        checkpoint: A run (its best), a checkpoint folder, a hub id, or quickstart (comes along).
        data: File of examples, or hub:NAME:SPLIT; the run's test file if left out.
        num_thoughts: This number of thoughts, instead of what the checkpoint was trained for.
        force_steps: Make it write at least one step of its chain behind the thoughts.
        limit: Use this many examples, from the beginning of the file.
        batch_size: Questions at a time; answers do not depend on it.
        match: When an answer counts as right: the same text, or the same number; the rule of the
            checkpoint's task if left out.
        out: Where to write the result; RUN/evals/DATA.json if left out, and what differs.
        as_json: Print the result as JSON, records included.
        quiet: Show no progress.
    """
    from latentcot.cli.tables import print_evaluation
    from latentcot.evaluation.evaluate import evaluate as run_evaluation
    from latentcot.evaluation.reasoner import load
    from latentcot.evaluation.results import Evaluated, Questions
    from latentcot.runs import folder
    from latentcot.runs.provenance import provenance

    # Before the work, not after it.
    if limit is not None and limit < 1:
        raise UsageError(f"--limit: must be at least 1, got {limit}.")
    if out is not None:
        refuse_unwritable(out)
        folder.refuse_no_result(out)
    join()
    reasoner = load(checkpoint)
    file = data or folder.recipe_test_file(checkpoint)
    examples = read_examples(file, limit)
    with progress_bar("eval", len(examples), is_quiet=quiet or as_json) as move_on:
        result = run_evaluation(
            reasoner,
            examples,
            num_thoughts=num_thoughts,
            force_steps=force_steps,
            batch_size=batch_size,
            match=AnswerMatch(match) if match else None,
            on_progress=move_on,
        )
    if not is_main():
        return
    run, update = folder.run_of(checkpoint), reasoner.info.update
    # Of the whole run until now: the checkpoint was chosen among them on validation.
    rows = folder.read_metrics(run) if run else []
    updates = max([update, *(row["update"] for row in rows)])
    result = replace(
        result,
        checkpoint=Evaluated(updates, update, checkpoint),
        data=Questions(source_hash(file), file),
        provenance=provenance(),
        notes=tuple(folder.notes_on(run, rows, result.stage, result.last_stage) if run else ()),
    )
    target = out or folder.eval_path(
        checkpoint, file, num_thoughts, limit, force_steps=force_steps, match=match
    )
    if target is not None:
        result.write(target)
    if as_json:
        return put_json(result.values())
    print_evaluation(result, target)
    for note in result.notes:
        say(f"Note: {note}")
