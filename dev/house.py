"""How the house is built, in numbers: what a stranger meets who opens src/latentcot.

    python dev/house.py [CHECKOUT ...] [--places]

A table, one column a checkout (this one if none is named); `--places` lists what is largest, and
the private functions that are used once. A private function counts as used once if its name stands
in one place of its file beside its definition.
"""

import argparse
import ast
import re
import statistics
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]


def functions_of(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return every function and method of a file."""
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def spread(numbers: list[int]) -> str:
    """Return median / 90th percentile / maximum."""
    ordered = sorted(numbers)
    return f"{statistics.median(ordered):.0f} / {ordered[int(0.9 * len(ordered))]} / {ordered[-1]}"


def lines_of(folder: Path) -> int:
    """Return the lines of Python below a folder."""
    return sum(file.read_text().count("\n") for file in folder.rglob("*.py"))


def measure(checkout: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the figures of a checkout, and where to look."""
    top = checkout / "src" / "latentcot"
    # A shipped checkpoint holds a copy of runs/custom_generate.py, as every checkpoint does.
    files = sorted(file for file in top.rglob("*.py") if "shipped" not in file.parts)
    sizes = {file: file.read_text().count("\n") for file in files}
    functions: list[tuple[int, str]] = []
    num_private, once = 0, list[str]()
    for file in files:
        tree = ast.parse(file.read_text())
        where = str(file.relative_to(top))
        uses = Counter(
            node.id if isinstance(node, ast.Name) else node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Name | ast.Attribute)
        )
        for function in functions_of(tree):
            length = (function.end_lineno or 0) - function.lineno + 1
            functions.append((length, f"{where}:{function.lineno} {function.name}"))
            if re.match(r"_[a-z]", function.name):
                num_private += 1
                if uses[function.name] <= 1:
                    once.append(f"{where}:{function.lineno} {function.name}")
    folders = Counter(file.parent for file in files)
    contract = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [c["layers"] for c in contract["contracts"] if c["type"] == "layers"]
    fullest, most = folders.most_common(1)[0]
    entries = [entry for entry in top.iterdir() if entry.name != "__pycache__"]
    figures = {
        "entries at the top": len(entries),
        "most files in a folder": f"{most} ({fullest.relative_to(top.parent)})",
        "layers of the contract": max(map(len, layers)),
        "files": len(files),
        "lines of source": sum(sizes.values()),
        "lines of tests": lines_of(checkout / "tests"),
        "lines of benchmarks and dev": lines_of(checkout / "benchmarks")
        + lines_of(checkout / "dev"),
        "file: median / p90 / max": spread(list(sizes.values())),
        "function: median / p90 / max": spread([length for length, _ in functions]),
        "functions": len(functions),
        "private functions": num_private,
        "… used once": f"{len(once)} ({len(once) / num_private:.0%})",
    }
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:15]
    places = {
        "largest files": [f"{size:5} {file.relative_to(top)}" for file, size in largest],
        "largest functions": [f"{length:5} {name}" for length, name in sorted(functions)[:-16:-1]],
        "private functions used once": once,
    }
    return figures, places


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs="*", type=Path, default=[])
    parser.add_argument("--places", action="store_true")
    given = parser.parse_args()
    found = [measure(checkout.resolve()) for checkout in given.checkouts or [HERE]]
    for key in found[0][0]:
        print(f"| {key} | " + " | ".join(str(figures[key]) for figures, _ in found) + " |")
    if given.places:
        for title, rows in found[-1][1].items():
            print(f"\n{title}:", *rows, sep="\n  ")


if __name__ == "__main__":
    main()
