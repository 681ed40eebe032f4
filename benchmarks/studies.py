"""Run the studies of docs/results.md, keep their tables, and put these into the page.

    python benchmarks/studies.py run small --jobs 2
    python benchmarks/studies.py write

`run` runs the study of this name, or the part that `--only` names, and leaves results/NAME/ behind:
table.json and table.md as the study wrote them, run.json with the wall time of all sittings, and
runs.tar.xz, the finished runs without their weights; with `--kept` a study begins with those, on
any machine.
`collect` does only the latter, for a study that has been run by hand. `write` makes the page from
these files alone, between the marks that name it.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from kept_runs import RUNS, SITTINGS, pack, unpack

from latentcot.cli import main as latentcot
from latentcot.evaluation.statistics import percent
from latentcot.runs.folder import STUDY_FILE
from latentcot.runs.provenance import provenance
from latentcot.utils.files import write_json, written_whole

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
PAGE = ROOT / "docs" / "results.md"
STUDIES = {
    "small": "small", "arithmetic": "arithmetic", "stop": "stop",
    "prosqa-symbolic": "prosqa-symbolic-cpu",
} | {
    name: name
    for name in (
        "methods-graphs", "methods-graphs-longer", "methods-graphs-from-cot",
        "methods-graphs-passes", "methods-arithmetic", "methods-arithmetic-passes", "prontoqa",
        "prontoqa-from-cot", "shortcuts", "pause-seeds", "smollm2", "smollm2-lora",
        "smollm2-scratch", "smollm2-from-cot", "graphs-depth-cot", "graphs-depth",
        "graphs-depth-longer", "precision", "precision-official", "rows-arithmetic",
    )
}  # fmt: skip
"""Name of the results → the study in studies/ that they come from."""
NAMES = tuple(STUDIES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run")
    run.add_argument("name", choices=NAMES)
    run.add_argument("--jobs", type=int, default=2)
    run.add_argument("--only", action="append", default=[], help="as of `latentcot study`")
    run.add_argument("--kept", action="store_true", help="begin with the runs of runs.tar.xz")
    run.set_defaults(do=lambda given: run_study(given.name, given.jobs, given.only, given.kept))
    collect = commands.add_parser("collect")
    collect.add_argument("name", choices=NAMES)
    collect.add_argument("folder", type=Path)
    collect.add_argument("--jobs", required=True, help="runs at a time, such as 2 or '1, then 2'")
    collect.add_argument("--seconds", type=float, required=True, help="wall time of the study")
    collect.set_defaults(do=collect_study)
    write = commands.add_parser("write")
    write.set_defaults(do=lambda given: write_page())
    given = parser.parse_args()
    given.do(given)


def run_study(name: str, jobs: int, only: Sequence[str] = (), is_kept: bool = False) -> None:
    out = ROOT / "runs" / name / "study"
    if is_kept and not (out / STUDY_FILE).exists():
        unpack(RESULTS / name / RUNS, out)
    before = sittings(out)
    part = [word for pattern in only for word in ("--only", pattern)]
    start = time.perf_counter()
    try:
        do_study(f"studies/{STUDIES[name]}.yaml", "--out", str(out), "--jobs", str(jobs), *part)
    finally:
        if (out / STUDY_FILE).exists():
            sitting = {"seconds": round(time.perf_counter() - start), "jobs": str(jobs)}
            write_json(out / SITTINGS, [*before, sitting])
    keep(name, out)


def sittings(study: Path) -> list[dict[str, Any]]:
    """Return how long a study has run, and how many runs at a time; it may stop and go on."""
    path = study / SITTINGS
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def collect_study(given: argparse.Namespace) -> None:
    write_json(given.folder / SITTINGS, [{"seconds": given.seconds, "jobs": given.jobs}])
    keep(given.name, given.folder)


def do_study(*words: str) -> None:
    """Run `latentcot study` in this process, so that a signal to it stops the study.

    Raises:
        SystemExit: It was stopped, or could not begin. Runs that failed stay in its table.
    """
    sys.argv = ["latentcot", "study", *words]
    try:
        with chdir(ROOT):
            latentcot()
    except SystemExit as ended:
        if ended.code not in (None, 0, 1):  # 1: some runs failed
            raise


def keep(name: str, folder: Path) -> None:
    target = RESULTS / name
    target.mkdir(parents=True, exist_ok=True)
    for file in ("table.json", "table.md"):
        shutil.copy(folder / file, target / file)
    pack(folder, target / RUNS)
    source, found = provenance(), sittings(folder)
    write_json(
        target / "run.json",
        {"study": f"studies/{STUDIES[name]}.yaml",
         "seconds": round(sum(one["seconds"] for one in found)),
         "jobs": ", then ".join(dict.fromkeys(one["jobs"] for one in found)),
         "torch": source["versions"]["torch"], "machine": source["machine"]},
    )  # fmt: skip


def write_page() -> None:
    for name in NAMES:
        if (RESULTS / name / "table.md").exists():
            fill(PAGE, name, "studies.py", f"\n{section(RESULTS / name)}\n")
        else:
            print(f"{name}: has no results yet", file=sys.stderr)


def fill(page: Path, name: str, script: str, text: str) -> None:
    """Put a text between the marks of this name in a page."""
    begin, end = f"<!-- {name}: written by benchmarks/{script} -->", f"<!-- /{name} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, is_there, after = rest.partition(end)
    if not is_there:
        sys.exit(f"{page}: holds no {begin} … {end} to write between")
    with written_whole(page) as file:
        file.write(f"{before}{begin}\n{text}\n{end}{after}")


def section(folder: Path) -> str:
    """Return the tables of a study, their headings one step lower, and what they took."""
    lines = (folder / "table.md").read_text(encoding="utf-8").splitlines()[2:]
    lines = [f"#{line}" if line.startswith("#") else line for line in lines]
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    took = (
        f"The whole study took {run['seconds'] / 60:.1f} minutes; runs at a time: {run['jobs']}, "
        f"with one thread each; torch {run['torch']}."
    )
    return "\n".join([*lines, "", took, *by_steps(folder / "by_steps.json"), *more(folder)])


def more(folder: Path) -> list[str]:
    """Return what another benchmark has left to go below the table."""
    path = folder / "more.md"
    return ["", *path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def by_steps(path: Path) -> list[str]:
    """Return the table that benchmarks/arithmetic_by_steps.py has written, if it is there."""
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    return [
        "",
        "Accuracy (%) by steps. The equations of *seen* questions stand in the training file with",
        "other names, those of *new* ones do not:",
        "",
        *accuracy_table(found),
    ]


def accuracy_table(found: dict[str, Any]) -> list[str]:
    """Return accuracies by groups of questions: `questions` sizes, `accuracy_mean` by method."""
    groups = found["questions"]
    titles = [f"{name} ({size})" for name, size in groups.items()]
    lines = [f"| Method | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(groups)]
    for method, shares in found["accuracy_mean"].items():
        cells = [percent(shares[name]).removesuffix(" %") for name in groups]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
