"""Accuracy by hops, as benchmarks/prontoqa_by_hops.py writes it below the study's table."""

import json
import sys
from pathlib import Path

from latentcot.data.examples import Example, write_examples

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import prontoqa_by_hops


def test_each_seed_has_its_accuracy_by_hops(tmp_path, monkeypatch):
    monkeypatch.setattr(prontoqa_by_hops, "RESULTS", tmp_path)
    (tmp_path / "from-cot").mkdir()
    study = tmp_path / "runs" / "from-cot" / "study"
    write_examples(
        tmp_path / "test.jsonl",
        [Example(str(i), "q", ("s",) * (2 + i // 2), "True") for i in range(4)],
    )
    for seed, rights in ((1, [1, 1, 1, 0]), (2, [0, 1, 0, 0])):
        evals = study / "prontoqa" / "cot" / f"seed-{seed}" / "evals"
        evals.mkdir(parents=True)
        records = [{"id": str(i), "is_correct": bool(one)} for i, one in enumerate(rights)]
        (evals / "test.json").write_text(json.dumps({"records": records}))
    prontoqa_by_hops.main(study, tmp_path / "test.jsonl")
    text = (tmp_path / "from-cot" / "more.md").read_text()
    assert "at 1 / 2 hops" in text
    assert "| cot | 100 / 50 | 50 / 0 |" in text and "coconut" not in text
