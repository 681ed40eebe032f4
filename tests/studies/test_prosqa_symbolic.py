"""What benchmarks/prosqa_symbolic.py says below the table of the official questions."""

import sys
from pathlib import Path

from latentcot.data.examples import read_examples

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import prosqa_symbolic


def test_every_seed_of_every_file_of_questions(latentcot, tmp_path):
    words = ["--rendering", "symbols", "--joined", "--train", "1", "--valid", "1", "--test", "6"]
    assert latentcot("data", "make", "prosqa", "--out", tmp_path, *words).code == 0
    questions = read_examples(str(tmp_path / "test.jsonl"))
    found = {
        "questions": {"3": 6},
        "accuracy_mean": {"coconut": {"3": 0.5}},
        "depth_questions": {"answer deeper": 4, "tie": 2},
        "right_by_depth": {"coconut": {"tie": [1, 2]}},
        "own": {
            "own": {"questions": 6, "accuracies": {"coconut": [0.25, 0.75]}},
            "balanced": {"questions": 7, "accuracies": {"coconut": [0.125, 1.0]}},
        },
    }
    lines = prosqa_symbolic.below(found, questions).splitlines()
    assert "| Method | right of 2 | own | balanced |" in lines
    assert lines[-1] == "| coconut | 1, 2 | 25.0, 75.0 | 12.5, 100.0 |"
    assert any("generator: 6 by the official rules, and 7 of four hops" in line for line in lines)
