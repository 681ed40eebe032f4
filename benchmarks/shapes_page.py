"""The tables of docs/larger-models.md, from what `shapes.py` has measured and counted."""

import json
from pathlib import Path
from typing import Any

from measuring import Found

from studies import fill

PAGE = Path(__file__).parent.parent / "docs" / "larger-models.md"
THOUGHTS = (0, 3, 18)
"""None, and of three steps with c = 1 and 6."""
GIB = 2**30
FILES = {
    "cuda": "Measured on one GPU, whole models",
    "kept": "Counted, whole models: memory in bfloat16",
    "cpu-2-layers": "Measured on a CPU: two layers of each, and few tokens",
}
LABELS = {
    "whole": "",
    "save_memory": "`save_memory`",
    "lora": "LoRA",
    "lora+save_memory": "LoRA, `save_memory`",
}


def write_page(results: Path) -> None:
    """Put the tables of the result files into docs/larger-models.md."""
    tables = "\n\n".join(
        f"### {title}\n\n{_table(results / f'{name}.json')}" for name, title in FILES.items()
    )
    fill(PAGE, "tables", "shapes.py", f"\n{tables}\n")


def _table(path: Path) -> str:
    if not path.exists():
        return f"**Not run.** There is no `results/shapes/{path.name}` yet."
    result = json.loads(path.read_text(encoding="utf-8"))
    setting = result["setting"]
    columns, row = (COUNTED, _counted) if path.stem == "kept" else (MEASURED, _measured)
    if path.stem.startswith("cpu"):
        columns, row = UNTIMED, _untimed
    rows = [
        row(key, found, setting) if "kept_mib" in found else _failed(key, found, len(columns))
        for key, found in sorted(result["points"].items(), key=_order)
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
    asked = ", ".join(f"{key} {value}" for key, value in result["setting"].items() if value)
    return "\n".join([*lines, "", f"- {asked}; {_source(result)}"])


def _source(result: dict[str, Any]) -> str:
    devices = {found.get("device", "") for found in result["points"].values()} - {"cpu", ""}
    changes = " and changes that were not committed" if result.get("is_tree_dirty") else ""
    commit = f"commit {result['commit'][:10]}{changes}"
    source = f"{commit}, {result['machine']}, threads {result['threads']}"
    return ", ".join([*sorted(devices), source])


MEASURED = [
    "shape", "", "trained", "ms", "3 thoughts", "18 thoughts", "GiB", "kept, MiB",
    "KiB a position", "a thought", "fits",
]  # fmt: skip
TIMES = slice(3, 6)
"""Of `MEASURED`. On a CPU that others use they are noise: the page leaves them to the JSON."""
UNTIMED = [*MEASURED[: TIMES.start], *MEASURED[TIMES.stop :]]
COUNTED = [
    "shape", "", "trained", "state, GiB", "kept, GiB", "3 thoughts", "18 thoughts",
    "KiB a position", "a thought", "state and kept",
]  # fmt: skip


def _order(point: tuple[str, Found]) -> tuple[int, str, int]:
    """Smaller models first, and for each the ways in the order of `LABELS`."""
    shape, way = point[0].split(" ")
    return point[1].get("parameters", 0) // 10**8, shape, list(LABELS).index(way)


def _failed(key: str, found: Found, num_columns: int) -> list[str]:
    shape, way = key.split(" ")
    cells = [shape, LABELS[way], found["failed"]]
    return cells + [""] * (num_columns - len(cells))


def _name(key: str, found: Found) -> list[str]:
    shape, way = key.split(" ")
    trained, every = found["trained"] / 1e6, found["parameters"] / 1e6
    return [shape, LABELS[way], f"{trained:,.0f} of {every:,.0f} M"]


def _measured(key: str, found: Found, setting: dict[str, Any]) -> list[str]:
    cells = _name(key, found)
    none, some, many = (str(number) for number in THOUGHTS)
    timed = [found.get("failed", ""), "", "", ""]
    if "ms" in found:
        costs = [f"{found['cost'][number]:.2f} ×" for number in (some, many)]
        timed = [f"{found['ms'][none]:,.0f}", *costs, f"{found['peak_gib'][many]:.1f}"]
    kept = f"{found['kept_mib'][none]:,.0f}, {found['kept_mib'][many]:,.0f}"
    growth = [f"{kib:.0f}" for kib in _growth(found["kept_mib_a_layer"], setting)]
    return [*cells, *timed, kept, *growth, str(found.get("largest", "–"))]


def _untimed(key: str, found: Found, setting: dict[str, Any]) -> list[str]:
    cells = _measured(key, found, setting)
    if "failed" in found:
        cells[TIMES.stop] = found["failed"]
    del cells[TIMES]
    return cells


def _counted(key: str, found: Found, setting: dict[str, Any]) -> list[str]:
    # Beside the weights a float32 for the gradient of each trained one, and two for its moments.
    state = (found["weight_bytes"] + 12 * found["trained"]) / GIB
    kept = [found["kept_mib"][str(number)] / 1024 for number in THOUGHTS]
    growth = [f"{kib:.0f}" for kib in _growth(found["kept_mib_a_layer"], setting)]
    gib = [f"{value:.1f}" for value in (state, *kept)]
    return [*_name(key, found), *gib, *growth, f"{state + kept[1]:.1f}"]


def _growth(kept: dict[str, float], setting: dict[str, Any]) -> tuple[float, float]:
    """Return KiB that a block keeps of a position of the question, and of one more thought."""
    none, some, many = THOUGHTS
    rows = setting["batch"] / 1024
    column = kept[str(none)] / (setting["question"] + setting["words"]) / rows
    thought = (kept[str(many)] - kept[str(some)]) / (many - some) / rows
    return column, thought
