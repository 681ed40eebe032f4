"""`latentcot list`: what there is."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table


def list_(what: Literal["methods", "tasks", "recipes"]) -> None:
    """List the methods, the tasks, or the recipes that come with the package.

    Args:
        what: methods, tasks or recipes.
    """
    from rich import box
    from rich.table import Table

    from latentcot.cli.tables import print_table
    from latentcot.methods import METHODS, load_entry_points
    from latentcot.tasks import TASKS

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    if what == "methods":
        load_entry_points()
        table.add_column("method", no_wrap=True)
        table.add_column("what it is")
        for method in METHODS.values():
            table.add_row(method.name, method.summary)
    elif what == "recipes":
        _add_recipes(table)
    else:
        table.add_column("task")
        table.add_column("what it is")
        for task in TASKS.values():
            table.add_row(task.name, task.summary)
    print_table(table)


def _add_recipes(table: "Table") -> None:
    from latentcot.recipes.recipe import read_recipe
    from latentcot.recipes.values import packaged_recipes

    for column in ("recipe", "model"):
        table.add_column(column, no_wrap=True)
    for name in packaged_recipes():
        recipe = read_recipe(name)
        model = recipe.model if isinstance(recipe.model, str) else "made from scratch"
        table.add_row(name, model)
