"""THE TABLE of tasks: where the data of each comes from, what to count in it, when it is right.

Files of examples are read the same way for all of them (`latentcot.data.examples`). Each task has a
folder of its own, which ends in its row; `register_task` adds one from outside, and so does a
package with an entry point `latentcot.tasks`. For custom data an `AnswerMatch` is enough.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentcot.data.examples import Example, write_examples
from latentcot.errors import MethodError, did_you_mean
from latentcot.tasks.generators import Progress, Splits, chosen
from latentcot.tasks.scoring import AnswerMatch, IsCorrect, same_text
from latentcot.tasks.statistics import custom_stats
from latentcot.utils.plugins import add, load_all

if TYPE_CHECKING:
    from latentcot.tasks.prosqa.graphs import Graph

ENTRY_POINTS = "latentcot.tasks"
CUSTOM = "own"
"""What custom data, scored by an `AnswerMatch`, is called in results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        name: As recipes and `latentcot data make` name it.
        summary: One line for `latentcot list tasks`.
        is_correct: (predicted answer, gold answer) → whether it counts as right.
        stats: examples → a dataclass of figures for `latentcot data stats` (`tasks/statistics.py`).
        is_told_by: examples → whether a file that holds them is of this task.
        graph_of: example → the graph that its question is about; None for tasks without graphs. It
            raises a DataError where an example carries none.
        options: The dataclass of what can be chosen about its data: each field is an option of
            `latentcot data make NAME`, and its docstring the help. Every field has a default, and
            another name than the options of all tasks (`out`, `seed`, …). None if no data can be
            made.
        make: (options, sizes, seed, on_progress) → examples of each split, with ids "split-0",
            "split-1", …; `sizes` has their numbers. Seed, options, a split's name and the smaller
            splits determine every byte. `on_progress` is called now and then with the number of
            examples made since the last call. See `generators.fill_splits`.
        presets: Named options; the first is the default.
        sizes: Examples of each split, unless told otherwise.
        write: (path, examples) → one file.
        ending: Of these files.
    """

    name: str
    summary: str
    is_correct: IsCorrect = same_text
    stats: Callable[[Sequence[Example]], Any] = custom_stats
    is_told_by: Callable[[Sequence[Example]], bool] = lambda examples: False
    graph_of: "Callable[[Example], Graph] | None" = None
    options: type | None = None
    make: Callable[[Any, Mapping[str, int], int, Progress | None], Splits] | None = None
    presets: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(
        default_factory=lambda: {"train": 10_000, "valid": 500, "test": 1_000}
    )
    write: Callable[[Path, Sequence[Example]], None] = write_examples
    ending: str = "jsonl"

    def options_of(self, preset: str | None = None, **changes: Any) -> Any:
        """Return a preset, or the defaults, with some options changed; None is no change.

        Raises:
            RecipeError: No such preset or option, a wrong value, or one that would be ignored.
            MethodError: The data of this task cannot be made.
        """
        if self.options is None or self.make is None:
            raise MethodError(
                f"task {self.name!r}: its data cannot be made. Name files in the recipe's data."
            )
        presets = self.presets or {"default": self.options()}
        return chosen(self.name, presets, preset, changes)


TASKS: dict[str, Task] = {}


def register_task(task: Task) -> Task:
    """Add a row to the table; return it.

    Raises:
        MethodError: The name is taken by another row.
    """
    if not isinstance(task, Task):
        raise MethodError(
            f"register_task: needs a latentcot.tasks.Task, got {type(task).__name__}."
        )
    add(TASKS, "task", task.name, task, MethodError)
    return task


@cache
def load_entry_points() -> None:
    """Add the rows that installed packages declare under the entry point `latentcot.tasks`.

    Raises:
        MethodError: One of them cannot be loaded.
    """
    load_all(ENTRY_POINTS, register_task, MethodError)


def task_named(name: str | AnswerMatch) -> Task:
    """Return the task of this name, or one that compares as an `AnswerMatch` says.

    Raises:
        MethodError: There is none.
        RecipeError: The pattern of a regex is missing, wrong, or of no use.
    """
    if isinstance(name, AnswerMatch):
        how = repr(name.pattern) if name.pattern is not None else name.match
        graph_of = TASKS["prosqa"].graph_of  # custom data may carry graphs under the same keys
        return Task(
            name=CUSTOM,
            summary=f"custom data, answers compared by {how}",
            is_correct=name.rule(),
            graph_of=graph_of,
        )
    if name not in TASKS:
        load_entry_points()
    if name not in TASKS:
        raise MethodError(
            f"task {name!r} does not exist.{did_you_mean(name, TASKS)} There are: "
            f"{', '.join(TASKS)}; for custom data, task: {{match: exact}}."
        )
    return TASKS[name]


def task_of(examples: Sequence[Example]) -> Task:
    """Return the task of examples by what they hold; that of custom data if no row knows them."""
    found = (task for task in TASKS.values() if task.is_told_by(examples))
    return next(found, task_named(AnswerMatch()))
