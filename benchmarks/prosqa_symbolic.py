"""ProsQA learned from scratch: what stands beside the table of a study.

    python benchmarks/prosqa_symbolic.py STUDY runs/prosqa-symbolic
    python benchmarks/prosqa_symbolic.py STUDY runs/prosqa-symbolic keep

After `python benchmarks/studies.py collect prosqa-symbolic STUDY`. Leaves in
results/prosqa-symbolic/: each row's recipe, commit and minutes in table.json; curves.json,
validation accuracy by update with the updates at which stages began; by_hops.json, accuracy on the
official questions by the length of the chain, and on two files of our own; checkpoints.json,
SHA-256 of each best checkpoint; more.md, what goes below the table; runs.tar.xz, with what the runs
were asked here. And draws docs/images/prosqa-symbolic-curves.png. `keep`, for a study that is not
complete, leaves checkpoints.json and runs.tar.xz alone, to go on elsewhere with
`studies.py run prosqa-symbolic --kept`.
"""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis_tables import table
from kept_runs import RUNS, finished, pack
from matplotlib.figure import Figure

from latentcot.data.examples import Example, read_examples
from latentcot.evaluation.results import Evaluation
from latentcot.evaluation.statistics import percent
from latentcot.runs.checkpoint_folders import best_checkpoint
from latentcot.runs.folder import read_metrics
from latentcot.tasks.prosqa.generator import graph_of
from latentcot.tasks.prosqa.stats import depth, graph_stats
from latentcot.utils.files import write_json, written_whole
from studies import accuracy_table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "prosqa-symbolic"
FIGURE = ROOT / "docs" / "images" / "prosqa-symbolic-curves.png"
RECIPE = "prosqa-symbolic/cpu"
BATCH = 128
"""Of the recipe: examples of an update."""
OWN = {"own": "data/test.jsonl", "balanced": "balanced/test.jsonl"}
"""Questions of our generator, asked beside the official ones: file in the folder of the data."""
COLORS = {
    "coconut": "#2a6fb0", "cot": "#d1752b", "no-cot": "#777777", "icot": "#b0529c",
    "pause": "#7a5c2e", "coconut-no-curriculum": "#8fb8de", "coconut-no-thought": "#c9a227",
    "coconut-pause-as-thought": "#3a9a5c", "pause-multipass": "#d64550",
}  # fmt: skip


def main(study: Path, data: Path) -> None:
    runs = finished(study)
    own = keep(study, data)
    curves = [curve_of(run) for run in runs]
    write_json(RESULTS / "curves.json", curves)
    draw(curves)
    complete_table(curves)
    questions = read_examples(str(data / "official.jsonl"))
    by_hops = accuracy_by_hops(runs, questions) | accuracy_by_depth(runs, questions)
    by_hops["own"] = own
    write_json(RESULTS / "by_hops.json", by_hops)
    with written_whole(RESULTS / "more.md") as file:
        file.write(below(by_hops, questions))


def keep(study: Path, data: Path) -> dict[str, Any]:
    """Ask the finished runs what only their weights can tell, and keep them without these."""
    runs = finished(study)
    note_hashes(runs)
    found = {name: asked(runs, name, data / path) for name, path in OWN.items()}
    pack(study, RESULTS / RUNS)
    return found


def _name(run: Path) -> str:
    return f"{run.parent.name}/{run.name}"


def curve_of(run: Path) -> dict[str, Any]:
    """Return a run's validation accuracies, its stages, and how long its updates took."""
    rows = read_metrics(run)
    updates = [row for row in rows if row["kind"] == "train"]  # of a kept run one in 100 updates
    seconds = fmean(BATCH / row["examples_per_second"] for row in updates)
    return {
        "method": run.parent.name,
        "seed": int(run.name.removeprefix("seed-")),
        "valid": [[row["update"], row["accuracy"]] for row in rows if row["kind"] == "valid"],
        "stages": [[row["update"], row["stage"]] for row in rows if row["kind"] == "stage"],
        "minutes": round(rows[-1]["update"] * seconds / 60, 1),
    }


def note_hashes(runs: list[Path]) -> None:
    """Note the SHA-256 of the files of each best checkpoint; of a kept run it is noted already."""
    path = RESULTS / "checkpoints.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    best = {_name(run): best_checkpoint(run) for run in runs}
    found = {
        name: json.loads((folder / "checksums.json").read_text())["sha256"]
        for name, folder in best.items()
        if folder
    }
    write_json(path, {**known, **found})


def complete_table(curves: list[dict[str, Any]]) -> None:
    """Put recipe, commit and minutes into the rows of table.json."""
    path = RESULTS / "table.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    for row in table["rows"]:
        row["recipe"] = f"{RECIPE} with method={row['method']}"
        row["commit"] = row["commits"][0]
        row["accuracy_mean"] = row["accuracy"]["value"]  # as its readers know it
        row["minutes"] = [one["minutes"] for one in curves if one["method"] == row["method"]]
    write_json(path, table)


def accuracy_by_hops(runs: list[Path], questions: list[Example]) -> dict[str, Any]:
    """Return each method's accuracy by the length of the chain, over its seeds."""
    hops = {question.id: len(question.steps) for question in questions}
    found: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        records = json.loads((run / "evals" / "test.json").read_text(encoding="utf-8"))["records"]
        for record in records:
            found[run.parent.name][hops[record["id"]]].append(record["is_correct"])
    numbers = sorted(set(hops.values()))
    return {
        "questions": {str(n): sum(found == n for found in hops.values()) for n in numbers},
        "accuracy_mean": {
            method: {str(n): fmean(right[n]) for n in numbers} for method, right in found.items()
        },
    }


def accuracy_by_depth(runs: list[Path], questions: list[Example]) -> dict[str, Any]:
    """Return how many are right where depth tells the answer, and where both are equally deep."""
    depths = {
        question.id: [depth(graph, node) for node in (graph.target, graph.neg_target)]
        for question in questions
        for graph in [graph_of(question)]
    }
    group_of = {
        id_: "tie" if answer == other else "answer deeper" if answer > other else "other deeper"
        for id_, (answer, other) in depths.items()
    }
    right: dict[str, dict[str, list[int]]] = {}
    for run in runs:
        records = json.loads((run / "evals" / "test.json").read_text(encoding="utf-8"))["records"]
        counts = dict.fromkeys(group_of.values(), 0)
        for record in records:
            counts[group_of[record["id"]]] += record["is_correct"]
        for group, count in counts.items():
            right.setdefault(run.parent.name, {}).setdefault(group, []).append(count)
    sizes = {group: list(group_of.values()).count(group) for group in set(group_of.values())}
    return {"depth_questions": sizes, "right_by_depth": right}


def asked(runs: list[Path], name: str, path: Path) -> dict[str, Any]:
    """Return each run's accuracy on the questions of a file; it is asked once."""
    accuracies = defaultdict(list)
    for run in runs:
        answers = run / "evals" / f"{name}.json"
        if not answers.exists():
            words = ["eval", str(run), "--data", str(path), "--batch-size", "500", "--quiet"]
            command = [sys.executable, "-m", "latentcot", *words, "--out", str(answers)]
            subprocess.run(command, check=True)
        accuracies[run.parent.name].append(Evaluation.read(answers).accuracy.value)
    return {"questions": len(read_examples(str(path))), "accuracies": dict(accuracies)}


def below(by_hops: dict[str, Any], questions: list[Example]) -> str:
    """Return what goes below the table, as Markdown."""
    deeper = percent(graph_stats(questions).accuracy_deeper_candidate)
    sizes = by_hops["depth_questions"]
    own, balanced = (by_hops["own"][name] for name in OWN)
    rows = [
        [
            method,
            ", ".join(map(str, found["tie"])),
            *(
                ", ".join(percent(one).removesuffix(" %") for one in file["accuracies"][method])
                for file in (own, balanced)
            ),
        ]
        for method, found in by_hops["right_by_depth"].items()
    ]
    return "\n".join(
        [
            "Accuracy (%) by hops; in brackets how many questions:",
            "",
            *accuracy_table(by_hops),
            "",
            f"Taking the deeper candidate, without reading the root, is right in {deeper}: in "
            f"{sizes.get('answer deeper', 0)} questions the answer is deeper, in "
            f"{sizes.get('other deeper', 0)} the other, and in {sizes['tie']} both are equally "
            "deep. Each seed's right answers among those, and its accuracy (%) on questions of "
            f"our own generator: {own['questions']:,} by the official rules, and "
            f"{balanced['questions']:,} of four hops and more whose candidates are equally deep.",
            "",
            table(["Method", f"right of {sizes['tie']}", "own", "balanced"], rows),
        ]
    )


def draw(curves: list[dict[str, Any]]) -> None:
    """Draw validation accuracy against updates; a tick where a stage begins."""
    figure = Figure(figsize=(7.5, 4), layout="constrained")
    panel = figure.subplots()
    named = set()
    for curve in curves:
        method = curve["method"]
        updates, accuracies = zip(*curve["valid"], strict=True)
        label = None if method in named else method
        named.add(method)
        shown = [100 * accuracy for accuracy in accuracies]
        panel.plot(updates, shown, color=COLORS.get(method), label=label, alpha=0.85)
        starts = [update for update, _ in curve["stages"]]
        known = dict(curve["valid"])
        marks = [(update, 100 * known[update]) for update in starts if update in known]
        if marks:
            panel.plot(*zip(*marks, strict=True), "|", color=COLORS.get(method), markersize=12)
    panel.axhline(50, color="#bbbbbb", linewidth=1, linestyle=":")
    panel.set(xlabel="updates", ylabel="accuracy on our validation questions (%)", ylim=(40, 101))
    panel.legend(frameon=False, loc="lower right", title="each seed; |: a stage begins")
    panel.grid(alpha=0.3)
    with written_whole(FIGURE, "wb") as file:
        figure.savefig(file, format="png", dpi=130)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[3:] not in ([], ["keep"]):
        sys.exit(__doc__)
    do = keep if sys.argv[3:] else main
    do(Path(sys.argv[1]), Path(sys.argv[2]))
