"""How far apart two seeds of one row are, beside a published difference between two names of it.

    python benchmarks/pause_seeds.py [STUDY]
    python benchmarks/pause_seeds.py draw

After `python benchmarks/studies.py run pause-seeds`. Leaves results/pause-seeds/pairs.json with
every pair of runs, and more.md, which `python benchmarks/studies.py write` puts below the study's
table, and draws docs/images/pause-seeds.png. Each run also answers as the other row: the weights
are the same, so the answers must be.

Fixed before anything was run. That the published difference is one of rows is *supported*, if no
two seeds of one row are that far apart with p < 0.001; otherwise one seed of each row tells nothing
of the rows. That the two rows are one function is *refuted* by a question that a run answers
otherwise as the other row, in more than one of a thousand (rounding may turn a tie).
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from latentcot import load
from latentcot.analysis.shared.statistics import mcnemar_of
from latentcot.analysis.shared.style import COLUMN, GREY, figure, look_of, save
from latentcot.data.examples import read_examples
from latentcot.evaluation.evaluate import evaluate
from latentcot.evaluation.reasoner import Reasoner
from latentcot.evaluation.results import Evaluation
from latentcot.evaluation.statistics import mean_and_sd, mean_interval, percent
from latentcot.runs.folder import recipe_test_file
from latentcot.utils.files import write_json, written_whole

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "pause-seeds"
IMAGE = ROOT / "docs" / "images" / "pause-seeds.png"
OTHER = {
    "coconut-pause-as-thought": "pause-multipass",
    "pause-multipass": "coconut-pause-as-thought",
}
PUBLISHED, LEVEL = 7.9, 0.001
"""Points between the rows on DAGs, and its p, one seed each: "The Curriculum Is the Mechanism:
Dissecting COCONUT's Latent Thought Gains on ProsQA" (huggingface.co,
bmarti44/coconut-curriculum-checkpoints), its M3 and M4."""


def main(study: Path) -> None:
    evaluations = {
        (path.parts[-4], int(path.parts[-3].removeprefix("seed-"))): Evaluation.read(path)
        for path in sorted(study.glob("arithmetic/*/seed-*/evals/test.json"))
    }
    if not evaluations:
        sys.exit(f"{study}: holds no finished run. First: benchmarks/studies.py run pause-seeds")
    runs = []
    for (method, seed), result in sorted(evaluations.items()):
        run = study / "arithmetic" / method / f"seed-{seed}"
        changed = answered_otherwise(run, OTHER[method], result)
        runs.append(
            {"method": method, "seed": seed, "accuracy": result.accuracy.value,
             "answered_otherwise": changed, "questions": len(result.records)}
        )  # fmt: skip
        print(runs[-1], flush=True)
    pairs = [
        {"methods": [one[0], other[0]], "seeds": [one[1], other[1]],
         **difference(evaluations[one], evaluations[other])}
        for one, other in combinations(sorted(evaluations), 2)
    ]  # fmt: skip
    write_json(RESULTS / "pairs.json", {"runs": runs, "pairs": pairs})
    write()


def answered_otherwise(run: Path, method: str, result: Evaluation) -> int:
    """Return in how many questions the weights of a run answer otherwise as another row."""
    own = load(run)
    other = Reasoner(
        own.model, own.tokenizer, replace(own.info, method=method), own.modules, own.source
    )
    found = evaluate(other, read_examples(ROOT / recipe_test_file(run)), batch_size=500)
    pairs = zip(result.records, found.records, strict=True)
    return sum(one.text != two.text for one, two in pairs)


def difference(one: Evaluation, other: Evaluation) -> dict[str, float]:
    """Return how many points lie between two runs, and McNemar's p over their questions."""
    right = [[record.is_correct for record in result.records] for result in (one, other)]
    return {"points": 100 * (fmean(right[0]) - fmean(right[1])), "p": mcnemar_of(*right)}


def write() -> None:
    """Write what goes below the table of the study, and draw it, from pairs.json."""
    found = json.loads((RESULTS / "pairs.json").read_text(encoding="utf-8"))
    with written_whole(RESULTS / "more.md") as file:
        file.write(below(found["runs"], found["pairs"]))
    draw(found["runs"], found["pairs"])


def below(runs: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> str:
    within = [pair for pair in pairs if len(set(pair["methods"])) == 1]
    across = [pair for pair in pairs if len(set(pair["methods"])) == 2]
    paired = [-pair["points"] for pair in across if len(set(pair["seeds"])) == 1]  # as the table
    interval = mean_interval(paired)
    told = "" if interval is None else f" (95 %: {interval[0]:+.1f} to {interval[1]:+.1f})"
    changed, asked = (sum(run[key] for run in runs) for key in ("answered_otherwise", "questions"))
    largest = max(within, key=lambda pair: abs(pair["points"]))
    return "\n\n".join(
        [
            f"One function: asked as the other row, the runs answer {changed:,} of {asked:,} "
            "questions otherwise.",
            f"Two seeds of one row: of {len(within)} pairs {share(is_small(within))} have "
            f"p < {LEVEL}, and {share(is_far(within))} are {PUBLISHED} points apart or more. At "
            f"most {abs(largest['points']):.1f} points ({largest['methods'][0]}, seeds "
            f"{largest['seeds'][0]} and {largest['seeds'][1]}; p = {largest['p']:.1g}).",
            f"One seed of each row: of {len(across)} pairs {share(is_small(across))} have "
            f"p < {LEVEL}, {share(is_far(across))} are as far apart. Over the seeds the second "
            f"row is {fmean(paired):+.1f} points from the first{told}.",
        ]
    ).replace(" -", " −")


def is_small(pairs: Iterable[dict[str, Any]]) -> list[bool]:
    return [pair["p"] < LEVEL for pair in pairs]


def is_far(pairs: Iterable[dict[str, Any]]) -> list[bool]:
    return [abs(pair["points"]) >= PUBLISHED for pair in pairs]


def share(which: list[bool]) -> str:
    return f"{sum(which)} ({percent(fmean(which))})"


def draw(runs: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> None:
    """Draw the accuracy of each seed, and how far apart two seeds of one row are."""
    methods = sorted({run["method"] for run in runs})
    with figure(2 * COLUMN, 2.0) as drawn:
        left, right = drawn.subplots(1, 2)
        for place, method in enumerate(methods):
            shares = [100 * run["accuracy"] for run in runs if run["method"] == method]
            mean, sd = mean_and_sd(shares)
            look = look_of(place)
            left.plot(shares, [place] * len(shares), "o", color=look["color"], alpha=0.6)
            left.errorbar(mean, place + 0.25, xerr=sd, fmt="|", color="black", capsize=2)
        left.set(ylim=(-0.5, len(methods) - 0.3), xlabel="accuracy of a seed, %")
        left.set_yticks(range(len(methods)), methods)
        within = [abs(pair["points"]) for pair in pairs if len(set(pair["methods"])) == 1]
        right.hist(within, bins=range(int(max(within)) + 2), color=look_of(0)["color"], alpha=0.6)
        right.axvline(PUBLISHED, color=GREY, linestyle="--", label=f"published: {PUBLISHED}")
        right.set(xlabel="points between two seeds of one row", ylabel="pairs")
        right.legend()
        note = f"{runs[0]['questions']:,} questions; mean and standard deviation above the dots"
        save(drawn, IMAGE, note, as_pdf=False)


if __name__ == "__main__":
    if sys.argv[1:] == ["draw"]:
        write()
    else:
        main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "runs" / "pause-seeds" / "study")
