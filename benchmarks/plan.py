"""How well `latentcot plan` foretells: planned against measured, on the machine at hand.

    python benchmarks/plan.py check      # calibrates, then each setting in a process of its own
    python benchmarks/plan.py write      # docs/plan.md, from the result files
    python benchmarks/plan.py table      # the paper's table on eight GPUs, from its recipes
    python benchmarks/plan.py lengths FILE…   # src/latentcot/planning/typical_lengths.json

`check` writes results/plan/. Settings are not those of the calibration.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # data that are not here are of typical length
ROOT = Path(__file__).parent.parent
RESULT = ROOT / "results" / "plan" / "check-cpu.json"
CALIBRATION = ROOT / "results" / "plan" / "calibration-cpu.json"
TABLE = ROOT / "results" / "plan" / "gsm8k-llama-3.2-1b.json"
PAGE = ROOT / "docs" / "plan.md"
BARS = {"memory": 0.20, "time": 0.30}
# name, model, blocks, (rows, prefix, latent positions, suffix), save_memory, LoRA rank
SETTINGS: list[tuple[str, str, int, tuple[int, int, int, int], bool, int]] = [
    ("GPT-2 small, stage 0", "openai-community/gpt2", 12, (4, 70, 0, 50), False, 0),
    ("GPT-2 small, six thoughts", "openai-community/gpt2", 12, (4, 70, 6, 12), False, 0),
    ("GPT-2 small, larger batch", "openai-community/gpt2", 12, (12, 70, 6, 12), False, 0),
    ("GPT-2 small, save_memory", "openai-community/gpt2", 12, (12, 70, 6, 12), True, 0),
    ("GPT-2 small, long questions", "openai-community/gpt2", 12, (6, 330, 6, 12), True, 0),
    ("Qwen3-0.6B, 4 blocks", "Qwen/Qwen3-0.6B-Base", 4, (8, 80, 3, 16), False, 0),
    ("Qwen3-0.6B, 4 blocks, stage 0", "Qwen/Qwen3-0.6B-Base", 4, (8, 80, 0, 40), False, 0),
    ("Llama-3.2-1B, 2 blocks", "meta-llama/Llama-3.2-1B", 2, (4, 80, 3, 16), False, 0),
    ("Qwen3-0.6B, 8 blocks, LoRA", "Qwen/Qwen3-0.6B-Base", 8, (8, 80, 3, 16), False, 16),
    (
        "Qwen3-0.6B, 8 blocks, LoRA, save_memory",
        "Qwen/Qwen3-0.6B-Base",
        8,
        (8, 80, 3, 16),
        True,
        16,
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("do", choices=["check", "write", "table", "lengths", "point"])
    parser.add_argument("files", nargs="*", help="of `lengths`: TASK=NUMBER=FILE")
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do == "point":
        print(json.dumps(point(given.number)))
    elif given.do == "lengths":
        lengths(given.files)
    else:
        {"check": check, "write": write, "table": table}[given.do]()


# --- planned against measured -------------------------------------------------------------------


def _subject(number: int) -> Any:
    from latentcot.methods import method_named
    from latentcot.models.settings import Lora
    from latentcot.models.shapes import config_of
    from latentcot.planning.work import Shape, Subject

    _, model, blocks, shape, saves, rank = SETTINGS[number]
    config = config_of(model)
    config.num_hidden_layers = blocks
    lora = Lora(rank=rank) if rank else None
    return Subject(config, method_named("coconut"), "float32", saves, lora=lora), Shape(*shape)


def point(number: int) -> dict[str, float]:
    """Measure one setting in this process: seconds of an update, and its peak in bytes."""
    from measuring import peak, start_of_peak

    from latentcot.planning.devices import part_of, seconds_of, train_step_of
    from latentcot.planning.work import Shape

    subject, shape = _subject(number)
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        return {"seconds": seconds_of(subject, shape, rounds=4)}
    train_step = train_step_of(subject)
    train_step.step(part_of(subject, Shape(1, 8, 1, 4)), 1e-5)  # the moments are there now
    before, part = start_of_peak(), part_of(subject, shape)
    for _ in range(2):
        train_step.step(part, 1e-5)
    return {"bytes": peak() - before}


def _measured(number: int) -> dict[str, float]:
    # What the C library keeps for later hides the peak, and giving it back takes time: so time and
    # memory come from two processes.
    found: dict[str, float] = {}
    for settings in ({}, {"MALLOC_MMAP_THRESHOLD_": "65536"}):
        done = subprocess.run(
            [sys.executable, __file__, "point", "--number", str(number)],
            stdout=subprocess.PIPE,
            check=True,
            env={**os.environ, **settings},
        )
        found |= json.loads(done.stdout)
    return found


def check() -> None:
    """Calibrate, measure each setting, and write both with what was planned."""
    from latentcot.planning.devices import calibrate, write_device
    from latentcot.planning.work import update_work, weights_of
    from latentcot.runs.provenance import provenance
    from latentcot.utils.files import write_json

    device = calibrate(lambda line: print(line, flush=True))
    write_device(CALIBRATION, lambda: device)
    rows = []
    for number, (name, *_, saves, rank) in enumerate(SETTINGS):
        subject, shape = _subject(number)
        work = update_work(subject, [(shape, 1.0)], weights_of(subject).trained_bytes)
        measured = _measured(number)
        row = {
            "setting": name,
            "shape": [shape.rows, shape.prefix, shape.latents, shape.suffix],
            "save_memory": saves,
            "lora_rank": rank,
            "planned_seconds": device.seconds(work),
            "seconds": measured["seconds"],
            "planned_bytes": work.peak,
            "bytes": measured["bytes"],
        }
        row["time_off"] = row["planned_seconds"] / row["seconds"] - 1
        row["memory_off"] = row["planned_bytes"] / row["bytes"] - 1
        print(name, f"time {row['time_off']:+.0%} memory {row['memory_off']:+.0%}", row, flush=True)
        rows.append(row)
    write_json(RESULT, {"bars": BARS, "rows": rows, **provenance()})


# --- the paper's table --------------------------------------------------------------------------


def table() -> None:
    """Plan every row of the paper's table for Llama-3.2-1B on eight H100, and print it."""
    from dataclasses import asdict

    from latentcot.methods import PAPER_METHODS
    from latentcot.planning.devices import device_named
    from latentcot.planning.plan import make_plan
    from latentcot.recipes.recipe import read_recipe
    from latentcot.runs.provenance import provenance
    from latentcot.utils.files import write_json

    rows = {}
    for method in PAPER_METHODS:
        recipe = read_recipe("gsm8k/llama-3.2-1b", [f"method={method}"])
        plan = make_plan(recipe, device_named("h100"), gpus=8)
        rows[method] = {**asdict(plan), "hours": plan.hours, "total_bytes": plan.memory_total}
        print(method, f"{plan.hours:.2f} h", f"{plan.memory_total / 2**30:.1f} GiB", flush=True)
    write_json(TABLE, {"rows": rows, **provenance()})


# --- typical lengths ----------------------------------------------------------------------------


def lengths(files: list[str]) -> None:
    """Write the lengths of up to 100 examples of each task, evenly spaced from short to long."""
    from latentcot.data.examples import read_examples
    from latentcot.planning.lengths import TYPICAL, roughly_encoded
    from latentcot.recipes.recipe import make_recipe
    from latentcot.utils.files import written_whole

    found = {}
    for given in files:
        task, number, file = given.split("=", 2)
        recipe = make_recipe({"task": task, "data": {"train": file, "valid": file}})
        shapes = sorted(roughly_encoded(one, recipe).shape for one in read_examples(file))
        last, many = len(shapes) - 1, min(len(shapes), 100)
        chosen = [shapes[round(i * last / max(1, many - 1))] for i in range(many)]
        source = f"{len(shapes)} examples of {Path(file).name}"
        found[task] = {"num_examples": int(number), "source": source, "shapes": chosen}
    with written_whole(TYPICAL) as out:
        json.dump(found, out, separators=(",", ":"))
        out.write("\n")


# --- the page -----------------------------------------------------------------------------------


def write() -> None:
    """Write both tables into the page."""
    from studies import fill  # children that measure memory do without its imports

    for name, lines in (("check", _check_lines()), ("table", _table_lines())):
        fill(PAGE, name, "plan.py", "\n".join(["", *lines, ""]))


def _check_lines() -> list[str]:
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    lines = [
        "| setting | MiB planned | measured | off | s planned | measured | off | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        holds = abs(row["memory_off"]) <= BARS["memory"] and abs(row["time_off"]) <= BARS["time"]
        lines.append(
            f"| {row['setting']} | {row['planned_bytes'] / 2**20:,.0f} | "
            f"{row['bytes'] / 2**20:,.0f} | {row['memory_off']:+.0%} | "
            f"{row['planned_seconds']:.2f} | {row['seconds']:.2f} | {row['time_off']:+.0%} | "
            f"{'holds' if holds else 'falls short'} |"
        )
    return [*lines, "", _where(found)]


def _table_lines() -> list[str]:
    found = json.loads(TABLE.read_text(encoding="utf-8"))
    lines = [
        "| method | updates | tokens | FLOPs | hours | GiB a device |",
        "|---|---|---|---|---|---|",
    ]
    for method, row in found["rows"].items():
        updates, tokens, flops = (
            sum(stage[key] for stage in row["stages"]) for key in ("updates", "tokens", "flops")
        )
        lines.append(
            f"| {method} | {updates:,} | {tokens / 1e6:,.0f} M | {flops:.2e} | "
            f"{row['hours']:.2f} | {row['total_bytes'] / 2**30:.1f} |"
        )
    return [*lines, "", "- not measured on H100", _where(found)]


def _where(found: dict[str, Any]) -> str:
    changes = " and changes that were not committed" if found.get("is_tree_dirty") else ""
    return f"- commit {found['commit'][:10]}{changes}, {found['machine']}"


if __name__ == "__main__":
    main()
