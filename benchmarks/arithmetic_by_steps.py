"""Accuracy on the arithmetic study by number of steps, and on sums that training never had.

    python benchmarks/arithmetic_by_steps.py runs/arithmetic/study runs/arithmetic/data arithmetic

Questions differ in names and things, so that the same equations can stand in both files: 81 % of
the test questions of studies/arithmetic.yaml have equations that training had, too. "New" are those
that have not. Prints a table in Markdown, and writes results/NAME/by_steps.json.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

from latentcot.data.examples import read_examples
from latentcot.utils.files import write_json
from studies import RESULTS, accuracy_table


def main(study: Path, data: Path, name: str) -> None:
    seen = {example.steps for example in read_examples(data / "train.txt")}
    test = read_examples(data / "test.txt")
    groups = {example.id: group_of(len(example.steps), example.steps in seen) for example in test}
    names = sorted(set(groups.values()))
    sizes = {name: sum(group == name for group in groups.values()) for name in names}
    rows = {}
    for method in sorted((study / "arithmetic").iterdir()):
        shares = [by_group(path, groups) for path in sorted(method.glob("seed-*/evals/test.json"))]
        if shares:
            rows[method.name] = {name: fmean(one[name] for one in shares) for name in names}
    found = {"questions": sizes, "accuracy_mean": rows}
    write_json(RESULTS / name / "by_steps.json", found)
    print("\n".join(accuracy_table(found)))


def group_of(num_steps: int, is_seen: bool) -> str:
    return f"{num_steps} step{'s' if num_steps > 1 else ''}, {'seen' if is_seen else 'new'}"


def by_group(path: Path, groups: dict[str, Any]) -> dict[Any, float]:
    """Return the accuracy of a run on each group of questions."""
    right = defaultdict(list)
    for record in json.loads(path.read_text(encoding="utf-8"))["records"]:
        right[groups[record["id"]]].append(record["is_correct"])
    return {name: fmean(values) for name, values in right.items()}


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
