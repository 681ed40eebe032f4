"""Keep what `latentcot analyze` found on the quickstart's models, and put it into the docs.

    python benchmarks/analysis_tables.py collect runs/quickstart/coconut/analysis
    python benchmarks/analysis_tables.py write

`collect` copies the measurements, without those of single questions, to results/analysis/, and the
figures shown on the page to docs/images/. `write` makes the tables of docs/analysis.md from these
files alone.
"""

import argparse
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from latentcot.evaluation.statistics import percent
from latentcot.utils.files import write_json
from studies import fill

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "analysis"
PAGE = ROOT / "docs" / "analysis.md"
IMAGES = ROOT / "docs" / "images"
NAMES = (
    *("outcomes", "tree", "parallelism", "superposition", "attention", "decoding"),
    *("interventions", "steering", "probes", "geometry", "distribution"),
)
FIGURES = {
    "outcomes": "Outcomes after k thoughts",
    "tree-case": "A question that one more thought puts right",
    "parallelism": "The best node, two and three, by percentile of the questions",
    "superposition": "Which nodes lie in a thought",
    "interventions": "Accuracy left when thoughts are replaced",
    "distribution-hops": "Accuracy by hops",
}
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    take = commands.add_parser("collect")
    take.add_argument("folder", type=Path)
    take.set_defaults(do=lambda given: collect(given.folder))
    write = commands.add_parser("write")
    write.set_defaults(do=lambda given: write_page())
    given = parser.parse_args()
    given.do(given)


def collect(folder: Path) -> None:
    for name in NAMES:
        result = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        write_json(RESULTS / f"{name}.json", _without_questions(result))
    for name in FIGURES:
        shutil.copy(folder / f"{name}.png", IMAGES / f"analysis-{name}.png")


def _without_questions(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_questions(v) for k, v in value.items() if k != "questions"}
    return [_without_questions(item) for item in value] if isinstance(value, list) else value


def write_page() -> None:
    found = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in NAMES}
    source = found["outcomes"]["provenance"]
    parts = [
        f"`{source['command']}` at commit {source['commit'][:10]}, {source['machine']}, "
        f"{source['cores_used']} of them used.",
        *outcomes(found["outcomes"]),
        *frontier(found["superposition"]),
        *parallelism(found["parallelism"]),
        *interventions(found["interventions"]),
        *probes(found["probes"]),
        *distribution(found["distribution"]),
        *(f"![{words}](images/analysis-{name}.png)" for name, words in FIGURES.items()),
    ]
    body = "\n\n".join(parts)
    fill(PAGE, "findings", "analysis_tables.py", f"\n{body}\n")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _range(row: Result) -> str:
    return f"{100 * row['accuracy']:.1f} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"


def outcomes(result: Result) -> list[str]:
    rows = result["by_k"]
    names = [n for n in result["outcomes"] if any(row["shares"].get(n) for row in rows)]
    body = [["accuracy %", *(_range(row) for row in rows)]]
    body += [
        [
            name.replace("_", " ") + " %",
            *(f"{100 * row['shares'].get(name, 0):.1f}" for row in rows),
        ]
        for name in names
    ]
    without = [f"{100 * row['num_without_answer'] / row['num_questions']:.1f}" for row in rows]
    body.append(["no answer written %", *without])
    head = ["forced k", *(str(row["k"]) for row in rows)]
    return [f"**Outcomes**, {result['num_questions']:,} questions, `free`:", table(head, body)]


def frontier(result: Result) -> list[str]:
    rows = [
        [str(row["thought"]), f"{row['mass']:.3f} ({row['low']:.3f}–{row['high']:.3f})",
         "–" if row["mirror"] is None else f"{row['mirror']:.3f}", f"{row['uniform']:.3f}"]
        for row in result["frontier"]
    ]  # fmt: skip
    head = ["thought", "mass on the frontier", "on the same layer of the other family"]
    head.append("evenly spread over the nodes")
    return ["**Superposition:** probability of each thought on the search frontier.",
            table(head, rows)]  # fmt: skip


def parallelism(result: Result) -> list[str]:
    rows = [
        [str(row["k"]), str(row["depth"]),
         f"{row['gap']['mean']:.3f} ({row['gap']['low']:.3f}–{row['gap']['high']:.3f})"]
        for row in result["by_k"]
    ]  # fmt: skip
    head = ["k", "depth", "best three less best one"]
    return ["**Parallelism:** the gap narrows as the search ends.", table(head, rows)]


def interventions(result: Result) -> list[str]:
    """Rows are what is put in place, columns where; the control's, at all places, last."""
    effects = result["effects"]
    places = sorted({e["thought"] for e in effects if e["thought"]})
    control = result.get("against", {}).get("effects", [])

    def cell(rows: Sequence[Result], name: str, place: int | None) -> str:
        row = next((r for r in rows if (r["name"], r["thought"]) == (name, place)), None)
        return "–" if row is None else _range(row)

    names = list(dict.fromkeys(effect["name"] for effect in effects))
    body = [
        [name, *("" if name == "none" else cell(effects, name, place) for place in places),
         cell(effects, name, None), *([cell(control, name, None)] if control else [])]
        for name in names
    ]  # fmt: skip
    head = ["put in place", *(f"thought {place}" for place in places), "all"]
    head += [f"{result['against']['name']}, all"] if control else []
    return [
        f"**Interventions:** accuracy left in %, {result['num_questions']:,} questions.",
        table(head, body),
    ]


def probes(result: Result) -> list[str]:
    """Rows are what is read, columns from which thought; (on control labels) behind."""
    found = {(p["probe"], p["distance"], p["thought"]): p for p in result["probes"]}
    thoughts = sorted({thought for _, _, thought in found if thought is not None})
    kinds = sorted({(name, away) for name, away, _ in found if name in ("frontier", "answer")})
    body = [
        [
            f"nodes at distance {away}" if away else "the answer",
            *(_read(found[name, away, thought]) for thought in thoughts),
            percent(found[name, away, thoughts[0]]["chance"]),
        ]
        for name, away in sorted(kinds, key=lambda kind: kind[1] or 99)
    ]
    head = ["what is read", *(f"thought {thought}" for thought in thoughts), "by guessing"]
    head[len(thoughts)] = "state at the last latent position"
    return [
        "**Probes**, fitted to half of the questions, tested on the rest (in brackets: on control "
        "labels, which can only be learnt by heart):",
        table(head, body),
    ]


def _read(probe: Result) -> str:
    return f"{percent(probe['accuracy'])} ({percent(probe['control'])})"


def distribution(result: Result) -> list[str]:
    subjects = [subject["name"] for subject in result["subjects"]]
    rows = {(r["subject"], r["set"], r["thoughts"]): r for r in result["accuracy"]}

    def cell(subject: str, name: str, thoughts: str) -> str:
        row = rows.get((subject, name, thoughts))
        return "–" if row is None else _range(row)

    sets = [one["name"] for one in result["sets"]]
    body = [
        [name, *(cell(s, name, "trained") for s in subjects), cell(subjects[0], name, "one_a_hop")]
        for name in sets
    ]
    head = ["questions", *subjects, f"{subjects[0]}, a thought a hop"]
    return [
        f"**Distribution:** accuracy in %, {result['num_questions']} questions a set.",
        table(head, body),
    ]


if __name__ == "__main__":
    main()
