"""Options of ProsQA data that cannot be, and the messages that say so."""

import pytest

from latentcot.errors import RecipeError
from latentcot.tasks.prosqa_options import options_named


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
    ],
)
def test_options_that_cannot_be(preset: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        options_named(preset, **changes)
