"""`latentcot list`: what there is."""

from pathlib import Path
from typing import Literal

LM_EVAL = Path(__file__).parents[1] / "evaluation" / "lm_eval"
"""Not asked of `evaluation/harness.py`, which needs lm_eval."""


def list_(what: Literal["methods", "tasks", "recipes", "data", "lm-eval"]) -> None:
    """List the methods, the tasks, the recipes that come with the package, or named data sets.

    Args:
        what: methods, tasks, recipes or data; or lm-eval, the tasks for lm-evaluation-harness and
            the folder of their files.
    """
    from rich import box
    from rich.table import Table

    from latentcot import methods, tasks
    from latentcot.cli.shared.tables import print_table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    if what == "methods":
        methods.load_entry_points()
        table.add_column("method", no_wrap=True)
        table.add_column("what it is")
        for method in methods.METHODS.values():
            table.add_row(method.name, method.summary)
    elif what == "recipes":
        from latentcot.recipes.recipe import read_recipe  # only here: it needs torch
        from latentcot.recipes.values import packaged_recipes

        for column in ("recipe", "model"):
            table.add_column(column, no_wrap=True)
        for name in packaged_recipes():
            model = read_recipe(name).model
            table.add_row(name, model if isinstance(model, str) else "made from scratch")
    elif what == "data":
        from latentcot.data.named import NAMED

        for column in ("name", "split", "questions", "compared by", "what it is, and where"):
            table.add_column(column, no_wrap=column != "what it is, and where")
        for name, row in NAMED.items():
            rule = row.match or "its task"
            about = f"{row.about}. {row.hub or row.file}. Fields: {row.fields}."
            about += f" Papers differ: {row.differ}." if row.differ else ""
            splits = sorted(row.splits, key=lambda split: split != row.tested)
            for number, split in enumerate(splits):
                count = f"{row.splits[split][1]:,}"
                first = (name, rule, about) if number == 0 else ("", "", "")
                table.add_row(first[0], split, count, *first[1:])
    elif what == "lm-eval":
        table.add_column("task", no_wrap=True)
        table.add_column("what it is")
        for file in sorted(LM_EVAL.glob("*.yaml")):
            about, _, rest = file.read_text(encoding="utf-8").partition("\n")
            table.add_row(rest.partition("task: ")[2].partition("\n")[0], about.removeprefix("# "))
        table.caption = f"--include_path {LM_EVAL}"
    else:
        tasks.load_entry_points()
        table.add_column("task")
        table.add_column("what it is")
        for task in tasks.TASKS.values():
            table.add_row(task.name, task.summary)
    print_table(table)
