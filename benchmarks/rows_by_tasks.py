"""Put the paper's rows on every task side by side in docs/results.md, and what each study took.

    python benchmarks/rows_by_tasks.py

From the tables that benchmarks/studies.py has kept in results/. A cell is in italics if the
interval of its accuracy begins below what a guess between two candidates has, and empty where
nothing was measured.
"""

import json
from typing import Any

from analysis_tables import table

from latentcot.evaluation.statistics import mean_and_sd, percent, share_interval
from studies import NAMES, PAGE, RESULTS, fill

ROWS = (
    "coconut", "cot", "no-cot", "icot", "pause", "coconut-no-curriculum", "coconut-no-thought",
    "coconut-pause-as-thought", "pause-multipass",
)  # fmt: skip
BALANCED = "ProsQA, equal depths"
"""The column of the runs beside it on questions whose depth does not tell the answer."""
TASKS = {
    "graphs, two layers": ("small",),
    "graphs, four layers": ("graphs-depth/layers-4", "graphs-depth-cot/layers-4"),
    "ProntoQA": ("prontoqa",),
    "word problems": ("methods-arithmetic", "rows-arithmetic", "pause-seeds"),
    "official ProsQA": ("prosqa-symbolic",),
    BALANCED: ("prosqa-symbolic",),
}
"""Column → its studies, of which the first that has a row counts; STUDY/TASK if it has several."""
GUESS = 0.5
OPEN = ("word problems",)
"""Tasks whose answer is none of two candidates."""


def main() -> None:
    cells = [[row, *(cell(title, row) for title in TASKS)] for row in ROWS]
    fill(PAGE, "rows-by-tasks", "rows_by_tasks.py", f"\n{table(['Row', *TASKS], cells)}\n")
    titles = ["Study", "Runs", "Updates", "Minutes", "Runs at a time", "Machine"]
    fill(PAGE, "minutes", "rows_by_tasks.py", f"\n{table(titles, minutes())}\n")


def rows_of(study: str) -> list[dict[str, Any]]:
    """Return the rows of a study's table, of one task if it is named behind a slash."""
    name, _, task = study.partition("/")
    path = RESULTS / name / "table.json"
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if task in ("", row["task"])]


def balanced_row(method: str) -> dict[str, Any] | None:
    """Return what the runs of a method have on questions whose candidates are equally deep."""
    path = RESULTS / "prosqa-symbolic" / "by_hops.json"
    found = json.loads(path.read_text(encoding="utf-8"))["own"]["balanced"] if path.exists() else {}
    accuracies = found.get("accuracies", {}).get(method)
    if not accuracies:
        return None
    mean, sd = mean_and_sd(accuracies)
    low, high = share_interval(mean, found["questions"])
    accuracy = {"value": mean, "low": low, "high": high}
    return {"accuracy": accuracy, "accuracy_sd": sd, "num_seeds": len(accuracies)}


def cell(title: str, method: str) -> str:
    """Return what one method has on one task: mean, deviation, and the seeds if not three."""
    rows = [row for study in TASKS[title] for row in rows_of(study) if row["method"] == method]
    row = balanced_row(method) if title == BALANCED else next(iter(rows), None)
    if row is None:
        return ""
    accuracy = row.get("accuracy") or {**row, "value": row["accuracy_mean"]}  # of older tables
    text = percent(accuracy["value"]).removesuffix(" %")
    if row["accuracy_sd"] is not None:
        text += f" ± {100 * row['accuracy_sd']:.1f}"
    if title not in OPEN and accuracy["low"] <= GUESS:
        text = f"*{text}*"
    return text if row["num_seeds"] == 3 else f"{text} ({row['num_seeds']})"


def minutes() -> list[list[str]]:
    """Return a line for each study: its runs, updates of a run, wall time and machine."""
    lines = []
    for name in NAMES:
        rows, path = rows_of(name), RESULTS / name / "run.json"
        if not rows or not path.exists():
            continue
        run = json.loads(path.read_text(encoding="utf-8"))
        updates = sorted({number for row in rows for number in row["updates"]})
        span = " to ".join(f"{number:,}" for number in dict.fromkeys((updates[0], updates[-1])))
        num_runs = sum(row["num_seeds"] for row in rows)
        took = f"{run['seconds'] / 60:,.0f}"
        lines.append([name, str(num_runs), span, took, run["jobs"], run["machine"]])
    path = RESULTS / "staircase" / "table.json"  # no study of a file: its runs say what they took
    if path.exists():
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        took = f"{sum(run['minutes'] for run in runs):,.0f}"
        lines.append(["staircase", str(len(runs)), "", took, "added up", runs[0]["machine"]])
    return lines


if __name__ == "__main__":
    main()
