"""pydantic's problems with a YAML file, in the words of the file: one line for each mistake."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from latentcot.errors import did_you_mean
from latentcot.utils.parsing import named, one_line, shown

MAX_TOLD = 3_000
"""Characters of a message before the rest is only counted."""
MAX_REASON = 600


@dataclass(frozen=True)
class Form:
    """What a file may hold.

    Attributes:
        what: What it is called, with its article: `a recipe`.
        root: Its dataclass.
        unions: Field that takes one thing or another → what it takes.
        inner: Field → the dataclass of its keys, where the field's type does not tell it.
        elsewhere: What others call a key → what stands here in its place.
    """

    what: str
    root: type
    unions: Mapping[str, str]
    inner: Mapping[str, type]
    elsewhere: Mapping[str, str] = field(default_factory=dict)


def explain_all(problems: Sequence[Any], form: Form) -> list[str]:
    """Put pydantic's problems into words, one for each mistake."""
    explained: dict[str, str] = {}
    for problem in problems:
        # pydantic puts the branch that it tried behind the name of a union: that is left out.
        place: list[str] = []
        branch = ""
        for part in problem["loc"]:
            if place and place[-1] in form.unions and not branch and isinstance(part, str):
                branch = part
            else:
                place.append(named(part))
        # What a branch says of a value inside a union is no other branch's business.
        is_inside = not branch or place[-1] not in form.unions
        where = ".".join(place)
        if is_inside or where not in explained:
            if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
                owner: Any = form.root
                for part in place[:-1]:
                    if part in form.inner:
                        owner = form.inner[part]
                    elif dataclasses.is_dataclass(owner):
                        kinds = {f.name: f.type for f in dataclasses.fields(owner)}
                        owner = kinds.get(part, owner)
                fields = dataclasses.fields(owner) if dataclasses.is_dataclass(owner) else ()
                allowed = [one.name for one in fields]
                keys = f"There are: {', '.join(allowed)}." if allowed else "There are none."
                ours = form.elsewhere.get(place[-1])
                meant = f" Here it is {ours}." if ours else did_you_mean(place[-1], allowed)
                told = f"is not a key of {form.what}.{meant} {keys}"
            elif problem["type"] == "missing":
                told = "is missing."
            elif not is_inside:
                told = f"must be {form.unions[place[-1]]}, got {shown(problem['input'])}."
            else:
                message = one_line(problem["msg"].removeprefix("Value error, "), MAX_REASON)
                is_told = problem["type"] == "value_error"  # the value too
                got = "" if is_told else f", got {shown(problem['input'])}."
                told = f"{message[0].lower()}{message[1:]}{got}"
            names_place = told.startswith((f"{where}.", f"{where}: "))  # as errors of methods do
            explained[where] = told if names_place else f"{where}: {told}"
    # A value inside a union is complained about by its other branch too, for the whole of it.
    inner = {where.rpartition(".")[0] for where in explained}
    return [
        text
        for where, text in explained.items()
        if not (where.rpartition(".")[2] in form.unions and where in inner)
    ]


def listed(where: str, problems: Sequence[str]) -> str:
    """Return one message for all problems of a file."""
    if len(problems) == 1:
        return f"{where}: {problems[0]}"
    lines = [f"{where}: {len(problems)} problems", *(f"  - {p}" for p in problems)]
    return "\n".join(at_most(lines, "  and {} more"))


def at_most(lines: Sequence[str], rest: str) -> list[str]:
    """Return the first lines, MAX_TOLD characters of them, and how many are left out."""
    ends = list(accumulate(map(len, lines)))
    num_told = max(1, sum(end <= MAX_TOLD for end in ends))
    left = len(lines) - num_told
    return [*lines[:num_told], *([rest.format(left)] if left > 0 else [])]
