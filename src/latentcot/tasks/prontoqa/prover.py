"""A small forward-chaining prover for ProntoQA's sentences, official or ours.

It shares nothing with the generator, so that the two check each other. Sentences it can read:

    Each vumpus is a brimpus.     Every impus is not cold.     Vumpuses are not cold.
    Max is a vumpus.              Max is not cold.
    vumpus brimpus.               impus not cold.              Max vumpus.        (short wording)

Only rules whose condition holds are applied: nothing is concluded backwards, and what cannot be
derived is unknown, not false.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from latentcot.errors import DataError
from latentcot.utils.parsing import named, shown

_QUERY_START = "True or false:"
_SENTENCE = re.compile(
    r"(?:(?:Each|Every) (?P<one>[a-z]+) is|(?P<many>[A-Z][a-z]+us)es are"
    r"|(?P<person>[A-Z][a-z]+) is|(?P<short>[A-Za-z]+))"
    r" (?P<no>not )?(?:an? )?(?P<said>[a-z]+)"
)
_NO_NAMES = {"a", "an", "not", "is", "are", "each", "every"}


class Literal(NamedTuple):
    """A concept or property, with whether it holds or its negation does."""

    word: str
    holds: bool


class Statement(NamedTuple):
    """One sentence: what follows for a person, or for every member of a concept."""

    subject: str
    said: Literal

    @property
    def is_fact(self) -> bool:
        """Whether it is about one individual; else it is a rule."""
        return self.subject[0].isupper()


def parse_sentence(sentence: str) -> Statement:
    """Return what a sentence says; its full stop may be missing.

    Raises:
        DataError: It has none of the known forms.
    """
    match = _SENTENCE.fullmatch(sentence.strip().rstrip("."))
    if match is not None:
        subject = match["one"] or match["person"] or match["short"] or match["many"].lower()
        said = match["said"]
        if match["many"] and said.endswith("uses"):
            said = said.removesuffix("es")
        if not {subject.lower(), said} & _NO_NAMES:
            return Statement(subject, Literal(said, match["no"] is None))
    raise DataError(
        f"ProntoQA sentence {shown(sentence)} cannot be read. Allowed are forms such as "
        "'Each vumpus is a brimpus.', 'Vumpuses are not cold.', 'Max is cold.', 'vumpus brimpus.'"
    )


def parse_facts(facts: str) -> list[Statement]:
    """Return what each sentence of a text says, in its order.

    Raises:
        DataError: A sentence has none of the known forms.
    """
    return [parse_sentence(sentence) for sentence in facts.split(".") if sentence.strip()]


def parse_query(query: str) -> Statement:
    """Return what a query, such as "True or false: Max is not cold.", asks about an individual.

    Raises:
        DataError: It cannot be read, or is not about an individual.
    """
    asked = parse_sentence(query.strip().removeprefix(_QUERY_START).removesuffix("?"))
    if not asked.is_fact:
        raise DataError(f"ProntoQA query {shown(query)} must be about an individual, such as Max.")
    return asked


def derive(statements: Iterable[Statement]) -> dict[str, set[Literal]]:
    """Return all that holds for each individual, by applying rules until nothing new comes.

    Raises:
        DataError: For some individual something and its negation follow.
    """
    rules: dict[str, list[Literal]] = {}
    known: dict[str, set[Literal]] = {}
    for subject, said in statements:
        if subject[0].isupper():
            known.setdefault(subject, set()).add(said)
        else:
            rules.setdefault(subject, []).append(said)
    for person, literals in known.items():
        waiting = list(literals)
        while waiting:
            word, holds = waiting.pop()
            new = set(rules.get(word, ()) if holds else ()) - literals
            literals |= new
            waiting += new
        for word, holds in sorted(literals):
            if holds and Literal(word, False) in literals:
                raise DataError(
                    f"ProntoQA facts contradict each other: {named(person)} is {named(word)} and "
                    f"is not {named(word)}."
                )
    return known


def prove(facts: str, query: str) -> bool | None:
    """Return whether the query follows from the facts (True), its negation (False), or neither.

    Raises:
        DataError: A sentence cannot be read, or the facts contradict each other.
    """
    person, (word, holds) = parse_query(query)
    known = derive(parse_facts(facts)).get(person, set())
    if Literal(word, holds) in known:
        return True
    return False if Literal(word, not holds) in known else None
