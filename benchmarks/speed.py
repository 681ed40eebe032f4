"""How fast training and answering are, beside the same over transformers' own cache.

    python benchmarks/speed.py                  # all that the machine at hand can: `make bench`
    python benchmarks/speed.py thought_cost_gpt2_cpu first_update_seconds
    python benchmarks/speed.py write            # the tables of docs/performance.md

Each figure prints one line, `figure=NAME value=X bar=Y holds` or `falls short`, with the other side
of the comparison behind it where there is one, and goes into results/speed/cpu.json or cuda.json
with commit and machine. Both sides take turns in one process. Times of a noisy machine are medians;
trust the ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from measuring import gpt2, peak, ragged, start_of_peak, synchronize

from latentcot import passes, preparation
from latentcot.config import Training, read_recipe
from latentcot.examples import write_examples
from latentcot.files import write_json, written_whole
from latentcot.generation import generate
from latentcot.greedy import GreedyRecorder
from latentcot.learner import Learner
from latentcot.provenance import provenance
from latentcot.reasoner import Reasoner
from latentcot.replay import CudaGraphs
from latentcot.tasks.prosqa import make_splits
from latentcot.tasks.prosqa_options import options_named
from latentcot.trainer import Trainer

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "speed"
PAGE = ROOT / "docs" / "performance.md"
PEAK_TFLOPS = 989.0
"""Dense bfloat16 of one H100 or H200, by its data sheet."""
Found = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure, its bar, and the function that measures it: `value`, and what stands beside it."""

    bar: float
    is_more_better: bool
    measure: Callable[[], Found]
    device: str
    threads: int | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join([*FIGURES, "write"]))
    names = parser.parse_args().names
    if names == ["write"]:
        write_page()
        return
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        parser.error(f"no figure is called {unknown[0]!r}; there are {', '.join(FIGURES)}")
    here = "cuda" if torch.cuda.is_available() else "cpu"
    path = RESULTS / f"{here}.json"
    for name in names or FIGURES:
        figure = FIGURES[name]
        if figure.device not in (here, "any"):
            print(f"figure={name} value=- bar={figure.bar:g} not measured: needs a {figure.device}")
            continue
        torch.set_num_threads(figure.threads or len(os.sched_getaffinity(0)))
        found = figure.measure()
        print(line(name, found), flush=True)
        results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        write_json(path, {**results, name: {**found, "bar": figure.bar, **provenance()}})


def line(name: str, found: Found) -> str:
    """Return a figure as one line."""
    figure, value = FIGURES[name], found["value"]
    holds = value >= figure.bar if figure.is_more_better else value <= figure.bar
    beside = " ".join(f"{key}={shown(v)}" for key, v in found.items() if key != "value")
    verdict = "holds" if holds else "falls short"
    return f"figure={name} value={shown(value)} bar={figure.bar:g} {verdict} {beside}".rstrip()


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace(" ", "")


# --- both sides -------------------------------------------------------------------------------


@contextmanager
def plain_rollout() -> Iterator[None]:
    """Within it, every pass goes through transformers' own cache, whole blocks and all."""
    before = passes.takes_parts
    passes.takes_parts = lambda model: False
    try:
        yield
    finally:
        passes.takes_parts = before


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


# --- the quickstart on a CPU -------------------------------------------------------------------


def train_rate_quickstart(rounds: int = 12, updates: int = 5) -> Found:
    """Examples/s of the quickstart's Coconut, the mean of its stages, and each stage."""
    trainer = _quickstart_trainer(6_400)
    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    ratios = []
    for number, phase in enumerate(trainer.phases):
        if phase.zero_thoughts == "none":
            continue  # the first half of stage 0, without markers, is stage 0 once more
        trainer.clock.number = number

        def some() -> None:
            for _ in range(updates):
                trainer._step()

        def some_plain() -> None:
            with plain_rollout():
                some()

        seconds = in_turns(rounds, ours=some, plain=some_plain)
        for side, found in seconds.items():
            rates[side].append(updates * trainer.feeder.batch_size / statistics.median(found))
        ratios.append(ratio(seconds, "plain", "ours"))
    return {
        "value": round(statistics.fmean(rates["ours"])),
        "plain": round(statistics.fmean(rates["plain"])),
        "times_as_fast": round(statistics.fmean(ratios), 3),
        "stages": [round(rate) for rate in rates["ours"]],
        "threads": torch.get_num_threads(),
    }


def _quickstart_trainer(num_examples: int) -> Trainer:
    folder = Path(tempfile.mkdtemp())
    recipe = read_recipe("quickstart", _quickstart_data(folder, num_examples))
    return Trainer(recipe, folder / "run", *preparation.prepare(recipe))


def _quickstart_data(folder: Path, num_examples: int) -> list[str]:
    """Make data of the quickstart's kind; return the changes that put it into the recipe."""
    options = options_named("two-family", layers=3, shared=0, shallower=0.5)
    sizes = {"train": num_examples, "valid": 100, "test": 2_000}
    for split, examples in make_splits(options, sizes, seed=0).items():
        write_examples(folder / f"{split}.jsonl", examples)
    return [f"data.{split}={folder / split}.jsonl" for split in sizes]


def eval_seconds_quickstart() -> Found:
    """Seconds for 2,000 questions; untrained weights, so that each text takes all of its words."""
    from latentcot.examples import read_examples

    trainer = _quickstart_trainer(640)
    trainer.clock.number = len(trainer.phases) - 1
    reasoner = Reasoner(
        trainer.learner.model.eval(), trainer.tokenizer, trainer._info(trainer.phases[-1])
    )
    path = trainer.recipe.data.test
    assert path is not None
    encoded = reasoner.encode(read_examples(path))

    def answer() -> None:
        reasoner.answer(encoded, batch_size=500)

    def answer_plain() -> None:
        with plain_rollout():
            answer()

    seconds = in_turns(5, ours=answer, plain=answer_plain)
    return {
        "value": round(statistics.median(seconds["ours"]), 3),
        "plain": round(statistics.median(seconds["plain"]), 3),
        "times_as_fast": round(ratio(seconds, "plain", "ours"), 3),
        "threads": torch.get_num_threads(),
    }


def first_update_seconds() -> Found:
    """Seconds from the start of `latentcot train` until its first update is done."""
    found = {}
    for name, num_examples in (("value", 17_886), ("with_100000_examples", 100_000)):
        with tempfile.TemporaryDirectory() as folder:
            changes = _quickstart_data(Path(folder), num_examples)
            if torch.cuda.is_available():
                changes += ["training.precision=bfloat16"]
            found[name] = round(_until_first_update(Path(folder) / "run", changes), 2)
    return {**found, "examples": 17_886}


def _until_first_update(run: Path, changes: list[str]) -> float:
    settings = [f"--set={change}" for change in [*changes, "training.log_every=1"]]
    command = [sys.executable, "-m", "latentcot", "train", "quickstart", "--out", str(run)]
    start = time.perf_counter()
    with subprocess.Popen([*command, *settings], stderr=subprocess.DEVNULL) as process:
        while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size):
            assert process.poll() is None, "latentcot train ended too early"
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        process.kill()
    return seconds


# --- GPT-2 small -------------------------------------------------------------------------------


def thought_cost(batch_size: int, rounds: int, **training: Any) -> Found:
    """Time of an update with six thoughts, as a multiple of its own without."""
    learner = gpt2(Training(**training))
    thinking = ragged(batch_size, thoughts=6)
    without = [replace(one, num_slots=0) for one in thinking]

    def plain() -> None:
        with plain_rollout(), _unrecorded(learner):
            learner.learn(thinking, 1e-5)

    seconds = in_turns(
        rounds,
        none=lambda: learner.learn(without, 1e-5),
        six=lambda: learner.learn(thinking, 1e-5),
        plain=plain,
    )
    return {
        "value": round(ratio(seconds, "six", "none"), 3),
        "plain": round(ratio(seconds, "plain", "none"), 3),
        "ms_none": round(1000 * min(seconds["none"]), 1),
        "ms_six": round(1000 * min(seconds["six"]), 1),
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
    }


@contextmanager
def _unrecorded(learner: Learner) -> Iterator[None]:
    before, learner._replayed = learner._replayed, None
    try:
        yield
    finally:
        learner._replayed = before


def _gpu_update(batch_size: int, thoughts: int, rounds: int = 10) -> tuple[float, float]:
    """Return seconds of an update of GPT-2 small in bfloat16, and its peak of memory in GiB."""
    learner = gpt2(Training(precision="bfloat16"))
    layouts = ragged(batch_size, thoughts)
    learner.learn(layouts, 1e-5)
    start_of_peak()
    seconds = in_turns(rounds, update=lambda: learner.learn(layouts, 1e-5))["update"]
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
    """Model FLOPs of the step without thoughts, over what the device could do in that time."""
    layouts = ragged(128, thoughts=0)
    seconds, _ = _gpu_update(128, thoughts=0)
    flops = sum(update_flops(len(one.prefix) + len(one.suffix), len(one.suffix)) for one in layouts)
    return {
        "value": round(flops / seconds / (PEAK_TFLOPS * 1e12), 3),
        "tflop": round(flops / 1e12, 2),
        "ms": round(1000 * seconds, 1),
    }


def update_flops(columns: int, labelled: int, layers: int = 12, width: int = 768) -> float:
    """FLOPs that one example of GPT-2 needs: six for each weight and column, and attention."""
    linear = 6 * 12 * layers * width**2 * columns
    attention = 6 * layers * width * columns**2  # scores and sums, causal: half of the square
    return linear + attention + 6 * width * 50_257 * labelled


def _gpu_generation(batch_size: int, thoughts: int, words: int, rounds: int) -> float:
    """Return seconds for a batch of GPT-2 small in bfloat16, all texts of so many words."""
    model = gpt2(Training()).model.eval()
    recorder = GreedyRecorder(model, None, CudaGraphs())
    prompts = [one.prompt() for one in ragged(batch_size, thoughts, words=1)]

    def write() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            generate(
                model, prompts, eos_id=-1, max_new_tokens=words, batch_size=batch_size,
                recorder=recorder,
            )  # fmt: skip

    write()  # tells the recorder how long texts are
    return statistics.median(in_turns(rounds, write=write)["write"])


def _best_rate(thoughts: int, words: int) -> Found:
    rates = {n: n / _gpu_generation(n, thoughts, words, 3) for n in (128, 256, 512, 1024)}
    best = max(rates, key=lambda n: rates[n])
    return {"value": round(rates[best]), "batch_size": best}


def generate_rate_gpt2() -> Found:
    return {**_best_rate(thoughts=6, words=9), "official": 7.8}


def generate_ms_b1_gpt2() -> Found:
    return {"value": round(1000 * _gpu_generation(1, 6, 9, 20), 2), "official": 128}


def cot_rate_gpt2() -> Found:
    return {**_best_rate(thoughts=0, words=58), "official": 2.1}


def cot_ms_b1_gpt2() -> Found:
    return {"value": round(1000 * _gpu_generation(1, 0, 58, 20), 2), "official": 470}


FIGURES = {
    "train_rate_quickstart_cpu": Figure(2400, True, train_rate_quickstart, "cpu", threads=1),
    "train_rate_quickstart_two_cpus": Figure(4000, True, train_rate_quickstart, "cpu", threads=2),
    "thought_cost_gpt2_cpu": Figure(1.15, False, lambda: thought_cost(8, 5), "cpu"),
    "eval_seconds_quickstart_cpu": Figure(5, False, eval_seconds_quickstart, "cpu"),
    "train_rate_gpt2_gpu": Figure(1200, True, train_rate_gpt2, "cuda"),
    "step_ms_gpt2_b32_gpu": Figure(30, False, step_ms_gpt2, "cuda"),
    "peak_gib_gpt2_b32_gpu": Figure(8, False, peak_gib_gpt2, "cuda"),
    "thought_cost_gpt2_gpu": Figure(
        1.25, False, lambda: thought_cost(128, 10, precision="bfloat16"), "cuda"
    ),
    "mfu_gpt2_gpu": Figure(0.40, True, mfu_gpt2, "cuda"),
    "generate_rate_gpt2_gpu": Figure(2000, True, generate_rate_gpt2, "cuda"),
    "generate_ms_b1_gpt2_gpu": Figure(20, False, generate_ms_b1_gpt2, "cuda"),
    "cot_rate_gpt2_gpu": Figure(1000, True, cot_rate_gpt2, "cuda"),
    "cot_ms_b1_gpt2_gpu": Figure(100, False, cot_ms_b1_gpt2, "cuda"),
    "first_update_seconds": Figure(
        60 if torch.cuda.is_available() else 5, False, first_update_seconds, "any"
    ),
}
"""In the order of docs/performance.md."""


# --- the page ----------------------------------------------------------------------------------

BEGIN, END = "<!-- figures: written by benchmarks/speed.py -->", "<!-- /figures -->"


def write_page() -> None:
    """Put the figures of the result files into docs/performance.md."""
    found: Found = {}
    for path in sorted(RESULTS.glob("c*.json")):
        found |= json.loads(path.read_text(encoding="utf-8"))
    lines = ["| figure | measured | asked | | beside it |", "|---|---|---|---|---|"]
    lines += [_row(name, found.get(name)) for name in FIGURES]
    sources = sorted({f"commit {one['commit'][:10]}, {one['machine']}" for one in found.values()})
    table = "\n".join([*lines, "", *(f"- {source}" for source in sources)])
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    with written_whole(PAGE) as file:
        file.write(f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}")


def _row(name: str, found: Found | None) -> str:
    figure = FIGURES[name]
    sign = "≥" if figure.is_more_better else "≤"
    if found is None:
        return f"| `{name}` | not run | {sign} {figure.bar:g} | | |"
    known = set(provenance()) | {"value", "bar"}
    beside = ", ".join(f"{key} {shown(v)}" for key, v in found.items() if key not in known)
    verdict = line(name, {"value": found["value"]}).rsplit("=", 1)[1].split(" ", 1)[1]
    return f"| `{name}` | {shown(found['value'])} | {sign} {figure.bar:g} | {verdict} | {beside} |"


if __name__ == "__main__":
    main()
