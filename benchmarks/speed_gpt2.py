"""Figures of GPT-2 small for `speed.py`: what thoughts cost, and what a GPU does with it."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from measuring import (
    CoconutStep,
    Found,
    gpt2,
    in_turns,
    peak,
    plain_rollout,
    ragged,
    ratio,
    start_of_peak,
)
from scipy.stats import linregress

from latentcot.curriculum.layout import Layout
from latentcot.models.backend.cuda_graphs import SIGHTS, cuda_graphs
from latentcot.models.loading import fast_precision, take_faster_modules
from latentcot.recipes.recipe import Training
from latentcot.thinking.decoding import generate
from latentcot.thinking.recorded import GreedyRecorder

PEAK_TFLOPS = 989.0
"""Dense bfloat16 of one H100 or H200, by its data sheet."""


def thought_cost(batch_size: int, rounds: int, **training: Any) -> Found:
    """Time of an update with six thoughts, as a multiple of its own without.

    The other side is that ratio over transformers' own cache, in the same precision.
    """
    train_step = gpt2(Training(**training))
    if "precision" not in training:  # as a recipe that says nothing has it
        train_step.training = Training(precision=fast_precision(train_step.model), **training)
    take_faster_modules(train_step.model)
    six = ragged(batch_size, thoughts=6)
    none = [replace(one, num_latents=0) for one in six]

    def plain(layouts: list[Layout]) -> None:
        with plain_rollout(), _unrecorded(train_step):
            train_step.learn(layouts, 1e-5)

    for _ in range(SIGHTS):  # what is recorded is recorded
        train_step.learn(none, 1e-5)
        train_step.learn(six, 1e-5)
    seconds = in_turns(
        rounds,
        none=lambda: train_step.learn(none, 1e-5),
        six=lambda: train_step.learn(six, 1e-5),
        plain_none=lambda: plain(none),
        plain_six=lambda: plain(six),
    )
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return {
        "value": round(ratio(seconds, "six", "none"), 3),
        "plain": round(ratio(seconds, "plain_six", "plain_none"), 3),
        "plain_six_over_none": round(ratio(seconds, "plain_six", "none"), 3),
        **{f"ms_{name}": round(1000 * median, 1) for name, median in medians.items()},
        "precision": train_step.training.precision,
        "batch_size": batch_size,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
    }


MANY = (2, 4, 8, 16, 32)


def line_of_thoughts(batch_size: int, rounds: int) -> Found:
    """Share of an update's time that a straight line through the number of thoughts explains."""
    train_step = gpt2(Training())
    train_step.training = Training(precision=fast_precision(train_step.model))
    take_faster_modules(train_step.model)
    batches = {str(number): ragged(batch_size, number) for number in MANY}
    seconds = in_turns(
        rounds,
        **{
            name: lambda layouts=layouts: train_step.learn(layouts, 1e-5)
            for name, layouts in batches.items()
        },
    )
    medians = [1000 * statistics.median(seconds[str(number)]) for number in MANY]
    fit = linregress(MANY, medians)
    return {
        "value": round(fit.rvalue**2, 4),
        "ms_a_thought": round(fit.slope, 1),
        "thoughts": list(MANY),
        "ms": [round(median) for median in medians],
        "precision": train_step.training.precision,
        "batch_size": batch_size,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
    }


@contextmanager
def _unrecorded(train_step: CoconutStep) -> Iterator[None]:
    before, train_step._captured = train_step._captured, None
    try:
        yield
    finally:
        train_step._captured = before


def _gpu_update(batch_size: int, thoughts: int, rounds: int = 10) -> tuple[float, float]:
    """Return seconds of an update of GPT-2 small in bfloat16, and its peak of memory in GiB."""
    start_of_peak()  # before the graph is recorded: what it holds counts
    train_step = gpt2(Training(precision="bfloat16"))
    layouts = ragged(batch_size, thoughts)
    for _ in range(SIGHTS):
        train_step.learn(layouts, 1e-5)
    seconds = in_turns(rounds, update=lambda: train_step.learn(layouts, 1e-5))["update"]
    return statistics.median(seconds), peak() / 2**30


def train_rate_gpt2() -> Found:
    seconds, gib = _gpu_update(128, thoughts=6)
    return {"value": round(128 / seconds), "ms": round(1000 * seconds, 1), "gib": round(gib, 2)}


def step_ms_gpt2() -> Found:
    seconds, gib = _gpu_update(32, thoughts=6)
    return {"value": round(1000 * seconds, 1), "gib": round(gib, 2), "official_ms": 9200}


def peak_gib_gpt2() -> Found:
    return {"value": round(_gpu_update(32, thoughts=6, rounds=3)[1], 2), "official_gib": 34}


def mfu_gpt2() -> Found:
    """FLOPs that the step without thoughts needs, over what the device could do in that time."""
    layouts = ragged(128, thoughts=0)
    seconds, _ = _gpu_update(128, thoughts=0)
    flops = sum(update_flops(len(one.prefix) + len(one.suffix), len(one.suffix)) for one in layouts)
    return {
        "value": round(flops / seconds / (PEAK_TFLOPS * 1e12), 3),
        "tflop": round(flops / 1e12, 2),
        "ms": round(1000 * seconds, 1),
    }


def update_flops(columns: int, labelled: int, layers: int = 12, width: int = 768) -> float:
    """FLOPs that one example of GPT-2 needs: six for each weight and column, and attention.

    Of the last block all columns need keys and values, a sixth of its weights; the rest only those
    whose states are read.
    """
    whole = 6 * 12 * width**2 * columns
    attention = 6 * width * columns**2  # scores and sums, causal: half of the square
    last = whole / 6 + 6 * 10 * width**2 * labelled + 12 * width * columns * labelled
    return (layers - 1) * (whole + attention) + last + 6 * width * 50_257 * labelled


def _gpu_generation(batch_size: int, thoughts: int, words: int, rounds: int) -> float:
    """Return seconds for a batch of GPT-2 small in bfloat16, all texts of so many words."""
    model = gpt2(Training()).model.eval()
    graphs = cuda_graphs(model.device)
    assert graphs is not None
    recorder = GreedyRecorder(model, None, graphs)
    prompts = [one.prompt() for one in ragged(batch_size, thoughts, words=1)]

    def write() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            generate(
                model, prompts, eos_id=-1, max_new_tokens=words, batch_size=batch_size,
                recorder=recorder,
            )  # fmt: skip

    for _ in range(1 + SIGHTS):  # the first tells how long texts are
        write()
    return statistics.median(in_turns(rounds, write=write)["write"])


def _best_rate(thoughts: int, words: int) -> Found:
    rates = {n: n / _gpu_generation(n, thoughts, words, 3) for n in (128, 256, 512, 1024)}
    best = max(rates, key=lambda n: rates[n])
    return {"value": round(rates[best]), "batch_size": best}


def generate_rate_gpt2() -> Found:
    return {**_best_rate(thoughts=6, words=9), "precision": "bfloat16", "official": 7.8}


def generate_ms_b1_gpt2() -> Found:
    return {"value": round(1000 * _gpu_generation(1, 6, 9, 20), 2), "official": 128}


def cot_rate_gpt2() -> Found:
    return {**_best_rate(thoughts=0, words=58), "precision": "bfloat16", "official": 2.1}


def cot_ms_b1_gpt2() -> Found:
    return {"value": round(1000 * _gpu_generation(1, 0, 58, 20), 2), "official": 470}
