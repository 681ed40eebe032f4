"""benchmarks/speed.py: its lines, and its tables in docs/performance.md."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import speed
from measuring import NotHereError

from latentcot.runs.provenance import provenance


@pytest.fixture
def one_figure(monkeypatch, tmp_path):
    """A function (what measures it, key=value, …) that measures one figure, with a bar of 2."""

    def measure(how, **changes):
        figure = replace(speed.Figure(2.0, True, how, "any"), **changes)
        monkeypatch.setattr(speed, "FIGURES", {"times": figure})
        monkeypatch.setattr(speed, "RESULTS", tmp_path)
        monkeypatch.setattr(sys, "argv", ["speed.py", "times"])
        speed.main()
        return {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}

    return measure


def test_a_figure_is_a_line_and_goes_to_the_file_of_its_machine(one_figure, capsys):
    results = one_figure(lambda: {"value": 1.999, "rounds": 5})
    assert capsys.readouterr().out == "figure=times value=1.999 bar=2 falls short rounds=5\n"
    ((name, found),) = results.items()
    assert name == f"{speed.HERE}-{speed.slug(provenance()['machine'])}.json"
    assert found["times"]["value"] == 1.999
    assert found["times"]["commit"] == provenance()["commit"]


def test_what_cannot_be_measured_says_what_it_needs(one_figure, capsys):
    def measure():
        raise NotHereError("set X to a checkout")

    assert one_figure(measure) == {}
    told = "figure=times value=- bar=2 not measured: set X to a checkout\n"
    assert capsys.readouterr().out == told
    assert one_figure(measure, device="abacus") == {}
    assert "not measured: needs a abacus" in capsys.readouterr().out


def test_the_share_of_the_matrix_rate_is_a_part_of_another_measurement(one_figure, capsys):
    update = {"share_of_matrix_rate": 0.52, "s_ours": 4.1, "gflops_float32": 315.0, "rounds": 5}
    one_figure(lambda: {"value": 1.4, "precision": "float32", **update})
    assert speed.share_of_matrix_rate("times") == {
        "value": 0.52, "s": 4.1, "gflops": 315.0, "rounds": 5,
    }  # fmt: skip
    with pytest.raises(NotHereError, match="part of another: measure that first"):
        speed.share_of_matrix_rate("another")
    path, found = speed.results_here()
    found["times"]["commit"] = "0" * 40
    path.write_text(json.dumps(found))
    with pytest.raises(NotHereError, match="at this commit"):
        speed.share_of_matrix_rate("times")


def test_a_machine_is_a_part_of_a_name():
    assert speed.slug("x86_64, AMD EPYC, 2 cores") == "amd-epyc-2-cores"
    assert speed.slug("x86_64, Intel(R) Xeon(R) Processor, 2 cores") == (
        "intel-xeon-processor-2-cores"
    )


def test_each_machine_has_its_table(one_figure, monkeypatch, tmp_path):
    one_figure(lambda: {"value": 2.5, "rounds": 5})
    (path,) = tmp_path.glob("*.json")
    found = json.loads(path.read_text())
    found["times"] |= {"value": 1.5, "machine": "x86_64, Other, 2 cores"}
    (tmp_path / f"{speed.HERE}-other-2-cores.json").write_text(json.dumps(found))
    page = tmp_path / "page.md"
    page.write_text("<!-- figures: written by benchmarks/speed.py -->\n<!-- /figures -->\n")
    monkeypatch.setattr(speed, "PAGE", page)
    speed.write_page()
    lines = page.read_text().splitlines()
    assert "**x86_64, Other, 2 cores**" in lines
    assert "| `times` | 2.5 | ≥ 2 | holds | rounds 5 | 1 |" in lines
    assert "| `times` | 1.5 | ≥ 2 | falls short | rounds 5 | 1 |" in lines
