"""Which cases of a parametrised test the fast suite runs."""

from collections.abc import Iterable
from typing import Any

import pytest


def mostly_slow(values: Iterable[Any], *fast: Any) -> list[Any]:
    """Values as parameters; those that are not named run in the slow suite alone."""
    return [v if v in fast else pytest.param(v, marks=pytest.mark.slow) for v in values]
