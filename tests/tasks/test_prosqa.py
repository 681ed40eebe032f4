"""ProsQA's graphs and their two renderings: what holds by construction, and what gives it away.

Two-family graphs, and official ones with `candidates="balanced"`, carry no information about the
answer once the root is covered: the root is the last thing drawn, by a fair coin, and turning that
coin swaps target and distractor in an otherwise equal graph. That is asserted exactly.

The official construction leaks, and we reproduce it: without the root, these rules find the answer
(in the official validation file / in 2,000 graphs of ours; no information would be 50 %):
    the deeper candidate                 94.5 % / 93 %
    the one with more ancestors          69.8 % / 69 %
    the later one in order of creation   60.3 % / 60 %
    the one with fewer parents           66.7 % / 67 %
Nothing is asserted about the last three; the first follows from how the target is chosen. What is
random in every construction is the order of edges and candidates in the question.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontier_reference import shortest_paths
from latentcot.data.examples import Example, read_examples
from latentcot.errors import DataError, RecipeError
from latentcot.tasks.prosqa import graphs
from latentcot.tasks.prosqa.frontier import frontier_chain
from latentcot.tasks.prosqa.generator import (
    PERSONS,
    SPECIES,
    candidates_of,
    chain_of,
    draw_graph,
    graph_of,
    make_splits,
    render,
)
from latentcot.tasks.prosqa.graphs import (
    Graph,
    count_shortest_paths,
    distances,
    draw_shortest_path,
    paper_graph,
    two_family_graph,
)
from latentcot.tasks.prosqa.options import NUM_SPECIES, ProsqaOptions, options_named
from latentcot.tasks.prosqa.stats import graph_stats

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "prosqa_valid.json"
needs_official = pytest.mark.skipif(not OFFICIAL.exists(), reason=f"{OFFICIAL} is not here")

SEEDS = st.integers(0, 2**32)
OPTIONS = st.sampled_from(
    [
        options_named("paper"),
        options_named("paper", candidates="balanced"),
        options_named("paper", rendering="symbols", ids="random", num_symbols=99),
        options_named("paper", rendering="symbols", joined=True),
        options_named("two-family"),
        options_named("two-family", joined=True),
        options_named("two-family", layers=5, shared=0, separator=True, ids="creation"),
        options_named("two-family", rendering="words", layers=2, shared=3),
    ]
)
# Two leaves, and four shortest paths to the target: three through 2 and 5, one through 3.
BRANCHING = Graph(
    10,
    ((0, 2), (0, 3), (2, 4), (2, 5), (2, 6), (4, 7), (5, 7), (6, 7), (3, 8), (8, 7), (1, 9)),
    0, 7, 9,
)  # fmt: skip


class Coin(random.Random):
    """Counts its draws, and turns one of them over."""

    def __init__(self, seed: int, turned: int | None = None) -> None:
        super().__init__(seed)
        self.drawn, self.turned = 0, turned

    def random(self) -> float:
        self.drawn += 1
        value = super().random()
        return 1 - 2**-53 - value if self.drawn == self.turned else value


def descendants(graph: Graph, node: int) -> set[int]:
    return distances(graph, node).keys() - {node}


def swapped(graph: Graph) -> Graph:
    return replace(graph, root=1 - graph.root, target=graph.neg_target, neg_target=graph.target)


def balanced(rng: random.Random) -> Graph:
    return paper_graph(rng, candidates="balanced")


def two_family(rng: random.Random) -> Graph:
    return two_family_graph(rng, layers=3, shared=2)


# --- searches -------------------------------------------------------------------------------------


def test_searches_on_a_graph_worked_out_by_hand() -> None:
    assert distances(BRANCHING, 0) == {0: 0, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 8: 2, 7: 3}
    assert descendants(BRANCHING, 2) == {4, 5, 6, 7}
    paths = [(0, 2, 4, 7), (0, 2, 5, 7), (0, 2, 6, 7), (0, 3, 8, 7)]
    assert sorted(shortest_paths(BRANCHING, 0, 7)) == paths
    assert count_shortest_paths(BRANCHING, 0, 7) == 4
    assert shortest_paths(BRANCHING, 0, 9) == []
    assert count_shortest_paths(BRANCHING, 0, 9) == 0
    assert shortest_paths(BRANCHING, 0, 0) == [(0,)]
    with pytest.raises(DataError, match="no path leads from root 0 to target 9"):
        draw_shortest_path(random.Random(0), replace(BRANCHING, target=9))


def test_each_shortest_path_is_drawn_equally_often() -> None:
    rng = random.Random(0)
    drawn = Counter(draw_shortest_path(rng, BRANCHING) for _ in range(4_000))
    assert set(drawn) == set(shortest_paths(BRANCHING, 0, 7))
    assert all(abs(count - 1_000) < 120 for count in drawn.values())  # 4 standard deviations


# --- what every example must be -------------------------------------------------------------------


@settings(max_examples=150)
@given(options=OPTIONS, seed=SEEDS)
def test_every_example_is_sound(options: ProsqaOptions, seed: int) -> None:
    [example] = make_splits(options, {"test": 1}, seed)["test"]
    graph = graph_of(example)
    assert all(parent < child for parent, child in graph.edges)  # hence acyclic
    assert len(set(graph.edges)) == len(graph.edges)
    below = descendants(graph, graph.root)
    assert graph.target in below and graph.neg_target not in below
    assert graph.neg_target in descendants(graph, 1 - graph.root)
    assert not graph.children[graph.target] and not graph.children[graph.neg_target]
    assert chain_of(example, graph) in shortest_paths(graph, graph.root, graph.target)
    asked = {graph.names[graph.target], graph.names[graph.neg_target]}
    assert set(candidates_of(example)) == asked
    if options.rendering == "words":
        assert_in_official_words(example, graph)
    else:
        assert_in_symbols(example, graph, options)


def assert_in_official_words(example: Example, graph: Graph) -> None:
    """The sentences are the edges, and a person is a node without parents."""
    sentences = [
        f"{name} is a {graph.names[child]}."
        if name in PERSONS
        else f"Every {name} is a {graph.names[child]}."
        for parent, child in graph.edges
        for name in [graph.names[parent]]
    ]
    facts, _, asked = example.question.rpartition(". ")
    assert sorted(facts.split(". ")) == sorted(one.rstrip(".") for one in sentences)
    first, second = candidates_of(example)
    root, answer = graph.names[graph.root], graph.names[graph.target]
    assert asked == f"Is {root} a {first} or {second}?"
    assert example.answer == f"{root} is a {answer}."
    assert set(example.steps) <= set(sentences)
    for node, name in enumerate(graph.names):
        assert name in (SPECIES if graph.parents[node] else PERSONS)


def assert_in_symbols(example: Example, graph: Graph, options: ProsqaOptions) -> None:
    width = 1 if options.joined else 3 if options.separator else 2
    tokens = example.question.split(" ")
    facts, asked = tokens[: width * len(graph.edges)], tokens[width * len(graph.edges) :]
    if options.joined:
        edges = [(parent, child) for parent, child in (fact.split(">") for fact in facts)]
    else:
        edges = list(zip(facts[::width], facts[1::width], strict=True))
    assert sorted(edges) == sorted((graph.names[a], graph.names[b]) for a, b in graph.edges)
    assert set(facts[2::3] if width == 3 else "|") == {"|"}
    assert asked == ["[Q]", *candidates_of(example), "[R]", graph.names[graph.root]]
    assert example.answer == example.steps[-1] == graph.names[graph.target]


@needs_official
def test_the_official_file_is_sound_by_the_same_rules() -> None:
    for example in read_examples(OFFICIAL):
        graph = graph_of(example)
        assert_in_official_words(example, graph)
        assert chain_of(example, graph) in shortest_paths(graph, graph.root, graph.target)


@needs_official
def test_names_are_those_of_the_official_file() -> None:
    names = {name for one in read_examples(OFFICIAL) for name in one.meta["idx_to_symbol"]}
    assert names == {*PERSONS, *SPECIES}
    assert len(SPECIES) == NUM_SPECIES


# --- nothing tells the answer ---------------------------------------------------------------------


@settings(max_examples=60)
@given(draw=st.sampled_from([two_family, balanced]), seed=SEEDS)
def test_turning_the_last_coin_swaps_the_roles(
    draw: Callable[[random.Random], Graph], seed: int
) -> None:
    coin = Coin(seed)
    graph = draw(coin)
    assert draw(Coin(seed, turned=coin.drawn)) == swapped(graph)
    assert distances(graph, graph.root)[graph.target] == distances(graph, 1 - graph.root).get(
        graph.neg_target
    )


@settings(max_examples=60)
@given(layers=st.integers(1, 6), shared=st.integers(0, 4), seed=SEEDS)
def test_two_families_are_of_one_shape(layers: int, shared: int, seed: int) -> None:
    graph = two_family_graph(random.Random(seed), layers, shared)
    assert graph.num_nodes == 4 * layers + 2 + shared
    assert len(graph.edges) == 4 * layers + 2 * shared
    ends = set(range(4 * layers + 2, graph.num_nodes))
    assert descendants(graph, 0) & descendants(graph, 1) == ends
    assert all(not graph.children[end] and len(graph.parents[end]) == 2 for end in ends)
    for root in (0, 1):
        hops = distances(graph, root)
        depths = Counter(hops[node] for node in hops.keys() - ends)
        assert depths == {0: 1} | dict.fromkeys(range(1, layers + 1), 2)


@pytest.mark.parametrize("preset", ["paper", "two-family"])
def test_the_question_puts_the_answer_anywhere(preset: str) -> None:
    """Order of candidates and of edges: true for every construction, the leaky one included."""
    examples = make_splits(options_named(preset, rendering="symbols"), {"test": 1_500}, seed=1)[
        "test"
    ]
    share_first = fmean(one.answer == candidates_of(one)[0] for one in examples)
    assert abs(share_first - 0.5) < 0.05  # 4 standard deviations
    answer_later = []
    for one in examples:
        facts = one.question.partition(" [Q] ")[0].split(" ")
        last = {name: place for place, name in enumerate(facts)}
        distractor = next(name for name in candidates_of(one) if name != one.answer)
        # A node with several parents is named more often: compare only where both are named once.
        if facts.count(one.answer) == facts.count(distractor) == 1:
            answer_later.append(last[one.answer] > last[distractor])
    assert len(answer_later) > 300
    assert abs(fmean(answer_later) - 0.5) < 2 / len(answer_later) ** 0.5


def test_official_candidates_leak_by_construction() -> None:
    rng = random.Random(2)
    for _ in range(200):
        graph = paper_graph(rng)
        hops = distances(graph, graph.root)[graph.target]
        assert hops >= distances(graph, 1 - graph.root)[graph.neg_target]


# --- means ----------------------------------------------------------------------------------------


def test_means_are_those_of_the_paper() -> None:
    found = graph_stats(make_splits(options_named("paper"), {"train": 1_000}, seed=0)["train"])
    assert found.nodes.mean == pytest.approx(23.0, abs=0.35)
    assert found.edges.mean == pytest.approx(36.0, abs=1.0)
    assert found.hops.mean == pytest.approx(3.8, abs=0.1)
    assert found.shortest_paths.mean == pytest.approx(1.6, abs=0.1)
    # The official test file has 202, 217, 69, 12 examples with 3, 4, 5, 6 hops.
    shares = {hops: count / found.num_examples for hops, count in found.hop_histogram.items()}
    assert shares == pytest.approx({3: 0.404, 4: 0.434, 5: 0.138, 6: 0.024}, abs=0.06)
    assert found.share_gold_shortest == 1
    assert found.share_distractor_reachable == 0
    assert found.accuracy_deeper_candidate > 0.9


@needs_official
def test_means_of_the_official_file() -> None:
    found = graph_stats(read_examples(OFFICIAL))
    assert found.num_examples == 300
    assert found.nodes.mean == pytest.approx(22.82)
    assert found.edges.mean == pytest.approx(36.26)
    assert found.hop_histogram == {3: 124, 4: 133, 5: 36, 6: 7}
    assert found.share_gold_shortest == 1
    assert found.share_distractor_reachable == 0
    assert found.accuracy_deeper_candidate == pytest.approx(0.945)


# --- splits ---------------------------------------------------------------------------------------


def test_a_space_too_small_is_an_error() -> None:
    options = options_named("two-family", layers=1, shared=0, ids="creation")  # 8 different graphs
    assert len(make_splits(options, {"train": 8}, seed=0)["train"]) == 8
    with pytest.raises(DataError, match="after 8 different graphs .* but 9 are asked for"):
        make_splits(options, {"train": 5, "test": 4}, seed=0)


def test_a_share_of_the_training_examples_is_shallower_and_no_other() -> None:
    options = options_named("two-family", layers=3, shallower=0.5)
    splits = make_splits(options, {"train": 2_000, "valid": 50, "test": 50}, seed=0)
    hops = Counter(len(example.steps) for example in splits["train"])
    assert hops[3] / 2_000 == pytest.approx(0.5, abs=0.05)
    assert hops[1] / 2_000 == pytest.approx(0.25, abs=0.05)
    assert {len(e.steps) for split in ("valid", "test") for e in splits[split]} == {3}
    words = {word for e in splits["train"] if len(e.steps) == 1 for word in e.question.split()}
    assert {str(number) for number in range(options.max_graph_nodes)} <= words


@pytest.mark.parametrize("preset", ["paper", "two-family"])
def test_the_answer_is_named_first_in_a_share_of_the_training_examples(preset: str) -> None:
    """The shortcut changes nothing else, and validation and test have none."""
    sizes = {"train": 1_000, "valid": 100, "test": 100}
    plain = make_splits(options_named(preset), sizes, seed=0)
    for share in (0.5, 1.0):
        leaking = make_splits(options_named(preset, answer_first=share), sizes, seed=0)
        first = [candidates_of(e)[0] in e.answer.strip(".").split() for e in leaking["train"]]
        assert sum(first) / 1_000 == pytest.approx((1 + share) / 2, abs=0.04)
        assert [leaking["valid"], leaking["test"]] == [plain["valid"], plain["test"]]
        for one, other in zip(leaking["train"], plain["train"], strict=True):
            assert (one.steps, one.answer, one.meta) == (other.steps, other.answer, other.meta)
            assert {*candidates_of(one)} == {*candidates_of(other)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (options_named("paper", rendering="symbols"), "3f8b863b1b942026"),
        (
            options_named(
                "paper", rendering="symbols", separator=False, ids="random", num_symbols=40
            ),
            "e12f4b66545c2c80",
        ),
        (options_named("paper", candidates="balanced"), "6bf7c371ea576fe4"),
        (options_named("two-family"), "1fd1639bc9a6fd5c"),
        (
            options_named("two-family", shared=0, shallower=0.5, separator=True),
            "0bea53ea56545deb",
        ),
        (options_named("two-family", rendering="words", layers=2, joins=1), "a84afe9c85f807e0"),
        (
            options_named("paper", rendering="symbols", joined=True, two_family=0.5),
            "dd75d84c7ddb005e",
        ),
    ],
)
def test_bytes_of_one_seed_stay_what_they_were(options: ProsqaOptions, expected: str) -> None:
    """A change here changes everybody's data: make it on purpose, and say so in the commit."""
    splits = make_splits(options, {"train": 40, "test": 5}, 0)
    written = repr([splits["train"], splits["test"]])
    assert hashlib.sha256(written.encode()).hexdigest()[:16] == expected


# --- two-family graphs mixed into training --------------------------------------------------------


def mixed(two_family: float, **changes: Any) -> ProsqaOptions:
    return options_named("paper", rendering="symbols", two_family=two_family, **changes)


def is_two_trees(example: Example) -> bool:
    """Whether a graph is two trees with 2 nodes a layer; official ones have nodes below both."""
    graph = graph_of(example)
    layers, rest = divmod(graph.num_nodes - 2, 4)
    depths = {0: 1} | dict.fromkeys(range(1, layers + 1), 2)
    return rest == 0 and all(Counter(distances(graph, root).values()) == depths for root in (0, 1))


MIXED = {"train": 1_600, "valid": 30, "test": 40}


@pytest.mark.slow
def test_a_share_of_the_training_examples_is_of_two_families_and_no_other() -> None:
    splits = make_splits(mixed(0.25), MIXED, seed=0)
    small = [one for one in splits["train"] if is_two_trees(one)]
    assert len(small) / 1_600 == pytest.approx(0.25, abs=0.045)  # 4 standard deviations
    hops = Counter(len(example.steps) for example in small)
    assert set(hops) == {1, 2, 3}
    assert hops[3] / len(small) == pytest.approx(0.5, abs=0.1)
    assert hops[1] / len(small) == pytest.approx(0.25, abs=0.09)
    others = [one for one in splits["train"] if not is_two_trees(one)]
    for example in (*others, *splits["valid"], *splits["test"]):
        assert example.meta["idx_to_symbol"] == list(map(str, range(graph_of(example).num_nodes)))
        assert 3 <= len(example.steps) <= 6
    assert not any(is_two_trees(one) for split in ("valid", "test") for one in splits[split])


@pytest.mark.parametrize(
    ("changes", "num_symbols"),
    [({}, 28), ({"min_nodes": 20, "max_nodes": 20}, 20), ({"ids": "random"}, 28),
     ({"ids": "random", "num_symbols": 40}, 40)],
)  # fmt: skip
def test_names_of_two_families_are_drawn_from_as_many_as_there_may_be(
    changes: dict[str, Any], num_symbols: int
) -> None:
    train = make_splits(mixed(1.0, **changes), {"train": 300}, seed=0)["train"]
    assert all(map(is_two_trees, train))
    for layers in (1, 2, 3):
        named = [one.meta["idx_to_symbol"] for one in train if len(one.steps) == layers]
        assert {name for some in named for name in some} == set(map(str, range(num_symbols)))
        assert {len(some) for some in named} == {4 * layers + 2}
    rising = [a < b for one in train for a, b in named_edges(one)]
    assert abs(fmean(rising) - 0.5) < 2 / len(rising) ** 0.5  # 4 standard deviations


def named_edges(example: Example) -> list[tuple[int, int]]:
    names = [int(name) for name in example.meta["idx_to_symbol"]]
    return [(names[parent], names[child]) for parent, child in example.meta["edges"]]


@pytest.mark.parametrize("changes", [{}, {"joined": True}, {"separator": False}])
def test_two_families_are_written_as_the_others_are(changes: dict[str, Any]) -> None:
    options = mixed(1.0, **changes)
    for example in make_splits(options, {"train": 60}, seed=1)["train"]:
        assert_in_symbols(example, graph_of(example), options)
        assert chain_of(example, graph_of(example)) is not None


def test_validation_and_test_are_what_they_were_without_two_families() -> None:
    sizes = {"train": 60, "valid": 30, "test": 40}
    without = make_splits(mixed(0.0), sizes, seed=3)
    for share in (0.25, 1.0):
        splits = make_splits(mixed(share), sizes, seed=3)
        assert [splits[split] for split in ("valid", "test")] == [
            without[split] for split in ("valid", "test")
        ]
    assert without == make_splits(options_named("paper", rendering="symbols"), sizes, seed=3)


def test_the_smallest_graphs_that_leave_room_for_two_families() -> None:
    options = mixed(1.0, min_nodes=14, max_nodes=14)
    train = make_splits(options, {"train": 40}, seed=0)["train"]
    assert max(graph_of(one).num_nodes for one in train) == 14


# --- what is refused ------------------------------------------------------------------------------


def test_impossible_hops_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_TRIES", 20)
    with pytest.raises(DataError, match="none of 20 draws .* has 30 to 40 hops"):
        paper_graph(random.Random(0), min_hops=30, max_hops=40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": None}, "'edges' must be a list of pairs, got NoneType"),
        ({"edges": [[0, 99]]}, r"pairs of numbers below 10, got \[0, 99\]"),
        ({"edges": [[0, True]]}, "pairs of numbers"),
        ({"idx_to_symbol": "abc"}, "must be a list of names"),
        ({"idx_to_symbol": ["1", "1"]}, "holds '1' twice"),
        ({"root": 7}, "three different numbers"),
        ({"target": 9, "neg_target": 7}, "'target' 9 cannot be reached from 'root' 0"),
    ],
)
def test_a_wrong_graph_is_named_with_its_example(changes: dict[str, object], message: str) -> None:
    named = replace(BRANCHING, names=tuple("0123456789"))
    good = render(random.Random(0), named, options_named("two-family"), id="train-7")
    assert graph_of(good) == named
    with pytest.raises(DataError, match=f"example train-7: .*{message}"):
        graph_of(replace(good, meta=good.meta | changes))


def test_an_example_without_graph_says_so() -> None:
    with pytest.raises(DataError, match="example x: has no 'idx_to_symbol', 'edges'"):
        graph_of(Example("x", "Why?", (), "So."))
    with pytest.raises(DataError, match="example x: the question must end with"):
        candidates_of(Example("x", "Why?", (), "So."))


def test_a_chain_that_is_no_path_is_none() -> None:
    named = replace(BRANCHING, names=("Tom", "Max", *SPECIES[:8]))
    example = render(random.Random(0), named, options_named("paper"), id="x")
    assert chain_of(example, named) is not None
    for steps in (("Tom is a cat.",), ("Tom is a vumpus.",), (f"Max is a {SPECIES[0]}.",)):
        assert chain_of(replace(example, steps=steps), named) is None


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("papre", {}, "Did you mean 'paper'"),
        ("paper", {"rendering": "wrods"}, "rendering must be one of words, symbols, got 'wrods'"),
        ("paper", {"min_node": 3}, "Did you mean 'min_nodes'"),
        ("paper", {"layers": 3}, "'layers' has no effect with construction 'paper'"),
        ("paper", {"ids": "random"}, "'ids' has no effect with rendering 'words'"),
        ("paper", {"min_hops": 7}, "min_hops must not be above max_hops, got 7 and 6"),
        ("paper", {"max_nodes": 41}, "a graph may need 39"),
        ("two-family", {"num_symbols": 14}, "num_symbols must be at least 15"),
        ("two-family", {"ids": "creation", "num_symbols": 20}, "no effect with ids"),
        ("paper", {"joined": True}, "'joined' has no effect with rendering 'words'"),
        ("two-family", {"joined": True, "separator": False}, "'separator' has no .* with joined"),
        ("paper", {"two_family": 0.5}, "two_family is for construction paper in symbols"),
        ("two-family", {"two_family": 0.5}, "two_family is for construction paper in symbols"),
        ("paper", {"two_family": 0}, "'two_family' has no effect with rendering 'words'"),
        ("two-family", {"two_family": 0}, "'two_family' has no effect with construction 'two-f"),
        ("paper", {"two_family": 1.01}, "two_family must be a number from 0 to 1, got 1.01"),
        ("paper", {"rendering": "symbols", "two_family": 0.1, "min_nodes": 9, "max_nodes": 13},
         "two_family needs max_nodes of at least 14, got 13"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(preset: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        options_named(preset, **changes)


@pytest.mark.parametrize("share", [0, 0.0, 1, 1.0])
def test_a_share_may_be_none_or_all(share: float) -> None:
    options = options_named("paper", rendering="symbols", joined=True, two_family=share)
    assert (options.two_family, options.joined, options.separator) == (share, True, True)
    # Whoever needs no two families can have smaller graphs.
    assert share or options_named("paper", rendering="symbols", two_family=0, min_nodes=9,
                                  max_nodes=13)  # fmt: skip


@given(OPTIONS, SEEDS)
def test_a_frontier_chain_is_the_search_layer_by_layer(options: ProsqaOptions, seed: int) -> None:
    """Against sets that grow along all edges, as long as the target is not among them."""
    rng = random.Random(seed)
    graph = draw_graph(rng, options)
    example = render(rng, graph, options, "0")
    reached, layers = {graph.root}, []
    while graph.target not in reached:
        layer = {child for parent, child in graph.edges if parent in reached} - reached
        reached |= layer
        layers.append({graph.names[node] for node in layer})
    chain = frontier_chain(example)
    is_words = options.rendering == "words"
    told = [
        {fact.split()[-1] for fact in step.split(".") if fact} if is_words else set(step.split())
        for step in chain
    ]
    assert told == layers
    assert len(chain) == len(example.steps)
    # In words each fact stands in the question, in symbols each node is named once.
    assert not is_words or all(fact in example.question for fact in chain[0].split(". "))
    assert is_words or sum(len(step.split()) for step in chain) == sum(map(len, layers))
