"""Arithmetic problems in words: one sentence for each move, then the question.

The wording `story` draws from several sentences for each move, says "he" and "she" where only one
person is meant, and may put the last sentence into the question ("If Tom buys 3 more pens, how many
…"). `short` has one sentence for each move (two for comparisons) and always says names.
`templates.yaml` has the sentences.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from latentcot.tasks.arithmetic.problems import Move, Problem, Wording
from latentcot.tasks.arithmetic.steps import FRACTIONS, NUMERALS
from latentcot.utils.parsing import parse_yaml

CONNECTOR_SHARE = 0.3
PRONOUN_SHARE = 0.5
IF_SHARE = 0.2
"""How often the last sentence becomes part of the question."""

THEY = "they"


@cache
def templates() -> dict[str, Any]:
    """Return what `templates.yaml` holds, names as lists; read when it is first needed."""
    found: dict[str, Any] = parse_yaml(
        Path(__file__).with_name("templates.yaml").read_text("utf-8")
    )
    return found | {"men": found["men"].split(), "women": found["women"].split()}


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
    theme: Mapping[str, Any]
    names: Iterator[str]
    holder: str
    other: str = ""
    is_money: bool = False
    is_alone: bool = False


def tell(rng: Random, problem: Problem, wording: Wording) -> str:
    """Return the question of a problem: what happens, then what is asked."""
    known = templates()
    names = iter(rng.sample(known["men"] + known["women"], 1 + len(problem.moves)))
    scene = _Scene(rng, wording, rng.choice(known["themes"]), names, holder=next(names))
    *moves, last = problem.moves
    sentences = [_sentence(scene, move, may_connect=True) for move in moves]
    if last.form == "total":
        return " ".join([*sentences, _ask(scene, "total?")])
    is_joined = wording == "story" and bool(moves) and rng.random() < IF_SHARE
    ending, question = _sentence(scene, last, may_connect=not is_joined), _ask(scene, "?")
    if is_joined and question.startswith("How") and ". " not in ending:
        is_named = ending.split()[0] in known["men"] + known["women"]  # names keep their capitals
        ending = ending if is_named else ending[:1].lower() + ending[1:]
        return " ".join([*sentences, f"If {ending[:-1]}, {question[:1].lower()}{question[1:]}"])
    return " ".join([*sentences, ending, question])


def _sentence(scene: _Scene, move: Move, may_connect: bool) -> str:
    """Put a move into words, and let it change the scene."""
    template = scene.rng.choice(_table(scene)[move.form + move.operation])
    newcomer = next(scene.names) if move.form == "compare" else ""
    text = template.format_map(_words(scene, move.numbers, newcomer))
    may_connect = may_connect and scene.wording == "story" and template.startswith("{S}")
    if may_connect and scene.rng.random() < CONNECTOR_SHARE:
        text = scene.rng.choice(templates()["connectors"]) + text
    scene.is_alone = not newcomer
    if newcomer:
        scene.other, scene.holder = scene.holder, newcomer
    elif move.form == "total":
        scene.holder = THEY
    elif move.form == "sale":
        scene.is_money = True
    return text[:1].upper() + text[1:]


def _ask(scene: _Scene, key: str) -> str:
    return scene.rng.choice(_table(scene)[key]).format_map(_words(scene, (), ""))


def _table(scene: _Scene) -> dict[str, list[str]]:
    money = "money" if scene.is_money else "story"
    table: dict[str, list[str]] = templates()["short" if scene.wording == "short" else money]
    return table


def _words(scene: _Scene, numbers: tuple[int, ...], newcomer: str) -> dict[str, str]:
    """Return what stands in braces in the templates."""
    rng, theme, name = scene.rng, scene.theme, scene.holder
    treat, treats = rng.choice(templates()["treats"])
    if name == THEY:
        words = {"s": "", "es": "", "has": "have", "does": "do", "o": "them"}
        words |= {"S": THEY, "N": THEY, "than": "they do"}
    else:
        is_short_form = scene.wording == "story" and scene.is_alone and rng.random() < PRONOUN_SHARE
        he, him = ("he", "him") if name in templates()["men"] else ("she", "her")
        words = {"s": "s", "es": "es", "has": "has", "does": "does", "N": name, "than": name}
        words |= {"S": he, "o": him} if is_short_form else {"S": name, "o": name}
    if len(numbers) == 2:
        words |= {"a": str(numbers[0]), "b": str(numbers[1])}
    for number in numbers if len(numbers) == 1 else ():
        words["n"] = str(number)
        if number in FRACTIONS:  # multiplied and divided by; the others are bought, lost, …
            spelled = NUMERALS[number] if rng.random() < 0.5 else str(number)
            words["times"] = "twice" if number == 2 else f"{spelled} times"
            words["part"] = FRACTIONS[number]
    return words | {
        "Q": newcomer,
        "A": scene.other,
        "B": scene.holder,
        **{key: theme[key] for key in ("things", "thing", "boxes", "box")},
        "gain": rng.choice(theme["gains"]),
        "loss": rng.choice(theme["losses"]),
        "unit": "coins" if scene.is_money else theme["things"],
        "treat": treat,
        "treats": treats,
    }
