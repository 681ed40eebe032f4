"""Recipes and data of the small runs of benchmarks/faults.py."""

from pathlib import Path
from random import Random
from typing import Any

import yaml

from latentcot.data.examples import Example, write_examples
from latentcot.utils.files import written_whole

SIZES = {"train": 32, "valid": 12, "test": 12}
NUM_UPDATES = 24

# Everything random is on; no interval divides another, so saves fall everywhere.
_COMMON: dict[str, Any] = {
    "model": {
        "hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_positions": 96, "dropout": 0.2,
    },
    "template": {"question_end": " ", "step_end": " ", "answer_start": "[A] "},
    "curriculum": {
        "num_stages": 2, "epochs_stage_0": 1, "epochs_per_stage": 1, "stage_mix_prob": 0.3,
    },
    "training": {
        "epochs": None, "max_updates": NUM_UPDATES, "batch_size": 8, "learning_rate": 3e-2,
        "log_every": 1, "validate_every": 3, "save_every": 2, "warmup_updates": 2,
        "decay_share": 0.5, "max_grad_norm": 1.0,
    },
    "generation": {"max_new_tokens": 8},
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "classifier": {
        "method": "coconut", "seed": 3, "stop": "classifier",
        "curriculum": {"pad_to_num_stages": False},
    },
    "learned": {
        "method": "coconut", "seed": 2,
        "curriculum": {"advance": "learned", "learned_window": 3, "max_updates_per_stage": 5},
        "training": {"micro_batch_size": 4, "deterministic": True},
    },
    "plain": {"method": "coconut"},
}  # fmt: skip
"""Name → what differs. The clock of `learned` depends on the losses that it saw; `plain` is for
studies."""


def make_data(folder: Path) -> None:
    """Write train.jsonl, valid.jsonl and test.jsonl.

    The answers are words drawn blindly, so that what the model says changes from one validation to
    the next, and the best checkpoint need not be the newest.
    """
    rng = Random(0)
    for split, size in SIZES.items():
        write_examples(
            folder / f"{split}.jsonl", [_example(rng, f"{split}-{i}") for i in range(size)]
        )


def _example(rng: Random, name: str) -> Example:
    words = ["gram", "lop", "ster", "vum", "quil"]
    steps = [" ".join(rng.choices(words, k=2)) for _ in range(rng.randint(1, 2))]
    return Example(name, " ".join(rng.choices(words, k=5)), tuple(steps), rng.choice(words[:3]))


def write_recipe(variant: str, data: Path, path: Path) -> Path:
    """Write the recipe of a variant."""
    values = {**_COMMON, "data": {split: str(data / f"{split}.jsonl") for split in SIZES}}
    for key, change in VARIANTS[variant].items():
        values[key] = values[key] | change if key in values else change
    with written_whole(path) as file:
        yaml.safe_dump(values, file)
    return path
