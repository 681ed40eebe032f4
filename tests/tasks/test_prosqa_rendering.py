"""A ProsQA file in the other rendering: the same questions, told with other names.

What is expected comes from `translated`, which turns the text of a question into symbols by its
sentences alone, and from examples written out by hand.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcot.cli.data import data
from latentcot.data.examples import Example, read_examples, write_examples
from latentcot.errors import DataError, LatentcotError, RecipeError
from latentcot.tasks import task_named
from latentcot.tasks.prosqa.generator import (
    PERSONS,
    SPECIES,
    Telling,
    candidates_of,
    chain_of,
    fact,
    graph_of,
    make_splits,
)
from latentcot.tasks.prosqa.options import ProsqaOptions, options_named
from latentcot.tasks.prosqa.rendering import (
    RenderOptions,
    read_telling,
    render_again,
    rendering_of,
)

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "prosqa_valid.json"
needs_official = pytest.mark.skipif(not OFFICIAL.exists(), reason=f"{OFFICIAL} is not here")

SYMBOLS, WORDS = RenderOptions(), RenderOptions(rendering="words")
PLAIN, JOINED = RenderOptions(separator=False), RenderOptions(joined=True)
SEEDS = st.integers(0, 2**32)

# Max → lempus → rorpus, with a shortcut that the chain does not take, and Tom → impus.
GRAPH: dict[str, Any] = {
    "edges": [[0, 3], [3, 2], [0, 2], [1, 4]],
    "root": 0,
    "target": 2,
    "neg_target": 4,
}
IN_WORDS = Example(
    "seven",
    "Every lempus is a rorpus. Tom is a impus. Max is a lempus. Max is a rorpus. "
    "Is Max a impus or rorpus?",
    ("Max is a lempus.", "Every lempus is a rorpus."),
    "Max is a rorpus.",
    {"idx_to_symbol": ["Max", "Tom", "rorpus", "lempus", "impus"], **GRAPH},
)
IN_SYMBOLS = Example(
    "seven",
    "3 2 | 1 4 | 0 3 | 0 2 | [Q] 4 2 [R] 0",
    ("3", "2"),
    "2",
    {"idx_to_symbol": ["0", "1", "2", "3", "4"], **GRAPH},
)

IN_JOINED = replace(IN_SYMBOLS, question="3>2 1>4 0>3 0>2 [Q] 4 2 [R] 0")


def anew(example: Example, options: RenderOptions = SYMBOLS, seed: int = 0) -> Example:
    [new] = render_again([example], options, seed)
    return new


def made(options: ProsqaOptions, seed: int, count: int = 1) -> list[Example]:
    return make_splits(options, {"test": count}, seed)["test"]


def translated(example: Example) -> tuple[str, list[str], str]:
    """Question, steps and answer of an example in words, as symbols in order of creation."""
    number = {name: str(node) for node, name in enumerate(example.meta["idx_to_symbol"])}

    def pair(sentence: str) -> tuple[str, str]:
        words = sentence.rstrip(".").removeprefix("Every ").split(" ")
        assert words[1:3] == ["is", "a"]
        return number[words[0]], number[words[3]]

    *facts, asked = example.question.split(". ")
    _, root, _, first, _, second = asked.rstrip("?").split(" ")
    told = "".join(" ".join(pair(one)) + " | " for one in facts)
    question = f"{told}[Q] {number[first]} {number[second]} [R] {number[root]}"
    return question, [pair(step)[1] for step in example.steps], pair(example.answer)[1]


def is_right(example: Example, name: str) -> bool:
    """Whether ProsQA's rule would take an answer that names this node."""
    graph = graph_of(example)
    in_words = fact(graph.names[graph.root], name)
    answer = in_words if rendering_of(example) == "words" else name
    return task_named("prosqa").is_correct(answer, example.answer)


# --- what stays -----------------------------------------------------------------------------------


def test_an_example_worked_out_by_hand() -> None:
    assert anew(IN_WORDS) == IN_SYMBOLS
    assert anew(IN_WORDS, PLAIN).question == "3 2 1 4 0 3 0 2 [Q] 4 2 [R] 0"
    assert anew(IN_WORDS, JOINED) == anew(IN_SYMBOLS, JOINED) == IN_JOINED
    for example in (IN_WORDS, IN_SYMBOLS, IN_JOINED, anew(IN_WORDS, PLAIN)):
        assert read_telling(example, graph_of(example)) == Telling(
            ((3, 2), (1, 4), (0, 3), (0, 2)), (4, 2), (0, 3, 2)
        )
    assert anew(IN_JOINED) == anew(IN_SYMBOLS, RenderOptions(joined=False)) == IN_SYMBOLS
    assert anew(IN_JOINED, WORDS) == anew(IN_SYMBOLS, WORDS)
    back = anew(IN_SYMBOLS, WORDS)
    a, b, c, d, e = back.meta["idx_to_symbol"]
    assert {a, b} <= set(PERSONS) and {c, d, e} <= set(SPECIES)
    assert back.question == (
        f"Every {d} is a {c}. {b} is a {e}. {a} is a {d}. {a} is a {c}. Is {a} a {e} or {c}?"
    )
    assert back.steps == (f"{a} is a {d}.", f"Every {d} is a {c}.")
    assert back.answer == f"{a} is a {c}."


@settings(max_examples=60)
@given(seed=SEEDS)
def test_words_become_the_symbols_that_their_sentences_say(seed: int) -> None:
    [example] = made(options_named("paper"), seed)
    new = anew(example)
    assert (new.question, list(new.steps), new.answer) == translated(example)
    assert new.id == example.id
    assert {**new.meta, "idx_to_symbol": None} == {**example.meta, "idx_to_symbol": None}


@settings(max_examples=60)
@given(
    options=st.sampled_from(
        [
            options_named("paper"),
            options_named("paper", rendering="symbols", ids="random", num_symbols=99),
            options_named("paper", rendering="symbols", joined=True, two_family=1.0),
            options_named("two-family", layers=4, joins=2),
            options_named("two-family", joined=True, ids="creation"),
            options_named("two-family", rendering="words", layers=2, shared=3),
        ]
    ),
    through=st.sampled_from(
        [
            SYMBOLS, PLAIN, WORDS, JOINED, RenderOptions(ids="random"),
            RenderOptions(ids="random", joined=True, num_symbols=60, shuffle_edges=True),
            RenderOptions(ids="random", num_symbols=60, shuffle_edges=True),
        ]
    ),
    seed=SEEDS,
)  # fmt: skip
def test_any_rendering_leads_back(
    options: ProsqaOptions, through: RenderOptions, seed: int
) -> None:
    [example] = make_splits(options, {"train": 1}, seed)["train"]  # two families stand in training
    graph = graph_of(example)
    new = anew(example, through, seed)
    assert replace(graph_of(new), names=()) == replace(graph, names=())
    assert chain_of(new, graph_of(new)) == chain_of(example, graph)
    assert [is_right(new, name) for name in candidates_of(new)] == [
        is_right(example, name) for name in candidates_of(example)
    ]
    assert is_right(new, graph_of(new).names[graph.target])
    [numbered, again] = (anew(one) for one in (example, new))
    if through.shuffle_edges:
        numbered, again = (
            replace(one, question=one.question.partition("[Q]")[2]) for one in (numbered, again)
        )
    assert numbered == again


def test_what_does_not_depend_on_the_rendering_stays() -> None:
    assert anew(IN_WORDS, WORDS) == IN_WORDS
    noted = replace(IN_WORDS, meta={"source": "mine", **IN_WORDS.meta})
    assert anew(noted).meta == {"source": "mine", **IN_SYMBOLS.meta}
    turned = IN_WORDS.question.replace("impus or rorpus", "rorpus or impus")
    assert anew(replace(IN_WORDS, question=turned)).question.endswith("[Q] 2 4 [R] 0")
    for example, options in ((IN_WORDS, SYMBOLS), (IN_SYMBOLS, WORDS)):
        new = anew(replace(example, steps=()), options)
        assert new.steps == () and new.answer == anew(example, options).answer


def test_blanks_do_not_matter() -> None:
    for example, tight, loose in (
        (IN_JOINED, "3>2 1>4 ", " 3>2  1>4\n"),
        (IN_WORDS, "Tom is a impus. Max", "Tom is  a impus.\n Max"),
        (IN_SYMBOLS, "3 2 | 1 4 |", " 3  2 |\n1 4  |"),
    ):
        loosened = replace(example, question=example.question.replace(tight, loose))
        assert loosened.question != example.question
        assert anew(loosened) == IN_SYMBOLS


@needs_official
def test_the_official_file() -> None:
    official = read_examples(OFFICIAL)
    assert render_again(official, WORDS) == official  # every text can be told from its graph alone
    for old, new in zip(official, render_again(official, SYMBOLS), strict=True):
        assert (new.question, list(new.steps), new.answer) == translated(old)
        assert new.answer == new.steps[-1] == str(new.meta["target"])
        graph = graph_of(new)
        assert chain_of(new, graph) == chain_of(old, graph_of(old))
        assert set(candidates_of(new)) == {str(graph.target), str(graph.neg_target)}
    assert len(official) == 300


# --- what is drawn --------------------------------------------------------------------------------


def test_random_ids_are_drawn_from_all_numbers_and_from_no_others() -> None:
    examples = made(options_named("paper"), 3, count=60)
    drawn = render_again(examples, RenderOptions(ids="random", num_symbols=40), seed=1)
    names = [one.meta["idx_to_symbol"] for one in drawn]
    assert {name for some in names for name in some} == {str(number) for number in range(40)}
    assert all(len(set(some)) == len(some) for some in names)
    assert len({tuple(some[:3]) for some in names}) > 50  # not the same for every question
    largest = max(len(some) for some in names)
    left_open = render_again(examples, RenderOptions(ids="random"), seed=1)
    used = {name for one in left_open for name in one.meta["idx_to_symbol"]}
    assert used == {str(number) for number in range(largest)}


def test_the_seed_and_an_id_tell_all_that_is_drawn() -> None:
    examples = made(options_named("paper"), 3, count=5)
    options = RenderOptions(ids="random", num_symbols=40, shuffle_edges=True)
    first = render_again(examples, options, seed=1)
    assert render_again(examples[3:], options, seed=1) == first[3:]
    assert all(
        one.question != other.question
        for one, other in zip(first, render_again(examples, options, seed=2), strict=True)
    )
    other = render_again([replace(examples[0], id="other")], options, seed=1)
    assert other[0].question != first[0].question


def test_bytes_of_one_seed_stay_what_they_were() -> None:
    """A change here changes everybody's data: make it on purpose, and say so in the commit."""
    options = RenderOptions(ids="random", num_symbols=9, shuffle_edges=True, separator=False)
    assert anew(IN_WORDS, options).question == "0 6 2 5 8 6 8 0 [Q] 5 6 [R] 8"


def test_shuffling_changes_the_order_of_edges_and_nothing_else() -> None:
    [example] = made(options_named("paper"), 4)
    options = RenderOptions(ids="random")
    kept = anew(example, options, seed=5)
    shuffled = anew(example, replace(options, shuffle_edges=True), seed=5)
    pairs, asked = zip(*(one.question.split("[Q]") for one in (kept, shuffled)), strict=True)
    assert asked[0] == asked[1] and pairs[0] != pairs[1]
    assert sorted(pairs[0].split(" | ")) == sorted(pairs[1].split(" | "))
    assert replace(shuffled, question="") == replace(kept, question="")


# --- what is refused ------------------------------------------------------------------------------


def changed(**changes: Any) -> Callable[[Example], Example]:
    return lambda example: replace(example, **changes)


def without(old: str, new: str = "") -> Callable[[Example], Example]:
    return lambda example: replace(example, question=example.question.replace(old, new))


@pytest.mark.parametrize(
    ("example", "damage", "message"),
    [
        (IN_WORDS, changed(meta={}), "has no 'idx_to_symbol'"),
        (IN_WORDS, changed(steps=("Every lempus is a rorpus.",)), "must be a path from 'root'"),
        (IN_WORDS, changed(steps=("Max is a impus.",)), "along 'edges'"),
        (IN_WORDS, changed(answer="Max is a impus."), "answer must say, .* 'rorpus.' from"),
        (IN_SYMBOLS, changed(answer="4"), "answer must say, .* '2' from word 1 on, got '4'"),
        (IN_SYMBOLS, changed(answer="2 4"), "answer must say, .* '' from word 2 .* '4'"),
        (IN_WORDS, without("Tom is a impus. "), "it states 'Tom is a impus.' 0 times"),
        (IN_WORDS, without("Tom is a impus.", "Tom is a impus. Tom is a impus."), "' 2 times"),
        (IN_WORDS, without("Tom is", "Max is"), "it states 'Max is a impus.', which is no edge"),
        (IN_WORDS, without("Tom is a", "Tom is an"), "'Tom is an impus.', which is no edge"),
        (IN_SYMBOLS, without("1 4 | ", "1 | "), "it states '1 0', which is no edge"),
        (IN_SYMBOLS, without("1 4 | ", "4 1 | "), "it states '4 1', which is no edge"),
        (IN_SYMBOLS, without("1 4 | ", "1 4 "), r"question must .*'\| 0 3 \| .*word 6 on"),
        (IN_JOINED, without("1>4 "), "it states '1 4' 0 times"),
        (IN_JOINED, without("1>4 ", "1>4> "), "'1>4 0>3 .*word 2 on, got '1>4> 0>3"),
        (IN_JOINED, without("1>4 ", "1 4 "), "'1>4 0>3 .* from word 2 on, got '1 4 0>3"),
        (IN_JOINED, without("1>4 ", "1 > 4 "), "'1>4 0>3 .* from word 2 on, got '1 > 4"),
        (IN_JOINED, without("1>4 ", "1>4 | "), r"'0>3 .* from word 3 on, got '\| 0>3"),
        (IN_JOINED, without("[R] 0", "[R] 1"), "'0' from word 9 on, got '1'"),
        (IN_SYMBOLS, without("3 2 | ", "3>2 | "), "'1>4 0>3 .* from word 2 on, got '. 1 4"),
        (IN_WORDS, without("Is Max", "Is Tom"), "impus or rorpus.' from word 19 on, got 'Tom"),
        (IN_SYMBOLS, without("[R] 0", "[R] 1"), "'0' from word 17 on, got '1'"),
        (IN_WORDS, without("a impus or", "a lempus or"), r"\['rorpus', 'impus'\], got \['lempus',"),
        (IN_WORDS, without("a impus or", "a dragon or"), "ask about 'target' and 'neg_target'"),
        (IN_WORDS, without("Is Max a impus or rorpus?", "So?"), "question must end with"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("options", [SYMBOLS, WORDS, JOINED])
def test_an_example_that_contradicts_its_graph_is_named(
    example: Example, damage: Callable[[Example], Example], message: str, options: RenderOptions
) -> None:
    good = replace(example, id="first")
    with pytest.raises(DataError, match=f"example seven: .*{message}"):
        render_again([good, damage(example)], options)


def test_an_edge_that_stands_twice_must_be_told_twice() -> None:
    twice = replace(IN_SYMBOLS, meta=IN_SYMBOLS.meta | {"edges": [*GRAPH["edges"], [1, 4]]})
    with pytest.raises(DataError, match="it states '1 4' 1 times"):
        anew(twice)
    told = anew(replace(twice, question=f"1 4 | {IN_SYMBOLS.question}"), PLAIN)
    assert told.question == "1 4 3 2 1 4 0 3 0 2 [Q] 4 2 [R] 0"
    assert anew(told, JOINED).question == "1>4 3>2 1>4 0>3 0>2 [Q] 4 2 [R] 0"


def test_a_graph_needs_names() -> None:
    larger = replace(made(options_named("paper"), 0)[0], id="large")
    most = len(larger.meta["idx_to_symbol"])
    enough = RenderOptions(ids="random", num_symbols=most)
    assert len(render_again([IN_WORDS, larger], enough)) == 2
    with pytest.raises(
        DataError, match=f"example large: .*{most} nodes, .*--num-symbols {most}\\)"
    ):
        render_again([IN_WORDS, larger], replace(enough, num_symbols=most - 1))


@pytest.mark.parametrize(
    ("num_persons", "num_species", "message"),
    [(17, 38, ""), (18, 2, "18 nodes have no parents"), (2, 39, "39 nodes have parents")],
)
def test_words_have_names_for_so_many_nodes(
    num_persons: int, num_species: int, message: str
) -> None:
    """Persons 0, 1, … all but one point at the first species; the others hang from the first."""
    species = range(num_persons, num_persons + num_species)
    edges = [(person, species[0]) for person in range(num_persons - 1)]
    edges += [(num_persons - 1, node) for node in species[1:]]
    target, distractor, *_ = species
    facts = "".join(f"{a} {b} | " for a, b in edges)
    meta = {"idx_to_symbol": [str(node) for node in range(num_persons + num_species)],
            "edges": edges, "root": 0, "target": target, "neg_target": distractor}  # fmt: skip
    question, answer = f"{facts}[Q] {target} {distractor} [R] 0", str(target)
    example = Example("wide", question, (answer,), answer, meta)
    if not message:
        names = anew(example, WORDS).meta["idx_to_symbol"]
        assert sorted(names) == sorted([*PERSONS, *SPECIES])
        return
    with pytest.raises(DataError, match=f"example wide: ProsQA graph: {message}"):
        anew(example, WORDS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rendering": "runes"}, "rendering must be one of words, symbols, got 'runes'"),
        ({"ids": "lucky"}, "ids must be one of creation, random, got 'lucky'"),
        ({"joined": 0}, "joined must be true or false, got 0"),
        ({"rendering": "words", "joined": True}, "'joined' has no effect with .*'words'"),
        ({"rendering": "words", "joined": False}, "'joined' has no effect with .*'words'"),
        ({"joined": True, "separator": False}, "'separator' has no effect with joined. Leave"),
        ({"ids": "random", "num_symbols": 0}, "num_symbols must be .* at least 1, got 0"),
        ({"num_symbols": 40}, "'num_symbols' has no effect with ids 'creation'"),
        ({"rendering": "words", "separator": False}, "'separator' has no effect with .*'words'"),
        ({"rendering": "words", "ids": "creation"}, "'ids' has no effect"),
        ({"rendering": "words", "num_symbols": 40}, "'num_symbols' has no effect with rendering"),
    ],
)
def test_options_that_are_wrong_or_ignored(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"ProsQA rendering options:\n- {message}"):
        RenderOptions(**values)
    assert RenderOptions(ids="random", num_symbols=1).num_symbols == 1
    assert RenderOptions(joined=False, separator=False).separator is False
    with pytest.raises(RecipeError, match="'separator' has .*\n- 'num_symbols' has"):  # all at once
        RenderOptions(joined=True, separator=True, num_symbols=9)


# --- the command ----------------------------------------------------------------------------------


def run(*tokens: str | Path) -> None:
    data(["render", *map(str, tokens)], exit_on_error=False, result_action="return_value")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two questions in words."""
    path = tmp_path / "in" / "words.jsonl"
    write_examples(path, [IN_WORDS, replace(IN_WORDS, id="eight")])
    return path


def test_the_command_writes_symbols(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(file, "--out", tmp_path / "new" / "symbols.jsonl")
    assert read_examples(tmp_path / "new" / "symbols.jsonl") == [
        IN_SYMBOLS,
        replace(IN_SYMBOLS, id="eight"),
    ]
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  questions  2, in symbols",
        "  steps      2: 2",
        "  nodes      5 to 5",
        "  edges      4 to 4",
        "  names      5, 0 to 4",
    ]


def test_every_choice_reaches_the_file(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    choices = ["--no-separator", "--ids", "random", "--num-symbols", "9", "--seed", "3"]
    options = RenderOptions(separator=False, ids="random", num_symbols=9)
    for flag, is_shuffled in (("--shuffle-edges", True), ("--no-shuffle-edges", False)):
        run(file, "--out", out, *choices, flag, "--overwrite")
        wanted = replace(options, shuffle_edges=is_shuffled)
        assert read_examples(out) == render_again(read_examples(file), wanted, seed=3)
    run(file, "--out", out, "--joined", "--overwrite")
    assert read_examples(out) == [IN_JOINED, replace(IN_JOINED, id="eight")]
    run(out, "--out", out, "--rendering", "words", "--seed", "4", "--overwrite")  # onto itself
    assert [one.id for one in read_examples(out)] == ["seven", "eight"]
    assert [anew(one) for one in read_examples(out)] == [anew(one) for one in read_examples(file)]
    assert "  questions  2, in words\n" in capsys.readouterr().out


def test_a_file_that_exists_is_left_alone_unless_told(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    with pytest.raises(DataError, match="out.jsonl: exists. .*--overwrite"):
        run(file, "--out", out)
    assert out.read_text() == "mine"
    with pytest.raises(DataError, match="is a folder, but --out must be a file"):
        run(file, "--out", tmp_path, "--overwrite")


@pytest.mark.parametrize(
    ("changes", "tokens", "message"),
    [
        ({"steps": ("Max is a impus.",)}, [], "in.jsonl: example eight: its steps must be a path"),
        ({}, ["--ids", "random", "--num-symbols", "4"], "in.jsonl: example seven: its graph has 5"),
        ({}, ["--num-symbols", "9"], "'num_symbols' has no effect with ids"),
        (None, [], "in.jsonl: no such file"),
    ],
)
def test_nothing_is_written_if_anything_is_wrong(
    tmp_path: Path, changes: dict[str, Any] | None, tokens: list[str], message: str
) -> None:
    if changes is not None:
        second = replace(IN_WORDS, id="eight", **changes)
        write_examples(tmp_path / "in.jsonl", [IN_WORDS, second])
    with pytest.raises(LatentcotError, match=message):
        run(tmp_path / "in.jsonl", "--out", tmp_path / "new" / "out.jsonl", *tokens)
    assert not (tmp_path / "new").exists()
