"""What the output head reads off the thoughts: on numbers made by hand, and on a tiny model."""

from dataclasses import replace

import pytest
import torch

from latentcot import DataError, Example, read_examples
from latentcot.analysis.frontier import (
    DepthMass,
    depth_masses,
    node_probabilities,
    shown_questions,
)
from latentcot.evaluation import Record

# Root 0 → 2, 3 → 4, and 1 → 5 beside it: 2 nodes at depth 1, 1 at depth 2, none at depth 3.
DEEP = Example(
    "deep", "?", ("c", "e"), "e",
    {
        "idx_to_symbol": ["a", "b", "c", "d", "e", "f"],
        "edges": [[0, 2], [0, 3], [2, 4], [1, 5]],
        "root": 0, "target": 4, "neg_target": 5,
    },
)  # fmt: skip
# The same names; the root is node 1, and nothing is deeper than 1.
FLAT = Example(
    "flat", "?", ("d",), "d",
    {
        "idx_to_symbol": ["a", "b", "c", "d"],
        "edges": [[0, 2], [1, 3]],
        "root": 1, "target": 3, "neg_target": 2,
    },
)  # fmt: skip


class TestDepthMasses:
    def test_of_one_question(self):
        shares = torch.tensor([[0.1, 0.0, 0.3, 0.2, 0.1, 0.1], [0.0, 0.0, 0.1, 0.1, 0.5, 0.25]])
        first, second = depth_masses([DEEP], [shares])
        assert (first.thought, first.depth, second.thought, second.depth) == (1, 1, 2, 2)
        assert first.mass == pytest.approx(0.3 + 0.2)
        assert first.uniform == pytest.approx(2 / 6)
        assert second.mass == pytest.approx(0.5)
        assert second.uniform == pytest.approx(1 / 6)

    def test_is_the_mean_over_the_questions_that_are_deep_enough(self):
        deep = torch.tensor([[0, 0, 0.4, 0.4, 0, 0], [0, 0, 0, 0, 0.6, 0]])
        flat = torch.tensor([[0, 0, 0.9, 0.1], [0, 0, 0.9, 0.1]])
        first, second = depth_masses([DEEP, FLAT], [deep, flat])
        assert first.mass == pytest.approx((0.8 + 0.1) / 2)
        assert first.uniform == pytest.approx((2 / 6 + 1 / 4) / 2)
        assert second.mass == pytest.approx(0.6)
        assert second.uniform == pytest.approx(1 / 6)

    def test_a_thought_deeper_than_every_graph_has_no_entry(self):
        masses = depth_masses([DEEP], [torch.full((4, 6), 0.1)])
        assert [mass.depth for mass in masses] == [1, 2]

    def test_questions_may_have_different_numbers_of_thoughts(self):
        shares = [torch.full((1, 6), 0.1), torch.full((2, 6), 0.2)]
        first, second = depth_masses([DEEP, DEEP], shares)
        assert first == DepthMass(1, 1, pytest.approx(0.3), pytest.approx(2 / 6))
        assert second == DepthMass(2, 2, pytest.approx(0.2), pytest.approx(1 / 6))

    def test_without_thoughts_there_is_nothing(self):
        assert depth_masses([DEEP], [torch.zeros(0, 6)]) == []


class TestNodeProbabilities:
    def test_are_those_of_the_nodes_names(self, babbler, data):
        examples = read_examples(data / "test.jsonl")
        found = node_probabilities(babbler, examples)
        for example, shares in zip(examples, found, strict=True):
            thoughts = babbler.think([example.question]).thoughts[0]
            head = babbler.model.transformer.wte.weight.detach()  # GPT-2 uses one table for both
            logits = thoughts @ head.T
            names = example.meta["idx_to_symbol"]
            expected = logits.softmax(-1)[:, babbler.tokenizer.convert_tokens_to_ids(names)]
            assert shares.shape == (2, len(names))
            torch.testing.assert_close(shares, expected, rtol=1e-5, atol=1e-5)
            assert shares.sum(-1).le(1 + 1e-6).all()
            assert shares.ge(0).all()
        assert torch.stack(found).max() > 0.1

    def test_do_not_depend_on_the_batch_size(self, babbler, data):
        examples = read_examples(data / "test.jsonl")
        for one, other in zip(
            node_probabilities(babbler, examples, batch_size=3),
            node_probabilities(babbler, examples),
            strict=True,
        ):
            torch.testing.assert_close(one, other)

    def test_refuse_a_name_of_several_tokens(self, babbler, data):
        [example] = read_examples(data / "test.jsonl", 1)
        names = [*example.meta["idx_to_symbol"][:-1], "1 2"]
        example = replace(example, meta=example.meta | {"idx_to_symbol": names})
        with pytest.raises(DataError, match="'test-0'.*'1 2' is 2 tokens"):
            node_probabilities(babbler, [example])

    def test_refuse_an_example_without_a_graph(self, babbler, data):
        [example] = read_examples(data / "test.jsonl", 1)
        with pytest.raises(DataError, match="has no 'idx_to_symbol'"):
            node_probabilities(babbler, [replace(example, meta={})])


def test_shown_questions_are_right_ones_first_then_a_quarter_wrong_ones():
    examples = [replace(DEEP, id=str(i)) for i in range(9)]
    shares = [torch.full((2, 6), i / 100) for i in range(9)]
    records = [
        Record(str(i), "e", "e" if i % 2 else "f", bool(i % 2), "", 2, 2, 5, True) for i in range(9)
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
