"""Five tasks that a user might bring, trained with the defaults of a model from scratch.

    python benchmarks/custom_tasks.py run runs/custom-tasks --seeds 0 1 2 [--only graphs units]
    python benchmarks/custom_tasks.py write

`run` makes the data, trains Coconut and chain of thought (the ceiling) with a recipe that says
nothing but files, task and number of stages, one process at a time, and leaves one file a run in
results/custom-tasks/, good or bad; what is there is not run again. `write` puts the table into
docs/dev/log.md from these files alone.
"""

import argparse
import itertools
import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from latentcot.evaluation.statistics import percent
from latentcot.utils.files import write_json, written_whole
from studies import fill

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "custom-tasks"
PAGE = ROOT / "docs" / "dev" / "log.md"
SCRIPT = "custom_tasks.py"
SIZES = {"train": 30_000, "valid": 300, "test": 500}
METHODS = ("coconut", "cot")

NAMES = ["Ann", "Bob", "Carl", "Dora", "Eve", "Fred", "Gina", "Hugo", "Iris", "Jack", "Kim", "Liam"]
RELATIONS = ("mother", "father", "brother", "sister")
UNITS = ["zib", "wug", "dax", "fep", "lorp", "mib", "nork", "quop", "rall", "sive", "tarn", "vume"]
EDITS: dict[str, Callable[[list[str]], list[str]]] = {
    "reverse": lambda text: text[::-1],
    "swap ends": lambda text: text[-1:] + text[1:-1] + text[:1],
    "rotate left": lambda text: text[1:] + text[:1],
    "rotate right": lambda text: text[-1:] + text[:-1],
    "drop last": lambda text: text[:-1],
}
Row = tuple[str, list[str], str]
"""Question, steps, answer."""


def family(rng: random.Random) -> Row:
    """Who is the mother of the father of Ann? Two to four hops, and two facts beside the way."""
    hops = rng.choice([2, 3, 4])
    people = rng.sample(NAMES, hops + 5)
    told, others = people[: hops + 1], people[hops + 1 :]
    relations = [rng.choice(RELATIONS) for _ in range(hops)]
    steps = [
        f"The {relation} of {of} is {who}."
        for relation, of, who in zip(relations, told[:-1], told[1:], strict=True)
    ]
    beside = [
        f"The {rng.choice(RELATIONS)} of {of} is {who}."
        for of, who in zip(others[::2], others[1::2], strict=True)
    ]
    facts = [*steps, *beside]
    rng.shuffle(facts)
    asked = " of ".join(f"the {relation}" for relation in reversed(relations))
    return f"{' '.join(facts)} Who is {asked} of {told[0]}?", steps, told[-1]


def modular(rng: random.Random) -> Row:
    """Start with 4, add 2, subtract 3: all modulo 13."""
    size = rng.randrange(10, 20)
    value = rng.randrange(size)
    words, steps = [f"Start with {value}"], []
    for _ in range(rng.choice([2, 3, 4])):
        name, sign = rng.choice([("add", "+"), ("subtract", "-")])
        number = rng.randrange(1, 4)
        new = (value + number if sign == "+" else value - number) % size
        words.append(f"{name} {number}")
        steps.append(f"{value} {sign} {number} = {new}")
        value = new
    return f"All modulo {size} . {' , '.join(words)} .", steps, str(value)


def strings(rng: random.Random) -> Row:
    """Reverse b c d a, swap the ends, drop the last: what is left?"""
    letters = [rng.choice("abcdef") for _ in range(4)]
    names = rng.sample(sorted(EDITS), rng.choice([2, 3, 4]))
    question, steps = f"{' '.join(letters)} : {' , '.join(names)}", []
    for name in names:
        letters = EDITS[name](letters)
        steps.append(" ".join(letters))
    return question, steps, steps[-1]


def graphs(rng: random.Random) -> Row:
    """Where do three edges from C lead? Two paths, of five and of four nodes."""
    hops = rng.choice([2, 3, 4])
    nodes = rng.sample("ABCDEFGHIJKL", 9)
    edges = [f"{a}->{b}" for path in (nodes[:5], nodes[5:]) for a, b in itertools.pairwise(path)]
    steps = edges[:hops]
    rng.shuffle(edges)
    return f"{' '.join(edges)} . {hops} edges from {nodes[0]} ?", steps, nodes[hops]


def units(rng: random.Random) -> Row:
    """A zib is 3 wug, a wug is 2 dax: how many dax are 4 zib?"""
    count, value = rng.choice([2, 3, 4]), rng.randrange(1, 7)
    names = rng.sample(UNITS, count + 2)
    factors = [rng.choice([2, 3, 4, 5]) for _ in range(count + 1)]
    while value * prod(factors[:count]) > 200:  # numbers are words: each must be seen in training
        factors = [rng.choice([2, 3, 4, 5]) for _ in range(count + 1)]
    facts = [
        f"1 {large} is {factor} {small}."
        for large, small, factor in zip(names[:-1], names[1:], factors, strict=True)
    ]
    rng.shuffle(facts)
    question = f"{' '.join(facts)} How many {names[count]} are {value} {names[0]}?"
    steps = []
    for number in range(count):
        new = value * factors[number]
        steps.append(f"{value} {names[number]} is {new} {names[number + 1]}.")
        value = new
    return question, steps, str(value)


TASKS = {one.__name__: one for one in (family, modular, strings, graphs, units)}


def make(name: str, out: Path) -> None:
    """Write train, valid and test.jsonl: no question twice, no word that training lacks."""
    rng, seen, known = random.Random(name), set[str](), set[str]()
    out.mkdir(parents=True, exist_ok=True)
    for split, size in SIZES.items():
        lines: list[str] = []
        while len(lines) < size:
            question, steps, answer = TASKS[name](rng)
            words = {*question.split(), *" ".join([*steps, answer]).split()}
            if question in seen or (split != "train" and not words <= known):
                continue
            seen.add(question)
            known |= words if split == "train" else set()
            row = {"question": question, "steps": steps, "answer": answer}
            lines.append(json.dumps(row) + "\n")
        with written_whole(out / f"{split}.jsonl") as file:
            file.write("".join(lines))


def recipe(data: Path) -> dict[str, Any]:
    """What a user says; all else are defaults."""
    return {
        "data": {split: str(data / f"{split}.jsonl") for split in SIZES},
        "task": {"match": "exact"},
        "model": {},
        "curriculum": {"num_stages": 4},
    }


def run(name: str, method: str, seed: int, out: Path) -> None:
    """Train and evaluate one, and keep what came of it."""
    target = RESULTS / f"{name}-{method}-{seed}.json"
    if target.exists():
        return
    data, folder = out / "data" / name, out / f"{name}-{method}-{seed}"
    if not (data / "test.jsonl").exists():
        make(name, data)
    path = out / f"{name}.yaml"
    path.write_text(json.dumps(recipe(data)), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "latentcot"]
    is_begun = any((folder / "checkpoints").glob("update-*"))
    how = "--resume" if is_begun else "--overwrite"
    start = time.monotonic()
    words = ["train", str(path), "--out", str(folder), "--method", method, "--set", f"seed={seed}"]
    subprocess.run([*command, *words, how, "--quiet"], check=True)
    minutes = (time.monotonic() - start) / 60
    subprocess.run([*command, "eval", str(folder), "--quiet"], check=True)
    result = json.loads((folder / "evals" / "test.json").read_text(encoding="utf-8"))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    kept = {
        "task": name,
        "method": method,
        "seed": seed,
        "accuracy": result["accuracy"],
        "minutes": None if is_begun else round(minutes, 1),  # of a whole run alone
        "stages": [row for row in rows if row["kind"] == "stage_end"],
        "provenance": result["provenance"],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(target, kept)


def table() -> str:
    """A row a task: accuracy of each seed, and minutes."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(RESULTS.glob("*.json")):
        one = json.loads(path.read_text(encoding="utf-8"))
        found[one["task"], one["method"]].append(one)
    lines = [
        "| task | method | test accuracy, a seed each | validation by stage | minutes |",
        "|---" * 5 + "|",
    ]
    for (name, method), runs in sorted(found.items()):
        shares = ", ".join(percent(one["accuracy"]["value"]) for one in runs)
        ends = [" ".join(percent(end["accuracy"]) for end in one["stages"]) for one in runs]
        minutes = ", ".join("–" if one["minutes"] is None else f"{one['minutes']}" for one in runs)
        lines.append(f"| {name} | {method} | {shares} | {'; '.join(ends)} | {minutes} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("out", type=Path)
    running.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    running.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    running.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    commands.add_parser("write")
    given = parser.parse_args()
    if given.command == "write":
        fill(PAGE, "custom-tasks", SCRIPT, table())
        return
    for seed in given.seeds:
        for method in given.methods:
            for name in given.only:
                run(name, method, seed, given.out)


if __name__ == "__main__":
    main()
