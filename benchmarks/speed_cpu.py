"""Figures of a CPU for `speed.py`: GPT-2 small, answers, start-up, and beside an older commit."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from measuring import (
    MIB,
    Found,
    NotHereError,
    gpt2,
    in_turns,
    peak,
    plain_rollout,
    ragged,
    ratio,
    start_of_peak,
)
from speed_gpt2 import update_flops
from transformers import PreTrainedModel

from latentcot.models.loading import fast_precision, take_faster_modules
from latentcot.recipes.recipe import Training
from latentcot.thinking.decoding import generate

OLDER = "LATENTCOT_OLDER"
"""Environment variable: a checkout of the commit that is beside ours."""


def matrix_rates() -> Found:
    """What this machine does at most, in GFLOP/s and GB/s: products of GPT-2's shape, copies."""
    found: Found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = torch.randn(1400, 768).to(dtype), torch.randn(768, 3072).to(dtype)
        seconds = statistics.median(in_turns(20, mm=lambda a=left, b=right: a @ b)["mm"])
        found[f"gflops_{name}"] = round(2 * 1400 * 768 * 3072 / seconds / 1e9, 1)
    source = torch.randn(64 * MIB // 4)
    target = torch.empty_like(source)
    seconds = statistics.median(in_turns(10, copy=lambda: target.copy_(source))["copy"])
    return {**found, "copy_gb_per_s": round(2 * 64 * MIB / seconds / 1e9, 1)}


def train_gpt2(batch_size: int, rounds: int) -> Found:
    """An update of GPT-2 small, six thoughts and nine words, as a recipe that says nothing has it.

    The other side is float32 over transformers' own cache, with its GELU and autograd's gradients.
    `float32` is our own beside it, if ours is in bfloat16.
    """
    rates = matrix_rates()
    layouts, peaks = ragged(batch_size, thoughts=6, words=9), {}
    theirs = gpt2(Training(precision="float32"))
    ours = gpt2(Training(precision=fast_precision(theirs.model)))
    take_faster_modules(ours.model)

    def plain() -> None:
        with plain_rollout():
            theirs.learn(layouts, 1e-5)

    def in_float32() -> None:
        fast, ours.training = ours.training, theirs.training
        ours.learn(layouts, 1e-5)
        ours.training = fast

    sides: dict[str, Callable[[], object]] = {"ours": lambda: ours.learn(layouts, 1e-5)}
    if ours.training.precision != "float32":
        sides["float32"] = in_float32
    sides["plain"] = plain
    for name, do in sides.items():
        start = start_of_peak()
        do()
        peaks[f"mib_{name}"] = round((peak() - start) / MIB)
    seconds = in_turns(rounds, **sides)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    flops = sum(update_flops(len(one.prefix) + len(one.suffix) + 6, 9) for one in layouts)
    share = flops / medians["ours"] / 1e9 / rates[f"gflops_{ours.training.precision}"]
    return {
        "value": round(ratio(seconds, "plain", "ours"), 3),
        **({"float32": round(ratio(seconds, "plain", "float32"), 3)} if "float32" in sides else {}),
        "precision": ours.training.precision,
        "share_of_matrix_rate": round(share, 3),
        **{f"s_{name}": round(median, 2) for name, median in medians.items()},
        **peaks,
        **rates,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
    }


def answers_gpt2(batch_size: int, thoughts: int, words: int, rounds: int) -> Found:
    """Answers of GPT-2 small, all texts of so many words; beside float32 over transformers' cache.

    `value` is of the faster precision: what `--precision` may say.
    """
    model, theirs = (gpt2(Training()).model.eval() for _ in range(2))
    take_faster_modules(model)
    prompts = [one.prompt() for one in ragged(batch_size, thoughts, words=1)]

    def write(model: PreTrainedModel, *, is_plain: bool = False, is_low: bool = False) -> None:
        way = plain_rollout() if is_plain else nullcontext()
        with way, torch.autocast("cpu", torch.bfloat16, enabled=is_low):
            generate(model, prompts, eos_id=-1, max_new_tokens=words, batch_size=batch_size)

    seconds = in_turns(
        rounds,
        float32=lambda: write(model),
        bfloat16=lambda: write(model, is_low=True),
        plain=lambda: write(theirs, is_plain=True),
    )
    ratios = {name: round(ratio(seconds, "plain", name), 3) for name in ("float32", "bfloat16")}
    return {
        "value": max(ratios.values()),
        **ratios,
        **{f"s_{name}": round(statistics.median(found), 2) for name, found in seconds.items()},
        "rounds": rounds,
        "threads": torch.get_num_threads(),
    }


# --- beside an older commit ---------------------------------------------------------------------

STAGES = [40, 40, 40]
"""Updates of the first stages of a run of 160; the rest are the last stage's."""


def quickstart_against(rounds: int, threads: int, *changes: str, width: int = 2) -> Found:
    """Examples/s of a quickstart's training, over those of an older checkout; runs take turns.

    Graphs have so many nodes in each layer of a family: with 27 of them a question has 330 tokens.
    """
    older = os.environ.get(OLDER)
    if not older:
        raise NotHereError(f"set {OLDER} to a checkout of 3f03c1d (git worktree add PATH 3f03c1d)")
    roots = {"ours": Path(__file__).parent.parent, "older": Path(older)}
    rates: dict[str, list[float]] = {name: [] for name in roots}
    with tempfile.TemporaryDirectory() as scratch:
        data = f"{scratch}/data"
        make = f"data make prosqa --out {data} --preset two-family --layers 3 --shared 0"
        sizes = f"--width {width} --shallower 0.5 --train 6400 --valid 20 --test 20"
        _latentcot(roots["older"], 1, *make.split(), *sizes.split())
        recipe = [
            *(f"data.{split}={data}/{split}.jsonl" for split in ("train", "valid", "test")),
            f"curriculum.max_updates_per_stage={[*STAGES, 40]}", "curriculum.learned_below=0.0001",
            "training.max_updates=160", "training.log_every=5", *changes,
        ]  # fmt: skip
        options = [part for change in recipe for part in ("--set", change)]
        for number in range(rounds):
            for name, root in roots.items():
                run = f"{scratch}/{name}-{number}"
                _latentcot(root, threads, "train", "quickstart", "--out", run, "--quiet", *options)
                lines = Path(run, "metrics.jsonl").read_text().splitlines()
                rows = [json.loads(line) for line in lines]
                found = [row for row in rows if "examples_per_second" in row]
                stages = {row["stage"] for row in found}
                rates[name].append(
                    statistics.fmean(
                        statistics.median(
                            row["examples_per_second"] for row in found if row["stage"] == stage
                        )
                        for stage in stages
                    )
                )
    pairs = zip(rates["ours"], rates["older"], strict=True)
    return {
        "value": round(statistics.median(ours / older for ours, older in pairs), 3),
        **{f"rate_{name}": round(statistics.median(found)) for name, found in rates.items()},
        "older_commit": _commit(roots["older"]),
        "rounds": rounds,
        "threads": threads,
    }


def _latentcot(root: Path, threads: int, *words: str) -> None:
    env = os.environ | {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, "-m", "latentcot", *words], env=env, check=True)


def _commit(root: Path) -> str:
    command = ["git", "-C", str(root), "rev-parse", "--short=10", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# --- start-up -----------------------------------------------------------------------------------

IMPORTS = "import torch, transformers; from transformers import GPT2LMHeadModel, AutoTokenizer"
QUESTION = "11 0 11 5 4 8 4 1 3 12 12 9 12 13 0 4 0 6 7 3 7 2 3 10 [Q] 8 13 [R] 11"


def start_up(*words: str, rounds: int = 5) -> Found:
    """CPU seconds of a command, from its start to its end."""
    command = [sys.executable, "-m", "latentcot", *words]
    return {"value": round(statistics.median(_cpu_seconds(command, rounds)), 3), "rounds": rounds}


def show_run() -> Found:
    """CPU seconds of `show RUN`, of a run of one update."""
    with tempfile.TemporaryDirectory() as scratch:
        root, data = Path(__file__).parent.parent, f"{scratch}/data"
        _latentcot(root, 1, *f"data make prosqa --out {data} --valid 20 --test 20".split(),
                   "--train", "64")  # fmt: skip
        changes = [f"data.{split}={data}/{split}.jsonl" for split in ("train", "valid", "test")]
        changes += ["training.max_updates=1", "model.num_positions=512"]
        options = [part for change in changes for part in ("--set", change)]
        _latentcot(root, 1, "train", "quickstart", "--out", f"{scratch}/run", "--quiet", *options)
        return start_up("show", f"{scratch}/run")


def generate_over_imports(rounds: int = 5) -> Found:
    """CPU seconds of an answer from the shell, over those of importing the model's class alone."""
    answer = [sys.executable, "-m", "latentcot", "generate", "quickstart", QUESTION]
    found = [(_cpu_seconds(answer, 1)[0], _cpu_seconds([sys.executable, "-c", IMPORTS], 1)[0])
             for _ in range(rounds)]  # fmt: skip
    ours, imports = zip(*found, strict=True)
    return {
        "value": round(statistics.median(a / b for a, b in found), 3),
        "s": round(statistics.median(ours), 2),
        "s_imports": round(statistics.median(imports), 2),
        "rounds": rounds,
    }


def _cpu_seconds(command: Sequence[str], rounds: int) -> list[float]:
    found = []
    for number in range(rounds + 1):
        before = os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = os.times()
        if number:
            mine = after.children_user + after.children_system
            found.append(mine - before.children_user - before.children_system)
    return found
