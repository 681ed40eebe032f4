"""Norms, ranks and angles: against numbers worked out by hand and by another way."""

import json
import math
from statistics import fmean

import pytest
import torch

from latentcot.analysis.geometry import (
    NUM_GROUPS,
    effective_rank,
    measure,
    participation_ratio,
    spectrum,
)
from latentcot.analysis.shared.latents import record, with_latents
from latentcot.analysis.shared.statistics import difference
from latentcot.errors import UsageError
from subjects import graph_examples, untrained


class TestRanks:
    def test_of_equal_directions(self):
        for num in (1, 3, 7):
            singular = torch.cat([torch.zeros(4), torch.full((num,), 2.5)])
            assert effective_rank(singular) == pytest.approx(num)
            assert participation_ratio(singular) == pytest.approx(num)

    def test_of_unequal_directions(self):
        singular = torch.tensor([3.0, 1.0])
        shares = (0.75, 0.25)
        assert effective_rank(singular) == pytest.approx(
            math.exp(-sum(p * math.log(p) for p in shares))
        )
        assert participation_ratio(singular) == pytest.approx(10**2 / (81 + 1))
        assert effective_rank(torch.zeros(3)) == participation_ratio(torch.zeros(3)) == 0

    def test_spectrum_is_that_of_centred_vectors(self):
        vectors = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)).double() + 4
        expected = torch.linalg.svdvals(vectors - vectors.mean(0))
        torch.testing.assert_close(spectrum(vectors), expected.flip(0))


class TestMeasure:
    def test_figures_of_each_thought(self):
        subject = untrained("symbols", examples=graph_examples("symbols", 24))
        chains, result = record(with_latents(subject)), measure(subject)
        assert [row["thought"] for row in result["thoughts"]] == [1, 2, 3]
        norms = subject.reasoner.model.get_input_embeddings().weight.detach().norm(dim=-1)
        assert result["embeddings"]["num"] == len(norms)
        assert result["embeddings"]["norm"] == pytest.approx(float(norms.mean()), abs=1e-3)
        for i, row in enumerate(result["thoughts"]):
            thought = chains.states[:, i]
            lengths = thought.norm(dim=-1)
            assert row["norm"] == pytest.approx(float(lengths.mean()), abs=1e-3)
            assert row["norm_sd"] == pytest.approx(float(lengths.std()), abs=1e-3)
            assert row["relative_norm"] == pytest.approx(
                float((lengths / norms.mean()).mean()), abs=1e-3
            )
            mean = thought.mean(0)
            cosines = (thought @ mean) / lengths / mean.norm()
            assert row["cosine_to_mean"] == pytest.approx(float(cosines.mean()), abs=1e-3)
            assert row["effective_rank"] == pytest.approx(
                effective_rank(spectrum(thought)), abs=1e-3
            )
            # Its interval is the jackknife's: every tenth question is left out in turn.
            groups = [[q for q in range(24) if q % NUM_GROUPS != g] for g in range(NUM_GROUPS)]
            left = [effective_rank(spectrum(thought[rest])) for rest in groups]
            error = math.sqrt(0.9 * sum((one - fmean(left)) ** 2 for one in left))
            ends = [row["effective_rank"] + sign * 2.262157 * error for sign in (-1, 1)]
            found = row["effective_rank_low"], row["effective_rank_high"]
            assert found == pytest.approx(ends, abs=1e-3)
            assert row["cosine_to_mean_low"] < row["cosine_to_mean"] < row["cosine_to_mean_high"]
        a, b = chains.states[:, 0], chains.states[:, 1]
        step = (a * b).sum(-1) / a.norm(dim=-1) / b.norm(dim=-1)
        assert result["thoughts"][0]["cosine_to_next"] == pytest.approx(
            float(step.mean()), abs=1e-3
        )
        assert result["thoughts"][2]["cosine_to_next"] is None
        assert json.loads(json.dumps(result)) == result

    def test_against_pauses(self):
        examples = graph_examples("words", 6)
        subject = untrained("words", examples=examples)
        other = untrained("words", examples=examples, method="coconut-pause-as-thought")
        result = measure(subject, against=[other])
        assert "pause" in result["against"]["name"] and not result["against"]["has_thoughts"]
        assert result["against"]["thought_means"] != result["thought_means"]
        row = next(
            r for r in result["comparison"] if (r["name"], r["thought"]) == ("cosine_to_next", 1)
        )
        here, there = (m["thoughts"][0]["cosine_to_next"] for m in (result, result["against"]))
        assert row["more"] == pytest.approx(here - there, abs=2e-4)
        assert {r["thought"] for r in result["comparison"]} == {1, 2, 3}
        assert measure(subject.first(1))["thoughts"][0]["norm_low"] is None

    def test_a_thought_before_any_latent_is_the_same_for_both(self):
        """What stands before the first latent position does not depend on what is fed later."""
        examples = graph_examples("words", 6)
        subject = untrained("words", examples=examples)
        other = untrained("words", examples=examples, method="pause-multipass")
        for row in measure(subject, against=[other])["comparison"]:
            if row["thought"] == 1 and row["name"] != "cosine_to_next":
                assert row["more"] == 0 and row["p"] == 1


class TestDifference:
    def test_of_pairs(self):
        from scipy.stats import ttest_rel

        one, two = [1.0, 2.0, 4.0, 4.5], [0.5, 2.5, 1.0, 2.0]
        found = difference(one, two)
        expected = ttest_rel(one, two)
        assert found.mean == pytest.approx(1.375) and found.num_questions == 4
        assert found.p == pytest.approx(float(expected.pvalue))
        interval = expected.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))

    def test_without_spread(self):
        assert difference([1.0, 1.0], [1.0, 1.0]).p == 1
        same = difference([1.0, 2.0], [0.0, 1.0])
        assert (same.low, same.mean, same.high, same.p) == (1.0, 1.0, 1.0, 0.0)
        assert difference([2.0], [1.0]).low is None and difference([2.0], [1.0]).p == 1

    def test_refusals(self):
        for one, two in (([], []), ([1.0], [1.0, 2.0])):
            with pytest.raises(UsageError, match="needs two values of each question"):
                difference(one, two)
