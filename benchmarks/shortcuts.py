"""Accuracy of the study of planted shortcuts, by where the answer stands among the candidates.

    python benchmarks/shortcuts.py [STUDY]

After `python benchmarks/studies.py run shortcuts`. Leaves results/shortcuts/by_order.json, and
more.md, which `python benchmarks/studies.py write` puts below the study's tables, and draws
docs/images/shortcuts.png. Each test file names the answer first in half of its questions: `first`
are those in which the shortcut would be right, `second` those in which it would be wrong.
"""

import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from analysis_tables import table

from latentcot.analysis.shared.style import COLUMN, GREY, figure, look_of, save
from latentcot.data.examples import Example, read_examples
from latentcot.evaluation.results import Evaluation
from latentcot.evaluation.statistics import mean_and_sd, percent
from latentcot.runs.folder import recipe_test_file
from latentcot.tasks.prosqa.generator import candidates_of
from latentcot.utils.files import write_json, written_whole

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "shortcuts"
IMAGE = ROOT / "docs" / "images" / "shortcuts.png"
ORDERS = ("first", "second")


def main(study: Path) -> None:
    rows = rows_of(study)
    if not rows:
        sys.exit(f"{study}: holds no finished run. First: benchmarks/studies.py run shortcuts")
    write_json(RESULTS / "by_order.json", rows)
    with written_whole(RESULTS / "more.md") as file:
        file.write(below(rows))
    draw(rows)


def rows_of(study: Path) -> list[dict[str, Any]]:
    """Return the accuracy of each run where the answer is named first, and where second."""
    rows, known = [], dict[str, dict[str, str]]()
    for path in sorted(study.glob("leak-*/*/seed-*/evals/test.json")):
        run = path.parents[1]
        task, method, seed = run.parts[-3:]
        if task not in known:
            file = ROOT / recipe_test_file(run)
            known[task] = {one.id: order_of(one) for one in read_examples(str(file))}
        right: dict[str, list[bool]] = {order: [] for order in ORDERS}
        for record in Evaluation.read(path).records:
            right[known[task][record.id]].append(record.is_correct)
        rows.append(
            {"leak": int(task.removeprefix("leak-")), "method": method,
             "seed": int(seed.removeprefix("seed-")),
             **{order: fmean(answers) for order, answers in right.items()},
             "questions": {order: len(answers) for order, answers in right.items()}}
        )  # fmt: skip
    return sorted(rows, key=lambda row: (row["leak"], row["method"], row["seed"]))


def order_of(example: Example) -> str:
    """Return whether the answer is the first or the second candidate that the question names."""
    return ORDERS[candidates_of(example).index(example.answer)]


def below(rows: list[dict[str, Any]]) -> str:
    """Return what goes below the tables of the study, as Markdown."""
    leaks = sorted({row["leak"] for row in rows})
    methods = list(dict.fromkeys(row["method"] for row in rows))

    def cell(method: str, leak: int, order: str) -> str:
        found = [row[order] for row in rows if (row["method"], row["leak"]) == (method, leak)]
        if not found:
            return "–"
        mean, sd = mean_and_sd(found)
        text = percent(mean).removesuffix(" %")
        return text if sd is None else f"{text} ± {100 * sd:.1f}"

    lines = [
        [f"{method}, answer named {order}", *(cell(method, leak, order) for leak in leaks)]
        for method in methods
        for order in ORDERS
    ]
    seeds = len({row["seed"] for row in rows})
    sizes = rows[0]["questions"]
    return "\n\n".join(
        [
            f"By where the answer stands ({sizes['first']} questions first, {sizes['second']} "
            f"second), % right, mean ± standard deviation of up to {seeds} seeds. Each column: so "
            "much of training leaks.",
            table(["", *(f"{leak} %" for leak in leaks)], lines),
        ]
    )


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw each seed's accuracy against the leak, where the shortcut is right and where wrong."""
    leaks = sorted({row["leak"] for row in rows})
    with figure(2 * COLUMN, 2.2) as drawn:
        for axes, order in zip(drawn.subplots(1, 2, sharey=True), ORDERS, strict=True):
            for place, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
                color = look_of(place)["color"]
                of = [row for row in rows if row["method"] == method]
                at = [leaks.index(row["leak"]) + 0.1 * (place - 1) for row in of]
                axes.plot(at, [100 * row[order] for row in of], "o", color=color, alpha=0.6)
                means = [fmean(100 * row[order] for row in of if row["leak"] == x) for x in leaks]
                axes.plot(range(len(leaks)), means, color=color, label=method)
            axes.axhline(50, color=GREY, linestyle=":", linewidth=1)
            axes.set(title=f"answer named {order}", xlabel="training that leaks, %", ylim=(-4, 104))
            axes.set_xticks(range(len(leaks)), [str(leak) for leak in leaks])
        drawn.axes[0].set_ylabel("right, %")
        drawn.axes[1].legend()
        sizes = rows[0]["questions"]
        note = f"a dot is a seed; {sizes['first']} and {sizes['second']} questions; dotted: chance"
        save(drawn, IMAGE, note, as_pdf=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "shortcuts" / "study")
