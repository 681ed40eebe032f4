"""`latentcot list`: what there is."""

from typing import Literal


def list_(what: Literal["methods", "tasks", "recipes"]) -> None:
    """List the methods, the tasks, or the recipes that come with the package.

    Args:
        what: methods, tasks or recipes.
    """
    from rich import box
    from rich.table import Table

    from latentcot import methods, tasks
    from latentcot.cli.tables import print_table

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
    else:
        tasks.load_entry_points()
        table.add_column("task")
        table.add_column("what it is")
        for task in tasks.TASKS.values():
            table.add_row(task.name, task.summary)
    print_table(table)
