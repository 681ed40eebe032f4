"""`latentcot analyze`: what goes on inside the thoughts of a trained model."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from latentcot.errors import UsageError
from latentcot.utils.display import console, progress_bars, say

if TYPE_CHECKING:
    from latentcot.analysis.analyze import Done


def analyze(
    run: str,
    /,
    *,
    data: str | None = None,
    against: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
    limit: int | None = None,
    batch_size: int = 100,
    out: Path | None = None,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Look inside the thoughts of a model: figures, their numbers, and a page to play with.

    Args:
        run: A run (its best checkpoint), a checkpoint folder, a hub id, or quickstart.
        data: File of questions, hub:NAME:SPLIT, or a name of `latentcot list data`; the run's test
            file if left out.
        against: Another model to compare with, such as the pause control's run; repeatable. The
            page and most analyses show the first; `distribution` shows them all.
        only: Do only this analysis; repeatable. If left out, all that the model allows.
        limit: Use this many questions, from the beginning of the file.
        batch_size: Questions at a time; the figures do not depend on it.
        out: Where to write; if left out RUN/analysis, or RUN/analysis-update-… for a checkpoint
            that is named by its own folder, or analysis/NAME where there is no run.
        quiet: Show no progress.
    """
    from latentcot.analysis.registry import ANALYSES, chosen

    analyses = chosen(only)  # before what loads torch
    from latentcot.analysis.analyze import analyze as do
    from latentcot.analysis.analyze import analyze_other
    from latentcot.analysis.page import write_analysis_page, write_plain_page
    from latentcot.analysis.shared.subject import Progress, open_subject, with_own_names
    from latentcot.runs.folder import analysis_folder, recipe_fields, recipe_test_file

    folder = out or analysis_folder(run)
    had_page = (folder / "report.html").exists()
    file = data or recipe_test_file(run)
    ways: Any = {"limit": limit, "batch_size": batch_size, "fields": recipe_fields(run, file)}
    subject = open_subject(run, file, **ways)
    others = with_own_names(subject, [open_subject(one, file, **ways) for one in against])
    with progress_bars(is_quiet=quiet) as bars:

        def on_start(name: str) -> Progress:
            if not quiet and not console.is_terminal:  # in a log nobody sees a bar move
                say(f"{name} …")
            return partial(bars.advance, bars.add_task(name, total=None))

        done = do(subject, analyses, folder, others, on_start)
        measured = [(subject, done)]
        if others:
            measured.append((others[0], analyze_other(others[0], done, folder, on_start)))
    has_page = write_analysis_page(folder / "report.html", measured)
    if not has_page and not subject.has_graphs and any(one.reason is None for one in done):
        write_plain_page(folder / "report.html", subject, done)
        has_page = True
    _tell(done)
    if not has_page and (had_page or {"outcomes", "tree"} <= {one.name for one in done}):
        say("There is no page: it shows the outcomes and the tree of each model, done in one go.")
    num_bare = sum("graphs" in ANALYSES[one.name].requires for one in done)
    if num_bare and not subject.has_graphs:
        say(
            f"Note: {num_bare} of these analyses need each question's graph, and these carry none. "
            "How data of your own carry it: docs/data-format.md, Questions about a graph."
        )
    if all(one.reason is not None for one in done):
        raise UsageError(f"{run}: none of these analyses can be done with it and its questions.")
    say(f"{folder}/ has a JSON, a CSV, a PNG and a PDF of each that was done.")
    if has_page:
        say(f"The page to play with: {folder / 'report.html'}")


def _tell(done: "Sequence[Done]") -> None:
    """Say what came of each analysis, and what is missing beside it."""
    from rich import box
    from rich.table import Table

    from latentcot.analysis.registry import ANALYSES
    from latentcot.cli.shared.tables import print_table

    table = Table("analysis", "what it shows", box=box.SIMPLE)
    table.add_column("seconds", justify="right")
    for one in done:
        if told := (one.result or {}).get("sentence"):
            say(told)
        shown = ANALYSES[one.name].summary if one.reason is None else f"not done: {one.reason}"
        table.add_row(one.name, shown, f"{one.seconds:.1f}")
    print_table(table)
    for one in done:
        beside = (one.result or {}).get("against", {})
        if isinstance(beside, dict) and "reason" in beside:
            say(f"{one.name}: without {beside['name']}, which {beside['reason']}.")
