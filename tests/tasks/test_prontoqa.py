"""ProntoQA: sound by an independent prover, of the official form, and what gives it away.

The official form has a shortcut, and we reproduce it: of the two concepts with the property asked
about, only the right one is named by another sentence (in all 60 official examples). With
`decoy="twin"` rules and query carry no information about the answer: the individual is put at one
of two chains of equal shape, and at the other one everything else would be the same, word for word.
That is asserted exactly.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcot.data.examples import Example, read_examples
from latentcot.errors import DataError, RecipeError
from latentcot.tasks.prontoqa import generator as prontoqa
from latentcot.tasks.prontoqa.generator import (
    CONCEPTS,
    PERSONS,
    PROPERTY_FAMILIES,
    ProntoqaOptions,
    draw_ontology,
    make_splits,
    official_json,
    render,
    write_official,
)
from latentcot.tasks.prontoqa.prover import (
    Literal,
    Statement,
    parse_facts,
    parse_query,
    parse_sentence,
    prove,
)
from latentcot.tasks.prontoqa.stats import prontoqa_stats

OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "prontoqa_5hop_sample.json"
needs_official = pytest.mark.skipif(not OFFICIAL.exists(), reason=f"{OFFICIAL} is not here")

SEEDS = st.integers(0, 2**32)
OPTIONS = st.sampled_from(
    [
        ProntoqaOptions(),
        ProntoqaOptions(hops=6, min_hops=1, negation=False),
        ProntoqaOptions(hops=3, distractors=3, order="forward"),
        ProntoqaOptions(hops=1, distractors=0, num_concepts=4),
        ProntoqaOptions(decoy="twin", num_concepts=30),
        ProntoqaOptions(hops=4, decoy="twin", distractors=0, order="forward", wording="short"),
        ProntoqaOptions(hops=17, distractors=0, min_hops=15, wording="short"),
    ]
)


@cache
def made(number: int, **options: object) -> list[Example]:
    return make_splits(ProntoqaOptions(**options), {"test": number}, seed=1)["test"]  # type: ignore[arg-type]


# --- what every example must be -------------------------------------------------------------------


@settings(max_examples=150)
@given(options=OPTIONS, seed=SEEDS)
def test_every_example_is_sound(options: ProntoqaOptions, seed: int) -> None:
    for example in make_splits(options, {"test": 2}, seed)["test"]:
        assert_sound(example)
        hops = len(example.steps) - 1
        assert example.meta["num_hops"] == hops
        assert (options.min_hops or options.hops) <= hops <= options.hops
        said = parse_facts(example.meta["facts"])
        words = {word for one in said for word in (one.subject, one.said.word)}
        names = set(CONCEPTS[: options.concepts_drawn_from])
        assert words & set(CONCEPTS) <= names
        assert len(words & names) == options.num_concepts_needed(hops)
        properties = words - names - set(PERSONS)
        assert len(properties) == options.num_properties_needed(hops)
        asked = parse_query(example.meta["query"]).said.word
        negated = {one.said.word for one in said if not one.said.holds}
        assert asked in negated
        assert options.negation or negated == {asked}


@needs_official
def test_the_official_file_is_sound_by_the_same_rules() -> None:
    for example in read_examples(OFFICIAL):
        assert_sound(example)


def assert_sound(example: Example) -> None:
    """The prover derives the answer, and each step of the chain follows from the one before."""
    facts, query = example.meta["facts"], example.meta["query"]
    assert example.question == f"{facts} {query}"
    assert str(prove(facts, query)) == example.answer  # a contradiction would be an error
    chain = example.meta["chain_of_thought"]
    pairs = list(zip(chain[1::2], chain[2::2], strict=True))
    assert list(example.steps) == [chain[0], *(" ".join(pair) for pair in pairs)]
    sentences = [f"{one}." for one in facts.removesuffix(".").split(". ")]
    assert chain[0] in sentences[-2:]
    now = parse_sentence(chain[0])
    for rule, conclusion in pairs:
        assert sentences.count(rule) == 1
        premise, said = parse_sentence(rule)
        assert now.said == Literal(premise, True)
        now = parse_sentence(conclusion)
        assert now == Statement(parse_query(query).subject, said)
    asked = parse_query(query)
    assert now.said.word == asked.said.word
    assert str(now == asked) == example.answer
    statements = parse_facts(facts)
    assert len(set(statements)) == len(statements)
    assert [one.is_fact for one in statements[-3:]] == [False, True, True]


# --- the official form ----------------------------------------------------------------------------


def shape(example: Example) -> Counter[tuple[int, int, int]]:
    """For each concept: concepts it is, concepts and individuals that are it, its properties."""
    said = parse_facts(example.meta["facts"])
    concepts = {word for one in said for word in (one.subject, one.said.word)} & set(CONCEPTS)
    return Counter(
        (
            sum(one.subject == concept and one.said.word in CONCEPTS for one in said),
            sum(one.said.word == concept for one in said),
            sum(one.subject == concept and one.said.word not in CONCEPTS for one in said),
        )
        for concept in concepts
    )


def profile(examples: Sequence[Example]) -> dict[str, float]:
    """Return how the sentences are worded and ordered, in shares and means."""
    rules = [one for e in examples for one in e.meta["facts"].rstrip(".").split(". ")[:-2]]
    said = [parse_sentence(rule) for rule in rules]
    chains = [(e.meta["facts"], e.meta["chain_of_thought"][1::2]) for e in examples]
    places = [[facts.index(rule) for rule in rules_of_it] for facts, rules_of_it in chains]
    return {
        "plural": fmean(" are " in rule for rule in rules),
        "each": fmean(rule.startswith("Each ") for rule in rules),
        "negated": fmean(not one.said.holds for one in said),
        "concept": fmean(one.said.word in CONCEPTS for one in said),
        "characters": fmean(len(e.question) for e in examples) / 1_000,
        "chain characters": fmean(len(" ".join(e.steps)) for e in examples) / 1_000,
        "forward": fmean(a < b for row in places for a, b in pairwise(row)),
        "neighbours": fmean(a.subject == b.subject for a, b in pairwise(said)),
        "true": fmean(e.answer == "True" for e in examples),
        "query negated": fmean(" not " in e.meta["query"] for e in examples),
        "root told first": fmean(e.question.count(e.steps[0] + " True or") == 0 for e in examples),
    }


@needs_official
def test_shape_is_that_of_the_official_file() -> None:
    shapes = [shape(example) for example in [*read_examples(OFFICIAL), *made(100)]]
    assert all(one == shapes[0] for one in shapes)
    assert sum(shapes[0].values()) == ProntoqaOptions().num_concepts_needed(5) == 14


@needs_official
def test_wording_is_that_of_the_official_file() -> None:
    official, ours = profile(read_examples(OFFICIAL)), profile(made(1_000))
    few = {"root told first", "query negated", "forward"}  # one or four draws an example, not 23
    for name, value in official.items():
        assert ours[name] == pytest.approx(value, abs=0.2 if name in few else 0.035), name


@needs_official
def test_names_are_those_of_the_official_file() -> None:
    said = [one for e in read_examples(OFFICIAL) for one in parse_facts(e.meta["facts"])]
    words = {word for one in said for word in (one.subject, one.said.word)}
    properties = {word for family in PROPERTY_FAMILIES for word in family}
    assert len(CONCEPTS) == 38
    assert words == {*PERSONS, *CONCEPTS[:17], *properties}
    assert len(properties) == sum(map(len, PROPERTY_FAMILIES)) == 45


def test_only_the_property_asked_about_shares_its_family() -> None:
    family_of = {word: family for family in PROPERTY_FAMILIES for word in family}
    for example in made(50):
        said = [one.said.word for one in parse_facts(example.meta["facts"])]
        used = Counter(family_of[word] for word in said if word in family_of)
        asked = parse_query(example.meta["query"]).said.word
        assert used.pop(family_of[asked]) == 2
        assert set(used.values()) == {1} and len(used) == 10


# --- nothing tells the answer ---------------------------------------------------------------------


@pytest.mark.parametrize("decoy", ["lone", "twin"])
@pytest.mark.slow
def test_the_query_says_nothing_about_the_answer(decoy: str) -> None:
    found = prontoqa_stats(made(900, decoy=decoy))
    assert found.share_true == 0.5  # of each two examples, one
    for share in (
        found.share_query_negated,
        found.share_true_if_negated,
        found.share_true_if_plain,
        found.accuracy_later_rule,
    ):
        assert abs(share - 0.5) < 0.06  # 3 to 4 standard deviations
    assert found.accuracy_named_elsewhere == {"lone": 1, "twin": 0.5}[decoy]


def test_true_and_false_do_not_alternate() -> None:
    answers = [example.answer for example in made(1_000)]
    assert all(
        {a, b} == {"True", "False"} for a, b in zip(answers[::2], answers[1::2], strict=True)
    )
    assert abs(fmean(answer == "True" for answer in answers[::2]) - 0.5) < 0.1


@settings(max_examples=80)
@given(hops=st.integers(1, 5), order=st.sampled_from(["random", "forward"]), seed=SEEDS)
def test_with_a_twin_only_the_place_of_the_individual_decides(
    hops: int, order: str, seed: int
) -> None:
    options = ProntoqaOptions(hops=hops, decoy="twin", order=order)  # type: ignore[arg-type]
    true, false = (
        render(rng, draw_ontology(rng, options, answer), options, id="x")
        for answer in (True, False)
        for rng in [random.Random(seed)]
    )
    assert true.meta["query"] == false.meta["query"]
    assert (true.answer, false.answer) == ("True", "False")
    roots = true.steps[0], false.steps[0]
    assert roots[0] != roots[1]
    assert true.meta["facts"].replace(*roots) == false.meta["facts"]


def test_sentences_stand_in_random_order() -> None:
    found = profile(made(1_000))
    assert abs(found["forward"] - 0.5) < 0.03
    assert abs(found["root told first"] - 0.5) < 0.06
    assert profile(made(50, order="forward"))["forward"] == 1


# --- splits ---------------------------------------------------------------------------------------


def test_splits_share_no_ontology(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prontoqa, "PERSONS", ("Max",))
    monkeypatch.setattr(prontoqa, "PROPERTY_FAMILIES", (("hot",), ("shy",)))
    options = ProntoqaOptions(hops=1, distractors=0, num_concepts=4, negation=False)
    # 4! names in four roles, 2 properties asked about, on the chain negated or not.
    splits = make_splits(options, {"train": 60, "valid": 16, "test": 20}, seed=0)
    said = {frozenset(parse_facts(one.meta["facts"])) for split in splits.values() for one in split}
    assert len(said) == 96
    with pytest.raises(DataError, match="after 96 different ontologies .* but 97 are asked for"):
        make_splits(options, {"train": 80, "test": 17}, seed=0)


def test_hops_are_mixed_evenly() -> None:
    found = prontoqa_stats(made(900, hops=3, min_hops=1))
    assert list(found.hop_histogram) == [1, 2, 3]
    assert all(abs(count - 300) < 60 for count in found.hop_histogram.values())


# --- the official file ----------------------------------------------------------------------------


def test_official_form_round_trip(tmp_path: Path) -> None:
    examples = made(12)
    path = tmp_path / "5hop.json"
    write_official(path, examples)
    back = read_examples(path)
    assert [one.id for one in back] == [f"example{number}" for number in range(1, 13)]
    for ours, read in zip(examples, back, strict=True):
        assert (read.question, read.steps, read.answer) == (ours.question, ours.steps, ours.answer)
    assert official_json(back) == official_json(examples)
    assert list(official_json(examples)["example1"]["test_example"]) == [
        "question",
        "query",
        "chain_of_thought",
        "answer",
    ]


@needs_official
def test_the_official_file_comes_back_as_it_was(tmp_path: Path) -> None:
    write_official(tmp_path / "copy.json", read_examples(OFFICIAL))
    assert (tmp_path / "copy.json").read_text().rstrip() == OFFICIAL.read_text().rstrip()
    assert official_json(read_examples(OFFICIAL)) == json.loads(OFFICIAL.read_text())


def test_an_example_of_another_task_is_refused() -> None:
    with pytest.raises(DataError, match="example x: is not ProntoQA: .* got NoneType and NoneType"):
        official_json([Example("x", "Why?", (), "So.")])
    half = Example("x", "Why?", (), "True", {"facts": "Max is hot.", "query": "Max is hot."})
    with pytest.raises(DataError, match="example x: 'chain_of_thought' must be a list"):
        official_json([half])


# --- statistics -----------------------------------------------------------------------------------


@needs_official
def test_statistics_of_the_official_file() -> None:
    found = prontoqa_stats(read_examples(OFFICIAL))
    assert (found.num_examples, found.hop_histogram, found.share_proved) == (60, {5: 60}, 1)
    assert (found.sentences.mean, found.sentences.sd) == (25, 0)
    assert (found.concepts.mean, found.concepts.sd) == (14, 0)
    assert found.share_true == found.share_true_if_negated == found.share_true_if_plain == 0.5
    assert found.share_query_negated == pytest.approx(28 / 60)
    assert found.share_rules_negated == pytest.approx(241 / (60 * 23))
    assert found.accuracy_later_rule == pytest.approx(32 / 60)
    assert found.accuracy_named_elsewhere == 1


def test_statistics_of_questions_without_a_rule() -> None:
    meta = {"facts": "Max is a vumpus.", "query": "True or false: Max is a vumpus."}
    asked = Example("1", " ".join(meta.values()), ("Max is a vumpus.",), "True", meta)
    found = prontoqa_stats([asked])
    assert (found.share_rules_negated, found.share_proved) == (0, 1)


def test_statistics_name_the_example_that_is_wrong() -> None:
    with pytest.raises(DataError, match="there is no example"):
        prontoqa_stats([])
    [good] = made(1)
    changes = {
        "answer must be 'True' or 'False', got 'Yes'": replace(good, answer="Yes"),
        "cannot be read": replace(good, meta=good.meta | {"facts": "Max sleeps well at night."}),
        "is not ProntoQA": replace(good, meta={}),
    }
    for message, wrong in changes.items():
        with pytest.raises(DataError, match=f"example test-0: .*{message}"):
            prontoqa_stats([wrong])
    turned = replace(good, answer=str(good.answer != "True"))
    assert prontoqa_stats([good, turned]).share_proved == 0.5


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "backward"}, "order must be one of random, forward, got 'backward'"),
        ({"min_hops": 6}, "min_hops must not be above hops, got 6 and 5"),
        ({"num_concepts": 13}, "num_concepts must be from 14, the largest example, to 38, got 13"),
        ({"num_concepts": 39}, "to 38, got 39"),
        ({"hops": 9, "decoy": "twin"}, "38 names for concepts, but an example would need 40"),
        ({"hops": 36, "distractors": 0}, "would need 39"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        ProntoqaOptions(**options)  # type: ignore[arg-type]
