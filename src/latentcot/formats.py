"""The forms in which examples are kept, each read as it is, by what a file holds and not its name.

    JSON Lines        ours: one object a line
    one JSON list     the official ProsQA files
    one JSON object   what the official ProntoQA generator writes
    iCoT text         GSM8k-Aug: question||<<4-2=2>> <<2/.5=4>> #### 4
    hub:NAME:SPLIT    a data set of the Hugging Face hub, or a folder that `datasets` can read

`read_records` turns all of them into the same plain records (question, steps, answer, …);
`examples.py` checks these. docs/data-format.md shows each form.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from latentcot.errors import DataError
from latentcot.parsing import named, one_line, parse_json, shown

HELP = "See docs/data-format.md."
HUB = "hub:"

Record = tuple[str, Any]
"""Where it stands, and what was read there: a dict, if all is well."""


def read_records(source: Path | str) -> Iterator[Record]:
    """Yield every record of a file or of a data set of the hub.

    Raises:
        DataError: It cannot be read, or is in none of the forms above.
    """
    if is_hub(source):
        yield from _hub_records(str(source))
        return
    path = Path(source)
    text = _text_of(path)
    start = text.lstrip()[:1]
    if start == "[":
        records = _parse(text, str(path))
        yield from ((f"{path}:{number}", record) for number, record in enumerate(records))
    elif start == "{" and _is_one_object(text):
        yield from _prontoqa_records(_parse(text, str(path)), path)
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path}:{number}", _line_record(line, f"{path}:{number}", start)


def is_hub(source: Path | str) -> bool:
    """Return whether a source names a data set of the hub."""
    return str(source).startswith(HUB)


def source_hash(source: Path | str) -> str:
    """Return the SHA-256, as hex digits, of a file or of the records of a data set.

    Raises:
        DataError: It cannot be read.
    """
    if is_hub(source):
        digest = hashlib.sha256()
        for _, record in read_records(source):
            digest.update(json.dumps(record, sort_keys=True, default=str).encode())
        return digest.hexdigest()
    try:
        with open(source, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise DataError(f"{source}: cannot be read: {error}.") from None


# --- files ------------------------------------------------------------------------------------


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (OSError, ValueError) as error:  # not UTF-8, or no path at all
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}. {HELP}") from None


def _parse(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON: {error}. {HELP}") from None


def _is_one_object(text: str) -> bool:
    """Tell one object over many lines from JSON Lines, whose first line is whole."""
    first = text.lstrip().split("\n", 1)[0]
    try:
        values = parse_json(first).values()
    except ValueError:
        return '"test_example"' in text
    return any(isinstance(value, dict) and "test_example" in value for value in values)


def _line_record(line: str, where: str, start: str) -> Any:
    if start != "{" and "||" in line:
        return icot_record(line, where)
    return _parse(line, where)


def icot_record(line: str, where: str) -> dict[str, Any]:
    """Read a line `question||step step #### answer`; steps are split at blanks.

    Raises:
        DataError: One of the two marks is missing.
    """
    question, _, rest = line.strip().partition("||")
    chain, mark, answer = rest.rpartition("####")
    if not mark:
        raise DataError(
            f"{where}: has no '####' before its answer, got {line.strip()[:80]!r}. The form is "
            f"question||step step #### answer. {HELP}"
        )
    return {"question": question.strip(), "steps": chain.split(), "answer": answer.strip()}


def _prontoqa_records(examples: Any, path: Path) -> Iterator[Record]:
    """Read what the official generator writes: {"example1": {"test_example": {…}}, …}."""
    if not isinstance(examples, dict):
        raise DataError(f"{path}: must hold an object, got {type(examples).__name__}. {HELP}")
    for name, entry in examples.items():
        where = f"{path}:{named(name)}"
        test = entry.get("test_example") if isinstance(entry, dict) else None
        if not isinstance(test, dict):
            raise DataError(f"{where}: has no object 'test_example'. {HELP}")
        yield where, _prontoqa_record(test, name, where)


def _prontoqa_record(test: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    for key in ("question", "query", "answer"):
        if not isinstance(test.get(key), str):
            got = shown(test.get(key))
            raise DataError(f"{where}: {key!r} must be a string, got {got}. {HELP}")
    chain = test.get("chain_of_thought")
    if not isinstance(chain, list) or not all(isinstance(sentence, str) for sentence in chain):
        raise DataError(f"{where}: 'chain_of_thought' must be a list of strings. {HELP}")
    return {
        "id": name,
        "question": f"{test['question']} {test['query']}",
        "steps": prontoqa_steps(chain),
        "answer": test["answer"],
        "facts": test["question"],
        "query": test["query"],
        "chain_of_thought": chain,
    }


def prontoqa_steps(chain: list[str]) -> list[str]:
    """Return the fact that a chain begins with, then each pair of rule and conclusion as one."""
    pairs = [" ".join(chain[i : i + 2]) for i in range(1, len(chain), 2)]
    return [*chain[:1], *pairs]


# --- the hub ----------------------------------------------------------------------------------


def _hub_records(source: str) -> Iterator[Record]:
    for number, row in enumerate(_hub_rows(source)):
        record = dict(row)
        if "steps" not in record and isinstance(record.get("cot"), str):
            record["steps"] = record.pop("cot").split()
        yield f"{source}:{number}", record


def _hub_rows(source: str) -> Iterable[Any]:
    """Load `hub:NAME:SPLIT` or `hub:NAME:CONFIG:SPLIT`."""
    parts = source.removeprefix(HUB).split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise DataError(
            f"{source}: must be hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT, such as "
            f"hub:whynlp/gsm8k-aug:train. {HELP}"
        )
    import datasets  # takes seconds to import

    try:
        rows: Iterable[Any] = datasets.load_dataset(parts[0], *parts[1:-1], split=parts[-1])
    except Exception as error:  # datasets, its hub and its readers raise many kinds
        cause = error.__cause__ or error  # its own words often tell nothing
        reason = one_line(str(cause)).rstrip(".")
        raise DataError(
            f"{source}: cannot be loaded: {reason or type(cause).__name__}. Give a data "
            f"set of the hub (needs a network or the hub's cache), a folder, or a file. {HELP}"
        ) from None
    return rows
