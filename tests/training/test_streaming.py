"""A stream gives what its files hold, in an order that the seed alone tells, wherever it begins."""

import gc
import json
import random
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import in_update, press_ctrl_c
from latentcot import DataError, RecipeError, train
from latentcot.curriculum.layout import EncodedExample
from latentcot.curriculum.stages import phases_of
from latentcot.data.examples import Example, read_examples
from latentcot.data.formats import source_hash
from latentcot.data.sources import Reader, parts_of
from latentcot.methods import METHODS
from latentcot.models.special_tokens import special_tokens_of
from latentcot.runs.checkpoint import load_training_state
from latentcot.runs.checkpoint_folders import checkpoint_folders
from latentcot.runs.folder import read_metrics
from latentcot.studies.folder import num_updates_of
from latentcot.thinking.batch import epoch_order
from latentcot.training.build import prepare
from latentcot.training.loader import Loader, _with_what_to_do
from latentcot.training.stream import EncodedStream, Stream, Windows, open_stream
from tiny_runs import RANDOM, as_values, results_of, shard_of

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


def encode_by_length(examples: Sequence[Example]) -> list[EncodedExample]:
    """Token ids that nobody reads."""
    return [EncodedExample(e.id, (1,) * len(e.question), (), (2,)) for e in examples]


def windows_of(source: Path, size: int, batch_size: int, *, seed: int = 0, **limits: Any):
    stream = EncodedStream(open_stream(str(source), **limits), encode_by_length, size)
    return Windows(
        stream, min(batch_size, len(stream)), seed, lambda some: [len(e.question) for e in some]
    )


def ids(batch: Sequence[EncodedExample]) -> list[str]:
    return [example.id for example in batch]


def by_hand(files: Sequence[Path], size: int, batch_size: int, seed: str) -> list[list[str]]:
    """The ids of each batch of an epoch, from everything in memory."""
    files = list(files)
    random.Random(f"{seed}/shards").shuffle(files)
    examples = [example for file in files for example in read_examples(file)]
    batch_size = min(batch_size, len(examples))
    over = len(examples) % batch_size
    gone = random.Random(f"{seed}/left-out").sample(range(len(examples)), over)
    examples = [example for i, example in enumerate(examples) if i not in gone]
    size = max(1, size // batch_size) * batch_size
    batches = []
    for number, start in enumerate(range(0, len(examples), size)):
        window = examples[start : start + size]
        lengths = [len(example.question) for example in window]
        order = epoch_order(lengths, batch_size, f"{seed}/{number}")
        batches += [[window[i].id for i in batch] for batch in order]
    return batches


# --- the order --------------------------------------------------------------------------------


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    size=st.integers(1, 50),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 3),
)
def test_the_order_is_that_of_everything_in_memory(tmp_path, sizes, size, batch_size, seed):
    for old in tmp_path.iterdir():
        old.unlink()
    folder = write_parts(tmp_path, *sizes)
    windows = windows_of(folder, size, batch_size, seed=seed)
    files = sorted(folder.iterdir())
    expected = [b for e in range(2) for b in by_hand(files, size, batch_size, f"{seed}/{e}")]
    assert len(expected) == 2 * windows.updates_per_epoch
    windows.num_updates = len(expected)
    assert [ids(windows.batch(update)) for update in range(len(expected))] == expected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """61 examples in three files: 7 batches of 8, and 5 over."""
    return write_parts(tmp_path / "parts", 37, 1, 23)


NUM_UPDATES = 21  # three epochs


@pytest.fixture
def expected(folder: Path) -> list[list[str]]:
    windows = windows_of(folder, 24, 8)  # three windows an epoch, the last of one batch
    return [ids(windows.batch(update)) for update in range(NUM_UPDATES)]


def test_each_example_comes_once_an_epoch(expected):
    epochs = [[one for b in expected[i : i + 7] for one in b] for i in (0, 7, 14)]
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == 56
    everything = {f"e{number}" for number in range(61)}
    left_out = [everything - set(epoch) for epoch in epochs]
    assert left_out[0] != left_out[1] and not left_out[0] & left_out[1] & left_out[2]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("first", range(NUM_UPDATES))
def test_it_goes_on_anywhere(folder, expected, first):
    """Within a window, at its border, at that of an epoch; also by what another has told."""
    before = windows_of(folder, 24, 8)
    for update in range(first):
        before.batch(update)
    position = before.position(first) if first else None
    windows = windows_of(folder, 24, 8)
    assert [ids(windows.batch(u)) for u in range(first, NUM_UPDATES)] == expected[first:]
    if position is not None:
        position = json.loads(json.dumps(position))  # plain values, as a checkpoint keeps them
        windows = windows_of(folder, 24, 8)
        windows.restore(position)
        assert [ids(windows.batch(u)) for u in range(first, NUM_UPDATES)] == expected[first:]


def test_a_position_is_known_but_where_an_epoch_begins(folder):
    windows = windows_of(folder, 24, 8)
    for update in range(7):
        windows.batch(update)
        assert (windows.position(update) is None) == (update < 3)
    assert windows.position(7) is None


def test_a_position_is_used(folder, expected, monkeypatch):
    """Nothing is skipped, and no line before it is parsed."""
    before = windows_of(folder, 24, 8)
    position = [before.batch(update) and before.position(update) for update in range(5)][4]
    monkeypatch.setattr(Reader, "skip", None)
    windows = windows_of(folder, 24, 8)
    windows.restore(position)
    assert ids(windows.batch(4)) == expected[4]


def test_a_position_stands_before_what_is_left_out_there(folder):
    """Of so many seeds some leave out just the example at which the window begins."""
    at_border = 0
    for seed in range(40):
        before, again = windows_of(folder, 24, 8, seed=seed), windows_of(folder, 24, 8, seed=seed)
        windows = [ids(before.batch(update)) for update in range(4)]
        again.restore(before.position(3))
        assert ids(again.batch(3)) == windows[3]
        left_out = before._left_out(f"{seed}/0")
        used = [number for number in range(61) if number not in left_out]
        at_border += used[23] + 1 in left_out
    assert at_border


def test_a_position_of_another_version_of_datasets_is_not_used(folder, expected):
    before = windows_of(folder, 24, 8)
    position = [before.batch(update) and before.position(update) for update in range(5)][4]
    windows = windows_of(folder, 24, 8)
    windows.restore({**position, "datasets": "0.1", "state": {"odd": 1}})
    assert ids(windows.batch(4)) == expected[4]


@pytest.mark.parametrize("order", [(5, 4, 3, 8, 0), (0, 0, 20, 20, 1), (13, 0, 1, 13)])
def test_in_any_order(folder, expected, order):
    windows = windows_of(folder, 24, 8)
    assert [ids(windows.batch(update)) for update in order] == [expected[u] for u in order]


class Watched(EncodedExample):
    """One that weak references know."""


def test_two_windows_are_in_memory(tmp_path):
    """However many there are."""
    source = write_lines(tmp_path / "many.jsonl", [record(number) for number in range(500)])
    windows = windows_of(source, 40, 8)
    alive: weakref.WeakSet[Watched] = weakref.WeakSet()

    def encode(examples: Sequence[Example]) -> list[EncodedExample]:
        encoded = [Watched(e.id, (1,) * len(e.question), (), (2,)) for e in examples]
        alive.update(encoded)
        return list(encoded)

    windows.train = replace(windows.train, encode=encode)
    held = []
    for update in range(62):
        windows.batch(update)
        for future in windows._windows.values():
            future.result()
        held.append(len(alive))
        assert len(windows._positions) <= 4
    assert max(held) == 80


def test_nothing_is_read_for_later_than_the_last_update(folder, monkeypatch):
    windows = windows_of(folder, 24, 8)
    windows.num_updates = 3
    for update in range(3):
        windows.batch(update)
    windows._thread.shutdown()
    assert list(windows._windows) == [0]


def test_what_is_closed_reads_no_more(tmp_path):
    """A thread with a large window would keep its process alive until the window is read."""
    source = write_lines(tmp_path / "many.jsonl", [record(number) for number in range(500)])
    windows, begun, closed = windows_of(source, 100, 8), threading.Event(), threading.Event()
    next_of, num_read = Stream.next_of, []

    def slow(stream: Stream, reader: Reader, number: int) -> Any:
        num_read.append(number)
        if len(num_read) == 150:  # in the window behind
            begun.set()
            assert closed.wait(10)
        return next_of(stream, reader, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stream, "next_of", slow)
        windows.batch(0)
        assert begun.wait(10)
        windows.close()
        closed.set()
        windows._thread.shutdown()
        assert len(num_read) == 150
    with pytest.raises(RuntimeError):
        windows.batch(30)


def test_a_closed_stream_is_not_skipped_through(folder, monkeypatch):
    windows = windows_of(folder, 24, 8)
    windows._is_closed = True
    monkeypatch.setattr(Reader, "skip", None)
    with pytest.raises(CancelledError):
        windows._read(2)


def test_a_run_closes_its_stream(recipe, tmp_path, monkeypatch):
    """Whether it comes to its end, is stopped, or fails."""
    closed = []
    monkeypatch.setattr(Windows, "close", lambda self: closed.append(self))
    with in_update(2, press_ctrl_c):
        assert not train(recipe, tmp_path / "run", is_quiet=True)
    assert train(recipe, tmp_path / "run", resume=True, is_quiet=True)
    monkeypatch.setattr(Windows, "batch", None)
    with pytest.raises(TypeError):
        train(recipe, tmp_path / "other", is_quiet=True)
    assert len(closed) == 3


# --- sources ----------------------------------------------------------------------------------


def test_a_pattern_a_folder_and_a_file(folder):
    assert len(open_stream(str(folder))) == 61
    assert len(open_stream(str(folder / "part-[02].jsonl"))) == 60
    stream = open_stream(str(folder / "part-1.jsonl"))
    assert [example.id for example in stream] == ["e37"]
    assert [example.id for example in open_stream(str(folder))] == [f"e{i}" for i in range(61)]


def test_a_limit_is_of_the_first_ones(folder):
    """So files keep their order."""
    stream = open_stream(str(folder), limit=40)
    assert [example.id for example in stream] == [f"e{i}" for i in range(40)]
    windows = windows_of(folder, 24, 8, limit=40)
    for start in (0, 5):
        epoch = [one for u in range(start, start + 5) for one in ids(windows.batch(u))]
        assert sorted(epoch) == sorted(f"e{i}" for i in range(40))
    assert len(open_stream(str(folder), limit=999)) == 61


def test_icot_text(tmp_path):
    lines = [f"{' '.join(WORDS[: 1 + i % 5])}||<<{i}+1={i + 1}>> #### {i + 1}" for i in range(20)]
    path = write_lines(tmp_path / "train.txt", lines)
    assert list(open_stream(str(path))) == read_examples(path)
    windows = windows_of(path, 8, 4)
    found = [one for update in range(5) for one in ids(windows.batch(update))]
    assert sorted(found) == sorted(str(i + 1) for i in range(20))


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


def test_a_count_that_is_given_is_believed(folder, monkeypatch):
    monkeypatch.setattr("latentcot.training.stream.count_examples", None)
    assert len(open_stream(str(folder), num_examples=61)) == 61
    assert len(open_stream(str(folder), limit=9, num_examples=61)) == 9
    with pytest.raises(DataError, match=r"parts: ends after 61 examples, but should hold 62\. .*"):
        list(open_stream(str(folder), num_examples=62))


class TestHub:
    @pytest.fixture(autouse=True)
    def _own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets

        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    @pytest.fixture
    def shards(self, tmp_path: Path) -> Path:
        for number in range(3):
            records = [record(i) for i in range(number * 10, number * 10 + 10)]
            write_parts(tmp_path / "set")
            write_lines(tmp_path / "set" / f"train-{number}.jsonl", records)
        return tmp_path / "set"

    def test_its_shards_are_shuffled_and_resumed(self, shards):
        source = f"hub:{shards}:train"
        stream = open_stream(source)
        assert len(stream) == 30 and len(stream.parts) == 3
        assert [example.id for example in stream] == [f"e{i}" for i in range(30)]
        windows = windows_of(source, 8, 4)
        found = [ids(windows.batch(update)) for update in range(14)]
        assert len({one for batch in found[:7] for one in batch}) == 28
        again = windows_of(source, 8, 4)
        again.restore(windows.position(13))
        assert [ids(again.batch(u)) for u in (12, 13)] == found[12:]
        again = windows_of(source, 8, 4)
        assert [ids(again.batch(u)) for u in (12, 13)] == found[12:]

    def test_a_bad_row_is_named(self, shards):
        write_lines(shards / "train-1.jsonl", [record(1), record(2, answer="")])
        with pytest.raises(DataError, match=r":train:shard 1:1: 'answer' must be a string with"):
            list(open_stream(f"hub:{shards}:train"))

    def test_parquet_in_row_groups(self, tmp_path):
        import pyarrow
        from pyarrow import parquet

        (tmp_path / "set").mkdir()
        table = pyarrow.Table.from_pylist([record(i) for i in range(50)])
        parquet.write_table(table, tmp_path / "set" / "train.parquet", row_group_size=7)
        source = f"hub:{tmp_path / 'set'}:train"
        windows = windows_of(source, 8, 4)
        found = [ids(windows.batch(update)) for update in range(12)]
        for first in (2, 5, 11):
            before, again = windows_of(source, 8, 4), windows_of(source, 8, 4)
            for update in range(first):
                before.batch(update)
            if (position := before.position(first)) is not None:
                again.restore(position)
            assert [ids(again.batch(u)) for u in range(first, 12)] == found[first:]

    def test_its_hash_loads_nothing(self, shards, monkeypatch):
        source = f"hub:{shards}:train"
        before = source_hash(source, is_streamed=True)
        assert before == source_hash(source, is_streamed=True)
        write_lines(shards / "train-9.jsonl", [record(99)])
        assert before != source_hash(source, is_streamed=True)

    def test_what_is_not_there(self):
        with pytest.raises(DataError, match=r"hub:/no/such/folder:train: cannot be loaded"):
            open_stream("hub:/no/such/folder:train")
        with pytest.raises(DataError, match=r"hub:/no/such/folder:train: cannot be loaded"):
            source_hash("hub:/no/such/folder:train", is_streamed=True)


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
        open_stream(str(folder), num_examples=61)


def test_the_note_of_the_generator_is_no_data(folder):
    before = source_hash(folder)
    (folder / "data.json").write_text('{\n  "options": {}\n}\n')
    assert len(open_stream(str(folder))) == 61 and source_hash(folder) == before


def test_a_line_of_icot_text_without_its_mark(tmp_path):
    path = write_lines(tmp_path / "train.txt", ["one||two #### 3", "one two #### 3"])
    for read in (read_examples, lambda file: list(open_stream(str(file)))):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value).startswith(
            f"{path}:2: has no '||' between question and steps, and is no JSON object either. "
        )


def test_files_without_an_example_among_others(folder):
    for name, text in (("part-0a", ""), ("part-00", "\n\n"), ("part-9", "\n")):
        (folder / f"{name}.jsonl").write_text(text)
    assert [example.id for example in open_stream(str(folder))] == [f"e{i}" for i in range(61)]


def test_what_datasets_cannot_open_is_named(folder, monkeypatch):
    """Its cache may be a folder that cannot be written to."""

    def fail(self: Any) -> Any:
        raise PermissionError("no cache")

    monkeypatch.setattr("latentcot.data.sources.FilePart.open", fail)
    with pytest.raises(DataError, match=r"part-0\.jsonl: cannot be read: no cache"):
        next(iter(open_stream(str(folder))))


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"^no file matches .*\*\.jsonl\."):
        open_stream(str(tmp_path / "*.jsonl"))
    with pytest.raises(DataError, match="has no files"):
        open_stream(str(tmp_path))
    with pytest.raises(DataError, match="cannot be read"):
        open_stream(str(tmp_path / "none.jsonl"))


# --- in training ------------------------------------------------------------------------------

STREAM = {"stream": True, "shuffle_buffer": 16}


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
    """Two windows an epoch; 14 updates of 4 an epoch."""
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
    model, tokenizer, streamed = prepare(recipe)
    other, other_tokenizer, whole = prepare(resident)
    assert tokenizer.get_vocab() == other_tokenizer.get_vocab()
    weights = other.state_dict()
    assert all(value.equal(weights[name]) for name, value in model.state_dict().items())
    assert streamed.train.encode(list(streamed.train.stream)) == whole.train


def test_lessons_are_those_of_memory_but_for_their_order(recipe):
    """The same stages and layouts for the same examples."""
    _, tokenizer, data = prepare(recipe)
    method, phases = METHODS[recipe.method], phases_of(recipe.curriculum, METHODS[recipe.method])
    rules = recipe.layout_rules(special_tokens_of(tokenizer))
    rules = {one: replace(rules, zero_thoughts=one.zero_thoughts) for one in phases}
    streamed = Loader(recipe, method, rules, data.train, shard_of)
    whole = data.train.encode(list(data.train.stream))
    by_id = {example.id: example for example in whole}
    resident = Loader(recipe, method, rules, whole, shard_of)
    assert (streamed.updates_per_epoch, streamed.batch_size) == (4, 8)
    for update in range(8):
        found = streamed.update_batch(update, phases[1], 8)
        resident._examples_of = lambda _, found=found: [by_id[e.id] for e in found.examples]
        assert as_values(found) == as_values(resident._make(update, phases[1]))
    assert list(streamed._windows._windows) == [3]  # nothing is read for an update behind the last


@pytest.mark.parametrize("last_updates", [(1,), (4,), (2, 7)])
def test_ended_and_resumed(last_updates, recipe, in_one_go, tmp_path):
    """Within a window, between two, between epochs."""
    run, done = tmp_path / "run", 0
    for last in last_updates:
        with in_update(last - done, press_ctrl_c):
            assert not train(recipe, run, resume=done > 0, is_quiet=True)
        state = load_training_state(checkpoint_folders(run)[-1])
        assert ("stream" in state) == (last % 4 in (2, 3))
        done = last
    assert train(recipe, run, resume=True, is_quiet=True)
    assert results_of(run) == results_of(in_one_go)


def test_resumed_without_the_position(recipe, in_one_go, tmp_path, monkeypatch):
    monkeypatch.setattr(Loader, "state", lambda self, update: {})
    with in_update(7, press_ctrl_c):
        assert not train(recipe, tmp_path / "run", is_quiet=True)
    monkeypatch.undo()
    assert train(recipe, tmp_path / "run", resume=True, is_quiet=True)
    assert results_of(tmp_path / "run") == results_of(in_one_go)


def test_another_buffer_is_another_order(recipe, in_one_go, tmp_path):
    other = replace(recipe, data=replace(recipe.data, shuffle_buffer=32))
    assert train(other, tmp_path / "run", is_quiet=True)
    assert results_of(tmp_path / "run") != results_of(in_one_go)


def test_a_changed_part_is_refused(recipe, parts, tmp_path, in_one_go):
    from shutil import copytree

    folder = copytree(parts, tmp_path / "parts")
    other = replace(recipe, data=replace(recipe.data, train=str(folder)))
    with in_update(2, press_ctrl_c):
        train(other, tmp_path / "run", is_quiet=True)
    (folder / "part-3.jsonl").write_text((folder / "part-0.jsonl").read_text())
    with pytest.raises(Exception, match="has changed since"):
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


SAVED = ". What was learned before is saved. Mend the line, then --resume (docs/data-format.md)."


@pytest.fixture
def known_words(recipe, monkeypatch):
    """Without it, the pass that makes the vocabulary would find a bad line before training."""
    _, known, _ = prepare(recipe)
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
    """When its window is read."""
    path, run = long_file(30, content), tmp_path / "run"
    own = replace(recipe, data=replace(recipe.data, train=str(path)))
    with pytest.raises(DataError) as caught:
        train(own, run, is_quiet=True)
    assert str(caught.value).startswith(f"{path}:30: {message}")
    assert str(caught.value).endswith(SAVED) and "See docs" not in str(caught.value)
    assert checkpoint_folders(run)[-1].name == "update-00000002"
    assert [row["update"] for row in read_metrics(run)] == [1, 2]


def test_nothing_is_said_to_be_saved_where_nothing_is(
    known_words, long_file, recipe, tmp_path, monkeypatch
):
    """Before the first update; by one of several processes; and a stream that ends is no line."""
    path = long_file(1, b"{")
    own = replace(recipe, data=replace(recipe.data, train=str(path), num_examples=32))
    with pytest.raises(DataError, match=r"train\.jsonl:1: not valid JSON"):
        train(own, tmp_path / "never", is_quiet=True)
    path.write_bytes(b"".join(line(answer=str(1 + i % 2)) + b"\n" for i in range(32)))
    longer = replace(own, data=replace(own.data, num_examples=40))
    with pytest.raises(DataError) as caught:
        train(longer, tmp_path / "short", is_quiet=True)
    assert "ends after 32 examples" in str(caught.value) and "Mend" not in str(caught.value)
    assert _with_what_to_do("x. See docs/data-format.md.", 1) == f"x{SAVED}"
    assert _with_what_to_do("x.", 0) == "x."
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert _with_what_to_do("x.", 1) == "x."


def test_a_bad_line_costs_nothing(known_words, long_file, recipe, data, tmp_path):
    """Once it is mended, the run goes on."""
    path, run = long_file(30, b"{"), tmp_path / "run"
    own = replace(recipe, data=replace(recipe.data, train=str(path)))
    with pytest.raises(DataError):
        train(own, run, is_quiet=True)
    long_file(30, (data / "train.jsonl").read_bytes().splitlines()[29])
    with pytest.raises(Exception, match="has changed since"):
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


def test_chains_are_looked_at_before_training(recipe, make_recipe, parts, data, tmp_path):
    rules = {"num_stages": 5, "advance": "learned", "learned_below": 0.1}
    sources = {"train": str(parts), "valid": str(data / "valid.jsonl"), **STREAM}
    with pytest.raises(RecipeError, match="the longest chain in .* has 2 steps"):
        prepare(make_recipe(data=sources, curriculum=rules))
    bare = [record(4 * i) for i in range(20)]  # without steps
    path = write_lines(tmp_path / "bare.jsonl", bare)
    with pytest.raises(DataError, match="no example has steps"):
        prepare(make_recipe(data={**sources, "train": str(path)}))


@pytest.fixture
def made(data, tmp_path, monkeypatch) -> Path:
    """A folder as `latentcot data make` leaves it, seen from beside it."""
    from shutil import copy

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
        prepare(make_recipe(data=sources))
    assert str(caught.value) == (
        f"data.train: {source} holds data.valid (valid.jsonl), which would be trained on. Move it, "
        f"or give a pattern such as {hint}/train*.jsonl."
    )
    (made / "valid.jsonl").rename(made.parent / "valid.jsonl")
    sources |= {"valid": "valid.jsonl", "test": "leak/test.jsonl"}
    with pytest.raises(DataError, match=r"holds data\.test \(test\.jsonl\)"):
        prepare(make_recipe(data=sources))
    (made / "test.jsonl").unlink()
    (made / "test.jsonl").symlink_to(made.parent / "valid.jsonl")
    with pytest.raises(DataError, match=r"holds data\.valid"):
        prepare(make_recipe(data=sources))
    (made / "test.jsonl").unlink()
    assert len(prepare(make_recipe(data=sources))[2].train) == 32


def test_a_pattern_without_files_names_its_key(make_recipe, data):
    sources = {"train": "no/such/*.jsonl", "valid": str(data / "valid.jsonl"), **STREAM}
    with pytest.raises(DataError, match=r"^data\.train: no file matches no/such/\*\.jsonl\.$"):
        prepare(make_recipe(data=sources))


def test_several_files_need_a_stream(make_recipe, parts):
    for source in (parts, f"{parts}/*.jsonl"):
        with pytest.raises(DataError, match=r"read with data\.stream: true|no such file"):
            prepare(make_recipe(data={"train": str(source)}))


def test_keys_that_do_not_fit(make_recipe):
    with pytest.raises(RecipeError, match=r"data\.shuffle_buffer: must be at least batch_size 8"):
        make_recipe(data={"stream": True, "shuffle_buffer": 7})
    with pytest.raises(RecipeError, match=r"data\.num_examples: is for data\.stream: true"):
        make_recipe(data={"num_examples": 7})


def test_a_study_knows_the_number_of_updates(recipe):
    longer = replace(recipe, training=replace(recipe.training, epochs=3, max_updates=None))
    assert num_updates_of(longer) == 12


def test_the_bound_of_columns_holds(recipe, make_recipe):
    """A layout that it lets pass unseen is never longer."""
    _, tokenizer, data = prepare(recipe)
    few = data.train.encode(list(data.train.stream))[:4]
    for name, method in METHODS.items():
        own = make_recipe(name, curriculum={"pad_to_num_stages": True, "thoughts_per_step": 2})
        rules = own.layout_rules(special_tokens_of(tokenizer))
        phases = phases_of(own.curriculum, method)
        loader = Loader(own, method, dict.fromkeys(phases, rules), few, shard_of)
        for example in [*few, replace(few[0], steps=(), answer=())]:
            columns = [len(loader.layout(example, phase.stage, phase)) for phase in phases]
            assert max(columns) <= loader.most_columns(example)


def test_parts_are_closed_when_nobody_reads(folder):
    """A reader that goes away keeps no file open: warnings are errors."""
    reader = Reader(parts_of(folder))
    assert reader.read() is not None
    del reader
    gc.collect()
