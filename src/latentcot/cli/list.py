"""`latentcot list`: what there is."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

LM_EVAL = Path(__file__).parents[1] / "evaluation" / "lm_eval"
"""Not asked of `evaluation/harness.py`, which needs lm_eval."""


def list_(
    what: Literal["methods", "tasks", "analyses", "recipes", "data", "lm-eval"],
    /,
    *words: str,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """List methods, tasks, analyses, the recipes that come with the package, or named data sets.

    Args:
        what: Which of these; lm-eval are tasks for lm-evaluation-harness, and their folder.
        words: Only what has all of these in its name or description, such as gsm8k.
        as_json: Print a list of JSON objects.
    """
    from rich import box
    from rich.table import Table

    from latentcot import methods, tasks
    from latentcot.cli.shared.tables import print_table
    from latentcot.utils.display import put_json, say

    rows: list[dict[str, str]]
    if what == "methods":
        methods.load_entry_points()
        rows = [{"method": m.name, "what it is": m.summary} for m in methods.METHODS.values()]
    elif what == "analyses":
        from latentcot.analysis import registry

        registry.load_entry_points()
        rows = [{"analysis": a.name, "what it is": a.summary} for a in registry.ANALYSES.values()]
    elif what == "recipes":
        from latentcot.recipes.values import packaged_recipes, read_values

        models = {name: read_values(name)["model"] for name in packaged_recipes()}
        rows = [
            {"recipe": name, "model": model if isinstance(model, str) else "made from scratch"}
            for name, model in models.items()
        ]
    elif what == "data":
        from latentcot.data.named import NAMED

        rows = []
        for name, row in NAMED.items():
            about = f"{row.about}. {row.hub or row.file}. Fields: {row.fields}."
            about += f" Papers differ: {row.differ}." if row.differ else ""
            rows += [
                {
                    "name": name,
                    "split": split,
                    "questions": f"{row.splits[split][1]:,}",
                    "compared by": row.match or "its task",
                    "what it is, and where": about,
                }
                for split in sorted(row.splits, key=lambda split: split != row.tested)
            ]
    elif what == "lm-eval":
        rows = []
        for file in sorted(LM_EVAL.glob("*.yaml")):
            about, _, body = file.read_text(encoding="utf-8").partition("\n")
            title = body.partition("task: ")[2].partition("\n")[0]
            rows.append({"task": title, "what it is": about.removeprefix("# ")})
    else:
        tasks.load_entry_points()
        rows = [{"task": task.name, "what it is": task.summary} for task in tasks.TASKS.values()]
    found = [row for row in rows if all(w.lower() in " ".join(row.values()).lower() for w in words)]
    if as_json:
        return put_json(found)
    if not found:
        count = len({next(iter(row.values())) for row in rows})  # a data set has a row a split
        kind = {"data": "data sets", "lm-eval": "lm-eval tasks"}.get(what, what)
        return say(f"None of the {count} {kind} has {' '.join(words)} in it.")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in found[0]:
        table.add_column(column, no_wrap=not column.startswith("what it is"))
    before = ""
    for values in found:
        first, *rest = values.values()
        # Of another split of a data set the rest is said already.
        table.add_row(*(["", *rest[:2], "", ""] if first == before else [first, *rest]))
        before = first
    if what == "lm-eval":
        table.caption = f"--include_path {LM_EVAL}"
    print_table(table)
