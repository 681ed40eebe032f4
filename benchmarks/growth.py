"""How time and memory of an update grow with thoughts, batch, question and model.

    python benchmarks/growth.py run      # each point in a process of its own: minutes
    python benchmarks/growth.py draw     # docs/images/growth.png, from the result file

Writes results/speed/growth-cpu.json, or growth-cuda.json, where the model is GPT-2 small. The slope
against the number of thoughts is a straight line's, from the first thought on; against the others
it is the exponent of a power.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import MIB, gpt2, layout, peak, start_of_peak, synchronize
from scipy.stats import linregress

from latentcot.models.backend.cuda_graphs import SIGHTS
from latentcot.recipes.recipe import Training
from latentcot.runs.provenance import provenance
from latentcot.utils.files import write_json

ROOT = Path(__file__).parent.parent
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RESULT = ROOT / "results" / "speed" / f"growth-{DEVICE}.json"
FIGURE = ROOT / "docs" / "images" / "growth.png"
BASE = {
    "cpu": {"thoughts": 6, "batch": 8, "question": 128, "width": 256, "layers": 4},
    "cuda": {"thoughts": 6, "batch": 32, "question": 330, "width": 768, "layers": 12},
}
AXES = {
    "thoughts": [0, 1, 2, 4, 8, 16, 32],
    "batch": [1, 2, 4, 8, 16, 32],
    "question": [64, 128, 256, 512],
    "width": [128, 256, 512, 768],
}
LABELS = {
    "thoughts": "thoughts",
    "batch": "examples at once",
    "question": "tokens of the question",
    "width": "width of the model",
}
NUM_UPDATES = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("do", choices=["run", "draw", "point"])
    parser.add_argument("--values", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do == "point":
        print(json.dumps(point(given.values)))
    elif given.do == "run":
        run()
    else:
        draw()


def run() -> None:
    """Measure all points, and write them with their slopes."""
    points = {axis: [_measured(axis, value) for value in AXES[axis]] for axis in AXES}
    slopes = {axis: _slopes(axis, points[axis]) for axis in AXES}
    for axis, slope in slopes.items():
        print(axis, slope)
    write_json(RESULT, {"base": BASE[DEVICE], "points": points, "slopes": slopes, **provenance()})


def _measured(axis: str, value: int) -> dict[str, Any]:
    values = {**BASE[DEVICE], axis: value}
    # What the C library keeps for later hides the peak on a CPU, and giving it back takes time: so
    # time and memory come from two processes.
    timed = _point(values, {})
    weighed = timed if DEVICE == "cuda" else _point(values, {"MALLOC_MMAP_THRESHOLD_": "65536"})
    found = {axis: value, "ms": timed["ms"], "mib": weighed["mib"]}
    print(found, flush=True)
    return found


def _point(values: dict[str, int], settings: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, __file__, "point", "--values", json.dumps(values)]
    environment = {**os.environ, **settings}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def point(values: dict[str, int]) -> dict[str, float]:
    """Return milliseconds of an update, and its peak beyond what stays there, in MiB."""
    precision = "bfloat16" if DEVICE == "cuda" else "float32"
    sizes = {
        "n_embd": values["width"],
        "n_layer": values["layers"],
        "n_head": values["width"] // 64,
    }
    train_step = gpt2(Training(precision=precision), **sizes, n_positions=1024)
    train_step.learn([layout(8)], 1e-5)  # gradients and moments are there from now on
    layouts = [layout(values["question"], i, values["thoughts"]) for i in range(values["batch"])]
    before, seconds = start_of_peak(), []
    for _ in range(SIGHTS):
        train_step.learn(layouts, 1e-5)
    for _ in range(NUM_UPDATES):
        start = time.perf_counter()
        train_step.learn(layouts, 1e-5)
        synchronize()
        seconds.append(time.perf_counter() - start)
    mib = (peak() - before) / MIB
    return {"ms": round(1000 * statistics.median(seconds), 2), "mib": round(mib, 1)}


def _slopes(axis: str, points: list[dict[str, float]]) -> dict[str, float]:
    # The first thought brings a second pass, and with it what each further one shares.
    points = [one for one in points if one[axis] > 0]
    x = np.array([one[axis] for one in points])
    found = {}
    for unit in ("ms", "mib"):
        y = np.array([one[unit] for one in points])
        if axis == "thoughts":
            fit = linregress(x, y)
            found |= {
                f"{unit}_per_thought": round(fit.slope, 3),
                f"r2_{unit}": round(fit.rvalue**2, 4),
            }
        else:
            found[f"{unit}_exponent"] = round(linregress(np.log(x), np.log(y)).slope, 3)
    return found


def draw() -> None:
    """Draw the points of the result file, with the fitted lines."""
    from matplotlib.figure import Figure

    from latentcot.utils.files import written_whole

    result = json.loads(RESULT.read_text(encoding="utf-8"))
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots(2, len(AXES), sharex="col")
    for column, axis in enumerate(AXES):
        points, slopes = result["points"][axis], result["slopes"][axis]
        for row, (unit, name) in enumerate((("ms", "ms an update"), ("mib", "MiB at the peak"))):
            panel = axes[row][column]
            x, y = [one[axis] for one in points], [one[unit] for one in points]
            panel.plot(x, y, "o-", color="#2a6fb0", markersize=4)
            if axis == "thoughts":
                fit = linregress(x[1:], y[1:])
                panel.plot(x, [fit.intercept + fit.slope * v for v in x], "--", color="#999999")
                slope = slopes[f"{unit}_per_thought"]
                panel.set_title(f"{slope:.3g} {unit.replace('mib', 'MiB')} a thought", fontsize=9)
            else:
                panel.set(xscale="log", yscale="log", xticks=x, xticklabels=x)
                panel.minorticks_off()
                panel.set_yticks([y[0], y[-1]], labels=[f"{y[0]:.3g}", f"{y[-1]:,.0f}"])
                panel.yaxis.minorticks_off()
                panel.set_title(f"power {slopes[f'{unit}_exponent']:.2f}", fontsize=9)
            if column == 0:
                panel.set_ylabel(name)
            if row == 1:
                panel.set_xlabel(LABELS[axis])
            panel.grid(alpha=0.3)
            panel.set_ylim(bottom=0 if axis == "thoughts" else None)
    base = ", ".join(f"{key} {value}" for key, value in result["base"].items())
    figure.suptitle(f"One update, {result['machine']}: {base}, but for the axis", fontsize=10)
    with written_whole(FIGURE, "wb") as file:
        figure.savefig(file, format="png", dpi=130)


if __name__ == "__main__":
    main()
