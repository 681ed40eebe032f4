"""`latentcot show` of a run folder: how far it is, where it comes from, what lies in it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from latentcot.cli.tables import print_table
from latentcot.evaluation.statistics import percent
from latentcot.runs.checkpoint_summary import CheckpointSummary, Model
from latentcot.runs.provenance import code_of
from latentcot.runs.summary import DataFile, EvaluationSummary, RunSummary, Session, summarize_run
from latentcot.utils.parsing import one_line

Lines = list[tuple[str, str]]
"""What it is, and its value."""

MAX_TEXT = 2_000
SHORT = 10
"""Digits of a SHA-256 that are shown."""


def show_run(path: Path, *, as_json: bool) -> None:
    """Show a run folder or a checkpoint."""
    summary = summarize_run(path)
    if as_json:
        print(json.dumps(asdict(summary), ensure_ascii=False))
        return
    print_table(_pairs([*_what(summary), ("", ""), *_origin(summary)]))
    for table in (_checkpoints(summary.checkpoints), _evaluations(summary.evaluations)):
        if table.row_count:
            print()
            print_table(table)
    for problem in summary.problems:
        _print(f"\nProblem: {problem}")


def _print(text: str) -> None:
    Console(soft_wrap=True, highlight=False).print(text, markup=False, emoji=False)


def _what(summary: RunSummary) -> Lines:
    return [
        ("run" if summary.is_run else "checkpoint", summary.path),
        ("method", summary.method),
        ("task", summary.task),
        ("model", _model(summary.model)),
        ("training", _progress(summary)),
        ("seed", str(summary.seed)),
    ]


def _model(model: Model) -> str:
    parts = [
        model.architecture or "unknown",
        f"{model.num_parameters:,} parameters" if model.num_parameters else "",
        f"{model.num_adapted:,} parameters of adapters" if model.num_adapted else "",
        f"begun from {model.pretrained}" if model.pretrained else "",
    ]
    return ", ".join(part for part in parts if part)


def _progress(summary: RunSummary) -> str:
    def so_far(number: int, last: int | None) -> str:
        return f"{number:,}" if last is None else f"{number:,} of {last:,}"

    state = {True: "finished, ", False: "not finished, ", None: ""}[summary.is_finished]
    update = so_far(summary.update, summary.num_updates)
    return f"{state}update {update}, stage {so_far(summary.stage, summary.last_stage)}"


def _origin(summary: RunSummary) -> Lines:
    """Return where a run comes from: its first process, its data, and each that went on with it."""
    if not summary.sessions:
        return [("provenance", "unknown")]
    first, *others = summary.sessions
    versions = [f"{name} {version}" for name, version in (first.versions or {}).items() if version]
    lines = [
        ("started", _time(first.time)),
        ("command", first.command or "unknown"),
        ("commit", code_of(asdict(first)) or "unknown"),
        ("versions", ", ".join([*versions, f"Python {first.python or 'unknown'}"])),
        ("machine", _machine(first)),
        ("device", _device(first)),
        *(("data", _data(file)) for file in summary.data),
        *(("resumed", _resumed(session)) for session in others),
    ]
    names = ["", *(name for name, _ in lines)]
    return [
        (name if name != before else "", text)
        for before, (name, text) in zip(names, lines, strict=False)
    ]


def _machine(session: Session) -> str:
    used = [
        f"{session.cores_used} used" if session.cores_used else "",
        f"{session.threads} thread{'s' if session.threads > 1 else ''}" if session.threads else "",
    ]
    known = ", ".join(part for part in used if part)
    return f"{session.machine or 'unknown'}{f' ({known})' if known else ''}"


def _device(session: Session) -> str:
    parts = [
        session.device or "unknown",
        session.gpu or "",
        f"{session.num_processes} processes" if (session.num_processes or 1) > 1 else "",
    ]
    return ", ".join(part for part in parts if part)


def _data(file: DataFile) -> str:
    states = {"same": "as it was", "changed": "has changed since", "missing": "is not here now"}
    return f"{file.file}, {file.sha256[:SHORT]}, {states.get(file.state, file.state)}"


def _resumed(session: Session) -> str:
    differs = f"; {', '.join(session.differs)}" if session.differs else ""
    return f"after update {session.update:,}, {_time(session.time)}{differs}"


def _time(text: str | None) -> str:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return "at an unknown time"
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _size(num_bytes: int) -> str:
    size, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if size >= 100 or unit == "B" else f"{size:.1f} {unit}"


# --- tables -----------------------------------------------------------------------------------


def _pairs(lines: Iterable[tuple[str, str]]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in lines:
        table.add_row(name, escape(one_line(text, MAX_TEXT)))  # a run may come from elsewhere
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for name in others:
        is_text = name in ("state", "made", "of")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    return table


def _checkpoints(checkpoints: Sequence[CheckpointSummary]) -> Table:
    table = _table("checkpoint", "update", "stage", "size", "format", "state")
    for one in checkpoints:
        table.add_row(
            escape(one.name),
            f"{one.update:,}",
            "–" if one.stage is None else str(one.stage),
            _size(one.num_bytes),
            "–" if one.format_version is None else str(one.format_version),
            f"{one.state}{', best' if one.is_best else ''}",
        )
    return table


def _evaluations(evaluations: Sequence[EvaluationSummary]) -> Table:
    table = _table("evaluation", "accuracy", "95 %", "questions", "update", "made", "format")
    for one in evaluations:
        table.add_row(
            escape(one.file),
            percent(one.accuracy),
            f"{100 * one.low:.1f}–{100 * one.high:.1f}",
            f"{one.num_questions:,}",
            f"{one.update:,}",
            _time(one.time),
            str(one.schema_version),
        )
    return table
