"""Intervals and tests, against numbers counted by hand, textbooks and full sums."""

from math import comb, sqrt
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from latentcot import UsageError
from latentcot.evaluation.statistics import (
    combine,
    holm,
    mcnemar,
    mean_and_sd,
    mean_interval,
    paired_p_value,
    share_interval,
    share_with_interval,
)

COUNTS = st.integers(0, 60)
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)
PAIRS = st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=5)


def tail(least, flips):
    """P(at least so many heads in so many flips of a fair coin)."""
    return sum(comb(flips, heads) for heads in range(least, flips + 1)) / 2**flips


class TestMcnemar:
    @pytest.mark.parametrize(
        ("b", "c", "expected"),
        [
            (0, 0, 1.0),  # no question tells the models apart
            (1, 0, 1.0),
            (5, 0, 2 / 32),
            (0, 5, 2 / 32),
            (6, 1, 2 * (1 + 7) / 128),
            (4, 4, 1.0),
            (10, 2, 2 * (1 + 12 + 66) / 4096),
        ],
    )
    def test_by_hand(self, b, c, expected):
        assert mcnemar(b, c) == pytest.approx(expected)

    @given(COUNTS, COUNTS)
    def test_against_the_whole_sum(self, b, c):
        expected = 1.0 if b == c else min(1, 2 * tail(max(b, c), b + c))
        assert mcnemar(b, c) == pytest.approx(expected)
        assert mcnemar(b, c) == mcnemar(c, b)

    @given(COUNTS, COUNTS)
    def test_one_side(self, b, c):
        assert mcnemar(b, c, "greater") == pytest.approx(tail(b, b + c))
        assert mcnemar(b, c, "less") == pytest.approx(mcnemar(c, b, "greater"))


class TestCombine:
    @pytest.mark.parametrize(
        ("p_values", "expected"),
        [
            ([0.03], 0.03),
            ([0.01, 0.03], 0.04),
            ([0.2, 0.4, 0.9], 1.0),
            ([0.0, 0.001, 0.002], 0.002),
        ],
    )
    def test_twice_the_mean(self, p_values, expected):
        assert combine(p_values) == pytest.approx(expected)

    def test_none_is_refused(self):
        with pytest.raises(UsageError, match="at least one"):
            combine([])

    @given(P_VALUES)
    def test_a_p_value_comes_out(self, p_values):
        assert min(p_values) <= combine(p_values) * (1 + 1e-12)
        assert 0 <= combine(p_values) <= 1


class TestPaired:
    @given(COUNTS, COUNTS)
    def test_one_seed_is_mcnemar(self, b, c):
        assert paired_p_value([(b, c)]) == pytest.approx(mcnemar(b, c))

    @given(PAIRS)
    def test_seeds_that_agree_are_twice_the_mean(self, pairs):
        pairs = [(max(pair) + 1, min(pair)) for pair in pairs]
        assert paired_p_value(pairs) == pytest.approx(combine([mcnemar(*pair) for pair in pairs]))

    def test_seeds_that_disagree_show_nothing(self):
        """The two-sided p-values are tiny, and yet no method is ahead."""
        assert combine([mcnemar(40, 0), mcnemar(0, 40)]) < 1e-9
        assert paired_p_value([(40, 0), (0, 40)]) == 1

    @given(PAIRS)
    def test_the_sides_can_be_swapped(self, pairs):
        assert paired_p_value(pairs) == pytest.approx(paired_p_value([(c, b) for b, c in pairs]))


class TestHolm:
    def test_a_textbook_example(self):
        """Four tests: 4 · 0.005, 3 · 0.01, 2 · 0.03, and 0.04, which must not fall below 0.06."""
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_few(self):
        assert holm([]) == []
        assert holm([0.2]) == [0.2]
        assert holm([0.7, 0.6]) == [1.0, 1.0]

    @given(P_VALUES)
    def test_by_its_definition(self, p_values):
        """The adjusted p of a test: the largest (m − rank + 1) · p of those up to it."""
        size = len(p_values)
        for place, adjusted in enumerate(holm(p_values)):
            ranked = sorted((p, i) for i, p in enumerate(p_values))
            upto = ranked[: ranked.index((p_values[place], place)) + 1]
            expected = max((size - rank) * p for rank, (p, _) in enumerate(upto))
            assert adjusted == pytest.approx(min(1, expected))


class TestMeans:
    def test_by_hand(self):
        mean, sd = mean_and_sd([0.9, 0.7, 0.8])
        assert (mean, sd) == (pytest.approx(0.8), pytest.approx(0.1))
        low, high = mean_interval([0.9, 0.7, 0.8])
        half = 4.302653 * 0.1 / sqrt(3)  # t of two degrees of freedom, from a table
        assert (low, high) == (pytest.approx(0.8 - half), pytest.approx(0.8 + half))

    def test_one_value_has_no_spread(self):
        assert mean_and_sd([0.5]) == (0.5, None)
        assert mean_interval([0.5]) is None

    @given(st.lists(st.integers(1, 499), min_size=2, max_size=6, unique=True))
    def test_against_scipy(self, rights):
        values = [right / 500 for right in rights]
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert mean_interval(values) == pytest.approx((expected.low, expected.high), abs=1e-9)

    @given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_the_interval_of_whole_questions_is_the_one_of_a_run(self, counts):
        right, all_ = counts
        share, *interval = share_with_interval(right, all_)
        assert share_interval(share, all_) == pytest.approx(interval, abs=1e-12)

    @given(st.lists(st.integers(0, 40), min_size=1, max_size=5))
    def test_the_interval_of_a_mean_holds_it(self, rights):
        mean = fmean(right / 40 for right in rights)
        low, high = share_interval(mean, 40)
        assert 0 <= low <= mean <= high <= 1
