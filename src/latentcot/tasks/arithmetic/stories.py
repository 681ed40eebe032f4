"""Arithmetic problems in words: one sentence for each move, then the question.

The wording `story` draws from several sentences for each move, says "he" and "she" where only one
person is meant, and may put the last sentence into the question ("If Tom buys 3 more pens, how many
…"). `short` has one sentence for each move (two for comparisons) and always says names.
`arithmetic_templates.py` has the sentences.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from latentcot.tasks.arithmetic.options import Wording
from latentcot.tasks.arithmetic.problems import Move, Problem
from latentcot.tasks.arithmetic.steps import FRACTIONS, NUMERALS
from latentcot.tasks.arithmetic.templates import (
    CONNECTORS,
    MEN,
    MONEY,
    SHORT,
    STORY,
    THEMES,
    TREATS,
    WOMEN,
    Table,
    Theme,
)

CONNECTOR_SHARE = 0.3
PRONOUN_SHARE = 0.5
IF_SHARE = 0.2
"""How often the last sentence becomes part of the question."""

THEY = "they"


@dataclass
class _Scene:
    """Who has the number, and of what, while a story is told.

    Attributes:
        rng: Draws the words.
        wording: Which sentences there are.
        theme: What it is about.
        names: Persons who have not come in yet.
        holder: Whose number the running one is: a name, or `THEY`.
        other: Who held it before the last comparison.
        is_money: Whether the things were sold.
        is_alone: Whether the last sentence was about the holder and no one else.
    """

    rng: Random
    wording: Wording
    theme: Theme
    names: Iterator[str]
    holder: str
    other: str = ""
    is_money: bool = False
    is_alone: bool = False


def tell(rng: Random, problem: Problem, wording: Wording) -> str:
    """Return the question of a problem: what happens, then what is asked."""
    names = iter(rng.sample(MEN + WOMEN, 1 + len(problem.moves)))
    scene = _Scene(rng, wording, rng.choice(THEMES), names, holder=next(names))
    *moves, last = problem.moves
    sentences = [_sentence(scene, move, may_connect=True) for move in moves]
    if last.form == "total":
        return " ".join([*sentences, _ask(scene, "total?")])
    is_joined = wording == "story" and bool(moves) and rng.random() < IF_SHARE
    ending, question = _sentence(scene, last, may_connect=not is_joined), _ask(scene, "?")
    if is_joined and question.startswith("How") and ". " not in ending:
        joined = f"If {_uncapitalised(ending[:-1])}, {_uncapitalised(question)}"
        return " ".join([*sentences, joined])
    return " ".join([*sentences, ending, question])


def _sentence(scene: _Scene, move: Move, may_connect: bool) -> str:
    """Put a move into words, and let it change the scene."""
    template = scene.rng.choice(_table(scene)[move.form + move.operation])
    newcomer = next(scene.names) if move.form == "compare" else ""
    text = template.format_map(_words(scene, move.numbers, newcomer))
    may_connect = may_connect and scene.wording == "story" and template.startswith("{S}")
    if may_connect and scene.rng.random() < CONNECTOR_SHARE:
        text = scene.rng.choice(CONNECTORS) + text
    _go_on(scene, move, newcomer)
    return _capitalised(text)


def _go_on(scene: _Scene, move: Move, newcomer: str) -> None:
    scene.is_alone = not newcomer
    if newcomer:
        scene.other, scene.holder = scene.holder, newcomer
    elif move.form == "total":
        scene.holder = THEY
    elif move.form == "sale":
        scene.is_money = True


def _ask(scene: _Scene, key: str) -> str:
    return scene.rng.choice(_table(scene)[key]).format_map(_words(scene, (), ""))


def _table(scene: _Scene) -> Table:
    if scene.wording == "short":
        return SHORT
    return MONEY if scene.is_money else STORY


# --- words ------------------------------------------------------------------------------------


def _words(scene: _Scene, numbers: tuple[int, ...], newcomer: str) -> dict[str, str]:
    """Return what stands in braces in the templates."""
    treat, treats = scene.rng.choice(TREATS)
    theme = scene.theme
    things = "coins" if scene.is_money else theme.things
    return {
        **_holder_words(scene),
        **_number_words(scene.rng, numbers),
        "Q": newcomer,
        "A": scene.other,
        "B": scene.holder,
        "things": theme.things,
        "thing": theme.thing,
        "boxes": theme.boxes,
        "box": theme.box,
        "gain": scene.rng.choice(theme.gains),
        "loss": scene.rng.choice(theme.losses),
        "unit": things,
        "treat": treat,
        "treats": treats,
    }


def _holder_words(scene: _Scene) -> dict[str, str]:
    name = scene.holder
    if name == THEY:
        plural = {"s": "", "es": "", "has": "have", "does": "do", "o": "them"}
        return plural | {"S": THEY, "N": THEY, "than": "they do"}
    he, him = ("he", "him") if name in MEN else ("she", "her")
    is_short_form = (
        scene.wording == "story" and scene.is_alone and scene.rng.random() < PRONOUN_SHARE
    )
    return {
        "S": he if is_short_form else name,
        "N": name,
        "than": name,
        "o": him if is_short_form else name,
        "s": "s",
        "es": "es",
        "has": "has",
        "does": "does",
    }


def _number_words(rng: Random, numbers: tuple[int, ...]) -> dict[str, str]:
    if len(numbers) == 2:
        return {"a": str(numbers[0]), "b": str(numbers[1])}
    if not numbers:
        return {}
    number = numbers[0]
    words = {"n": str(number)}
    if number in FRACTIONS:  # multiplied and divided by; the others are bought, lost, …
        spelled = NUMERALS[number] if rng.random() < 0.5 else str(number)
        words["times"] = "twice" if number == 2 else f"{spelled} times"
        words["part"] = FRACTIONS[number]
    return words


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _uncapitalised(text: str) -> str:
    """Return a sentence as it stands within another one: names keep their capitals."""
    return text if text.split()[0] in MEN + WOMEN else text[:1].lower() + text[1:]
