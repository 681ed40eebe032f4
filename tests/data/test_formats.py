"""Every form in which examples are kept, and every way in which one can be malformed."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latentcot.data.examples import Example, read_examples, write_examples
from latentcot.data.formats import is_hub, read_records, source_hash
from latentcot.errors import DataError, LatentcotError
from latentcot.tasks import task_named

OFFICIAL = Path(__file__).parents[3] / "shared" / "data"
needs_official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"{OFFICIAL} is not here")

RECORD = {"question": "Is it?", "steps": ["First.", "Then."], "answer": "Yes."}
ICOT = "How many?||<<4-2=2>> <<2/.5=4>> #### 4"
CHAIN = ["Max is a vumpus.", "Each vumpus is a brimpus.", "Max is a brimpus.", "Brimpuses are hot.",
         "Max is hot."]  # fmt: skip
PRONTO: dict[str, Any] = {
    "example1": {
        "test_example": {
            "question": "Each vumpus is a brimpus. Brimpuses are hot. Max is a vumpus.",
            "query": "True or false: Max is hot.",
            "chain_of_thought": CHAIN,
            "answer": "True",
        }
    }
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def message_of(source: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        read_examples(source)
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


# --- iCoT text: question||step step #### answer ---


class TestIcot:
    def test_is_read(self, path: Path) -> None:
        [example] = read_examples(write(path, ICOT + "\n"))
        assert example == Example("1", "How many?", ("<<4-2=2>>", "<<2/.5=4>>"), "4")

    def test_lines_are_counted_with_empty_ones_and_blanks_do_not_matter(self, path: Path) -> None:
        write(path, f"\n{ICOT}\r\n\n  What? || <<1+1=2>>   <<2+1=3>>####3  \n")
        first, second = read_examples(path)
        assert (first.id, second.id) == ("2", "4")
        assert second == Example("4", "What?", ("<<1+1=2>>", "<<2+1=3>>"), "3")

    def test_a_chain_may_be_empty(self, path: Path) -> None:
        assert read_examples(write(path, "How many?|| #### 5"))[0].steps == ()

    def test_the_last_mark_begins_the_answer_and_the_first_ends_the_question(
        self, path: Path
    ) -> None:
        """An answer keeps its commas; a chain may hold anything."""
        [example] = read_examples(write(path, "a|b?||x #### y||z #### 1,000"))
        assert example == Example("1", "a|b?", ("x", "####", "y||z"), "1,000")

    def test_a_question_may_hold_braces_behind_its_first_letter(self, path: Path) -> None:
        write(path, "What is {1} of [2]?||<<1+1=2>> #### 2")
        assert read_examples(path)[0].question == "What is {1} of [2]?"

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("How many?||<<1+1=2>> 2", "has no '####' before its answer"),
            ("How many?|| ####  ", "'answer' must be a string with text in it"),
            (" ||<<1+1=2>> #### 2", "'question' must be a string with text in it"),
            ("How many? <<1+1=2>> #### 2", "has no '||' between question and steps, and is no"),
            ('{"question": "q"}', "not valid JSON|'answer' must be|'steps' must be"),
        ],
    )
    def test_a_malformed_line_is_named(self, path: Path, line: str, words: str) -> None:
        write(path, f"{ICOT}\n\n{line}\n{ICOT}\n")
        with pytest.raises(DataError, match=words) as caught:
            read_examples(path)
        assert str(caught.value).startswith(f"{path}:3: ")
        assert "docs/data-format.md" in str(caught.value)

    def test_a_long_line_is_cut_in_the_message(self, path: Path) -> None:
        assert len(message_of(write(path, "q||" + "x" * 10_000))) < 400


# --- ProntoQA: one object ---


class TestProntoqa:
    @pytest.mark.parametrize("indent", [None, 1])
    def test_is_read(self, path: Path, indent: int | None) -> None:
        """Over many lines, as the generator writes it, or in one."""
        [example] = read_examples(write(path, json.dumps(PRONTO, indent=indent)))
        test = PRONTO["example1"]["test_example"]
        assert example == Example(
            "example1",
            f"{test['question']} {test['query']}",
            (
                "Max is a vumpus.",
                "Each vumpus is a brimpus. Max is a brimpus.",
                "Brimpuses are hot. Max is hot.",
            ),
            "True",
            {"facts": test["question"], "query": test["query"], "chain_of_thought": CHAIN},
        )

    @pytest.mark.parametrize(
        ("chain", "steps"),
        [("", ""), ("a", "a"), ("ab", "a b"), ("abc", "a bc"), ("abcde", "a bc de")],
    )
    def test_a_step_is_a_rule_and_what_follows_from_it(
        self, path: Path, chain: str, steps: str
    ) -> None:
        odd = {"test_example": PRONTO["example1"]["test_example"] | {"chain_of_thought": [*chain]}}
        write(path, json.dumps({"example1": PRONTO["example1"], "example12": odd}))
        first, second = examples = read_examples(path)
        assert (first.id, second.id) == ("example1", "example12")
        assert second.steps == tuple(" ".join(step) for step in steps.split())
        write_examples(path, examples)  # written again they are the same
        assert read_examples(path) == examples

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"question": None}, "'question' must be a string, got None"),
            ({"query": 3}, "'query' must be a string, got 3"),
            ({"answer": True}, "'answer' must be a string, got True"),
            ({"answer": " "}, "'answer' must be a string with text in it"),
            ({"chain_of_thought": "a. b."}, "'chain_of_thought' must be a list of strings"),
            ({"chain_of_thought": ["a", 3]}, "'chain_of_thought' must be a list of strings"),
        ],
    )
    def test_a_malformed_example_is_named(
        self, path: Path, change: dict[str, Any], words: str
    ) -> None:
        odd = {"test_example": PRONTO["example1"]["test_example"] | change}
        write(path, json.dumps({**PRONTO, "example2": odd}, indent=1))
        with pytest.raises(DataError, match=words) as caught:
            read_examples(path)
        assert str(caught.value).startswith(f"{path}:example2: ")

    @pytest.mark.parametrize("odd", [None, [], "text", {}, {"test_example": []}])
    def test_an_example_without_its_object(self, path: Path, odd: Any) -> None:
        write(path, json.dumps({**PRONTO, "example2": odd}))
        message = message_of(path)
        assert message.startswith(f"{path}:example2: has no object 'test_example'")

    def test_a_torn_file_names_line_and_column(self, path: Path) -> None:
        text = json.dumps(PRONTO, indent=1)
        message = message_of(write(path, text[:-20]))
        assert message.startswith(f"{path}: not valid JSON: ")
        assert "line " in message


# --- one form or the other ---


def test_json_lines_are_no_prontoqa(path: Path) -> None:
    """Also with an object in them, or the word in a text."""
    odd = RECORD | {"note": {"a": 1}, "question": 'Where is "test_example"?'}
    assert read_examples(write(path, json.dumps(odd)))[0].meta == {"note": {"a": 1}}


def test_one_object_over_many_lines_that_is_no_prontoqa(path: Path) -> None:
    assert message_of(write(path, json.dumps(RECORD, indent=1))).startswith(f"{path}:1: not valid")


@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.jsonl", "a", "a.csv"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_neither_the_name_nor_a_byte_order_mark_matters(
    tmp_path: Path, name: str, mark: str
) -> None:
    for text in (ICOT, json.dumps(RECORD), json.dumps([RECORD]), json.dumps(PRONTO)):
        assert len(read_examples(write(tmp_path / name, mark + text))) == 1


def test_a_path_that_can_be_none() -> None:
    assert message_of("no\0where").startswith("no where: cannot be read")


# --- the official files, where they are ---


@needs_official
def test_official_gsm8k() -> None:
    examples = read_examples(OFFICIAL / "gsm8k_aug_valid.txt")
    assert len(examples) == 500
    assert [example.id for example in examples] == [str(i) for i in range(1, 501)]
    first = examples[0]
    assert first.question.startswith("John cuts his grass to 2 inches.  It grows .5 inches")
    assert first.question.endswith("How much does he pay per year?")
    assert first.steps == ("<<4-2=2>>", "<<2/.5=4>>", "<<12/4=3>>", "<<100*3=300>>")
    assert (first.answer, first.meta) == ("300", {})
    steps = [step for example in examples for step in example.steps]
    assert all(step.startswith("<<") and step.endswith(">>") for step in steps)
    assert max(len(example.steps) for example in examples) > 3  # the stage without text is for them
    task = task_named("gsm8k")
    assert all(task.is_correct(example.answer, example.answer) for example in examples)


@needs_official
def test_official_prontoqa() -> None:
    examples = read_examples(OFFICIAL / "prontoqa_5hop_sample.json")
    assert [example.id for example in examples] == [f"example{i}" for i in range(1, 61)]
    assert {len(example.steps) for example in examples} == {6}  # a fact, then 5 hops
    assert Counter(example.answer for example in examples).keys() == {"True", "False"}
    first = examples[0]
    assert first.question.endswith("Max is a lorpus. True or false: Max is not wooden.")
    assert first.steps[:2] == ("Max is a vumpus.", "Each vumpus is a brimpus. Max is a brimpus.")
    assert first.steps[-1] == "Numpuses are not wooden. Max is not wooden."
    assert first.meta.keys() == {"facts", "query", "chain_of_thought"}


@needs_official
@pytest.mark.parametrize(
    ("name", "count"),
    [("prosqa_valid.json", 300), ("gsm8k_aug_valid.txt", 500), ("prontoqa_5hop_sample.json", 60)],
)
def test_official_files_round_trip(name: str, count: int, path: Path) -> None:
    examples = read_examples(OFFICIAL / name)
    assert len(examples) == count
    write_examples(path, examples)
    assert read_examples(path) == examples
    assert len(read_examples(OFFICIAL / name, limit=7)) == 7


# --- hub:NAME:SPLIT ---


class TestHub:
    @pytest.fixture(autouse=True)
    def _own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "set"
        folder.mkdir()
        rows = [RECORD | {"hops": i, "id": f"n{i}"} for i in range(3)]
        write(folder / "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        rows = [RECORD | {"hops": 9, "id": "t"}]
        write(folder / "test.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        return folder

    def test_a_folder_that_datasets_can_read(self, folder: Path) -> None:
        first, *others = read_examples(f"hub:{folder}:train")
        assert first == Example("n0", "Is it?", ("First.", "Then."), "Yes.", {"hops": 0})
        assert [example.id for example in others] == ["n1", "n2"]
        assert len(read_examples(f"hub:{folder}:default:train", limit=2)) == 2  # a configuration

    def test_a_column_cot_is_split_at_blanks(self, tmp_path: Path) -> None:
        """As hub copies of GSM8k-Aug have it; without an id the row's number is one."""
        rows = [{"question": "q", "cot": "<<1+1=2>> <<2+1=3>>", "answer": "3"}] * 2
        (tmp_path / "cot").mkdir()
        write(tmp_path / "cot" / "train.jsonl", "\n".join(map(json.dumps, rows)))
        first, second = read_examples(f"hub:{tmp_path / 'cot'}:train")
        assert first == Example("0", "q", ("<<1+1=2>>", "<<2+1=3>>"), "3")
        assert second.id == "1"

    def test_its_hash_is_that_of_its_records(self, folder: Path) -> None:
        before = source_hash(f"hub:{folder}:train")
        assert before == source_hash(f"hub:{folder}:train")
        assert before != source_hash(f"hub:{folder}:test")

    def test_a_malformed_row_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "odd").mkdir()
        rows = [RECORD, {**RECORD, "answer": ""}]
        write(tmp_path / "odd" / "train.jsonl", "\n".join(map(json.dumps, rows)))
        source = f"hub:{tmp_path / 'odd'}:train"
        assert message_of(source).startswith(f"{source}:1: 'answer' must be a string with text")

    @pytest.mark.parametrize("source", ["hub:", "hub:name", "hub:a:", "hub::train", "hub:a:b:c:d"])
    def test_another_form_is_refused(self, source: str) -> None:
        assert message_of(source).startswith(f"{source}: must be hub:NAME:SPLIT or")

    @pytest.mark.parametrize("source", ["hub:nobody/nothing:train", "hub:/no/such/folder:train"])
    def test_what_is_not_there(self, source: str) -> None:
        assert message_of(source).startswith(f"{source}: cannot be loaded: ")
        with pytest.raises(DataError):
            source_hash(source)

    def test_what_cannot_be_read_is_told_why(self, folder: Path) -> None:
        """Splits of a folder must have the same columns."""
        write(folder / "test.jsonl", json.dumps({"other": 1}))
        assert "other" in message_of(f"hub:{folder}:train")

    def test_a_split_that_is_not_there(self, folder: Path) -> None:
        assert "valid" in message_of(f"hub:{folder}:valid")


def test_a_run_from_the_hub(make_recipe: Any, data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Resumable: what its data were is written down."""
    import datasets

    from latentcot import train
    from latentcot.runs.folder import eval_path

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    sources = {"train": f"hub:{data}:train", "valid": f"hub:{data}:validation", "test": None}
    recipe = make_recipe("no-cot", data=sources, training={"max_updates": 2})
    assert train(recipe, tmp_path / "run", is_quiet=True)
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert provenance["data"][sources["train"]] == source_hash(str(sources["train"]))
    assert train(recipe, tmp_path / "run", resume=True, is_quiet=True)
    named = eval_path(tmp_path / "run", f"hub:{data}:test", None, None)
    assert named == tmp_path / "run" / "evals" / "test.json"


# --- hashes ---


def test_the_hash_of_a_file_is_that_of_its_bytes(path: Path) -> None:
    path.write_bytes(b"\x00abc\r\n")
    assert source_hash(path) == hashlib.sha256(b"\x00abc\r\n").hexdigest()
    assert source_hash(str(path)) == source_hash(path)
    with pytest.raises(DataError, match="cannot be read"):
        source_hash(path.with_name("nowhere"))


def test_only_a_prefix_makes_a_source_one_of_the_hub() -> None:
    assert is_hub("hub:a:b")
    assert not is_hub("data/hub:a")
    assert not is_hub(Path("train.jsonl"))


# --- whatever a file holds, nothing but our own errors comes out ---

FUZZ = settings(
    max_examples=80,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["question", "steps", "answer", "id", "test_example", "query", "cot", ""]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
PIECES = ['{"question": ', '"steps": [', '"answer"', "||", "####", " ", "\n", "[", "]", "{", "}",
          ",", '"', "\\ud800", "\\u", "1e999", "9" * 30, "é", "\u2028", "\x00", '"test_example": ',
          "<<1+1=2>>", "null", "\ufeff"]  # fmt: skip


def read_whatever(path: Path) -> None:
    """What can be read can be written, and read again; what cannot is told with its place."""
    examples, message = list[Example](), str(path)
    try:
        examples = read_examples(path)
    except LatentcotError as error:
        message = str(error)
    assert str(path) in message
    if examples:
        write_examples(path.with_name("copy"), examples)
        again = read_examples(path.with_name("copy"))
        assert [e.question for e in again] == [e.question for e in examples]


texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=14).map("".join)
encoded = texts.map(lambda text: text.encode("utf-8", "surrogatepass"))


@settings(FUZZ, max_examples=200)
@given(content=st.binary(max_size=60) | encoded)
def test_random_bytes_and_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fuzz").write_bytes(content)
    read_whatever(tmp_path / "fuzz")


@FUZZ
@given(
    records=st.lists(values, max_size=4), form=st.sampled_from(["lines", "list", "object", "test"])
)
def test_random_json(tmp_path: Path, records: list[Any], form: str) -> None:
    numbered = {f"example{i}": record for i, record in enumerate(records)}
    text = {
        "lines": "\n".join(map(json.dumps, records)),
        "list": json.dumps(records),
        "object": json.dumps(numbered, indent=1),
        "test": json.dumps({name: {"test_example": one} for name, one in numbered.items()}),
    }[form]
    read_whatever(write(tmp_path / "fuzz", text))


@FUZZ
@given(
    records=st.lists(
        st.fixed_dictionaries(
            {
                "question": st.text(min_size=1, max_size=8),
                "steps": st.lists(st.text(min_size=1, max_size=4), max_size=3),
                "answer": st.text(min_size=1, max_size=4),
            },
            optional={"id": st.integers() | st.text(max_size=3), "x": values},
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_random_examples_are_read_and_written_as_they_are(
    tmp_path: Path, records: list[Any]
) -> None:
    path = write(tmp_path / "fuzz", "\n".join(map(json.dumps, records)))
    try:
        examples = read_examples(path)
    except LatentcotError:
        return
    assert [e.question for e in examples] == [record["question"] for record in records]
    assert [list(e.steps) for e in examples] == [record["steps"] for record in records]
    write_examples(path, examples)
    again = read_examples(path)
    assert [(e.id, e.question, e.steps, e.answer) for e in again] == [
        (e.id, e.question, e.steps, e.answer) for e in examples
    ]


def test_records_come_one_by_one(path: Path) -> None:
    """A limit on a large file of lines does not parse all of it."""
    records = read_records(write(path, f"{ICOT}\nnonsense"))
    assert next(records)[0] == f"{path}:1"


# --- tables and line ends ---


def test_line_ends_of_an_old_mac(path: Path) -> None:
    path.write_bytes(b"question,answer\rone?,1\rtwo?,2\r")
    assert [one.answer for one in read_examples(path)] == ["1", "2"]
    path.write_bytes(b"q, a||<<1+1=2>> #### 2\rq b||<<1+2=3>> #### 3\r")
    assert [one.question for one in read_examples(path)] == ["q, a", "q b"]


def test_two_columns_of_one_name_are_refused(path: Path) -> None:
    path.write_text("question,answer, answer\nq?,1,2\n")
    with pytest.raises(DataError, match="has two columns called 'answer'"):
        read_examples(path)


def test_a_first_line_too_long_for_a_table_is_no_traceback(path: Path) -> None:
    path.write_text('"' + "x" * 200_000 + '",question\n1,2\n')
    with pytest.raises(DataError):
        read_examples(path)


def test_ids_and_dates_as_tables_give_them(path: Path, tmp_path: Path) -> None:
    path.write_text('{"question": "a?", "answer": "1", "id": 1.0}\n')
    [example] = read_examples(path)
    assert example.id == "1"
    write_examples(path, [replace(example, meta={"day": date(2026, 12, 1)})])
    assert read_examples(path)[0].meta == {"day": "2026-12-01"}
