"""The search tree: on numbers made by hand, and against loops that do without its helpers."""

from dataclasses import replace
from itertools import pairwise
from random import Random
from statistics import fmean
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from latentcot.analysis import tree
from latentcot.analysis.registry import ANALYSES
from latentcot.analysis.shared import case as case_figure
from latentcot.analysis.shared.statistics import mean_of
from latentcot.analysis.shared.style import save
from latentcot.analysis.shared.subject import Subject
from latentcot.analysis.shared.values import nodes_at, values_after
from latentcot.analysis.tree import HEIGHT_RULES, heights, lead_of, leading_to_target, measure
from latentcot.data.examples import Example
from latentcot.evaluation.reasoner import Output
from latentcot.tasks.prosqa.graphs import Graph
from subjects import graph_examples, untrained

# 0 → 2 → {4 → {5, 6}, 5} and 0 → 3 → {5, 6}; the other root 1 → 7. The target is 6.
EDGES = ((0, 2), (0, 3), (2, 4), (4, 6), (3, 5), (3, 6), (4, 5), (2, 5), (1, 7))
GRAPH = Graph(8, EDGES, 0, 6, 7, tuple("abcdefgh"))


def example_of(graph: Graph, id: str) -> Example:
    meta = {
        "idx_to_symbol": list(graph.names), "edges": [list(edge) for edge in graph.edges],
        "root": graph.root, "target": graph.target, "neg_target": graph.neg_target,
    }  # fmt: skip
    facts = " | ".join(f"{graph.names[a]} {graph.names[b]}" for a, b in graph.edges)
    asked = [graph.names[node] for node in (graph.target, graph.neg_target, graph.root)]
    question = f"{facts} | [Q] {asked[0]} {asked[1]} [R] {asked[2]}"
    return Example(id, question, ("d", "g"), asked[0], meta)


def paths_down(graph: Graph, node: int) -> list[list[int]]:
    """Every path from a node to a leaf."""
    below = [child for parent, child in graph.edges if parent == node]
    return [[node, *path] for child in below for path in paths_down(graph, child)] or [[node]]


@st.composite
def graphs(draw: Any) -> Graph:
    size = draw(st.integers(4, 9))
    pairs = [(a, b) for b in range(size) for a in range(b)]
    edges = draw(st.lists(st.sampled_from(pairs), min_size=1, unique=True))
    return Graph(size, tuple(edges), 0, size - 1, size - 2)


class TestGraphs:
    @given(graphs())
    def test_heights_are_those_of_all_paths(self, graph):
        for rule, choose in (("longest", max), ("shortest", min)):
            expected = [
                choose(len(path) - 1 for path in paths_down(graph, node))
                for node in range(graph.num_nodes)
            ]
            assert heights(graph, rule) == expected

    @given(graphs())
    def test_leading_to_target_are_those_with_a_path(self, graph):
        ends = replace(graph, edges=tuple(e for e in graph.edges if e[0] != graph.target))
        for node in range(graph.num_nodes):
            leads = any(path[-1] == graph.target for path in paths_down(ends, node))
            assert (node in leading_to_target(graph)) == leads


class TestLead:
    def test_is_of_the_best_correct_node_at_the_depth_over_the_best_wrong_one_anywhere(self):
        values = [0.9, 0.05, 0.2, 0.3, 0.8, 0.1, 0.7, 0.15]
        correct, wrong, lead = lead_of(GRAPH, values, 1)
        assert (correct, wrong) == (3, 7)
        assert lead == pytest.approx(0.3 - 0.15)
        assert lead_of(GRAPH, values, 2)[:2] == (4, 7)

    def test_needs_both(self):
        assert lead_of(GRAPH, [0.1] * 8, 3) is None
        chain = Graph(3, ((0, 1), (1, 2)), 0, 2, 1)
        assert lead_of(chain, [0.1] * 3, 1) is None


def loops(subject: Subject, counts: list[int], offset: int) -> dict[tuple, list[float]]:
    """(rule, k, is correct, height) → the mean of such nodes of each question."""
    found: dict[tuple, list[float]] = {}
    everything = values_after(subject, counts)
    for graph, values in zip(subject.graphs, everything, strict=True):
        mine: dict[tuple, list[float]] = {}
        for row, k in zip(values.tolist(), counts, strict=True):
            for node in nodes_at(graph, k + offset):
                paths = paths_down(graph, node)
                is_correct = any(graph.target in path for path in paths)
                lengths = [len(path) - 1 for path in paths]
                for rule, height in (("longest", max(lengths)), ("shortest", min(lengths))):
                    for key in (k, None):
                        mine.setdefault((rule, key, is_correct, height), []).append(row[node])
        for group, chosen in mine.items():
            found.setdefault(group, []).append(fmean(chosen))
    return found


class TestMeasure:
    @pytest.mark.parametrize(("form", "offset"), [("words", 0), ("symbols", 1)])
    def test_values_by_height(self, form, offset):
        subject = untrained(form, "bpe", examples=graph_examples(form, 6))
        result = measure(subject)
        counts = [row["k"] for row in result["by_k"]]
        assert [row["depth"] for row in result["by_k"]] == [k + offset for k in counts]
        assert counts[0] == 1 - offset
        expected = loops(subject, counts, offset)
        keys = ("definition", "k", "is_correct", "height")
        found = {tuple(row[key] for key in keys): row for row in result["heights"]}
        assert found.keys() == expected.keys() and len(found) == len(result["heights"])
        for group, means in expected.items():
            interval = {key: found[group][key] for key in mean_of(means)}
            assert interval == pytest.approx(mean_of(means), abs=2e-5)
            assert found[group]["depth"] == (None if group[1] is None else group[1] + offset)
        nodes = {k: sum(len(nodes_at(g, k + offset)) for g in subject.graphs) for k in counts}
        for rule in HEIGHT_RULES:
            for k in counts:
                of_k = [r for r in result["heights"] if (r["definition"], r["k"]) == (rule, k)]
                assert sum(row["num_nodes"] for row in of_k) == nodes[k]

    def test_sums_are_those_of_the_groups(self):
        subject = untrained("symbols", examples=graph_examples("symbols", 4))
        result = measure(subject)
        for row in result["by_k"]:
            total = dict.fromkeys(("correct", "incorrect", "elsewhere"), 0.0)
            scored = [
                (graph, values[0].tolist())
                for graph, values in zip(
                    subject.graphs, values_after(subject, [row["k"]]), strict=True
                )
                if nodes_at(graph, row["depth"])
            ]
            for graph, values in scored:
                for node, value in enumerate(values):
                    is_there = node in nodes_at(graph, row["depth"])
                    leads = any(graph.target in path for path in paths_down(graph, node))
                    group = ("correct" if leads else "incorrect") if is_there else "elsewhere"
                    total[group] += value / len(scored)
            means = {group: mean["mean"] for group, mean in row["sums"].items()}
            assert means == pytest.approx(total, abs=1e-5)
            assert row["sums"]["correct"]["num_questions"] == len(scored)

    def test_lists_the_values_of_the_first_questions(self, monkeypatch):
        monkeypatch.setattr(tree, "NUM_LISTED", 2)
        subject = untrained("words")
        result = measure(subject)
        expected = values_after(subject, (0, 1, 2))  # trained with two
        assert [one["id"] for one in result["questions"]] == ["test-0", "test-1"]
        for one, values in zip(result["questions"], expected, strict=False):
            torch.testing.assert_close(
                torch.tensor(one["values"], dtype=torch.float64), values, rtol=0, atol=1e-5
            )

    def test_lists_no_more_than_the_positions_allow(self):
        roomy = untrained("symbols")
        longest = max(map(len, roomy.prompts(1)))
        result = measure(untrained("symbols", num_positions=longest))
        assert [len(one["values"]) for one in result["questions"]] == [2, 2, 2]

    def test_of_a_method_without_thoughts(self):
        assert [row["k"] for row in measure(untrained("symbols", method="cot"))["by_k"]] == [0]


def scripted(monkeypatch: Any, right: list[list[bool]], values: list[list[list[float]]]) -> Subject:
    """Questions about GRAPH whose answers and values, after 0, 1, … thoughts, are given."""
    examples = [example_of(GRAPH, f"q{i}") for i in range(len(right))]
    subject = replace(untrained("symbols", examples=examples), batch_size=2)

    def number(example: Example) -> int:
        return int(example.id[1:])

    def answers(part: Subject, k: int, **_: Any) -> list[Output]:
        answers = ["g" if right[number(e)][k] else "h" for e in part.examples]
        return [Output(f"after {k}: {a}", a, 1, k, 1, True) for a in answers]

    def values_after(part: Subject, counts: list[int]) -> list[torch.Tensor]:
        rows = [[values[number(e)][min(k, 1)] for k in counts] for e in part.examples]
        return [torch.tensor(row, dtype=torch.float64) for row in rows]

    monkeypatch.setattr(Subject, "answers", answers)
    monkeypatch.setattr(tree, "values_after", values_after)
    return subject


def values_with(**given: float) -> list[float]:
    return [given.get(name, 0.01) for name in GRAPH.names]


# Depth 1 holds c and d, both correct; depth 2 holds e, g (correct) and f (not).
BEHIND, AHEAD = values_with(c=0.1, h=0.6), values_with(e=0.3, g=0.7, f=0.2)
FAR_BEHIND, FAR_AHEAD = values_with(c=0.05, h=0.9), values_with(e=0.95, h=0.02)


class TestCase:
    def test_is_the_question_whose_lead_grows_most(self, monkeypatch):
        right = [[False, True], [False, False], [True, True], [False, True], [False, True]]
        values = [
            [BEHIND, AHEAD], [FAR_BEHIND, FAR_AHEAD], [FAR_BEHIND, FAR_AHEAD],
            [FAR_BEHIND, FAR_AHEAD], [FAR_BEHIND, FAR_AHEAD],
        ]  # fmt: skip
        case = measure(scripted(monkeypatch, right, values))["case"]
        assert (case["id"], case["number"], case["from"], case["to"]) == ("q3", 3, 0, 1)
        assert case["nodes"] == list("abcdefgh") and case["path"] == [0, 3, 6]
        assert (case["root"], case["target"], case["neg_target"]) == (0, 6, 7)
        assert case["edges"] == [list(edge) for edge in GRAPH.edges]
        first, second = case["states"]
        assert first == {
            "k": 0, "depth": 1, "values": FAR_BEHIND,
            "best_correct": {"node": 2, "name": "c", "value": 0.05, "height": 2},
            "best_wrong": {"node": 7, "name": "h", "value": 0.9, "height": 0},
            "lead": -0.85, "text": "after 0: h", "answer": "h", "is_correct": False,
        }  # fmt: skip
        assert (second["k"], second["depth"], second["is_correct"]) == (1, 2, True)
        assert second["best_correct"]["name"] == "e" and second["best_correct"]["height"] == 1
        assert second["best_wrong"]["value"] == 0.02 and second["lead"] == 0.93
        assert "'c', on a way to the target 'g', has 0.05 (height 2), behind 'h'" in case["why"]
        assert "has 0.90 (height 0); the text is 'after 0: h', which is wrong." in case["why"]
        assert "'e', on a way to the target 'g', has 0.95 (height 1), ahead of" in case["why"]
        assert "After 0 thoughts the nodes at distance 1" in case["why"]
        assert "After 1 thought the nodes at distance 2" in case["why"]

    def test_can_be_another_where_it_grows_more(self, monkeypatch):
        right, values = [[False, True]] * 2, [[BEHIND, AHEAD], [FAR_BEHIND, AHEAD]]
        assert measure(scripted(monkeypatch, right, values))["case"]["id"] == "q1"
        assert measure(scripted(monkeypatch, right, values[::-1]))["case"]["id"] == "q0"

    def test_is_none_where_no_thought_helps(self, monkeypatch):
        subject = scripted(monkeypatch, [[True, True], [True, False]], [[BEHIND, AHEAD]] * 2)
        result = measure(subject)
        assert result["case"] is None
        assert tree.draw(result).keys() == ANALYSES["tree"].rows(result).keys() == {"tree"}
        [correction] = result["corrections"]
        assert correction["num_corrected"] == 0 and correction["num_broken"] == 1
        assert correction["lead_corrected"] is None

    def test_near_values_are_not_rounded_to_none_or_all(self, monkeypatch):
        sure = [values_with(c=0.001, d=0.002, h=0.997), AHEAD]
        why = measure(scripted(monkeypatch, [[False, True]], [sure]))["case"]["why"]
        assert "has below 0.01 (height 1), behind 'h'" in why and "has above 0.99" in why

    def test_corrections(self, monkeypatch):
        right = [[False, True], [False, True], [True, True], [True, False], [False, False]]
        values = [
            [BEHIND, AHEAD], [values_with(c=0.5), AHEAD], [FAR_BEHIND, FAR_AHEAD],
            [BEHIND] * 2, [BEHIND] * 2,
        ]  # fmt: skip
        [found] = measure(scripted(monkeypatch, right, values))["corrections"]
        counts = {key: value for key, value in found.items() if not isinstance(value, dict)}
        assert counts == {
            "from": 0, "to": 1, "num_questions": 5, "num_corrected": 2, "num_broken": 1,
            "num_overtaken": 1,
        }  # fmt: skip
        corrected, others = found["lead_corrected"], found["lead_always_right"]
        assert corrected["from"]["mean"] == pytest.approx(((0.1 - 0.6) + (0.5 - 0.01)) / 2)
        assert corrected["to"]["mean"] == pytest.approx(0.7 - 0.2)
        assert corrected["from"]["low"] < -0.005 < corrected["from"]["high"]
        assert others["from"]["mean"] == pytest.approx(0.05 - 0.9)
        assert others["to"]["num_questions"] == 1


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return measure(untrained("words", examples=graph_examples("words", 5)))


class TestFigures:
    def test_have_a_panel_for_all_k_and_for_each(self, result):
        drawn = tree.draw(result)["tree"]
        counts = [row["k"] for row in result["by_k"]]
        titles = [axes.get_title() for axes in drawn.axes if axes.get_title()]
        assert titles == ["all k", *(f"k = {k}: nodes at depth {k}" for k in counts[:3])]
        labels = {axes.get_xlabel() for axes in drawn.axes}
        assert labels == {"height (longest path)", "height (shortest path)"}

    def test_show_the_means(self, result):
        drawn = tree.draw(result)["tree"]
        lines = {
            (axes.get_xlabel(), tuple(container.lines[0].get_xdata()), label): tuple(
                container.lines[0].get_ydata()
            )
            for axes in drawn.axes[:1]
            for container, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        for is_correct, label in ((True, "correct"), (False, "incorrect")):
            rows = sorted(
                (row["height"], row["mean"])
                for row in result["heights"]
                if (row["definition"], row["k"], row["is_correct"]) == ("longest", None, is_correct)
            )
            at, means = zip(*rows, strict=True)
            assert lines["height (longest path)", at, label] == means

    def test_of_a_case(self, monkeypatch, tmp_path):
        result = measure(scripted(monkeypatch, [[False, True]], [[BEHIND, AHEAD]]))
        drawn = tree.draw(result)
        assert drawn.keys() == {"tree", "tree-case"}
        first, second, *_ = drawn["tree-case"].axes
        assert "wrong" in first.get_title() and "after 0: h" in first.get_title()
        assert "right" in second.get_title()
        texts = [text.get_text() for text in first.texts]
        assert {"root", "target", "distractor", "a\n0.01", "h\n0.60", "c\n0.10"} <= set(texts)
        assert "b\n0.01" not in texts  # not reached, and below what is worth seeing
        save(drawn["tree-case"], tmp_path / "case")
        assert (tmp_path / "case.png").stat().st_size > 5_000
        rows = ANALYSES["tree"].rows(result)["tree-case"]
        assert rows[7] == {
            "question": "q0", "node": 7, "name": "h", "depth": None, "role": "distractor",
            "parents": "b", "value after 0": 0.6, "value after 1": 0.01,
        }  # fmt: skip
        assert (rows[6]["depth"], rows[6]["role"], rows[6]["parents"]) == (2, "target", "e d")

    def test_of_a_wide_case_are_one_below_the_other(self):
        state = {"k": 1, "depth": 1, "text": "c d " * 60, "is_correct": False, "values": [0.1] * 9}
        edges = [[0, node] for node in range(1, 8)]
        case = {
            "nodes": list("abcdefghi"), "edges": edges, "root": 0, "target": 1, "neg_target": 8,
            "states": [state, state],
        }  # fmt: skip
        upper, lower, _ = case_figure.draw(case).axes
        assert [spec.get_subplotspec().rowspan.start for spec in (upper, lower)] == [0, 1]
        lines = upper.get_title().split("\n")
        assert lines[0] == "k = 1; it writes (wrong):" and max(map(len, lines)) <= 100

    @given(st.integers(0, 10_000))
    def test_nodes_of_a_case_stand_apart(self, seed):
        rng = Random(seed)
        example = graph_examples("words", 8)[seed % 8]
        case = {
            **{key: example.meta[key] for key in ("edges", "root", "target", "neg_target")},
            "nodes": example.meta["idx_to_symbol"],
        }
        values = [rng.random() ** 3 for _ in case["nodes"]]
        plan = case_figure._plan(case | {"states": [{"values": values}]})
        assert {case["root"], case["target"], case["neg_target"]} <= plan.places.keys()
        assert plan.num_left_out == len(values) - len(plan.places)
        for node, value in enumerate(values):
            if value >= case_figure.WORTH_SEEING:
                assert node in plan.places
        by_layer = sorted((y, x) for x, y in plan.places.values())
        for (y, x), (below, right) in pairwise(by_layer):
            assert below > y or right - x >= 0.9
        for node, depth in case_figure._depths(case).items():
            assert plan.places[node][1] == depth and plan.places[node][0] < plan.width
