"""The habits of the field's data sets: names, numbers, chains that are one text, tables, gzip."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latentcot.data.examples import Example, read_examples
from latentcot.data.fields import Columns, Fields, split_chain
from latentcot.errors import DataError

RECORDS: dict[str, tuple[dict[str, Any], str, tuple[str, ...], str]] = {
    "an empty step": (
        {"question": "a?", "steps": ["<<1+1=2>>", ""], "answer": "2"}, "a?", ("<<1+1=2>>",), "2",
    ),
    "no steps": ({"question": "a?", "answer": "2"}, "a?", (), "2"),
    "steps null": ({"question": "a?", "steps": None, "answer": "2"}, "a?", (), "2"),
    "a float": ({"question": "a?", "steps": ["b"], "answer": 18.0}, "a?", ("b",), "18"),
    "an int": ({"question": "a?", "steps": ["b"], "answer": -5}, "a?", ("b",), "-5"),
    "a yes or no": ({"question": "a?", "steps": ["b"], "answer": True}, "a?", ("b",), "True"),
    "trl": ({"prompt": "a?", "completion": "4"}, "a?", (), "4"),
    "trl, a chat": (
        {"prompt": [{"role": "user", "content": "a?"}],
         "completion": [{"role": "assistant", "content": "<think>b. c!</think>\n4"}]},
        "a?", ("b.", "c!"), "4",
    ),
    "a chat": (
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a?"},
                      {"role": "assistant", "content": "<think>\nb\n\nc\n</think>\n\n#### 4"}]},
        "Be brief.\na?", ("b", "c"), "4",
    ),
    "a chat that keeps its chain apart": (
        {"conversations": [{"from": "human", "value": "a?"},
                           {"from": "gpt", "value": "4", "reasoning_content": "b\nc"}]},
        "a?", ("b", "c"), "4",
    ),
    "a chain whose beginning the template wrote": (
        {"question": "a?", "answer": "b\nc</think>4"}, "a?", ("b", "c"), "4",
    ),
    "a mark": ({"question": "a?", "steps": ["b"], "answer": "#### -5"}, "a?", ("b",), "-5"),
    "GSM8k": (
        {"question": "a?", "answer": "She sells 9*2=<<9*2=18>>18 eggs.\n#### 1,018"},
        "a?", ("<<9*2=18>>",), "1,018",
    ),
    "GSM8k without equations": (
        {"question": "a?", "answer": "She sells nine.\nTwice.\n#### 18"},
        "a?", ("She sells nine.", "Twice."), "18",
    ),
    "SVAMP": (
        {"Body": "Tom has 3.", "Question": "How many?", "Answer": 51.0},
        "Tom has 3. How many?", (), "51",
    ),
    "GSM-Hard": (
        {"input": "a?", "target": 21557.250000000004, "code": "…"}, "a?", (), "21557.25",
    ),
    "a float with many digits": (
        {"input": "a?", "target": 97338733.42857143}, "a?", (), "97338733.4285714",
    ),
    "MultiArith": ({"question": "a?", "final_ans": "4"}, "a?", (), "4"),
    "MultiArith, first form": ({"sQuestion": "a?", "lSolutions": [8.0]}, "a?", (), "8"),
    "hub": (
        {"question": "a?", "cot": "<<1+1=2>> <<2+1 = 3>>", "answer": "3"},
        "a?", ("<<1+1=2>>", "<<2+1 = 3>>"), "3",
    ),
    "a chain of sentences": (
        {"question": "a?", "steps": "Tom is a cat. Cats purr!", "answer": "b"},
        "a?", ("Tom is a cat.", "Cats purr!"), "b",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
def test_names_and_numbers(tmp_path: Path, name: str) -> None:
    record, question, steps, answer = RECORDS[name]
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(record))
    (example,) = read_examples(path)
    assert (example.question, example.steps, example.answer) == (question, steps, answer)
    assert not {"Body", "target", "cot"} & set(example.meta)


@pytest.mark.parametrize(
    ("chain", "steps"),
    [
        ("<<5 * 8 = 40>> <<40 - 1 = 39>>", ["<<5 * 8 = 40>>", "<<40 - 1 = 39>>"]),
        ("4-2=2 2/.5=4", ["4-2=2", "2/.5=4"]),
        ("Tom is a cat.\n\n Cats purr. They do.", ["Tom is a cat.", "Cats purr. They do."]),
        ("他有3个。又买2个。", ["他有3个。", "又买2个。"]),
        ("", []),
    ],
)
def test_a_chain_that_is_one_text(chain: str, steps: list[str]) -> None:
    assert split_chain(chain) == steps


@pytest.mark.parametrize("chain", ["<<5*8=40> 40-1=39>>", "<<1+1=2", "1+1=2>>"])
def test_a_chain_whose_marks_do_not_pair(tmp_path: Path, chain: str) -> None:
    path = tmp_path / "data.txt"
    path.write_text(f"a||b #### 1\nWhat?||{chain} #### 39\n")
    with pytest.raises(DataError, match=r"data\.txt:2: its '<<' and '>>' do not pair, got '"):
        read_examples(path)


@pytest.mark.parametrize(
    ("fields", "question", "steps", "answer"),
    [
        (Fields(Columns(question="ask", answer="said")), "a?", (), "b. So. The answer is 4"),
        (
            Fields(Columns(question=("text", "ask"), answer="said"), answer_after="answer is"),
            "Tom. a?", ("b.", "So.", "The"), "4",
        ),
        (Fields(Columns("ask", "chain", "said"), "->"), "a?", ("x y", "z"),
         "b. So. The answer is 4"),
        (Fields(Columns("ask", "chain", "said"), "words"), "a?", ("x", "y", "->", "z"),
         "b. So. The answer is 4"),
    ],
)  # fmt: skip
def test_columns_that_are_told(
    tmp_path: Path, fields: Fields, question: str, steps: tuple[str, ...], answer: str
) -> None:
    """The usual names count for nothing there: `answer` is another column."""
    row = {"text": "Tom.", "ask": "a?", "chain": "x y -> z", "said": "b. So. The answer is 4",
           "answer": "no", "name": "one"}  # fmt: skip
    path = tmp_path / "data.csv"
    path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    (example,) = read_examples(path, fields=fields)
    assert (example.question, example.steps, example.answer) == (question, steps, answer)
    assert fields.columns is not None
    named = Fields(replace(fields.columns, id="name"), fields.steps_split, fields.answer_after)
    assert read_examples(path, fields=named)[0].id == "one"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (Fields(Columns(question="qestion")), r"columns.question names 'qestion', which is none of "
         r"its columns: question, answer. Did you mean 'question'\?"),
        (Fields(answer_after="is"), "its answer has no 'is' .answer_after., got '4'"),
    ],
)  # fmt: skip
def test_columns_that_are_not_there(tmp_path: Path, fields: Fields, words: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text("question,answer\na,4\n")
    with pytest.raises(DataError, match=rf"data\.csv:2: {words}"):
        read_examples(path, fields=fields)


def test_a_folder_of_several_forms(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\na,4\n")
    (tmp_path / "b.jsonl").write_text('{"question": "b", "answer": "5"}\n' * 2)
    found = read_examples(tmp_path)
    assert [(one.id, one.question) for one in found] == [
        ("a.csv:2", "a"), ("b.jsonl:1", "b"), ("b.jsonl:2", "b"),
    ]  # fmt: skip
    assert read_examples(tmp_path / "*.jsonl") == found[1:]


@pytest.mark.parametrize("mark", [",", "\t", ";"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_table(tmp_path: Path, mark: str, is_packed: bool) -> None:
    path = tmp_path / "data"
    text = mark.join(["question", "answer", "kind"]) + "\n" + mark.join(['"a\nb?"', "3", ""])
    path.write_bytes(gzip.compress(text.encode()) if is_packed else text.encode())
    assert read_examples(path) == [Example("3", "a\nb?", (), "3", {"kind": None})]


def test_parquet(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    path = tmp_path / "data"
    parquet.write_table(table({"question": ["a?"], "steps": [["b", "c"]], "answer": ["3"]}), path)
    assert read_examples(path) == [Example("0", "a?", ("b", "c"), "3", {})]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "a.csv",
            b"prompt,reply\na,b\n",
            "2: 'answer' must .* Its columns are: prompt, reply. Say which one it is: "
            "data.columns.answer: NAME in the recipe, or --columns.answer NAME",
        ),
        ("a.jsonl", b'{"ask": "a", "answer": "b"}', "1: 'question' .* columns are: ask, answer"),
        (
            "b.jsonl",
            b'{"messages": [{"role": "user", "content": "a?"}]}',
            "1: its chat must be one question .user. and one answer .assistant., .* got user",
        ),
        ("c.jsonl", b'{"question": "a", "answer": "<think>b"}', "1: its <think> has no </think>"),
        ("a.tsv", b"question\tanswer\na\t3\nb\n", "3: has another number of columns than line 1"),
        ("a.gz", b"\x1f\x8b\x08\x00 nothing", "cannot be read"),
        ("a", b"PAR1 nothing", "cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_examples(path)


def test_a_device_is_refused_at_once() -> None:
    with pytest.raises(DataError, match="/dev/zero: is no regular file"):
        read_examples("/dev/zero")


def test_what_has_changed_since_it_was_made_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import hashlib

    path = tmp_path / "test.jsonl"
    path.write_bytes((data / "test.jsonl").read_bytes())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "data.json").write_text(json.dumps({"sha256": {"test.jsonl": digest}}))
    read_examples(path)
    assert capsys.readouterr().err == ""
    path.write_bytes(path.read_bytes().replace(b'"answer": "', b'"answer": "1', 1))
    read_examples(path)
    assert "test.jsonl has changed since" in capsys.readouterr().err
