"""Files of examples: both formats, and every way in which one can be malformed."""

import json
from pathlib import Path
from typing import Any

import pytest

from latentcot.data.examples import Example, read_examples, write_examples
from latentcot.errors import DataError

OFFICIAL = Path(__file__).parents[3] / "shared" / "data"
needs_official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"{OFFICIAL} is not here")

GOOD: dict[str, Any] = {"question": "Is it?", "steps": ["First.", "Then."], "answer": "Yes."}
EXAMPLE = Example("7", "Is it?", ("First.", "Then."), "Yes.")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "train.jsonl"


def write_lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def without(key: str) -> dict[str, Any]:
    return {k: value for k, value in GOOD.items() if k != key}


def message_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_examples(path)
    return str(caught.value)


# --- what is read ---


def test_the_content_tells_the_format_and_not_the_name(tmp_path: Path) -> None:
    lines, listed = tmp_path / "lines.json", tmp_path / "list.jsonl"
    write_lines(lines, GOOD | {"id": "7"}, GOOD)
    listed.write_text(json.dumps([GOOD | {"id": "7"}, GOOD | {"id": "2"}], indent=2))
    assert read_examples(lines) == read_examples(listed)
    assert read_examples(lines)[0] == EXAMPLE


def test_blanks_before_a_list_and_blank_lines_do_not_matter(path: Path) -> None:
    path.write_text(f"\n \t{json.dumps([GOOD])}\n")
    assert len(read_examples(path)) == 1
    path.write_text(f"\n\n  {json.dumps(GOOD)}\n\n{json.dumps(GOOD)}\n\n")
    assert len(read_examples(path)) == 2


def test_windows_line_ends_do_not_matter(path: Path) -> None:
    path.write_bytes(f"{json.dumps(GOOD)}\r\n{json.dumps(GOOD)}\r\n".encode())
    assert [example.answer for example in read_examples(path)] == ["Yes.", "Yes."]


def test_a_line_ends_at_a_newline_alone(path: Path) -> None:
    """U+2028 and its like stand unescaped in JSON strings; str.splitlines would cut there."""
    question = "one\u2028two\x85three"
    path.write_text(json.dumps(GOOD | {"question": question}, ensure_ascii=False), "utf-8")
    assert read_examples(path)[0].question == question


def test_without_an_id_the_line_or_place_in_the_list_names_it(path: Path) -> None:
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(GOOD)}\n")
    assert [example.id for example in read_examples(path)] == ["1", "3"]
    path.write_text(json.dumps([GOOD, GOOD]))
    assert [example.id for example in read_examples(path)] == ["0", "1"]


def test_texts_and_other_keys_stay_as_they_are(path: Path) -> None:
    texts = {"question": "  Is é\tit?\n", "steps": [" a "], "answer": " 名 ", "id": 7}
    extra = {"edges": [[0, 1], [1, 2]], "root": 0, "note": None}
    first, second = read_examples(write_lines(path, texts | extra, GOOD | {"steps": []}))
    assert first == Example("7", "  Is é\tit?\n", (" a ",), " 名 ", extra)
    assert second.steps == ()


def test_limit_reads_from_the_beginning_and_no_further(path: Path) -> None:
    write_lines(path, GOOD, GOOD, "not an example")
    assert [example.id for example in read_examples(path, limit=2)] == ["1", "2"]


def test_round_trip(path: Path) -> None:
    examples = [
        Example(
            "a", "Is é it?\u2028", ("one\ntwo", '"three"'), "名", {"edges": [[0, 1]], "n": None}
        ),
        Example("b", "q", (), "a", {}),
    ]
    write_examples(path, examples)
    assert read_examples(path) == examples
    assert len(path.read_text(encoding="utf-8").split("\n")) == 3, "one example a line"


def test_a_failed_write_leaves_the_old_file(path: Path) -> None:
    write_examples(path, [EXAMPLE])
    with pytest.raises(TypeError):
        write_examples(path, [EXAMPLE, Example("b", "q", (), "a", {"odd": object()})])
    assert read_examples(path) == [EXAMPLE]
    assert list(path.parent.iterdir()) == [path], "nothing is left next to it"


# --- what is refused: always with file, line and what stands there ---

MALFORMED = {
    "no question": (without("question"), "'question' must be a string with text in it, got no"),
    "no answer": (without("answer"), "'answer' must be a string with text in it, got nothing"),
    "question a number": (GOOD | {"question": 3}, "'question' must be a string .* got int"),
    "question a list": (GOOD | {"question": ["q"]}, "'question' must be a string .* got a list"),
    "answer an object": (GOOD | {"answer": {}}, "'answer' must be a string .* got dict"),
    "answer null": (GOOD | {"answer": None}, "'answer' must be a string .* got nothing"),
    "steps a number": (GOOD | {"steps": 3}, "'steps' must be a list of strings, got int"),
    "steps an object": (GOOD | {"steps": {}}, "'steps' must be a list of strings, got dict"),
    "a step a number": (GOOD | {"steps": ["a", 3]}, "list of strings, got a list with int in it"),
    "a step a pair": (GOOD | {"steps": [["a"]]}, "list of strings, got a list with list in it"),
    "question empty": (GOOD | {"question": ""}, "'question' must .* got an empty string"),
    "question blank": (GOOD | {"question": " \n"}, "'question' must .* got an empty string"),
    "answer empty": (GOOD | {"answer": ""}, "'answer' must .* got an empty string"),
    "a string": ("Is it?", "must be an object, got str"),
    "a number": (3, "must be an object, got int"),
}


@pytest.mark.parametrize("is_list", [False, True])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_example_is_refused_with_its_place(
    path: Path, name: str, is_list: bool
) -> None:
    record, words = MALFORMED[name]
    write_lines(path, GOOD, record, GOOD)
    if is_list:
        path.write_text(json.dumps([GOOD, record, GOOD]))
    with pytest.raises(DataError, match=words) as caught:
        read_examples(path)
    place = 1 if is_list else 2  # in a list from 0, like the ids
    assert str(caught.value).startswith(f"{path}:{place}: ")
    assert "docs/data-format.md" in str(caught.value)


def test_an_id_that_stands_twice_names_both_lines(path: Path) -> None:
    message = message_of(write_lines(path, GOOD | {"id": "x"}, GOOD, GOOD | {"id": "x"}))
    assert message.startswith(f"{path}:3: the id 'x' stands at {path}:1 already")
    path.write_text("")
    message = message_of(write_lines(path, GOOD | {"id": "2"}, GOOD))  # a line's number is one too
    assert message.startswith(f"{path}:2: the id '2' stands at {path}:1 already")


@pytest.mark.parametrize("text", ["", "\n \n", "[]", " [ ]\n"])
def test_a_file_without_examples(path: Path, text: str) -> None:
    path.write_text(text)
    assert message_of(path).startswith(f"{path}: holds no example")


def test_a_missing_file_and_a_folder(path: Path) -> None:
    assert message_of(path) == f"{path}: no such file."
    assert message_of(path.parent) == f"{path.parent}: has no files."


def test_not_utf8(path: Path) -> None:
    path.write_bytes(json.dumps(GOOD | {"answer": "é"}, ensure_ascii=False).encode("latin-1"))
    message = message_of(path)
    assert message.startswith(f"{path}: cannot be read as UTF-8 text")
    assert "0xe9" in message


@pytest.mark.parametrize("line", ['{"question": "q"', "question: q", "{'a': 1}", "\x00", "{} {}"])
def test_a_line_that_is_not_json(path: Path, line: str) -> None:
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n")
    assert message_of(path).startswith(f"{path}:2: not valid JSON: ")


@pytest.mark.parametrize("text", ['[{"question": "q"},\n', "[1,, 2]", '["a"]\n["b"]'])
def test_a_list_that_is_not_json_names_the_line_and_column(path: Path, text: str) -> None:
    path.write_text(text)
    message = message_of(path)
    assert message.startswith(f"{path}: not valid JSON: ")
    assert "line " in message
    assert "column " in message


def test_nesting_too_deep_for_the_parser(path: Path) -> None:
    path.write_text("[" * 100_000)
    assert message_of(path).startswith(f"{path}: not valid JSON: ")
    path.write_text(f'{json.dumps(GOOD)}\n{{"question": {"[" * 100_000}')
    assert message_of(path).startswith(f"{path}:2: not valid JSON: ")


def test_what_python_could_not_write_again(path: Path) -> None:
    path.write_text(f'{json.dumps(GOOD)[:-1]}, "count": {"9" * 5000}}}')
    assert message_of(path).startswith(f"{path}:1: not valid JSON: ")
    path.write_text('{"question": "\\ud800", "steps": ["a"], "answer": "b"}')
    assert message_of(path).startswith(f"{path}:1: ")


@pytest.mark.parametrize("odd", [None, ["x"], {"x": 1}])
def test_an_id_that_is_neither_text_nor_number(path: Path, odd: Any) -> None:
    assert message_of(write_lines(path, GOOD | {"id": odd})).startswith(f"{path}:1: 'id' must")


# --- the official files ---


@needs_official
def test_official_prosqa() -> None:
    examples = read_examples(OFFICIAL / "prosqa_valid.json")
    assert len(examples) == 300
    assert [example.id for example in examples] == [str(number) for number in range(300)]
    first = examples[0]
    assert first.question.endswith("Tom is a dumpus. Every rempus is a rorpus. Is Tom a lempus or "
                                   "scrompus?")  # fmt: skip
    assert first.steps == (
        "Tom is a terpus.",
        "Every terpus is a brimpus.",
        "Every brimpus is a lempus.",
    )
    assert first.answer == "Tom is a lempus."
    assert first.meta.keys() == {"idx_to_symbol", "edges", "root", "target", "neg_target"}
    assert (first.meta["root"], first.meta["target"], first.meta["neg_target"]) == (1, 16, 13)
