"""`latentcot data make prosqa` and `latentcot data stats`, end to end in a folder of the test."""

import hashlib
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from latentcot.cli import data_tables
from latentcot.cli.data import data
from latentcot.data.examples import read_examples
from latentcot.errors import DataError, LatentcotError, RecipeError

commands = import_module("latentcot.cli.data")
OFFICIAL = Path(__file__).parents[3] / "shared" / "data" / "prosqa_valid.json"
SMALL = ["--train", "30", "--valid", "10", "--test", "10"]


def run(*tokens: str | Path) -> None:
    data([str(token) for token in tokens], exit_on_error=False, result_action="return_value")


@pytest.mark.parametrize("preset", ["paper", "two-family"])
def test_make_writes_all_four_files(
    tmp_path: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("make", "prosqa", "--out", tmp_path / "d", "--preset", preset, *SMALL)
    about = json.loads((tmp_path / "d" / "data.json").read_text())
    assert about["counts"] == {"train": 30, "valid": 10, "test": 10}
    assert about["options"]["construction"] == preset
    assert about["seed"] == 0
    for split, count in about["counts"].items():
        path = tmp_path / "d" / f"{split}.jsonl"
        assert len(read_examples(path)) == count
        assert hashlib.sha256(path.read_bytes()).hexdigest() == about["sha256"][path.name]
    assert len(list((tmp_path / "d").iterdir())) == 4
    assert "hops" in capsys.readouterr().out


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        run("make", "prosqa", "--out", tmp_path / folder, "--seed", seed, *SMALL)
    for name in ("train.jsonl", "valid.jsonl", "test.jsonl", "data.json"):
        first, second, other = ((tmp_path / folder / name).read_bytes() for folder in "abc")
        assert first == second != other


def test_bytes_of_one_seed_stay_what_they_were(tmp_path: Path) -> None:
    """A change here changes everybody's data: make it on purpose, and say so in the commit."""
    run("make", "prosqa", "--out", tmp_path, *SMALL)
    written = (tmp_path / "train.jsonl").read_bytes()
    assert hashlib.sha256(written).hexdigest()[:16] == "dbd829741b49e3c2"


def test_knobs_reach_the_data(tmp_path: Path) -> None:
    knobs = ["--layers", "4", "--shared", "0", "--separator", "--num-symbols", "50"]
    run("make", "prosqa", "--out", tmp_path, "--preset", "two-family", *knobs, *SMALL)
    examples = read_examples(tmp_path / "train.jsonl")
    assert all(len(one.steps) == 4 and one.question.count("|") == 16 for one in examples)
    assert max(int(name) for one in examples for name in one.meta["idx_to_symbol"]) > 18


def test_one_token_an_edge_and_two_families_reach_the_data(tmp_path: Path) -> None:
    knobs = ["--rendering", "symbols", "--joined", "--two-family", "0.5"]
    run("make", "prosqa", "--out", tmp_path, *knobs, *SMALL)
    about = json.loads((tmp_path / "data.json").read_text())["options"]
    assert (about["joined"], about["two_family"], about["separator"]) == (True, 0.5, True)
    for split in ("train", "valid", "test"):
        examples = read_examples(tmp_path / f"{split}.jsonl")
        assert all(one.question.count(">") == len(one.meta["edges"]) for one in examples)
        assert not any("|" in one.question for one in examples)
        sizes = {len(one.meta["idx_to_symbol"]) for one in examples}
        assert (min(sizes) <= 14) == (split == "train")
        assert max(sizes) > 14


def test_statistics_of_many_are_those_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MOST_SHOWN", 10)
    seen: dict[str, list[Any]] = {}

    def statistics_of(examples: list[Any]) -> Any:
        seen[examples[0].id.partition("-")[0]] = [one.id for one in examples]
        return whole(examples)

    whole = data_tables.statistics_of
    monkeypatch.setattr(data_tables, "statistics_of", statistics_of)
    run("make", "prosqa", "--out", tmp_path, "--train", "1200", "--valid", "10", "--test", "11")
    assert seen == {split: [f"{split}-{i}" for i in range(10)] for split in seen}
    assert set(seen) == {"train", "valid", "test"}
    head = " ".join(capsys.readouterr().out.partition("examples ")[0].split())
    assert "first 10" in head
    assert len(read_examples(tmp_path / "train.jsonl")) == 1200  # all are written


def test_the_column_of_a_split_says_how_many_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MOST_SHOWN", 1_000)
    assert commands._column("train", range(1_000)) == "train"
    assert commands._column("train", range(1_001)) == "train, first 1,000"


def test_a_folder_with_files_is_left_alone_unless_told(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty.*--overwrite"):
        run("make", "prosqa", "--out", tmp_path, *SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    run("make", "prosqa", "--out", tmp_path, *SMALL, "--overwrite")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "data.json").exists()


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (["--train", "0"], DataError, "every split needs at least 1 example, got --train 0"),
        (["--layers", "3"], RecipeError, "'layers' has no effect with construction 'paper'"),
        (["--min-hops", "9"], RecipeError, "min_hops must not be above max_hops"),
        (["--joined"], RecipeError, "'joined' has no effect with rendering 'words'"),
        (["--two-family", "0.5"], RecipeError, "two_family is for construction paper in symbols"),
        (["--preset", "two-family", "--joined", "--separator"], RecipeError, "'separator' has no"),
    ],
)
def test_bad_input_makes_nothing(
    tmp_path: Path, tokens: list[str], error: type[LatentcotError], message: str
) -> None:
    with pytest.raises(error, match=message):
        run("make", "prosqa", "--out", tmp_path / "d", *tokens)
    assert not (tmp_path / "d").exists()


def test_out_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("a file")
    with pytest.raises(DataError, match="is a file"):
        run("make", "prosqa", "--out", tmp_path / "d", *SMALL)


def test_stats_as_json_are_those_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("make", "prosqa", "--out", tmp_path, "--preset", "two-family", *SMALL)
    capsys.readouterr()
    run("stats", tmp_path / "test.jsonl", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["num_examples"] == 10
    assert found["nodes"] == {"mean": 15.0, "sd": 0.0}
    assert found["hop_histogram"] == {"3": 10}
    assert found["accuracy_deeper_candidate"] == 0.5


@pytest.mark.skipif(not OFFICIAL.exists(), reason=f"{OFFICIAL} is not here")
def test_stats_read_the_official_file_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    run("stats", OFFICIAL)
    shown = capsys.readouterr().out
    assert "22.82 ± 2.04" in shown
    assert "3: 124, 4: 133, 5: 36, 6: 7" in shown


def test_stats_of_a_damaged_graph_name_the_example(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"question": "1+1?", "steps": [], "answer": "2", "edges": [[0, 1]]}\n')
    with pytest.raises(DataError, match="example 1: has no 'idx_to_symbol'"):
        run("stats", path)


def test_stats_of_data_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": "1 plus 1", "steps": ["1 + 1 = 2"], "answer": "2"},
            {"question": "2 plus 0 ?", "steps": [], "answer": "2"}]  # fmt: skip
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    run("stats", path, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "num_examples": 2, "step_histogram": {"0": 1, "1": 1}, "mean_question_words": 3.5,
        "mean_step_words": 5.0, "num_answers": 1, "accuracy_most_frequent": 1.0,
    }  # fmt: skip
    run("stats", path)
    assert "words of a step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "ending", "knobs"),
    [
        ("prontoqa", "json", ["--hops", "2", "--decoy", "twin", "--no-negated-queries"]),
        ("arithmetic", "txt", ["--max-steps", "3", "--wording", "short", "--operations=+-"]),
    ],
)
def test_the_other_tasks(
    tmp_path: Path, task: str, ending: str, knobs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run("make", task, "--out", tmp_path / "d", *knobs, *SMALL)
    about = json.loads((tmp_path / "d" / "data.json").read_text())
    assert about["counts"] == {"train": 30, "valid": 10, "test": 10}
    for split, count in about["counts"].items():
        path = tmp_path / "d" / f"{split}.{ending}"
        assert len(read_examples(path)) == count
        assert hashlib.sha256(path.read_bytes()).hexdigest() == about["sha256"][path.name]
    assert "examples" in capsys.readouterr().out
    run("stats", tmp_path / "d" / f"test.{ending}")
    with pytest.raises(DataError, match="is not empty"):
        run("make", task, "--out", tmp_path / "d", *SMALL)
    with pytest.raises(RecipeError, match="options"):
        run("make", task, "--out", tmp_path / "e", "--min-hops" if ending == "json" else
            "--min-steps", "9", *SMALL)  # fmt: skip
