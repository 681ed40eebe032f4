"""What an update of each method costs beside Coconut's, and accuracy against passes, drawn.

    python benchmarks/methods.py cost studies/methods-graphs.yaml
    python benchmarks/methods.py write

`cost` takes the model, batch and longest micro-batch of each row of a study in its last stage,
counts its products and passes, and measures an update with random weights, all rows in turns in
this process; it leaves results/STUDY/cost.json. `write` puts the table of costs next to those that
benchmarks/studies.py keeps in docs/results.md, and draws accuracy against the passes of a question.
"""

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from latentcot.analysis.shared.style import COLOURS, COLUMN, MARKERS, figure, save
from latentcot.curriculum.stages import phases_of
from latentcot.models.shapes import config_of
from latentcot.planning.devices import seconds_of
from latentcot.planning.lengths import lengths_of, update_batches
from latentcot.planning.work import Shape, Subject, num_passes, work_of
from latentcot.runs.provenance import provenance
from latentcot.studies.study import cells_of, read_study
from latentcot.utils.files import write_json
from studies import PAGE, RESULTS, fill

ROOT = Path(__file__).parent.parent
BASE = "coconut"
ROUNDS = 7
PANELS = {
    "methods-graphs": "graphs, equal updates",
    "methods-graphs-passes": "graphs, equal passes",
    "methods-arithmetic": "arithmetic, equal updates",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    cost = commands.add_parser("cost")
    cost.add_argument("study", type=Path)
    cost.set_defaults(do=lambda given: measure(given.study))
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
        config = config_of(recipe.model, vocabulary_size=lengths.vocabulary_size)
        subjects[name] = Subject(config, method, plan=recipe.curriculum.plan), shape
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


def draw(tables: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw the accuracy of each method against the passes of a question, a panel a study."""
    with figure(2 * COLUMN, 2.9) as drawn:
        panels = drawn.subplots(1, len(tables), sharey=True, squeeze=False)[0]
        names = [row["method"] for row in next(iter(tables.values()))]
        for axes, (study, rows) in zip(panels, tables.items(), strict=True):
            for row in rows:
                number = names.index(row["method"])
                mean, all_ = row["accuracy_mean"], row["accuracies"]
                axes.errorbar(
                    row["passes_per_question"], 100 * mean,
                    yerr=[[100 * (mean - min(all_))], [100 * (max(all_) - mean)]],
                    color=COLOURS[number % len(COLOURS)],
                    marker=MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
                    markerfacecolor="white" if number >= len(COLOURS) else None,
                    linestyle="", elinewidth=0.8, label=row["method"],
                )  # fmt: skip
            axes.set(title=PANELS[study], xlabel="passes for a question, one after the other")
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
        panels[0].set_ylabel("accuracy, %")
        handles, labels = panels[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper center", ncols=math.ceil(len(labels) / 3))
        sizes = {(row["num_questions"], row["num_seeds"]) for row in next(iter(tables.values()))}
        (questions, seeds), *_ = sorted(sizes, reverse=True)
        save(drawn, path, f"{questions:,} questions; mean and range of {seeds} seeds")
    path.with_suffix(".pdf").unlink()


def write_page() -> None:
    """Write the table of costs and the figure from the files of results."""
    for path in sorted(RESULTS.glob("methods-*/cost.json")):
        text = cost_table(json.loads(path.read_text(encoding="utf-8")))
        fill(PAGE, f"{path.parent.name}-cost", "methods.py", f"\n{text}\n")
    tables = {
        name: json.loads((RESULTS / name / "table.json").read_text(encoding="utf-8"))["rows"]
        for name in PANELS
        if (RESULTS / name / "table.json").exists()
    }
    if tables:
        draw(tables, PAGE.parent / "images" / "methods.png")


if __name__ == "__main__":
    main()
