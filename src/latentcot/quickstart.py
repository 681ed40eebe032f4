"""The quickstart: data, four methods side by side, one table, one page.

Everything is done by the ordinary commands, each in a process of its own with one thread: at this
size two methods beside each other use two cores better than two threads would.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

from latentcot.config import read_recipe
from latentcot.display import progress_bars
from latentcot.errors import RunError
from latentcot.files import write_json
from latentcot.interrupts import stop_requests
from latentcot.runs import read_metrics
from latentcot.statistics import percent

# The longest first, so that the shorter ones fill the gaps.
METHODS = ("coconut", "coconut-pause-as-thought", "cot", "no-cot")
SHOWN = ("coconut", "cot", "no-cot", "coconut-pause-as-thought")
RECIPE = Path(str(resources.files("latentcot"))) / "recipes" / "quickstart.yaml"
NOTE = "quickstart.json"
SIZES = {"train": 100_000, "valid": 500, "test": 2_000}
# Half of the training graphs have 1 or 2 layers, as real data has chains of several lengths: with 3
# layers alone some seeds never leave stage 0 (docs/log.md). All test questions have 3.
GRAPHS = ("--preset", "two-family", "--layers", "3", "--shared", "0", "--shallower", "0.5")


def open_folder(out: Path, seed: int | None, *, resume: bool, overwrite: bool) -> tuple[int, float]:
    """Make the folder of a new quickstart, or take an old one up again.

    Returns:
        The seed, and the seconds that the quickstart has taken before.

    Raises:
        RunError: It exists and not exactly one of `resume` and `overwrite` was asked for, or it was
            begun with another seed.
    """
    note = out / NOTE
    if resume and overwrite:
        raise RunError(f"{out}: --resume and --overwrite exclude each other. Give one of them.")
    is_taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if is_taken and not note.exists():
        raise RunError(f"{out}: holds something else than a quickstart. Give another --out.")
    if is_taken and not (resume or overwrite):
        raise RunError(
            f"{out}: exists already. Give --resume to go on with it (what is done is not done "
            "again), --overwrite to delete it first, or another --out."
        )
    if is_taken and resume:
        begun = json.loads(note.read_text(encoding="utf-8"))
        if seed is not None and begun["seed"] != seed:
            raise RunError(
                f"{out}: was begun with --seed {begun['seed']}, not {seed}. Leave --seed out, or "
                "give another --out."
            )
        return begun["seed"], begun["seconds"]
    if is_taken:
        shutil.rmtree(out)
    seed = 0 if seed is None else seed
    write_json(note, {"seed": seed, "seconds": 0.0})
    return seed, 0.0


def note_seconds(out: Path, seconds: float) -> None:
    """Remember how long the quickstart has taken, so that resuming it does not make it shorter."""
    begun = json.loads((out / NOTE).read_text(encoding="utf-8"))
    write_json(out / NOTE, begun | {"seconds": round(seconds, 1)})


def run_methods(out: Path, *, seed: int, num_jobs: int, is_quiet: bool) -> dict[str, Path]:
    """Make the data, train and evaluate every method; return the run folder of each.

    What an interrupted quickstart has done already is not done again.

    Args:
        out: Folder of the whole quickstart.
        seed: Of data, weights and order.
        num_jobs: Methods at a time, at least 1.
        is_quiet: Show no progress.

    Raises:
        RunError: A command failed; its output is in the message and in the method's log.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what runs has written checkpoints.
    """
    if not (out / "data" / "data.json").exists():
        _refuse_failure(_start(_data_command(out, seed), out / "data.log").wait(), out / "data.log")
    jobs = [Job(method, out, seed) for method in METHODS]
    with stop_requests() as stop, progress_bars(is_quiet=is_quiet) as bars:
        ids = {job.method: bars.add_task(job.method, total=job.num_updates) for job in jobs}
        try:
            while not all(job.is_done for job in jobs):
                if stop.is_set:
                    raise KeyboardInterrupt
                running = [job for job in jobs if job.is_running]
                waiting = [job for job in jobs if not job.is_running and not job.is_done]
                for job in waiting[: num_jobs - len(running)]:
                    job.start_next()
                for job in jobs:
                    job.check()
                    done, text = job.progress()
                    bars.update(ids[job.method], completed=done, description=text)
                time.sleep(0.5)
        finally:
            for job in jobs:
                job.stop()
    return {job.method: job.run for job in jobs}


class Job:
    """One method: train, then evaluate, each as a process."""

    def __init__(self, method: str, out: Path, seed: int) -> None:
        self.method = method
        self.run = out / method
        self.log = out / f"{method}.log"
        recipe = read_recipe(RECIPE, _changes(method, out, seed))
        self.num_updates = recipe.training.max_updates or 0
        self.process: subprocess.Popen[bytes] | None = None
        self.commands = list(self._commands(out, seed))

    def _commands(self, out: Path, seed: int) -> Iterator[list[str]]:
        if (self.run / "evals" / "test.json").exists():
            return
        changes = [
            part for change in _changes(self.method, out, seed) for part in ("--set", change)
        ]
        begun = any((self.run / "checkpoints").glob("update-*"))
        how = ["--resume"] if begun else ["--overwrite"]
        yield ["train", str(RECIPE), "--out", str(self.run), *changes, *how, "--quiet"]
        yield ["eval", str(self.run), "--batch-size", "500", "--quiet"]

    @property
    def is_running(self) -> bool:
        """Whether one of its processes is at work."""
        return self.process is not None

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.process is None and not self.commands

    def start_next(self) -> None:
        """Start the next command."""
        self.process = _start(self.commands.pop(0), self.log)

    def check(self) -> None:
        """Notice the end of a command and start the next one.

        Raises:
            RunError: It failed.
        """
        if self.process is None or self.process.poll() is None:
            return
        code, self.process = self.process.returncode, None
        _refuse_failure(code, self.log)
        if self.commands:
            self.start_next()

    def stop(self) -> None:
        """End a process that still runs, as Ctrl-C does: training writes a checkpoint first."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def progress(self) -> tuple[int, str]:
        """Return updates done and what the run measured last."""
        rows = read_metrics(self.run)
        if not rows:
            return 0, self.method
        stages = {row["stage"] for row in rows}
        valid = [row["accuracy"] for row in rows if row["kind"] == "valid"]
        shown = f" · {percent(valid[-1])}" if valid else ""
        return rows[-1]["update"], f"{self.method} · stage {max(stages)}{shown}"


def _data_command(out: Path, seed: int) -> list[str]:
    sizes = [part for split, size in SIZES.items() for part in (f"--{split}", str(size))]
    return ["data", "make", "prosqa", "--out", str(out / "data"), "--seed", str(seed),
            "--overwrite", *GRAPHS, *sizes]  # fmt: skip


def _changes(method: str, out: Path, seed: int) -> list[str]:
    files = [f"data.{split}={out / 'data' / split}.jsonl" for split in SIZES]
    return [f"method={method}", f"seed={seed}", *files]


def _start(command: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "latentcot", *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which passes it on once
        )


def _refuse_failure(code: int, log: Path) -> None:
    if code == 0:
        return
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise RunError(
        f"quickstart: a command ended with exit code {code}. The end of {log}:\n"
        + "\n".join(lines[-15:])
        + "\nThe same command with --resume goes on from what is done."
    )
