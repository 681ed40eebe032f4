"""What the options of all generators have in common: choices, and all problems in one message."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from latentcot.errors import RecipeError


def options_error(task: str, problems: Iterable[str]) -> RecipeError:
    """Return one error for all problems of a generator's options."""
    return RecipeError(f"{task} options:\n" + "\n".join(f"- {one}" for one in problems))


def wrong_choices(options: Any, choices: Mapping[str, Any]) -> list[str]:
    """Return a problem for each field, of those in `choices`, that is none of its Literal."""
    return [
        f"{name} must be one of {', '.join(get_args(choice))}, got {getattr(options, name)!r}."
        for name, choice in choices.items()
        if getattr(options, name) not in get_args(choice)
    ]
