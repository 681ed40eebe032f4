"""What the benchmarks of speed and memory share: models, questions, both sides, peaks of memory."""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from latentcot.curriculum.layout import LaidOut, Layout, LayoutRules, SpecialTokens
from latentcot.methods import Plan, method_named
from latentcot.models.backend import few_rows
from latentcot.recipes.recipe import Training
from latentcot.thinking import passes
from latentcot.training import step
from latentcot.training.objective import Objective
from latentcot.training.step import TrainStep
from latentcot.utils.memory import keep_freed_memory

QUESTION, THOUGHTS, WORDS = 330, 6, 12  # ProsQA in words, last stage
MIB = 2**20
Found = dict[str, Any]
"""`value`, and what stands beside it."""


class NotHereError(Exception):
    """A figure cannot be measured on this machine or in this environment, and why."""


class CoconutStep(TrainStep):
    """Coconut's train step, on layouts."""

    def learn(self, layouts: Sequence[Layout], rate: float) -> dict[str, float | None]:
        """Make one update."""
        return self.step(self.part_of([LaidOut({"answer": one}) for one in layouts]), rate)


def coconut(model: PreTrainedModel, *, saves_memory: bool = False) -> Objective:
    """Coconut's objective, with any tokens as special ones."""
    rules = LayoutRules(SpecialTokens(0, 0, 0, 0), Plan(num_stages=0))
    return Objective(model, method_named("coconut"), rules, saves_memory=saves_memory)


def train_step_of(model: PreTrainedModel, training: Training) -> CoconutStep:
    """A train step for Coconut, in a process that deals with memory as `train` does."""
    keep_freed_memory()
    return CoconutStep(coconut(model, saves_memory=training.save_memory), training)


def gpt2(training: Training, **sizes: Any) -> CoconutStep:
    """A train step of GPT-2 small, or of other sizes, with random weights."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**sizes))
    return train_step_of(model.to("cuda" if torch.cuda.is_available() else "cpu"), training)


def small() -> CoconutStep:
    """A train step of a model that takes milliseconds."""
    return gpt2(Training(), n_embd=64, n_layer=2, n_head=4)


def layout(
    question: int = QUESTION, seed: int = 0, thoughts: int = THOUGHTS, words: int = WORDS
) -> Layout:
    """A question of random tokens, its latent positions, and words behind them."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(50_000, (question + words,), generator=generator).tolist()
    return Layout(tuple(ids[:question]), thoughts, tuple(ids[question:]), tuple(ids[question:]))


def ragged(number: int, thoughts: int, words: int = WORDS) -> list[Layout]:
    """Questions of 330 ± 50 tokens."""
    draw = random.Random(0)
    lengths = [max(200, min(460, round(draw.gauss(QUESTION, 50)))) for _ in range(number)]
    return [layout(length, i, thoughts, words) for i, length in enumerate(lengths)]


def synchronize() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def start_of_peak() -> int:
    """Let the highest mark begin here; return what is taken now, in bytes."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_reserved()
    Path("/proc/self/clear_refs").write_text("5")
    return of_process("VmRSS")


def peak() -> int:
    """Return the highest mark since then, in bytes."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return torch.cuda.max_memory_reserved()  # of what a CUDA graph holds, nothing else tells
    return of_process("VmHWM")


def of_process(key: str) -> int:
    """Return bytes of this process by their name in /proc/self/status, such as VmRSS."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


@contextmanager
def plain_rollout() -> Iterator[None]:
    """Within it, every pass goes through transformers' own cache, whole blocks and all.

    Gradients of weights are autograd's, products of few rows torch's own.
    """
    with (
        patch.object(passes, "takes_split_cache", lambda model: False),
        patch.object(step, "joint_weight_gradients", lambda blocks: nullcontext()),
        patch.object(few_rows, "MOST_ROWS", 0),
    ):
        yield


def in_turns(rounds: int, **sides: Callable[[], object]) -> dict[str, list[float]]:
    """Time functions turn and turn about, after one call of each; seconds of each call."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, do in sides.items():
            synchronize()
            start = time.perf_counter()
            do()
            synchronize()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], over: str, under: str) -> float:
    """Return the median of the ratios of each turn: noise that lasts for both of them goes."""
    pairs = zip(seconds[over], seconds[under], strict=True)
    return statistics.median(a / b for a, b in pairs)
