"""A run folder: the recipe, where it came from, what it measured.

    .lock             held by the process that trains
    recipe.yaml       fully resolved
    provenance.json   commit, versions, device, command, data hashes
    metrics.jsonl     one row a line, `kind` says what (docs/recipes.md)
    checkpoints/      update-00001200/ …, best.json names the best
    evals/            one file an evaluation

Analysis, comparison and report read these files only.
"""

import errno
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from latentcot.data.fields import Columns, Fields
from latentcot.data.formats import is_hub, source_hash
from latentcot.data.named import asked, label_of
from latentcot.errors import RunError
from latentcot.runs.checkpoint_folders import QUESTIONS_FILE, here_or_shipped
from latentcot.runs.provenance import changed_data, read_provenance
from latentcot.utils.display import say
from latentcot.utils.files import written_whole
from latentcot.utils.parsing import parse_json, parse_yaml

RECIPE = "recipe.yaml"
STUDY_FILE = "study.yaml"
"""What makes a folder that of a study: the study as it was read."""
METRICS = "metrics.jsonl"
OWN_TEST = "test"
"""What a study calls the result on the test file, whatever that is called."""
LOCK = ".lock"


def refuse_taken(path: Path, *, resume: bool, overwrite: bool) -> None:
    """Check that a folder can be used as asked, before any long work; change nothing.

    Raises:
        RunError: It exists and neither `resume` nor `overwrite` was asked for, or there is nothing
            to resume or overwrite.
    """
    if resume and overwrite:
        raise RunError(f"{path}: --resume and --overwrite exclude each other. Give one of them.")
    try:  # a process that died as it began leaves no more than a lock and half a file
        is_taken = path.exists() and (
            not path.is_dir()
            or any(p.name != LOCK and p.suffix != ".partial" for p in path.iterdir())
        )
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error}.") from None
    if is_taken and resume and not (path / RECIPE).is_file():
        raise RunError(
            f"{path}: holds no {RECIPE}, so there is nothing to resume. Bring it back if this was "
            "a run, or give another --out."
        )
    if resume and not is_taken:
        raise RunError(f"{path}: there is no run to resume. Leave --resume out to start one.")
    if is_taken and not (resume or overwrite):
        raise RunError(
            f"{path}: exists already. Give --resume to go on with it, --overwrite to delete it "
            "first, or another --out."
        )
    if is_taken and overwrite and not (path / RECIPE).exists():
        raise RunError(
            f"{path}: is no run folder (it holds no recipe.yaml), so --overwrite will not delete "
            "it. Delete it yourself, or give another --out."
        )


def open_run(path: Path, *, resume: bool, overwrite: bool) -> Path:
    """Make the folder of a new run, or take an old one up again.

    Raises:
        RunError: As `refuse_taken`, or the folder cannot be made.
    """
    refuse_taken(path, resume=resume, overwrite=overwrite)
    try:
        if overwrite and path.exists():  # all but the lock; what makes it a run folder goes last
            for entry in sorted(path.iterdir(), key=lambda entry: entry.name == RECIPE):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != LOCK:
                    entry.unlink()
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path}: the run folder cannot be made: {error}.") from None
    return path


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Keep other processes from training into a run folder meanwhile.

    Raises:
        RunError: Another process does, or the folder cannot be made.
    """
    lock = FileLock(run / LOCK)
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise RunError(
            f"{run}: another process is training into this folder. Wait for its end, or give "
            "another --out."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise RunError(f"{run / LOCK}: cannot be locked: {error}.") from None
        say(f"Note: this disk has no locks: see to it that nothing else trains into {run}.")
    try:
        yield
    finally:
        with suppress(OSError):  # it must hide no other error
            lock.release()


def append_metrics(run: Path, row: dict[str, Any]) -> None:
    """Add one row to metrics.jsonl.

    Raises:
        RunError: It cannot be written.
    """
    path = run / METRICS
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written: {error}. The last checkpoint is whole: make room, and go "
            "on with --resume."
        ) from None


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl; a last line that is not whole is left out.

    Raises:
        RunError: Another line is not what was written.
    """
    lines, rows = _metrics(run).splitlines(), []
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line.decode())
            needed = ["update", "stage", *(["accuracy"] if row["kind"] == "valid" else [])]
            if not all(isinstance(row[key], int | float) for key in needed):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            if number == len(lines):
                break
            raise RunError(
                f"{run / METRICS}:{number}: is damaged, got {line[:80]!r}. Bring the file back, or "
                "delete it, and its rows are lost."
            ) from None
        rows.append(row)
    return rows


def _metrics(run: Path) -> bytes:
    try:
        return (run / METRICS).read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise RunError(f"{run / METRICS}: cannot be read: {error}.") from None


def warnings_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what rows of metrics.jsonl say of stages that were not learned."""
    return [row["warning"] for row in rows if isinstance(row.get("warning"), str)]


def notes_on(
    run: Path, rows: Sequence[Mapping[str, Any]], stage: int, last_stage: int
) -> list[str]:
    """Return what whoever evaluates a checkpoint of a run should know of its training.

    Args:
        run: The run folder.
        rows: Of its metrics.jsonl.
        stage: Of the checkpoint.
        last_stage: Of its method and curriculum.
    """
    training = read_run_recipe(run).get("training")
    of_recipe = training if isinstance(training, dict) and training.get("epochs") is None else {}
    total = of_recipe.get("max_updates")
    with suppress(RunError):  # of a damaged file, which `show` tells
        total = read_provenance(run).get("num_updates") or total
    done = max((row["update"] for row in rows), default=0)
    notes = []
    if isinstance(total, int) and done < total:
        notes.append(f"the run has not finished: update {done:,} of {total:,}.")
    if stage < last_stage:
        what = "this checkpoint is" if notes else "training ended before its last stage: this is"
        notes.append(f"{what} of stage {stage} of {last_stage}, where steps are still in words.")
    try:
        changed = changed_data(run)
    except RunError as error:  # nothing that was asked for is missing
        notes.append(str(error))
    else:
        if changed:
            notes.append(
                f"{', '.join(changed)} changed after {run} was trained: the hash is not the one in "
                "its provenance.json. If that was not meant, bring the old file back."
            )
    warnings = warnings_of(rows)
    if len(warnings) > 1:
        warnings = [
            f"{len(warnings)} stages ended before they were learned, and `latentcot show` of the "
            f"run tells of each. The last: {warnings[-1]}"
        ]
    return [*notes, *warnings]


def metrics_hash(run: Path) -> str:
    """Return the SHA-256 of metrics.jsonl as it is now.

    Raises:
        RunError: It cannot be read.
    """
    return hashlib.sha256(_metrics(run)).hexdigest()


def forget_metrics_after(run: Path, update: int, digest: str | None = None) -> None:
    """Drop the rows that a resumed run will write again.

    Args:
        run: The run folder.
        update: Of the checkpoint that it continues from.
        digest: What `metrics_hash` gave for that one; None compares nothing.

    Raises:
        RunError: The file is damaged, or cannot be written.
    """
    path = run / METRICS
    rows = [row for row in read_metrics(run) if row["update"] <= update]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if digest is not None and hashlib.sha256(text.encode()).hexdigest() != digest:
        if path.exists():
            raise RunError(
                f"{path}: its rows up to update {update} are not what was written. Bring the file "
                "back, or delete it, and those rows are lost."
            )
        say(f"{path}: is missing, so the rows up to update {update} are lost.")
    with written_whole(path) as file:
        file.write(text)


def read_run_recipe(run: Path) -> dict[str, Any]:
    """Return the resolved recipe of a run, as plain values.

    Raises:
        RunError: The folder holds none.
    """
    path = run / RECIPE
    try:
        recipe = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        is_none = isinstance(error, FileNotFoundError | NotADirectoryError)
        why = f"it holds no {RECIPE}." if is_none else f"its {RECIPE} cannot be read: {error}"
        raise RunError(f"{run}: is no run folder: {why}") from None
    if not isinstance(recipe, dict):
        raise RunError(f"{path}: must hold keys and values, got {type(recipe).__name__}.")
    return recipe


def run_of(checkpoint: Path | str) -> Path | None:
    """Return the run folder that a path is or lies in, or None."""
    path = Path(checkpoint)
    if (path / RECIPE).is_file():
        return path
    home = path.absolute().parent
    if home.name != "checkpoints" or not (home.parent / RECIPE).is_file():
        return None
    return path.parent.parent if path.parent.name == home.name else home.parent


def recipe_test_file(checkpoint: Path | str) -> str:
    """Return the test file (or data set of the hub) that the recipe of a checkpoint's run names.

    Of a checkpoint without a run, the questions that it brings along, and one line says so.

    Raises:
        RunError: There is no run, or its recipe names none.
    """
    file = _data_of(checkpoint).get("test")
    if file is None and (beside := questions_beside(checkpoint)) is not None:
        say(f"Note: the questions are those that come with {checkpoint}: {beside}.")
        return str(beside)
    if file is None:
        is_run = run_of(checkpoint) is not None
        reason = "its recipe names no test file" if is_run else "is no run that names a test file"
        raise RunError(f"{checkpoint}: {reason}. Give another run, or questions with --data.")
    return str(file)


def analysis_folder(checkpoint: Path | str) -> Path:
    """Return where an analysis of a checkpoint goes: into its run, if it has one."""
    run, path = run_of(checkpoint), Path(checkpoint)
    if run is None:
        return Path("analysis") / path.name
    return run / ("analysis" if path.resolve() == run.resolve() else f"analysis-{path.name}")


def recipe_fields(checkpoint: Path | str, file: str) -> Fields:
    """Return how question, steps and answer are found in a file: as in the data of the run.

    Of a named data set they are known.
    """
    data = _data_of(checkpoint) if asked(file) is None else {}
    found: Any = data.get("columns")
    if found is not None:  # YAML has lists
        found = {key: tuple(v) if isinstance(v, list) else v for key, v in found.items()}
        found = Columns(**found)
    return Fields(found, data.get("steps_split"), data.get("answer_after"))


def questions_beside(checkpoint: Path | str) -> Path | None:
    """Return the file of questions that a checkpoint brings along, such as that of `quickstart`."""
    path = here_or_shipped(checkpoint) / QUESTIONS_FILE
    return path if path.is_file() else None


def _data_of(checkpoint: Path | str) -> dict[str, Any]:
    run = run_of(checkpoint)
    data = read_run_recipe(run).get("data") if run else None
    return data if isinstance(data, dict) else {}


def refuse_no_result(path: Path) -> None:
    """Check that an evaluation would replace nothing but an earlier one.

    Raises:
        RunError: Something else is there.
    """
    if path.exists() and not path.is_file():  # a device may have no end
        raise RunError(f"{path}: must be a file, but it is none. Give another --out.")
    try:
        is_result = "accuracy" in parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError):
        is_result = False
    if not is_result or path.name == "best.json":
        raise RunError(
            f"{path}: exists, and is no result of an evaluation, so it will not be replaced. Give "
            "another --out."
        )


def refuse_other_result(path: Path, file: str) -> None:
    """Check that a result on some questions would not replace that on another file's.

    Raises:
        RunError: It would.
        DataError: The file cannot be read.
    """
    try:
        data = parse_json(path.read_text(encoding="utf-8"))["data"]
        old, digest = str(data["file"]), str(data["sha256"])
    except (OSError, ValueError, TypeError, KeyError):
        return  # none, or of an older version
    is_same = old == file or (not is_hub(file) and Path(old).resolve() == Path(file).resolve())
    if not is_same and digest != source_hash(file):
        raise RunError(
            f"{path}: holds the result on {old}, and that on {file} would replace it. Give --out."
        )


def short_name(data: str) -> str:
    """Return what a file or a data set of the hub is called for short."""
    return data.rpartition(":")[2] if is_hub(data) else Path(data).stem


def _result_name(data: str, own: Mapping[str, Any]) -> str:
    """Return what the result on some data is called in a run with this `data:` in its recipe."""
    name, owners = short_name(data), dict[str, str]()
    for key in ("test", "valid", "train"):
        source = own.get(key)
        if not isinstance(source, str):
            continue
        if key == OWN_TEST:
            owners[OWN_TEST] = source
        owners.setdefault(short_name(label_of(source)), source)
    owner = owners.get(name)
    if owner is None or data in (owner, label_of(owner)):
        return name
    if is_hub(data):
        return data.removeprefix("hub:")
    place = Path(data).resolve()
    return name if place == Path(owner).resolve() else f"{place.parent.name}-{name}"


def eval_path(
    checkpoint: Path | str,
    data: str,
    num_thoughts: int | None,
    limit: int | None,
    *,
    force_steps: bool = False,
    force_answer: bool = False,
    match: str | None = None,
    differs: Sequence[str] = (),
) -> Path | None:
    """Return where the result of an evaluation goes: into its run, if it has one.

    Its name tells what differs from the run's best checkpoint on the whole file. Other data that is
    called like the run's own train, valid or test has its folder's name before it.
    """
    run = run_of(checkpoint)
    if run is None:
        return None
    name = _result_name(data, _data_of(checkpoint))
    parts = [name]
    if Path(checkpoint) != run:
        parts.append(Path(checkpoint).name)
    if num_thoughts is not None:
        parts.append(f"{num_thoughts}-thoughts")
    if force_steps:
        parts.append("forced-steps")
    if force_answer:
        parts.append("forced-answer")
    if match is not None:
        parts.append(f"by-{match}")
    parts += differs
    if limit is not None:
        parts.append(f"first-{limit}")
    whole = re.sub(r"[^\w.+-]+", "-", "-".join(parts))  # slashes among them: the file stays here
    return run / "evals" / f"{whole}.json"
