"""Accuracy on ProntoQA by hops, seed by seed: which row finds how many.

    python benchmarks/prontoqa_by_hops.py runs/prontoqa/study runs/prontoqa/data/test.json
    python benchmarks/prontoqa_by_hops.py runs/prontoqa-from-cot/study runs/prontoqa/data/test.json

Of the runs that have a result; writes results/NAME/more.md, with NAME the folder around the study,
which `studies.py write` puts below its table.
"""

import sys
from pathlib import Path

from analysis_tables import table
from arithmetic_by_steps import by_group
from rows_by_tasks import ROWS

from latentcot.data.examples import read_examples
from latentcot.utils.files import written_whole
from studies import RESULTS


def main(study: Path, data: Path) -> None:
    hops = {example.id: len(example.steps) - 1 for example in read_examples(data)}
    numbers = sorted(set(hops.values()))
    seeds = sorted({path.parts[-3] for path in study.glob("*/*/seed-*/evals/test.json")})
    rows = []
    for method in ROWS:
        paths = [study / "prontoqa" / method / seed / "evals" / "test.json" for seed in seeds]
        cells = [shares(path, hops) if path.exists() else "" for path in paths]
        rows += [[method, *cells]] if any(cells) else []
    titles = ["Row", *(seed.replace("-", " ") for seed in seeds)]
    order = " / ".join(map(str, numbers))
    lines = [f"Accuracy (%) at {order} hops, seed by seed; half is a guess:", ""]
    with written_whole(RESULTS / study.parent.name / "more.md") as file:
        file.write("\n".join([*lines, table(titles, rows)]) + "\n")


def shares(path: Path, hops: dict[str, int]) -> str:
    """Return the accuracy of a run at each number of hops."""
    return " / ".join(f"{100 * share:.0f}" for _, share in sorted(by_group(path, hops).items()))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
