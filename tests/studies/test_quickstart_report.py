"""What the quickstart shows of its questions."""

from dataclasses import replace

import torch

from latentcot import Example
from latentcot.evaluation.results import Record
from latentcot.studies.quickstart_report import shown_questions

# Root 0 → 2, 3 → 4, and 1 → 5 beside it: 2 nodes at depth 1, 1 at depth 2, none at depth 3.
DEEP = Example(
    "deep", "?", ("c", "e"), "e",
    {
        "idx_to_symbol": ["a", "b", "c", "d", "e", "f"],
        "edges": [[0, 2], [0, 3], [2, 4], [1, 5]],
        "root": 0, "target": 4, "neg_target": 5,
    },
)  # fmt: skip


def test_shown_questions_are_right_ones_first_then_a_quarter_wrong_ones():
    examples = [replace(DEEP, id=str(i)) for i in range(9)]
    shares = [torch.full((2, 6), i / 100) for i in range(9)]
    records = [
        Record(str(i), bool(i % 2), "e", "e" if i % 2 else "f", "", 2, 2, 5) for i in range(9)
    ]
    shown = shown_questions(examples, shares, records, 4)
    assert [one["id"] for one in shown] == ["1", "3", "5", "0"]
    assert shown[0] == {
        "id": "1",
        "nodes": ["a", "b", "c", "d", "e", "f"],
        "edges": [[0, 2], [0, 3], [2, 4], [1, 5]],
        "root": 0,
        "target": 4,
        "neg_target": 5,
        "probabilities": [[0.01] * 6] * 2,
        "answer": "e",
        "predicted": "e",
        "is_correct": True,
        "path": [0, 2, 4],
    }
    assert (shown[3]["predicted"], shown[3]["is_correct"]) == ("f", False)
