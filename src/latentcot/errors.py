"""Every error that latentcot raises on purpose.

    LatentcotError
    ├── DataError         a data file or an example is not what it must be
    ├── RecipeError       a recipe, or an override of it, is wrong
    ├── MethodError       a method or task that does not exist or does not work yet
    ├── CheckpointError   a checkpoint cannot be read, or is of another format
    │   └── DamagedError  its files are not what was written
    ├── RunError          a run folder is in the way, missing or incomplete
    ├── TrainingError     training cannot go on (a loss that is no number)
    └── UsageError        an argument has a value that it cannot have; a ValueError too

A message says where, what is wrong, the value, what is allowed, and what to do.
The command line prints it without a traceback and exits with 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class LatentcotError(Exception):
    """The base of all errors of this package: catch this one to catch them all."""


class DataError(LatentcotError):
    """A data file or an example is not what it must be."""


class RecipeError(LatentcotError):
    """A recipe, or an override of it, is wrong; the message lists all its problems."""


class MethodError(LatentcotError):
    """A method or task that does not exist or does not work yet."""


class CheckpointError(LatentcotError):
    """A checkpoint cannot be read, or was written in another format."""


class DamagedError(CheckpointError):
    """The files of a checkpoint are not what was written: another one of the run may be whole."""


class RunError(LatentcotError):
    """A run folder is in the way, missing or incomplete."""


class TrainingError(LatentcotError):
    """Training cannot go on."""


class UsageError(LatentcotError, ValueError):
    """An argument has a value that it cannot have."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?``, or nothing where no allowed name is close."""
    close = get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
