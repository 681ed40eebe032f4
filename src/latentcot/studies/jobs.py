"""Jobs: chains of `latentcot` commands that run as processes, some at a time.

    Making    `data make`
    Training  `train`, then `eval`
    run_jobs  runs them, shows how far they are, and stops them all

What runs elsewhere than in processes of this machine is a job too (`ray.py`).

What a job has to do is read off its files when it begins. So what an interrupted one has done is
not done again, whatever ended it.
"""

import hashlib
import os
import shlex
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rich.progress import TaskID

from latentcot.errors import RunError
from latentcot.evaluation.comparison import evaluation_name
from latentcot.evaluation.statistics import percent
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import read_metrics
from latentcot.runs.provenance import read_provenance
from latentcot.studies.processes import Process, claim, start
from latentcot.utils.display import console, progress_bars, say
from latentcot.utils.signals import stop_requests

SECONDS_BETWEEN_LOOKS = 0.5
NUM_BARS = 8
"""Of more jobs than this, only those that run have a bar."""
NUM_LINES = 5
"""Of the log of a run that failed."""


class Job(ABC):
    """Something that takes long, and has a bar.

    Attributes:
        name: In front of its bar.
        total: Steps of its bar; None if unknown.
        is_at_work: Whether it has been begun and need not wait for anything.
        is_over: Whether it has come to its end, good or bad.
        has_failed: Whether that was a bad one.
    """

    def __init__(self, name: str, total: int | None = None) -> None:
        self.name, self.total = name, total
        self.is_at_work = self.is_over = self.has_failed = False

    @abstractmethod
    def is_done(self) -> bool:
        """Return whether its result is there."""

    def is_taken(self) -> bool:
        """Return whether another command is at work on it."""
        return False

    @abstractmethod
    def begin(self, device: str | None) -> None:
        """Start, on this GPU, or on what the machine has."""

    @abstractmethod
    def move_on(self) -> None:
        """Notice what has ended, and start what comes next."""

    @abstractmethod
    def failure(self, num_lines: int = NUM_LINES) -> str:
        """Return how it failed, with the last lines of its log."""

    @abstractmethod
    def terminate(self) -> None:
        """Ask for its end, as Ctrl-C does: training writes a checkpoint first."""

    @abstractmethod
    def wait(self) -> None:
        """Wait until what was asked to end has ended."""

    def progress(self) -> tuple[int, str]:
        """Return how many steps are done, and the text in front of the bar."""
        return 0, self.name


class Chain(Job):
    """A chain of commands with one log, as processes on this machine.

    Attributes:
        log: What its commands print.
        code: Exit code of the command that failed; None while none has.
    """

    def __init__(self, name: str, log: Path, total: int | None = None) -> None:
        super().__init__(name, total)
        self.log = log
        self.code: int | None = None
        self._refusal = ""
        self._device: str | None = None
        self._chain: Iterator[list[str]] | None = None
        self._process: Process | None = None

    @abstractmethod
    def commands(self) -> Iterator[list[str]]:
        """Yield one after the other what is left to do."""

    def is_taken(self) -> bool:
        try:
            claimed = claim(self.log)
        except RunError:  # `begin` tells it
            return False
        if claimed is not None:
            claimed.close()
        return claimed is None

    def begin(self, device: str | None) -> None:
        self._device, self.is_at_work = device, True
        self.move_on()

    def move_on(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                return
            self.wait()
            code, self._process = self._process.returncode, None
            if code < 0:  # it could not say so itself
                with suppress(ValueError, OSError), self.log.open("a", encoding="utf-8") as log:
                    log.write(f"Ended by signal {-code} ({signal.Signals(-code).name}).\n")
            if code != 0:
                self.code, self.has_failed, self.is_over = code, True, True
                return
        try:
            claimed = claim(self.log)
            if claimed is None:  # what another command has started is still at work on it
                return
            with claimed:
                self._chain = self._chain or self.commands()
                command = next(self._chain, None)
                if command is None:
                    self.is_over = True
                else:
                    self._process = start(command, claimed, self._device)
        except RunError as error:  # of this one alone: the others go on
            self._refusal, self.has_failed, self.is_over = str(error), True, True

    def failure(self, num_lines: int = NUM_LINES) -> str:
        if self._refusal:
            return self._refusal
        lines = ["(it cannot be read)"]
        with suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        end = "\n".join(lines[-num_lines:])
        return f"a command ended with exit code {self.code}. The end of {self.log}:\n{end}"

    def terminate(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        if self._process is not None:
            self._process.wait()
            if self._process.stdin is not None:  # the pipe that end_with_parent() watches
                self._process.stdin.close()


class Making(Chain):
    """Make a data set, or render a file, unless it is there.

    A folder may lie anywhere, and what is in it is replaced only if this very command has begun it:
    it leaves a mark there, until data.json takes its place. A log in the folder of the study, which
    may be a stranger's, counts for nothing.

    Args:
        words: What stands behind `latentcot data make`, or behind `latentcot data` if it begins
            with "render".
        out: Its folder or file, which `words` names too.
    """

    def __init__(self, name: str, log: Path, words: Sequence[str], out: Path) -> None:
        super().__init__(name, log)
        self.out, self.words = out, words
        self.renders = words[0] == "render"
        self.mark = out / f".begun-{hashlib.sha256(shlex.join(words).encode()).hexdigest()[:16]}"

    def is_done(self) -> bool:
        """Return whether the file is there, or data.json, which is written last."""
        return self.out.is_file() if self.renders else (self.out / "data.json").exists()

    def commands(self) -> Iterator[list[str]]:
        """Yield one command."""
        if self.is_done():
            return
        if self.renders:  # a file is whole or absent
            yield ["data", *self.words]
            return
        try:
            is_begun = self.mark.is_file()
            if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
                self.out.mkdir(parents=True, exist_ok=True)
                self.mark.touch()
            yield ["data", "make", *self.words, *(["--overwrite"] if is_begun else [])]
            if self.mark.is_file():
                self.mark.unlink()
        except OSError as error:
            raise RunError(f"{self.out}: cannot be written: {error}.") from None


class Training(Chain):
    """Train one run, and evaluate it on its test file.

    Args:
        run: Its folder; only this job writes there. Next to it lie `recipe`, the file that it is
            trained with, and its log.
        num_updates: How many there will be, if that is known.
        batch_size: Questions at a time in the evaluation.
        limit: Ask this many questions of the test file; all if None.
    """

    def __init__(
        self,
        name: str,
        run: Path,
        *,
        num_updates: int | None = None,
        batch_size: int = 100,
        limit: int | None = None,
    ) -> None:
        super().__init__(name, run.with_name(f"{run.name}.log"), num_updates)
        self.run, self.recipe = run, run.with_name(f"{run.name}.yaml")
        self.batch_size, self.limit = batch_size, limit

    @property
    def result(self) -> Path:
        """The file of its evaluation, whatever the test file is called."""
        return self.run / "evals" / f"{evaluation_name(self.limit)}.json"

    def is_done(self) -> bool:
        """Return whether it has been evaluated."""
        return self.result.exists()

    def commands(self) -> Iterator[list[str]]:
        """Yield training from the newest checkpoint, or from the start; then the evaluation."""
        if self.is_done():
            return
        is_begun = bool(checkpoint_folders(self.run))
        if not is_begun and (self.run.is_symlink() or self.run.is_file()):
            raise RunError(
                f"{self.run}: must be the folder of a run, but it is a file, or a link to no run. "
                "Delete it."
            )
        try:
            if not is_begun and self.run.exists():
                shutil.rmtree(self.run)  # `--overwrite` refuses one killed in its first moment
        except OSError as error:
            raise RunError(f"{self.run}: cannot be begun again: {error}.") from None
        how = ["--resume"] if is_begun else []
        yield ["train", str(self.recipe), "--out", str(self.run), *how, "--quiet"]
        asked = [] if self.limit is None else ["--limit", str(self.limit)]
        yield ["eval", str(self.run), "--batch-size", str(self.batch_size), *asked,
               "--out", str(self.result), "--quiet"]  # fmt: skip

    def progress(self) -> tuple[int, str]:
        """Return updates done, and what the run measured last."""
        try:
            rows = read_metrics(self.run)
            self.total = read_provenance(self.run).get("num_updates") or self.total  # it may change
        except RunError:  # what reads it for more than a bar says so
            rows = []
        if not rows:
            return 0, self.name
        stage = max(row["stage"] for row in rows)
        valid = [row["accuracy"] for row in rows if row["kind"] == "valid"]
        shown = f" · {percent(valid[-1])}" if valid else ""
        return rows[-1]["update"], f"{self.name} · stage {stage}{shown}"


# --- running them -----------------------------------------------------------------------------


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slots_for(num_jobs: int | None = None, devices: Sequence[str] = ()) -> list[str | None]:
    """Return the device of each job that runs at a time.

    Args:
        num_jobs: Jobs at a time; if None one for each GPU, or for each core where there is none.
        devices: GPUs to use, as CUDA_VISIBLE_DEVICES names them; if empty all that are visible.
    """
    if not devices:
        import torch

        num_gpus = torch.cuda.device_count()
        named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = [name.strip() for name in named if name.strip()]
        devices = (names or [str(index) for index in range(num_gpus)])[:num_gpus]
    if not devices:
        return [None] * (num_jobs or num_cores())
    return [devices[index % len(devices)] for index in range(num_jobs or len(devices))]


def run_jobs(
    jobs: Sequence[Job],
    slots: Sequence[str | None],
    *,
    on_failure: Callable[[Job], None],
    is_quiet: bool = False,
) -> None:
    """Run jobs in their order, as many at a time as there are slots.

    Args:
        jobs: Those that are done are not begun.
        slots: The device of each job that runs at a time, as `slots_for` gives them.
        on_failure: Called with a job that failed; what it raises stops all others.
        is_quiet: Show no progress.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; what was being trained has written its checkpoint.
    """
    waiting, free, running = list(jobs), list(slots), dict[Job, str | None]()
    tells_lines = not is_quiet and not console.is_terminal
    with stop_requests() as stop, progress_bars(is_quiet=is_quiet) as bars:
        ids: dict[Job, TaskID] = {}
        # Of many jobs only those that run have a bar, below one of all together.
        whole = bars.add_task("all", total=len(jobs)) if len(jobs) > NUM_BARS else None

        def show(job: Job, *, is_over: bool = False) -> None:
            if whole is not None and is_over:
                if job in ids:
                    bars.remove_task(ids.pop(job))
                bars.advance(whole)
            elif not bars.disable and (whole is None or job.is_at_work):
                done, text = job.progress()
                text += " · failed" if job.has_failed else ""
                if job not in ids:  # with what was done before, or its rate would look high
                    ids[job] = bars.add_task(text, total=job.total, completed=done)
                bars.update(ids[job], total=job.total, completed=done, description=text)

        for job in jobs:
            show(job)
        try:
            while waiting or running:
                for job in [*running]:
                    job.move_on()
                    show(job, is_over=job.is_over)
                    if job.is_over:
                        free.append(running.pop(job))
                        if tells_lines:  # in a log nobody sees a bar move
                            end = "failed" if job.has_failed else "done"
                            left = len(waiting) + len(running)
                            say(f"{job.progress()[1]} · {end} · {left} of {len(jobs)} left")
                        if job.has_failed:
                            on_failure(job)
                while waiting and free:
                    # What another command is at work on comes last.
                    ready = (one for one in waiting if one.is_done() or not one.is_taken())
                    job = next(ready, waiting[0])
                    waiting.remove(job)
                    if job.is_done():
                        show(job, is_over=True)
                    else:
                        running[job] = free.pop(0)
                        job.begin(running[job])
                if running:
                    if stop.is_set:
                        raise KeyboardInterrupt
                    time.sleep(SECONDS_BETWEEN_LOOKS)
        finally:  # all of them write their checkpoints at the same time
            for job in running:
                job.terminate()
            for job in running:
                job.wait()
