"""A stream gives what its files hold, in an order that the seed alone tells, wherever it begins."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interrupts import in_update, press_ctrl_c
from latentcot import CheckpointError, DataError, RecipeError, RunError, train
from latentcot.curriculum.layout import EncodedExample
from latentcot.data.examples import Example, read_examples
from latentcot.data.fields import Columns, Fields
from latentcot.data.formats import source_hash
from latentcot.data.sources import count_examples, open_stream
from latentcot.methods import METHODS
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import read_metrics
from latentcot.studies.folder import num_updates_of
from latentcot.training.build import build
from latentcot.training.loader import Loader
from latentcot.training.stream import EncodedStream
from tiny_runs import RANDOM, as_values, part_of, results_of

WORDS = ("ant", "bee", "cow", "dog", "elk")


def record(number: int, **changes: Any) -> dict[str, Any]:
    """An example whose lengths depend on its number."""
    question = " ".join(WORDS[: 1 + number % 5])
    values = {"id": f"e{number}", "question": question, "steps": ["ant"] * (number % 4)}
    return values | {"answer": WORDS[number % 3]} | changes


def write_lines(path: Path, records: Sequence[Any]) -> Path:
    """As JSON Lines; what is text already stays."""
    lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_parts(folder: Path, *sizes: int) -> Path:
    """Numbered files of so many examples each."""
    folder.mkdir(exist_ok=True)
    first = 0
    for part, size in enumerate(sizes):
        records = [record(number) for number in range(first, first + size)]
        write_lines(folder / f"part-{part}.jsonl", records)
        first += size
    return folder


@pytest.mark.parametrize("sizes", [(4,), (2, 3)])
@pytest.mark.parametrize("limit", [None, 2])
def test_ids_are_those_of_data_that_is_read_whole(sizes: Any, limit: Any, tmp_path: Path) -> None:
    """They seed what some methods draw for an example."""
    folder = write_parts(tmp_path / "parts", *sizes)
    for path in folder.iterdir():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        write_lines(path, [{k: v for k, v in one.items() if k != "id"} for one in lines])
    stream = open_stream(str(folder), limit)
    assert [one.id for one in stream] == [one.id for one in read_examples(str(folder), limit)]


def test_a_column_of_objects_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "odd").mkdir()
    write_lines(tmp_path / "odd" / "train.jsonl", [record(1, question={"text": "ant"})])
    stream = open_stream(f"hub:{tmp_path / 'odd'}:train")
    with pytest.raises(DataError, match="question"):
        stream.read([0])


def encode_by_length(examples: Sequence[Example]) -> list[EncodedExample]:
    """Token ids that nobody reads."""
    return [EncodedExample(e.id, (1,) * len(e.question), (), (2,)) for e in examples]


def ids(examples: Sequence[Example | EncodedExample]) -> list[str]:
    return [example.id for example in examples]


def numbered(*numbers: int) -> list[str]:
    return [f"e{number}" for number in numbers]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """61 examples in three files."""
    return write_parts(tmp_path / "parts", 37, 1, 23)


# --- the order --------------------------------------------------------------------------------


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 3),
)
def test_an_epoch_has_each_example_once_in_batches_of_similar_length(
    tmp_path, sizes, batch_size, seed
):
    for old in tmp_path.iterdir():
        old.unlink()
    stream = EncodedStream(open_stream(str(write_parts(tmp_path, *sizes))), encode_by_length)
    batch_size = min(batch_size, len(stream))
    order = stream.order(batch_size, f"{seed}/0")
    assert order.shape == (len(stream) // batch_size, batch_size)
    assert len(np.unique(order)) == order.size
    assert set(order.flat) <= set(range(sum(sizes)))
    assert (order == stream.order(batch_size, f"{seed}/0")).all()
    spans = sorted((lengths.min(), lengths.max()) for lengths in stream.stream.lengths[order])
    assert all(one[1] <= two[0] for one, two in pairwise(spans))


def test_epochs_and_seeds_differ_in_order_and_in_what_is_left_out(folder):
    stream = EncodedStream(open_stream(str(folder)), encode_by_length)
    orders = [stream.order(8, seed) for seed in ("0/0", "0/1", "1/0")]
    assert not any((orders[i] == orders[i - 1]).all() for i in range(3))
    left_out = [set(range(61)) - set(order.flat) for order in orders]
    assert all(len(one) == 5 for one in left_out)
    assert left_out[0] != left_out[1] != left_out[2] != left_out[0]


def test_the_order_stays_what_it_was(tmp_path):
    """A run is resumed with later versions of Python and numpy too; else count `STATE` up."""
    source = write_lines(tmp_path / "ten.jsonl", [record(number) for number in range(10)])
    stream = EncodedStream(open_stream(str(source)), encode_by_length)
    assert stream.order(3, "0/0").tolist() == [[6, 4, 2], [5, 1, 8], [9, 7, 3]]


def test_only_what_is_asked_for_is_read(folder):
    """In any order, from any file; a line that nobody has asked for may be anything."""
    lines = (folder / "part-2.jsonl").read_text().splitlines()
    write_lines(folder / "part-2.jsonl", [lines[0], "{", *lines[2:]])
    stream = EncodedStream(open_stream(str(folder)), encode_by_length)
    assert ids(stream.read([60, 0, 37, 36, 0, 38])) == numbered(60, 0, 37, 36, 0, 38)
    with pytest.raises(DataError, match=r"part-2\.jsonl:2: not valid JSON"):
        stream.read([60, 39])
    (folder / "part-1.jsonl").unlink()
    with pytest.raises(DataError, match=r"part-1\.jsonl: cannot be read"):
        stream.read([37])


# --- sources ----------------------------------------------------------------------------------


def test_a_pattern_a_folder_and_a_file(folder):
    assert ids(open_stream(str(folder))) == numbered(*range(61))
    assert len(open_stream(str(folder / "part-[02].jsonl"))) == 60
    assert ids(open_stream(str(folder / "part-1.jsonl"))) == ["e37"]


def test_a_limit_is_of_the_first_ones(folder):
    for limit in (1, 37, 38, 40):
        assert ids(open_stream(str(folder), limit)) == numbered(*range(limit))
    assert len(open_stream(str(folder), 999)) == 61


def test_the_number_of_examples_may_be_given(folder):
    assert len(open_stream(str(folder), num_examples=61)) == 61
    assert len(open_stream(str(folder), 9, 61)) == len(open_stream(str(folder), 61, 80)) - 52 == 9
    for number, limit in ((62, None), (60, None), (62, 100)):
        with pytest.raises(
            DataError, match=rf"parts: holds 61 .*, but data\.num_examples is {number}"
        ):
            open_stream(str(folder), limit, number)
    assert count_examples(str(folder)) == count_examples("nowhere", None, 61) == 61
    assert count_examples(str(folder), 9) == count_examples("nowhere", 9, 61) == 9


def test_examples_in_columns_of_another_name_are_counted(tmp_path):
    file = tmp_path / "own.jsonl"
    file.write_text('{"asked": "1?", "reply": "2"}\n' * 3)
    assert count_examples(str(file), fields=Fields(Columns("asked", None, "reply"))) == 3


def test_icot_text(tmp_path):
    lines = [f"{' '.join(WORDS[: 1 + i % 5])}||<<{i}+1={i + 1}>> #### {i + 1}" for i in range(20)]
    path = write_lines(tmp_path / "train.txt", lines)
    assert list(open_stream(str(path))) == read_examples(path)
    write_lines(path, [lines[0], "one two #### 3"])
    for read in (read_examples, lambda file: list(open_stream(str(file)))):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value).startswith(
            f"{path}:2: has no '||' between question and steps, and is no JSON object either. "
        )


@pytest.mark.parametrize("text", ["\n{0}\n\n  \n{1}\n\n", "\ufeff{0}\r\n\r\n{1}\r\n", "{0}\n{1}"])
def test_blank_lines_and_line_ends_do_not_matter(tmp_path, text):
    one, other = ({k: v for k, v in record(i).items() if k != "id"} for i in (1, 2))
    path = tmp_path / "odd.jsonl"
    path.write_bytes(text.format(json.dumps(one), json.dumps(other)).encode())
    stream = open_stream(str(path))
    assert len(stream) == 2 and list(stream) == read_examples(path)


def test_ids_of_several_files_differ(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        write_lines(tmp_path / name, [{k: v for k, v in record(1).items() if k != "id"}])
    assert [example.id for example in open_stream(str(tmp_path))] == ["a.jsonl:1", "b.jsonl:1"]


class TestHub:
    @pytest.fixture(autouse=True)
    def _empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    @pytest.fixture
    def source(self, tmp_path: Path) -> str:
        """30 examples in three files."""
        for number in range(3):
            records = [record(i) for i in range(number * 10, number * 10 + 10)]
            write_parts(tmp_path / "set")
            write_lines(tmp_path / "set" / f"train-{number}.jsonl", records)
        return f"hub:{tmp_path / 'set'}:train"

    def test_any_row_is_read(self, source):
        stream = open_stream(source)
        assert ids(stream) == numbered(*range(30))
        assert ids(stream.read([29, 3, 3, 11])) == numbered(29, 3, 3, 11)
        assert ids(open_stream(source, 12)) == numbered(*range(12))
        assert len(set(stream.lengths)) > 5
        assert stream.lengths[24] > stream.lengths[20] and stream.lengths[3] > stream.lengths[0]

    def test_a_bad_row_is_named(self, source, tmp_path):
        write_lines(tmp_path / "set" / "train-1.jsonl", [record(1), record(2, answer="")])
        with pytest.raises(DataError, match=r"set:train:11: 'answer' must be a string with"):
            list(open_stream(source))

    def test_parquet_with_a_chain_of_text(self, tmp_path):
        import pyarrow
        from pyarrow import parquet

        (tmp_path / "set").mkdir()
        records = [record(i, cot=" ".join(["<<1+1=2>>"] * (i % 3))) for i in range(50)]
        table = pyarrow.Table.from_pylist([{k: r[k] for k in r if k != "steps"} for r in records])
        parquet.write_table(table, tmp_path / "set" / "train.parquet", row_group_size=7)
        stream = open_stream(f"hub:{tmp_path / 'set'}:train")
        assert [len(example.steps) for example in stream] == [i % 3 for i in range(50)]
        assert stream.lengths[5] - stream.lengths[15] == len("<<1+1=2>> <<1+1=2>>")

    def test_its_hash_loads_nothing(self, source, tmp_path):
        before = source_hash(source, is_streamed=True)
        assert before == source_hash(source, is_streamed=True)
        write_lines(tmp_path / "set" / "train-9.jsonl", [record(99)])
        assert before != source_hash(source, is_streamed=True)

    def test_its_hash_is_of_every_split_that_is_named(self, source, tmp_path):
        write_lines(tmp_path / "set" / "test-0.jsonl", [record(98)])
        both = f"{source}+test"
        assert len(list(open_stream(both))) == 31
        before = source_hash(both, is_streamed=True)
        assert before != source_hash(source, is_streamed=True)
        write_lines(tmp_path / "set" / "test-1.jsonl", [record(99)])
        assert before != source_hash(both, is_streamed=True)

    def test_what_is_not_there(self):
        for read in (open_stream, lambda source: source_hash(source, is_streamed=True)):
            with pytest.raises(DataError, match=r"hub:/no/such/folder:train: cannot be loaded"):
                read("hub:/no/such/folder:train")


def test_the_hash_of_several_files(folder):
    before = source_hash(folder)
    assert source_hash(f"{folder}/*.jsonl") == before
    with (folder / "part-2.jsonl").open("a") as file:
        file.write("\n")
    assert source_hash(folder) != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is one JSON list, which can only be read whole. Write one example a line"),
        ('{"example1": {"test_example": {}}}', "is one JSON object, which can only be read whole"),
        ("\n \n", "holds no example."),
    ],
)
def test_a_file_that_cannot_be_streamed(tmp_path, content, message):
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        open_stream(str(path))
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("content", [b"# Notes\n", b'{\n "version": 1\n}', b"\x1f\x8b\x08\x00"])
def test_a_file_of_a_folder_that_is_no_data_is_found_at_once(folder, content):
    """And not when an epoch comes to it."""
    (folder / "part-9").write_bytes(b"\n" + content)
    with pytest.raises(DataError, match=r"part-9:2: (has no|not valid|cannot be read as)"):
        open_stream(str(folder))


def test_the_note_of_the_generator_is_no_data(folder):
    before = source_hash(folder)
    (folder / "data.json").write_text('{\n  "options": {}\n}\n')
    assert len(open_stream(str(folder))) == 61 and source_hash(folder) == before


def test_files_without_an_example_among_others(folder):
    for name, text in (("part-0a", ""), ("part-00", "\n\n"), ("part-9", "\n")):
        (folder / f"{name}.jsonl").write_text(text)
    assert [example.id for example in open_stream(str(folder))] == [f"e{i}" for i in range(61)]


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"^no file matches .*\*\.jsonl\."):
        open_stream(str(tmp_path / "*.jsonl"))
    with pytest.raises(DataError, match="has no files"):
        open_stream(str(tmp_path))
    with pytest.raises(DataError, match="cannot be read"):
        open_stream(str(tmp_path / "none.jsonl"))


# --- in training ------------------------------------------------------------------------------

STREAM = {"stream": True}


@pytest.fixture(scope="module")
def parts(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training examples of the tiny runs in three files."""
    lines = (data / "train.jsonl").read_text().splitlines()
    folder = tmp_path_factory.mktemp("parts")
    for number, (start, end) in enumerate([(0, 20), (20, 23), (23, 32)]):
        write_lines(folder / f"part-{number}.jsonl", lines[start:end])
    return folder


@pytest.fixture(scope="module")
def recipe(make_recipe, data, parts):
    """14 updates, 4 an epoch."""
    sources = {"train": str(parts), "valid": str(data / "valid.jsonl")}
    return make_recipe(**RANDOM | {"data": {**sources, **STREAM}})


@pytest.fixture(scope="module")
def in_one_go(recipe, tmp_path_factory):
    run = tmp_path_factory.mktemp("streamed") / "run"
    assert train(recipe, run, is_quiet=True)
    return run


def test_what_is_prepared_is_that_of_memory(recipe, make_recipe):
    """Model and vocabulary; and the stream holds the same examples."""
    resident = make_recipe(**RANDOM)
    streamed, whole = build(recipe), build(resident)
    assert streamed.tokenizer.get_vocab() == whole.tokenizer.get_vocab()
    weights, others = (run.objective.state_dict() for run in (streamed, whole))
    assert all(value.equal(others[name]) for name, value in weights.items())
    assert streamed.data.train.encode(list(streamed.data.train.stream)) == whole.data.train


def test_updates_are_those_of_memory_but_for_their_order(recipe):
    """The same stages and layouts for the same examples."""
    run = build(recipe)
    streamed = Loader(run, part_of)
    whole = run.data.train.encode(list(run.data.train.stream))
    number_of = {example.id: number for number, example in enumerate(whole)}
    resident = Loader(replace(run, data=replace(run.data, train=whole)), part_of)
    assert (streamed.updates_per_epoch, streamed.batch_size) == (4, 8)
    for update in range(8):
        found = streamed.update_batch(update, run.phases[1], 8)
        resident._order_of = lambda _, found=found: [[number_of[e.id] for e in found.examples]] * 4
        resident._order = 0, resident._order_of(0)
        assert as_values(found) == as_values(resident.update_batch(update, run.phases[1], 0))


@pytest.mark.parametrize("last_updates", [(4,), (2, 7)])
def test_ended_and_resumed(last_updates, recipe, in_one_go, tmp_path):
    """Within an epoch, and between two."""
    run, done = tmp_path / "run", 0
    for last in last_updates:
        with in_update(last - done, press_ctrl_c):
            assert not train(recipe, run, resume=done > 0, is_quiet=True)
        done = last
    assert train(recipe, run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(in_one_go)


@pytest.mark.parametrize("state", [{}, {"stream": {"window": 1, "datasets": "4", "row": 3}}])
def test_a_run_of_a_version_with_another_order_is_refused(state, recipe, tmp_path, monkeypatch):
    """Those that read windows said where one began, or nothing in the first of an epoch."""
    monkeypatch.setattr(Loader, "state", lambda self: state)
    with in_update(2, press_ctrl_c):
        assert not train(recipe, tmp_path / "run", is_quiet=True)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"another version of latentcot, .* another order"):
        train(recipe, tmp_path / "run", resume=True, is_quiet=True)


def test_a_changed_part_is_refused(recipe, parts, tmp_path):
    folder = copytree(parts, tmp_path / "parts")
    other = replace(recipe, data=replace(recipe.data, train=str(folder)))
    with in_update(2, press_ctrl_c):
        train(other, tmp_path / "run", is_quiet=True)
    (folder / "part-3.jsonl").write_text((folder / "part-0.jsonl").read_text())
    with pytest.raises(RunError, match="has changed since"):
        train(other, tmp_path / "run", resume=True, is_quiet=True)


@pytest.fixture
def long_file(data: Path, tmp_path: Path):
    """A function (line number, content) → a file of 32 lines with this one in the middle."""
    lines = (data / "train.jsonl").read_text().splitlines()

    def make(number: int, content: bytes) -> Path:
        path = tmp_path / "train.jsonl"
        encoded = [line.encode() for line in lines]
        encoded[number - 1] = content
        path.write_bytes(b"".join(line + b"\n" for line in encoded))
        return path

    return make


def line(**changes: Any) -> bytes:
    values = {"question": "[Q] 1 2 [R] 0", "steps": ["1", "2"], "answer": "2", **changes}
    return json.dumps(values).encode()


SAVED = ". What was learned before is saved. Fix the line, then --resume (docs/data-format.md)."


@pytest.fixture
def known_words(recipe, monkeypatch):
    """Without it, a pass over many examples or all of them finds a bad line before training."""
    monkeypatch.setattr("latentcot.data.sources.CHUNK", 1)
    known = build(recipe).tokenizer
    monkeypatch.setattr("latentcot.training.build.tokenizer_from_scratch", lambda *arguments: known)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[Q] 1 2", "not valid JSON"),
        (b'{"question": "\xff"}', "cannot be read as UTF-8 text"),
        (line(answer=""), "'answer' must be a string with text in it"),
        (line(question="[Q] what"), "example '30': its question cannot be written in the"),
        (line(question="1 " * 99), "example '30': needs 1"),
    ],
)
def test_a_bad_line_is_named(known_words, long_file, content, message, recipe, tmp_path):
    """When it is read, and all that came before is saved."""
    path, run = long_file(30, content), tmp_path / "run"
    own = replace(recipe, data=replace(recipe.data, train=str(path)))
    with pytest.raises(DataError) as caught:
        train(own, run, is_quiet=True)
    assert str(caught.value).startswith(f"{path}:30: {message}")
    assert str(caught.value).endswith(SAVED) and "See docs" not in str(caught.value)
    last = read_metrics(run)[-1]["update"]
    assert 0 < last < 4 and checkpoint_folders(run)[-1].name == f"update-{last:08d}"


def test_a_bad_line_on_a_full_disk_is_not_called_saved(
    known_words, long_file, recipe, tmp_path, monkeypatch
):
    def is_full(*arguments, **options):
        raise RunError("the disk is full")

    monkeypatch.setattr("latentcot.training.saving.save_checkpoint", is_full)
    own = replace(recipe, data=replace(recipe.data, train=str(long_file(30, b"{"))))
    with pytest.raises(RunError, match="the disk is full"):
        train(own, tmp_path / "run", is_quiet=True)


def test_nothing_is_said_to_be_saved_where_nothing_is(recipe, tmp_path, monkeypatch):
    """Before the first update."""

    def refuse(*args):
        raise DataError("x. See docs/data-format.md.")

    monkeypatch.setattr(Loader, "update_batch", refuse)
    with pytest.raises(DataError, match=r"^x\. See docs/data-format\.md\.$"):
        train(recipe, tmp_path / "run", is_quiet=True)


def test_a_bad_line_costs_nothing(known_words, long_file, recipe, data, tmp_path):
    """Once it is fixed, the run resumes; where its length stays, to what one go gives."""
    whole = (data / "train.jsonl").read_bytes().splitlines()[29]
    path, run = long_file(30, b"{".ljust(len(whole))), tmp_path / "run"
    own = replace(recipe, data=replace(recipe.data, train=str(path)))
    with pytest.raises(DataError):
        train(own, run, is_quiet=True)
    long_file(30, whole)
    with pytest.raises(RunError, match="has changed since"):
        train(own, run, resume=True, is_quiet=True)
    origin = json.loads((run / "provenance.json").read_text())
    del origin["data"][str(path)]
    (run / "provenance.json").write_text(json.dumps(origin))
    assert train(own, run, resume=True, is_quiet=True)
    assert train(own, tmp_path / "whole", is_quiet=True)
    assert results_of(run) == results_of(tmp_path / "whole")


def test_a_vocabulary_needs_a_pass_which_finds_it_at_once(long_file, recipe, tmp_path):
    path = long_file(30, b"{")
    with pytest.raises(DataError, match=r"train\.jsonl:30: not valid JSON"):
        train(replace(recipe, data=replace(recipe.data, train=str(path))), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_chains_are_looked_at_before_training(recipe, make_recipe, parts, data, tmp_path, capsys):
    rules = {"num_stages": 5, "advance": "learned", "learned_below": 0.1}
    sources = {"train": str(parts), "valid": str(data / "valid.jsonl"), **STREAM}
    with pytest.raises(RecipeError, match="the longest chain in .* has 2 steps"):
        build(make_recipe(data=sources, curriculum=rules))
    build(make_recipe(data=sources, curriculum={**rules, "max_updates_per_stage": 9}))
    assert "no example can tell when a stage is learned" in capsys.readouterr().err
    bare = [record(4 * i) for i in range(20)]  # without steps
    path = write_lines(tmp_path / "bare.jsonl", bare)
    with pytest.raises(DataError, match="no example has steps"):
        build(make_recipe(data={**sources, "train": str(path)}))


@pytest.fixture
def made(data, tmp_path, monkeypatch) -> Path:
    """A folder as `latentcot data make` leaves it, seen from next to it."""
    folder = tmp_path / "leak"
    folder.mkdir()
    for name, source in (("train", "train"), ("valid", "valid"), ("test", "valid")):
        copy(data / f"{source}.jsonl", folder / f"{name}.jsonl")
    (folder / "data.json").write_text('{\n  "options": {}\n}\n')
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("source", ["leak", "leak/*.jsonl", "leak/[tv]*.jsonl", "../{}/leak"])
def test_what_judges_is_not_trained_on(source, made, make_recipe):
    """However the two are written."""
    source = source.format(made.parent.name)
    sources = {"train": source, "valid": str(made / "valid.jsonl"), **STREAM}
    hint = f"{source.removesuffix('.jsonl').rpartition('/')[0] if '*' in source else source}"
    with pytest.raises(DataError) as caught:
        build(make_recipe(data=sources))
    assert str(caught.value) == (
        f"data.train: {source} holds data.valid (valid.jsonl), which would be trained on. Move it, "
        f"or give a pattern such as {hint}/train*.jsonl."
    )
    (made / "valid.jsonl").rename(made.parent / "valid.jsonl")
    sources |= {"valid": "valid.jsonl", "test": "leak/test.jsonl"}
    with pytest.raises(DataError, match=r"holds data\.test \(test\.jsonl\)"):
        build(make_recipe(data=sources))
    (made / "test.jsonl").unlink()
    (made / "test.jsonl").symlink_to(made.parent / "valid.jsonl")
    with pytest.raises(DataError, match=r"holds data\.valid"):
        build(make_recipe(data=sources))
    (made / "test.jsonl").unlink()
    assert len(build(make_recipe(data=sources)).data.train) == 32


def test_a_pattern_without_files_names_its_key(make_recipe, data):
    sources = {"train": "no/such/*.jsonl", "valid": str(data / "valid.jsonl"), **STREAM}
    with pytest.raises(DataError, match=r"^data\.train: no file matches no/such/\*\.jsonl\.$"):
        build(make_recipe(data=sources))


def test_several_files_fit_in_memory_too(make_recipe, parts):
    for source in (parts, f"{parts}/*.jsonl"):
        with_stream, without = (
            build(make_recipe(data={"train": str(source), "stream": stream})).data.train
            for stream in (True, False)
        )
        assert len(without) == len(with_stream) > 0
    with pytest.raises(DataError, match=r"no file matches"):
        build(make_recipe(data={"train": f"{parts}/*.nothing"}))


def test_a_table_is_no_stream(make_recipe, tmp_path):
    (tmp_path / "train.csv").write_text("question,answer\n1 2,2\n")
    data = {"train": str(tmp_path / "train.csv"), "stream": True}
    with pytest.raises(DataError, match=r"is a table or compressed.* hub:.*:train, or set"):
        build(make_recipe(data=data))


def test_a_number_of_examples_is_for_a_stream(make_recipe):
    with pytest.raises(RecipeError, match=r"data\.num_examples: is for data\.stream: true"):
        make_recipe(data={"num_examples": 7})


def test_a_study_knows_the_number_of_updates(recipe):
    longer = replace(recipe, training=replace(recipe.training, epochs=3, max_updates=None))
    assert num_updates_of(longer) == 12


@pytest.mark.parametrize("name", METHODS)
def test_the_bound_of_positions_holds(name, make_recipe):
    """An example that is too long by one position is never let pass unseen."""
    run = build(make_recipe(name, curriculum={"pad_to_num_stages": True, "thoughts_per_step": 2}))
    few = run.data.train[:4]
    for example in [*few, replace(few[0], steps=(), answer=(2,))]:
        phases = run.phases
        compression = run.method.view.compression
        rates = (None,) if compression is None else compression.rates
        longest = max(
            len(layout)
            for phase, rate in product(phases, rates)
            for layout in run.layouts(
                example, phase.stage, replace(run.rules[phase], rate=rate)
            ).values()
        )
        run.objective.model.config.max_position_embeddings = longest - 1
        with pytest.raises(DataError, match=rf"needs {longest} "):
            run.check_lengths(phases, [example])
