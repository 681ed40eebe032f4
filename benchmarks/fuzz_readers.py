"""The readers that `fuzz.py` and tests/robustness/test_fuzz.py feed with broken files.

A `Reader` reads a small folder as the package does, and uses what it was given: an accepted example
is written and read again, encoded and laid out; an accepted recipe is written and read again; an
accepted checkpoint answers a question; accepted results make tables. `attempt` says how it went.
"""

import json
import re
import signal
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from traceback import extract_tb
from typing import Any

from latentcot.cli.data import _print_statistics
from latentcot.cli.shared.tables import comparison_table, print_summaries, print_table
from latentcot.curriculum.layout import LayoutRules, Template, encode, lay_out
from latentcot.data.examples import read_examples, write_examples
from latentcot.data.formats import source_hash
from latentcot.errors import LatentcotError
from latentcot.evaluation.comparison import compare, summarize
from latentcot.evaluation.reasoner import load
from latentcot.evaluation.tables import write_summaries
from latentcot.methods import METHODS, Plan, method_named
from latentcot.models.special_tokens import bpe_tokenizer, special_tokens_of
from latentcot.recipes.recipe import read_recipe, write_recipe
from latentcot.runs.checkpoint import load_training_state
from latentcot.runs.checkpoint_folders import best_checkpoint, prune_checkpoints
from latentcot.runs.folder import (
    eval_path,
    forget_metrics_after,
    read_metrics,
    recipe_test_file,
    refuse_no_result,
)
from latentcot.runs.provenance import read_provenance
from latentcot.studies.folder import making_jobs, open_study, training_jobs
from latentcot.studies.jobs import Training
from latentcot.studies.study import cells_of, read_study
from latentcot.tasks import task_of

MAX_SECONDS = 5
MAX_MESSAGE = 4_000
"""Characters: nobody reads a longer one."""

ACCEPTED, REFUSED = "accepted", "refused"


@dataclass(frozen=True)
class Reader:
    """Something that reads files which others may have written.

    Attributes:
        name: As the table of `fuzz.py` shows it.
        share: Of all inputs, in parts of the sum over the readers.
        read: Reads the files of a folder and uses what was accepted.
        named: A pattern of what an error must name: the file, or the key or example in it.
    """

    name: str
    share: int
    read: Callable[[Path], object]
    named: str


class Unusable(AssertionError):
    """Something was accepted that cannot be used."""


class _TooLong(BaseException):
    """Not an Exception, so that no reader takes it for a damaged file."""


def attempt(reader: Reader, folder: Path, seconds: float = MAX_SECONDS) -> str:
    """Return ACCEPTED, REFUSED, or what went wrong in words.

    Anything but an error of our own is wrong: also one that does not name its file or is too long,
    more than so many seconds for one folder, and something accepted that cannot be used.
    """

    def stop(signum: int, frame: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        reader.read(folder)
    except LatentcotError as error:
        message = str(error)
        if len(message) > MAX_MESSAGE:
            return f"a message of {len(message)} characters: {message[:200]!r} …"
        odd = [c for c in message if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
        if odd:  # it would move the cursor, or could not be printed at all
            return f"a message with {odd[0]!r} in it: {message[:300]!r}"
        if not re.search(reader.named, message):
            return f"a message that does not name what is wrong: {message[:300]!r}"
        return REFUSED
    except _TooLong:
        return f"takes more than {seconds:g} seconds"
    except Exception as error:
        places = [f"{Path(p.filename).name}:{p.lineno}" for p in extract_tb(error.__traceback__)]
        return f"{type(error).__name__} at {' → '.join(places[-2:])}: {str(error)[:300]}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return ACCEPTED


def _check_same(what: str, first: object, second: object) -> None:
    if first != second and repr(first) != repr(second):  # NaN is never equal to itself
        raise Unusable(f"{what} is another one after writing and reading: {first!r}, {second!r}")


# --- recipes and studies ----------------------------------------------------------------------


def _read_recipe(folder: Path) -> None:

    path = Path((folder / "main").read_text())
    overrides = folder / "overrides"
    changes = overrides.read_bytes().split(b"\n") if overrides.exists() else []
    # As Python decodes the words of a command line.
    words = [change.decode("utf-8", "surrogateescape") for change in changes if change]
    recipe = read_recipe(folder / path, words)
    again = folder / "again.yaml"
    again.write_text(write_recipe(recipe), encoding="utf-8")
    _check_same("the recipe", recipe, read_recipe(again))


def _read_study(folder: Path) -> None:

    study = read_study(folder / "study.yaml")
    if (folder / "is-large").exists():
        return
    cells = cells_of(study)
    out = folder / "out"
    for cell in cells:
        inside = (out / cell.name).resolve()
        if inside.parent.parent.parent != out.resolve():
            raise Unusable(f"the cell {cell.name!r} lies outside of its study")
    open_study(study, cells, out, overwrite=out.exists())
    making_jobs(study, out)
    training_jobs(study, cells, out)
    again = read_study(out / "study.yaml")
    _check_same("the study", cells, cells_of(again))


# --- examples ---------------------------------------------------------------------------------


def _read_examples(folder: Path) -> None:

    path = folder / "data"
    examples = read_examples(path)
    source_hash(path)
    again = folder / "again.jsonl"
    write_examples(again, examples)
    _check_same("the data", examples, read_examples(again))
    found = task_of(examples).stats(examples)
    json.dumps(asdict(found))
    _print_statistics("data", {"data": found})
    # Encode them, and lay each out by every method at its first and last stage.

    plan, tokenizer = Plan(num_stages=2), _tokenizer()
    rules = LayoutRules(special_tokens_of(tokenizer), plan)
    for example in encode(examples, tokenizer, Template())[:3]:
        for method in map(method_named, METHODS):
            stages = method.stages(plan)
            for stage in {stages[0], stages[-1]}:
                lay_out(example, method.view, stage, rules)


@cache
def _tokenizer() -> Any:

    return bpe_tokenizer(["Every lempus is a gorpus. 12 + 3 = 15"], 300)


# --- checkpoints ------------------------------------------------------------------------------


def _read_checkpoint(folder: Path) -> None:

    reasoner = load(folder / "checkpoint", device="cpu")
    reasoner.generate(["0 1 2 [Q] 1 2 [R] 0"], max_new_tokens=2)


def _read_state(folder: Path) -> None:

    load_training_state(folder / "checkpoint")


def _read_best(folder: Path) -> None:

    run = folder / "run"
    best = best_checkpoint(run)
    if best is None or best.resolve().parent != (run / "checkpoints").resolve():
        raise Unusable(f"{best} is no checkpoint of the run")
    prune_checkpoints(run, 2)
    if best_checkpoint(run) != best:
        raise Unusable(f"{best} was deleted, but it is the best")


# --- results and runs -------------------------------------------------------------------------


def _read_results(folder: Path) -> None:

    runs = sorted(folder.glob("run-*")) or [folder / "study"]
    rows = compare(runs)
    print_table(comparison_table(rows))
    baseline = rows[0].method if rows else None
    summaries = summarize(runs, baseline=baseline)
    print_summaries(summaries)
    for ending in ("md", "tex", "csv", "json"):
        write_summaries(folder / f"table.{ending}", summaries)
    json.loads((folder / "table.json").read_text(), parse_constant=_no_json)


def _no_json(name: str) -> None:
    raise Unusable(f"{name} was written, which is not JSON")


def _read_run(folder: Path) -> None:

    run = folder / "run"
    read_provenance(run)
    read_metrics(run)
    Training("run", run).progress()
    forget_metrics_after(run, 3)
    target = eval_path(run, recipe_test_file(run), None, None)
    if target is not None and target.resolve().parent != (run / "evals").resolve():
        raise Unusable(f"the evaluation goes to {target}, outside of its run")
    refuse_no_result(run / "evals" / "test.json")


READERS = (
    Reader("recipes", 22, _read_recipe, r"\.yaml|override "),
    Reader("overrides", 6, _read_recipe, r"\.yaml|override "),
    Reader("studies", 10, _read_study, r"study\.yaml|tiny\.yaml|\S+/\S+: "),
    Reader("JSON Lines", 14, _read_examples, r"data\b|example "),
    Reader("official JSON", 7, _read_examples, r"data\b|example "),
    Reader("iCoT text", 8, _read_examples, r"data\b|example "),
    Reader("ProntoQA JSON", 8, _read_examples, r"data\b|example "),
    Reader("latentcot.json", 8, _read_checkpoint, r"latentcot\.json|checkpoint|question"),
    Reader("checkpoint files", 6, _read_checkpoint, r"checkpoint|example .0.: its question"),
    Reader("training state", 2, _read_state, r"training_state\.pt"),
    Reader("best.json", 2, _read_best, r"best\.json"),
    Reader("results", 7, _read_results, r"\.json|recipe\.yaml|run-\w|study"),
    Reader("run files", 4, _read_run, r"metrics\.jsonl|recipe\.yaml|provenance|test\.json|\brun\b"),
)
