"""What is wrong with a command line, in words that say what to type instead."""

from cyclopts import CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from latentcot.recipes.aliases import ELSEWHERE

WANTED = {
    "RECIPE": "a YAML file, or a name of `latentcot list recipes`, such as prosqa",
    "CHECKPOINT": "a run, a checkpoint folder, a hub id, or quickstart",
    "RUN": "a run, a checkpoint folder, a hub id, or quickstart",
    "PATH": "a recipe or a run, such as quickstart or runs/mine",
    "WHAT": "methods, tasks, analyses, recipes, data or lm-eval",
    "SOURCE": "weights: a file, or a folder of save_pretrained",
    "FILE": "a file",
    "--out": "where to write, such as --out runs/mine",
}
"""Parameter that must be given → what it is."""
ONE_AT_A_TIME = {
    "eval": "It evaluates one run at a time; files of questions go behind --data.",
    "data stats": "Several files are a folder, or a pattern in quotes, 'parts/*.csv'.",
}
"""Command → how it takes several things, where someone gave it some."""


def explained(error: CycloptsError) -> str:
    """Return the message for a command line that cannot be understood."""
    command = " ".join(error.command_chain or ())
    text = str(error)
    if isinstance(error, UnknownOptionError):
        instead = _instead_of(error.token.keyword or str(error.token.value))
        text = text.partition(" Did you mean")[0] + instead if instead else text
    elif isinstance(error, MissingArgumentError) and error.argument and not error.argument.tokens:
        name = error.argument.name
        needed = f"{name} ({WANTED[name]})" if name in WANTED else name
        text = f"{command} needs {needed}. See `latentcot {command} --help`."
        # What is missing was perhaps given under another name.
        unknown = [token for token in error.unused_tokens or () if token.startswith("--")]
        text += "".join(f" Unknown option: {token}.{_instead_of(token)}" for token in unknown)
    elif isinstance(error, UnusedCliTokensError):
        words = " ".join(error.unused_tokens or ())
        text = f"{command} takes no further words, got {words}. A text with blanks needs quotes."
        text = f"{text} {ONE_AT_A_TIME.get(command, '')}".rstrip()
    return text


def _instead_of(option: str) -> str:
    """Return what takes the place of an option that other trainers have."""
    name = option.removeprefix("--").partition("=")[0].replace("-", "_")
    found = ELSEWHERE.get(name)
    if found is None:
        return ""
    is_key = not found.startswith("-") and " " not in found
    return f" Here it is --set {found}=…" if is_key else f" Here it is {found}."
