"""The training regimes: `table.py` has the paper's, each later one is a file of its own.

method.py     what a method is: views, latents, modules, terms
registry.py   every method under its name; `register`, entry points
table.py      the paper's rows
terms.py      losses that several methods share
stopping.py   the stop classifier: a module and a term for any method
"""

from latentcot.curriculum.views import (
    ALL_AT_ONCE,
    KEEP_ALL,
    NOTHING,
    PAUSE,
    PAUSE_MULTIPASS,
    STEP_PER_STAGE,
    THOUGHT,
    TOKEN_BY_TOKEN,
    WITHOUT_LAST_STEP,
    Compression,
    Nothing,
    Parallel,
    Plan,
    Schedule,
    Sequential,
    Steps,
    Tokens,
    View,
)
from latentcot.methods.method import Method, Module, Term
from latentcot.methods.registry import (
    ENTRY_POINTS,
    METHODS,
    Registered,
    load_entry_points,
    method_named,
    register,
)
from latentcot.methods.table import PAPER_METHODS, row

__all__ = [
    "ALL_AT_ONCE",
    "ENTRY_POINTS",
    "KEEP_ALL",
    "METHODS",
    "NOTHING",
    "PAPER_METHODS",
    "PAUSE",
    "PAUSE_MULTIPASS",
    "STEP_PER_STAGE",
    "THOUGHT",
    "TOKEN_BY_TOKEN",
    "WITHOUT_LAST_STEP",
    "Compression",
    "Method",
    "Module",
    "Nothing",
    "Parallel",
    "Plan",
    "Registered",
    "Schedule",
    "Sequential",
    "Steps",
    "Term",
    "Tokens",
    "View",
    "load_entry_points",
    "method_named",
    "register",
    "row",
]
