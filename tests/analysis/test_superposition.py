"""Which nodes lie in a thought: against loops over questions, for every tokenizer and control."""

import json
import math
from dataclasses import replace
from statistics import fmean

import pytest
import torch

import frontier_reference
from fresh import fresh_subject, is_plain, prosqa, subject_of, untie, with_info
from latentcot import DataError, UsageError
from latentcot.analysis import superposition
from latentcot.analysis.shared.node_groups import name_tokens
from latentcot.methods import Plan
from latentcot.tasks.prosqa.generator import graph_of
from latentcot.tasks.prosqa.graphs import distances


@pytest.fixture(scope="module")
def words():
    return fresh_subject(prosqa("paper", 6, min_nodes=10, max_nodes=10, max_hops=3))


@pytest.fixture(scope="module")
def pieces():
    """Names of several tokens, some of which begin alike."""
    return fresh_subject(prosqa("paper", 6), tokenizer="bpe", vocabulary_size=330)


def row_of(result, thought, group):
    [row] = [r for r in result["groups"] if (r["thought"], r["group"]) == (thought, group)]
    return row


@torch.no_grad()
def by_loops(subject, thought, wanted):
    """Work out what a group's row must say, one question and node after the other.

    `wanted` tells from (distance from the root or None, thought) whether a node is in the group.
    """
    reasoner = subject.reasoner
    embeddings = reasoner.model.get_input_embeddings().weight
    head = reasoner.model.get_output_embeddings()
    found = []
    for example in subject.examples:
        graph = graph_of(example)
        away = distances(graph, graph.root)
        state = reasoner.think([example.question]).thoughts[0, thought - 1]
        ids = reasoner.tokenizer.convert_tokens_to_ids(list(graph.names))
        nodes = [n for n in range(graph.num_nodes) if wanted(away.get(n), thought)]
        if not nodes:
            continue
        shares = head(state).softmax(-1)[ids]
        mass = [float(shares[n]) for n in nodes]
        inside = [p / sum(mass) for p in mass]
        found.append(
            {
                "num_nodes": len(nodes),
                "mass": sum(mass),
                "mass_uniform": len(nodes) / graph.num_nodes,
                "per_node": fmean(mass),
                "per_node_uniform": 1 / graph.num_nodes,
                "spread": math.exp(-sum(p * math.log(p) for p in inside if p > 0)),
                "embedding": fmean(float(state @ embeddings[ids[n]]) for n in nodes),
                "head": fmean(float(state @ head.weight[ids[n]]) for n in nodes),
            }
        )
    return {key: fmean(one[key] for one in found) for key in found[0]} | {
        "num_questions": len(found)
    }


GROUPS = {
    "unreachable": lambda away, thought: away is None,
    "passed": lambda away, thought: away is not None and away < thought,
    "frontier": lambda away, thought: away == thought,
    "not_yet": lambda away, thought: away is not None and away > thought,
}


class TestAgainstLoops:
    def check(self, subject):
        result = superposition.measure(subject)
        num_checked = 0
        for thought in (1, 2):
            for group, wanted in GROUPS.items():
                if not any(
                    r["group"] == group for r in result["groups"] if r["thought"] == thought
                ):
                    continue
                row = row_of(result, thought, group)
                for key, value in by_loops(subject, thought, wanted).items():
                    assert row[key] == pytest.approx(value, rel=2e-3, abs=2e-3), (group, key)
                num_checked += 1
        assert num_checked >= 6
        return result

    def test_in_symbols(self, symbols):
        result = self.check(symbols)
        assert result["is_tied"] is True
        assert all(row["embedding"] == row["head"] for row in result["groups"])

    def test_in_words(self, words):
        result = self.check(words)
        assert row_of(result, 1, "frontier")["mass"] > 0
        assert {row["group"] for row in result["groups"]} >= {"optimal", "off_path", "not_yet"}

    def test_with_a_head_of_its_own(self):
        subject = fresh_subject(prosqa("two-family", 5, layers=2))
        untie(subject)
        result = self.check(subject)
        assert result["is_tied"] is False
        assert all(abs(row["embedding"] - row["head"]) > 1e-4 for row in result["groups"])

    def test_masses_of_the_groups_add_up(self, words):
        result = superposition.measure(words)
        for thought in (1, 2):
            masses = {r["group"]: r for r in result["groups"] if r["thought"] == thought}
            optimal, off = masses["optimal"], masses["off_path"]
            whole = masses["frontier"]["mass"]
            total = optimal["mass"] + off["mass"] * off["num_questions"] / len(words.examples)
            assert whole == pytest.approx(total, abs=2e-6)


class TestFrontier:
    def test_is_what_the_quickstart_reports(self, symbols):
        probabilities = frontier_reference.node_probabilities(symbols.reasoner, symbols.examples)
        masses = frontier_reference.depth_masses(symbols.examples, probabilities)
        found = superposition.measure(symbols)["frontier"]
        assert [(row["thought"], row["depth"]) for row in found] == [(1, 1), (2, 2)]
        for row, mass in zip(found, masses, strict=True):
            assert row["mass"] == pytest.approx(mass.mass, abs=1e-5)
            assert row["uniform"] == pytest.approx(mass.uniform, abs=1e-6)
            assert row["low"] < row["mass"] < row["high"]
            assert row["num_questions"] == len(symbols.examples)

    def test_node_probabilities_are_those_of_the_quickstart(self, symbols):
        found = superposition.node_probabilities(symbols)
        expected = frontier_reference.node_probabilities(symbols.reasoner, symbols.examples)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

    def test_the_mirror_is_the_other_familys_layer(self, symbols):
        found = superposition.measure(symbols)["frontier"]
        shown = superposition.node_probabilities(symbols)
        for row in found:
            masses = []
            for graph, shares in zip(symbols.graphs, shown, strict=True):
                away = distances(graph, 1 - graph.root)  # nodes 0 and 1 are the two roots
                nodes = [n for n, d in away.items() if d == row["depth"]]
                masses.append(float(shares[row["thought"] - 1, nodes].sum()))
            assert row["mirror"] == pytest.approx(fmean(masses), abs=1e-5)

    def test_stays_at_a_depth_for_all_thoughts_of_a_step(self, symbols):
        subject = with_info(symbols, plan=Plan(2, thoughts_per_step=2), num_thoughts=4)
        found = superposition.measure(subject)["frontier"]
        assert [(row["thought"], row["depth"]) for row in found] == [(1, 1), (2, 1), (3, 2), (4, 2)]
        shown = superposition.node_probabilities(subject)
        graphs = subject.graphs
        for row in found:
            masses = []
            for graph, shares in zip(graphs, shown, strict=True):
                away = distances(graph, graph.root)
                nodes = [n for n, d in away.items() if d == row["depth"]]
                masses.append(float(shares[row["thought"] - 1, nodes].sum()))
            assert row["mass"] == pytest.approx(fmean(masses), abs=1e-5)

    def test_questions_with_fewer_latents_have_no_later_thoughts(self, uneven):
        result = superposition.measure(uneven)
        assert [row["num_questions"] for row in result["frontier"]] == [7, 4, 4]
        assert [len(q["thoughts"]) for q in result["questions"]] == [3, 1, 3, 1, 3, 1, 3]
        assert row_of(result, 2, "unreachable")["num_questions"] == 4


class TestNames:
    def test_that_begin_alike_are_left_out_and_counted(self, pieces):
        names = name_tokens(pieces)
        assert names.num_left_out > 0 and names.num_begun > 0
        result = superposition.measure(pieces)
        counts = result["names"]
        assert counts["num_nodes"] == sum(len(graph.names) for graph in pieces.graphs)
        assert counts["num_nodes"] == (
            counts["num_whole"] + counts["num_by_first_token"] + counts["num_left_out"]
        )
        for number, question in enumerate(result["questions"]):
            first = [tokens[0] for tokens in pieces.name_ids[number]]
            is_alone = [first.count(token) == 1 for token in first]
            for thought in question["thoughts"]:
                assert [p is not None for p in thought] == is_alone
        nan = [torch.isnan(p).sum().item() for p in superposition.node_probabilities(pieces)]
        assert sum(nan) == 2 * counts["num_left_out"]  # by two thoughts

    def test_of_one_token_are_all_used(self, words):
        names = superposition.measure(words)["names"]
        assert names["num_whole"] == names["num_nodes"] == sum(len(g.names) for g in words.graphs)

    def test_not_in_the_vocabulary_are_left_out(self, symbols):
        example = symbols.examples[0]
        meta = example.meta | {"idx_to_symbol": ["no-such", *example.meta["idx_to_symbol"][1:]]}
        subject = subject_of(symbols.reasoner, [replace(example, meta=meta), *symbols.examples[1:]])
        result = superposition.measure(subject)
        assert result["names"]["num_left_out"] == 1
        assert result["questions"][0]["thoughts"][0][0] is None

    def test_that_are_all_alike_are_an_error(self, symbols):
        example = symbols.examples[0]
        names = [f"no-such-{i}" for i in range(len(example.meta["idx_to_symbol"]))]
        example = replace(example, meta=example.meta | {"idx_to_symbol": names})
        with pytest.raises(DataError, match="'no-such-0'.*begin alike"):
            superposition.measure(subject_of(symbols.reasoner, [example]))


class TestControls:
    @pytest.mark.parametrize("method", ["coconut-pause-as-thought", "pause-multipass", "pause"])
    def test_pauses_are_looked_at_where_a_thought_would_stand(self, words, method):
        subject = with_info(words, method=method)
        result = superposition.measure(subject)
        assert "where a thought would be" in result["thoughts"]
        reasoner = subject.reasoner
        special_tokens = reasoner.rules.special_tokens
        graph, found = subject.graphs[0], superposition.node_probabilities(subject)[0]
        ids = [
            *subject.encoded[0].question,
            special_tokens.bot,
            special_tokens.pause,
            special_tokens.pause,
        ]
        with torch.no_grad():
            logits = reasoner.model(input_ids=torch.tensor([ids])).logits[0]
        names = reasoner.tokenizer.convert_tokens_to_ids(list(graph.names))
        expected = logits[-3:-1].softmax(-1)[:, names]  # before the first pause, and at it
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)

    def test_thoughts_are_named_so(self, words):
        assert "continuous thought" in superposition.measure(words)["thoughts"]

    def test_nor_at_stage_0(self, words):
        with pytest.raises(UsageError, match="stage 0.* no latent positions"):
            superposition.measure(with_info(words, stage=0, num_thoughts=0))


class TestResult:
    def test_is_plain_and_complete(self, words):
        done = []
        result = superposition.measure(words, done.append)
        assert sum(done) == len(words.examples)
        assert is_plain(result) and json.loads(json.dumps(result)) == result
        assert (result["num_questions"], result["num_thoughts"]) == (6, 2)
        assert result["schema_version"] == 1 and result["method"] == "coconut"
        for question, graph in zip(result["questions"], words.graphs, strict=True):
            assert [len(thought) for thought in question["thoughts"]] == [len(graph.names)] * 2

    def test_keeps_the_first_questions_only(self, words, monkeypatch):
        monkeypatch.setattr(superposition, "NUM_LISTED", 4)
        shown = superposition.measure(words)["questions"]
        assert [one["id"] for one in shown] == [example.id for example in words.examples[:4]]
        whole = superposition.node_probabilities(words)
        for one, shares in zip(shown, whole, strict=False):
            torch.testing.assert_close(torch.tensor(one["thoughts"]), shares, atol=1e-4, rtol=0)

    def test_spread_tells_superposition_from_a_mixture(self):
        """Both have mean probabilities of ½; only the first spreads within a question."""
        is_in, used = torch.ones(2, 1, 2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)
        for shares, spread in (([[0.5, 0.5], [0.5, 0.5]], 2.0), ([[1.0, 0.0], [0.0, 1.0]], 1.0)):
            readings = superposition.Readings(
                torch.tensor(shares)[:, None], torch.zeros(2, 1, 2), torch.zeros(2, 1, 2)
            )
            values = superposition.Values(list)
            superposition.collect(values, readings, {"frontier": is_in}, used, [1, 1])
            [row] = superposition.group_rows(values, 1)
            assert (row["spread"], row["mass"], row["num_questions"]) == (spread, 1.0, 2)
