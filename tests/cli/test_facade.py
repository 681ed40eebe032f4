"""The public names, and that asking for them is what loads torch."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import latentcot

PUBLIC = [
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


def test_the_public_names_are_pinned() -> None:
    assert latentcot.__all__ == PUBLIC
    assert dir(latentcot) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(latentcot, name)
    assert name == "METHODS" or value.__name__ == name
    assert name == "METHODS" or value.__doc__


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="'latentcot' has no attribute 'nonsense'"):
        latentcot.nonsense  # noqa: B018


def test_every_error_is_a_latentcot_error() -> None:
    errors = [getattr(latentcot, name) for name in PUBLIC if name.endswith("Error")]
    assert all(issubclass(error, latentcot.LatentcotError) for error in errors)


PACKAGE = Path(latentcot.__file__).parent
LIGHT = [
    "latentcot",
    "latentcot.cli",
    "latentcot.data.examples",
    "latentcot.curriculum.layout",
    "latentcot.curriculum.stages",
]


@pytest.mark.parametrize("module", LIGHT)
def test_import_does_not_wait_for_torch(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{'torch', 'transformers'}} & sys.modules.keys()))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


@pytest.mark.parametrize(
    "words",
    [["list", "recipes"], ["list", "methods"], ["list", "analyses"], ["show", "RUN"]],
)
def test_what_only_tells_does_not_wait_for_torch(words: list[str], tmp_path: Path) -> None:
    shutil.copy(next(PACKAGE.glob("recipes/quickstart.yaml")), tmp_path / "recipe.yaml")
    words = [str(tmp_path) if word == "RUN" else word for word in words]
    code = "app(sys.argv[1:], result_action='return_value')"
    assert printed(code, words, tmp_path)[-1] == ""


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("show nothing", "RecipeError: nothing: no such recipe, run or checkpoint."),
        ("show runs/nothing", "RecipeError: runs/nothing: no such recipe, run or checkpoint."),
        ("show quickstart --method nothing", "RecipeError: quickstart: method: method 'nothing'"),
        ("plan nothing", "RecipeError: nothing: no such recipe."),
        ("plan nothing --calibrate x", "RecipeError: nothing: no such recipe."),
        ("train nothing --out x", "RecipeError: nothing: no such recipe."),
        ("analyze quickstart --only nothing", "UsageError: --only nothing: is no analysis."),
        ("convert nothing --out x", "CheckpointError: nothing: no such file or folder."),
    ],
)
def test_a_name_that_is_none_is_told_before_torch(line: str, error: str, tmp_path: Path) -> None:
    code = (
        "try: app(sys.argv[1:], result_action='return_value')\n"
        "except LatentcotError as error: print(f'{type(error).__name__}: {error}')\n"
    )
    *told, loaded = printed(code, line.split(), tmp_path)
    assert told[-1].startswith(error) and loaded == ""


def printed(code: str, words: list[str], folder: Path) -> list[str]:
    """The lines that a command prints, and in the last of them what it has loaded."""
    code = (
        "import sys\nfrom latentcot.cli import app\nfrom latentcot.errors import LatentcotError\n"
        f"{code}\nprint(*sorted({{'torch', 'transformers', 'scipy.stats'}} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, cwd=folder
    )
    return result.stdout.splitlines()
