"""`latentcot analyze` from end to end, on tiny runs."""

import csv
import json
import re
import shutil
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from latentcot.analysis import registry
from latentcot.analysis.analyze import ON_PAGE, analyze
from latentcot.analysis.registry import ANALYSES, chosen
from latentcot.analysis.shared.subject import open_subject, with_own_names
from latentcot.data.examples import read_examples
from latentcot.errors import UsageError
from latentcot.training.train import train


@pytest.fixture(scope="module")
def pauses(make_recipe, tmp_path_factory):
    """The pause control, trained for as long."""
    run = tmp_path_factory.mktemp("runs") / "pauses"
    assert train(make_recipe("coconut-pause-as-thought"), run, is_quiet=True)
    return run


@pytest.fixture(scope="module")
def no_cot(make_recipe, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "no-cot"
    assert train(make_recipe("no-cot"), run, is_quiet=True)
    return run


@pytest.fixture(scope="module")
def done(tiny_run, pauses, tmp_path_factory):
    """The folder of all analyses, against the pause control."""
    from latentcot.cli.analyze import analyze

    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp("analyzed") / "coconut")
    analyze(str(run), against=(str(pauses),), quiet=True)
    return run / "analysis"


@pytest.mark.slow
def test_every_analysis_has_its_files(done):
    for name in ANALYSES:
        result = json.loads((done / f"{name}.json").read_text())
        assert result["format_version"] == 1
        assert result["provenance"]["command"]
        for path in (done / f"{name}.png", done / f"{name}.pdf"):
            assert path.stat().st_size > 1000, path
        rows = list(csv.DictReader((done / f"{name}.csv").read_text().splitlines()))
        assert rows, name


@pytest.mark.slow
def test_the_page_shows_both(done):
    page = (done / "report.html").read_text()
    assert "Inside the thoughts of coconut and coconut-pause-as-thought" in page
    assert {path.stem for path in (done / "against-coconut-pause-as-thought").glob("*.json")} == {
        *ON_PAGE
    } - {"interventions"}
    shown = json.loads(re.search(r"<script[^>]*json[^>]*>(.*?)</script>", page, re.DOTALL)[1])
    first, second = shown["methods"]
    assert len(first["interventions"]) > len(second["interventions"]) > 5
    assert all(readings["interventions"] for readings in second["questions"])


@pytest.mark.slow
def test_the_comparisons_name_the_other(done):
    assert json.loads((done / "interventions.json").read_text())["against"]["name"] == (
        "coconut-pause-as-thought"
    )
    subjects = json.loads((done / "distribution.json").read_text())["subjects"]
    assert [one["name"] for one in subjects] == ["coconut", "coconut-pause-as-thought"]


@pytest.mark.slow
def test_one_alone_on_other_questions(tiny_run, data, latentcot, tmp_path):
    words = f"analyze {tiny_run} --data {data / 'valid.jsonl'} --only geometry --limit 4"
    ended = latentcot(*words.split(), "--out", tmp_path / "here")
    assert ended.code == 0, ended.err
    assert {path.name for path in (tmp_path / "here").glob("*.json")} == {"geometry.json"}
    assert json.loads((tmp_path / "here" / "geometry.json").read_text())["num_questions"] == 4
    assert "geometry" in ended.out
    assert not (tmp_path / "here" / "report.html").exists()


def test_without_graphs_the_page_shows_what_there_is(tiny_run, data, latentcot, tmp_path):
    lines = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()[:4]]
    kept = [{key: one[key] for key in ("question", "steps", "answer")} for one in lines]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept))
    words = f"analyze {tiny_run} --data {tmp_path / 'bare.jsonl'} --only geometry --only tree"
    ended = latentcot(*words.split(), "--out", tmp_path / "here")
    assert ended.code == 0, ended.err
    assert "Note: 1 of these analyses need each question's graph" in ended.err
    assert "· geometry …\n" in ended.err  # a log tells what is being done
    page = (tmp_path / "here" / "report.html").read_text()
    assert "Not done: its questions carry no graph" in page
    [figure] = re.findall(r'<img src="([^"]*)"', page)
    assert figure == "geometry.png" and (tmp_path / "here" / figure).exists()


@pytest.mark.slow
def test_what_a_method_does_not_allow_is_told_and_the_rest_is_done(no_cot, latentcot, tmp_path):
    ended = latentcot("analyze", no_cot, "--out", tmp_path / "here")
    assert ended.code == 0, ended.err
    said = " ".join(ended.out.split())
    assert said.count("not done") >= 6
    assert (tmp_path / "here" / "outcomes.json").exists()
    assert not (tmp_path / "here" / "interventions.json").exists()


def test_what_is_not_done_leaves_nothing_of_before(no_cot, latentcot, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    before = [here / name for name in ("interventions.json", "interventions.png", "report.html")]
    for path in before:
        path.write_text("of before")
    ended = latentcot("analyze", no_cot, "--only", "interventions", "--out", here)
    assert ended.code == 2 and "none of these analyses can be done" in ended.err
    assert not any(path.exists() and path.read_text() == "of before" for path in before)


@pytest.mark.slow
def test_questions_without_graphs(tiny_run, data, latentcot, tmp_path):
    lines = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    kept = ("id", "question", "steps", "answer")
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps({k: one[k] for k in kept}) + "\n" for one in lines))
    ended = latentcot("analyze", tiny_run, "--data", bare, "--out", tmp_path / "here")
    assert ended.code == 0, ended.err
    found = {path.stem for path in (tmp_path / "here").glob("*.json")}
    assert found == {
        "decoding", "interventions", "probes", "geometry", "mediation", "pathways",
    }  # fmt: skip


def test_graphs_of_questions_in_a_form_of_their_own(tiny_run, data, latentcot, tmp_path):
    """They have the keys of ProsQA, but another question: no candidate is named at its end."""
    lines = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    for one in lines:
        edges, asked = one["question"].split(" [Q] ")
        one["question"] = f"[Q] {asked} {edges}"
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    words = f"analyze {tiny_run} --data {tmp_path / 'own.jsonl'} --limit 8"
    only = [word for name in ("outcomes", "tree", "probes") for word in ("--only", name)]
    ended = latentcot(*words.split(), *only, "--out", tmp_path / "here")
    assert ended.code == 0, ended.err
    assert (tmp_path / "here" / "report.html").exists()
    rows = list(csv.DictReader((tmp_path / "here" / "probes.csv").read_text().splitlines()))
    probes = {row["probe"] for row in rows}
    assert "answer" in probes
    assert "candidate" not in probes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--only trees", "--only trees: is no analysis. Did you mean 'tree'?"),
        ("--limit 0", "limit: must be at least 1, got 0"),
        ("--batch-size 0", "batch_size: must be at least 1, got 0"),
        ("--data nowhere.jsonl", "nowhere.jsonl: no such file"),
        ("--against nowhere/run", "no such folder"),
    ],
)
def test_bad_input_ends_with_one_message(words, message, tiny_run, latentcot, tmp_path):
    ended = latentcot("analyze", tiny_run, *words.split(), "--out", tmp_path / "here")
    assert ended.code == 2
    assert message in ended.err
    assert not (tmp_path / "here").exists()


def test_questions_that_one_analysis_cannot_read_do_not_end_the_others(tiny_run, data, tmp_path):
    """The task's graph, asked in words of their own: no twin of it can be written."""
    told = read_examples(data / "test.jsonl")[:4]
    own = [replace(one, question=one.question.replace("[Q]", "?")) for one in told]
    subject = replace(open_subject(tiny_run, str(data / "test.jsonl")), examples=tuple(own))
    subject = replace(subject, encoded=subject.encoded[:4])
    wanted = [ANALYSES[name] for name in ("mediation", "outcomes")]
    refused, done = analyze(subject, wanted, tmp_path / "out")
    assert "must end with" in refused.reason and refused.result is None
    assert done.result["num_questions"] == 4
    assert (tmp_path / "out" / "outcomes.json").is_file()


def test_two_of_one_method_get_names_of_their_own(tiny_run, data):
    subject = open_subject(tiny_run, str(data / "test.jsonl"))
    others = [subject, subject, replace(subject, name="coconut-2")]
    assert [one.name for one in with_own_names(subject, others)] == [
        "coconut-2", "coconut-3", "coconut-2-2"
    ]  # fmt: skip


def test_the_names_of_analyses():
    assert [one.name for one in chosen(("tree", "probes"))] == ["tree", "probes"]
    assert len(chosen(())) == len(ANALYSES)
    with pytest.raises(UsageError, match="There are: mediation, outcomes"):
        chosen(("x",))


# --- analyses from outside ------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "analysis.md"
(LENGTHS,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
"""The analysis that the page shows."""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The folder of a package that is not installed yet; the table forgets it afterwards."""
    before, site = dict(ANALYSES), tmp_path / "site"
    site.mkdir()
    (site / "their_lengths.py").write_text(LENGTHS)
    monkeypatch.syspath_prepend(site)
    registry.load_entry_points.cache_clear()
    yield site
    ANALYSES.clear()
    ANALYSES.update(before)
    registry.load_entry_points.cache_clear()
    sys.modules.pop("their_lengths", None)


def install(site, target):
    """Declare an entry point, as an installer does."""
    info = site / "their_lengths-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-lengths\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\nlengths = {target}\n")


@pytest.mark.parametrize("way", ["register", "entry point"])
def test_an_analysis_from_outside_runs_as_ours_do(way, outside, tiny_run, latentcot, tmp_path):
    if way == "register":
        import_module("their_lengths")
    else:
        install(outside, "their_lengths:LENGTHS")
    ended = latentcot("analyze", tiny_run, "--only", "lengths", "--out", tmp_path / "here")
    assert ended.code == 0, ended.err
    assert "how long questions are" in " ".join(ended.out.split())
    assert {path.name for path in (tmp_path / "here").iterdir()} == {
        "lengths.json", "lengths.png", "lengths.pdf", "lengths-lengths.csv"
    }  # fmt: skip
    rows = (tmp_path / "here" / "lengths-lengths.csv").read_text().splitlines()
    found = json.loads((tmp_path / "here" / "lengths.json").read_text())
    assert rows[0] == "question,letters" and len(rows) == 1 + found["num_questions"]


@pytest.mark.usefixtures("outside")
def test_what_an_analysis_requires_is_looked_for(tiny_run, no_cot, latentcot, tmp_path):
    def measure(subject, on_progress):
        return {"rows": [{"thought": None, "letters": len(e.question)} for e in subject.examples]}

    theirs = replace(
        import_module("their_lengths").LENGTHS,
        name="of-all", measure=measure, draw=lambda result: {}, requires=("thoughts",),
    )  # fmt: skip
    registry.register(theirs)
    for run, folder in ((tiny_run, tmp_path / "here"), (no_cot, tmp_path / "there")):
        ended = latentcot("analyze", run, "--only", "of-all", "--out", folder)
        is_told = "not done: it has no continuous thoughts" in " ".join(ended.out.split())
        assert is_told == (run == no_cot)
    rows = (tmp_path / "here" / "of-all-rows.csv").read_text().splitlines()
    assert rows[0] == "thought,letters" and rows[1].startswith("all,")


def test_what_cannot_be_registered_is_told(outside):
    ours, theirs = ANALYSES["tree"], import_module("their_lengths").LENGTHS
    del ANALYSES["lengths"]  # which the import has registered
    assert registry.register(ours) is ours
    for wrong, message in (
        (replace(theirs, name="tree"), "analysis 'tree' exists already"),
        (replace(theirs, requires=("graph",)), "requires 'graph'.*Did you mean 'graphs'"),
        ("lengths", "needs a latentcot.analysis.registry.Analysis, got str"),
    ):
        with pytest.raises(UsageError, match=message):
            registry.register(wrong)
    install(outside, "their_lengths:NONE")
    with pytest.raises(UsageError, match="'lengths' \\(their_lengths:NONE\\) cannot be loaded"):
        chosen(("lengths",))
