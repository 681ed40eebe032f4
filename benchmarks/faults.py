"""Kill, starve and hurt small training runs, and see whether anything is lost.

    python benchmarks/faults.py --kills 150 --faults 150 --studies 4 --jobs 2

Runs of a second with everything random in them are killed by SIGKILL: at any moment, while a
checkpoint is being written, or just before one operation on a file; then they are resumed, often
killed again, and in the end each file of their checkpoints, best.json and the rows of metrics.jsonl
must be those of a run that nobody touched (whole studies: faults_study.py). Other faults are files
that were cut, changed or deleted, full disks, disks that can only be read, operations that fail,
Ctrl-C, and a second process (all in faults_kinds.py): there must be an error of our own that names
what is wrong, all checkpoints stay whole, and once the fault has gone the run ends as it would
have. Anything else is lost, and so is a traceback.

Each case depends on --seed and its name, but for the moment at which a signal arrives; --case does
one alone. Folders of what was lost are kept beside --out. The last line is

    KILLS kills, FAULTS other faults, LOST lost

and the exit code is 1 if anything was lost. Small disks (tmpfs) have to be mounted, which only root
may do; otherwise files get a limit, and the run folder loses its write permission.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

# Read when these are imported: nothing here reaches a network, and a process that forks has one
# thread. Git must not lock the repository to say which commit it is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["GIT_OPTIONAL_LOCKS"] = "0"

from faults_kinds import EXACTLY, Fault, can_mount, kill_and_resume, kill_exactly, kinds_of_faults
from faults_processes import Lost
from faults_runs import Reference, Trial, make_reference
from faults_study import StudyReference, kill_study, make_study_reference
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from latentcot.runs.provenance import provenance
from latentcot.utils.files import write_json

ROOT = Path(__file__).parent.parent
TRIED = ("classifier", "learned")
KILLS = {"kill": kill_and_resume, "exact kill": kill_exactly}


@dataclass
class Outcome:
    """What became of one case.

    Attributes:
        name: `KIND/NUMBER`.
        num_kills: How often something was killed.
        num_faults: 1 for another fault, else 0.
        notes: What happened, and how often.
        lost: What was lost; empty if nothing.
        kept: Folder of what was lost.
    """

    name: str
    num_kills: int = 0
    num_faults: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    lost: str = ""
    kept: str = ""


@dataclass(frozen=True)
class Campaign:
    """All that a case needs; workers inherit it by fork.

    Attributes:
        seed: Of all cases.
        work: Folder for their runs.
        out: Where folders of lost runs go.
        kinds: As `kinds_of_faults` gives them.
        references: To compare runs with; each case takes the next one of TRIED.
        study: The same for studies, if there are some.
    """

    seed: int
    work: Path
    out: Path
    kinds: dict[str, Fault]
    references: dict[int, Reference]
    study: StudyReference | None

    def run(self, name: str) -> Outcome:
        """Do one case."""
        rng, outcome = Random(f"{self.seed}/{name}"), Outcome(name)
        folder = self.work / name.replace("/", "-").replace(" ", "-")
        try:
            self._do(rng, folder, outcome)
        except Lost as lost:
            outcome.lost = str(lost)
        except Exception as error:
            outcome.lost = f"the case itself went wrong: {error!r}"
        if outcome.lost:
            outcome.kept = str(self.out / f"lost-{folder.name}")
            shutil.rmtree(outcome.kept, ignore_errors=True)
            shutil.copytree(folder, outcome.kept)
        shutil.rmtree(folder, ignore_errors=True)
        return outcome

    def _do(self, rng: Random, folder: Path, outcome: Outcome) -> None:
        kind, _, text = outcome.name.partition("/")
        number = int(text)
        if kind == "study":
            assert self.study is not None
            outcome.num_kills = kill_study(self.study, folder, rng)
            outcome.notes["of a study"] += outcome.num_kills
            return
        trial = Trial(self.references[number % len(TRIED)], folder, rng)
        if kind in KILLS:
            outcome.notes = KILLS[kind](trial, number)
            outcome.num_kills = outcome.notes.total()
        else:
            outcome.num_faults = 1
            outcome.notes[self.kinds[kind](trial, number // len(TRIED))] += 1


_CAMPAIGN: list[Campaign] = []
"""That of this process."""


def _run(name: str) -> Outcome:
    return _CAMPAIGN[0].run(name)


def fault_names(num_faults: int, kinds: dict[str, Fault]) -> Iterator[str]:
    """Return the names of so many cases; every other one damages a file of a checkpoint."""
    first, *others = kinds
    wheel = [kind for other in others for kind in (other, first)]
    seen: Counter[str] = Counter()
    for number in range(num_faults):
        kind = wheel[number % len(wheel)]
        yield f"{kind}/{seen[kind]}"
        seen[kind] += 1


def kill_names() -> Iterator[str]:
    """Return the names of cases without end, first those at moments that chance seldom hits."""
    yield from (f"exact kill/{number}" for number in range(2 * len(EXACTLY)))
    yield from (f"kill/{number}" for number in count())


def do_cases(campaign: Campaign, names: list[str], num_kills: int, jobs: int) -> Iterator[Outcome]:
    """Do these cases, and runs that are killed until there were so many kills."""
    _CAMPAIGN.append(campaign)
    left, more, killed = iter(names), kill_names(), 0
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:
        under_way: set[Future[Outcome]] = set()
        while True:
            while len(under_way) < jobs:
                name = next(left, None) or (next(more) if killed < num_kills else None)
                if name is None:
                    break
                under_way.add(pool.submit(_run, name))
            if not under_way:
                return
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                killed += future.result().num_kills
                yield future.result()


def run_campaign(asked: argparse.Namespace) -> list[Outcome]:
    """Train what runs are compared with, and do what was asked for, with two bars."""
    outcomes = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with (
        tempfile.TemporaryDirectory(prefix="faults-", dir=asked.work) as folder,
        Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars,
    ):
        work = Path(folder)
        kinds = kinds_of_faults(can_mount(work / "mounted"))
        names = [f"study/{number}" for number in range(asked.studies)]
        names = asked.case or [*names, *fault_names(asked.faults, kinds)]
        numbers = [int(name.rpartition("/")[2]) for name in asked.case] or range(len(TRIED))
        variants = {number % len(TRIED) for number in numbers}
        has_study = any(name.startswith("study/") for name in names)
        campaign = Campaign(
            asked.seed, work, asked.out.parent, kinds,
            {number: make_reference(TRIED[number], work / TRIED[number]) for number in variants},
            make_study_reference(work / "study") if has_study else None,
        )  # fmt: skip
        kills = bars.add_task("kills", total=asked.kills)
        faults = bars.add_task("other faults", total=asked.faults)
        num_kills = 0 if asked.case else asked.kills
        for outcome in do_cases(campaign, names, num_kills, asked.jobs):
            bars.advance(kills, outcome.num_kills)
            bars.advance(faults, outcome.num_faults)
            outcomes.append(outcome)
            if outcome.lost:
                text = f"{outcome.name}: {outcome.lost.rstrip()}\n  its folder: {outcome.kept}"
                bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
    return outcomes


def by_kind(outcomes: list[Outcome]) -> dict[str, dict[str, Any]]:
    """Return for each kind: cases, kills, lost, and what happened how often."""
    found: dict[str, dict[str, Any]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.name):
        kind = found.setdefault(
            outcome.name.partition("/")[0], {"cases": 0, "kills": 0, "lost": 0, "notes": Counter()}
        )
        kind["cases"] += 1
        kind["kills"] += outcome.num_kills
        kind["lost"] += bool(outcome.lost)
        kind["notes"] += outcome.notes
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=150, help="at least so many")
    parser.add_argument("--faults", type=int, default=150, help="other faults")
    parser.add_argument("--studies", type=int, default=0, help="studies that are killed as well")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--case", metavar="KIND/NUMBER", action="append", default=[], help="do these alone"
    )
    parser.add_argument("--work", type=Path, help="work in this folder, not in that of the system")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "faults" / "faults.json")
    asked = parser.parse_args()
    start = time.perf_counter()
    outcomes = run_campaign(asked)
    seconds = round(time.perf_counter() - start, 1)
    kinds = by_kind(outcomes)
    numbers = {
        "kills": sum(outcome.num_kills for outcome in outcomes),
        "faults": sum(outcome.num_faults for outcome in outcomes),
        "lost": sum(bool(outcome.lost) for outcome in outcomes),
    }
    write_json(asked.out, {
        "format_version": 1, "provenance": provenance(),
        "asked": {key: vars(asked)[key] for key in ("kills", "faults", "studies", "seed", "jobs")},
        "seconds": seconds, **numbers, "kinds": kinds,
        "losses": [asdict(outcome) for outcome in outcomes if outcome.lost],
    })  # fmt: skip
    hits = Counter[str]()
    for name, kind in kinds.items():
        print(f"{name}: {kind['cases']} cases, {kind['kills']} kills, {kind['lost']} lost")
        if name in (*KILLS, "study"):
            hits += kind["notes"]
    print("Kills: " + ", ".join(f"{n} {where}" for where, n in hits.most_common()))
    print(f"{seconds / 60:.1f} minutes, {asked.jobs} at a time, seed {asked.seed}; {asked.out}")
    print(f"{numbers['kills']} kills, {numbers['faults']} other faults, {numbers['lost']} lost")
    sys.exit(1 if numbers["lost"] else 0)


if __name__ == "__main__":
    main()
