"""What it costs that nothing is lost: saving, determinism, and memory.

    python benchmarks/safety.py saves           # the quickstart's Coconut run; GPT-2 small
    python benchmarks/safety.py deterministic   # updates with and without the switch
    python benchmarks/safety.py memory          # one update with six thoughts, GPT-2 small
    python benchmarks/safety.py write           # the figures of docs/reliability.md

Each of the first three prints both sides of its comparison and writes results/safety/NAME-cpu.json
with commit and machine, or NAME-cuda.json: on a GPU the same commands measure the GPU. `write`
makes the table from these files and from those that faults.py and fuzz.py leave there.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import MIB, gpt2, layout, peak, small, start_of_peak

from latentcot.data.examples import write_examples
from latentcot.recipes.recipe import Training, read_recipe
from latentcot.runs.provenance import provenance
from latentcot.tasks.prosqa.generator import make_splits
from latentcot.tasks.prosqa.options import options_named
from latentcot.training import saving
from latentcot.training.train import train
from latentcot.utils.files import write_json
from studies import fill

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "safety"
PAGE = ROOT / "docs" / "reliability.md"
SHOWN = {
    "kills": "runs and studies killed with SIGKILL",
    "kills_during_a_save": "… of these while a checkpoint was written",
    "faults": "other faults: full disk, damaged, vanished and read-only files",
    "lost": "… after which anything was lost",
    "inputs": "odd inputs given to the readers",
    "refused": "… refused by an error of ours",
    "failed": "… that did anything else than be read or refused",
    "quickstart_share_waited": "share of the quickstart's training spent waiting for checkpoints",
    "quickstart_saves": "… checkpoints written",
    "quickstart_ms_waited_per_save": "… milliseconds waited for each",
    "quickstart_ms_written_per_save": "… milliseconds until it is on disk",
    "gpt2_small_seconds_waited_per_save": "seconds waited for a checkpoint of GPT-2 small",
    "gpt2_small_seconds_until_on_disk": "… until it is on disk",
    "ratio": "time of an update with `deterministic`, as a multiple",
    "batch_size": "GPT-2 small, 330 question tokens, 6 thoughts: examples at once",
    "peak_mib": "… MiB that an update takes beyond weights and optimizer",
    "peak_mib_save_memory": "… with `save_memory`",
    "time_ratio": "… its time, as a multiple",
}
"""What the page shows, in words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*FIGURES, "write", "one-update"])
    parser.add_argument("--batch-size", type=int, default=8, help="of GPT-2 small")
    parser.add_argument("--updates", type=int, help="of the quickstart; all of its recipe if empty")
    parser.add_argument("--save-memory", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.name == "one-update":
        print(json.dumps(one_update(given.batch_size, saves_memory=given.save_memory)))
        return
    if given.name == "write":
        write_page()
        return
    figures = FIGURES[given.name](given)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    write_json(
        RESULTS / f"{given.name}-{device}.json",
        {**figures, "device": device, "threads": threads, **provenance()},
    )
    for name, value in figures.items():
        print(f"{name}: {value}")


# --- saves ------------------------------------------------------------------------------------


def saves(given: argparse.Namespace) -> dict[str, Any]:
    """Time how long training waits for its checkpoints, and how long they take to be written."""
    return {**_quickstart_saves(given.updates), **_gpt2_saves()}


def _quickstart_saves(num_updates: int | None) -> dict[str, Any]:
    waited, written = [], []
    saving.Saver.save = _timed(saving.Saver.save, waited)  # type: ignore[method-assign]
    saving.save_checkpoint = _timed(saving.save_checkpoint, written)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(_quickstart(Path(folder), num_updates), Path(folder) / "run", is_quiet=False)
        seconds = time.perf_counter() - start
    return {
        "quickstart_seconds": round(seconds, 1),
        "quickstart_saves": len(waited),
        "quickstart_ms_waited_per_save": round(1000 * sum(waited) / len(waited), 1),
        "quickstart_ms_written_per_save": round(1000 * sum(written) / len(written), 1),
        "quickstart_share_waited": f"{sum(waited) / seconds:.2%}",
    }


def _quickstart(folder: Path, num_updates: int | None) -> Any:
    options = options_named("two-family", layers=3, shared=0, shallower=0.5)
    sizes = {"train": 100_000, "valid": 500, "test": 10}
    for split, examples in make_splits(options, sizes, seed=0).items():
        write_examples(folder / f"{split}.jsonl", examples)
    changes = [f"data.{split}={folder / split}.jsonl" for split in sizes]
    recipe = read_recipe("quickstart", changes)
    if num_updates is None:
        return recipe
    return replace(recipe, training=replace(recipe.training, max_updates=num_updates))


def _timed(do: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def timed(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return do(*args, **options)
        finally:
            seconds.append(time.perf_counter() - start)

    return timed


def _gpt2_saves(num_saves: int = 3) -> dict[str, Any]:
    """Save GPT-2 small with its optimizer, as a run does after each validation that is its best."""
    from latentcot.curriculum.layout import Template
    from latentcot.methods import Plan, method_named
    from latentcot.models.special_tokens import word_tokenizer
    from latentcot.runs.checkpoint import CheckpointInfo

    train_step = gpt2(Training())
    train_step.learn([layout(8)], rate=1e-5)
    info = CheckpointInfo(
        method="coconut", task="prosqa", stage=0, plan=Plan(num_stages=0), num_thoughts=0,
        zero_thoughts="bot", template=Template(), max_new_tokens=8, update=0, seed=0,
    )  # fmt: skip
    waited, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        saver = saving.Saver(Path(folder), word_tokenizer(["a"]), num_kept=1)
        for update in range(num_saves):
            start = time.perf_counter()
            best = {"update": None, "accuracy": -1.0}
            saver.save(
                train_step.model, train_step.snapshot(), method_named("coconut"),
                replace(info, update=update), {"update": update}, best,
            )  # fmt: skip
            waited.append(time.perf_counter() - start)
            saver.finish()
            whole.append(time.perf_counter() - start)
    return {
        "gpt2_small_seconds_waited_per_save": round(statistics.median(waited), 2),
        "gpt2_small_seconds_until_on_disk": round(statistics.median(whole), 2),
    }


# --- determinism ------------------------------------------------------------------------------


def deterministic(given: argparse.Namespace) -> dict[str, Any]:
    """Time the same updates with and without the switch, turn and turn about."""
    from latentcot.training.guards import deterministic as switch

    train_step = gpt2(Training()) if torch.cuda.is_available() else small()
    layouts = [layout(seed=i) for i in range(given.batch_size)]
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(6):
        for is_on in (False, True):
            with switch(is_on):
                start = time.perf_counter()
                train_step.learn(layouts, rate=1e-5)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                seconds[is_on].append(time.perf_counter() - start)
    plain, exact = (statistics.median(seconds[is_on][1:]) for is_on in (False, True))
    return {
        "seconds_per_update": round(plain, 4),
        "seconds_per_update_deterministic": round(exact, 4),
        "ratio": round(exact / plain, 3),
    }


# --- memory -----------------------------------------------------------------------------------


def memory(given: argparse.Namespace) -> dict[str, Any]:
    """Measure one update with six thoughts in a process of its own, with and without the mode."""
    found = {}
    for flag in ("", "--save-memory"):
        command = [sys.executable, __file__, "one-update", "--batch-size", str(given.batch_size)]
        done = subprocess.run([*command, *flag.split()], stdout=subprocess.PIPE, check=True)
        found[flag] = json.loads(done.stdout)
    plain, saved = found[""], found["--save-memory"]
    return {
        "batch_size": given.batch_size,
        "peak_mib": plain["peak_mib"],
        "peak_mib_save_memory": saved["peak_mib"],
        "memory_ratio": round(saved["peak_mib"] / plain["peak_mib"], 3),
        "seconds_per_update": plain["seconds"],
        "seconds_per_update_save_memory": saved["seconds"],
        "time_ratio": round(saved["seconds"] / plain["seconds"], 3),
    }


def one_update(batch_size: int, *, saves_memory: bool) -> dict[str, Any]:
    """Return the peak of one update above what stays there, in MiB, and its seconds."""
    train_step = gpt2(Training(save_memory=saves_memory))
    train_step.learn([layout(8)], rate=1e-5)  # gradients and moments of AdamW are there from now on
    layouts = [layout(seed=i) for i in range(batch_size)]
    before = start_of_peak()
    start = time.perf_counter()
    train_step.learn(layouts, rate=1e-5)
    most = peak() - before
    return {"peak_mib": round(most / MIB), "seconds": round(time.perf_counter() - start, 3)}


# --- the page ---------------------------------------------------------------------------------


def write_page() -> None:
    """Put the figures of all result files into docs/reliability.md."""
    lines = ["| figure | value | command |", "|---|---|---|"]
    sources = []
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        source = result.get("provenance", result)
        command = f"`{source['command']}`"
        for name in (name for name in SHOWN if name in result):
            lines.append(f"| {SHOWN[name]} | {_value(result[name])} | {command} |")
            command = "same"
        sources.append(f"{path.name}: commit {source['commit'][:10]}, {source['machine']}")
    table = "\n".join([*lines, "", *(f"- {source}" for source in sources)])
    fill(PAGE, "figures", "safety.py", f"\n{table}\n")


def _value(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


FIGURES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "saves": saves,
    "deterministic": deterministic,
    "memory": memory,
}

if __name__ == "__main__":
    main()
