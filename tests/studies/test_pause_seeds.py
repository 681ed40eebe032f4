"""Seeds of the two rows that compute one function, compared by benchmarks/pause_seeds.py."""

import json
import sys
from pathlib import Path

import pytest

from latentcot import load
from latentcot.evaluation.results import Evaluation
from latentcot.training.train import train

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import pause_seeds


def test_two_rows_of_one_function(make_recipe, latentcot, monkeypatch, tmp_path):
    for method in pause_seeds.OTHER:
        for seed in (1, 2):
            run = tmp_path / "arithmetic" / method / f"seed-{seed}"
            assert train(make_recipe(method=method, seed=seed), run, is_quiet=True)
            assert latentcot("eval", run, "--quiet").code == 0
    monkeypatch.setattr(pause_seeds, "RESULTS", tmp_path)
    monkeypatch.setattr(pause_seeds, "IMAGE", tmp_path / "seeds.png")
    pause_seeds.main(tmp_path)
    found = json.loads((tmp_path / "pairs.json").read_text())
    assert [one["answered_otherwise"] for one in found["runs"]] == [0] * 4
    assert len(found["pairs"]) == 6
    text = (tmp_path / "more.md").read_text()
    assert "answer 0 of" in text and "Two seeds of one row: of 2 pairs" in text
    assert "One seed of each row: of 4 pairs" in text
    assert (tmp_path / "seeds.png").stat().st_size > 10_000

    result = Evaluation.read(run / "evals" / "test.json")
    assert pause_seeds.difference(result, result) == {"points": 0.0, "p": 1.0}
    turned = load(run)  # other weights are told: the count is not 0 whatever is asked
    turned.model.lm_head.weight.data.neg_()
    monkeypatch.setattr(pause_seeds, "load", lambda _: turned)
    assert pause_seeds.answered_otherwise(run, "coconut-pause-as-thought", result) > 0


def test_a_study_without_runs_says_what_comes_first(tmp_path):
    with pytest.raises(SystemExit, match=r"First: benchmarks/studies.py run pause-seeds"):
        pause_seeds.main(tmp_path)
