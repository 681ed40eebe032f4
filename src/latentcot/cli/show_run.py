"""`latentcot show` of a run folder: how far it is, where it comes from, what lies in it.

Files are read and compared with their hashes; no weights are loaded, and nothing is changed. What
is damaged ends nothing: it stands among the problems, next to all that can still be told.
"""

import os
from collections.abc import Iterator, MutableSequence, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any, Literal, Self

from rich import box
from rich.filesize import decimal
from rich.table import Table
from safetensors import SafetensorError, safe_open

from latentcot.cli.shared.tables import print_table, print_text
from latentcot.data.formats import is_hub, path_of, source_hash
from latentcot.errors import CheckpointError, DataError, LatentcotError, RunError
from latentcot.evaluation.results import Evaluation
from latentcot.evaluation.statistics import percent
from latentcot.evaluation.tables import figures
from latentcot.methods import method_named
from latentcot.models.settings import WEIGHTS_FILE
from latentcot.recipes.recipe import read_recipe
from latentcot.runs.checkpoint_folders import (
    BEST_FILE,
    INFO_FILE,
    STATE_FILE,
    best_checkpoint,
    verify,
)
from latentcot.runs.folder import RECIPE, read_metrics, run_of, warnings_of
from latentcot.runs.provenance import Session, code_of, read_provenance, sessions_of
from latentcot.studies.folder import num_updates_of
from latentcot.tasks import task_named
from latentcot.utils.display import put, put_json
from latentcot.utils.parsing import one_line, parse_json
from latentcot.utils.versions import CHECKPOINT_VERSION, read_versioned

State = Literal["whole", "no checksums", "damaged", "set aside"]
DataState = Literal["same", "changed", "missing", "unreadable", "not checked"]

MAX_TEXT = 2_000
SHORT = 10
"""Digits of a SHA-256 that are shown."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file that a run was trained with.

    Attributes:
        file: As the recipe names it; a relative path is looked up from here.
        sha256: What it was when the run started.
        state: What it is now. Data sets of the hub are not checked.
    """

    file: str
    sha256: str
    state: DataState

    @classmethod
    def compared(cls, file: str, sha256: str) -> Self:
        """Compare a data file with the hash that it had in training."""
        try:
            now = None if is_hub(file) else source_hash(file)
        except DataError:
            return cls(file, sha256, "unreadable" if path_of(file).exists() else "missing")
        state: DataState = "not checked" if now is None else "same" if now == sha256 else "changed"
        return cls(file, sha256, state)


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained.

    Attributes:
        architecture: The class of transformers, or the family as the recipe names it before there
            is a checkpoint; None if unknown.
        pretrained: Where its first weights came from; None for a model from scratch.
        num_parameters: Tied ones count once; None if unknown.
        num_adapted: Those of its adapters, where these alone are saved.
    """

    architecture: str | None
    pretrained: str | None
    num_parameters: int | None
    num_adapted: int | None = None


@dataclass(frozen=True, slots=True)
class CheckpointSummary:
    """A checkpoint folder.

    Attributes:
        name: Of the folder.
        update: Updates that its weights have seen.
        stage: That they were trained for; None if it is damaged.
        num_bytes: On disk.
        is_best: Whether validation chose it.
        state: `whole` if all files are what was written, `no checksums` if nothing tells (formats 1
            and 2), `damaged` if it cannot be used, `set aside` if training has passed it over.
        format_version: Of its files; None if it is damaged.
    """

    name: str
    update: int
    stage: int | None
    num_bytes: int
    is_best: bool
    state: State
    format_version: int | None

    @property
    def is_usable(self) -> bool:
        """Whether it can be loaded, as far as is known."""
        return self.state in ("whole", "no checksums")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run folder, or a checkpoint that lies in none.

    Attributes:
        path: The folder.
        is_run: Whether it is a run.
        method: Name of the method.
        task: Its name, `own` for custom data.
        seed: Of the run.
        model: What is trained.
        stage: The last one that was reached.
        last_stage: The last one of the curriculum; None if unknown.
        update: Updates that were done, saved or not.
        num_updates: Of the whole training; None where only the data could tell and they are gone.
        is_finished: Whether a checkpoint of the last update is there; None if unknown.
        data: Training and validation file.
        sessions: The process that started the run, and each that resumed it.
        checkpoints: Oldest first, those set aside as damaged last.
        evaluations: Name of the file → its result, without its records.
        problems: What is damaged, or of a newer latentcot.
        accuracies: Stage → (update, accuracy) of its last validation.
        warnings: What training said of stages that were not learned.
    """

    path: str
    is_run: bool
    method: str
    task: str
    seed: int
    model: Model
    stage: int
    last_stage: int | None
    update: int
    num_updates: int | None
    is_finished: bool | None
    data: tuple[DataFile, ...] = ()
    sessions: tuple[Session, ...] = ()
    checkpoints: tuple[CheckpointSummary, ...] = ()
    evaluations: dict[str, Evaluation] | None = None
    problems: tuple[str, ...] = ()
    accuracies: dict[int, tuple[int, float]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def show_run(path: Path, *, as_json: bool) -> None:
    """Show a run folder or a checkpoint."""
    summary = summarize_run(path)
    if as_json:
        put_json(asdict(summary))
        return
    print_table(_pairs(summary))
    saved = _table("checkpoint", "update", "stage", "size", "format", "state")
    for one in summary.checkpoints:
        saved.add_row(
            one.name,
            f"{one.update:,}",
            "–" if one.stage is None else str(one.stage),
            decimal(one.num_bytes),
            "–" if one.format_version is None else str(one.format_version),
            f"{one.state}{', best' if one.is_best else ''}",
        )
    validated = _table("stage", "validation", "update")
    for stage, (update, accuracy) in summary.accuracies.items():
        validated.add_row(str(stage), percent(accuracy), f"{update:,}")
    evaluated = _table("evaluation", "accuracy", "95 %", "questions", "update", "made", "format")
    for file, result in (summary.evaluations or {}).items():
        shown = figures(result)
        evaluated.add_row(
            file,
            *(shown[name] for name in ("accuracy", "95 %", "questions")),
            f"{result.checkpoint.update:,}" if result.checkpoint else "–",
            _time(result.provenance.get("time")),
            str(result.format_version),
        )
    for table in (validated, saved, evaluated):
        if table.row_count:
            put()
            print_table(table)
    for warning in summary.warnings:
        print_text(f"\nWarning: {warning}")
    for problem in summary.problems:
        print_text(f"\nProblem: {problem}")


# --- what the folder says -----------------------------------------------------------------------


def summarize_run(path: Path) -> RunSummary:
    """Read a run folder, that of a checkpoint in it, or a checkpoint that lies in none.

    Raises:
        RunError: The folder is neither.
        RecipeError: The recipe of the run cannot be read.
        CheckpointError: The lone checkpoint says nothing of itself, or is of a newer format.
    """
    above = path.absolute() if len(path.parts) < 3 else path
    if (path / RECIPE).is_file():
        run = path
    elif above.parent.name == "checkpoints" and (above.parent.parent / RECIPE).is_file():
        run = above.parent.parent
    else:
        return _lone_checkpoint(path)

    problems: list[str] = []

    @contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        except LatentcotError as error:
            problems.append(str(error))

    recipe = read_recipe(run / RECIPE)
    origin: dict[str, Any] = {}
    with noting():
        origin = read_provenance(run)
    hashes = origin.get("data", {})
    data = tuple(DataFile.compared(*one) for one in hashes.items())
    folder, best = run / "checkpoints", None
    with noting():
        best = best_checkpoint(run) if os.path.lexists(folder / BEST_FILE) else None
    checkpoints = tuple(
        summarize_checkpoint(path, problems, is_best=path == best)[0]
        for path in (*sorted(folder.glob("update-*")), *sorted(folder.glob("damaged-update-*")))
        if path.is_dir()
    )
    saved = [one for one in checkpoints if one.is_usable]
    named = recipe.model if isinstance(recipe.model, str) else None
    family = None if isinstance(recipe.model, str) else recipe.model.architecture
    last = model_of(folder / saved[-1].name, named) if saved else Model(family, named, None)
    # The last update and stage of which there is a trace.
    rows: Sequence[dict[str, Any]] = []
    with noting():
        rows = read_metrics(run)
    newest, valid = rows[-1:], [row for row in rows if row["kind"] == "valid"]
    updates = [*(row["update"] for row in newest), *(one.update for one in saved)]
    stages = [*(row.get("stage") for row in newest), *(one.stage for one in saved)]
    # Of epochs only the data that it was trained with can tell how long they are.
    is_known = recipe.training.epochs is None or any(
        (one.file, one.state) == (recipe.data.train, "same") for one in data
    )
    num_updates = origin.get("num_updates") or (num_updates_of(recipe) if is_known else None)
    evaluations = {}
    for file in sorted((run / "evals").glob("*.json")):
        with noting(), suppress(FileNotFoundError):  # deleted meanwhile
            found = Evaluation.read(file, recipe.task if isinstance(recipe.task, str) else {})
            evaluations[file.name] = replace(found, records=())
    return RunSummary(
        path=str(run),
        is_run=True,
        method=recipe.method_name,
        task=task_named(recipe.task).name,
        seed=recipe.seed,
        model=last,
        stage=max((stage for stage in stages if isinstance(stage, int)), default=0),
        last_stage=method_named(recipe.method).stages(recipe.curriculum.plan)[-1],
        update=max(updates, default=0),
        num_updates=num_updates,
        is_finished=None if not num_updates else any(c.update >= num_updates for c in saved),
        data=data,
        sessions=sessions_of(origin),
        checkpoints=checkpoints,
        evaluations=evaluations,
        problems=tuple(problems),
        accuracies={row["stage"]: (row["update"], row["accuracy"]) for row in valid},
        warnings=tuple(warnings_of(rows)),
    )


def _lone_checkpoint(folder: Path) -> RunSummary:
    if not (folder / INFO_FILE).is_file():
        inside = [*folder.glob(f"*/{RECIPE}"), *folder.glob(f"*/*/*/{RECIPE}")]
        example = f", such as {min(inside).parent}" if inside else ""
        raise RunError(
            f"{folder}: is no run folder (it holds no {RECIPE}) and no checkpoint (it holds no "
            f"{INFO_FILE}). Give one of these{example}; or give a recipe."
        )
    problems: list[str] = []
    summary, info = summarize_checkpoint(folder, problems)
    sessions: tuple[Session, ...] = ()
    try:
        sessions = sessions_of(read_provenance(folder))
    except LatentcotError as error:
        problems.append(str(error))
    task = info.get("task")
    try:
        return RunSummary(
            path=str(folder),
            is_run=False,
            method=str(
                info["method"]["name"] if isinstance(info["method"], dict) else info["method"]
            ),
            task=task if isinstance(task, str) else "own",
            seed=int(info["seed"]),
            model=model_of(folder),
            stage=int(info["stage"]),
            last_stage=None,
            update=int(info["update"]),
            num_updates=None,
            is_finished=None,
            sessions=sessions,
            checkpoints=(summary,),
            problems=tuple(problems),
        )
    except (KeyError, TypeError, ValueError):
        reason = problems[0] if problems else f"{folder / INFO_FILE}: is damaged."
        raise CheckpointError(reason) from None


def summarize_checkpoint(
    folder: Path, problems: MutableSequence[str], *, is_best: bool = False
) -> tuple[CheckpointSummary, dict[str, Any]]:
    """Read what a checkpoint is, and compare its files with their checksums.

    Args:
        folder: The checkpoint.
        problems: What is wrong is added here, in words.
        is_best: Whether validation chose it.

    Returns:
        The summary, and what `latentcot.json` holds; nothing where it is damaged.
    """
    info: dict[str, Any] = {}
    state: State = "set aside"
    if not folder.name.startswith("damaged-"):
        try:
            # Without a run nothing is to be continued: what only that needs may be missing.
            is_verified = verify(folder, leave_out=() if run_of(folder) else (STATE_FILE,))
            info = read_versioned(folder / INFO_FILE, CHECKPOINT_VERSION)
            state = "whole" if is_verified else "no checksums"
        except (LatentcotError, FileNotFoundError) as error:
            state = "damaged"
            problems.append(f"{folder}: {error}" if isinstance(error, OSError) else str(error))
    num_bytes = 0
    with suppress(OSError):  # deleted meanwhile
        num_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    number = folder.name.rpartition("-")[2]
    update, stage = info.get("update"), info.get("stage")
    return CheckpointSummary(
        name=folder.name,
        update=update if isinstance(update, int) else int(number) if number.isdecimal() else 0,
        stage=stage if isinstance(stage, int) else None,
        num_bytes=num_bytes,
        is_best=is_best,
        state=state,
        format_version=info.get("format_version", 1) if info else None,
    ), info


def model_of(folder: Path, pretrained: str | None = None) -> Model:
    """Read what model a checkpoint holds; what cannot be read is None."""

    def count(pattern: str) -> int | None:
        """Add up the shapes in the heads of the weight files."""
        num = 0
        for path in folder.glob(pattern):
            with safe_open(path, framework="numpy") as file:
                num += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        return num or None

    architecture = num_parameters = num_adapted = None
    with suppress(OSError, ValueError, LookupError, TypeError):
        config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
        architecture = str(config["architectures"][0])
    with suppress(OSError, SafetensorError):
        num_adapted = count(WEIGHTS_FILE)
    with suppress(OSError, SafetensorError):
        num_parameters = count("model*.safetensors")
    return Model(architecture, pretrained, num_parameters, num_adapted)


# --- as text ------------------------------------------------------------------------------------


def _pairs(summary: RunSummary) -> Table:
    """Return what a run is, and where it comes from: first process, data, each that resumed it."""
    model = summary.model
    model_text = _joined(
        model.architecture or "unknown",
        model.num_parameters and f"{model.num_parameters:,} parameters",
        model.num_adapted and f"{model.num_adapted:,} parameters of adapters",
        model.pretrained and f"begun from {model.pretrained}",
    )
    state = {True: "finished", False: "not finished", None: None}[summary.is_finished]
    of_all = "" if summary.num_updates is None else f" of {summary.num_updates:,}"
    of_stages = "" if summary.last_stage is None else f" of {summary.last_stage:,}"
    progress = f"update {summary.update:,}{of_all}, stage {summary.stage:,}{of_stages}"
    lines = [
        ("run" if summary.is_run else "checkpoint", summary.path),
        ("method", summary.method),
        ("task", summary.task),
        ("model", model_text),
        ("training", _joined(state, progress)),
        ("seed", str(summary.seed)),
        ("", ""),
    ]
    if summary.sessions:
        first, *others = summary.sessions
        versions = [f"{name} {version}" for name, version in (first.versions or {}).items()
                    if version]  # fmt: skip
        s = "s" if first.threads and first.threads > 1 else ""
        used = _joined(
            first.cores_used and f"{first.cores_used} used",
            first.threads and f"{first.threads} thread{s}",
        )
        processes = first.num_processes or 1
        states = {"same": "as it was", "changed": "has changed since", "missing": "is not here now"}
        lines += [
            ("started", _time(first.time)),
            ("command", first.command or "unknown"),
            ("commit", code_of(asdict(first)) or "unknown"),
            ("versions", _joined(*versions, f"Python {first.python or 'unknown'}")),
            ("machine", f"{first.machine or 'unknown'}{f' ({used})' if used else ''}"),
            ("device", _joined(first.device or "unknown", first.gpu,
                               f"{processes} processes" if processes > 1 else None)),
        ]  # fmt: skip
        lines += [
            ("data", f"{one.file}, {one.sha256[:SHORT]}, {states.get(one.state, one.state)}")
            for one in summary.data
        ]
        for one in others:
            differs = f"; {', '.join(one.differs)}" if one.differs else ""
            lines.append(("resumed", f"after update {one.update:,}, {_time(one.time)}{differs}"))
    else:
        lines.append(("provenance", "unknown"))

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for name, text in lines:
        # A run may come from elsewhere: its texts are no more than texts.
        table.add_row("" if name == before else name, one_line(text, MAX_TEXT))
        before = name
    return table


def _joined(*parts: str | int | None) -> str:
    return ", ".join(str(part) for part in parts if part)


def _time(text: object) -> str:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return "at an unknown time"
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for name in others:
        is_text = name in ("state", "made")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    return table
