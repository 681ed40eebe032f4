"""Two processes side by side do what one does alone: same data, loss, updates and files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from latentcot import load
from latentcot.runs import read_metrics
from latentcot.training import train


def train_in_two(recipe: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "latentcot"]
    return subprocess.run(
        [sys.executable, "-m", *command, "train", str(recipe), "--out", str(out), "--quiet"],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


CHANGES: dict[str, dict[str, Any]] = {
    # Ragged thoughts: each example draws its own stage, so ranks differ in passes.
    "mixed stages": {"curriculum": {"stage_mix_prob": 0.5}},
    # At stage 0 no slot is there for the classifier to see, in some batches on one rank alone.
    "classifier": {
        "stop": "classifier",
        "curriculum": {
            "pad_to_num_stages": False,
            "stage_mix_prob": 0.2,
            "stage_mix_range": "past",
        },
        "training": {"micro_batch_size": 3},
    },
}


@pytest.mark.parametrize("name", CHANGES)
def test_two_processes_train_as_one(
    name: str, recipe_values: Any, make_recipe: Any, tmp_path: Path
) -> None:
    changes = CHANGES[name]
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe_values(**changes)))
    done = train_in_two(path, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert train(make_recipe(**changes), tmp_path / "one", is_quiet=True)

    one, two = (
        [row for row in read_metrics(tmp_path / name) if row["kind"] == "train"]
        for name in ("one", "two")
    )
    assert [row["update"] for row in one] == [row["update"] for row in two]
    for alone, together in zip(one, two, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert together.get("stop_loss", 0) == pytest.approx(alone.get("stop_loss", 0), rel=1e-3)
    assert any("stop_loss" in row for row in two) == (name == "classifier")
    for (weight, alone), (_, together) in zip(
        load(tmp_path / "one").model.named_parameters(),
        load(tmp_path / "two").model.named_parameters(),
        strict=True,
    ):
        if (
            "c_attn.bias" in weight
        ):  # keys' biases have no gradient but rounding, which Adam blows up
            continue
        assert torch.allclose(alone, together, rtol=1e-3, atol=1e-5), weight
    heads = [load(tmp_path / place).stop_head for place in ("one", "two")]
    if name == "classifier":
        weights = [torch.cat([p.flatten() for p in head.parameters()]) for head in heads if head]
        assert torch.allclose(*weights, rtol=1e-3, atol=1e-5)
        assert weights[0].any()
    else:
        assert heads == [None, None]


def test_a_batch_that_cannot_be_shared_evenly_is_refused(
    recipe_values: Any, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe_values(training={"batch_size": 7})))
    done = train_in_two(path, tmp_path / "two")
    assert done.returncode != 0
    assert "training.batch_size: must be a multiple of the 2 processes, got 7." in done.stderr
    assert not (tmp_path / "two").exists()
