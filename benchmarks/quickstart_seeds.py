"""Run the quickstart with several seeds, and put the tables into the pages that show them.

    python benchmarks/quickstart_seeds.py run --seeds 1001 1002 1003 1004 1005
    python benchmarks/quickstart_seeds.py write

`run` leaves results/quickstart/seed-N.json behind for each seed, good or bad; `write` makes the
tables from these files alone, between the marks that name it in the pages.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from latentcot.evaluation.statistics import percent
from studies import fill

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "quickstart"
PAGE = ROOT / "docs" / "quickstart.md"
SCRIPT = "quickstart_seeds.py"
COLUMNS = ("coconut", "cot", "no-cot", "coconut-pause-as-thought")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run")
    run.add_argument("--seeds", type=int, nargs="+", required=True)
    run.add_argument("--out", type=Path, default=ROOT / "runs")
    run.set_defaults(do=lambda given: run_seeds(given.seeds, given.out))
    write = commands.add_parser("write")
    write.set_defaults(do=lambda given: write_tables())
    given = parser.parse_args()
    given.do(given)


def run_seeds(seeds: list[int], out: Path) -> None:
    for seed in seeds:
        folder = out / f"quickstart-{seed}"
        where = ["--seed", str(seed), "--out", str(folder)]
        command = ["quickstart", *where, "--overwrite", "--quiet"]
        subprocess.run([sys.executable, "-m", "latentcot", *command], check=True)
        RESULTS.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "result.json", RESULTS / f"seed-{seed}.json")


def write_tables() -> None:
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("seed-*.json"))]
    for page in (ROOT / "README.md", ROOT / "README.zh-CN.md"):
        fill(page, "quickstart-short", SCRIPT, short(results))
    fill(PAGE, "quickstart-seeds", SCRIPT, summary(results))
    fill(PAGE, "quickstart-tables", SCRIPT, "\n".join(map(table, results)))


def short(results: list[dict[str, Any]]) -> str:
    """One line a method: mean and standard deviation of its accuracy over the seeds."""
    lines = ["| method | test accuracy | words | thoughts |", "|---|---|---|---|"]
    for name in COLUMNS:
        rows = [row for result in results for row in result["rows"] if row["method"] == name]
        shares = [100 * estimate(row)["value"] for row in rows]
        thoughts = fmean(row["thoughts_per_question"] for row in rows)
        words = fmean(map(tokens, rows)) - thoughts
        lines.append(
            f"| {name} | {fmean(shares):.1f} ± {stdev(shares):.1f} % | {words:.0f} | "
            f"{thoughts:.0f} |"
        )
    row = results[0]["rows"][0]
    note = (
        f"{len(results)} seeds, none left out; {estimate(row)['n']:,} questions, "
        f"{row['updates']:,} updates for every method."
    )
    return "\n".join([*lines, "", note])


def summary(results: list[dict[str, Any]]) -> str:
    """One line a seed: accuracy of each method, mass of each thought, minutes."""
    lines = [
        f"| seed | {' | '.join(COLUMNS)} | mass of thoughts 1, 2, 3 | minutes |",
        "|---" * (len(COLUMNS) + 3) + "|",
    ]
    for result in results:
        rows = {row["method"]: row for row in result["rows"]}
        cells = [accuracy(rows[name]) for name in COLUMNS]
        mass = ", ".join(f"{one['mass']:.2f}" for one in result["mass"])
        minutes = f"{result['seconds'] / 60:.1f}"
        lines.append(f"| {result['seed']} | {' | '.join(cells)} | {mass} | {minutes} |")
    return "\n".join([*lines, "", source(results)])


def table(result: dict[str, Any]) -> str:
    """One seed: a line a method."""
    lines = [
        f"### Seed {result['seed']}",
        "",
        "| method | accuracy (95 % interval) | tokens | thoughts | passes | ms per question |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['method']} | {accuracy(row)} | {tokens(row):.1f} | "
        f"{row['thoughts_per_question']:.1f} | {row['passes_per_question']:.1f} | "
        f"{1000 * row['seconds_per_question']:.2f} |"
        for row in result["rows"]
    ]
    return "\n".join([*lines, ""])


def tokens(row: dict[str, Any]) -> float:
    """Words and thoughts; files from before rows named their task counted words alone."""
    thoughts = 0.0 if "task" in row else row["thoughts_per_question"]
    return float(row["tokens_per_question"] + thoughts)


def accuracy(row: dict[str, Any]) -> str:
    share = estimate(row)
    return f"{percent(share['value'])} ({100 * share['low']:.1f} – {100 * share['high']:.1f})"


def estimate(row: dict[str, Any]) -> dict[str, Any]:
    """The accuracy; older files had its figures side by side."""
    if isinstance(row["accuracy"], dict):
        return dict(row["accuracy"])
    return row | {"value": row["accuracy"], "n": row["num_questions"]}


def source(results: list[dict[str, Any]]) -> str:
    """Say where the numbers come from."""
    uniform = ", ".join(f"{one['uniform']:.2f}" for one in results[0]["mass"])
    row = results[0]["rows"][0]
    commits = sorted({(one["provenance"]["commit"] or "unknown")[:10] for one in results})
    machines = sorted(
        {
            f"{one['provenance']['machine']}, {one['provenance']['cores_used']} used"
            for one in results
        }
    )
    return (
        f"{estimate(row)['n']:,} test questions, {row['updates']:,} updates for every method; "
        f"uniform mass would be {uniform}. Commit {', '.join(commits)}; {'; '.join(machines)}; "
        f"torch {results[0]['provenance']['versions']['torch']}."
    )


if __name__ == "__main__":
    main()
