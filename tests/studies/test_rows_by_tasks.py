"""The paper's rows on every task, put side by side by benchmarks/rows_by_tasks.py."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import rows_by_tasks


def test_each_cell_is_what_its_study_measured(monkeypatch, tmp_path):
    def row(task, method, value, seeds=3):
        return {
            "task": task, "method": method, "num_seeds": seeds, "updates": [7] * seeds,
            "accuracy": {"value": value, "low": value - 0.01, "high": value + 0.01},
            "accuracy_sd": 0.002 if seeds > 1 else None,
        }  # fmt: skip

    tables = {
        "small": [row("prosqa", "coconut", 1.0), row("prosqa", "cot", 0.505)],
        "graphs-depth": [row("layers-2", "cot", 0.1), row("layers-4", "cot", 0.8, seeds=1)],
        "methods-arithmetic": [row("arithmetic", "cot", 0.5)],
        "pause-seeds": [row("arithmetic", "cot", 0.9), row("arithmetic", "pause", 0.9)],
    }
    for name, rows in tables.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "table.json").write_text(json.dumps({"rows": rows}))
        run = {"seconds": 120, "jobs": "2", "machine": "a machine"}
        (tmp_path / name / "run.json").write_text(json.dumps(run))
    (tmp_path / "prosqa-symbolic").mkdir()
    asked = {"questions": 2000, "accuracies": {"cot": [0.9, 0.92, 0.94], "pause": [0.51]}}
    by_hops = tmp_path / "prosqa-symbolic" / "by_hops.json"
    by_hops.write_text(json.dumps({"own": {"balanced": asked}}))
    page = tmp_path / "page.md"
    for name in ("rows-by-tasks", "minutes"):
        before = page.read_text() if page.exists() else ""
        begin = f"<!-- {name}: written by benchmarks/rows_by_tasks.py -->"
        page.write_text(f"{before}{begin}\n<!-- /{name} -->\n")
    monkeypatch.setattr(rows_by_tasks, "RESULTS", tmp_path)
    monkeypatch.setattr(rows_by_tasks, "PAGE", page)
    rows_by_tasks.main()
    lines = page.read_text().splitlines()
    assert "| coconut | 100.0 ± 0.2 |  |  |  |  |  |" in lines
    # of two studies the first
    assert "| cot | *50.5 ± 0.2* | 80.0 (1) |  | 50.0 ± 0.2 |  | 92.0 ± 2.0 |" in lines
    assert "| pause |  |  |  | 90.0 ± 0.2 |  | *51.0* (1) |" in lines
    assert "| graphs-depth | 4 | 7 | 2 | 2 | a machine |" in lines
