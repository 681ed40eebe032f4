"""Named data sets: what a name stands for, what is read under it, and what is warned about."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latentcot.data.examples import read_examples
from latentcot.data.formats import files_of, is_hub, source_hash
from latentcot.data.named import NAMED, for_key, notes_on, place_of
from latentcot.data.sources import open_stream
from latentcot.errors import DataError, RecipeError

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k_train.jsonl"
SOLUTION = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nIn all <<48+24=72>>72.\n#### 72"


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two questions that stand for what the hub holds of GSM8k and GSM-Hard."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = {
        "gsm8k": {"question": "How many?", "answer": SOLUTION},
        "gsm-hard": {"input": "How many?", "code": "…", "target": 21557.250000000004},
    }
    for name, row in rows.items():
        folder = tmp_path / name
        folder.mkdir()
        lines = [json.dumps(row | {"question": f"{i}?"} if name == "gsm8k" else row) for i in "12"]
        (folder / "train.jsonl").write_text("\n".join(lines))
        for same in [name, "gsm8k-nl"] if name == "gsm8k" else [name]:
            splits = {"test": ("train", 2), "train": ("train", 3)}
            monkeypatch.setitem(NAMED, same, replace(NAMED[same], hub=str(folder), splits=splits))
    return tmp_path


def test_every_place_of_the_table_is_one() -> None:
    for name, row in NAMED.items():
        assert row.tested in row.splits and row.file
        for split in row.splits:
            if row.hub is None:
                with pytest.raises(DataError, match=rf"Give {name}:{split}=FILE, "):
                    place_of(f"{name}:{split}")
            else:
                assert re.fullmatch(r"hub(:[\w./+-]+){2,3}", place_of(f"{name}:{split}"))


def test_a_name_is_read_from_where_it_lies(on_disk: Path) -> None:
    [first, _] = read_examples("gsm8k")
    assert (first.steps, first.answer) == (("<<48/2=24>>", "<<48+24=72>>"), "72")
    assert list(open_stream("gsm8k-nl", num_examples=2)) == read_examples("gsm8k-nl")
    assert read_examples("gsm8k-nl")[0].steps == (
        "Natalia sold 48/2 = 24 clips in May.",
        "In all 72.",
    )
    assert read_examples("gsm-hard")[0].answer == "21557.25"
    assert source_hash("gsm8k") == source_hash("gsm8k:test")


def test_a_file_can_be_given_for_a_name(on_disk: Path) -> None:
    file = on_disk / "gsm8k" / "train.jsonl"
    for source in (f"gsm8k-nl={file}", f"gsm8k-nl:train={file}"):
        assert not is_hub(source) and files_of(source) == [file]
        assert source_hash(source) == source_hash(file)
        assert read_examples(source)[0].steps[1] == "In all 72."
        assert [e.steps for e in open_stream(source)] == [e.steps for e in read_examples(source)]


@pytest.mark.skipif(not GSM8K.is_file(), reason=f"{GSM8K} is not here")
def test_the_official_training_file_is_read_as_it_is() -> None:
    equations, lines = (read_examples(f"{name}:train={GSM8K}") for name in ("gsm8k", "gsm8k-nl"))
    assert len(equations) == len(lines) == 7_473
    assert notes_on(f"gsm8k:train={GSM8K}", len(equations)) == []
    first = equations[0]
    assert first.question.startswith("Natalia sold clips") and first.answer == "72"
    assert first.steps == ("<<48/2=24>>", "<<48+24=72>>")
    assert lines[0].steps[0] == "Natalia sold 48/2 = 24 clips in May."
    without = [e for e in equations if not all(s.startswith("<<") for s in e.steps)]
    assert len(without) == 95  # these have no equation: their lines are their steps
    assert all(e.steps for e in equations)
    assert not any("<<" in step for example in lines for step in example.steps)


@pytest.mark.parametrize(
    ("source", "count", "words"),
    [
        ("svamp", 1_000, ["papers differ under this name: all 1,000"]),
        ("svamp", 300, ["300 questions were read, but svamp:all has 1,000", "papers differ"]),
        ("multiarith", 180, ["580 (LatentTTS), 600 (CoLaR"]),
        ("gsm-hard", 1_318, ["1,318 questions were read, but gsm-hard:test has 1,319", "differ"]),
        ("gsm8k-aug", 1_319, []),
        ("multiarith.json", 7, []),
    ],
)
def test_what_is_warned_about(source: str, count: int, words: list[str]) -> None:
    notes = notes_on(source, count)
    assert [word in note for word, note in zip(words, notes, strict=True)] == [True] * len(words)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("svamp:valid", "has no split 'valid'. Write svamp (all), svamp:SPLIT with one of all, "),
        ("gsm-hard=", "no file stands behind '='"),
        ("prosqa", "lies in no data set of the hub. Give prosqa:test=FILE, data/"),
        ("gsmhard", "no such file. Did you mean 'gsm-hard'?"),
        ("svamp=nowhere.json", "nowhere.json: no such file."),
        ("gsm-hard", "It lies at hub:reasoning-machines/gsm-hard:train, which needs a network"),
        ("gsm-hard", "Give gsm-hard:test=FILE, gsmhardv2.jsonl"),
    ],
)
def test_what_is_not_there_is_said(source: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        read_examples(source)
    assert words in str(caught.value)


def test_a_key_of_a_recipe_gets_its_split(recipe_values: Any) -> None:
    from latentcot.recipes.recipe import make_recipe

    names = {"train": "gsm8k-aug", "valid": "gsm8k-aug=v.txt", "test": "svamp"}
    data = make_recipe(recipe_values(data=names)).data
    assert (data.train, data.valid) == ("gsm8k-aug:train", "gsm8k-aug:valid=v.txt")
    assert data.test == "svamp:all"
    assert for_key("gsm8k-aug:test", "train") == "gsm8k-aug:test"
    with pytest.raises(RecipeError, match=r"data.valid: .*gsm8k:valid: has no split 'valid'"):
        make_recipe(recipe_values(data=names | {"valid": "gsm8k"}))


def test_a_run_and_its_table(
    latentcot: Any, recipe_file: Path, data: Path, monkeypatch: Any
) -> None:
    """A name in a recipe, several in `eval`, one in `analyze`: as any file."""
    for name in ("prosqa", "svamp"):
        splits = dict.fromkeys(("train", "valid", "test"), ("", 99))
        row = replace(NAMED[name], splits=splits, tested="test", match=None)
        monkeypatch.setitem(NAMED, name, row)
    monkeypatch.chdir(recipe_file.parent)
    test, train = data / "test.jsonl", data / "train.jsonl"
    sets = ["--set", f"data.train=prosqa={train}", "--set", f"data.test=prosqa={test}"]
    trained = latentcot("train", recipe_file, "--out", "run", *sets)
    assert trained.code == 0
    assert "questions were read, but prosqa:train has 99" in trained.err
    sources = [f"prosqa={test}", f"svamp={test}", test]
    shown = latentcot("eval", "run", "--data", *sources)
    assert shown.code == 0, shown.err
    count = len(read_examples(test))
    for label in ("prosqa", "svamp", str(test)):
        [row] = [line for line in shown.out.splitlines() if line.startswith(f"{label} ")]
        assert f" {count} " in row
    assert "svamp: papers differ under this name" in shown.err
    assert f"{count} questions were read, but svamp:test has 99" in shown.err
    written = {file.stem for file in Path("run/evals").iterdir()}
    assert {"prosqa", "svamp", f"{test.parent.name}-test"} <= written
    as_json = latentcot("eval", "run", "--json", "--limit", 2, "--data", *sources)
    assert [one["accuracy"]["n"] for one in json.loads(as_json.out)] == [2, 2, 2]
    refused = latentcot("eval", "run", "--out", "x.json", "--data", *sources)
    assert "--out: takes the result of one file" in refused.err
    analyzed = latentcot("analyze", "run", "--data", sources[0], "--only", "geometry")
    assert analyzed.code == 0, analyzed.err
    assert latentcot("list", "data").out.count("\n") > len(NAMED)
