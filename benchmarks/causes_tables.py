"""Keep what edits, mediation and pathways found, and put it into the docs.

    python benchmarks/causes_tables.py collect quickstart runs/causes/quickstart
    python benchmarks/causes_tables.py collect hand runs/causes/hand-analysis
    python benchmarks/causes_tables.py write

`collect` copies the measurements to results/causes/, and the figures of the quickstart to
docs/images/. `write` makes the tables of docs/results.md from these files alone.
"""

import argparse
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from analysis_tables import table

from latentcot.utils.files import write_json
from studies import fill

ROOT = Path(__file__).parent.parent
RESULTS, IMAGES = ROOT / "results" / "causes", ROOT / "docs" / "images"
PAGE = ROOT / "docs" / "results.md"
ANALYSES = ("mediation", "edits", "pathways")
FIGURES = ("mediation", "edits", "edits-dose", "pathways")
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    take = commands.add_parser("collect")
    take.add_argument("model", choices=("quickstart", "hand"))
    take.add_argument("folder", type=Path)
    take.set_defaults(do=lambda given: collect(given.model, given.folder))
    write = commands.add_parser("write")
    write.set_defaults(do=lambda given: write_page())
    given = parser.parse_args()
    given.do(given)


def collect(model: str, folder: Path) -> None:
    for name in ANALYSES:
        found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        write_json(RESULTS / model / f"{name}.json", found)
    for name in FIGURES if model == "quickstart" else ():
        shutil.copy(folder / f"{name}.png", IMAGES / f"analysis-{name}.png")


def write_page() -> None:
    found = {
        (model, name): json.loads((RESULTS / model / f"{name}.json").read_text(encoding="utf-8"))
        for model in ("hand", "quickstart")
        for name in ANALYSES
    }
    # Name of a column → the results of its model.
    columns: dict[str, dict[str, Result]] = {
        "built by hand": {name: found["hand", name] for name in ANALYSES},
        "quickstart": {name: found["quickstart", name] for name in ANALYSES},
        "pause control": {name: found["quickstart", name]["against"] for name in ANALYSES},
    }
    source = found["quickstart", "edits"]["provenance"]
    command = source["command"].replace("__main__.py", "latentcot")
    parts = [
        f"`{command}` at commit {source['commit'][:10]}, {source['machine']}.",
        found["quickstart", "mediation"]["sentence"],
        *mediation(columns),
        *edits(columns),
        *pathways(columns),
    ]
    body = "\n\n".join(parts)
    fill(PAGE, "causes", "causes_tables.py", f"\n{body}\n")


def share(row: Result | None, key: str) -> str:
    if row is None or row[key] is None:
        return "–"
    return (
        f"{100 * row[key]:.1f} ({100 * row[f'{key}_low']:.1f}–{100 * row[f'{key}_high']:.1f})"
        if row[f"{key}_low"] is not None
        else f"{100 * row[key]:.1f}"
    )


def only(rows: Iterable[Result], **keys: Any) -> Result | None:
    return next((row for row in rows if all(row[k] == v for k, v in keys.items())), None)


def mediation(columns: dict[str, dict[str, Result]]) -> list[str]:
    rows = [
        [
            f"{fed}, {'all' if thought is None else f'thought {thought}'}",
            *(
                share(only(c["mediation"]["fed"], fed=fed, thought=thought, up_to=None), "follows")
                if c["mediation"]["num_right"] >= 10
                else "–"
                for c in columns.values()
            ),
        ]
        for fed in ("donor", "unrelated", "noise")
        for thought in (1, 2, 3, None)
    ]
    about = ", ".join(f"{name} {c['mediation']['num_right']}" for name, c in columns.items())
    return [
        f"**Answers that follow the thoughts fed**, %, of the questions that are right ({about}):",
        table(["fed", *columns], rows),
    ]


def edits(columns: dict[str, dict[str, Result]]) -> list[str]:
    rows = []
    for edit, part, label in (
        ("add", "next", "added: children come"),
        ("add", "later", "added: children's children come, one later"),
        ("remove", "next", "removed: children go"),
        ("remove", "later", "removed: children's children go, one later"),
        ("swap", "next", "swapped: both, next thought"),
        ("swap", "later", "swapped: both, one later"),
        ("swap", "flips", "swapped: answer flips"),
        ("add", "answer", "added: answer as predicted"),
        ("remove", "answer", "removed: answer as predicted"),
        ("swap", "answer", "swapped: answer as predicted"),
    ):
        for thought in (1, 2, 3):
            for vector in ("node", "random"):
                keys = {"edit": edit, "thought": thought, "dose": 1.0, "vector": vector}
                cells = [share(only(c["edits"]["edits"], **keys), part) for c in columns.values()]
                if set(cells) != {"–"}:  # nothing is predicted there
                    rows.append([f"thought {thought}, {label}; {vector}", *cells])
    return [
        "**Edit and follow:** predictions that hold, %, at the dose of one node; along the nodes, "
        "and along a random direction of the same length.",
        table(["edit", *columns], rows),
    ]


def pathways(columns: dict[str, dict[str, Result]]) -> list[str]:
    rows = []
    for thought in (1, 2, 3):
        for hidden in ("thought", "question"):
            keys = {"viewer": "answer", "hidden": hidden, "thought": thought}
            found = [only(c["pathways"]["knockout"], **keys) for c in columns.values()]
            name = (
                f"thought {thought}"
                if hidden == "thought"
                else f"a place of the question ({thought})"
            )
            cells = ["–" if row is None else f"{100 * row['accuracy']:.0f}" for row in found]
            rows.append([f"hidden from the answer: {name}; accuracy left, %", *cells])
    for source, thought in ((1, 2), (2, 3), (1, 3)):
        keys = {"kind": "direct", "fed": "thought", "source": source, "thought": thought}
        found = [only(c["pathways"]["influence"], **keys) for c in columns.values()]
        cells = ["–" if row is None else f"{row['nats']:.3f}" for row in found]
        rows.append([f"direct influence of thought {source} on thought {thought}, nats", *cells])
    return ["**Pathways:**", table(["what", *columns], rows)]


if __name__ == "__main__":
    main()
