"""`latentcot eval`: accuracy of a checkpoint, with its interval and its cost."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from latentcot.data.examples import read_examples
from latentcot.data.formats import source_hash
from latentcot.data.named import asked, label_of, notes_on
from latentcot.errors import UsageError
from latentcot.tasks import AnswerMatch
from latentcot.utils.display import progress_bar, put, put_json, say
from latentcot.utils.distributed import is_main, join
from latentcot.utils.files import refuse_unwritable


def evaluate(
    checkpoint: str,
    *,
    data: Annotated[
        tuple[str, ...], Parameter(consume_multiple=True, negative="", negative_iterable="")
    ] = (),
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
        data: File of examples, hub:NAME:SPLIT, or a name of `latentcot list data` (gsm-hard, or
            gsm-hard=FILE); several give one table. The run's test file if left out.
        num_thoughts: This number of thoughts, instead of what the checkpoint was trained for.
        force_steps: Make it write at least one step of its chain behind the thoughts.
        limit: Use this many examples, from the beginning of the file.
        batch_size: Questions at a time; answers do not depend on it.
        match: When an answer counts as right: the same text, or the same number. If left out, as
            the named data set says, or by the rule of the checkpoint's task.
        out: Where to write the result of one file; RUN/evals/DATA.json if left out, and what
            differs.
        as_json: Print the result as JSON, records included; of several a list.
        quiet: Show no progress.
    """
    from latentcot.cli.tables import evaluations_table, print_evaluation, print_table
    from latentcot.evaluation.evaluate import evaluate as run_evaluation
    from latentcot.evaluation.reasoner import load
    from latentcot.evaluation.results import Evaluated, Evaluation, Questions
    from latentcot.runs import folder
    from latentcot.runs.provenance import provenance

    # Before the work, not after it.
    if limit is not None and limit < 1:
        raise UsageError(f"--limit: must be at least 1, got {limit}.")
    if out is not None:
        if len(data) > 1:
            raise UsageError(
                f"--out: takes the result of one file, and --data names {len(data)}. Leave it out: "
                "each result goes into the evals/ of its run; or ask for --json."
            )
        refuse_unwritable(out)
        folder.refuse_no_result(out)
    join()
    reasoner = load(checkpoint)
    files = data or (folder.recipe_test_file(checkpoint),)
    questions = {file: read_examples(file, limit) for file in files}
    run, update = folder.run_of(checkpoint), reasoner.info.update
    # Of the whole run until now: the checkpoint was chosen among them on validation.
    rows = folder.read_metrics(run) if run else []
    updates = max([update, *(row["update"] for row in rows)])
    rules = {file: match or (one.row.match if (one := asked(file)) else None) for file in files}
    results: dict[str, Evaluation] = {}
    targets: list[Path] = []
    for file, examples in questions.items():
        label, rule = label_of(file), rules[file]
        name = f"eval {label}" if asked(file) else "eval"
        with progress_bar(name, len(examples), is_quiet=quiet or as_json) as move_on:
            result = run_evaluation(
                reasoner,
                examples,
                num_thoughts=num_thoughts,
                force_steps=force_steps,
                batch_size=batch_size,
                match=AnswerMatch(rule) if rule else None,
                on_progress=move_on,
            )
        notes = folder.notes_on(run, rows, result.stage, result.last_stage) if run else []
        notes += notes_on(file, len(examples)) if limit is None else []
        results[file] = replace(
            result,
            checkpoint=Evaluated(updates, update, checkpoint),
            data=Questions(source_hash(file), file),
            provenance=provenance(),
            notes=tuple(notes),
        )
        options: dict[str, Any] = {"force_steps": force_steps, "match": match}
        about = label if data else file
        target = out or folder.eval_path(checkpoint, about, num_thoughts, limit, **options)
        if target is not None and is_main():
            results[file].write(target)
            targets.append(target)
    if not is_main():
        return
    if as_json:
        values = [result.values() for result in results.values()]
        return put_json(values if len(values) > 1 else values[0])
    if len(results) == 1:
        print_evaluation(results[files[0]], targets[0] if targets else None)
    else:
        found = [(label_of(file), rules[file] or one.task, one) for file, one in results.items()]
        print_table(evaluations_table(found))
        put("\n".join(f"written to {target}" for target in targets))
    for note in dict.fromkeys(note for result in results.values() for note in result.notes):
        say(f"Note: {note}")
