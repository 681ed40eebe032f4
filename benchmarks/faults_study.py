"""Kills of a study for benchmarks/faults.py: of the command, or of a run that it has started.

These are real processes, as `latentcot study` starts them itself.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import yaml
from faults_processes import PATIENCE, Lost
from faults_runs import compare, make_data, newest_and_best, result_of, write_recipe

METHODS = ("coconut", "cot")
MOST_KILLS = 2
MOST_STARTS = 3
"""Of a study that nobody kills any more: a run that was killed has failed, and is tried again."""


Result = tuple[dict[str, str], str]
"""What the run gave, and its answers to the test file."""


@dataclass(frozen=True)
class StudyReference:
    """A study of two runs without an interruption.

    Attributes:
        file: The study file.
        results: Of each run, by its folder in that of the study.
        seconds: That it took.
    """

    file: Path
    results: dict[str, Result]
    seconds: float


def make_study_reference(folder: Path) -> StudyReference:
    """Do the study in one go.

    Raises:
        Lost: It fails.
    """
    data = folder / "data"
    data.mkdir(parents=True)
    make_data(data)
    write_recipe("plain", data, folder / "recipe.yaml")
    file = folder / "study.yaml"
    values = {"tasks": {"words": "recipe.yaml"}, "methods": list(METHODS), "seeds": [0]}
    file.write_text(yaml.safe_dump(values))
    start = time.monotonic()
    if _start(file, folder / "study").wait(PATIENCE):
        raise Lost(f"a study without faults fails: {_printed(folder / 'study')[-2000:]}")
    seconds = time.monotonic() - start
    return StudyReference(file, _results(folder / "study"), seconds)


def kill_study(reference: StudyReference, folder: Path, rng: Random) -> int:
    """Kill a study, or a run of it, several times; do it again, and compare.

    Returns:
        How often something was killed.

    Raises:
        Lost: It cannot be finished, or its runs give something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study, num_kills = folder / "study", 0
    for _ in range(rng.randint(1, MOST_KILLS)):
        process = _start(reference.file, study)
        num_kills += _kill(process, rng.uniform(0.2, 0.9) * reference.seconds, rng.random() < 0.5)
        process.wait(PATIENCE)
    codes: list[int] = []
    while len(codes) < MOST_STARTS and 0 not in codes:
        codes.append(_start(reference.file, study).wait(PATIENCE))
    if 0 not in codes:
        raise Lost(f"ended with {codes}: {_printed(study)[-2500:]}")
    if "Traceback" in _printed(study):
        raise Lost(f"a traceback: {_printed(study)[-2500:]}")
    _compare(reference.results, study)
    return num_kills


def _start(file: Path, study: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "latentcot", "study", str(file), "--out", str(study)]
    with study.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [*words, "--jobs", "2", "--quiet"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _kill(process: subprocess.Popen[bytes], delay: float, is_of_run: bool) -> bool:
    """Wait, and kill the study or a run of it; return whether there was something to kill."""
    end = time.monotonic() + delay
    while time.monotonic() < end and process.poll() is None:
        time.sleep(0.01)
    if process.poll() is not None:
        return False
    victims = list(_children(process.pid)) if is_of_run else [process.pid]
    for victim in victims[:1]:
        os.kill(victim, signal.SIGKILL)
    return bool(victims)


def _children(parent: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(after_name[1]) == parent:
            yield int(stat.parent.name)


def _printed(study: Path) -> str:
    logs = [*sorted(study.rglob("*.log")), study.with_suffix(".log")]
    return "\n".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)


def _results(study: Path) -> dict[str, Result]:
    found = {}
    for evaluation in sorted(study.glob("*/*/seed-*/evals/test.json")):
        run = evaluation.parent.parent
        values = json.loads(evaluation.read_bytes())
        records = json.dumps([values["accuracy"], values["records"]])
        found[str(run.relative_to(study))] = result_of(run), records
    return found


def _compare(wanted: dict[str, Result], study: Path) -> None:
    found = _results(study)
    if found.keys() != wanted.keys():
        raise Lost(f"has results of {', '.join(found)} instead of {', '.join(wanted)}")
    for run, (result, answers) in wanted.items():
        compare(newest_and_best(result), study / run)
        if found[run][1] != answers:
            raise Lost(f"{run}: answers the test file differently")
