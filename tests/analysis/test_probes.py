"""Linear probes: what they are asked, the control labels, and how they are fitted."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcot.analysis import probes
from latentcot.analysis.probes import (
    STRENGTHS,
    Ridge,
    accuracies,
    draw,
    halves,
    labels_of,
    measure,
    types_of,
)
from latentcot.analysis.shared.latents import Chains
from latentcot.tasks.prosqa.generator import candidates_of, make_splits
from latentcot.tasks.prosqa.graphs import distances
from latentcot.tasks.prosqa.options import options_named
from subjects import graph_examples, untrained


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


class TestRidge:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_scores_are_those_of_the_best_penalty_when_rows_are_left_out(self, seed):
        """Against the normal equations, in which each row really is left out."""
        rows, labels, others = random(12, 3) * 3 + 7, random(12, 2, seed=seed), random(5, 3, seed=9)
        scale, ones = rows.std(0, correction=0), torch.ones(12, 1).double()
        design = torch.cat([(rows - rows.mean(0)) / scale, ones], 1)
        asked = torch.cat([(others - rows.mean(0)) / scale, ones[:5]], 1)

        def fit(kept: list[int], strength: float) -> torch.Tensor:
            penalty = torch.diag(torch.tensor([12 * strength] * 3 + [0.0])).double()
            a = design[kept]
            return torch.linalg.solve(a.T @ a + penalty, a.T @ labels[kept])

        def error(strength: float) -> float:
            left_out = [
                labels[out] - design[out] @ fit([i for i in range(12) if i != out], strength)
                for out in range(12)
            ]
            return float(torch.stack(left_out).square().mean())

        expected = asked @ fit(list(range(12)), min(STRENGTHS, key=error))
        torch.testing.assert_close(Ridge(rows).scores(labels, others), expected)

    def test_a_linear_label_is_found_and_noise_is_not(self):
        rows, others = random(100, 5), random(50, 5, seed=1)
        map_ = random(5, 2, seed=2)
        torch.testing.assert_close(
            Ridge(rows).scores(rows @ map_ + 3, others), others @ map_ + 3, atol=1e-3, rtol=1e-3
        )
        assert Ridge(rows).scores(random(100, 1, seed=3), others).std() < 0.3

    def test_constant_features_and_more_features_than_rows(self):
        rows = torch.cat([random(6, 20), torch.ones(6, 1)], 1)
        assert Ridge(rows).scores(random(6, 2, seed=1), rows).isfinite().all()


class TestAccuracies:
    def test_of_the_best_m(self):
        scores = torch.tensor([[0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1], [1.0, 2.0, 3.0, 4.0]])
        true = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0, 0]], dtype=torch.bool)
        allowed = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 1]], dtype=torch.bool)
        assert accuracies(scores, true, allowed).tolist() == [0.5, 1.0, 0.5]

    @given(st.integers(1, 6), st.integers(0, 99))
    @settings(max_examples=25, deadline=None)
    def test_guessing_is_right_as_often_as_chance(self, num_true, seed):
        generator = torch.Generator().manual_seed(seed)
        true = torch.zeros(400, 8, dtype=torch.bool)
        true[:, :num_true] = True
        allowed = torch.ones_like(true)
        found = accuracies(torch.rand(400, 8, generator=generator), true, allowed)
        assert float(found.mean()) == pytest.approx(num_true / 8, abs=0.12)


class TestLabels:
    @pytest.mark.parametrize("form", ["words", "symbols"])
    def test_are_what_the_graphs_say(self, form):
        subject = untrained(form, examples=graph_examples(form, 6))
        names = sorted({name for graph in subject.graphs for name in graph.names})
        seen = set()
        for labels in labels_of(subject):
            seen.add((labels.probe, labels.distance))
            for q, (example, graph) in enumerate(
                zip(subject.examples, subject.graphs, strict=True)
            ):
                depth = distances(graph, graph.root)
                marked = {i for i, is_so in enumerate(labels.true_QK[q].tolist()) if is_so}
                able = {i for i, is_so in enumerate(labels.allowed_QK[q].tolist()) if is_so}
                if labels.probe == "candidate":
                    assert marked == {candidates_of(example).index(graph.names[graph.target])}
                    assert able == {0, 1}
                    continue
                if labels.probe == "answer":
                    nodes, allowed = {graph.target}, {graph.target, graph.neg_target}
                else:
                    least = labels.distance if labels.probe == "frontier" else 1
                    nodes = {n for n, d in depth.items() if least <= d <= labels.distance}
                    allowed = set(range(graph.num_nodes)) - {graph.root}
                    assert (q in labels.counted) == (max(depth.values()) >= labels.distance)
                assert {names[i] for i in marked} == {graph.names[n] for n in nodes}
                assert {names[i] for i in able} == {graph.names[n] for n in allowed}
        deepest = max(max(distances(g, g.root).values()) for g in subject.graphs)
        assert seen == {
            *(("frontier", d) for d in range(1, deepest + 1)),
            *(("within", d) for d in range(2, deepest + 1)),
            ("answer", None),
            ("candidate", None),
        }

    def test_controls_are_as_many_allowed_and_fixed_by_the_type(self):
        subject = untrained("symbols", examples=graph_examples("symbols", 12))
        for labels in labels_of(subject):
            assert (labels.control_QK.sum(1) == labels.true_QK.sum(1)).all()
            assert not (labels.control_QK & ~labels.allowed_QK).any()
        types = types_of(subject)
        assert types == [graph.names[graph.root] for graph in subject.graphs]
        # Questions of one type whose allowed labels are the same have the same control.
        one = replace(subject, examples=(subject.examples[0],) * 2, encoded=subject.encoded[:2])
        for labels in labels_of(one):
            assert torch.equal(labels.control_QK[0], labels.control_QK[1])
        candidate = next(labels for labels in labels_of(subject) if labels.probe == "candidate")
        assert {True, False} == set(candidate.control_QK[:, 0].tolist())

    def test_without_graphs_the_answers_first_token_is_the_class(self):
        subject = untrained("words", examples=graph_examples("words", 6))
        answers = ("is x", "is y", "a", "a", "a", "is z")
        examples = (
            replace(e, meta={}, answer=answer, question=f"{'ab'[i % 2]} word")
            for i, (e, answer) in enumerate(zip(subject.examples, answers, strict=True))
        )
        bare = replace(subject, examples=tuple(examples))
        [labels] = labels_of(bare)
        assert (labels.probe, labels.true_QK.shape) == ("class", (6, 2))
        first = labels.true_QK[:, 0].tolist()
        assert first in ([True, True, False, False, False, True],
                         [False, False, True, True, True, False])  # fmt: skip
        assert torch.equal(labels.control_QK[0], labels.control_QK[2])
        assert list(labels_of(bare.of([2, 3, 4]))) == []  # a single class tells nothing


class TestMeasure:
    def test_halves_belong_to_ids(self):
        ids = [f"q{i}" for i in range(101)]
        chosen = halves(ids)
        assert sum(chosen) == 50
        turned = halves(ids[::-1])
        assert turned[::-1] == chosen
        assert Counter(chosen[:50])[True] not in (0, 50)

    def test_what_is_tested_was_not_fitted(self, monkeypatch):
        examples, fitted = graph_examples("words", 11), []
        is_train = halves([example.id for example in examples])

        class Watched(Ridge):
            def __init__(self, rows):
                fitted.append(rows)
                super().__init__(rows)

        monkeypatch.setattr(probes, "Ridge", Watched)
        subject = untrained("words", examples=examples)
        states = probes.record(probes.with_latents(subject)).states
        measure(subject)
        train = [q for q, is_so in enumerate(is_train) if is_so]
        for known_rows in fitted:
            known = (known_rows[:, None] == states[train].flatten(0, 1)).all(-1).any(1)
            assert known.all()
        assert len(fitted[0]) <= 5

    def test_a_planted_label_is_found_and_no_other(self, monkeypatch):
        """Thought 2 holds the answer's name as one-hot, thought 1 and the last state hold noise."""
        options = options_named("two-family", layers=2, shared=0)
        examples = make_splits(options, {"test": 200}, seed=0)["test"]
        subject = untrained("symbols", examples=examples)
        names = sorted({name for graph in subject.graphs for name in graph.names})
        states = random(200, 3, len(names)) * 0.1
        for q, graph in enumerate(subject.graphs):
            for node, size in ((graph.target, 1.0), (graph.neg_target, -1.0)):
                states[q, 1, names.index(graph.names[node])] += size
        chains = Chains(states[:, :2], states, (2,) * 200)
        monkeypatch.setattr(probes, "record", lambda subject: chains)
        found = {(r["probe"], r["distance"], r["thought"]): r for r in measure(subject)["probes"]}
        answer = found["answer", None, 2]
        assert answer["num_train"] == answer["num_questions"] == 100
        assert answer["accuracy"] > 0.8 > found["answer", None, 1]["accuracy"]
        assert answer["selectivity"] > 0.2 and answer["p_raw"] < 0.01 and answer["chance"] == 0.5
        assert answer["selectivity"] == pytest.approx(
            answer["accuracy"] - answer["control"], abs=2e-4
        )
        assert answer["accuracy_low"] < answer["accuracy"] <= answer["accuracy_high"]
        assert found["candidate", None, 2]["accuracy"] < 0.8
        number = found["thought", None, None]
        assert number["num_questions"] == 100 and number["chance"] == pytest.approx(1 / 3, abs=1e-4)

    def test_against_pauses(self):
        examples = graph_examples("words", 12)
        subject = untrained("words", examples=examples)
        other = untrained("words", examples=examples, method="coconut-pause-as-thought")
        result = measure(subject, against=[other])
        before = [r for r in result["comparison"] if r["thought"] == 1]
        assert before and all(r["more"] == 0 and r["p"] == 1 for r in before)  # nothing was fed yet
        row = next(r for r in result["comparison"] if r["probe"] == "thought")
        here, there = (
            next(r["accuracy"] for r in m["probes"] if r["probe"] == "thought")
            for m in (result, result["against"])
        )
        assert row["more"] == pytest.approx(here - there, abs=2e-4)

    def test_too_few_questions_are_not_probed(self):
        assert measure(untrained("words"))["probes"] == []

    def test_without_graphs(self):
        subject = untrained("words", examples=graph_examples("words", 8))
        asked = zip(subject.examples, ["Tom is a x.", "a"] * 4, strict=True)
        bare = tuple(replace(example, meta={}, answer=answer) for example, answer in asked)
        result = measure(replace(subject, examples=bare))
        assert {row["probe"] for row in result["probes"]} <= {"class", "thought"}
        draw(result).draw_without_rendering()
