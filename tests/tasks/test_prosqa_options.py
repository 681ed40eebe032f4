"""Options of ProsQA data that cannot be, and the messages that say so."""

from typing import Any

import pytest

from latentcot.errors import RecipeError
from latentcot.tasks.prosqa.options import ProsqaOptions, options_named


def test_all_problems_come_in_one_error() -> None:
    with pytest.raises(RecipeError) as caught:
        options_named("paper", rendering="wrods", min_nodes=1, mean_in_degree=0)
    for part in ("rendering must be one of words, symbols", "'wrods'", "min_nodes", "mean_in"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("papre", {}, "Did you mean 'paper'"),
        ("paper", {"min_node": 3}, "Did you mean 'min_nodes'"),
        ("paper", {"layers": 3}, "'layers' has no effect with construction 'paper'"),
        ("paper", {"ids": "random"}, "'ids' has no effect with rendering 'words'"),
        ("paper", {"min_hops": 7}, "min_hops must not be above max_hops, got 7 and 6"),
        ("paper", {"max_nodes": 41}, "a graph may need 39"),
        ("two-family", {"num_symbols": 14}, "num_symbols must be at least 15"),
        ("two-family", {"ids": "creation", "num_symbols": 20}, "no effect with ids"),
        ("two-family", {"separator": "no"}, "separator must be true or false"),
        ("two-family", {"joined": 1}, "joined must be true or false, got 1"),
        ("paper", {"joined": True}, "'joined' has no effect with rendering 'words'"),
        ("two-family", {"joined": True, "separator": False}, "'separator' has no .* with joined"),
        ("paper", {"two_family": 0.5}, "two_family is for construction paper in symbols"),
        ("two-family", {"two_family": 0.5}, "two_family is for construction paper in symbols"),
        ("paper", {"two_family": 0}, "'two_family' has no effect with rendering 'words'"),
        ("two-family", {"two_family": 0}, "'two_family' has no effect with construction 'two-f"),
        ("paper", {"two_family": 1.01}, "two_family must be a share from 0 to 1, got 1.01"),
        ("paper", {"two_family": -0.01}, "two_family must be a share from 0 to 1, got -0.01"),
        ("paper", {"two_family": float("nan")}, "two_family must be a share .*got nan"),
        ("paper", {"two_family": True}, "two_family must be a share .*got True"),
        ("paper", {"rendering": "symbols", "two_family": 0.1, "min_nodes": 9, "max_nodes": 13},
         "two_family needs max_nodes of at least 14, got 13"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(preset: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        options_named(preset, **changes)


@pytest.mark.parametrize(
    "values",
    [
        {"two_family": 0.5},  # in words
        {"two_family": 0.5, "construction": "two-family"},
        {"two_family": 0.5, "construction": "two-family", "rendering": "symbols"},
    ],
)
def test_two_families_are_mixed_into_official_graphs_in_symbols_only(
    values: dict[str, Any],
) -> None:
    """Also where options are made without a preset: words would be made of numbers."""
    with pytest.raises(RecipeError, match="two_family is for construction paper in symbols"):
        ProsqaOptions(**values)


@pytest.mark.parametrize("share", [0, 0.0, 1, 1.0])
def test_a_share_may_be_none_or_all(share: float) -> None:
    options = options_named("paper", rendering="symbols", joined=True, two_family=share)
    assert (options.two_family, options.joined, options.separator) == (share, True, True)
    # Whoever needs no two families can have smaller graphs.
    assert share or options_named("paper", rendering="symbols", two_family=0, min_nodes=9,
                                  max_nodes=13)  # fmt: skip
