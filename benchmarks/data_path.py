"""The data path alone, without a model: examples a second, and memory while they go by.

    python benchmarks/data_path.py make     # both files, in /tmp/latentcot-data-path (2.2 GB)
    python benchmarks/data_path.py run      # measures; results/data-path/cpu.json, and the figure
    python benchmarks/data_path.py draw     # docs/images/data-path-memory.png, from the result file

Two files: 385,620 examples of our arithmetic task as iCoT text (as many as GSM8k-Aug has), and 10
million lines of JSON in the shape of GSM8k-Aug. A process of its own reads each: parsed, encoded,
laid out and collated as a run of Coconut does it, for one epoch. The first file goes through memory
and through a stream, the second through a stream; then a stream is resumed in the middle of an
epoch, and must give the same batches.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from measuring import of_process

from latentcot.curriculum.layout import LaidOut, encode
from latentcot.curriculum.stages import phases_of
from latentcot.data.examples import read_examples
from latentcot.data.formats import source_hash
from latentcot.data.sources import open_stream
from latentcot.models.special_tokens import special_tokens_of
from latentcot.recipes.recipe import Recipe, make_recipe
from latentcot.runs.provenance import provenance
from latentcot.tasks.arithmetic.generator import make_splits
from latentcot.tasks.arithmetic.problems import ArithmeticOptions
from latentcot.thinking.batch import collate_views
from latentcot.training.build import Run, TrainingData, _collector_at_rest, tokenizer_from_scratch
from latentcot.training.loader import Loader, UpdateBatch
from latentcot.training.objective import Counts
from latentcot.training.step import Part
from latentcot.training.stream import EncodedStream
from latentcot.utils.files import write_json, written_whole

FOLDER = Path("/tmp/latentcot-data-path")
SMALL, LARGE = FOLDER / "arithmetic-385620.txt", FOLDER / "made-10m.jsonl"
NUM_SMALL, NUM_LARGE = 385_620, 10_000_000
ROOT = Path(__file__).parent.parent
RESULT = ROOT / "results" / "data-path" / "cpu.json"
FIGURE = ROOT / "docs" / "images" / "data-path-memory.png"
NUM_POINTS = 40
CHECKED = 300
"""Updates that are compared after resuming in the middle."""
MIB = 2**20
PARALLELISM = os.environ.get("TOKENIZERS_PARALLELISM", "true")
Found = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["make", "run", "draw", "measure"])
    parser.add_argument("parts", nargs="*", help=f"of `run`: {', '.join(PARTS)}; all if none")
    arguments = parser.parse_args()
    if arguments.what == "measure":  # what `run` starts
        print(json.dumps(measure(**json.loads(arguments.parts[0]))))
    elif arguments.what == "make":
        make()
    elif arguments.what == "run":
        run(arguments.parts or PARTS)
    else:
        draw()


# --- the files --------------------------------------------------------------------------------


def make() -> None:
    """Write both files, those that are not there."""
    FOLDER.mkdir(exist_ok=True)
    for path, write in ((SMALL, _write_small), (LARGE, _write_large)):
        if not path.exists():
            start = time.perf_counter()
            with written_whole(path) as file:
                write(file)
            seconds = time.perf_counter() - start
            print(f"{path}: {path.stat().st_size / 1e6:,.0f} MB in {seconds:.0f} s")


def _write_small(file: Any) -> None:
    for example in make_splits(ArithmeticOptions(), {"train": NUM_SMALL}, seed=0)["train"]:
        file.write(f"{example.question}||{' '.join(example.steps)} #### {example.answer}\n")


def _write_large(file: Any) -> None:
    """One to four steps, and numbers that are drawn for each line."""
    rng = random.Random(0)
    names, things = ("Ivan", "Carla", "Leo", "Nina"), ("balloons", "candles", "stamps", "coins")
    for number in range(NUM_LARGE):
        a, b, c, d = (2 + int(98 * rng.random()) for _ in range(4))
        name, thing = names[number % 4], things[number // 4 % 4]
        texts = [
            f" {name} gets {c} more.",
            f" A friend brings {d} of them.",
            f" By the end of the week {name} has twice as many.",
        ]
        values = [a * b, a * b + c, a * b + c + d, 2 * (a * b + c + d)]
        steps = [f"<<{a}*{b}={values[0]}>>", f"<<{values[0]}+{c}={values[1]}>>"]
        steps += [f"<<{values[1]}+{d}={values[2]}>>", f"<<{values[2]}*2={values[3]}>>"]
        count = 1 + int(4 * rng.random())
        listed = '", "'.join(steps[:count])
        file.write(
            f'{{"question": "{name} has {a} packs with {b} {thing} in each pack.'
            f"{''.join(texts[: count - 1])} How many {thing} does {name} have?"
            f'", "steps": ["{listed}"], "answer": "{values[count - 1]}"}}\n'
        )


# --- one process ------------------------------------------------------------------------------


def measure(file: str, *, is_streamed: bool, first: int = 0, updates: int | None = None) -> Found:
    """Go through an epoch, or a part of it, and say what it took.

    Args:
        file: Of `make`.
        is_streamed: Otherwise it is held in memory.
        first: The first update.
        updates: So many; up to the end of the epoch if None.
    """
    recipe = _recipe(file, is_streamed)
    tokenizer = _tokenizer(recipe)
    base, start, cpu = of_process("VmRSS"), time.perf_counter(), time.process_time()
    with _collector_at_rest():
        train, counted = _read(recipe, tokenizer, start)
    loader = _loader(recipe, tokenizer, train)
    phase = loader.run.phases[0]
    end = loader.updates_per_epoch if updates is None else first + updates
    middle = loader.updates_per_epoch // 2
    every = max(1, (end - first) // NUM_POINTS)
    digests, points, seconds_to_first = [], [], 0.0
    for update in range(first, end):
        update_batch = loader.update_batch(update, phase, end)
        if update == first:
            begun, used = time.perf_counter(), time.process_time()
            seconds_to_first = begun - start
        if middle <= update < middle + CHECKED:
            digests.append(_digest(update_batch))
        if (update - first) % every == 0 or update == end - 1:
            seen = (update + 1 - first) * loader.batch_size
            seconds = time.perf_counter() - start
            points.append({"examples": seen, "mib": _mib("VmRSS"), "seconds": round(seconds, 2)})
            print(points[-1], file=sys.stderr, flush=True)
    rest = (end - first) * loader.batch_size
    total, busy = time.perf_counter() - start, time.process_time() - cpu
    return {
        "examples": len(train),
        "updates": end - first,
        # From the beginning: what a stream does meanwhile, memory does before the first batch.
        "examples_per_second": round(rest / total),
        "examples_per_cpu_second": round(rest / busy),
        "after_the_first": {
            "examples_per_second": round(rest / (time.perf_counter() - begun)),
            "examples_per_cpu_second": round(rest / (time.process_time() - used)),
        },
        "seconds_to_count": counted,
        "seconds_to_first_lesson": round(seconds_to_first, 2),
        "mib_before": round(base / MIB),
        "mib_peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "points": points,
        "middle": middle,
        "digest": hashlib.sha256("".join(digests).encode()).hexdigest(),
    }


def _recipe(file: str, is_streamed: bool) -> Recipe:
    return make_recipe(
        {
            "data": {"train": file, "valid": file, "stream": is_streamed},
            "task": "gsm8k",
            "method": "coconut",
            "model": {"tokenizer": "bpe", "vocabulary_size": 4_000},
        }
    )


def _tokenizer(recipe: Recipe) -> Any:
    """Of the first examples: in a run a pretrained model brings its own."""
    few = list(islice(open_stream(recipe.data.train, limit=20_000), 20_000))
    return tokenizer_from_scratch(recipe, recipe.model, few)


def _read(recipe: Recipe, tokenizer: Any, start: float) -> tuple[Any, float | None]:
    to_ids = partial(encode, tokenizer=tokenizer, template=recipe.template, reads_steps=True)
    if not recipe.data.stream:
        return to_ids(read_examples(recipe.data.train)), None
    stream = open_stream(recipe.data.train)
    counted = round(time.perf_counter() - start, 2)
    return EncodedStream(stream, to_ids), counted


def _loader(recipe: Recipe, tokenizer: Any, train: Any) -> Loader:
    method = recipe.bound_method
    rules = recipe.layout_rules(special_tokens_of(tokenizer))
    phases = phases_of(recipe.curriculum, method.view)
    of_phases = {one: replace(rules, zero_thoughts=one.zero_thoughts) for one in phases}
    no_model: Any = None
    data = TrainingData(train, [], [])
    run = Run(recipe, method, tokenizer, data, phases, of_phases, no_model)

    def part_of(update: Sequence[LaidOut]) -> Part:
        """As of one process that takes its update at once."""
        return Part([collate_views(update)], Counts(method, update))

    loader = Loader(run, part_of)
    if isinstance(train, EncodedStream):
        train.check = lambda examples: None  # a model would tell how long they may be
    return loader


def _digest(update_batch: UpdateBatch) -> str:
    values: list[Any] = [[example.id for example in update_batch.examples], update_batch.stages]
    values += [t.tolist() for batch in update_batch.part.micro_batches for t in batch.tensors]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _mib(key: str) -> int:
    return round(of_process(key) / MIB)


# --- all of them ------------------------------------------------------------------------------


def run(parts: Sequence[str]) -> None:
    """Measure, and write each part down as it is known."""
    for part in parts:
        found = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
        settings = {"tokenizers_parallelism": PARALLELISM}
        write_json(RESULT, {**found, part: {**PARTS[part](found), **settings, **provenance()}})
    draw()


def _hash(found: Found) -> Found:
    start = time.perf_counter()
    source_hash(LARGE)
    return {"seconds": round(time.perf_counter() - start, 2)}


def _resumed(found: Found) -> Found:
    whole = found["stream_of_10_million"]
    again = _alone(LARGE, is_streamed=True, first=whole["middle"], updates=CHECKED)
    return {**again, "is_equal": again["digest"] == whole["digest"]}


def _alone(file: Path, **rest: Any) -> Found:
    """Measure in a process of its own."""
    job = {"file": str(file), **rest}
    words = [sys.executable, __file__, "measure", json.dumps(job)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    found: Found = json.loads(done.stdout.splitlines()[-1])
    hidden = ("points", "digest")
    print({**job, **{key: value for key, value in found.items() if key not in hidden}}, flush=True)
    return found


PARTS: dict[str, Callable[[Found], Found]] = {
    "resident": lambda found: _alone(SMALL, is_streamed=False),
    "stream": lambda found: _alone(SMALL, is_streamed=True),
    "hash_of_10_million": _hash,
    "stream_of_10_million": lambda found: _alone(LARGE, is_streamed=True),
    "resumed": _resumed,
}


def draw() -> None:
    """Draw memory against examples."""
    from matplotlib.figure import Figure

    result = json.loads(RESULT.read_text(encoding="utf-8"))
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    names = {
        "resident": "385,620 in memory",
        "stream": "385,620 as a stream",
        "stream_of_10_million": "10 million as a stream",
    }
    for (name, label), color in zip(names.items(), ("#c0504d", "#7f7f7f", "#2a6fb0"), strict=True):
        points = result.get(name, {}).get("points", [])
        x, y = [one["examples"] for one in points], [one["mib"] for one in points]
        axes.plot(x, y, "o-", color=color, markersize=3, label=label)
    axes.set(xscale="log", xlabel="examples gone by", ylabel="MiB of the process")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with written_whole(FIGURE, "wb") as file:
        figure.savefig(file, format="png", dpi=130)


if __name__ == "__main__":
    main()
