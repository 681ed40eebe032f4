"""Questions unlike those of training: what the generator makes, and what models make of them."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fresh import fresh_subject, with_info
from latentcot import load
from latentcot.analysis import distribution
from latentcot.analysis.distribution import measure
from latentcot.analysis.registry import ANALYSES
from latentcot.analysis.shared import question_sets
from latentcot.analysis.shared.question_sets import (
    SAME,
    QuestionSet,
    guess_options,
    num_names,
    options_beside,
)
from latentcot.analysis.shared.subject import Subject
from latentcot.data.examples import Example, read_examples
from latentcot.errors import DataError, RecipeError, UsageError
from latentcot.evaluation.evaluate import evaluate
from latentcot.evaluation.reasoner import Reasoner
from latentcot.evaluation.statistics import holm, mcnemar
from latentcot.tasks.prosqa import graphs
from latentcot.tasks.prosqa.generator import graph_of, make_splits
from latentcot.tasks.prosqa.graphs import count_shortest_paths, distances, two_family_graph
from latentcot.tasks.prosqa.options import ProsqaOptions, most_joins, options_named

SEEDS = st.integers(0, 2**32)
QUICKSTART = options_named("two-family", shared=0, shallower=0.5)


# --- the generator --------------------------------------------------------------------------------


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, int]:
    layers, width = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    nodes = draw(st.integers(layers, layers * width))
    joins = draw(st.integers(0, most_joins(layers, width, nodes)))
    return {"layers": layers, "width": width, "family_nodes": nodes, "joins": joins}


@settings(max_examples=150, deadline=None)
@given(shape=shapes(), shared=st.integers(0, 3), seed=SEEDS)
def test_two_families_of_any_shape(shape: dict[str, int], shared: int, seed: int) -> None:
    graph = two_family_graph(random.Random(seed), shared=shared, **shape)
    layers, nodes, joins = shape["layers"], shape["family_nodes"], shape["joins"]
    assert graph.num_nodes == 2 * nodes + 2 + shared
    assert len(graph.edges) == len(set(graph.edges)) == 2 * (nodes + joins + shared)
    below = [distances(graph, root) for root in (0, 1)]
    ends = below[0].keys() & below[1].keys()
    assert len(ends) == shared
    assert all(not graph.children[end] and len(graph.parents[end]) == 2 for end in ends)
    depths = [{node: hops for node, hops in one.items() if node not in ends} for one in below]
    assert Counter(depths[0].values()) == Counter(depths[1].values())
    widths = Counter(depths[0].values())
    assert set(widths) == set(range(layers + 1)) and widths[0] == 1
    assert max(widths.values()) <= shape["width"]
    for family in depths:
        parents = {node: graph.parents[node] for node in family if family[node]}
        assert sum(len(above) == 2 for above in parents.values()) == joins
        # A second parent stands in the layer above too, so no path gets shorter or longer.
        assert all(family[one] == family[n] - 1 for n, above in parents.items() for one in above)
    hops = distances(graph, graph.root)[graph.target]
    assert hops == distances(graph, 1 - graph.root)[graph.neg_target] == layers
    assert graph.neg_target not in distances(graph, graph.root)


def test_most_joins_is_the_most_over_all_shapes() -> None:
    def widths(layers: int, width: int, nodes: int) -> list[tuple[int, ...]]:
        if layers == 0:
            return [()] if nodes == 0 else []
        return [
            (one, *rest)
            for one in range(1, width + 1)
            for rest in widths(layers - 1, width, nodes - one)
        ]

    for layers in range(1, 5):
        for width in range(1, 4):
            for nodes in range(layers, layers * width + 1):
                most = max(
                    sum(below for above, below in pairwise(one) if above > 1)
                    for one in widths(layers, width, nodes)
                )
                assert most_joins(layers, width, nodes) == most, (layers, width, nodes)
            assert most_joins(layers, width) == most_joins(layers, width, layers * width)


@pytest.mark.slow
def test_every_place_for_a_join_and_for_a_node_is_drawn_alike() -> None:
    rng = random.Random(0)
    drawn = [two_family_graph(rng, 3, 0, width=2, joins=1) for _ in range(3_000)]
    places = Counter(node for graph in drawn for node in range(14) if len(graph.parents[node]) == 2)
    assert len(places) == 8  # layers 2 and 3 of both families
    assert all(abs(count - 750) < 110 for count in places.values())
    spread = Counter(
        tuple(sorted(Counter(distances(graph, 0).values()).items()))
        for graph in (two_family_graph(rng, 3, 0, width=2, family_nodes=4) for _ in range(1_500))
    )
    assert len(spread) == 3
    assert all(abs(count - 500) < 80 for count in spread.values())


def test_joins_make_several_paths_and_leave_candidates_alike() -> None:
    rng = random.Random(1)
    drawn = [two_family_graph(rng, 3, 0, width=2, joins=2) for _ in range(600)]
    assert fmean(count_shortest_paths(g, g.root, g.target) for g in drawn) > 1.5
    difference = [len(g.parents[g.target]) - len(g.parents[g.neg_target]) for g in drawn]
    assert abs(fmean(difference)) < 4 / len(drawn) ** 0.5


def test_shapes_that_come_up_too_rarely_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_TRIES", 5)
    with pytest.raises(DataError, match="none of 5 draws of 4 nodes in 3 layers .* 3 joins"):
        two_family_graph(random.Random(0), 3, 0, family_nodes=4, joins=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family_nodes": 7}, "family_nodes must be from layers to width × layers, 3 to 6, got 7"),
        ({"family_nodes": 2}, "3 to 6, got 2"),
        ({"width": 0}, "width must be a whole number of at least 1, got 0"),
        ({"width": 1, "joins": 1}, "joins must be at most 0 in such graphs, got 1"),
        ({"joins": 5}, "joins must be at most 4 in such graphs, got 5"),
        ({"joins": -1}, "joins must be a whole number"),
        ({"width": 3, "num_symbols": 19}, "num_symbols must be at least 21"),
    ],
)
def test_shapes_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        options_named("two-family", **changes)
    for name in ("width", "family_nodes", "joins"):  # and of other constructions none can be
        with pytest.raises(RecipeError, match=f"{name!r} has no effect with construction 'paper'"):
            options_named("paper", **{name: 2})


def test_shallower_examples_of_narrow_graphs_with_joins() -> None:
    options = options_named("two-family", width=3, family_nodes=7, joins=3, shared=0, shallower=1.0)
    examples = make_splits(options, {"train": 60, "test": 5}, 0)["train"]
    assert {len(example.steps) for example in examples} == {1, 2}
    assert max(graph_of(example).num_nodes for example in examples) <= options.max_graph_nodes


def test_the_command_makes_them(latentcot: Callable[..., Any], tmp_path: Path) -> None:
    done = latentcot(
        *("data", "make", "prosqa", "--out", tmp_path / "d", "--preset", "two-family"),
        *("--train", 5, "--valid", 2, "--test", 3, "--layers", 4, "--family-nodes", 6),
        *("--joins", 1, "--width", 2, "--shared", 0),
    )
    assert done.code == 0, done.err
    for example in read_examples(tmp_path / "d" / "train.jsonl"):
        assert len(example.meta["edges"]) == 14
    assert options_beside(tmp_path / "d" / "test.jsonl") == options_named(
        "two-family", layers=4, family_nodes=6, joins=1, shared=0
    )


# --- which sets there are -------------------------------------------------------------------------


def sets_of(base: ProsqaOptions, names: int) -> tuple[dict[str, QuestionSet], dict[str, str]]:
    sets, left_out = question_sets.question_sets(base, names)
    return {one.name: one for one in sets}, {one.name: one.reason for one in left_out}


def test_sets_of_the_quickstart_have_its_names_and_its_length() -> None:
    sets, left_out = sets_of(QUICKSTART, 14)
    assert list(sets) == [
        SAME, "hops-2", "hops-4", "hops-5", "hops-6", "joins-1", "dead-ends-1", "dead-ends-2",
        "shorter", "joins-4-longer", "dead-ends-4-longer",
    ]  # fmt: skip
    assert left_out == {}
    for name, one in sets.items():
        assert one.options.max_graph_nodes <= one.options.num_symbols == 14
        assert one.options.shallower == 0
        [example] = make_splits(one.options, {name: 1}, 0)[name]
        edges = len(example.meta["edges"])
        assert (edges > 12, edges < 12) == (name.endswith("-longer"), name == "shorter")
        if name.startswith("hops-"):
            assert name == f"hops-{len(example.steps)}"
            assert one.options.max_graph_nodes == 14
        else:
            assert len(example.steps) == 3


def test_sets_that_need_more_names_or_nodes_are_left_out() -> None:
    chains = options_named("two-family", width=1, layers=4, shared=0)
    for known in (10, 11):
        sets, left_out = sets_of(chains, known)
        assert list(sets) == [SAME, "hops-3"]
        assert left_out["hops-5"] == f"needs 12 names of nodes, but the model knows {known}."
    assert left_out["joins-1"] == "3 nodes below each root are too few for 4 layers."
    assert left_out["shorter"] == "3 nodes below each root are too few for 4 layers."
    narrow = options_named("two-family", layers=4, family_nodes=6, shared=0)
    _, left_out = sets_of(replace(narrow, joins=3), 14)
    assert left_out["joins-4"] == "5 nodes in 4 layers have no room for 4 joins."
    sets, _ = sets_of(chains, 12)
    assert sets["hops-5"].options.max_graph_nodes == 12


def test_candidates_of_any_depth_stay_so() -> None:
    mixed = options_named("two-family", layers=4, min_depth=1, shared=0)
    sets, _ = sets_of(mixed, 18)
    assert not [name for name in sets if name.startswith("hops-")]
    assert all(one.options.min_depth == 1 for one in sets.values())


def test_sets_of_the_official_construction() -> None:
    sets, left_out = sets_of(options_named("paper"), 40)
    assert list(sets) == [
        SAME, "hops-7-longer", "hops-8-longer", "nodes-40-longer",
        "in-degree-2.5", "in-degree-3.5-longer",
    ]  # fmt: skip
    assert left_out == {}
    assert (sets["hops-7-longer"].options.min_hops, sets["hops-7-longer"].options.max_hops) == (
        7,
        7,
    )
    symbols = options_named("paper", rendering="symbols")
    sets, left_out = sets_of(symbols, 28)
    assert list(sets) == [SAME, "hops-7", "in-degree-2.5", "in-degree-3.5-longer"]
    assert "too rare" in left_out["hops-8"] and "no more names than 28" in left_out["nodes"]


def test_sets_of_data_with_two_families_mixed_in_have_none() -> None:
    """Nor is any graph of theirs too small: 14 nodes are the fewest such data may have."""
    base = options_named("paper", rendering="symbols", joined=True, two_family=0.5,
                         min_nodes=14, max_nodes=14, max_hops=4)  # fmt: skip
    sets, left_out = sets_of(base, 14)
    assert list(sets) == [SAME, "hops-5", "in-degree-2.5", "in-degree-3.5-longer"]
    assert set(left_out) == {"hops-6", "nodes"}
    assert {(one.options.two_family, one.options.joined) for one in sets.values()} == {(0, True)}
    assert sets["in-degree-2.5"].options.max_nodes < 14
    [example] = make_splits(sets[SAME].options, {"train": 1}, 0)["train"]
    assert example.question.count(">") == len(example.meta["edges"])


def test_denser_official_graphs_are_as_long() -> None:
    sets, _ = sets_of(options_named("paper"), 40)
    edges = {
        name: fmean(
            len(example.meta["edges"])
            for example in make_splits(sets[name].options, {name: 60}, 0)[name]
        )
        for name in (SAME, "in-degree-2.5", "in-degree-3.5-longer")
    }
    assert edges["in-degree-2.5"] == pytest.approx(edges[SAME], rel=0.12)
    assert edges["in-degree-3.5-longer"] > 1.5 * edges[SAME]


# --- what the training data were ------------------------------------------------------------------


def test_options_stand_beside_the_data(tmp_path: Path) -> None:
    note = {"options": asdict(QUICKSTART)}
    path = tmp_path / "data.json"
    path.write_text(json.dumps(note))
    assert options_beside(tmp_path / "test.jsonl") == QUICKSTART
    newer = ("joins", "joined", "two_family")
    old = {key: value for key, value in note["options"].items() if key not in newer}
    path.write_text(json.dumps({"options": old}))
    assert options_beside(tmp_path / "test.jsonl") == QUICKSTART
    for text in ("", "[]", "{}", '{"options": {"hops": 5}}', '{"options": {"layers": 0}}',
                 '{"options": []}', '{"options": null}'):  # fmt: skip
        path.write_text(text)
        assert options_beside(tmp_path / "test.jsonl") is None
    assert options_beside("hub:a:b") is None
    assert options_beside(tmp_path / "elsewhere" / "test.jsonl") is None


def test_sets_of_joined_questions_are_joined(data: Path) -> None:
    """Measured end to end: edges that the model has never seen leave a set out."""
    options = options_named("two-family", layers=2, shared=0, joined=True)
    examples = make_splits(options, {"test": 400}, 0)["test"]
    subject = fresh_subject(examples, task="prosqa")
    found = measure(replace(subject, examples=subject.examples[:20],
                            encoded=subject.encoded[:20]), num_questions=3)  # fmt: skip
    assert found["base"] == asdict(options)
    assert {one["name"] for one in found["sets"]} >= {SAME, "hops-1", "shorter"}
    assert all(one["options"]["joined"] for one in found["sets"])


def test_where_options_are_taken_from(babbler: Reasoner, data: Path, tmp_path: Path) -> None:
    subject = subject_of(babbler, read_examples(data / "test.jsonl"))
    options = options_named("two-family", layers=1, shared=0)
    for note, base_from, layers in [
        ("{}", "read off the questions' graphs", 2),
        (json.dumps({"options": asdict(options)}), "data.json beside the questions", 1),
    ]:
        (tmp_path / "data.json").write_text(note)
        here = replace(subject, source=str(tmp_path / "test.jsonl"))
        found = measure(here, num_questions=1)
        assert (found["base_from"], found["base"]["layers"]) == (base_from, layers)


def subject_of(reasoner: Reasoner, examples: list[Example], name: str = "mine") -> Subject:
    return Subject(name, reasoner, tuple(examples), tuple(reasoner.encode(examples)), batch_size=50)


@pytest.mark.parametrize(
    "options",
    [
        options_named("two-family", layers=2, shared=0),
        options_named("two-family", layers=2, shared=1, separator=True, ids="creation"),
        options_named("two-family", layers=2, joined=True),
        options_named("two-family", width=3, family_nodes=7, joins=2),
        options_named("two-family", width=1, layers=5, shared=0),
        options_named("two-family", layers=4, min_depth=1, shared=0),
        options_named("paper", max_hops=4),
        options_named("paper", rendering="symbols", candidates="balanced", max_hops=3),
        options_named("paper", rendering="symbols", ids="random", joined=True, two_family=0.5),
    ],
    ids=["two", "ends", "one-token", "joins", "chains", "mixed", "paper", "balanced", "joined"],
)
def test_options_are_read_off_graphs(options: ProsqaOptions) -> None:
    examples = make_splits(options, {"test": 150}, 0)["test"]
    reasoner: Any = SimpleNamespace(info=SimpleNamespace(task="prosqa"))
    subject = Subject("mine", reasoner, tuple(examples), ())
    found = guess_options(subject)
    if options.construction == "two-family":
        assert found == options
    else:
        for name in ("construction", "rendering", "joined", "ids", "candidates",
                     "min_hops", "max_hops"):  # fmt: skip
            assert getattr(found, name) == getattr(options, name)
        assert found.separator == (options.separator and not options.joined)
        assert found.max_nodes == pytest.approx(28, abs=2)


def test_names_that_a_model_knows(tiny_run: Path, data: Path) -> None:
    subject = subject_of(load(tiny_run), read_examples(data / "test.jsonl"))
    base = options_named("two-family", layers=2, shared=0)
    assert num_names(subject, base) == 10
    assert num_names(subject, replace(base, num_symbols=30)) == 30
    assert num_names(subject, options_named("paper")) == 40
    graph = subject.graphs[0]
    odd = replace(graph, names=("x", *graph.names[1:]))
    subject.__dict__["graphs"] = (odd,)
    with pytest.raises(UsageError, match="the data have 'x'"):
        num_names(subject, base)


# --- tiny models ----------------------------------------------------------------------------------


def test_of_a_tiny_model(babbler: Reasoner, data: Path) -> None:
    subject = subject_of(babbler, read_examples(data / "test.jsonl"))
    done: list[int] = []
    found = json.loads(json.dumps(measure(subject, done.append, num_questions=12)))
    assert found["base"] == asdict(options_named("two-family", layers=2, shared=0))
    names = [one["name"] for one in found["sets"]]
    assert names[0] == SAME and {"hops-1", "hops-3", "hops-4", "shorter"} <= set(names)
    assert sum(done) == sum(row["num_questions"] for row in found["accuracy"])
    options = {one["name"]: ProsqaOptions(**one["options"]) for one in found["sets"]}
    for row in found["accuracy"]:
        name = row["set"]
        examples = make_splits(options[name], {name: 12}, 0)[name]
        hops = len(examples[0].steps)
        forced = None if row["thoughts"] == "trained" else hops
        # More steps may need more words: as many more as the chain is longer.
        limit = babbler.info.max_new_tokens + max(0, hops - 2)
        one = evaluate(babbler, examples, num_thoughts=forced, max_new_tokens=limit)
        assert row["accuracy"] == pytest.approx(one.accuracy.value, abs=1e-6)
        others = [example.meta["idx_to_symbol"][example.meta["neg_target"]] for example in examples]
        named = [record.answer == other for record, other in zip(one.records, others, strict=True)]
        assert row["other_candidate"] == pytest.approx(fmean(named), abs=1e-6)
        assert row["num_thoughts"] == one.thoughts_per_question
        assert row["p"] is None
    # With 2 thoughts in training, those of other chains are asked twice.
    twice = [row["set"] for row in found["accuracy"] if row["thoughts"] == "one_a_hop"]
    assert twice == ["hops-1", "hops-3", "hops-4"]
    ways = {(row["thoughts"], row["hops"]) for row in found["by_hops"]}
    assert ways == {(way, hops) for way in ("trained", "one_a_hop") for hops in (1, 2, 3, 4)}
    as_long = {one["name"]: one["share_as_long"] for one in found["sets"]}
    assert (as_long["hops-4"], as_long["shorter"]) == (1, 0)


def test_models_are_compared_with_the_first(
    tiny_run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is right on 8 questions of 20, or on 10 with forced thoughts; the second on 12."""
    examples = read_examples(data / "test.jsonl")
    reasoners = [load(tiny_run) for _ in range(3)]
    rights = {id(one): count for one, count in zip(reasoners, (8, 12, 20), strict=True)}

    def ask(posed: Subject, numbers: Any, room: int, on_progress: Any) -> list[str]:
        count = rights[id(posed.reasoner)]
        count += 2 if count == 8 and numbers is not None else 0
        return [e.answer if i < count else "no" for i, e in enumerate(posed.examples)]

    monkeypatch.setattr(distribution, "ask", ask)
    first, second, third = (
        subject_of(reasoner, examples, name)
        for reasoner, name in zip(reasoners, ("a", "b", "b"), strict=True)
    )
    found = measure(first, against=[second, third], num_questions=20)
    assert [one["name"] for one in found["subjects"]] == ["a", "b", "b-2"]
    others = [row for row in found["accuracy"] if row["subject"] != "a"]
    ahead = [
        (12 if row["subject"] == "b" else 20) - (8 if row["thoughts"] == "trained" else 10)
        for row in others
    ]
    expected = holm([mcnemar(number, 0) for number in ahead])
    assert [row["p"] for row in others] == pytest.approx(expected, rel=1e-2)
    assert {row["accuracy"] for row in found["accuracy"] if row["subject"] == "b"} == {0.6}
    mine = [row for row in found["by_hops"] if row["subject"] == "a"]
    assert {(row["thoughts"], row["hops"]): row["accuracy"] for row in mine} == {
        ("trained", 1): 0.4, ("trained", 2): 0.4, ("trained", 3): 0.4, ("trained", 4): 0.4,
        ("one_a_hop", 1): 0.5, ("one_a_hop", 2): 0.4,
        ("one_a_hop", 3): 0.5, ("one_a_hop", 4): 0.5,
    }  # fmt: skip
    alone = measure(first, against=[second], num_questions=5)
    assert [one["name"] for one in alone["subjects"]] == ["a", "b"]


def test_a_thought_a_hop_is_c_of_them(tiny_run: Path, data: Path) -> None:
    subject = subject_of(load(tiny_run), read_examples(data / "test.jsonl"))
    object.__setattr__(subject.reasoner.rules.plan, "thoughts_per_step", 2)
    found = measure(subject, num_questions=2)
    forced = {r["set"]: r["num_thoughts"] for r in found["accuracy"] if r["thoughts"] != "trained"}
    assert forced == {"hops-1": 2, "hops-3": 6, "hops-4": 8}


def test_a_method_without_latents_is_compared_with_the_thoughts_of_training(
    babbler: Reasoner, data: Path
) -> None:
    other = subject_of(babbler, read_examples(data / "test.jsonl"), "coconut")
    cot = replace(with_info(other, method="cot", num_thoughts=0), name="cot")
    found = measure(cot, against=[other], num_questions=6)
    rows = [row for row in found["accuracy"] if row["subject"] == "cot"]
    assert {row["thoughts"] for row in rows} == {"trained"}
    assert {row["num_thoughts"] for row in rows} == {0}
    assert any(row["thoughts"] == "one_a_hop" and row["p"] for row in found["accuracy"])
    assert {row["thoughts"] for row in found["by_hops"] if row["subject"] == "cot"} == {"trained"}


def test_chains_of_several_lengths_get_a_thought_a_hop(babbler: Reasoner, data: Path) -> None:
    subject = subject_of(babbler, read_examples(data / "test.jsonl"))
    options = options_named("two-family", layers=2, min_depth=1, shared=0)
    found = measure(subject, options=options, num_questions=20)
    assert found["base_from"] == "given"
    [same] = [
        row for row in found["accuracy"] if (row["set"], row["thoughts"]) == (SAME, "one_a_hop")
    ]
    assert 1 < same["num_thoughts"] < 2
    assert [one["hops"] for one in same["by_hops"]] == [1, 2]
    assert sum(one["num_questions"] for one in same["by_hops"]) == 20
    right = sum(one["accuracy"] * one["num_questions"] for one in same["by_hops"])
    assert right == pytest.approx(same["accuracy"] * 20, abs=1e-3)


def test_what_does_not_fit_the_model_is_left_out_with_the_reason(
    tiny_run: Path, data: Path
) -> None:
    subject = subject_of(load(tiny_run), read_examples(data / "test.jsonl"))
    # 21 of the question, <bot>, <eot>, 3 thoughts, 3 steps, "[A] 5" and the end: 32 for 3 hops,
    # and one fewer with the 2 thoughts of training.
    subject.reasoner.model.config.max_position_embeddings = 31
    found = measure(subject, num_questions=3)
    reasons = {one["name"]: one["reason"] for one in found["left_out"]}
    assert SAME not in reasons
    assert "needs 32 positions" in reasons["hops-3"]
    assert "but the model has 31" in reasons["joins-2-longer"]
    unknown = replace(options_named("two-family", layers=2, shared=0), num_symbols=40)
    with pytest.raises(UsageError, match="none like in training: .* cannot be written"):
        measure(subject, options=unknown, num_questions=3)


@pytest.mark.slow
def test_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    options = options_named("two-family", rendering="words", layers=2, shared=0, separator=None,
                            ids=None)  # fmt: skip
    examples = make_splits(options, {"test": 6}, 0)["test"]
    subject = fresh_subject(examples, tokenizer="bpe", num_positions=1024)
    found = measure(subject, num_questions=4)
    assert found["base"]["rendering"] == "words"
    assert {"hops-3", "hops-4", "joins-1", "dead-ends-4-longer"} <= {
        one["name"] for one in found["sets"]
    }

    def ask(posed: Subject, numbers: Any, room: int, on_progress: Any) -> list[str]:
        graphs = posed.graphs
        return [f"{g.names[g.root]} is a {g.names[g.neg_target]}." for g in graphs]

    monkeypatch.setattr(distribution, "ask", ask)
    found = measure(subject, num_questions=4)
    assert {row["other_candidate"] for row in found["accuracy"]} == {1}
    assert {row["accuracy"] for row in found["accuracy"]} == {0}


# --- figures --------------------------------------------------------------------------------------


def test_figures_need_the_result_alone(babbler: Reasoner, data: Path) -> None:
    subject = subject_of(babbler, read_examples(data / "test.jsonl"))
    found = json.loads(json.dumps(measure(subject, against=[subject], num_questions=4)))
    drawn = distribution.draw(found)
    assert (
        set(drawn)
        == set(ANALYSES["distribution"].rows(found))
        == {"distribution", "distribution-hops"}
    )
    for one in drawn.values():
        one.draw_without_rendering()
    labels = [tick.get_text() for tick in drawn["distribution"].axes[0].get_yticklabels()]
    assert labels[0] == SAME and "shorter *" in labels and "hops-3" in labels
    for table in ANALYSES["distribution"].rows(found).values():
        assert len({tuple(row) for row in table}) == 1
