"""What a text says about a graph, against a definition that tries every path there is."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcot.analysis.shared.paths import Form, Judge, Written, read
from latentcot.tasks.prosqa.generator import draw_graph, fact, render
from latentcot.tasks.prosqa.graphs import Graph
from latentcot.tasks.prosqa.options import options_named

WORDS = Form(is_in_words=True, answer_start="### ", step_end="\n")
SYMBOLS = Form(is_in_words=False, answer_start="[A] ")

# Tom → b → c → d → target e, a shorter way Tom → f → e, a dead end f → g, and Max → h elsewhere.
NAMES = ("Tom", "Max", "bpus", "cpus", "dpus", "epus", "fpus", "gpus", "hpus")
EDGES = ((0, 2), (2, 3), (3, 4), (4, 5), (0, 6), (6, 5), (6, 7), (1, 8))
GRAPH = Graph(9, EDGES, root=0, target=5, neg_target=8, names=NAMES)
JUDGE = Judge(GRAPH)


def judged(text: str, form: Form = WORDS, *, is_finished: bool = True, **more: Any) -> str:
    written = read(text, form, NAMES, is_finished=is_finished)
    return JUDGE.outcome(written, is_right=written.label == "epus", **more)


# --- by hand --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("Tom is a fpus. Every fpus is a epus. ### Tom is a epus.", "correct_path"),
        ("Every fpus is a epus.\n### Tom is a epus.", "correct_path"),
        ("Every fpus is an epus ### Tom is an epus", "correct_path"),
        ("Tom is a fpus\nevery fpus is a epus", "correct_path"),
        ("Tom is a bpus. Every bpus is a cpus. Every cpus is a dpus. Every dpus is a epus.",
         "longer_path"),
        ("Every dpus is a epus. ### Tom is a epus.", "longer_path"),
        ("Tom is a fpus. Every fpus is a gpus. ### Tom is a gpus.", "wrong_target"),
        ("Every cpus is a dpus. ### Tom is a epus.", "wrong_target"),
        ("Tom is a fpus. ### Tom is a epus.", "wrong_target"),
        ("Tom is a epus. ### Tom is a epus.", "hallucination"),  # no such edge
        ("Every fpus is a zpus. ### Tom is a epus.", "hallucination"),  # no such name
        ("Tom is a fpus. Every dpus is a epus.", "hallucination"),  # not joined
        ("Max is a hpus. ### Tom is a hpus.", "hallucination"),  # nothing leads to Max
        ("Every fpus is a epus. Every epus is a fpus.", "hallucination"),
        ("### Tom is a epus.", "correct_label"),
        ("### Tom is a hpus.", "incorrect_label"),
        ("", "incorrect_label"),
        ("What?", "incorrect_label"),
    ],
)  # fmt: skip
def test_sentences(text: str, outcome: str) -> None:
    assert judged(text) == outcome


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("fpus epus [A] epus", "correct_path"),
        ("epus [A] epus", "correct_path"),
        ("bpus cpus dpus epus [A] epus", "longer_path"),
        ("dpus epus [A] epus", "longer_path"),
        ("fpus gpus [A] epus", "wrong_target"),
        ("fpus [A] epus", "wrong_target"),
        ("bpus epus [A] epus", "hallucination"),
        ("fpus zpus", "hallucination"),
        ("Tom fpus epus [A] epus", "hallucination"),  # a step leads to a node, and none to the root
        ("hpus [A] hpus", "hallucination"),
        ("[A] epus", "correct_label"),
        ("[A] gpus [A] epus", "correct_label"),
        ("[A] epus fpus", "incorrect_label"),
        ("", "incorrect_label"),
    ],
)
def test_symbols(text: str, outcome: str) -> None:
    assert judged(text, SYMBOLS) == outcome


def test_how_many_steps_may_be_missing_in_front() -> None:
    text = "Every dpus is a epus."
    assert judged(text, hidden=(3,)) == "longer_path"
    assert judged(text, hidden=(2,)) == "hallucination"
    assert judged(text, hidden=(2, 3)) == "longer_path"
    assert judged("Tom is a fpus. Every fpus is a epus.", hidden=(0,)) == "correct_path"
    assert judged("Every fpus is a epus.", hidden=(0,)) == "hallucination"
    # The target is two and four edges away; of several ways in front the shortest counts.
    assert judged("epus", SYMBOLS, hidden=(1,)) == "correct_path"
    assert judged("epus", SYMBOLS, hidden=(3,)) == "longer_path"
    assert judged("epus", SYMBOLS, hidden=(1, 3)) == "correct_path"
    assert judged("epus", SYMBOLS, hidden=(0, 2)) == "hallucination"


def test_a_chain_without_answer_may_go_on() -> None:
    for text, outcome in [
        ("Tom is a fpus.", "correct_path"),
        ("Tom is a bpus.", "longer_path"),
        ("Every fpus is a gpus.", "wrong_target"),
        ("Every fpus is a hpus.", "hallucination"),
    ]:
        assert judged(text, end="open") == outcome
    assert judged("Tom is a fpus.") == "wrong_target"
    assert judged("Tom is a fpus. ### Tom is a epus.", end="open") == "wrong_target"


def test_a_name_that_was_cut_off_is_none_yet() -> None:
    assert judged("Tom is a fpus. Every fpus is a ep", is_finished=False) == "wrong_target"
    assert judged("Tom is a fpus. Every fpus is a ep") == "hallucination"
    assert judged("Tom is a fpus. Every fpus is a zp", is_finished=False) == "hallucination"
    assert judged("Tom is a fpus. Every fpus is a epus", is_finished=False) == "correct_path"
    assert judged("Tom is a fpus. Every fpus is a ep.", is_finished=False) == "hallucination"
    assert judged("Tom is a fp", is_finished=False) == "incorrect_label"
    assert judged("fpus ep", SYMBOLS, is_finished=False) == "wrong_target"
    # Behind the mark of the answer the chain has ended, whatever happens to the rest.
    assert judged("Tom is a fp### To", is_finished=False) == "hallucination"


def test_the_beginning_of_a_sentence_that_was_cut_off_is_no_junk() -> None:
    text = "Tom is a fpus. Every fpus is"
    assert not read(text, WORDS, NAMES, is_finished=False).has_junk
    assert read(text, WORDS, NAMES).has_junk


def test_what_is_read() -> None:
    text = "So Tom is a fpus! and every fpus is an epus.\n### x ### Tom is a gpus."
    assert read(text, WORDS, NAMES) == Written(
        (("Tom", "fpus"), ("fpus", "epus")), "gpus", has_answer=True, has_junk=True
    )
    assert not read("Tom is a fpus.\nevery fpus is a epus.\n", WORDS, NAMES).has_junk
    barred = Form(is_in_words=False, answer_start="[A] ", step_end=" ; ")
    assert read("fpus ; epus ; [A] epus", barred, NAMES) == Written(
        ((None, "fpus"), ("fpus", "epus")), "epus", has_answer=True, has_junk=False
    )
    assert read("fpus | epus", SYMBOLS, NAMES) == Written(
        ((None, "fpus"), ("fpus", "epus")), "", has_answer=False, has_junk=True
    )


@pytest.mark.parametrize(
    ("text", "is_inconsistent"),
    [
        ("Every fpus is a epus. ### Tom is a epus.", False),
        ("Every fpus is a epus. ### Tom is a hpus.", True),
        ("Every fpus is a zpus. ### Tom is a zpus.", False),
        ("Every fpus is a epus.", False),
        ("### Tom is a epus.", False),
    ],
)
def test_answers_beside_the_chain_are_told(text: str, is_inconsistent: bool) -> None:
    assert read(text, WORDS, NAMES).is_inconsistent == is_inconsistent


# --- against brute force --------------------------------------------------------------------------


def all_paths(graph: Graph) -> Iterator[tuple[int, ...]]:
    """Every path from the root, the root alone included."""
    stack = [(graph.root,)]
    while stack:
        path = stack.pop()
        yield path
        stack += [(*path, child) for parent, child in graph.edges if parent == path[-1]]


def brute_force(
    graph: Graph,
    steps: Sequence[tuple[str | None, str]],
    hidden: Sequence[int] | None,
    is_open: bool,
) -> str:
    """The definition: look at every way to write the same steps as a part of a whole path."""
    names, lengths, is_path = graph.names, [], False
    for path in all_paths(graph):
        told = [(names[a], names[b]) for a, b in pairwise(path)]
        for start in range(len(told) - len(steps) + 1):
            part = told[start : start + len(steps)]
            fits = all(
                (a is None or a == c) and b == d for (a, b), (c, d) in zip(steps, part, strict=True)
            )
            if not fits or (hidden is not None and start not in hidden):
                continue
            is_path = True
            ends_here = start + len(steps) == len(told)
            if path[-1] == graph.target and (ends_here or is_open):
                lengths.append(len(told))
    if not is_path:
        return "hallucination"
    if not lengths:
        return "wrong_target"
    shortest = min(len(path) - 1 for path in all_paths(graph) if path[-1] == graph.target)
    return "correct_path" if min(lengths) == shortest else "longer_path"


@st.composite
def small_graphs(draw: st.DrawFn) -> Graph:
    """Up to 7 nodes in which something can be reached from node 0, with names."""
    number = draw(st.integers(3, 7))
    pairs = [(a, b) for b in range(number) for a in range(b)]
    edges = {(0, 1)} | set(draw(st.lists(st.sampled_from(pairs), max_size=12)))
    below = {0}
    for a, b in sorted(edges, key=lambda edge: edge[1]):
        below |= {b} if a in below else set()
    target = draw(st.sampled_from(sorted(below - {0})))
    neg_target = next(node for node in range(number) if node not in (0, target))
    order = draw(st.permutations(NAMES[2:]))
    names = ("Tom", *order[: number - 1])
    return Graph(number, tuple(sorted(edges)), 0, target, neg_target, names)


@st.composite
def walks(draw: st.DrawFn, graph: Graph) -> list[str]:
    """Names along a path from anywhere, and often something else at one place."""
    path = [draw(st.integers(0, graph.num_nodes - 1))]
    for _ in range(draw(st.integers(0, 5))):
        further = graph.children[path[-1]]
        if not further:
            break
        path.append(draw(st.sampled_from(further)))
    names = [graph.names[node] for node in path]
    change = draw(st.sampled_from(["none", "none", "replace", "drop", "insert", "double"]))
    place = draw(st.integers(0, len(names) - 1))
    if change == "drop":
        del names[place]
    elif change == "double":
        names.insert(place, names[place])
    elif change != "none":
        other = draw(st.sampled_from([*graph.names, "zpus"]))
        names[place : place + (change == "replace")] = [other]
    return names


def as_sentences(data: st.DataObject, steps: Sequence[tuple[str | None, str]]) -> str:
    """Steps in words, with what models make of them: "an", dots missing, junk between."""
    pieces = []
    for parent, child in steps:
        sentence = fact(str(parent), child)
        if data.draw(st.booleans()):
            sentence = sentence.replace(" is a ", " is an ")
        if data.draw(st.booleans()):
            sentence = sentence.rstrip(".")
        pieces.append(data.draw(st.sampled_from(["", "", "Hm, ", "<eot> "])) + sentence)
    return data.draw(st.sampled_from(["\n", " "])).join(pieces)


@pytest.mark.parametrize("form", [WORDS, SYMBOLS], ids=["words", "symbols"])
@settings(max_examples=150, deadline=None)
@given(data=st.data(), graph=small_graphs())
def test_outcomes_are_those_of_brute_force(form: Form, data: st.DataObject, graph: Graph) -> None:
    chain = data.draw(walks(graph))
    steps: list[tuple[str | None, str]] = list(pairwise(chain))
    if form is SYMBOLS:
        steps = [(None, name) for name in chain[:1]] + steps
    elif data.draw(st.booleans()) and len(steps) > 1:  # two that need not join
        del steps[data.draw(st.integers(0, len(steps) - 1))]
    if not steps:
        return
    has_answer = data.draw(st.booleans())
    hidden = data.draw(st.sampled_from([None, (0,), (1,), (2,), (1, 2)]))
    text = as_sentences(data, steps) if form is WORDS else " ".join(chain)
    text += f" {form.answer_start}bpus" if has_answer else ""
    written = read(text, form, graph.names)
    assert list(written.edges) == steps
    for end in ("as_written", "open"):
        expected = brute_force(graph, steps, hidden, is_open=end == "open" and not has_answer)
        assert Judge(graph).outcome(written, is_right=True, hidden=hidden, end=end) == expected


# --- gold chains ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rendering", ["words", "symbols"])
@pytest.mark.parametrize("preset", ["paper", "two-family"])
def test_gold_chains_without_their_first_steps_are_correct(preset: str, rendering: str) -> None:
    rng = random.Random(7)
    options = options_named(preset, rendering=rendering)
    form = WORDS if rendering == "words" else SYMBOLS
    for number in range(40):
        graph = draw_graph(rng, options)
        example = render(rng, graph, options, str(number))
        judge = Judge(graph)
        for k in range(len(example.steps) + 1):
            text = "\n".join(example.steps[k:]) + f" {form.answer_start}{example.answer}"
            written = read(text, form, graph.names)
            expected = "correct_path" if k < len(example.steps) else "correct_label"
            for hidden in (None, (k,)):
                assert judge.outcome(written, is_right=True, hidden=hidden) == expected
            assert not written.has_junk and not written.is_inconsistent
