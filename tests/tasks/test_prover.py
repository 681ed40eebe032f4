"""The prover of ProntoQA's sentences on cases worked out by hand.

tests/tasks/test_prontoqa.py has it derive the answers of the official file and of our own data.
"""

import pytest

from latentcot.errors import DataError
from latentcot.tasks.prontoqa.prover import derive, parse_facts, parse_sentence, prove


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Each vumpus is a brimpus.", ("vumpus", ("brimpus", True))),
        ("Every grimpus is an impus.", ("grimpus", ("impus", True))),
        ("Every impus is not cold.", ("impus", ("cold", False))),
        ("Vumpuses are lempuses.", ("vumpus", ("lempus", True))),
        ("Impuses are not cold.", ("impus", ("cold", False))),
        ("Max is an impus.", ("Max", ("impus", True))),
        ("Max is not a vumpus.", ("Max", ("vumpus", False))),
        ("Max is cold", ("Max", ("cold", True))),
        ("vumpus brimpus.", ("vumpus", ("brimpus", True))),
        ("Max not cold.", ("Max", ("cold", False))),
    ],
)
def test_sentences_are_read(sentence: str, expected: tuple[str, tuple[str, bool]]) -> None:
    assert parse_sentence(sentence) == expected


@pytest.mark.parametrize(
    "sentence",
    ["", "Max.", "Max is.", "Max is a.", "Each vumpus.", "All vumpuses are cold.",
     "Vumpuses are not.", "If Max is cold, Max is a vumpus.", "Is Max cold", "each vumpus is cold"],
)  # fmt: skip
def test_other_sentences_are_refused(sentence: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        parse_sentence(sentence)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("True or false: Max is cold.", False),
        ("True or false: Max is not cold.", True),
        ("Max not cold?", True),
        ("True or false: Max is a rompus.", True),
        ("True or false: Max is hot.", None),  # only what is no rompus is hot
        ("True or false: Max is a jompus.", None),  # rules do not work backwards
        ("True or false: Sam is blue.", True),
        ("True or false: Sam is cold.", None),
        ("True or false: Rex is cold.", None),  # nothing is known about Rex
    ],
)
def test_prover_on_a_case_worked_out_by_hand(query: str, expected: bool | None) -> None:
    facts = (
        "Each vumpus is a rompus. Rompuses are not cold. Jompuses are rompuses. Each zumpus is hot."
        " Every rompus is not a zumpus. Every impus is blue. Max is a vumpus. Sam is an impus."
    )
    assert prove(facts, query) is expected


def test_circles_of_rules_end() -> None:
    said = parse_facts("vumpus rompus. rompus vumpus. rompus cold. Max rompus.")
    assert derive(said) == {"Max": {("rompus", True), ("vumpus", True), ("cold", True)}}


def test_contradictions_are_errors() -> None:
    facts = "Each vumpus is cold. Rompuses are not cold. Vumpuses are rompuses."
    assert prove(f"{facts} Max is a rompus.", "True or false: Max is cold.") is False
    with pytest.raises(DataError, match="contradict each other: Max is cold and is not cold"):
        prove(f"{facts} Max is a vumpus.", "True or false: Max is cold.")


def test_a_query_about_a_concept_is_refused() -> None:
    with pytest.raises(DataError, match="must be about an individual"):
        prove("Max is a vumpus.", "True or false: Each vumpus is cold.")
