"""The forms in which examples are kept, each read as it is, by what a file holds and not its name.

    JSON Lines        ours: one object a line
    one JSON list     the official ProsQA files
    one JSON object   what the official ProntoQA generator writes
    iCoT text         GSM8k-Aug: question||<<4-2=2>> <<2/.5=4>> #### 4
    CSV, TSV          a table whose first line names its columns
    Parquet           a table
    any of these, compressed by gzip; a folder or a pattern of such files
    hub:NAME:SPLIT    a data set of the Hugging Face hub, or a folder that `datasets` can read
    a name of named.py, such as gsm-hard, or that name with a file: gsm-hard=FILE

`read_records` turns all of them into the same plain records (question, steps, answer, …);
`examples.py` checks these. docs/data-format.md shows each form.
"""

import csv
import glob
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from latentcot.data.fields import ANSWERS, QUESTIONS
from latentcot.data.named import NAMED, asked, file_of, place_of, reader_of
from latentcot.errors import DataError, did_you_mean
from latentcot.utils.display import say
from latentcot.utils.network import use_cache_if_unreachable
from latentcot.utils.parsing import could_be_on_hub, named, one_line, parse_json, shown

HELP = "See docs/data-format.md."
HUB = "hub:"
NOTE = "data.json"
"""What `latentcot data make` writes next to its files."""

Record = tuple[str, Any]
"""Where it stands, and what was read there: a dict, if all is well."""


def read_records(source: Path | str) -> Iterator[Record]:
    """Yield every record of a file or of a data set of the hub.

    Raises:
        DataError: It cannot be read, or is in none of the forms above.
    """
    read = reader_of(source)
    if is_hub(source):
        records: Iterable[Record] = (
            (f"{source}:{number}", dict(row)) for number, row in enumerate(hub_table(str(source)))
        )
    else:
        records = (one for path in files_of(source) for one in _file_records(path))
    yield from ((where, read(record)) for where, record in records)


def _file_records(path: Path) -> Iterator[Record]:
    content = _content(path)
    if content.startswith(b"PAR1"):
        from pyarrow import ArrowException, BufferReader, parquet  # type: ignore[import-untyped]

        try:
            rows = parquet.read_table(BufferReader(content)).to_pylist()
        except (ArrowException, OSError) as error:
            reason = one_line(str(error))
            raise DataError(f"{path}: cannot be read as Parquet: {reason}.") from None
        yield from ((f"{path}:{number}", row) for number, row in enumerate(rows))
        return
    try:
        text = content.decode("utf-8-sig")
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}. {HELP}") from None
    if "\n" not in text and "\r" in text:  # the line ends of an old Mac
        text = text.replace("\r", "\n")
    start = text.lstrip()[:1]
    if is_table(text, path.suffix):
        yield from _table_records(path, text)
    elif start == "[":
        for number, record in enumerate(_parse(text, str(path))):
            yield f"{path}:{number}", record
    elif start == "{" and is_one_object(text):
        yield from _prontoqa_records(_parse(text, str(path)), path)
    else:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path}:{number}", line_record(line, f"{path}:{number}", start)


def is_hub(source: Path | str) -> bool:
    """Return whether a source names a data set of the hub, or a named one without a file."""
    one = asked(source)
    return str(source).startswith(HUB) if one is None else one.path is None


def path_of(source: Path | str) -> Path:
    """Return where a source lies that is none of the hub."""
    return Path(place_of(source))


def files_of(source: Path | str) -> list[Path]:
    """Return a file, or the files of a folder or of a pattern such as `data/part-*.jsonl`.

    In a folder all but `data.json` and those whose names begin with a dot or a `_` count.

    Raises:
        DataError: There is none.
    """
    path = path_of(source)
    if path.is_dir():
        names = (one for one in path.iterdir() if one.name[0] not in "._" and one.name != NOTE)
        found, problem = [one for one in names if one.is_file()], f"{source}: has no files."
    elif is_pattern(source):
        names = (Path(one) for one in glob.glob(str(path), recursive=True))
        found, problem = [one for one in names if one.is_file()], f"no file matches {source}."
    else:
        return [path]
    if not found:
        raise DataError(problem)
    return sorted(found)


def is_pattern(source: Path | str) -> bool:
    """Return whether a source stands for several files by `*`, `?` or `[…]`."""
    path = path_of(source)
    return glob.has_magic(str(path)) and not path.exists()


def end_of_place(source: Path | str) -> str:
    """Return behind what a place, `FOLDER/FILE:LINE`, tells examples of a source apart.

    In one file a line's number does, in several its file as well. It becomes an example's id.
    """
    return "/" if is_several(source) else ":"


def is_several(source: Path | str) -> bool:
    """Return whether a source is a folder or a pattern of files."""
    return not is_hub(source) and (path_of(source).is_dir() or is_pattern(source))


def source_hash(source: Path | str, *, is_streamed: bool = False) -> str:
    """Return the SHA-256, as hex digits, of a file, of several, or of the records of a data set.

    Of the whole file, also of one that is streamed: a part would not tell that a line was changed.

    Args:
        source: A file, a folder or pattern of files, or a data set of the hub.
        is_streamed: Whether a data set of the hub is too large to be loaded. Then the hash is of
            the list of its files with their versions.

    Raises:
        DataError: It cannot be read.
    """
    if is_hub(source) and is_streamed:
        name, *config, split = place_of(source).removeprefix(HUB).split(":")
        hub_table(str(source), streaming=True)  # says what is wrong, if it is
        import datasets

        # Which files it has now, and what the hub says of their versions.
        files = datasets.load_dataset_builder(name, *config).config.data_files
        parts = [files[part.strip()] for part in split.split("+")]
        listing = json.dumps(
            [one for part in parts for one in (list(map(str, part)), part.origin_metadata)]
        )
        return hashlib.sha256(listing.encode()).hexdigest()
    if is_hub(source):
        digest = hashlib.sha256()
        for _, record in read_records(source):
            digest.update(json.dumps(record, sort_keys=True, default=str).encode())
        return digest.hexdigest()
    paths = files_of(source)
    if paths == [path_of(source)]:
        return _file_hash(paths[0])
    listed = "".join(f"{_file_hash(path)}  {path.name}\n" for path in paths)
    return hashlib.sha256(listed.encode()).hexdigest()


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}.") from None


# --- files ------------------------------------------------------------------------------------


def _content(path: Path) -> bytes:
    """Return the bytes of a file, unpacked; say where they are not those that were made."""
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: is no regular file. Give a file of examples. {HELP}")
        content = path.read_bytes()
        _compare_with_note(path, content)
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except FileNotFoundError:
        raise DataError(f"{one_line(str(path))}: no such file.{instead_of(path)}") from None
    except (OSError, ValueError, EOFError, zlib.error) as error:  # of gzip; or no path at all
        raise DataError(f"{one_line(str(path))}: cannot be read: {error}. {HELP}") from None


def instead_of(path: Path | str) -> str:
    """Return what may be meant by a file that is not there: a named data set, or one of the hub."""
    on_hub = could_be_on_hub(path) and str(path).count("/") == 1 and not Path(path).suffix
    hint = f" A data set of the hub is written hub:{path}:SPLIT." if on_hub else ""
    return did_you_mean(str(path), NAMED) or hint


def _compare_with_note(path: Path, content: bytes) -> None:
    """Say where a file is not the one that `latentcot data make` wrote next to its note."""
    try:
        digests = parse_json((path.parent / NOTE).read_text(encoding="utf-8"))["sha256"]
        expected = digests.get(path.name)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return  # none, or of something else
    if expected is not None and hashlib.sha256(content).hexdigest() != expected:
        say(
            f"Note: {path} has changed since {path.parent / NOTE} was written: its hash is another "
            "one. Make the data again, or delete the note if the change was meant."
        )


def is_table(text: str, ending: str) -> bool:
    """Return whether the first line names the columns of a table, one of them a question.

    One that is called a table is told what its columns lack.
    """
    first = text.lstrip("\n\r").split("\n", 1)[0]
    if first.lstrip()[:1] in ("{", "[") or "||" in first:
        return False
    has_question = any(bool(set(_columns(first, mark)) & set(QUESTIONS)) for mark in ",\t;")
    return has_question or (ending.lower() in (".csv", ".tsv") and bool(first.strip()))


def _columns(line: str, mark: str) -> list[str]:
    try:
        found = next(csv.reader([line], delimiter=mark), []) if mark in line else []
    except csv.Error:  # no line of a table
        return []
    return [name.strip() for name in found]


def _table_records(path: Path, text: str) -> Iterator[Record]:
    """Read CSV, TSV or a table with semicolons; where a record ends names it."""
    first = text.lstrip("\n\r").split("\n", 1)[0]
    known = {*QUESTIONS, *ANSWERS}
    mark = max(",\t;", key=lambda one: (len(known & set(_columns(first, one))), first.count(one)))
    rows = csv.DictReader(io.StringIO(text.lstrip("\n\r")), delimiter=mark, strict=True)
    try:
        names = [name.strip() for name in rows.fieldnames or ()]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"{path}:1: has two columns called {shown(twice)}. {HELP}")
        for row in rows:
            where = f"{path}:{rows.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{where}: has another number of columns than line 1. {HELP}")
            yield where, {name.strip(): value or None for name, value in row.items()}
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: is no row of a table: {error}. {HELP}") from None


def _parse(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        if text.strip() in ("{", "["):
            raise DataError(
                f"{where}: not valid JSON: it goes on over many lines. Write each example on one "
                f"line (`jq -c .`), or all of them as one list, [ … ]. {HELP}"
            ) from None
        why = str(error)
        if where.rpartition(":")[2].isdecimal():  # which line it is has been said
            why = why.replace("line 1 column", "column")
        raise DataError(f"{where}: not valid JSON: {why}. {HELP}") from None


def is_one_object(text: str) -> bool:
    """Tell one object over many lines, by its beginning, from JSON Lines, whose first is whole."""
    first = text.lstrip().split("\n", 1)[0]
    try:
        values = parse_json(first).values()
    except ValueError:
        return '"test_example"' in text
    return any(isinstance(value, dict) and "test_example" in value for value in values)


def line_record(line: str, where: str, start: str) -> Any:
    """Read a line of JSON Lines, or of iCoT text, whose chain `fields.split_chain` splits.

    Args:
        line: With text in it.
        where: It stands.
        start: The first character of its file.

    Raises:
        DataError: It is neither, or a mark is missing.
    """
    if start == "{" or (line.lstrip().startswith("{") and "||" not in line):
        return _parse(line, where)
    question, bars, rest = line.strip().partition("||")
    if not bars:
        raise DataError(
            f"{where}: has no '||' between question and steps, and is no JSON object either. {HELP}"
        )
    chain, mark, answer = rest.rpartition("####")
    if not mark:
        raise DataError(
            f"{where}: has no '####' before its answer, got {line.strip()[:80]!r}. The form is "
            f"question||step step #### answer. {HELP}"
        )
    return {"question": question.strip(), "steps": chain, "answer": answer.strip()}


def _prontoqa_records(examples: Any, path: Path) -> Iterator[Record]:
    """Read what the official generator writes: {"example1": {"test_example": {…}}, …}."""
    for name, entry in examples.items():
        where = f"{path}:{named(name)}"
        test = entry.get("test_example") if isinstance(entry, dict) else None
        if not isinstance(test, dict):
            raise DataError(f"{where}: has no object 'test_example'. {HELP}")
        for key in ("question", "query", "answer"):
            if not isinstance(test.get(key), str):
                got = shown(test.get(key))
                raise DataError(f"{where}: {key!r} must be a string, got {got}. {HELP}")
        chain = test.get("chain_of_thought")
        if not isinstance(chain, list) or not all(isinstance(part, str) for part in chain):
            raise DataError(f"{where}: 'chain_of_thought' must be a list of strings. {HELP}")
        # The fact that the chain begins with, then each pair of rule and conclusion as one step.
        pairs = [" ".join(chain[i : i + 2]) for i in range(1, len(chain), 2)]
        record = {
            "id": name,
            "question": f"{test['question']} {test['query']}",
            "steps": [*chain[:1], *pairs],
            "answer": test["answer"],
        }
        meta = {"facts": test["question"], "query": test["query"], "chain_of_thought": chain}
        yield where, record | meta


# --- the hub ----------------------------------------------------------------------------------


def hub_table(source: str, *, streaming: bool = False) -> Any:
    """Load `hub:NAME:SPLIT` or `hub:NAME:CONFIG:SPLIT`, mapped into memory unless it is streamed.

    A named data set is loaded from where it lies.

    Raises:
        DataError: It cannot be loaded.
    """
    place, instead = place_of(source), file_of(source)
    parts = place.removeprefix(HUB).split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise DataError(
            f"{source}: must be hub:NAME:SPLIT or hub:NAME:CONFIG:SPLIT, such as "
            f"hub:whynlp/gsm8k-aug:train. {HELP}"
        )
    name, *config, split = parts
    if not Path(name).exists():
        use_cache_if_unreachable()
    import datasets  # takes seconds to import; learns from huggingface_hub whether it may ask

    try:
        return datasets.load_dataset(name, *config, split=split, streaming=streaming)
    except Exception as error:  # datasets, its hub and its readers raise many kinds
        cause = error.__cause__ or error  # its own words often tell nothing
        reason = one_line(str(cause)).rstrip(".")
        raise DataError(
            f"{source}: cannot be loaded: {reason or type(cause).__name__}."
            + (
                f" It lies at {place}, which needs a network or the hub's cache.{instead}"
                if instead
                else " Give a data set of the hub (needs a network or the hub's cache), a folder, "
                f"or a file. {HELP}"
            )
        ) from None
