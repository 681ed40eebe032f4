"""What must follow an edit, on graphs whose search can be done by hand."""

from random import Random
from statistics import fmean

import pytest
import torch

from latentcot.analysis.edits import Edit, draw_edit, edited, followed
from latentcot.analysis.shared.subject import no_progress
from latentcot.tasks.prosqa.graphs import Graph
from subjects import graph_examples, untrained

# 0 → 2, 3; 2 → 4; 3 → 4, 5; 5 → 8, and the other family 1 → 6 → 7 → 9.
GRAPH = Graph(
    10,
    ((0, 2), (0, 3), (2, 4), (3, 4), (3, 5), (5, 8), (1, 6), (6, 7), (7, 9)),
    root=0,
    target=8,
    neg_target=9,
)
ALL = [True] * 10


def drawn(name, thought, is_fit=ALL, num_thoughts=3):
    return draw_edit(GRAPH, 0, name, thought, num_thoughts, is_fit, Random(0))


def test_what_is_removed_takes_the_children_that_have_no_other_parent():
    # 4 is also reached through 2, so that 3 takes 5 alone, and 5 takes 8: the target.
    edit = drawn("remove", 1)
    assert (edit.added, edit.removed) == (None, 3)
    assert edit.goes == ({5}, {8}) and edit.comes == (set(), set())
    assert edit.answer is None  # neither candidate is reached
    assert drawn("remove", 2).removed == 5
    assert drawn("remove", 3) is None  # nothing is behind thought 3


def test_what_is_added_brings_its_children():
    only_6 = [node == 6 for node in range(10)]
    edit = drawn("add", 1, only_6)
    assert (edit.added, edit.removed) == (6, None)
    assert edit.comes == ({7}, {9})
    assert edit.answer is None  # both candidates are reached


def test_the_answer_flips_when_its_family_does():
    fit = [node in (3, 6) for node in range(10)]
    edit = drawn("swap", 1, fit)
    assert (edit.added, edit.removed, edit.answer) == (6, 3, "neg_target")
    # With a thought to spare the parent that is still there would come again.
    assert drawn("swap", 1, fit, num_thoughts=4).answer is None
    only_7 = [node in (3, 7) for node in range(10)]  # 9 is reached a thought too early
    assert drawn("swap", 1, only_7).answer is None
    assert drawn("swap", 1, [node == 3 for node in range(10)]) is None


def test_predictions_that_hold_are_counted():
    edit = Edit(0, 6, 3, ({7}, {9}), ({5}, {8}), "neg_target")
    before = torch.zeros(1, 4, 10, dtype=torch.bool)
    before[0, 1, [4, 5]] = before[0, 2, 8] = True
    after = before.clone()
    after[0, 1, 5], after[0, 1, 7] = False, True  # both hold
    after[0, 1, 0] = True  # one of the six that should not move
    after[0, 2, 9] = True  # one of two: 8 is still there
    row, shares = followed([edit], before, after, {0: "neg_target"}, 1)
    assert shares == {0: 1.0}
    assert (row["next"], row["later"], row["others"]) == (1, 0.5, round(1 / 6, 4))
    assert (row["answer"], row["flips"]) == (1, 1)
    row, _ = followed([edit], before, before, {0: "target"}, 1)
    assert (row["next"], row["flips"]) == (0, 0)


def test_all_edits_of_a_question_are_one_value():
    """They are not independent, and an interval over edits would be too narrow."""
    subject = untrained("symbols", examples=graph_examples("symbols", 6))
    result, values = edited(subject, no_progress)
    for row in result["overall"]:
        by_question = {}
        for (_, _, dose, vector), shares in values.items():
            if (dose, vector) == (1, row["vector"]):
                for question, share in shares.items():
                    by_question.setdefault(question, []).append(share)
        assert row["num_questions"] == len(by_question) <= 6
        assert max(map(len, by_question.values())) > 1
        assert row["share"] == pytest.approx(fmean(map(fmean, by_question.values())), abs=1e-4)
    assert len(result["overall"]) == 2
