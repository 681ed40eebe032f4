"""Tiny runs for the tests: two-family graphs of 2 layers, one block of width 16, a dozen updates.

Nothing heavy is imported here before a fixture needs it, so that the tests without tensors start
at once.
"""

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from interrupts import NUM_STAGES, SIZES

# Helpers that assert: pytest shows what both sides were.
pytest.register_assert_rewrite("rollouts")

# Machines are busy: no example of a property has to be quick.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Read when huggingface_hub and tokenizers are imported: no test reaches a network.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

Values = dict[str, Any]
Recipes = Callable[..., Values]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl, valid.jsonl and test.jsonl: 2 steps, single-token nodes."""
    from latentcot.data.examples import write_examples
    from latentcot.tasks.prosqa.generator import make_splits
    from latentcot.tasks.prosqa.options import options_named

    folder = tmp_path_factory.mktemp("data")
    options = options_named("two-family", layers=NUM_STAGES, shared=0)
    for split, examples in make_splits(options, SIZES, seed=0).items():
        write_examples(folder / f"{split}.jsonl", examples)
    return folder


@pytest.fixture(scope="session")
def recipe_values(data: Path) -> Recipes:
    """A function (method, part={key: value}, key=value, …) → the values of a tiny recipe."""

    def make(method: str = "coconut", **changes: Any) -> Values:
        # The paper's defaults, said: those of a model from scratch are meant for longer runs.
        values: Values = {
            "method": method,
            "data": {split: str(data / f"{split}.jsonl") for split in SIZES},
            "model": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_positions": 96},
            "template": {"question_end": "", "step_end": "", "answer_start": "[A] "},
            # 4 updates an epoch, so stages begin after updates 4 and 8.
            "curriculum": {
                "num_stages": NUM_STAGES, "epochs_stage_0": 1, "epochs_per_stage": 1,
                "zero_thoughts": "both", "introduce_special_tokens": False, "stage_mix_prob": 0.0,
                "stage_mix_range": "all", "reset_optimizer": True, "learned_below": 0.4,
            },
            "training": {
                "epochs": None, "max_updates": 12, "batch_size": 8, "learning_rate": 3e-3,
                "betas": [0.9, 0.999], "weight_decay": 0.01, "max_grad_norm": None,
                "warmup_updates": 0, "decay_share": 0.0, "final_learning_rate_share": 0.0,
                "validate_every": None, "log_every": 1,
            },
            "generation": {"max_new_tokens": 8},
        }  # fmt: skip
        for key, change in changes.items():
            both = isinstance(change, dict) and isinstance(values.get(key), dict)
            values[key] = values[key] | change if both else change
        return values

    return make


@pytest.fixture(scope="session")
def make_recipe(recipe_values: Recipes) -> Callable[..., Any]:
    """The same, as a `Recipe`."""
    from latentcot.recipes.recipe import make_recipe

    return lambda *args, **changes: make_recipe(recipe_values(*args, **changes))


@pytest.fixture(scope="session")
def tiny_run(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished Coconut run of all stages. Tests read it, and write only into its evals/."""
    from latentcot.training.train import train

    run = tmp_path_factory.mktemp("runs") / "coconut"
    assert train(make_recipe(), run, is_quiet=True)
    return run


@pytest.fixture
def babbler(tiny_run: Path) -> Any:
    """A `Reasoner` with the settings of the tiny run and large random weights.

    What it says depends on every token that it reads, and is of no use.
    """
    import torch

    from latentcot import load

    reasoner = load(tiny_run)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in reasoner.model.named_parameters():
            if not name.endswith(("bias", "ln_1.weight", "ln_2.weight", "ln_f.weight")):
                parameter.normal_(std=0.6, generator=random)
    return reasoner


@pytest.fixture
def speaker(tiny_run: Path) -> Callable[..., Any]:
    """A function (word, …) → a `Reasoner` that says these words, whatever it is asked.

    Its block does nothing, so a state depends on the newest token alone, and the row of each word
    in the output head is the state after the word before it. The first one follows `<eot>`.
    """
    import torch

    from latentcot import load

    def make(*words: str) -> Any:
        reasoner = load(tiny_run)
        model, special_tokens = reasoner.model, reasoner.rules.special_tokens
        head = torch.nn.Linear(16, len(reasoner.tokenizer), bias=False)
        says = [
            special_tokens.eot,
            *reasoner.tokenizer.convert_tokens_to_ids(words),
            special_tokens.eos,
        ]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "wte" not in name:
                    parameter.fill_(name.endswith("ln_f.weight"))
            states = model.transformer.ln_f(model.transformer.wte.weight)
            head.weight.zero_()
            for before, after in pairwise(says):
                head.weight[after] = states[before]
        model.set_output_embeddings(head)
        return reasoner

    return make


@pytest.fixture
def recipe_file(recipe_values: Recipes, tmp_path: Path) -> Path:
    """A tiny recipe on disk."""
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe_values()))  # JSON is YAML
    return path


@pytest.fixture
def ctrl_c_raises() -> Iterator[None]:
    """As in a terminal: a process that was started in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def latentcot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """The command `latentcot`, in this process: words → exit code and what it printed."""
    from latentcot.cli import main

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["latentcot", *map(str, words)])
        capsys.readouterr()
        try:
            with warnings.catch_warnings():
                # Here it really is sys.argv that is to be read.
                warnings.filterwarnings("ignore", message="Cyclopts application invoked")
                main()
            code: Any = 0
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return Ended(code or 0, printed.out, printed.err)

    return run
