"""How fast training and answering are, beside the same over transformers' own cache.

    python benchmarks/speed.py                  # all that the machine at hand can: `make bench`
    python benchmarks/speed.py thought_cost_gpt2_cpu first_update_seconds
    python benchmarks/speed.py write            # the tables of docs/performance.md

Each figure prints one line, `figure=NAME value=X bar=Y holds` or `falls short`, with the other side
of the comparison behind it where there is one, and goes into results/speed/cpu-MACHINE.json or
cuda-MACHINE.json with commit and machine. What cannot be measured here is told, with what it needs.
Both sides take turns in one process. Times of a noisy machine are medians; trust the ratios.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from measuring import Found, NotHereError, in_turns, plain_rollout, ratio
from speed_cpu import (
    answers_gpt2,
    generate_over_imports,
    matrix_rates,
    quickstart_against,
    show_run,
    start_up,
    train_gpt2,
)
from speed_gpt2 import (
    cot_ms_b1_gpt2,
    cot_rate_gpt2,
    generate_ms_b1_gpt2,
    generate_rate_gpt2,
    line_of_thoughts,
    mfu_gpt2,
    peak_gib_gpt2,
    step_ms_gpt2,
    thought_cost,
    train_rate_gpt2,
)

from latentcot.data.examples import write_examples
from latentcot.evaluation.reasoner import Reasoner
from latentcot.recipes.recipe import read_recipe
from latentcot.runs.provenance import provenance
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import options_named
from latentcot.training.build import build
from latentcot.training.loop import Trainer
from latentcot.utils.files import write_json
from studies import fill

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "speed"
PAGE = ROOT / "docs" / "performance.md"
HERE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Figure:
    """A figure, its bar, and the function that measures it: `value`, and what stands beside it."""

    bar: float
    is_more_better: bool
    measure: Callable[[], Found]
    device: str
    threads: int | None = None
    cuda_bar: float | None = None
    """On a GPU, if it is another there."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What it is measured with, in a process of its own."""

    def bar_on(self, device: str) -> float:
        """Return what is asked."""
        return self.cuda_bar if device == "cuda" and self.cuda_bar is not None else self.bar

    def verdict(self, value: float, device: str) -> str:
        """Return "holds" or "falls short"."""
        bar = self.bar_on(device)
        holds = value >= bar if self.is_more_better else value <= bar
        return "holds" if holds else "falls short"


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
    if HERE == "cpu" and not names:
        print("rates", *(f"{key}={value}" for key, value in matrix_rates().items()), flush=True)
    for name in names or FIGURES:
        figure = FIGURES[name]
        if len(names) != 1 or not figure.environment.items() <= os.environ.items():
            # In a process of its own: none has the memory of another, or ends with it.
            environment = {**os.environ, **figure.environment}
            done = subprocess.run([sys.executable, __file__, name], env=environment)
            if done.returncode:
                tell_missing(name, f"its process ended with {done.returncode}")
            continue
        torch.set_num_threads(figure.threads or len(os.sched_getaffinity(0)))
        try:
            if figure.device not in (HERE, "any"):
                raise NotHereError(f"needs a {figure.device}")
            found = {**figure.measure(), **figure.environment}
        except NotHereError as why:
            tell_missing(name, str(why))
            continue
        print(line(name, found), flush=True)
        path, results = results_here()
        write_json(path, {**results, name: {**found, "bar": figure.bar_on(HERE), **provenance()}})


def results_here() -> tuple[Path, dict[str, Found]]:
    """Return the result file of this machine, and what stands in it."""
    path = RESULTS / f"{HERE}-{slug(provenance()['machine'])}.json"
    return path, json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def tell_missing(name: str, why: str) -> None:
    """Print the line of a figure that has no value here."""
    bar = FIGURES[name].bar_on(HERE)
    print(f"figure={name} value=- bar={bar:g} not measured: {why}", flush=True)


def line(name: str, found: Found) -> str:
    """Return a figure as one line."""
    figure, value = FIGURES[name], found["value"]
    beside = " ".join(f"{key}={shown(v)}" for key, v in found.items() if key != "value")
    bar, verdict = figure.bar_on(HERE), figure.verdict(value, HERE)
    return f"figure={name} value={shown(value)} bar={bar:g} {verdict} {beside}".rstrip()


def shown(value: Any) -> str:
    if isinstance(value, float) and value < 1000:
        return f"{value:.4g}"
    if isinstance(value, float | int):
        return f"{value:,.0f}"
    return str(value).replace(" ", "")


def share_of_matrix_rate(of: str = "times_plain_gpt2_b4_cpu") -> Found:
    """The arithmetic that an update needs, over what products alone would do in that time.

    It is part of another figure's measurement, and is taken from there.
    """
    found = results_here()[1].get(of)
    if found is None or found["commit"] != provenance()["commit"]:
        raise NotHereError(f"it is a part of {of}: measure that first, at this commit")
    parts = {"s": found["s_ours"], "gflops": found[f"gflops_{found['precision']}"]}
    return {"value": found["share_of_matrix_rate"], **parts, "rounds": found["rounds"]}


# --- the quickstart on a CPU -------------------------------------------------------------------


def train_rate_quickstart(rounds: int = 12, updates: int = 5) -> Found:
    """Examples/s of the quickstart's Coconut, the mean of its stages, and each stage."""
    trainer = _quickstart_trainer(6_400)
    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    ratios = []
    for number, phase in enumerate(trainer.run.phases):
        if phase.zero_thoughts == "none":
            continue  # the first half of stage 0, without special tokens, is stage 0 once more
        trainer.clock.number = number

        def some() -> None:
            for _ in range(updates):
                trainer._step()

        def some_plain() -> None:
            with plain_rollout():
                some()

        seconds = in_turns(rounds, ours=some, plain=some_plain)
        for side, found in seconds.items():
            rates[side].append(updates * trainer.loader.batch_size / statistics.median(found))
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
    return Trainer(build(recipe), folder / "run")


def _quickstart_data(folder: Path, num_examples: int) -> list[str]:
    """Make data of the quickstart's kind; return the changes that put it into the recipe."""
    options = options_named("two-family", layers=3, shared=0, shallower=0.5)
    sizes = {"train": num_examples, "valid": 100, "test": 2_000}
    for split, examples in make_splits(options, sizes, seed=0).items():
        write_examples(folder / f"{split}.jsonl", examples)
    return [f"data.{split}={folder / split}.jsonl" for split in sizes]


def eval_seconds_quickstart() -> Found:
    """Seconds for 2,000 questions; untrained weights, so that each text takes all of its words."""
    from latentcot.data.examples import read_examples

    trainer = _quickstart_trainer(640)
    trainer.clock.number = len(trainer.run.phases) - 1
    run = trainer.run
    info = trainer._info(run.phases[-1])
    reasoner = Reasoner(trainer.train_step.model.eval(), run.tokenizer, info)
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


def first_update_seconds(rounds: int = 5) -> Found:
    """Seconds from the start of `latentcot train` until its first update is done."""
    found: Found = {}
    for name, num_examples in (("value", 17_886), ("with_100000_examples", 100_000)):
        with tempfile.TemporaryDirectory() as folder:
            changes = _quickstart_data(Path(folder), num_examples)
            if torch.cuda.is_available():
                changes += ["training.precision=bfloat16"]
            runs = [Path(folder) / f"run-{number}" for number in range(rounds)]
            seconds = [_until_first_update(run, changes) for run in runs]
            found[name] = round(statistics.median(seconds), 2)
    return {**found, "examples": 17_886, "rounds": rounds}


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


LONG = ("model.num_positions=512", "training.batch_size=16")
"""Of the quickstart's recipe, for questions of 330 tokens."""
FIGURES = {
    "train_rate_quickstart_cpu": Figure(2400, True, train_rate_quickstart, "cpu", threads=1),
    "train_rate_quickstart_two_cpus": Figure(4000, True, train_rate_quickstart, "cpu", threads=2),
    "times_plain_gpt2_b4_cpu": Figure(2.0, True, lambda: train_gpt2(4, 5), "cpu"),
    "share_of_matrix_rate_gpt2_b4_cpu": Figure(0.6, True, share_of_matrix_rate, "cpu"),
    "times_plain_gpt2_b16_cpu": Figure(
        2.0,
        True,
        lambda: train_gpt2(16, 5),
        "cpu",
        environment={"MALLOC_MMAP_THRESHOLD_": "33554432"},  # plain takes 23 GB without
    ),
    "thought_cost_gpt2_cpu": Figure(1.10, False, lambda: thought_cost(4, 5), "cpu"),
    "line_of_thoughts_gpt2_cpu": Figure(0.99, True, lambda: line_of_thoughts(4, 5), "cpu"),
    "times_older_quickstart_cpu": Figure(1.3, True, lambda: quickstart_against(5, 1), "cpu"),
    "times_older_quickstart_two_cpus": Figure(1.6, True, lambda: quickstart_against(5, 2), "cpu"),
    "times_older_long_questions_cpu": Figure(
        1.7, True, lambda: quickstart_against(5, 1, *LONG, width=27), "cpu"
    ),
    "times_plain_answers_b16_cpu": Figure(2.0, True, lambda: answers_gpt2(16, 6, 9, 5), "cpu"),
    "times_plain_cot_b1_cpu": Figure(1.3, True, lambda: answers_gpt2(1, 0, 58, 5), "cpu"),
    "times_plain_cot_b16_cpu": Figure(2.0, True, lambda: answers_gpt2(16, 0, 58, 5), "cpu"),
    "seconds_list_recipes": Figure(0.7, False, lambda: start_up("list", "recipes"), "cpu"),
    "seconds_list_methods": Figure(0.6, False, lambda: start_up("list", "methods"), "cpu"),
    "seconds_show_run": Figure(0.7, False, show_run, "cpu"),
    "generate_over_imports": Figure(1.1, False, generate_over_imports, "cpu"),
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
    "first_update_seconds": Figure(3, False, first_update_seconds, "any", cuda_bar=60),
}
"""In the order of docs/performance.md."""


# --- the page ----------------------------------------------------------------------------------


def slug(machine: str) -> str:
    """Return the name of a machine as part of a file's: amd-epyc-2-cores."""
    words = re.findall(r"[a-z0-9]+", machine.lower().replace("x86_64", "").replace("(r)", ""))
    return "-".join(words)


def write_page() -> None:
    """Put the figures of the result files into docs/performance.md, a table for each machine."""
    parts = []
    for device in ("cpu", "cuda"):
        paths = sorted(RESULTS.glob(f"{device}-*.json"))
        for path in paths:
            found = json.loads(path.read_text(encoding="utf-8"))
            parts.append(_table(device, found))
        if not paths:
            names = [name for name, one in FIGURES.items() if one.device in (device, "any")]
            bars = ", ".join(f"`{name}` {_bar(name, device)}" for name in names)
            parts.append(f"Not run, for want of a machine ({device}): {bars}.")
    text = "\n\n".join(parts)
    fill(PAGE, "figures", "speed.py", f"\n{text}\n")


def _table(device: str, found: dict[str, Found]) -> str:
    """Return the figures of one machine; the commits that they are of are numbered below."""
    names = [name for name, one in FIGURES.items() if one.device in (device, "any")]
    machine = next(iter(found.values()))["machine"]
    sources = list(dict.fromkeys(found[name]["commit"][:10] for name in names if name in found))
    lines = [
        f"**{machine}**",
        "",
        "| figure | measured | bar | | beside it | from |",
        "|---|---|---|---|---|---|",
        *(_row(name, device, found.get(name), sources) for name in names),
        "",
        "; ".join(f"{number}: commit {commit}" for number, commit in enumerate(sources, 1)),
    ]
    return "\n".join(lines)


def _bar(name: str, device: str) -> str:
    sign = "≥" if FIGURES[name].is_more_better else "≤"
    return f"{sign} {FIGURES[name].bar_on(device):g}"


def _row(name: str, device: str, found: Found | None, sources: Sequence[str]) -> str:
    """Return a line of the table."""
    bar = _bar(name, device)
    if found is None:
        return f"| `{name}` | not run | {bar} | | | |"
    known = set(provenance()) | {"value", "bar"}
    beside = ", ".join(f"{key} {shown(v)}" for key, v in found.items() if key not in known)
    verdict = FIGURES[name].verdict(found["value"], device)
    cells = [f"`{name}`", shown(found["value"]), bar, verdict, beside]
    return "| " + " | ".join([*cells, str(sources.index(found["commit"][:10]) + 1)]) + " |"


if __name__ == "__main__":
    main()
