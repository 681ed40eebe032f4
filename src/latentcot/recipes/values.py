"""The values of a recipe file, before they are checked: `extends`, overrides, packaged recipes.

A recipe may say `extends: other.yaml`: it then holds only what differs from that one. Recipes that
come with the package are found by their name (`latentcot list recipes`), `gsm8k/coconut`.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from latentcot.errors import RecipeError, did_you_mean
from latentcot.utils.parsing import named, parse_yaml, shown

RECIPES = Path(str(resources.files("latentcot"))) / "recipes"
"""The recipes that come with the package."""
MAX_DEPTH = 8


def packaged_recipes() -> list[str]:
    """Return the names of the recipes that come with the package and can be trained."""
    files = (path.relative_to(RECIPES) for path in RECIPES.rglob("*.yaml"))
    return sorted(str(path.with_suffix("")) for path in files if not path.stem.startswith("_"))


def find_recipe(path: Path | str) -> Path:
    """Return the file that a path or the name of a packaged recipe means.

    Raises:
        RecipeError: There is none.
    """
    packaged = RECIPES / f"{path}.yaml"
    if exists(Path(path)):
        return Path(path)
    if exists(packaged) and packaged.resolve().is_relative_to(RECIPES.resolve()):
        return packaged
    raise RecipeError(
        f"{named(str(path))}: no such recipe.{did_you_mean(str(path), packaged_recipes())} Give a "
        "file, or a name of `latentcot list recipes`. See docs/recipes.md."
    )


def exists(path: Path) -> bool:
    """Return whether there is such a file; no error where no file can have this name."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_values(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a recipe file with what it extends, and apply overrides `KEY=VALUE`.

    Raises:
        RecipeError: A file is missing or is not YAML, or an override is of another form.
    """
    values = _read(find_recipe(path), depth=0)
    for override in overrides:
        _apply(values, override)
    return values


def _read(path: Path, depth: int) -> dict[str, Any]:
    values = read_yaml(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise RecipeError(f"{path}: extends: must name one recipe file, got {shown(base)}.")
    if depth == MAX_DEPTH:
        raise RecipeError(f"{path}: extends: goes more than {MAX_DEPTH} files deep: a circle?")
    beside = path.parent / base
    try:
        below = _read(beside if exists(beside) else find_recipe(base), depth + 1)
    except RecipeError as error:
        if depth:
            raise
        raise RecipeError(f"{path}: extends: {error}") from None
    return _merged(below, values)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds keys and values.

    Raises:
        RecipeError: It cannot be read, or holds something else.
    """
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file.") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}.") from None
    except ValueError as error:  # UnicodeDecodeError too
        raise RecipeError(f"{path}: is not YAML: {error}") from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: must hold keys and values, got {type(values).__name__}.")
    return values


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` in it, key by key where both hold keys."""
    merged = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _apply(values: dict[str, Any], override: str) -> None:
    key, is_given, text = override.partition("=")
    if not is_given or not key.strip():
        raise RecipeError(
            f"override {shown(override)}: must be KEY=VALUE, like training.batch_size=64."
        )
    *parents, last = key.strip().split(".")
    for parent in parents:
        inner = values[parent] = values.get(parent) or {}
        if not isinstance(inner, dict):
            raise RecipeError(
                f"override {shown(override)}: {named(parent)} holds a value, not keys."
            )
        values = inner
    try:
        values[last] = parse_yaml(text)
    except ValueError:  # such as <<, which YAML keeps for itself
        values[last] = text


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (a.b, value), so that `training: {epochs: 1}` leaves the other keys of training."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


RENAMED = {
    "markers_start_from": "special_tokens_start_from",
    "curriculum.introduce_markers": "curriculum.introduce_special_tokens",
}
"""Keys that recipes had before, and what they are called now."""


def with_new_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe with the keys of today.

    Raises:
        RecipeError: A key stands there under both names.
    """
    renamed = dict(values)
    for old, new in RENAMED.items():
        part, _, key = old.rpartition(".")
        holder = renamed.get(part) if part else renamed
        if not isinstance(holder, dict) or key not in holder:
            continue
        name = new.rpartition(".")[2]
        if name in holder:
            raise RecipeError(f"{old}: is called {new} now, and both are given. Leave {old} out.")
        moved = {name if one == key else one: value for one, value in holder.items()}
        if part:
            renamed[part] = moved
        else:
            renamed = moved
    return renamed
