"""`latentcot data make` and `latentcot data stats`, end to end in a folder of the test."""

import hashlib
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from latentcot.cli.data import data
from latentcot.data.examples import read_examples
from latentcot.errors import DataError, LatentcotError, MethodError, RecipeError

SMALL = ["--train", "30", "--valid", "10", "--test", "10"]


def run(*tokens: str | Path) -> None:
    data([str(token) for token in tokens], exit_on_error=False, result_action="return_value")


@pytest.mark.parametrize(
    ("task", "ending", "options", "wanted", "wrong"),
    [
        ("prosqa", "jsonl", [], {"construction": "paper"}, ["--min-hops", "9"]),
        ("prosqa", "jsonl", ["--preset", "two-family"], {"ids": "random", "shared": 1},
         ["--width", "0"]),
        ("prontoqa", "json", ["--hops", "2", "--decoy", "twin", "--no-negated-queries"],
         {"hops": 2, "decoy": "twin", "negated_queries": False}, ["--min-hops", "9"]),
        ("arithmetic", "txt", ["--max-steps", "3", "--wording", "short", "--operations=+-"],
         {"max_steps": 3, "wording": "short", "operations": "+-"}, ["--min-steps", "9"]),
    ],
)  # fmt: skip
def test_make_writes_all_four_files(
    tmp_path: Path, task: str, ending: str, options: list[str], wanted: dict[str, object],
    wrong: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "d"
    run("make", task, "--out", folder, *options, *SMALL)
    about = json.loads((folder / "data.json").read_text())
    assert (about["task"], about["seed"]) == (task, 0)
    assert about["counts"] == {"train": 30, "valid": 10, "test": 10}
    assert wanted.items() <= about["options"].items()
    for split, count in about["counts"].items():
        path = folder / f"{split}.{ending}"
        assert len(read_examples(path)) == count
        assert hashlib.sha256(path.read_bytes()).hexdigest() == about["sha256"][path.name]
    assert len(list(folder.iterdir())) == 4
    made = capsys.readouterr().out
    run("stats", folder / f"test.{ending}")
    label = {"prosqa": "right by taking the deeper", "prontoqa": "True, if query negated"}
    assert label.get(task, "answer stands in the question") in made
    with pytest.raises(DataError, match="is not empty"):
        run("make", task, "--out", folder, *SMALL)
    with pytest.raises(RecipeError, match="options"):
        run("make", task, "--out", tmp_path / "e", *wrong, *SMALL)


def test_bytes_of_one_seed_stay_what_they_were(tmp_path: Path) -> None:
    """A change here changes everybody's data: make it on purpose, and say so in the commit."""
    for folder, seed in (("a", "0"), ("b", "0"), ("c", "2")):
        run("make", "prosqa", "--out", tmp_path / folder, "--seed", seed, *SMALL)
    for name in ("train.jsonl", "valid.jsonl", "test.jsonl", "data.json"):
        first, second, other = ((tmp_path / folder / name).read_bytes() for folder in "abc")
        assert first == second != other
    written = (tmp_path / "a" / "train.jsonl").read_bytes()
    assert hashlib.sha256(written).hexdigest()[:16] == "dbd829741b49e3c2"


def test_options_reach_the_data(tmp_path: Path) -> None:
    options = ["--layers", "4", "--shared", "0", "--separator", "--num-symbols", "50"]
    run("make", "prosqa", "--out", tmp_path, "--preset", "two-family", *options, *SMALL)
    examples = read_examples(tmp_path / "train.jsonl")
    assert all(len(one.steps) == 4 and one.question.count("|") == 16 for one in examples)
    assert max(int(name) for one in examples for name in one.meta["idx_to_symbol"]) > 18


def test_one_token_an_edge_and_two_families_reach_the_data(tmp_path: Path) -> None:
    options = ["--rendering", "symbols", "--joined", "--two-family", "0.5"]
    run("make", "prosqa", "--out", tmp_path, *options, *SMALL)
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
    monkeypatch.setattr(import_module("latentcot.cli.data"), "MOST_SHOWN", 10)
    run("make", "prosqa", "--out", tmp_path, "--train", "40", "--valid", "10", "--test", "11")
    head, _, rest = capsys.readouterr().out.partition("examples ")
    assert " ".join(head.split()).count("first 10") == 2  # train and test, not valid
    assert rest.partition("\n")[0].split() == ["│", "10", "│", "10", "│", "10", "│"]
    assert len(read_examples(tmp_path / "train.jsonl")) == 40  # all are written


def test_a_folder_with_files_is_left_alone_unless_told(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty.*--overwrite"):
        run("make", "prosqa", "--out", tmp_path, *SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    run("make", "prosqa", "--out", tmp_path, *SMALL, "--overwrite")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "data.json").exists()
    with pytest.raises(DataError, match="is a file"):
        run("make", "prosqa", "--out", tmp_path / "mine.txt", *SMALL)


def test_data_of_another_task_go_with_their_note(tmp_path: Path) -> None:
    """What an earlier task has left would be read as part of the folder."""
    few = ["--train", 2, "--valid", 2, "--test", 2]
    run("make", "arithmetic", "--out", tmp_path, *few)
    (tmp_path / "mine.txt").write_text("mine")
    run("make", "prosqa", "--out", tmp_path, *few, "--overwrite")
    splits = {f"{split}.jsonl" for split in ("train", "valid", "test")}
    assert {path.name for path in tmp_path.iterdir()} == {"data.json", "mine.txt", *splits}


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (["prosqa", "--train", "0"], DataError, "every split needs at least 1 .*got --train 0"),
        (["prosqa", "--layers", "3"], RecipeError, "'layers' has no effect with construction 'p"),
        (["prosqa", "--min-hops", "9"], RecipeError, "min_hops must not be above max_hops"),
        (["prosqa", "--joined"], RecipeError, "'joined' has no effect with rendering 'words'"),
        (["prosqa", "--two-family", ".5"], RecipeError, "two_family is for construction"),
        (["prosqa", "--preset", "two-family", "--joined", "--separator"], RecipeError,
         "'separator' has no"),
        (["prosq"], MethodError, "'prosq' does not exist. Did you mean 'prosqa'"),
        (["gsm8k"], MethodError, "'gsm8k': its data cannot be made"),
    ],
)  # fmt: skip
def test_bad_input_makes_nothing(
    tmp_path: Path, tokens: list[str], error: type[LatentcotError], message: str
) -> None:
    with pytest.raises(error, match=message):
        run("make", *tokens, "--out", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_help_lists_the_tasks_and_their_options(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run("make", "--help")
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("prosqa", "prontoqa", "arithmetic"))
    assert "gsm8k" not in listed
    run("make", "prontoqa", "--help")
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--negated-queries --no-negated-queries" in shown
    assert "--hops INT Rules to apply one after the other" in shown
    assert "[default: 9000]" in shown


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
    run("stats", tmp_path / "test.jsonl", "--json", "--task", "gsm8k")
    assert json.loads(capsys.readouterr().out)["share_correct"] == 0


def test_stats_of_a_damaged_graph_name_the_example(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"question": "1+1?", "steps": [], "answer": "2", "edges": [[0, 1]]}\n')
    run("stats", path)  # a key of another task makes no graph of it
    said = capsys.readouterr()
    assert "counted as custom data, since example 1: has no 'idx_to_symbol'" in said.err
    assert "different answers" in said.out
    with pytest.raises(DataError, match="example 1: has no 'idx_to_symbol'"):
        run("stats", path, "--task", "prosqa")


@pytest.mark.parametrize(
    "record",
    [
        {"question": "True or false: a triangle has four sides.", "answer": "False"},
        {"question": "Which shop is nearer?", "answer": "A", "query": "nearest shop"},
        {"question": "How many edges?", "answer": "2", "edges": 2},
        {
            "question": "Grimpuses are vumpuses. Max is a grimpus. True or false: Max is a vumpus.",
            "steps": ["Max is a grimpus.", "Grimpuses are vumpuses. Max is a vumpus."],
            "answer": "True",
        },
    ],
)
def test_a_word_of_another_task_stops_no_statistics(
    tmp_path: Path, record: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "custom.json"
    path.write_text(json.dumps([record]))
    run("stats", path)
    assert "examples" in capsys.readouterr().out


def test_stats_of_custom_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": "1 plus 1", "steps": ["1 + 1 = 2"], "answer": "2"},
            {"question": "2 plus 0 ?", "steps": [], "answer": "2"}]  # fmt: skip
    path = tmp_path / "custom.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    run("stats", path, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "num_examples": 2, "step_histogram": {"0": 1, "1": 1}, "mean_question_words": 3.5,
        "mean_step_words": 5.0, "num_answers": 1, "accuracy_most_frequent": 1.0,
    }  # fmt: skip
    run("stats", path)
    assert "words of a step" in capsys.readouterr().out
