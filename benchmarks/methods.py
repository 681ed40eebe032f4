"""What an update of each method costs beside Coconut's, and what its seeds reach, drawn.

    python benchmarks/methods.py cost studies/methods-graphs.yaml
    python benchmarks/methods.py curves methods-graphs-from-cot
    python benchmarks/methods.py write

`cost` takes the model, batch and longest micro-batch of each row of a study in its last stage,
counts its products and passes, and measures an update with random weights, all rows in turns in
this process; it leaves results/STUDY/cost.json. `curves` takes the validations of the runs that
benchmarks/studies.py made of a study, and leaves results/STUDY/curves.json. `write` puts the table
of costs next to those that benchmarks/studies.py keeps in docs/results.md, and draws the accuracies
of all seeds by the passes of a question, and the curves.
"""

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from kept_runs import finished

from latentcot.analysis.shared.style import COLOURS, COLUMN, figure, save
from latentcot.curriculum.stages import phases_of
from latentcot.planning.devices import seconds_of
from latentcot.planning.lengths import lengths_of, update_batches
from latentcot.planning.plan import subject_of
from latentcot.planning.work import Shape, Subject, num_passes, work_of
from latentcot.runs.folder import read_metrics
from latentcot.runs.provenance import provenance
from latentcot.studies.study import cells_of, read_study
from latentcot.utils.files import write_json
from studies import PAGE, RESULTS, fill

ROOT = Path(__file__).parent.parent
IMAGES = PAGE.parent / "images"
BASE = "coconut"
ROUNDS = 7
FIGURES = {
    "methods": {
        "methods-graphs": "equal updates",
        "methods-graphs-passes": "equal passes",
        "methods-graphs-longer": "3 × the updates",
        "methods-graphs-from-cot": "these from cot",
    },
    "methods-arithmetic": {
        "methods-arithmetic": "equal updates",
        "methods-arithmetic-passes": "equal passes",
    },
    "graphs-depth": {
        "graphs-depth:layers-2": "two layers",
        "graphs-depth:layers-4": "four layers",
    },
    "smollm2": {
        "smollm2": "SmolLM2, 300 updates",
        "smollm2-lora": "with LoRA",
        "smollm2-from-cot": "from cot, 600 updates",
        "smollm2-scratch": "from scratch, 10,000",
    },
}
"""Picture → its panels, a study (or one task of it, STUDY:TASK) each, and what is said above."""
PAIRS = ("methods", "graphs-depth")
"""Pictures of questions with two candidates."""
STUDIES = list(dict.fromkeys(key.partition(":")[0] for keys in FIGURES.values() for key in keys))
GUESSED, CHANCE = {key.partition(":")[0] for name in PAIRS for key in FIGURES[name]}, 50.0
"""Studies of these pictures, and the percent of a guess there."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    cost = commands.add_parser("cost")
    cost.add_argument("study", type=Path)
    cost.set_defaults(do=lambda given: measure(given.study))
    curves = commands.add_parser("curves")
    curves.add_argument("study", choices=STUDIES)
    curves.set_defaults(do=lambda given: keep_curves(given.study))
    write = commands.add_parser("write")
    write.set_defaults(do=lambda given: write_page())
    given = parser.parse_args()
    given.do(given)


def measure(path: Path) -> None:
    """Count and time an update of each method of a study."""
    study = read_study(path)
    cells = {cell.method: cell.recipe for cell in reversed(cells_of(study))}
    subjects: dict[str, tuple[Subject, Shape]] = {}
    for name in study.methods:
        recipe, method = cells[name], cells[name].bound_method
        lengths = lengths_of(recipe)
        last = phases_of(recipe.curriculum, method.view)[-1]
        shape = update_batches(recipe, method, lengths, [last], 1)[last].longest
        subjects[name] = subject_of(recipe, lengths), shape
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(ROUNDS):
        for name, (subject, shape) in subjects.items():
            seconds[name].append(seconds_of(subject, shape, rounds=2))
    rows = []
    for name, (subject, shape) in subjects.items():
        work = work_of(subject, shape)
        rows.append(
            {"method": name, "shape": str(shape), "passes": num_passes(subject.method, shape),
             "products": work.flops, "peak_bytes": work.peak,
             "seconds": statistics.median(seconds[name])}
        )  # fmt: skip
        print(rows[-1], flush=True)
    target = RESULTS / path.stem / "cost.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, {"study": str(path), "rows": rows, "provenance": provenance()})


def cost_table(found: dict[str, Any]) -> str:
    """Return what an update costs, with the base at 1."""
    rows = {row["method"]: row for row in found["rows"]}
    base = rows[BASE]
    lines = [
        "| Method | Passes an update | Products | Memory | Seconds of CPU |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        ratios = [row[key] / base[key] for key in ("products", "peak_bytes", "seconds")]
        cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        lines.append(f"| {name} | {row['passes']} | {cells} |")
    source = found["provenance"]
    return "\n".join(
        [*lines, "", f"Coconut's is 1: {1000 * base['seconds']:.1f} ms, {base['shape']}. Commit "
         f"{str(source['commit'])[:10]}; {source['machine']}; torch {source['versions']['torch']}."]
    )  # fmt: skip


def keep_curves(study: str) -> None:
    """Keep the validation accuracies of all finished runs of a study."""
    folder = ROOT / "runs" / study / "study"
    found = defaultdict[str, dict[str, list[tuple[int, float]]]](dict)
    has_tasks = len(list(folder.glob("*/"))) > 1
    for run in finished(folder):
        valid = [row for row in read_metrics(run) if row["kind"] == "valid"]
        accuracies = [(row["update"], row["accuracy"]) for row in valid]
        task, method = run.parts[-3:-1]
        name = f"{method}\n{task}" if has_tasks else method
        found[name][run.name.removeprefix("seed-")] = accuracies
    if not found:
        sys.exit(f"{folder}: holds no finished run. First: benchmarks/studies.py run {study}")
    write_json(RESULTS / study / "curves.json", found)


def draw_curves(study: str) -> None:
    """Draw the validation accuracies of a study, a panel a method, a line a seed."""
    found = json.loads((RESULTS / study / "curves.json").read_text(encoding="utf-8"))
    num_rows = 4 if any("\n" in name for name in found) else 2
    with figure(2 * COLUMN, 1.3 * num_rows) as drawn:
        panels = drawn.subplots(
            num_rows, math.ceil(len(found) / num_rows), sharex=True, sharey=True
        )
        for axes, (method, seeds) in zip(panels.flat, found.items(), strict=False):
            if study in GUESSED:
                axes.axhline(CHANCE, color="0.8", linewidth=0.8)
            for line, (seed, valid) in enumerate(seeds.items()):
                updates, accuracies = zip(*valid, strict=True)
                shown = [100 * accuracy for accuracy in accuracies]
                axes.plot(updates, shown, color=COLOURS[line], label=f"seed {seed}", linewidth=1)
            axes.set(title=method)
        for axes in panels.flat[len(found) :]:
            axes.set_visible(False)
        handles, labels = panels[0][0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper center", ncols=len(labels))
        drawn.supxlabel("updates", fontsize="medium")
        drawn.supylabel("validation accuracy, %", fontsize="medium")
        save(drawn, IMAGES / f"{study}-curves.png", as_pdf=False)


def draw(name: str, tables: dict[str, list[dict[str, Any]]]) -> None:
    """Draw the accuracies of each method, a dot a seed, a panel a study.

    Methods stand below each other by the passes of a question, as the first study that asks them
    has these.
    """
    first = sorted(
        {row["method"]: row for rows in reversed(tables.values()) for row in rows}.values(),
        key=lambda row: (round(row["passes_per_question"], 1), -row["accuracy"]["value"]),
    )
    least = min(min(row["accuracies"]) for rows in tables.values() for row in rows)
    places = {row["method"]: place for place, row in enumerate(first)}
    with figure(2 * COLUMN, max(2.5, 0.8 + 0.17 * len(places))) as drawn:  # or the note is higher
        panels = drawn.subplots(1, len(tables), sharey=True, squeeze=False)[0]
        for axes, (study, rows) in zip(panels, tables.items(), strict=True):
            if name in PAIRS:
                axes.axvline(CHANCE, color="0.8", linewidth=0.8)
            for row in rows:
                place = places[row["method"]]
                shares = [100 * share for share in row["accuracies"]]
                axes.plot(shares, [place] * len(shares), "o", color=COLOURS[0], alpha=0.6)
                axes.plot(100 * row["accuracy"]["value"], place, "|", color="black", markersize=9)
            axes.set(title=FIGURES[name][study], xlim=(100 * least - 4, 103))
        panels[0].set_yticks(
            list(places.values()),
            [f"{row['method']}, {round(row['passes_per_question'], 1):g}" for row in first],
        )
        panels[0].set_ylabel("method, passes for a question")
        panels[0].invert_yaxis()
        drawn.supxlabel("accuracy, %", fontsize="medium")
        questions = max(row["accuracy"]["n"] for row in first)
        note = f"{questions:,} questions; a dot for each seed, and their mean"
        save(drawn, IMAGES / f"{name}.png", note, as_pdf=False)


def write_page() -> None:
    """Write the table of costs and the figures from the files of results."""
    for path in sorted(RESULTS.glob("methods-*/cost.json")):
        text = cost_table(json.loads(path.read_text(encoding="utf-8")))
        fill(PAGE, f"{path.parent.name}-cost", "methods.py", f"\n{text}\n")
    for picture, panels in FIGURES.items():
        tables = {}
        for key in panels:
            study, _, task = key.partition(":")
            path = RESULTS / study / "table.json"
            if path.exists():
                rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
                tables[key] = [row for row in rows if not task or row["task"] == task]
        if len(tables) > 1:  # a panel alone says no more than its table
            draw(picture, tables)
    for study in STUDIES:
        if (RESULTS / study / "curves.json").exists():
            draw_curves(study)


if __name__ == "__main__":
    main()
