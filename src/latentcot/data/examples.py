"""An example of a task, read from any of the forms in `formats.py`, and written as JSON Lines.

Every record has `question` and `answer`, and `steps` where there is a chain (`fields.py` knows the
names of other data sets); `id` is optional; every other key is kept in `meta`.
docs/data-format.md shows all forms.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from latentcot.data.fields import USUAL, Fields, plain_fields
from latentcot.data.formats import HELP, end_of_place, read_records
from latentcot.errors import DataError, UsageError
from latentcot.utils.files import written_whole
from latentcot.utils.parsing import has_control, named, shown

MAX_ID = 200


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its reasoning.

    Attributes:
        id: Unique name within its file; the line or list number where the file gives none.
        question: What is asked, facts included.
        steps: The reasoning chain, one string a step.
        answer: The answer alone, without any special token.
        meta: Everything else that the file holds, for example ProsQA's graph.
    """

    id: str
    question: str
    steps: tuple[str, ...]
    answer: str
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse one text for steps: it would be split into letters."""
        if isinstance(self.steps, str):
            raise UsageError(
                f"Example: steps must be several texts, got one: {shown(self.steps)}. Put it into "
                "a tuple."
            )


def read_examples(
    path: Path | str, limit: int | None = None, fields: Fields = USUAL
) -> list[Example]:
    """Read all examples of a file, a folder or a data set of the hub (`hub:NAME:SPLIT`), or some.

    Args:
        path: Where they are, in any form of docs/data-format.md.
        limit: Read the first ones only.
        fields: How question, steps and answer are found; by the usual names if left out.

    Raises:
        DataError: The file is missing, empty, malformed (with its line), or an id stands twice.
    """
    examples: list[Example] = []
    seen: dict[str, str] = {}
    end = end_of_place(path)
    for where, record in read_records(path):
        example = example_of(record, where, where.rsplit(end, 1)[-1], fields)
        if example.id in seen:
            raise DataError(
                f"{where}: the id {shown(example.id)} stands at {seen[example.id]} already. "
                f"Ids must be unique among all that is read at a time. {HELP}"
            )
        seen[example.id] = where
        examples.append(example)
        if limit is not None and len(examples) >= limit:
            break
    if not examples:
        raise DataError(f"{path}: holds no example. {HELP}")
    return examples


def write_examples(path: Path | str, examples: Iterable[Example]) -> None:
    """Write examples as JSON Lines, whole or not at all; dates of a table as text.

    Raises:
        DataError: A table's column holds bytes, which JSON has no place for.
    """
    with written_whole(path) as file:
        for example in examples:
            record: dict[str, Any] = {
                "id": example.id,
                "question": example.question,
                "steps": list(example.steps),
                "answer": example.answer,
            }
            record |= {key: value for key, value in example.meta.items() if key not in record}
            file.write(json.dumps(record, ensure_ascii=False, default=_as_text) + "\n")


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        raise DataError("a column of the examples holds bytes, which JSON cannot. Leave it out.")
    if isinstance(value, date | time | Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON serializable")


def example_of(record: Any, where: str, default_id: str, fields: Fields = USUAL) -> Example:
    """Return a record as an example.

    Args:
        record: Of `read_records`.
        where: It stands.
        default_id: For a record without one.
        fields: How question, steps and answer are found in it.

    Raises:
        DataError: It is malformed.
    """
    if not isinstance(record, dict):
        raise DataError(f"{where}: must be an object, got {_kind(record)}. {HELP}")
    try:
        rest = plain_fields(record, fields)
    except ValueError as error:
        raise DataError(f"{where}: {error}. {HELP}") from None
    question, steps, answer = rest.pop("question"), rest.pop("steps"), rest.pop("answer")
    id_ = rest.pop("id", default_id)
    for key, text in (("question", question), ("answer", answer)):
        if not isinstance(text, str) or not text.strip():
            got = "an empty string" if isinstance(text, str) else _kind(text)
            keys = ", ".join(map(named, record)) or "none"
            raise DataError(
                f"{where}: {key!r} must be a string with text in it, got {got}. Its columns are: "
                f"{keys}. Say which one it is: data.columns.{key}: NAME in the recipe, or "
                f"--columns.{key} NAME. {HELP}"
            )
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise DataError(f"{where}: 'steps' must be a list of strings, got {_kind(steps)}. {HELP}")
    if isinstance(id_, float) and id_.is_integer():  # of a table with a gap in this column
        id_ = int(id_)
    if not isinstance(id_, str | int):
        rule = "'id' must be a string or a whole number"
        raise DataError(f"{where}: {rule}, got {_kind(id_)}. {HELP}")
    if len(str(id_)) > MAX_ID or has_control(str(id_)):
        rule = f"'id' must be one line of at most {MAX_ID} characters"
        raise DataError(f"{where}: {rule}, got {shown(id_)}. {HELP}")
    return Example(str(id_), question, tuple(steps), answer, rest)


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list):
        odd = next((item for item in value if not isinstance(item, str)), None)
        return "a list" if odd is None else f"a list with {type(odd).__name__} in it"
    return type(value).__name__
