"""Which nodes lie in a thought: against loops over questions, for every tokenizer and control."""

import math
from dataclasses import replace
from statistics import fmean

import pytest
import torch

import frontier_reference
from fresh import fresh_subject, prosqa, subject_of, untie, with_info
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
    @pytest.fixture(params=["symbols", "words", "untied"])
    def subject(self, request, words):
        if request.param == "untied":
            made = fresh_subject(prosqa("two-family", 5, layers=2))
            untie(made)
            return made
        return words if request.param == "words" else request.getfixturevalue("symbols")

    def test_in_every_form_and_with_a_head_of_its_own(self, subject, request):
        result, num_checked = superposition.measure(subject), 0
        is_tied = "untied" not in request.node.name
        for row in result["groups"]:
            assert (row["embedding"] == row["head"]) == is_tied
            if row["group"] in GROUPS:
                expected = by_loops(subject, row["thought"], GROUPS[row["group"]])
                for key, value in expected.items():
                    assert row[key] == pytest.approx(value, rel=2e-3, abs=2e-3), key
                num_checked += 1
        assert num_checked >= 6
        assert result["is_tied"] is is_tied

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
        for one, other in zip(
            superposition.node_probabilities(symbols), probabilities, strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        masses = frontier_reference.depth_masses(symbols.examples, probabilities)
        found = superposition.measure(symbols)["frontier"]
        assert [(row["thought"], row["depth"]) for row in found] == [(1, 1), (2, 2)]
        for row, mass in zip(found, masses, strict=True):
            assert row["mass"] == pytest.approx(mass.mass, abs=1e-5)
            assert row["uniform"] == pytest.approx(mass.uniform, abs=1e-6)
            assert row["low"] < row["mass"] < row["high"]
            assert row["num_questions"] == len(symbols.examples)

    def masses(self, subject, thought, depth, source):
        """The mean mass on what is so deep below one of the roots, nodes 0 and 1."""
        shown, masses = superposition.node_probabilities(subject), []
        for graph, shares in zip(subject.graphs, shown, strict=True):
            away = distances(graph, source(graph.root))
            nodes = [node for node, found in away.items() if found == depth]
            masses.append(float(shares[thought - 1, nodes].sum()))
        return fmean(masses)

    def test_the_mirror_is_the_other_familys_layer(self, symbols):
        for row in superposition.measure(symbols)["frontier"]:
            mass = self.masses(symbols, row["thought"], row["depth"], lambda root: 1 - root)
            assert row["mirror"] == pytest.approx(mass, abs=1e-5)

    def test_stays_at_a_depth_for_all_thoughts_of_a_step(self, symbols):
        subject = with_info(symbols, plan=Plan(2, thoughts_per_step=2), num_thoughts=4)
        found = superposition.measure(subject)["frontier"]
        assert [(row["thought"], row["depth"]) for row in found] == [(1, 1), (2, 1), (3, 2), (4, 2)]
        for row in found:
            mass = self.masses(subject, row["thought"], row["depth"], lambda root: root)
            assert row["mass"] == pytest.approx(mass, abs=1e-5)

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
        special = reasoner.rules.special_tokens
        graph, found = subject.graphs[0], superposition.node_probabilities(subject)[0]
        ids = [*subject.encoded[0].question, special.bot, special.pause, special.pause]
        with torch.no_grad():
            logits = reasoner.model(input_ids=torch.tensor([ids])).logits[0]
        names = reasoner.tokenizer.convert_tokens_to_ids(list(graph.names))
        expected = logits[-3:-1].softmax(-1)[:, names]  # before the first pause, and at it
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)

    def test_nor_at_stage_0(self, words):
        with pytest.raises(UsageError, match="stage 0.* no latent positions"):
            superposition.measure(with_info(words, stage=0, num_thoughts=0))


class TestResult:
    def test_is_complete(self, words):
        result = superposition.measure(words)
        assert "continuous thought" in result["thoughts"]
        assert (result["num_questions"], result["num_thoughts"]) == (6, 2)
        assert result["method"] == "coconut"
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
        is_in, every = torch.ones(2, 1, 2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)
        for shares, spread in (([[0.5, 0.5], [0.5, 0.5]], 2.0), ([[1.0, 0.0], [0.0, 1.0]], 1.0)):
            probabilities, zeros = torch.tensor(shares)[:, None], torch.zeros(2, 1, 2)
            readings = superposition.Readings(probabilities, zeros, zeros)
            [row] = superposition.group_rows(readings, {"any": is_in}, every, every[:, :1], [1])
            assert (row["spread"], row["mass"], row["num_questions"]) == (spread, 1.0, 2)
