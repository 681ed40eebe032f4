"""The values of a recipe file, before they are checked: `extends`, overrides, packaged recipes.

A recipe may say `extends: other.yaml`: it then holds only what differs from that one. Below
`for_method: {NAME: {…}}` stand the keys that differ for one method; they count where the run is of
that method, wherever it was named: in a file or by an override. Of all that says something, the
later one wins: the file that is extended, its `for_method`, the file, its `for_method`, overrides.
Settings of the method itself may stand there as well, `codi: {method: {distillation_weight: 20}}`;
they are what the method has where whoever names it says nothing else.
Recipes that come with the package are found by their name (`latentcot list recipes`), `gsm8k`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from latentcot.errors import MethodError, RecipeError, did_you_mean
from latentcot.methods import METHODS
from latentcot.methods.registry import registered
from latentcot.utils.display import say_once
from latentcot.utils.parsing import named, parse_yaml, shown

RECIPES = Path(str(resources.files("latentcot"))) / "recipes"
"""The recipes that come with the package."""
DEFAULT_METHOD = "coconut"
"""What a recipe trains that names no method."""
MAX_DEPTH = 8

RENAMED = {
    "markers_start_from": "special_tokens_start_from",
    "curriculum.introduce_markers": "curriculum.introduce_special_tokens",
}
"""Keys that recipes had before, and what they are called now."""


def packaged_recipes() -> list[str]:
    """Return the names of the recipes that come with the package and can be trained."""
    files = (path.relative_to(RECIPES) for path in RECIPES.rglob("*.yaml"))
    return sorted(str(path.with_suffix("")) for path in files if not path.stem.startswith("_"))


def find_recipe(
    path: Path | str, *, wanted: str = "recipe", files: str = "a file"
) -> tuple[Path, str | None]:
    """Return the file that a path or the name of a packaged recipe means, and the method in it.

    Each method had a recipe of its own before, `gsm8k/icot`; that name is understood, and one line
    says what it is called now.

    Args:
        path: What was given.
        wanted: What it could have been, for the error.
        files: What of that lies on disk.

    Raises:
        RecipeError: There is none.
    """
    if exists(Path(path)):
        return Path(path), None
    names, (recipe, _, method) = packaged_recipes(), str(path).rpartition("/")
    if str(path) in names:
        return RECIPES / f"{path}.yaml", None
    try:
        if recipe in names:
            name = registered(method).name
            say_once(f"{recipe}/{method}: is recipe {recipe} with --method {name} now.")
            return RECIPES / f"{recipe}.yaml", method
    except MethodError:
        pass  # suggested below
    of_old = [f"{name}/{method}" for name in names for method in METHODS]
    raise RecipeError(
        f"{named(str(path))}: no such {wanted}.{did_you_mean(str(path), [*names, *of_old])} Give "
        f"{files}, or a name of `latentcot list recipes`. See docs/recipes.md."
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
        RecipeError: A file is missing or is not YAML, `for_method` is of another form, or an
            override is.
    """
    if not isinstance(overrides, Sequence) or isinstance(overrides, str):
        raise RecipeError(f"overrides: must be a list such as ['seed=1'], got {shown(overrides)}.")
    file, method = find_recipe(path)
    layers = _layers(file, method, depth=0)
    asked = _all_of(layers, None, overrides).get("method") or DEFAULT_METHOD
    method = asked.get("name") if isinstance(asked, dict) else asked
    return _all_of(layers, str(method), overrides)


def _all_of(
    layers: Sequence[Mapping[str, Any]], method: str | None, overrides: Sequence[str]
) -> dict[str, Any]:
    """Return what files and overrides say together; without `for_method` if the method is None."""
    values, settings = dict[str, Any](), dict[str, Any]()
    for layer in layers:
        values = _merged(values, {k: v for k, v in layer.items() if k != "for_method"})
        keys = layer.get("for_method", {}).get(method, {})
        values = _merged(values, {k: v for k, v in keys.items() if k != "method"})
        settings = _merged(settings, keys.get("method", {}))
    for override in overrides:
        key, is_given, text = override.partition("=")
        if not is_given or not key.strip():
            raise RecipeError(
                f"override {shown(override)}: must be KEY=VALUE, like training.batch_size=64."
            )
        value: Any = text
        with suppress(ValueError):  # such as <<, which YAML keeps for itself
            value = parse_yaml(text)
        try:
            set_key(values, RENAMED.get(key.strip(), key.strip()), value)
        except RecipeError as error:
            raise RecipeError(f"override {shown(override)}: {error}") from None
    if settings:
        chosen = values.get("method")
        values["method"] = {
            "name": method,
            **settings,
            **(chosen if isinstance(chosen, dict) else {}),
        }
    return values


def set_key(values: dict[str, Any], key: str, value: object) -> None:
    """Set `a.b` in the values of a recipe; the other keys of `a` stay.

    Raises:
        RecipeError: `a` holds a value, not keys.
    """
    *parents, last = key.split(".")
    if parents[:1] == ["method"] and isinstance(values.get("method"), str):
        values["method"] = {"name": values["method"]}
    holder = values
    for parent in parents:
        inner = holder[parent] = holder.get(parent) or {}
        if not isinstance(inner, dict):
            raise RecipeError(f"{named(parent)} holds a value, not keys.")
        holder = inner
    holder[last] = value


def _layers(path: Path, method: str | None, depth: int) -> list[dict[str, Any]]:
    """Return what a file says, behind what the files that it extends say."""
    values = read_yaml(path)
    try:
        values = with_new_keys(values)
        of_methods = values.get("for_method")
        of_methods = {} if of_methods is None else of_methods
        if not isinstance(of_methods, dict) or not all(
            isinstance(keys, dict) for keys in of_methods.values()
        ):
            raise RecipeError(
                "for_method: must hold names of methods, and below each the keys that differ, got "
                f"{shown(of_methods)}."
            )
        for name, keys in of_methods.items():
            registered(str(name))
            wrong = keys.keys() & {"extends", "for_method"}
            settings = keys.get("method", {})
            if not isinstance(settings, dict) or "name" in settings:
                wrong.add("method")  # its settings may
            if wrong:
                raise RecipeError(f"for_method.{name}.{min(wrong)}: cannot differ by method.")
        values["for_method"] = {str(name): with_new_keys(one) for name, one in of_methods.items()}
    except (RecipeError, MethodError) as error:
        raise RecipeError(f"{path}: {error}") from None
    if method is not None:
        values["method"] = method
    base = values.pop("extends", None)
    if base is None:
        return [values]
    if not isinstance(base, str):
        raise RecipeError(f"{path}: extends: must name one recipe file, got {shown(base)}.")
    if depth == MAX_DEPTH:
        raise RecipeError(f"{path}: extends: goes more than {MAX_DEPTH} files deep: a circle?")
    next_to = path.parent / base
    try:
        below = (next_to, None) if exists(next_to) else find_recipe(base)
        return [*_layers(*below, depth + 1), values]
    except RecipeError as error:
        if depth:
            raise
        raise RecipeError(f"{path}: extends: {error}") from None


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
        renamed = {**renamed, part: moved} if part else moved
    return renamed


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` in it, key by key where both hold keys.

    `method: NAME` is as good as `method: {name: NAME}`. Who names one names another method, with
    none of the settings of the old one; who names none changes settings.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        if key == "method" and isinstance(value, dict):
            old = {} if "name" in value else {"name": old} if isinstance(old, str) else old
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged


def command_for(file: Path | str) -> str | None:
    """Return the command that makes a file of data, where comments of a packaged recipe say so."""
    for path in RECIPES.rglob("*.yaml"):
        text = re.sub(r"\\\n *#", "", path.read_text(encoding="utf-8"))
        for command in re.findall(r"latentcot data make [^`\n]+ --out [^`\n]+", text):
            words = command.split()
            if words[words.index("--out") + 1 :][:1] == [str(Path(file).parent)]:
                return " ".join(words)
    return None


RESOLVED = {
    "advance", "epochs_stage_0", "epochs_per_stage", "learned_below", "learned_window",
    "max_updates_per_stage", "tokens_per_epoch", "tokens_until_all", "removal_smoothing",
}  # fmt: skip
"""Of `curriculum:`, what no person writes all of, and every run does."""


def with_defaults_from_scratch(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe with what it means where it says nothing.

    Where its model is made from scratch, that is what `_from_scratch.yaml` says. Who says how many
    epochs a stage or the training takes has said when they end. The recipe that a run has written
    says all that there was to say: a key that it lacks is newer, and was not at work.
    """
    model, curriculum = values.get("model"), values.get("curriculum")
    is_of_a_run = isinstance(curriculum, Mapping) and curriculum.keys() >= RESOLVED
    if is_of_a_run or not isinstance(model, Mapping):
        return dict(values)
    defaults = _merged({}, read_yaml(RECIPES / "_from_scratch.yaml"))
    if model.get("tokenizer") == "bpe":  # reads line breaks, which are no words
        del defaults["template"]
    for part, keys, implied in (
        ("curriculum", ("epochs_stage_0", "epochs_per_stage"), "advance"),
        ("training", ("epochs",), "max_updates"),
    ):
        given = values.get(part)
        if isinstance(given, Mapping) and any(given.get(key) is not None for key in keys):
            del defaults[part][implied]
            defaults["curriculum"]["ends_when_learned"] = False
    return _merged(defaults, values)


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (a.b, value), so that `training: {epochs: 1}` leaves the other keys of training."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
