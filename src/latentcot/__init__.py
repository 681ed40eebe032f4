"""latentcot: reasoning in continuous thoughts (Coconut, arXiv 2412.06769).

    import latentcot

    reasoner = latentcot.load("runs/quickstart/coconut")
    out = reasoner.generate(["…question…"], max_new_tokens=64)
    think = reasoner.think(["…question…"], num_thoughts=3)

The names below are the public ones; each is loaded when it is first used, so that importing the
package, and `latentcot --help`, does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentcot.data.examples import Example, read_examples, write_examples
    from latentcot.errors import (
        CheckpointError,
        DataError,
        LatentcotError,
        MethodError,
        RecipeError,
        RunError,
        TrainingError,
        UsageError,
    )
    from latentcot.evaluation.comparison import compare
    from latentcot.evaluation.evaluate import evaluate
    from latentcot.evaluation.reasoner import Output, Reasoner, Thinking, load
    from latentcot.evaluation.results import Evaluation
    from latentcot.methods import METHODS, Method, register
    from latentcot.recipes.recipe import Recipe, read_recipe
    from latentcot.tasks import Task, register_task
    from latentcot.thinking.capability import choose_way
    from latentcot.thinking.decoding import Sampling
    from latentcot.thinking.perturbation import Perturbation
    from latentcot.thinking.think import think
    from latentcot.training.train import train

__all__ = [
    "METHODS",
    "CheckpointError",
    "DataError",
    "Evaluation",
    "Example",
    "LatentcotError",
    "Method",
    "MethodError",
    "Output",
    "Perturbation",
    "Reasoner",
    "Recipe",
    "RecipeError",
    "RunError",
    "Sampling",
    "Task",
    "Thinking",
    "TrainingError",
    "UsageError",
    "choose_way",
    "compare",
    "evaluate",
    "load",
    "read_examples",
    "read_recipe",
    "register",
    "register_task",
    "think",
    "train",
    "write_examples",
]

_HOMES = {
    "evaluation.comparison": ("compare",),
    "recipes.recipe": ("Recipe", "read_recipe"),
    "errors": (
        "CheckpointError",
        "DataError",
        "LatentcotError",
        "MethodError",
        "RecipeError",
        "RunError",
        "TrainingError",
        "UsageError",
    ),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.results": ("Evaluation",),
    "data.examples": ("Example", "read_examples", "write_examples"),
    "thinking.capability": ("choose_way",),
    "thinking.decoding": ("Sampling",),
    "thinking.perturbation": ("Perturbation",),
    "tasks": ("Task", "register_task"),
    "methods": ("METHODS", "Method", "register"),
    "evaluation.reasoner": ("Output", "Reasoner", "Thinking", "load"),
    "thinking.think": ("think",),
    "training.train": ("train",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first asked for."""
    if name == "__version__":
        return import_module("importlib.metadata").version("latentcot")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'latentcot' has no attribute {name!r}")
    value = getattr(import_module(f"latentcot.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
