"""What a stranger brings, on two checkouts: right, refused, wrong in silence, or a traceback.

    python benchmarks/strangers.py ../before . --out results/strangers.json

Each kind is a list of inputs with the right outcome: a value, or a refusal in our own words. The
inputs go through the public names of each checkout, in a process of its own; families of models are
those of tests/families.py, tried on weights that are uneven, four rows of a batch against each row
alone.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
REFUSED = "refused"
OUTCOMES = ("right", "refused, not right", "wrong in silence", "a traceback")

SOLUTION = "She sells 9*2=<<9*2=18>>18 eggs.\n#### 18"
READ: dict[str, tuple[bytes, Any]] = {
    "a blank step": (b'{"question": "a?", "steps": ["b", ""], "answer": "2"}', (["b"], "2")),
    "no steps": (b'{"question": "a?", "answer": "2"}', ([], "2")),
    "steps null": (b'{"question": "a?", "steps": null, "answer": "2"}', ([], "2")),
    "a float": (b'{"question": "a?", "steps": ["b"], "answer": 18.0}', (["b"], "18")),
    "GSM8k": (
        json.dumps({"question": "a?", "answer": SOLUTION}).encode(),
        (["<<9*2=18>>"], "18"),
    ),
    "a mark": (b'{"question": "a?", "steps": ["b"], "answer": "#### -5"}', (["b"], "-5")),
    "SVAMP": (b'{"Body": "a.", "Question": "b?", "Answer": 51.0}', ([], "51")),
    "GSM-Hard": (b'{"input": "a?", "target": 21557.250000000004}', ([], "21557.25")),
    "MultiArith": (b'{"question": "a?", "final_ans": "4"}', ([], "4")),
    "CSV": (b"question,answer\na?,3\n", ([], "3")),
    "gzip": (gzip.compress(b'{"question": "a?", "steps": ["b"], "answer": "2"}'), (["b"], "2")),
}
SPLIT: dict[str, tuple[bytes, Any]] = {
    "blanks inside": (b"a?||<<5 * 8 = 40>> <<40 - 1 = 39>> #### 39", "two"),
    "sentences": (b"a?||Tom is a cat. Cats purr. #### b", "two"),
    "marks that do not pair": (b"a?||<<5*8=40> 40-1=39>> #### 39", REFUSED),
    "equations": (b"a?||<<4-2=2>> <<2/.5=4>> #### 4", "two"),
}
NUMBERS = [  # predicted, gold, whether it is right
    ("1/3", "1/2", False), ("0.5", "1/2", True), ("3:45", "3:30", False), ("10-30", "10-20", False),
    ("14", r"\frac{14}{3}", False), ("14/3", r"\frac{14}{3}", True), ("5", "-$5", False),
    ("-5", "-$5", True), ("-5", "- 5", True), ("-5", "($5)", True), ("-5", "–5", True),
    ("21557.25", "21557.250000000004", True), ("1,000", "1000.0", True), ("18 eggs", "18", True),
]  # fmt: skip
TOLD = [
    {"question": "True or false: a triangle has four sides.", "steps": ["b"], "answer": "False"},
    {"question": "Which shop is nearer?", "steps": ["b"], "answer": "A", "query": "nearest"},
    {"question": "How many edges?", "steps": ["b"], "answer": "2", "edges": 2},
]


def main() -> None:
    """Try all kinds on each checkout, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs="*", type=Path, default=[HERE])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        print(json.dumps(outcomes()))
        return
    found = {}
    for checkout in asked.checkouts:
        paths = f"{checkout.resolve() / 'src'}:{HERE / 'tests'}"
        command = [sys.executable, "-W", "ignore", __file__, "--worker"]
        done = subprocess.run(
            command, env={"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
        )  # fmt: skip
        found[str(checkout)] = json.loads(done.stdout.splitlines()[-1])
    heads = [f"{outcome}, {name}" for name in found for outcome in OUTCOMES]
    print(f"| kind | inputs | {' | '.join(heads)} |\n|{'---|' * (2 + len(heads))}")
    for kind in next(iter(found.values())):
        counts = [Counter(one[kind].values()) for one in found.values()]
        cells = [str(count[outcome]) for count in counts for outcome in OUTCOMES]
        print(f"| {kind} | {counts[0].total()} | {' | '.join(cells)} |")
    if asked.out:
        from latentcot.runs.provenance import provenance
        from latentcot.utils.files import write_json

        write_json(asked.out, {"outcomes": found, "provenance": provenance()})


def outcomes() -> dict[str, dict[str, str]]:
    """Try every input on the latentcot that is imported: kind → input → outcome."""
    return {
        "forms of data": {name: read(*one, as_is) for name, one in READ.items()},
        "chains that are one text": {name: read(*one, num_steps) for name, one in SPLIT.items()},
        "a task told by a word": {one["question"]: judged(statistics, True, one) for one in TOLD},
        "numbers": {f"{a} = {b}": judged(same, right, a, b) for a, b, right in NUMBERS},
        "values from a script": {name: judged(call, REFUSED) for name, call in CALLS.items()},
        "families of models": {name: family(name) for name in families()},
    }


def judged(call: Callable[..., Any], right: Any, *args: Any) -> str:
    """Return the outcome of a call."""
    from latentcot import LatentcotError

    try:
        found = call(*args)
    except LatentcotError:
        return "right" if right == REFUSED else "refused, not right"
    except Exception:
        return "a traceback"
    return "right" if found == right else "wrong in silence"


def read(content: bytes, right: Any, view: Callable[[Any], Any]) -> str:
    """Read a file that holds this."""
    from latentcot import read_examples

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data"
        path.write_bytes(content)
        return judged(lambda: view(read_examples(path)[0]), right)


def as_is(example: Any) -> Any:
    """Return steps and answer."""
    return (list(example.steps), example.answer)


def num_steps(example: Any) -> str:
    """Say whether there are two steps."""
    return "two" if len(example.steps) == 2 else str(len(example.steps))


def statistics(record: dict[str, Any]) -> bool:
    """Ask the command for the statistics of a file of one record."""
    from contextlib import redirect_stdout
    from io import StringIO

    from latentcot.cli import app

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        path = Path(folder) / "data.jsonl"
        path.write_text(json.dumps(record))
        app(["data", "stats", str(path)], result_action="return_value")
    return True


def same(predicted: str, gold: str) -> bool:
    """Compare by number."""
    from latentcot.tasks import AnswerMatch, task_named

    return bool(task_named(AnswerMatch(match="number")).is_correct(predicted, gold))


def _reasoner() -> Any:
    import latentcot

    return latentcot.load("quickstart")


def _example(steps: Any) -> Any:
    from latentcot import Example

    return Example("1", "q", steps, "a")


def _sampling(**options: Any) -> Any:
    import latentcot

    return latentcot.Sampling(**options)


def _load_on(device: str) -> Any:
    import latentcot

    return latentcot.load("quickstart", device=device)


def _evaluate() -> Any:
    import latentcot

    return latentcot.evaluate(_reasoner(), "file")


def _train() -> Any:
    import latentcot

    return latentcot.train("x.yaml", "nowhere")


CALLS: dict[str, Callable[[], Any]] = {
    "generate([None])": lambda: _reasoner().generate([None]),
    "num_thoughts=10**30": lambda: _reasoner().think(["1"], num_thoughts=10**30),
    'evaluate(r, "file")': _evaluate,
    'train("x.yaml")': _train,
    'Example(steps="one text")': lambda: _example("one text"),
    "temperature=1e-45": lambda: _sampling(temperature=1e-45),
    'device="gpu0"': lambda: _load_on("gpu0"),
}


def families() -> list[str]:
    """Return those of docs/models.md."""
    import re

    page = (HERE / "docs" / "models.md").read_text(encoding="utf-8")
    cells = re.findall(r"\| \d+: ([^|]*) <!-- \w+ --> \|", page)
    return sorted(family for cell in cells for family in cell.split(", "))


def family(name: str) -> str:
    """Let four rows of a batch think, as a recipe would load the model, and each row alone.

    As its config draws the weights, and with uneven ones; the worse of the two.
    """
    found = [_tried(name, is_uneven) for is_uneven in (False, True)]
    return max(found, key=OUTCOMES.index)


def _tried(name: str, is_uneven: bool) -> str:
    import torch

    from families import tiny_family
    from latentcot import LatentcotError

    words = (3, 4, 5)
    rows = [
        (tuple(2 + (i * i + length) % 30 for i in range(length)), thoughts)
        for length, thoughts in ((19, 1), (3, 3), (11, 0), (2, 2))
    ]
    model: Any = tiny_family(name, is_uneven=is_uneven)
    try:
        _gate(model)
        states = _think(model, [row[0] for row in rows], [row[1] for row in rows], words)
        states.square().sum().backward()
    except LatentcotError:
        return "right"  # in words
    except Exception:
        return "a traceback"
    backbone = model.base_model if model.base_model is not model else model.model
    for i, (prefix, thoughts) in enumerate(rows):
        with torch.no_grad():
            embed = model.get_input_embeddings()
            sequence = embed(torch.tensor([prefix]))
            for _ in range(thoughts):
                new = backbone(inputs_embeds=sequence, use_cache=False).last_hidden_state[:, -1:]
                sequence = torch.cat([sequence, new], dim=1)
            whole = torch.cat([sequence, embed(torch.tensor([words]))], dim=1)
            alone = backbone(inputs_embeds=whole, use_cache=False).last_hidden_state[0]
            alone = alone[sequence.shape[1] - 1 :]
        if not (states[i] - alone).norm() <= 5e-3 * alone.norm():
            return "wrong in silence"
    return "right"


def _gate(model: Any) -> None:
    """Check a model as a recipe that names it does."""
    try:
        from latentcot.thinking.capability import choose_way
    except ImportError:  # before 2026-11-28
        from latentcot.backbones import check_reads_last_state
        from latentcot.preparation import check_thinks_in_batches

        check_reads_last_state(model)
        check_thinks_in_batches(model)
    else:
        choose_way(model, is_trained=True)


def _think(model: Any, prefixes: list[Any], thoughts: list[int], words: tuple[int, ...]) -> Any:
    """Return the states before and behind the words: (rows, 1 + words, width)."""
    import torch

    from latentcot import think

    try:
        from latentcot.curriculum.layout import Layout
        from latentcot.thinking.batch import collate
    except ImportError:  # before 2026-11-28
        width = max(map(len, prefixes))
        ids = torch.tensor([[*prefix, *[0] * (width - len(prefix))] for prefix in prefixes])
        lengths = torch.tensor(list(map(len, prefixes)))
        suffix = torch.tensor([words] * len(prefixes))
        ends = torch.full((len(prefixes),), len(words))
        return think(model, ids, lengths, torch.tensor(thoughts), suffix, ends).states
    layouts = [Layout(a, b, words, words) for a, b in zip(prefixes, thoughts, strict=True)]
    return think(model, collate(layouts)).states


if __name__ == "__main__":
    main()
