"""The positive control: what each analysis finds in a search that is built by hand.

Its thoughts hold what `runs/search_by_hand.py` puts there, so every figure has a value that the
equations give: an analysis that misses it, or finds more, is wrong.
"""

import math
from functools import cache

import pytest

from fresh import prosqa
from latentcot.analysis.registry import ANALYSES
from latentcot.analysis.shared.subject import Subject, no_progress
from latentcot.evaluation.reasoner import Reasoner
from latentcot.runs.search_by_hand import LOGIT, Superposition, superposition
from latentcot.tasks.prosqa.graphs import distances

HOPS, NODES = 3, 14
pytestmark = pytest.mark.slow


@cache
def known(holds="within", count=100, **options):
    """Two families of 7 nodes: the root and two on each of three layers; answers 3 hops away."""
    examples = prosqa("two-family", count, layers=HOPS, shared=0)
    given = {"num_nodes": NODES, "num_thoughts": HOPS, "holds": holds, "separator": False}
    made = superposition(Superposition(**(given | options)))
    reasoner = Reasoner(made.model, made.tokenizer, made.info)
    return Subject("hand", reasoner, tuple(examples), tuple(reasoner.encode(examples)))


@cache
def found(name, holds="within", count=100):
    return ANALYSES[name].run(known(holds, count), [], no_progress)


def is_a_guess(accuracy):
    """Neither candidate is held: rounding decides between two equal logits."""
    return 0.3 < accuracy < 0.7


def test_outcomes():
    for row in found("outcomes")["by_k"]:
        is_found = row["k"] >= HOPS
        assert row["accuracy"] == 1 if is_found else is_a_guess(row["accuracy"])


def test_tree_and_parallelism():
    for row in found("tree")["by_k"][1:]:  # without a thought nothing is searched
        num_held = 1 + 2 * row["depth"]
        value = 1 / (num_held + math.exp(0.5))
        assert row["sums"]["correct"]["mean"] == pytest.approx(value, rel=0.01)
        assert row["sums"]["incorrect"]["mean"] == pytest.approx(value, rel=0.01)
    for row in found("parallelism")["by_k"][1:]:
        value = 1 / (1 + 2 * row["depth"] + math.exp(0.5))
        assert row["gap"]["mean"] == pytest.approx(2 * value, rel=0.01)


@pytest.mark.parametrize("holds", ["within", "exactly"])
def test_superposition(holds):
    subject = known(holds)
    num_others = len(subject.reasoner.tokenizer) - NODES
    for row in found("superposition", holds)["groups"]:
        depth, group = row["depth"], row["group"]
        num_held = 1 + 2 * depth if holds == "within" else 2
        is_held = group in ("frontier", "optimal", "off_path")
        is_held |= group == "passed" and holds == "within"
        total = num_held * math.exp(LOGIT) + NODES - num_held + num_others
        assert row["per_node"] == pytest.approx(math.exp(LOGIT * is_held) / total, rel=0.01)
        assert row["spread"] == pytest.approx(row["num_nodes"], rel=1e-3)
        assert row["head"] == pytest.approx(LOGIT * is_held, abs=0.05)


def test_attention():
    for row in found("attention")["columns"]:
        # In the second block one head of two looks at the edges that leave the held nodes, alike.
        is_held = row["layer"] == 2 and row["group"] not in ("unreachable", "not_yet")
        num_edges = 2 + 2 * min(row["column"], HOPS - 1)
        expected = 0.5 / num_edges if is_held else 0
        assert row["per_edge"] == pytest.approx(expected, rel=0.02, abs=1e-5)


def test_decoding():
    for row in found("decoding")["thoughts"]:
        num_held = 1 + 2 * row["thought"]
        assert row["num_tied"] == num_held
        assert row["probability"] == pytest.approx(1 / num_held, rel=0.01)


def test_interventions():
    result = found("interventions")
    assert result["replay"]["num_changed"] == 0
    left = {(row["name"], row["thought"]): row["accuracy"] for row in result["effects"]}
    assert left["none", None] == 1
    for thought in (1, 2, 3, None):
        assert is_a_guess(left["zero", thought])
    # Only the last thought is read by the answer, and each by the next one: the order matters.
    assert is_a_guess(left["shuffle", None])


def test_steering():
    share = {
        (row["direction"], row["thought"], row["alpha"]): row["flipped"]
        for row in found("steering")["steered"]
    }
    for thought in (1, 2, 3):
        assert share["embeddings", thought, 2.0] == 1
        assert share["embeddings", thought, -2.0] == 0
        assert share["random", thought, 0.5] < 0.6
    assert share["embeddings", 3, 0.5] == 1 and share["random", 3, 0.5] < 0.1


def test_probes():
    rows = found("probes", count=600)["probes"]
    accuracy = {(row["probe"], row["distance"], row["thought"]): row["accuracy"] for row in rows}
    for thought in (1, 2, 3):
        within = accuracy.get(("within", thought, thought), accuracy["frontier", 1, 1])
        assert within == 1
    assert accuracy["answer", None, 3] > 0.9 > 0.65 > accuracy["answer", None, 2]


def test_geometry():
    for row in found("geometry")["thoughts"][:HOPS]:
        # Amplitude 2 for each node held, and each feature twice.
        expected = 2 * math.sqrt(2 * (1 + 2 * row["thought"]))
        assert row["norm"] == pytest.approx(expected, rel=1e-3)


def test_distribution():
    rows = [row for row in found("distribution")["accuracy"] if row["set"].startswith("hops-")]
    assert len(rows) > 5
    for row in rows:
        is_enough = row["num_thoughts"] >= int(row["set"].removeprefix("hops-"))
        assert (row["accuracy"] == 1) == is_enough


@pytest.mark.parametrize("holds", ["within", "exactly"])
def test_edits(holds):
    """Every prediction holds and nothing else moves."""
    rows = found("edits", holds)["edits"]
    meant = [row for row in rows if row["vector"] == "node" and row["dose"] == 1]
    assert {row["edit"] for row in meant} == {"add", "remove", "swap"}
    for row in meant:
        assert row["next"] == 1 and row["others"] == 0
        assert row["later"] in (None, 1) and row["answer"] in (None, 1)
    assert sum(row["flips_num_questions"] for row in meant) > 30
    if holds == "within":  # a random push often empties a thought: all leave it, meant or not
        assert all(row["others"] > 0.2 for row in rows if row["vector"] == "random")


def test_mediation():
    result = found("mediation")
    assert result["sentence"].startswith("The answer follows the thoughts in 100.0% of 100 ")
    for row in result["fed"]:
        assert row["follows"] == 1 if row["fed"] == "donor" else row["follows"] < 0.7
    accuracy = {row["earliest"]: row.get("accuracy") for row in result["earliest"]}
    assert accuracy[3] == 1 and all(is_a_guess(accuracy[k]) for k in range(3))


def test_pathways():
    result = found("pathways")
    left = {(r["viewer"], r["hidden"], r["thought"]): r["accuracy"] for r in result["knockout"]}
    for thought in (1, 2):  # nothing looks back to them
        for viewer in ("answer", "thoughts", "all"):
            assert left[viewer, "thought", thought] == 1
    assert is_a_guess(left["answer", "thought", 3])
    assert left["answer", "question", 3] > 0.9
    for row in result["influence"]:
        if row["fed"] == "thought":
            is_next = row["thought"] == row["source"] + 1
            is_far = row["kind"] == "direct" and not is_next
            assert row["nats"] == pytest.approx(0, abs=1e-3) if is_far else row["nats"] > 1
    # The answer reads the last thought as it was fed; the others act through the next one alone.
    follows = {(r["fed"], r["block"], r["thought"]): r["follows"] for r in result["patching"]}
    assert all(follows["donor", block, thought] == 1 for block in (1, 2) for thought in (1, 2))
    assert follows["donor", 1, 3] == follows["donor", 2, 3] == 0


def test_the_graphs_are_those_that_the_figures_count_on():
    for graph in known().graphs:
        depths = list(distances(graph, graph.root).values())
        assert [depths.count(depth) for depth in range(HOPS + 1)] == [1, 2, 2, 2]
