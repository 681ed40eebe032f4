"""`latentcot play`: where it looks for questions, what it says, what it opens."""

import json
import re
import shutil
import webbrowser
from pathlib import Path

import pytest
import yaml

DOCS = Path(__file__).parents[2] / "docs"


def page_in(path):
    found = re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(found[1])


def test_a_run_becomes_a_page(latentcot, tiny_run, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setenv("DISPLAY", ":0")
    ended = latentcot("play", tiny_run, "--beside", tiny_run, "--out", tmp_path / "play.html")
    assert ended.code == 0 and "play.html: " in ended.err
    assert opened == [(tmp_path / "play.html").as_uri()]
    data = page_in(tmp_path / "play.html")
    assert [model["name"] for model in data["models"]] == ["coconut", "coconut"]
    assert data["trained"]["hops"] == [2]  # of its training file
    ended = latentcot("play", tiny_run, "--out", tmp_path / "play.html", "--no-open")
    assert ended.code == 0 and len(opened) == 1


def test_examples_are_found_as_the_run_found_them(latentcot, tiny_run, data, tmp_path):
    """By the columns of its recipe, and no more of them than it was trained on."""
    own = shutil.copytree(tiny_run, tmp_path / "own")
    names = {"question": "ask", "steps": "how", "answer": "said"}
    rows = map(json.loads, (data / "train.jsonl").read_text().splitlines()[:5])
    mine = [json.dumps({names.get(key, key): value for key, value in row.items()}) for row in rows]
    (tmp_path / "mine.jsonl").write_text("\n".join(mine))
    recipe = yaml.safe_load((own / "recipe.yaml").read_text())
    recipe["data"] |= {"train": str(tmp_path / "mine.jsonl"), "max_train": 1, "columns": names}
    (own / "recipe.yaml").write_text(json.dumps(recipe))
    ended = latentcot("play", own, "--out", tmp_path / "play.html", "--no-open")
    assert ended.code == 0, ended.err
    assert len(page_in(tmp_path / "play.html")["puzzles"]) == 1


@pytest.mark.parametrize("has_screen", [False])
@pytest.mark.slow
def test_without_a_screen_nothing_is_opened(latentcot, tiny_run, tmp_path, monkeypatch, has_screen):
    monkeypatch.setattr(webbrowser, "open", lambda url: pytest.fail("opened"))
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert latentcot("play", tiny_run, "--out", tmp_path / "play.html").code == 0


def test_bad_input_is_refused_in_words(latentcot, tiny_run, data, tmp_path):
    [checkpoint] = sorted((tiny_run / "checkpoints").glob("update-*"))[-1:]
    alone = tmp_path / "alone"
    alone.symlink_to(checkpoint)
    for words, match in (
        (["nowhere"], "nowhere"),
        ([alone], "no recipe says what it was trained on.*--data"),
        ([tiny_run, "--data", tmp_path / "no.jsonl"], "no.jsonl"),
        ([tiny_run, "--beside", "nowhere"], "nowhere"),
        (["quickstart-cot"], "cot has no continuous thoughts to watch"),
    ):
        ended = latentcot("play", "--out", tmp_path / "play.html", "--no-open", *words)
        assert ended.code == 2, words
        assert re.search(match, " ".join(ended.err.split())), ended.err
        assert not (tmp_path / "play.html").exists()
    ended = latentcot("play", tiny_run, "--out", tmp_path)
    assert (ended.code, "must be a file, but it is a folder" in ended.err) == (2, True)
    ended = latentcot(
        "play", alone, "--data", data / "test.jsonl", "--out", tmp_path / "play.html", "--no-open"
    )
    assert ended.code == 0, ended.err


@pytest.mark.slow
def test_the_page_in_docs_is_what_the_command_writes(latentcot, tmp_path):
    new, old = tmp_path / "play.html", DOCS / "play.html"
    ended = latentcot("play", "--out", new, "--no-open")
    assert ended.code == 0, ended.err
    new_text, old_text = (
        re.sub(r'"logits":\[\[.*?\]\]', "", path.read_text(encoding="utf-8")) for path in (new, old)
    )
    assert new_text == old_text, "write it again: latentcot play --out docs/play.html --no-open"
    for again, there in zip(page_in(new)["models"], page_in(old)["models"], strict=True):
        for rows in zip(again["check"]["logits"], there["check"]["logits"], strict=True):
            assert rows[0] == pytest.approx(rows[1], abs=1e-3)  # other machines round otherwise
    assert old.stat().st_size < 2_000_000
