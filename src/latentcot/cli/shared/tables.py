"""Tables for the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from latentcot.evaluation.comparison import FailedRun, Row, Summary
from latentcot.evaluation.results import Estimate, Evaluation, Sampled
from latentcot.evaluation.statistics import percent
from latentcot.evaluation.tables import (
    NOTHING,
    baseline_of,
    by_task,
    figures,
    legend,
    notes,
    texts,
)
from latentcot.tasks import same_number
from latentcot.utils.display import Terminal
from latentcot.utils.parsing import shown


def print_table(table: Table) -> None:
    """Print a table; where nobody watches (a file, a pipe), wide enough not to cut names.

    A terminal that is too narrow for its figures breaks the lines itself: none is left out.
    """
    console = Terminal()
    width = console.width if console.is_terminal else 120
    least = 2 * len(table.columns)  # padding and divider
    for column in table.columns:
        cells = [str(text) for text in (column.header, *column.cells)]
        least += max(map(len, cells)) if column.no_wrap else column.min_width or 1
    Terminal(width=max(width, least)).print(table)


def print_text(text: str, *, to_stderr: bool = False) -> None:
    """Print a text as it is: lines of any length, brackets and all."""
    Terminal(stderr=to_stderr).print(text, soft_wrap=True, highlight=False)


def print_evaluation(result: Evaluation, written: Path | None) -> None:
    """Print one evaluation, a line a figure."""
    accuracy = result.accuracy
    table = Table(show_header=False, box=None)
    table.add_row("method", f"{result.method}, stage {result.stage} of {result.last_stage}")
    shown_accuracy = f"{percent(accuracy.value)} (95 % interval {_interval(accuracy)})"
    table.add_row("accuracy", shown_accuracy)
    sampled = result.sampled
    if sampled is not None:
        given = {name: getattr(sampled, name) for name in ("noise", "dropout", "temperature")}
        how = ", ".join(f"{name} {value:g}" for name, value in given.items() if value is not None)
        table.add_row("answers are", f"votes of {sampled.num_samples} samples, {how}")
    table.add_row("questions", str(accuracy.n))
    table.add_row("tokens per question", f"{result.tokens_per_question:.2f}")
    table.add_row("thoughts per question", f"{result.thoughts_per_question:.2f}")
    table.add_row("passes per question", f"{result.passes_per_question:.2f}")
    texts = [text for record in result.records for text in record.samples or [record]]
    num_cut = sum(not text.is_finished for text in texts)
    if num_cut:
        share = percent(num_cut / len(texts))
        where = "generation.max_new_tokens or the model's positions"
        table.add_row("cut off", f"{share} of the texts, by {where}")
    wrong = [record for record in result.records if not record.is_correct]
    same = [one for one in wrong if one.answer and same_number(one.answer, one.gold)]
    if same:  # 15 for a gold answer of 15.0
        table.add_row(
            "right as a number",
            f"{len(same)} of {len(wrong)} wrong answers, such as {shown(same[0].answer)} for "
            f"{shown(same[0].gold)}: --match number counts them",
        )
    if result.share_stopped_with_chain is not None:
        share = percent(result.share_stopped_with_chain)
        table.add_row("as many thoughts as its chain", f"{share} of the questions")
    seconds = f"{result.seconds_per_question:.4f} ({result.batch_size} at a time)"
    table.add_row("seconds per question", seconds)
    if written is not None:
        table.add_row("written to", str(written))
    print_table(table)
    if sampled is not None:
        print_table(_samples_table(sampled))
        print_text(
            "pass@k: one of k samples is right (coverage, of all). vote: the answer of most is\n"
            "right, of equally many the first. best: the one that the scorer prefers is right.\n"
            "Tokens and passes are those of k samples together."
        )


def print_evaluations(results: Sequence[tuple[Evaluation, Path | None]]) -> None:
    """Print one evaluation, or a row for each number of thoughts, and where they were written."""
    if len(results) == 1:
        print_evaluation(*results[0])
        return
    drawn = results[0][0].sampled
    table = Table(box=box.SIMPLE_HEAD, caption_justify="left")
    if drawn is not None:
        table.caption = (
            f"accuracy: of the vote of {drawn.num_samples} samples; coverage: one is right"
        )
    columns = ["thoughts", "accuracy", "95 %", *(["coverage", "95 % "] if drawn else [])]
    for name in (*columns, "tokens", "passes"):
        table.add_column(name, justify="right", no_wrap=True)
    for result, _ in results:
        sampled, shares = result.sampled, [result.accuracy]
        if sampled is not None:
            shares.append(sampled.at[-1].pass_at_k)
        thoughts = result.thoughts_per_question / (sampled.num_samples if sampled else 1)
        costs = [result.tokens_per_question, result.passes_per_question]
        figures = [text for one in shares for text in (percent(one.value), _interval(one))]
        table.add_row(f"{thoughts:.2f}", *figures, *(f"{cost:.2f}" for cost in costs))
    print_table(table)
    for _, written in results:
        if written is not None:
            print_text(f"written to {written}")


def _interval(share: Estimate) -> str:
    return f"{100 * share.low:.1f} – {100 * share.high:.1f}"


def _samples_table(sampled: Sampled) -> Table:
    """Return what k samples of each question are worth, and what they cost."""
    is_scored = sampled.at[0].best is not None
    table = Table(box=box.SIMPLE_HEAD)
    columns = ["k", "pass@k", "95 %", "vote", "95 % ", *(["best", "95 %  "] if is_scored else [])]
    for name in (*columns, "tokens", "passes"):
        table.add_column(name, justify="right", no_wrap=True)
    for at in sampled.at:
        shares = [at.pass_at_k, at.vote, *([at.best] if at.best else [])]
        figures = [text for one in shares for text in (percent(one.value), _interval(one))]
        table.add_row(str(at.k), *figures, f"{at.tokens:.2f}", f"{at.passes:.2f}")
    return table


def evaluations_table(results: Iterable[tuple[str, str, Evaluation]]) -> Table:
    """Return evaluations of one checkpoint, a row each.

    Args:
        results: What the data are called, how answers were compared, and the result.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    table.add_column("data", no_wrap=True)
    names = ("accuracy", "95 %", "questions", "tokens", "thoughts", "passes")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("compared by")
    for name, rule, result in results:
        shown = figures(result)
        table.add_row(name, *(shown[key] for key in names), rule)
    return table


def comparison_table(rows: Sequence[Row], caption: str | None = None) -> Table:
    """Return runs side by side.

    `95 %` is the interval of the accuracy; tokens, thoughts, passes and milliseconds are means for
    a question.
    """
    shown = [figures(row.result) for row in rows]
    names = ("accuracy", "95 %", "tokens", "thoughts", "passes", "ms")
    tasks = [row.task for row in rows]
    # The columns of task and seed tell runs of one method apart, unless one has been run twice.
    is_told_apart = len({(row.task, row.method, row.seed) for row in rows}) == len(rows)
    return _table(
        [],
        [row.method if is_told_apart else f"{row.method} ({row.run})" for row in rows],
        {name: [figure[name] for figure in shown] for name in names},
        {
            **({"task": tasks} if len(set(tasks)) > 1 else {}),
            "questions": [figure["questions"] for figure in shown],
            "updates": [f"{row.updates:,}" for row in rows],
            "seed": [str(row.seed) for row in rows],
        },
        caption,
    )


def summary_table(task: str, summaries: Sequence[Summary]) -> Table:
    """Return the methods of a task over their seeds.

    With a baseline there are more columns than 80 characters hold, so that thoughts and seconds are
    left to `--out`.
    """
    baseline = baseline_of(summaries)
    names = ["thoughts", "passes", "ms"] if baseline is None else ["passes"]
    first = ["95 %", *(["diff", "p"] if baseline else []), "tokens"]
    shown = [texts(one) for one in summaries]
    return _table(
        [task, *([f"diff and p against {baseline}"] if baseline else [])],
        [one.method for one in summaries],
        {"accuracy %": [text["accuracy"] for text in shown]}
        | {name: [text[name] for text in shown] for name in (*first, *names)},
        {name: [text[name] for text in shown] for name in ("questions", "updates", "seeds")},
    )


def _table(
    title: Sequence[str],
    methods: Sequence[str],
    figures: Mapping[str, Sequence[str]],
    others: Mapping[str, Sequence[str]],
    caption: str | None = None,
) -> Table:
    """Return a table without frame; what is the same in all rows stands above it, not in it.

    It then fits into 80 columns.
    """
    common = {}
    for name, values in others.items():
        different = {value for value in values if value != NOTHING} or {*values}
        if len(different) == 1:
            common[name] = different.pop()
    above = [*title[:1], *(f"{name} {value}" for name, value in common.items()), *title[1:]]
    table = Table(
        title=", ".join(above) or None,
        title_style="",
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
        pad_edge=False,
    )
    columns = {**figures, **{name: v for name, v in others.items() if name not in common}}
    # Where there is no room a name goes on in the next line, and no figure is cut.
    table.add_column("method", overflow="fold", min_width=12)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for method, *cells in zip(methods, *columns.values(), strict=True):
        table.add_row(method, *cells)
    return table


def print_failed(failed: Iterable[FailedRun], *, to_stderr: bool = False) -> None:
    """Print a line for each run of a study that has no result."""
    for one in failed:
        text = f"{one.task}, {one.method}, seed {one.seed} has no result: {one.reason}"
        print_text(text, to_stderr=to_stderr)


def print_summaries(summaries: Sequence[Summary]) -> None:
    """Print a table for each task, what its figures do not say, and what the columns are."""
    for task, group in by_task(summaries).items():
        print_table(summary_table(task, group))
        for note in notes(group):
            print_text(note)
        print_text("")
    print_text(legend(summaries))
