"""A study of 12 runs on a Ray cluster of this machine whose workers are killed, and what is lost.

    python benchmarks/ray_study.py --kills 3 --result results/ray/killed-workers.json

The same study in one go, by processes of this machine, says what each run has to give: its rows of
metrics.jsonl, its newest and its best checkpoint, and its answers to the test file.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import yaml
from faults_processes import Lost
from faults_runs import compare, make_data, newest_and_best, write_recipe
from faults_study import _results as results_of

from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.provenance import provenance
from latentcot.utils.files import write_json

NUM_UPDATES = 240
STUDY = {
    "tasks": {"words": "recipe.yaml", "small": {"recipe": "recipe.yaml", "training.batch_size": 4}},
    "methods": ["cot", "no-cot", "coconut"],
    "seeds": [0, 1],
    "set": {"training": {"max_updates": NUM_UPDATES, "validate_every": 30, "save_every": 20}},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=3, help="workers that are killed")
    parser.add_argument("--url", action="store_true", help="keep the study behind file://")
    parser.add_argument("--result", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.kills, is_url=given.url)
    print("\n".join(f"{name:22} {value}" for name, value in found.items()))
    if given.result:
        write_json(given.result, {**found, **provenance()})


def measure(folder: Path, num_kills: int, *, is_url: bool) -> dict[str, object]:
    """Do the study twice; return what was killed and what was lost."""
    (folder / "data").mkdir()
    make_data(folder / "data")
    write_recipe("plain", folder / "data", folder / "recipe.yaml")
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    start = time.perf_counter()
    if _start(file, str(folder / "whole")).wait():
        raise SystemExit("the study without a kill fails")
    whole_seconds = time.perf_counter() - start

    out, start = folder / "killed", time.perf_counter()
    process = _start(file, f"file://{out}" if is_url else str(out), "--backend", "ray")
    killed = _kill_workers(process, out, num_kills)
    code = process.wait()
    seconds = time.perf_counter() - start
    wanted, found = results_of(folder / "whole"), results_of(out)
    return {
        "runs": len(wanted),
        "workers killed": len(killed),
        "runs killed": killed,
        "exit code": code,
        "runs with a result": len(found),
        "runs that went on": [name for name in killed if _went_on(out / name)],
        "runs that differ": [name for name in wanted if _differs(wanted, found, out, name)],
        "seconds": round(seconds, 1),
        "seconds of processes": round(whole_seconds, 1),
        "kept behind a URL": is_url,
    }


def _start(file: Path, out: str, *more: str) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", "latentcot", "study", str(file), "--out", out, *more, "--quiet"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL)


def _kill_workers(process: "subprocess.Popen[bytes]", out: Path, number: int) -> list[str]:
    """Kill a worker with SIGKILL as soon as its run has a checkpoint, each time of another run."""
    killed: list[str] = []
    while len(killed) < number and process.poll() is None:
        for name, worker in _trained().items():
            if name not in killed and checkpoint_folders(out / name) and len(killed) < number:
                os.kill(worker, signal.SIGKILL)
                killed.append(name)
                break
        time.sleep(0.05)
    return killed


def _trained() -> dict[str, int]:
    """Return name of each run that is being trained → its worker, the parent of the training."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if "train" in words and parent != 1:
                run = Path(words[words.index("--out") + 1])
                found["/".join(run.parts[-3:])] = parent
    return found


def _went_on(run: Path) -> bool:
    sessions = json.loads((run / "provenance.json").read_bytes()).get("resumed", [])
    return bool(sessions) and all(session["update"] > 0 for session in sessions)


def _differs(wanted: dict, found: dict, out: Path, name: str) -> bool:
    if name not in found or _answers(found[name]) != _answers(wanted[name]):
        return True
    try:
        compare(newest_and_best(wanted[name][0]), out / name)
    except Lost:
        return True
    return False


def _answers(result: tuple[dict[str, str], str]) -> object:
    accuracy, records = json.loads(result[1])
    return accuracy, [{k: v for k, v in one.items() if "seconds" not in k} for one in records]


if __name__ == "__main__":
    main()
