"""Feed every reader with broken files: only errors of our own may come out.

    python benchmarks/fuzz.py --inputs 100000 --jobs 2

Recipes, overrides, studies, data files in every form, checkpoints, results and the files of a run
are taken from valid samples and mutated (fuzz_mutations.py), then read and, where they were
accepted, used (fuzz_readers.py). Anything but a LatentcotError is a failure, and so are a message
that is too long or does not say what is wrong, an input that takes longer than five seconds, and
something accepted that cannot be used. Folders of failures are kept in --out. The last line is

    INPUTS inputs, REFUSED refused, FAILED other errors

and the exit code is 1 if anything failed. An input depends on --seed and its number alone.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from random import Random

# Read when huggingface_hub and tokenizers are imported: nothing here reaches a network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from fuzz_mutations import mutated
from fuzz_readers import ACCEPTED, MAX_SECONDS, READERS, REFUSED, Reader, attempt, warm_up
from fuzz_samples import ROOT, Sample, all_samples
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from latentcot.runs.provenance import provenance
from latentcot.utils.files import write_json

CHUNK = 50
"""Inputs that a process takes at a time."""
MAX_KEPT = 3
"""Folders kept of failures that look alike, by each process."""
MEMORY = 6 * 2**30
"""Bytes that a process may take beyond what it starts with: a bomb must not take the machine."""

Chunk = tuple[str, int, int]
"""Name of a reader, and the numbers of its inputs: from, up to."""


@dataclass
class Tally:
    """What became of the inputs of one reader."""

    accepted: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Count another tally in."""
        self.accepted += other.accepted
        self.refused += other.refused
        self.failures += other.failures

    @property
    def inputs(self) -> int:
        """How many there were."""
        return self.accepted + self.refused + len(self.failures)


class Fuzzer:
    """Puts mutated samples before the readers.

    Args:
        samples: Of each reader, by its name.
        seed: Of all inputs.
        work: A folder to work in.
        out: Where the folders of failures are kept; None keeps none.
        seconds: That one input may take.
    """

    def __init__(
        self,
        samples: Mapping[str, Sequence[Sample]],
        seed: int,
        work: Path,
        out: Path | None = None,
        seconds: float = MAX_SECONDS,
    ) -> None:
        self.samples, self.seed, self.work, self.out = samples, seed, work, out
        self.seconds = seconds
        self._kept: Counter[str] = Counter()

    def run(self, reader: Reader, number: int) -> str:
        """Put one input before a reader; return ACCEPTED, REFUSED, or what went wrong."""
        return self.run_drawn(reader, Random(f"{self.seed} {reader.name} {number}"), str(number))

    def run_drawn(self, reader: Reader, rng: Random, name: str = "drawn") -> str:
        """Do the same with an input that is drawn from `rng`."""
        samples = self.samples[reader.name]
        place = rng.randrange(len(samples))
        sample, folder = samples[place], self.work / f"{_plain(reader.name)}-{place}"
        path, form = rng.choice(sample.broken)
        _restore(sample, folder)
        (folder / path).write_bytes(mutated(rng, sample.files[path], form))
        _vouch(folder, path)
        verdict = attempt(reader, folder, self.seconds)
        if verdict not in (ACCEPTED, REFUSED):
            self._keep(folder, f"{_plain(reader.name)}-{name}", verdict)
        (folder / path).unlink(missing_ok=True)
        return verdict

    def _keep(self, folder: Path, name: str, verdict: str) -> None:
        kind = re.sub(r"\d+", "0", verdict)[:80]
        self._kept[kind] += 1
        if self.out is not None and self._kept[kind] <= MAX_KEPT:
            kept = self.out / name
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept, ignore_dangling_symlinks=True)
            (kept / "failure.txt").write_text(verdict, encoding="utf-8", errors="replace")


def _plain(name: str) -> str:
    return re.sub(r"\W+", "-", name).lower()


def _restore(sample: Sample, folder: Path) -> None:
    """Bring back what the last input or its reader has changed."""
    for path, content in sample.files.items():
        file = folder / path
        if not file.exists() or path.endswith("checksums.json"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def _vouch(folder: Path, path: str) -> None:
    """Mend the checksum of a mutated file: whoever forges a checkpoint does the same."""
    sums = (folder / path).with_name("checksums.json")
    if sums.exists() and sums != folder / path:
        values = json.loads(sums.read_bytes())
        values["sha256"][Path(path).name] = sha256((folder / path).read_bytes()).hexdigest()
        sums.write_text(json.dumps(values))


# --- processes --------------------------------------------------------------------------------

_FUZZER: list[Fuzzer] = []
"""That of this process."""


def _begin(samples: Mapping[str, Sequence[Sample]], seed: int, work: Path, out: Path) -> None:
    own = work / str(os.getpid())
    own.mkdir()
    warm_up()
    _FUZZER.append(Fuzzer(samples, seed, own, out))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # tokenizers prints by itself
        os.dup2(silence, stream)


def _run_chunk(chunk: Chunk) -> tuple[str, Tally]:
    name, start, stop = chunk
    reader = next(reader for reader in READERS if reader.name == name)
    tally = Tally()
    for number in range(start, stop):
        verdict = _FUZZER[0].run(reader, number)
        if verdict == ACCEPTED:
            tally.accepted += 1
        elif verdict == REFUSED:
            tally.refused += 1
        else:
            tally.failures.append(f"{number}: {verdict}")
    return name, tally


def _chunks(num_inputs: int, readers: Sequence[Reader]) -> Iterator[Chunk]:
    """Share the inputs out over the readers."""
    total, given = sum(reader.share for reader in readers), 0
    for number, reader in enumerate(readers, start=1):
        is_last = number == len(readers)
        count = num_inputs - given if is_last else num_inputs * reader.share // total
        given += count
        for start in range(0, count, CHUNK):
            yield reader.name, start, min(start + CHUNK, count)


def fuzz(
    num_inputs: int, seed: int, jobs: int, out: Path, readers: Sequence[Reader] = READERS
) -> dict[str, Tally]:
    """Run so many inputs; return what became of them, by the name of the reader."""
    tallies = {reader.name: Tally() for reader in readers}
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=fast) as folder, _progress() as bar:
        work = Path(folder)
        task = bar.add_task("inputs", total=num_inputs)
        (work / "made").mkdir()
        samples = all_samples(work / "made")
        pool = ProcessPoolExecutor(
            jobs, get_context("spawn"), initializer=_begin, initargs=(samples, seed, work, out)
        )
        try:
            tasks = [pool.submit(_run_chunk, chunk) for chunk in _chunks(num_inputs, readers)]
            for done in as_completed(tasks):
                name, tally = done.result()
                tallies[name].add(tally)
                bar.advance(task, tally.inputs)
        except BrokenProcessPool:
            shutil.copytree(work, out / "died", dirs_exist_ok=True)
            sys.exit(f"A process died; the folders it worked on are in {out / 'died'}.")
        finally:  # on Ctrl-C and SIGTERM too: what has not begun is dropped
            pool.shutdown(cancel_futures=True)
    return tallies


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=Console(stderr=True),
    )  # fmt: skip


def _show(tallies: Mapping[str, Tally], out: Path) -> None:
    table = Table("reader", box=None)
    for title in ("inputs", "accepted", "refused", "failed"):
        table.add_column(title, justify="right")
    for name, tally in tallies.items():
        counts = (tally.inputs, tally.accepted, tally.refused, len(tally.failures))
        table.add_row(name, *(f"{count:,}" for count in counts))
    Console().print(table)
    for name, tally in tallies.items():
        kinds: dict[str, list[str]] = {}
        for failure in tally.failures:
            verdict = failure.partition(": ")[2]
            kinds.setdefault(re.sub(r"\d+", "0", verdict)[:80], []).append(failure)
        for same in kinds.values():
            print(f"{name}, {len(same)} times, such as {same[0]}")
    if any(tally.failures for tally in tallies.values()):
        print(f"Folders of these inputs: {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "fuzz")
    parser.add_argument("--only", choices=[reader.name for reader in READERS], action="append")
    parser.add_argument("--result", type=Path, help="write the counts there, as JSON")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    readers = [reader for reader in READERS if given.only is None or reader.name in given.only]
    start = time.perf_counter()
    tallies = fuzz(given.inputs, given.seed, given.jobs, given.out, readers)
    _show(tallies, given.out)
    minutes = (time.perf_counter() - start) / 60
    print(f"{minutes:.1f} minutes, {given.jobs} at a time, seed {given.seed}")
    num_failed = sum(len(tally.failures) for tally in tallies.values())
    num_refused = sum(tally.refused for tally in tallies.values())
    if given.result is not None:
        counts = {"inputs": given.inputs, "refused": num_refused, "failed": num_failed}
        about = {"seed": given.seed, "minutes": round(minutes, 1), **provenance()}
        write_json(given.result, {**counts, **about})
    print(f"{given.inputs} inputs, {num_refused} refused, {num_failed} other errors")
    sys.exit(1 if num_failed else 0)


if __name__ == "__main__":
    main()
