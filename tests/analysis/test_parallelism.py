"""The best one, two and three nodes: by hand, and over questions."""

import pytest
import torch

from latentcot.analysis import parallelism
from latentcot.analysis.parallelism import best_sums, measure, percentiles
from latentcot.analysis.registry import ANALYSES
from latentcot.analysis.shared.statistics import mean_of
from latentcot.analysis.shared.values import nodes_at, values_after
from subjects import graph_examples, untrained


@pytest.mark.parametrize(
    ("values", "sums"),
    [([0.1, 0.5, 0.0, 0.3, 0.05], [0.5, 0.8, 0.9]), ([0.25, 0.5], [0.5, 0.75, 0.75])],
)
def test_best_sums_add_up_the_best(values, sums):
    assert best_sums(torch.tensor(values, dtype=torch.float64)) == pytest.approx(sums)


class TestPercentiles:
    def test_are_of_each_sum_by_itself(self):
        rows = percentiles([[0.1, 0.9, 1.0], [0.5, 0.6, 0.7], [0.3, 0.7, 0.8]])
        assert [len(row) for row in rows] == [101] * 3
        assert [row[0] for row in rows] == [0.1, 0.6, 0.7]
        assert [row[50] for row in rows] == [0.3, 0.7, 0.8]
        assert [row[100] for row in rows] == [0.5, 0.9, 1.0]

    def test_lie_on_a_line_between_two_questions(self):
        [one, *_] = percentiles([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
        assert one == pytest.approx([i / 100 for i in range(101)])


class TestMeasure:
    @pytest.mark.parametrize(("form", "offset"), [("words", 0), ("symbols", 1)])
    def test_is_what_loops_give(self, form, offset):
        subject = untrained(form, examples=graph_examples(form, 6))
        result = measure(subject)
        counts = [row["k"] for row in result["by_k"]]
        everything = [values.tolist() for values in values_after(subject, counts)]
        gaps = {}
        for place, row in enumerate(result["by_k"]):
            assert row["depth"] == row["k"] + offset
            asked = [i for i, g in enumerate(subject.graphs) if nodes_at(g, row["depth"])]
            best = [sorted(everything[i][place], reverse=True)[:3] for i in asked]
            gaps[row["k"]] = {
                i: two + three for i, (_, two, three) in zip(asked, best, strict=True)
            }
            expected = mean_of(list(gaps[row["k"]].values()))
            assert row["gap"] == pytest.approx(expected, abs=2e-5)
            assert row["percentiles"][0][100] == pytest.approx(max(b[0] for b in best), abs=1e-5)
            assert row["percentiles"][2][0] == pytest.approx(min(map(sum, best)), abs=1e-5)
        asked = [row["gap"]["num_questions"] for row in result["by_k"]]
        assert asked[0] == 6 and asked == sorted(asked, reverse=True) and asked[-1] < 6
        for row, k in zip(result["narrowing"], counts, strict=False):
            assert (row["from"], row["to"]) == (k, k + 1)
            drops = [gaps[k][i] - gaps[k + 1][i] for i in gaps[k + 1]]
            assert row["narrowing"] == pytest.approx(mean_of(drops, lowest=-1), abs=2e-5)
        assert len(result["narrowing"]) == len(counts) - 1

    def test_of_a_method_without_thoughts(self):
        result = measure(untrained("symbols", method="cot"))
        assert [row["k"] for row in result["by_k"]] == [0] and result["narrowing"] == []


class TestFigures:
    @pytest.mark.parametrize("count", [1, 5])
    def test_have_a_panel_for_each_k(self, count):
        result = measure(untrained("words", examples=graph_examples("words", count)))
        drawn = parallelism.draw(result)
        for axes, row in zip(drawn.axes, result["by_k"][:4], strict=True):
            assert axes.get_title() == f"k = {row['k']} (depth {row['depth']})"
            assert [list(line.get_ydata()) for line in axes.lines] == row["percentiles"]
            text = axes.texts[0].get_text()
            assert text.startswith(f"mean gap {row['gap']['mean']:.2f}")
            assert ("(" in text) == (row["gap"]["num_questions"] > 1)  # the interval

    def test_rows_hold_every_percentile(self):
        result = measure(untrained("words"))
        rows = ANALYSES["parallelism"].rows(result)["parallelism"]
        assert len(rows) == 101 * len(result["by_k"])
        first = result["by_k"][0]
        assert rows[7] == {
            "k": 1, "depth": 1, "percentile": 7,
            **{f"best {i + 1}": first["percentiles"][i][7] for i in range(3)},
            "mean_gap": first["gap"]["mean"], "mean_gap_low": first["gap"]["low"],
            "mean_gap_high": first["gap"]["high"], "num_questions": 3,
        }  # fmt: skip
