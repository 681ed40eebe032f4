"""What larger models cost: an update, its memory, its thoughts, and the most examples that fit.

    python benchmarks/shapes.py run             # all shapes on one GPU: half an hour
    python benchmarks/shapes.py run --device cpu --layers 2 --batch 2 --vocabulary 32000 --gib 4
    python benchmarks/shapes.py count           # memory of whole models, on any machine: minutes
    python benchmarks/shapes.py write           # the tables of docs/larger-models.md

Real architectures with random weights (`latentcot.models.shapes`), at questions of the length of
GSM8k's;
each setting in a process of its own. What is measured goes into results/shapes/cuda.json, or
cpu-2-layers.json for two layers on a CPU, one setting after the other: `--shapes` and `--ways` do
some of them, and the file keeps the others. `count` runs the forward pass on tensors that have a
shape and no content, and counts the bytes that it keeps: results/shapes/kept.json.
"""

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from live_bytes import LiveBytes
from measuring import (
    MIB,
    CoconutStep,
    Found,
    coconut,
    in_turns,
    peak,
    ratio,
    start_of_peak,
    train_step_of,
)
from shapes_page import GIB, THOUGHTS, write_page
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel

from latentcot.curriculum.layout import Layout
from latentcot.errors import TrainingError
from latentcot.models.backend.cuda_graphs import SIGHTS
from latentcot.models.lora import Adapters, add_adapters, hold_lightly
from latentcot.models.settings import Lora
from latentcot.models.shapes import config_of, model_of
from latentcot.recipes.recipe import Training, read_recipe
from latentcot.runs.provenance import provenance
from latentcot.thinking.batch import Batches, collate
from latentcot.utils.files import write_json

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "shapes"
SHAPES = ("qwen3-0.6b", "llama-3.2-1b", "qwen3-1.7b", "llama-3.2-3b")
"""Recipes of gsm8k."""
RATE = 1e-5


@dataclass(frozen=True)
class Way:
    """How a model is trained."""

    saves_memory: bool = False
    has_lora: bool = False


WAYS = {
    "whole": Way(),
    "save_memory": Way(saves_memory=True),
    "lora": Way(has_lora=True),
    "lora+save_memory": Way(saves_memory=True, has_lora=True),
}


@dataclass(frozen=True)
class Setting:
    """What all shapes of a table share.

    Attributes:
        layers: Blocks; those of the shape if None.
        vocabulary: Tokens; those of the shape if None.
        batch: Examples at once.
        question: Columns of each question. GSM8k-Aug's validation questions have 234 letters on
            average, and 413 at the 95th percentile; four letters are about a token.
        words: Columns of what follows the thoughts.
        rounds: Updates timed, of each number of thoughts.
        gib: Memory there is; all that the device has if None.
    """

    layers: int | None
    vocabulary: int | None
    batch: int
    question: int
    words: int
    rounds: int
    gib: float | None

    def batch_of(self, number: int, thoughts: int) -> list[Layout]:
        """Return examples alike, but for their tokens."""
        return [self._layout(random.Random(seed), thoughts) for seed in range(number)]

    def _layout(self, draw: random.Random, thoughts: int) -> Layout:
        most = self.vocabulary or 100_000  # all of these shapes have more
        ids = tuple(draw.randrange(most) for _ in range(self.question + self.words))
        question, words = ids[: self.question], ids[self.question :]
        return Layout(question, thoughts, words, words)


def main() -> None:
    given = _parser().parse_args()
    names = list(Setting.__dataclass_fields__)
    if given.do == "point":
        setting, way = Setting(**given.values["setting"]), Way(**given.values["way"])
        print(json.dumps(point(given.values["shape"], way, setting)))
        return
    setting = Setting(**{name: getattr(given, name) for name in names})
    if given.do == "run":
        name = given.device if given.layers is None else f"{given.device}-{given.layers}-layers"
        measure = partial(_in_a_process, setting=setting, device=given.device)
        record(name, given.shapes, given.ways, setting, measure)
    elif given.do == "count":
        record("kept", given.shapes, given.ways, setting, partial(count, setting=setting))
    else:
        write_page(RESULTS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("do", choices=["run", "count", "write", "point"])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=SHAPES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--layers", type=int, help="blocks; those of the shape if left out")
    parser.add_argument("--vocabulary", type=int, help="tokens; those of the shape if left out")
    parser.add_argument("--batch", type=int, default=32, help="examples at once (%(default)s)")
    parser.add_argument("--question", type=int, default=64, help="positions (%(default)s)")
    parser.add_argument("--words", type=int, default=16, help="positions behind them (%(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="updates timed (%(default)s)")
    parser.add_argument("--gib", type=float, help="memory to fit into; the device's if left out")
    parser.add_argument("--values", type=json.loads, help=argparse.SUPPRESS)
    return parser


# --- all of them ------------------------------------------------------------------------------


def record(
    name: str,
    shapes: list[str],
    ways: list[str],
    setting: Setting,
    measure: Callable[[str, Way], Found],
) -> None:
    """Measure shapes and ways one after the other, and write each down."""
    path = RESULTS / f"{name}.json"
    for shape, way in product(shapes, ways):
        found = measure(shape, WAYS[way])
        print(shape, way, found, flush=True)
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        points = known.get("points", {}) if known.get("setting") == asdict(setting) else {}
        points[f"{shape} {way}"] = found
        write_json(path, {"setting": asdict(setting), "points": points, **provenance()})


def _in_a_process(shape: str, way: Way, setting: Setting, device: str) -> Found:
    values = {"shape": shape, "way": asdict(way), "setting": asdict(setting)}
    command = [sys.executable, __file__, "point", "--values", json.dumps(values)]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, env=os.environ | hidden)
    if done.returncode:
        return {"failed": f"the process ended with {done.returncode}"}
    found: Found = json.loads(done.stdout)
    return found


# --- one of them ------------------------------------------------------------------------------


def point(shape: str, way: Way, setting: Setting) -> Found:
    """Measure one shape, trained in one way.

    Returns:
        `parameters` and `trained`; for each number of thoughts `ms` of an update, `kept_mib` that
        stay from the forward pass to the backward pass, and `kept_mib_a_layer`; `cost` of thoughts
        as a multiple of the update without; `peak_gib` of everything there is; `largest`, the most
        examples at once, with the recipe's three thoughts. What doesn't fit is left out.
    """
    if torch.cuda.is_available() and setting.gib is not None:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, setting.gib * GIB / total))
    found: Found = {"device": _device_name(), "precision": _training(way).precision}
    found |= kept(shape, way, setting)
    train_step = train_step_of(_model(shape, way, setting), _training(way))
    found |= _num_weights(train_step.model)
    found |= _timed(train_step, setting)
    if torch.cuda.is_available() or setting.gib is not None:
        train_step._captured, train_step._grads = None, []  # these keep memory, whatever comes next
        found["largest"] = largest(lambda n: fits(train_step, n, setting))
    return found


def count(shape: str, way: Way, setting: Setting) -> Found:
    """Return what `kept` does, and the number of weights, of a model that has shapes alone.

    In bfloat16, as on a GPU; for autocast it is a CPU.
    """
    # Such tensors can't be moved, as peft does with its own, and have no need to.
    stays = patch.object(torch.nn.Module, "to", lambda module, *_, **__: module)
    with FakeTensorMode(allow_non_fake_inputs=True), stays:
        found = kept(shape, way, setting, is_mixed=True)
        return found | _num_weights(_model(shape, way, setting, is_mixed=True))


def kept(shape: str, way: Way, setting: Setting, *, is_mixed: bool | None = None) -> Found:
    """Return what a forward pass keeps for its backward pass, for each number of thoughts.

    Returns:
        `kept_mib`, and `kept_mib_a_layer`, what of it is each block's. All blocks but the last
        (last-layer pruning) keep the same, so those of one and of two blocks say it for any number.
    """
    depth = _config(shape, setting).num_hidden_layers
    one, two = (_kept_mib(shape, way, replace(setting, layers=n), is_mixed) for n in (1, 2))
    layer = {n: two[n] - one[n] for n in two}
    return {
        "kept_mib": {n: round(one[n] + (depth - 1) * layer[n], 2) for n in one},
        "kept_mib_a_layer": {n: round(mib, 2) for n, mib in layer.items()},
    }


def _kept_mib(shape: str, way: Way, setting: Setting, is_mixed: bool | None) -> dict[str, float]:
    is_mixed = _is_mixed(way) if is_mixed is None else is_mixed
    model = _model(shape, way, setting, is_mixed=is_mixed)
    objective = coconut(model, saves_memory=way.saves_memory).train()
    found = {}
    for thoughts in THOUGHTS:
        batch = collate(setting.batch_of(setting.batch, thoughts)).to(model.device)
        with LiveBytes() as live, torch.autocast(model.device.type, torch.bfloat16, is_mixed):
            sums = objective(Batches({"answer": batch}, {}))
        gc.collect()
        found[str(thoughts)] = live.now / MIB
        del sums
    return found


def _num_weights(model: PreTrainedModel) -> Found:
    weights = list(model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    return {
        "parameters": sum(weight.numel() for weight in weights),
        "trained": trained,
        "weight_bytes": sum(weight.numel() * weight.element_size() for weight in weights),
    }


def _timed(train_step: CoconutStep, setting: Setting) -> Found:
    updates = {str(n): setting.batch_of(setting.batch, n) for n in THOUGHTS}
    sides = {
        n: lambda update=update: train_step.learn(update, RATE) for n, update in updates.items()
    }
    try:
        for update in sides.values():
            for _ in range(SIGHTS if train_step._captured else 0):
                update()
        seconds = in_turns(setting.rounds, **sides)
        peaks = {n: _peak_gib(train_step, update) for n, update in sides.items()}
    except (TrainingError, torch.OutOfMemoryError) as error:
        return {"failed": str(error)}
    none, *some = updates
    return {
        "ms": {n: round(1000 * statistics.median(found), 1) for n, found in seconds.items()},
        "cost": {n: round(ratio(seconds, n, none), 3) for n in some},
        "peak_gib": {n: round(gib, 3) for n, gib in peaks.items()},
    }


def _peak_gib(train_step: CoconutStep, update: Callable[[], Any]) -> float:
    """Weights, moments, gradients and all that an update takes, at its highest mark."""
    if torch.cuda.is_available():
        start_of_peak()
        update()
        return float(peak() / GIB)
    with LiveBytes() as live:
        update()
    return float((_state_bytes(train_step) + live.peak) / GIB)


def _state_bytes(train_step: CoconutStep) -> int:
    """Weights and moments."""
    state = train_step.optimizer.state.values()
    moments = [value for one in state for value in one.values() if isinstance(value, torch.Tensor)]
    return sum(tensor.nbytes for tensor in [*train_step.objective.parameters(), *moments])


def largest(fits: Callable[[int], bool], most: int = 4096) -> int:
    """Return the largest number up to `most` that fits, or 0; what is smaller fits as well."""
    good, bad = 0, 1
    while bad <= most and fits(bad):
        good, bad = bad, 2 * bad
    bad = min(bad, most + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def fits(train_step: CoconutStep, number: int, setting: Setting) -> bool:
    """Return whether so many examples go through at once, next to the gradients of others."""
    # Two micro-batches: the second one finds gradients there, as in the recipes.
    train_step.training = replace(train_step.training, micro_batch_size=number)
    try:
        with _memory_of_a_cpu(train_step, setting):
            train_step.learn(setting.batch_of(2 * number, THOUGHTS[1]), RATE)
    except (TrainingError, torch.OutOfMemoryError):
        return False
    finally:
        train_step.optimizer.zero_grad()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return True


def _memory_of_a_cpu(train_step: CoconutStep, setting: Setting) -> AbstractContextManager[object]:
    """Within it, a CPU has the GiB of the setting; a GPU has its own limit."""
    if torch.cuda.is_available() or setting.gib is None:
        return nullcontext()
    return LiveBytes(limit=setting.gib * GIB - _state_bytes(train_step))


def _model(
    shape: str, way: Way, setting: Setting, *, is_mixed: bool | None = None
) -> PreTrainedModel:
    """Make a model; its weights are numbers of bfloat16, as those that were published."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model_of(_config(shape, setting), device=device)
    if way.has_lora:
        # Any two rows will do for special tokens, and no base is looked for.
        add_adapters(model, Adapters("random weights", "", _lora()), special_tokens=[0, 1])
        if _is_mixed(way) if is_mixed is None else is_mixed:
            _round(model)
            hold_lightly(model, is_exact=True)  # rounded just now
    return model


@cache
def _lora() -> Lora:
    """Return the adapters of the packaged recipes, for all shapes."""
    lora = read_recipe("gsm8k/llama-3.2-1b-lora").lora
    assert lora is not None
    return lora


@torch.no_grad()
def _round(model: PreTrainedModel) -> None:
    for weight in model.parameters():
        if not weight.requires_grad:
            weight.copy_(weight.bfloat16())


def _is_mixed(way: Way) -> bool:
    return _training(way).precision == "bfloat16"


def _config(shape: str, setting: Setting) -> Any:
    model = read_recipe(f"gsm8k/{shape}").model
    config = config_of(model, vocabulary_size=setting.vocabulary)
    if setting.layers is not None:
        config.num_hidden_layers = setting.layers
    return config


def _training(way: Way) -> Training:
    training = Training(save_memory=way.saves_memory)
    return replace(training, precision="bfloat16") if torch.cuda.is_available() else training


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    main()
