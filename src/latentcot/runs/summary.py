"""What a run folder says of itself: how far it is, where it comes from, what lies in it.

Files are read and compared with their hashes; no weights are loaded, and nothing is changed. What
is damaged ends nothing: it stands among the problems, beside all that can still be told.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from latentcot.data.formats import is_hub, read_records, source_hash
from latentcot.data.sources import count_examples
from latentcot.errors import CheckpointError, DataError, LatentcotError, RunError
from latentcot.methods import method_named
from latentcot.recipes.recipe import Data, Recipe, read_recipe
from latentcot.runs.checkpoint_folders import INFO_FILE, best_checkpoint
from latentcot.runs.checkpoint_summary import (
    CheckpointSummary,
    Model,
    model_of,
    summarize_checkpoint,
)
from latentcot.runs.folder import RECIPE, read_metrics
from latentcot.runs.provenance import differences, read_provenance
from latentcot.tasks import task_named
from latentcot.utils.parsing import shown
from latentcot.utils.versions import EVALUATION_VERSION, read_versioned

T = TypeVar("T")
State = Literal["same", "changed", "missing", "unreadable", "not checked"]


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
    state: State


@dataclass(frozen=True, slots=True)
class Session:
    """A process that trained a run; what was not written down is None.

    Attributes:
        update: Updates that the run had before it.
        time: When it began, in UTC.
        command: Its command line.
        commit: Of latentcot; None too where git does not keep it.
        is_tree_dirty: Whether the commit had been changed.
        python: Its version.
        versions: Package → version.
        machine: Kind of machine, processor, cores.
        cores_used: Cores that it could use.
        threads: Of torch.
        num_processes: Devices that trained together.
        device: As torch names it.
        gpu: What the device is, if it is a GPU.
        differs: In words, what differs from the process before and may change the last bits.
    """

    update: int = 0
    time: str | None = None
    command: str | None = None
    commit: str | None = None
    is_tree_dirty: bool | None = None
    python: str | None = None
    versions: Mapping[str, str | None] | None = None
    machine: str | None = None
    cores_used: int | None = None
    threads: int | None = None
    num_processes: int | None = None
    device: str | None = None
    gpu: str | None = None
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluationSummary:
    """A file of evals/.

    Attributes:
        file: Its name.
        accuracy: Share of right answers, 0 … 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        num_questions: Questions.
        data: The file of the questions.
        update: Of the checkpoint.
        time: When it was made, in UTC.
        schema_version: Of its form.
    """

    file: str
    accuracy: float
    low: float
    high: float
    num_questions: int
    data: str
    update: int
    time: str | None
    schema_version: int


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run folder, or a checkpoint that lies in none.

    Attributes:
        path: The folder.
        is_run: Whether it is a run.
        method: A row of the method table.
        task: Its name, `own` for data of one's own.
        seed: Of the run.
        model: What is trained.
        stage: The last one that was reached.
        last_stage: The last one of the curriculum; None if unknown.
        update: Updates that were done, saved or not.
        num_updates: Of the whole training; None where only the data could tell and they are gone.
        is_finished: Whether a checkpoint of the last update is there; None if unknown.
        data: Training and validation file.
        sessions: The process that started the run, and each that went on with it.
        checkpoints: Oldest first, those set aside as damaged last.
        evaluations: By name.
        problems: What is damaged, or of a newer latentcot.
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
    evaluations: tuple[EvaluationSummary, ...] = ()
    problems: tuple[str, ...] = ()


class _Lenient:
    """Reads on after an error of ours, and remembers it."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read(self, do: Callable[[], T], otherwise: T) -> T:
        """Return what a function returns, or something else where it fails."""
        try:
            return do()
        except LatentcotError as error:
            self.problems.append(str(error))
            return otherwise


def summarize_run(path: Path) -> RunSummary:
    """Read a run folder, that of a checkpoint in it, or a checkpoint that lies in none.

    Raises:
        RunError: The folder is neither.
        RecipeError: The recipe of the run cannot be read.
        CheckpointError: The lone checkpoint says nothing of itself, or is of a newer format.
    """
    run = _run_of(path)
    if run is None:
        return _lone_checkpoint(path)
    recipe, lenient = read_recipe(run / RECIPE), _Lenient()
    origin: dict[str, Any] = lenient.read(lambda: read_provenance(run), {})
    data = tuple(_data_file(file, digest) for file, digest in origin.get("data", {}).items())
    checkpoints = _checkpoints(run, lenient)
    update, stage = _reached(run, checkpoints, lenient)
    num_updates = _num_updates(recipe, data)
    saved = max((one.update for one in checkpoints if one.is_usable), default=0)
    return RunSummary(
        path=str(run),
        is_run=True,
        method=recipe.method,
        task=task_named(recipe.task).name,
        seed=recipe.seed,
        model=_model(run, recipe, checkpoints),
        stage=stage,
        last_stage=method_named(recipe.method).stages(recipe.curriculum.plan)[-1],
        update=update,
        num_updates=num_updates,
        is_finished=None if num_updates is None else saved >= num_updates,
        data=data,
        sessions=_sessions(origin),
        checkpoints=checkpoints,
        evaluations=_evaluations(run, lenient),
        problems=tuple(lenient.problems),
    )


def _run_of(path: Path) -> Path | None:
    """Return the run that a path is, or that its checkpoint lies in; None if there is none."""
    if (path / RECIPE).is_file():
        return path
    above = path.absolute() if len(path.parts) < 3 else path
    is_inside = above.parent.name == "checkpoints" and (above.parent.parent / RECIPE).is_file()
    return above.parent.parent if is_inside else None


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
    task = info.get("task")
    try:
        return RunSummary(
            path=str(folder),
            is_run=False,
            method=str(info["method"]),
            task=task if isinstance(task, str) else "own",
            seed=int(info["seed"]),
            model=model_of(folder),
            stage=int(info["stage"]),
            last_stage=None,
            update=int(info["update"]),
            num_updates=None,
            is_finished=None,
            checkpoints=(summary,),
            problems=tuple(problems),
        )
    except (KeyError, TypeError, ValueError):
        reason = problems[0] if problems else f"{folder / INFO_FILE}: is damaged."
        raise CheckpointError(reason) from None


def _data_file(file: str, digest: str) -> DataFile:
    if is_hub(file):
        return DataFile(file, digest, "not checked")
    try:
        return DataFile(file, digest, "same" if source_hash(file) == digest else "changed")
    except DataError:
        return DataFile(file, digest, "unreadable" if Path(file).exists() else "missing")


def _sessions(origin: Mapping[str, Any]) -> tuple[Session, ...]:
    if not origin:
        return ()
    names = {field.name for field in fields(Session)} - {"differs"}
    processes = [origin, *origin.get("resumed", [])]
    return tuple(
        Session(
            **{name: now[name] for name in names & now.keys()},
            differs=tuple(differences(before, now)),
        )
        for before, now in zip([origin, *processes], processes, strict=False)
    )


# --- how far it is ----------------------------------------------------------------------------


def _checkpoints(run: Path, lenient: _Lenient) -> tuple[CheckpointSummary, ...]:
    folder = run / "checkpoints"
    has_best = (folder / "best.json").exists()
    best = lenient.read(lambda: best_checkpoint(run), None) if has_best else None
    paths = [*sorted(folder.glob("update-*")), *sorted(folder.glob("damaged-update-*"))]
    found = [
        summarize_checkpoint(path, lenient.problems, is_best=path == best)[0]
        for path in paths
        if path.is_dir()
    ]
    return tuple(found)


def _reached(
    run: Path, checkpoints: Iterable[CheckpointSummary], lenient: _Lenient
) -> tuple[int, int]:
    """Return the last update and stage of which there is a trace."""
    nothing: Sequence[dict[str, Any]] = []
    rows = lenient.read(lambda: read_metrics(run), nothing)[-1:]
    saved = [one for one in checkpoints if one.is_usable]
    updates = [*(row["update"] for row in rows), *(one.update for one in saved)]
    stages = [*(row.get("stage") for row in rows), *(one.stage for one in saved)]
    return max(updates, default=0), max((s for s in stages if isinstance(s, int)), default=0)


def _num_updates(recipe: Recipe, data: Iterable[DataFile]) -> int | None:
    """Return the length of the whole training, as the trainer finds it."""
    training = recipe.training
    if training.epochs is None:
        return training.max_updates
    if ("same", recipe.data.train) not in {(one.state, one.file) for one in data}:
        return None
    try:
        num_examples = _num_examples(recipe.data)
    except DataError:
        return None
    if recipe.data.max_train is not None:
        num_examples = min(num_examples, recipe.data.max_train)
    return training.num_updates(max(1, num_examples // training.batch_size))


def _num_examples(data: Data) -> int:
    if data.stream:
        return count_examples(data.train, data.max_train, data.num_examples)
    return sum(1 for _ in read_records(data.train))


def _model(run: Path, recipe: Recipe, checkpoints: Sequence[CheckpointSummary]) -> Model:
    saved = [one for one in checkpoints if one.is_usable]
    pretrained = recipe.model if isinstance(recipe.model, str) else None
    if saved:
        return model_of(run / "checkpoints" / saved[-1].name, pretrained)
    architecture = None if isinstance(recipe.model, str) else recipe.model.architecture
    return Model(architecture, pretrained, None)


# --- evaluations ------------------------------------------------------------------------------


def _evaluations(run: Path, lenient: _Lenient) -> tuple[EvaluationSummary, ...]:
    found: list[EvaluationSummary | None] = [
        lenient.read(partial(_evaluation, path), None)
        for path in sorted((run / "evals").glob("*.json"))
    ]
    return tuple(one for one in found if one is not None)


def _evaluation(path: Path) -> EvaluationSummary:
    try:
        values = read_versioned(path, EVALUATION_VERSION, "schema_version")
        return EvaluationSummary(
            file=path.name,
            accuracy=_share(values["accuracy"]),
            low=_share(values["low"]),
            high=_share(values["high"]),
            num_questions=int(values["num_questions"]),
            data=str(values["data"]["file"]),
            update=int(values["checkpoint"]["update"]),
            time=str(values.get("provenance", {}).get("time", "")) or None,
            schema_version=values.get("schema_version", 1),
        )
    except FileNotFoundError as error:  # deleted meanwhile
        raise RunError(f"{path}: cannot be read: {error}.") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RunError(f"{path}: is no result file of latentcot: {error!r}.") from None


def _share(value: Any) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"a share must be 0 … 1, got {shown(value)}")
    return float(value)
