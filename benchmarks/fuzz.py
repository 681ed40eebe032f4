"""Feed every reader with broken files: only errors of our own may come out.

    python benchmarks/fuzz.py --inputs 100000 --seed 0 --jobs 2

Recipes, overrides, studies, data files in every form, checkpoints, results and the files of a run
are taken from valid samples (fuzz_samples.py), changed as hypothesis draws it (fuzz_mutations.py),
then read and, where they were accepted, used (fuzz_readers.py). Anything but a LatentcotError is a
failure, and so are a message that is too long or does not say what is wrong, an input that takes
longer than five seconds, and something accepted that cannot be used. Folders of failures are kept
in --out. The last line is

    INPUTS inputs, REFUSED refused, FAILED other errors

and the exit code is 1 if anything failed. The same seed gives the same inputs again.
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
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from zlib import crc32

# Read when huggingface_hub and tokenizers are imported: nothing here reaches a network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from fuzz_mutations import Draw, mutated
from fuzz_readers import ACCEPTED, MAX_SECONDS, READERS, REFUSED, Reader, attempt
from fuzz_samples import ROOT, Sample, all_samples
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import track

from latentcot.runs.provenance import provenance
from latentcot.utils.files import write_json

CHUNK = 200
"""Inputs that a process takes at a time."""
MAX_KEPT = 3
"""Folders kept of failures that look alike, by each process."""
MEMORY = 6 * 2**30
"""Bytes that a process may take beyond what it starts with: a bomb must not take the machine."""


class Fuzzer:
    """Puts changed samples before the readers.

    Args:
        samples: Of each reader, by its name.
        work: A folder to work in.
        out: Where the folders of failures are kept; None keeps none.
        seconds: That one input may take.
    """

    def __init__(
        self,
        samples: Mapping[str, Sequence[Sample]],
        work: Path,
        out: Path | None = None,
        seconds: float = MAX_SECONDS,
    ) -> None:
        self.samples, self.work, self.out, self.seconds = samples, work, out, seconds
        self._kept: Counter[str] = Counter()

    def put(self, reader: Reader, draw: Draw, name: str = "drawn") -> str:
        """Put one input before a reader; return ACCEPTED, REFUSED, or what went wrong."""
        samples = self.samples[reader.name]
        sample = samples[draw(st.integers(0, len(samples) - 1))]
        path, form = draw(st.sampled_from(sample.broken))
        folder = self.work / "input"
        shutil.rmtree(folder, ignore_errors=True)
        for one, content in sample.files.items():
            (folder / one).parent.mkdir(parents=True, exist_ok=True)
            (folder / one).write_bytes(content)
        changed = draw(mutated(sample.files[path], form))
        (folder / path).write_bytes(changed)
        sums = (folder / path).with_name("checksums.json")
        if sums.exists() and sums != folder / path:  # whoever forges a checkpoint does the same
            values = json.loads(sums.read_bytes())
            values["sha256"][Path(path).name] = sha256(changed).hexdigest()
            sums.write_text(json.dumps(values))
        verdict = attempt(reader, folder, self.seconds)
        if verdict not in (ACCEPTED, REFUSED):
            self._keep(folder, re.sub(r"\W+", "-", f"{reader.name} {name}").lower(), verdict)
        return verdict

    def _keep(self, folder: Path, name: str, verdict: str) -> None:
        self._kept[_kind(verdict)] += 1
        if self.out is not None and self._kept[_kind(verdict)] <= MAX_KEPT:
            kept = self.out / name
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept, ignore_dangling_symlinks=True)
            (kept / "failure.txt").write_text(verdict, encoding="utf-8", errors="replace")


def _kind(verdict: str) -> str:
    return re.sub(r"\d+", "0", verdict)[:80]


# --- processes --------------------------------------------------------------------------------

_FUZZER: list[Fuzzer] = []
"""That of this process."""


def _begin(samples: Mapping[str, Sequence[Sample]], work: Path, out: Path) -> None:
    own = work / str(os.getpid())
    own.mkdir()
    _FUZZER.append(Fuzzer(samples, own, out))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # tokenizers prints by itself
        os.dup2(silence, stream)


def _run_chunk(name: str, count: int, label: str) -> tuple[str, list[str]]:
    """Put so many inputs before a reader; return its name, and how each of them went."""
    reader = next(reader for reader in READERS if reader.name == name)
    verdicts: list[str] = []

    @seed(crc32(f"{label} {name}".encode()))
    @settings(
        max_examples=count, phases=[Phase.generate], database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def put(data: st.DataObject) -> None:
        verdicts.append(_FUZZER[0].put(reader, data.draw, f"{label}-{len(verdicts)}"))

    put()
    return name, verdicts


def fuzz(
    num_inputs: int, number: int, jobs: int, out: Path, readers: Sequence[Reader] = READERS
) -> dict[str, list[str]]:
    """Run about so many inputs of a seed; return how each went, by the name of the reader."""
    verdicts: dict[str, list[str]] = {reader.name: [] for reader in readers}
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=fast) as folder:
        work = Path(folder)
        (work / "made").mkdir()
        pool = ProcessPoolExecutor(
            jobs, get_context("spawn"), initializer=_begin,
            initargs=(all_samples(work / "made"), work, out),
        )  # fmt: skip
        tasks = []
        for reader in readers:
            count = -(-num_inputs * reader.share // sum(one.share for one in readers))
            for start in range(0, count, CHUNK):
                size = min(CHUNK, count - start)
                tasks.append(pool.submit(_run_chunk, reader.name, size, f"{number}-{start}"))
        console = Console(stderr=True)
        try:
            for done in track(as_completed(tasks), "inputs", len(tasks), console=console):
                name, found = done.result()
                verdicts[name] += found
        except BrokenProcessPool:
            shutil.copytree(work, out / "died", dirs_exist_ok=True)
            sys.exit(f"A process died; the folders it worked on are in {out / 'died'}.")
        finally:  # on Ctrl-C and SIGTERM too: what has not begun is dropped
            pool.shutdown(cancel_futures=True)
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "fuzz")
    parser.add_argument("--only", choices=[reader.name for reader in READERS], action="append")
    parser.add_argument("--result", type=Path, help="write the counts there, as JSON")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    start = time.perf_counter()
    readers = [reader for reader in READERS if asked.only is None or reader.name in asked.only]
    verdicts = fuzz(asked.inputs, asked.seed, asked.jobs, asked.out, readers)
    minutes = round((time.perf_counter() - start) / 60, 1)

    num_refused = num_failed = 0
    for name, found in verdicts.items():
        counts = Counter(found)
        accepted, refused = counts.pop(ACCEPTED, 0), counts.pop(REFUSED, 0)
        num_refused, num_failed = num_refused + refused, num_failed + counts.total()
        words = f"{accepted:,} accepted, {refused:,} refused, {counts.total():,} failed"
        print(f"{name}: {len(found):,} inputs, {words}")
        kinds = Counter(map(_kind, counts.elements()))
        for verdict in {_kind(verdict): verdict for verdict in counts}.values():
            print(f"  {kinds[_kind(verdict)]} times, such as: {verdict}")
    if num_failed:
        print(f"Folders of these inputs: {asked.out}")
    num_inputs = sum(map(len, verdicts.values()))
    print(f"{minutes} minutes, {asked.jobs} at a time, seed {asked.seed}")
    if asked.result is not None:
        counted = {"inputs": num_inputs, "refused": num_refused, "failed": num_failed}
        about = {"seed": asked.seed, "minutes": minutes, **provenance()}
        write_json(asked.result, {**counted, **about})
    print(f"{num_inputs} inputs, {num_refused} refused, {num_failed} other errors")
    sys.exit(1 if num_failed else 0)


if __name__ == "__main__":
    main()
