"""Measure how fast this machine is: real updates of small models, and the three figures behind."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from transformers import AutoConfig, PreTrainedConfig

from latentcot.curriculum.layout import Layout
from latentcot.methods import method_named
from latentcot.planning.devices import Device
from latentcot.planning.work import Shape, Subject, Work, update_work, weights_of
from latentcot.recipes.recipe import Training
from latentcot.thinking.batch import collate
from latentcot.training.step import Shard, TrainStep

ROUNDS = 5
"""Updates that are timed; the fastest counts: what others do on the machine only adds."""


def gpt2(width: int, layers: int, words: int) -> PreTrainedConfig:
    """Return the shape of a GPT-2 of these sizes."""
    config: PreTrainedConfig = AutoConfig.for_model(
        "gpt2",
        n_embd=width,
        n_layer=layers,
        n_head=max(1, width // 64),
        vocab_size=words,
        bos_token_id=0,
        eos_token_id=0,
    )
    return config


_SETTINGS: tuple[tuple[PreTrainedConfig, Shape], ...] = tuple(
    (gpt2(width, layers, words), Shape(*shape))
    for width, layers, words, shape in (
        (64, 4, 500, (2, 32, 0, 8)),  # many kernels, each small
        (64, 4, 500, (4, 48, 8, 8)),
        (256, 4, 5_000, (16, 100, 0, 24)),
        (256, 4, 5_000, (8, 100, 6, 24)),
        (640, 3, 20_000, (1, 40, 8, 8)),  # many bytes: few columns for all weights
        (640, 3, 20_000, (2, 150, 0, 40)),
        (640, 3, 20_000, (12, 150, 3, 20)),  # many products
        (1024, 2, 10_000, (8, 200, 0, 30)),
    )
)


@dataclass(frozen=True, slots=True)
class _Point:
    work: Work
    seconds: float


def calibrate(say: Callable[[str], None] = lambda line: None) -> Device:
    """Measure updates of small models on this machine, in float32, and find its figures."""
    points = []
    for config, shape in _SETTINGS:
        subject = Subject(config, method_named("coconut"))
        seconds = seconds_of(subject, shape)
        work = update_work(subject, [(shape, 1.0)], weights_of(subject))
        points.append(_Point(work, seconds))
        say(f"width {config.hidden_size}, {shape}: {1000 * seconds:,.0f} ms an update")
    rate, bandwidth, start = _fitted(points)
    return Device(
        name=f"{platform.machine()}, {torch.get_num_threads()} threads",
        flops={"float32": rate, "bfloat16": rate},
        bandwidth=bandwidth,
        kernel_seconds=start,
        memory=_memory(),
        is_measured=True,
        source=f"updates of {len(points)} small models in float32, torch {torch.__version__}",
    )


def seconds_of(subject: Subject, shape: Shape, rounds: int = ROUNDS) -> float:
    """Return how long an update takes here: of one micro-batch, the fastest of some."""
    # With one thread, its own time: on a machine that is shared, others take turns with it.
    is_alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    clock = time.process_time if is_alone else time.perf_counter
    train_step = train_step_of(subject)
    share = shard_of(shape, subject.config.vocab_size)
    train_step.learn_from(share, 1e-5)
    seconds = []
    for _ in range(rounds):
        start = clock()
        train_step.learn_from(share, 1e-5)
        seconds.append(clock() - start)
    return min(seconds)


def train_step_of(subject: Subject) -> TrainStep:
    """Make a learner with fresh weights, on the device that accelerate chooses."""
    torch.manual_seed(0)
    training = Training(save_memory=subject.saves_memory, precision=subject.precision)
    return TrainStep(subject.loss(device="cpu").model, training)


def shard_of(shape: Shape, vocabulary_size: int) -> Shard:
    """Make an update of one micro-batch of a shape, of random tokens."""
    generator = torch.Generator().manual_seed(0)

    def ids(number: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocabulary_size, (number,), generator=generator).tolist())

    layouts = []
    for _ in range(shape.rows):
        words = ids(shape.suffix)
        layouts.append(Layout(ids(shape.prefix), shape.latents, words, words))
    return Shard([collate(layouts)], shape.rows * shape.suffix, shape.rows * shape.latents)


def _fitted(points: list[_Point]) -> tuple[float, float, float]:
    """Find rate, bandwidth and starting time with the least squared error, as shares of each."""
    rows = np.array([[p.work.total_flops, p.work.moved, p.work.kernels] for p in points])
    rows /= np.array([p.seconds for p in points])[:, None]
    scale = rows.max(axis=0)
    found: Any = nnls(rows / scale, np.ones(len(points)))[0]
    costs = found / scale
    smallest = 1e-6 / scale  # a figure that explains nothing must not divide by zero
    rate, bandwidth, start = np.maximum(costs, smallest)
    return float(1 / rate), float(1 / bandwidth), float(start)


def _memory() -> float:
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
