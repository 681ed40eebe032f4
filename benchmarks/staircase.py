"""The staircase: how many hops are answered after how many thoughts, and what stands beside it.

    python benchmarks/methods.py cost studies/staircase.yaml   # seconds of an update, once
    python benchmarks/staircase.py plan                        # hours of each part
    python benchmarks/staircase.py run --jobs 2                # all parts, Coconut first
    python benchmarks/staircase.py run coconut words
    python benchmarks/staircase.py early                       # Coconut's runs, a little further
    python benchmarks/staircase.py write

`run` trains the parts one after the other (studies/staircase.yaml; `wide` is studies/
staircase-wide.yaml, and only on request), asks each finished run, and writes the page anew after
each part. It begins with what would refute the claims, and their thresholds, which stand in
staircase_page.py. What was stopped goes on with the same command: studies from their checkpoints,
and no run is asked twice. `early` goes on with each finished run of Coconut, on questions whose
chains are cut, so that answers after too few thoughts are trained too. `ask` asks what is trained
without training. `write` makes figure and text from results/staircase/table.json alone.

Answers come in two ways: `forced`, straight behind the thoughts, and `free`, what the model likes,
which may be words of a chain first. Only thoughts can have told a forced answer.
"""

import argparse
import hashlib
import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from staircase_page import (
    EARLY_UPDATES,
    MOST_HOPS,
    MOST_THOUGHTS,
    NO_COTS,
    TABLE,
    show_claims,
    write_page,
)

from latentcot.analysis.shared.latents import record, with_latents
from latentcot.analysis.shared.subject import Subject
from latentcot.analysis.superposition import node_probabilities
from latentcot.data.examples import Example, read_examples, write_examples
from latentcot.evaluation.evaluate import evaluate
from latentcot.evaluation.reasoner import load
from latentcot.evaluation.statistics import mean_and_sd, mean_interval, share_interval
from latentcot.recipes.recipe import read_recipe
from latentcot.runs.checkpoint_folders import CHECKSUMS_FILE, best_checkpoint
from latentcot.runs.folder import read_metrics, read_run_recipe
from latentcot.runs.provenance import provenance, read_provenance
from latentcot.studies.study import read_study
from latentcot.tasks.prosqa.generator import graph_of, make_splits
from latentcot.tasks.prosqa.graphs import Graph, distances, distances_to
from latentcot.tasks.prosqa.options import options_named
from latentcot.thinking.readings import logits_of
from latentcot.training.train import train as train_run
from latentcot.utils.files import write_json
from studies import do_study

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "staircase"
ASKED = RUNS / "asked"
EARLY = "early"
"""Task of Coconut's runs that went on with answers after too few thoughts."""
STUDY, WIDE = ROOT / "studies" / "staircase.yaml", ROOT / "studies" / "staircase-wide.yaml"
PARTS: dict[str, tuple[str, ...]] = {
    "coconut": ("coconut",),
    "words": ("cot", "cot-bfs"),
    "pause": ("pause", NO_COTS[0]),
    "layers": NO_COTS[1:],
    "wide": ("coconut", "cot-bfs"),
}
"""Part → the methods of its study, in the order in which they are run."""
WAYS = {"coconut": ("forced", "free"), "pause": ("forced",)}
"""Methods that can be given any number of latent positions → the ways in which they answer."""
BATCH, LOG_EVERY, EXAMPLES = 500, 10, 64
"""Questions at a time; what a row of metrics.jsonl stands for."""
SIZE_QUESTIONS = 200
DETAILS = ("rows", "costs", "mass", "opening")
"""What is known of a run beside where it comes from."""
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("plan")
    running = commands.add_parser("run")
    running.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}")
    running.add_argument("--jobs", type=int, default=2)
    running.add_argument("--seeds", type=int, nargs="+", help="those of the study if left out")
    commands.add_parser("early")
    commands.add_parser("ask")
    commands.add_parser("write")
    given = parser.parse_args()
    if given.command == "plan":
        plan()
        return
    show_claims()
    if given.command == "run":
        unknown = set(given.parts) - set(PARTS)
        if unknown:
            parser.error(f"parts: must be of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}.")
        for part in given.parts or [part for part in PARTS if part != "wide"]:
            train(part, given.seeds, given.jobs)
            ask_all()
            write_page()
    elif given.command == "early":
        go_on_early()
        ask_all()
    elif given.command == "ask":
        ask_all()
    write_page()


def plan() -> None:
    """Print how many hours of one core each part takes, from the measured cost of an update.

    A little too many: an update of an earlier stage has fewer thoughts, and is cheaper.
    """
    for path in (STUDY, WIDE):
        cost = ROOT / "results" / path.stem / "cost.json"
        if not cost.exists():
            print(
                f"{path.name}: not measured. First: python benchmarks/methods.py cost "
                f"studies/{path.name}"
            )
            continue
        found = json.loads(cost.read_text(encoding="utf-8"))
        seconds = {row["method"]: row["seconds"] for row in found["rows"]}
        study = read_study(path)
        updates = sum(
            read_recipe(task["recipe"]).training.max_updates or 0 for task in study.tasks.values()
        )
        for part in PARTS:
            if (part == "wide") != (path == WIDE):
                continue
            hours = {
                method: updates * seconds[method] * len(study.seeds) / 3600
                for method in PARTS[part]
            }
            each = ", ".join(f"{method} {of:.1f}" for method, of in hours.items())
            print(
                f"{part}: {sum(hours.values()):.1f} hours of a core for {len(study.seeds)} seeds "
                f"({each}); {updates:,} updates in all tasks"
            )
        print(f"({found['provenance']['machine']}, seconds of CPU of the last stage)")


# --- training -----------------------------------------------------------------------------------


def train(part: str, seeds: Sequence[int] | None, jobs: int) -> None:
    """Train one part; the study resumes what was stopped."""
    path, out = (WIDE, "wide-study") if part == "wide" else (STUDY, "study")
    only = [
        word
        for method in PARTS[part]
        for seed in seeds or ["*"]
        for word in ("--only", f"*/{method}/{seed}")
    ]
    do_study(str(path), "--out", str(RUNS / out), "--jobs", str(jobs), *only)


def go_on_early() -> None:
    """Train each finished run of Coconut further, to answer after fewer thoughts than hops too."""
    folder = RUNS / EARLY
    finished = sorted((RUNS / "study").glob("staircase/coconut/seed-*/evals/test.json"))
    if not finished:
        sys.exit(
            f"{RUNS / 'study'}: holds no finished run of coconut. First: staircase.py run coconut"
        )
    if not (folder / "valid.jsonl").exists():
        for split in ("train", "valid"):
            rng = random.Random(f"early/{split}")
            examples = read_examples(str(RUNS / "data" / f"{split}.jsonl"))
            # Half of them whole: with too many questions that cannot be answered yet, the search
            # itself is lost.
            number = len(examples) // 2
            some = [*examples[:number], *(cut(one, rng) for one in examples[number:])]
            write_examples(folder / f"{split}.jsonl", some)
    for result in finished:
        begun = result.parents[1]
        run = RUNS / "early-study" / EARLY / "coconut" / begun.name
        if (run / "evals" / "test.json").exists():
            continue
        changes = [
            "method=coconut-no-curriculum", f"model={best_checkpoint(begun)}",
            f"data.train={folder / 'train.jsonl'}", f"data.valid={folder / 'valid.jsonl'}",
            "curriculum.pad_to_num_stages=false", f"training.max_updates={EARLY_UPDATES}",
            "training.learning_rate=0.001",
            f"seed={read_run_recipe(begun)['seed']}",
        ]  # fmt: skip
        recipe = read_recipe("small/staircase", changes)
        if not train_run(recipe, run, resume=(run / "recipe.yaml").is_file()):
            sys.exit(130)  # a signal ends all of it
        reasoner = load(run, device="cpu")
        examples = read_examples(str(RUNS / "data" / "test.jsonl"))
        evaluate(reasoner, examples, batch_size=BATCH).write(run / "evals" / "test.json")


def cut(example: Example, rng: random.Random) -> Example:
    """Return an example whose chain ends after a random number of its steps, none or all."""
    return replace(example, steps=example.steps[: rng.randint(0, len(example.steps))])


# --- asking -------------------------------------------------------------------------------------


def ask_all() -> None:
    """Ask every finished run that was not asked yet, and put all answers into the table."""
    torch.set_num_threads(1)
    for study in (RUNS / "study", RUNS / "wide-study", RUNS / "early-study"):
        for result in sorted(study.glob("*/*/seed-*/evals/test.json")):
            run = result.parents[1]
            task, method, seed = run.parts[-3:]
            target = ASKED / f"{task}-{method}-{seed}.json"
            checkpoint = hash_of_best(run)
            if target.exists():
                known = json.loads(target.read_text(encoding="utf-8"))
                if known["checkpoint"] == checkpoint:
                    continue
            print(f"asking {task}/{method}/{seed}", flush=True)
            about = {"task": task, "method": method, "seed": int(seed.removeprefix("seed-"))}
            write_json(target, about | {"checkpoint": checkpoint} | history(run) | ask(run, method))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(ASKED.glob("*.json"))]
    if found:
        test = RUNS / "data" / "test.jsonl"
        examples = read_examples(str(test)) if test.exists() else []
        write_json(TABLE, table_of(found, forks(examples)) | {"provenance": provenance()})


def hash_of_best(run: Path) -> str:
    """Return the SHA-256 of the list of checksums of a run's best checkpoint."""
    best = best_checkpoint(run)
    assert best is not None
    return hashlib.sha256((best / CHECKSUMS_FILE).read_bytes()).hexdigest()


def history(run: Path) -> Row:
    """Return what a run took, and when its stages began."""
    rows, source = read_metrics(run), read_provenance(run)
    rates = [row["examples_per_second"] for row in rows if row["kind"] == "train"]
    return {
        "minutes": round(sum(LOG_EVERY * EXAMPLES / rate for rate in rates) / 60, 1),
        "stages": [[row["update"], row["stage"]] for row in rows if row["kind"] == "stage"],
        "warnings": [row["warning"] for row in rows if row.get("warning")],
        "commit": source.get("commit"),
        "machine": source.get("machine"),
        "torch": (source.get("versions") or {}).get("torch"),
    }


def ask(run: Path, method: str) -> Row:
    """Ask a run the questions of its test file after every number of thoughts, and look inside."""
    test = ROOT / read_run_recipe(run)["data"]["test"]
    subject = subject_of(run, read_examples(str(test)))
    is_main = run.parts[-3] == "staircase"
    rows = []
    for way in WAYS.get(method, ("free",)):
        for number in range(MOST_THOUGHTS + 1) if method in WAYS else [None]:
            rows += by_hops(subject, number, way)
    costs = []
    for examples in sizes_of(is_main, subject.examples):
        encoded = tuple(subject.reasoner.encode(examples))
        same = replace(subject, examples=examples, encoded=encoded)
        number = len(examples[0].steps) if method in WAYS else None
        edges = len(graph_of(examples[0]).edges)
        [row] = by_hops(same, number, WAYS.get(method, ("free",))[0])
        costs.append(row | {"edges": edges})
    found: Row = {"rows": rows, "costs": costs}
    if subject.has_thoughts:
        found |= {"mass": mass(subject), "opening": opening(subject)}
    return found


def subject_of(run: Path, examples: Sequence[Example]) -> Subject:
    reasoner = load(run, device="cpu")
    encoded = tuple(reasoner.encode(examples))
    return Subject(reasoner.info.method_name, reasoner, tuple(examples), encoded, BATCH)


def by_hops(subject: Subject, num_thoughts: int | None, way: str) -> list[Row]:
    """Answer all questions after so many thoughts; a row for each number of hops."""
    outputs = subject.reasoner.answer(
        subject.encoded,
        num_thoughts=num_thoughts,
        force_answer=way == "forced",
        batch_size=BATCH,
    )
    groups: dict[int, list[tuple[bool, int, int]]] = defaultdict(list)
    right = subject.are_right(outputs)
    for example, output, is_right in zip(subject.examples, outputs, right, strict=True):
        groups[len(example.steps)].append((is_right, output.num_tokens, output.num_passes))
    found = []
    for hops, answers in sorted(groups.items()):
        are_right, tokens, passes = zip(*answers, strict=True)
        found.append(
            {"hops": hops, "num_thoughts": num_thoughts or 0, "way": way, "right": sum(are_right),
             "questions": len(answers), "tokens": fmean(tokens), "passes": fmean(passes)}
        )  # fmt: skip
    return found


def sizes_of(is_main: bool, examples: Sequence[Example]) -> list[tuple[Example, ...]]:
    """Return questions of one kind each, whose cost is compared.

    Smaller graphs, made now, whose candidates stand in the last layer; and the deepest questions
    of the test file.
    """
    deepest = max(len(example.steps) for example in examples)
    found = []
    for layers in range(2, deepest) if is_main else ():
        options = options_named(
            "two-family", layers=layers, shared=0, joined=True, num_symbols=4 * deepest + 2
        )
        made = make_splits(options, {"test": SIZE_QUESTIONS}, seed=layers)["test"]
        found.append(tuple(made))
    own = [example for example in examples if len(example.steps) == deepest]
    return [*found, tuple(own[:SIZE_QUESTIONS])]


def mass(subject: Subject) -> Row:
    """Return what the output head reads in each thought, from 0 on.

    `all`: the mass of the nodes at each depth, [thought][depth]. What is left lies on the other
    family, and on words that are no nodes of the graph. `on_the_way`: the same of the questions
    whose candidates lie no nearer than the thought has come, so that their search goes on.
    """
    away = [distances(graph, graph.root) for graph in subject.graphs]
    deepest = max(MOST_HOPS, *(max(one.values()) for one in away))
    sums = {key: torch.zeros(subject.most_thoughts, deepest + 1) for key in ("all", "on_the_way")}
    counts = {key: torch.zeros(subject.most_thoughts, 1) for key in sums}
    for graph, depths, shares in zip(
        subject.graphs, away, node_probabilities(subject), strict=True
    ):
        for key, most in (("all", len(shares)), ("on_the_way", depths[graph.target])):
            own = shares[:most].nan_to_num()
            counts[key][: len(own)] += 1
            for node, depth in depths.items():
                sums[key][: len(own), depth] += own[:, node]
    return {key: (total / counts[key].clamp(min=1)).tolist() for key, total in sums.items()}


@torch.no_grad()
def opening(subject: Subject) -> list[float | None]:
    """Return the probability of the answer's first token in thoughts that come after the search.

    The mean of the questions with fewer hops than that, [thought]; None where there are none.
    """
    chains = record(with_latents(subject))
    sums, counts = torch.zeros(chains.most), torch.zeros(chains.most)
    for states_ND, graph, encoded in zip(
        chains.states, subject.graphs, subject.encoded, strict=True
    ):
        hops = distances(graph, graph.root)[graph.target]
        logits = logits_of(subject.reasoner.model, states_ND[hops : chains.most])
        sums[hops:] += logits.softmax(-1)[:, encoded.answer[0]]
        counts[hops:] += 1
    pairs = zip(sums.tolist(), counts.tolist(), strict=True)
    return [total / count if count else None for total, count in pairs]


# --- what chance at each fork predicts ----------------------------------------------------------


def walk(graph: Graph, sight: int) -> float:
    """Return how probable it is that a walk from the root ends at the target.

    The walker takes one of the children at random wherever the target is more than `sight` hops
    away, and goes to it from there. With a sight of 2 it also takes no child that has none.
    """
    to_go = distances_to(graph, graph.target)

    def reached(node: int, left: int) -> float:
        if to_go.get(node, left + 1) <= min(sight, left):
            return 1.0
        allowed = [c for c in graph.children[node] if sight < 2 or graph.children[c]]
        if left <= sight or not allowed:
            return 0.0
        return fmean(reached(child, left - 1) for child in allowed)

    return reached(graph.root, to_go[graph.root])


def forks(examples: Iterable[Example]) -> list[Row]:
    """Return, by hops, how many a chain in words gets right that has to choose before it knows.

    p of the walks end at the target, and half of the others are right by chance: p + (1 − p) / 2.
    """
    groups: dict[int, list[Graph]] = defaultdict(list)
    for example in examples:
        groups[len(example.steps)].append(graph_of(example))

    def share(graphs: Sequence[Graph], sight: int) -> float:
        return fmean((1 + walk(graph, sight)) / 2 for graph in graphs)

    return [
        {"hops": hops, "accuracy": share(graphs, 1), "accuracy_sight_2": share(graphs, 2)}
        for hops, graphs in sorted(groups.items())
    ]


# --- the table ----------------------------------------------------------------------------------


def table_of(found: Sequence[Row], predicted: Sequence[Row]) -> Row:
    """Put what single runs gave together: a row for each method, way, number and hops."""
    main = [one for one in found if one["task"] == "staircase"]
    coconut = [one for one in main if one["method"] == "coconut"]
    others = [one for one in main if one["method"] != "coconut"]
    return {
        "rows": summed(coconut, lambda row: row["way"] == "forced"),
        "free": summed(coconut, lambda row: row["way"] == "free"),
        "others": summed(others),
        "early": summed(
            [one for one in found if one["task"] == EARLY], lambda row: row["way"] == "forced"
        ),
        "wide": summed([one for one in found if one["task"] not in ("staircase", EARLY)]),
        "costs": summed([one for one in found if one["task"] != EARLY], key="costs"),
        "mass": mass_rows(coconut),
        "opening": opening_rows(coconut),
        "forks": list(predicted),
        "runs": [{key: value for key, value in one.items() if key not in DETAILS} for one in found],
    }


def summed(
    found: Sequence[Row], wanted: Callable[[Row], bool] = lambda row: True, key: str = "rows"
) -> list[Row]:
    """Return rows over the seeds. `low` and `high` are Wilson's interval over the questions,
    `seeds_low` and `seeds_high` Student's over the seeds, None for one of them.
    """
    names = ("task", "method", "edges", "way", "hops", "num_thoughts")
    groups: dict[tuple[Any, ...], list[tuple[int, Row]]] = defaultdict(list)
    for one in found:
        for row in filter(wanted, one[key]):
            whole = {"task": one["task"], "method": one["method"], "edges": 0, **row}
            groups[tuple(whole[name] for name in names)].append((one["seed"], row))
    rows = []
    for group, seeded in groups.items():
        seeded.sort(key=lambda pair: pair[0])
        seeds, asked = zip(*seeded, strict=True)
        accuracies = [row["right"] / row["questions"] for row in asked]
        mean, sd = mean_and_sd(accuracies)
        over_seeds = mean_interval(accuracies) or (None, None)
        low, high = share_interval(mean, asked[0]["questions"])
        rows.append(
            {**dict(zip(names, group, strict=True)), "accuracy_mean": mean, "num_seeds": len(seeds),
             "accuracy_sd": sd, "low": low, "high": high, "seeds_low": over_seeds[0],
             "seeds_high": over_seeds[1], "accuracies": accuracies, "seeds": list(seeds),
             "num_questions": asked[0]["questions"],
             "tokens": fmean(row["tokens"] for row in asked),
             "passes": fmean(row["passes"] for row in asked)}
        )  # fmt: skip
        if key == "rows":
            del rows[-1]["edges"]
    return rows


def mass_rows(found: Sequence[Row]) -> list[Row]:
    """Return a row for each thought and depth, over the seeds."""
    tables = [one["mass"] for one in found]
    return [
        {"thought": thought + 1, "depth": depth, "mass_mean": fmean(masses), "masses": masses,
         "on_the_way_mean": fmean(table["on_the_way"][thought][depth] for table in tables),
         "num_seeds": len(masses)}
        for thought in range(min((len(table["all"]) for table in tables), default=0))
        for depth in range(MOST_HOPS + 1)
        for masses in [[table["all"][thought][depth] for table in tables]]
    ]  # fmt: skip


def opening_rows(found: Sequence[Row]) -> list[Row]:
    """Return a row for each thought that comes after the search in some questions."""
    columns = zip(*(one["opening"] for one in found), strict=True)
    return [
        {"thought": number, "probability_mean": fmean(shares), "num_seeds": len(shares)}
        for number, shares in enumerate(columns, start=1)
        if None not in shares
    ]


if __name__ == "__main__":
    main()
