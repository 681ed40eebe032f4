"""Tasks: where data comes from, how an answer is read off a text, and when it counts as right.

`registry.py` says what a task is, `scoring.py` compares answers, `generators.py` and
`statistics.py` have what several tasks share. A new task is a folder of its own, or a row from
outside (`register_task`).
"""

from latentcot.tasks.arithmetic import ARITHMETIC, GSM8K
from latentcot.tasks.prontoqa import PRONTOQA
from latentcot.tasks.prosqa import PROSQA
from latentcot.tasks.registry import (
    CUSTOM,
    ENTRY_POINTS,
    TASKS,
    Task,
    load_entry_points,
    register_task,
    task_named,
    task_of,
)
from latentcot.tasks.scoring import AnswerMatch, extract_answer, same_number

__all__ = [
    "CUSTOM",
    "ENTRY_POINTS",
    "TASKS",
    "AnswerMatch",
    "Task",
    "extract_answer",
    "load_entry_points",
    "register_task",
    "same_number",
    "task_named",
    "task_of",
]

for _row in (PROSQA, PRONTOQA, GSM8K, ARITHMETIC):
    register_task(_row)
