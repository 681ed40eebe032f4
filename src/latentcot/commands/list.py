"""`latentcot list`: what there is."""

from typing import Literal


def list_(what: Literal["methods", "tasks"]) -> None:
    """List the methods or the tasks.

    Args:
        what: methods or tasks.
    """
    from rich.console import Console
    from rich.table import Table

    from latentcot.methods import METHODS
    from latentcot.tasks import TASKS

    table = Table()
    if what == "methods":
        table.add_column("method", no_wrap=True)
        for column in ("what it is", "removed steps", "in their place", "works"):
            table.add_column(column)
        for method in METHODS.values():
            works = "yes" if method.is_ready else "not yet"
            table.add_row(
                method.name, method.summary, method.schedule.value, method.fill.value, works
            )
    else:
        table.add_column("task")
        table.add_column("what it is")
        for task in TASKS.values():
            table.add_row(task.name, task.summary)
    Console().print(table)
