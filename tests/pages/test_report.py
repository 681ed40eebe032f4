"""The quickstart's report: one file that opens from disk, loads nothing and runs without errors.

All numbers here are made up to exercise the page; none is a result.
"""

import json
import math
import random
import re
import subprocess
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from latentcot.errors import DataError
from latentcot.methods import METHODS
from latentcot.pages.report import (
    AccuracyPoint,
    Curve,
    DepthMass,
    Frontier,
    LossPoint,
    Provenance,
    ReportData,
    SearchQuestion,
    TableRow,
    render_report,
    write_report,
)

CHROMIUM = Path("/usr/bin/chromium")
NUM_THOUGHTS = 3
LAYERS = [[0], [1, 2], [3, 4], [5, 6]]


def sample_question(number: int, is_correct: bool = True) -> SearchQuestion:
    """Two families of a root and three layers of two nodes, with random ids as names."""
    rng = random.Random(number)
    names = [str(name) for name in rng.sample(range(10, 100), 14)]
    edges: list[tuple[int, int]] = []
    for family in (0, 7):
        for above, below in pairwise(LAYERS):
            edges += [(family + rng.choice(above), family + child) for child in below]
    parents = {child: parent for parent, child in edges}
    path = [5]
    while path[0] != 0:
        path.insert(0, parents[path[0]])
    return SearchQuestion(
        id=f"test-{number}",
        nodes=names,
        edges=rng.sample(edges, len(edges)),
        root=0,
        target=5,
        neg_target=12,
        probabilities=[sample_shares(rng, thought) for thought in range(1, NUM_THOUGHTS + 1)],
        answer=names[5],
        predicted=names[5 if is_correct else 12],
        is_correct=is_correct,
        path=path,
    )


def sample_shares(rng: random.Random, thought: int) -> list[float]:
    weights = [rng.uniform(0, 0.012) for _ in range(14)]
    for node in LAYERS[thought]:
        weights[node] = rng.uniform(0.3, 0.7)
    return [weight / sum(weights) for weight in weights]


def sample_curve(method: str, first_stage: int, last_stage: int, final: float) -> Curve:
    rng = random.Random(method)
    losses, accuracies = [], []
    span = 4000 / (last_stage - first_stage + 1)
    for update in range(20, 4001, 20):
        done = min((update - 1) // span, last_stage - first_stage)
        since = update - done * span
        level = 0.05 + 2.3 * math.exp(-since / 160) * (1.0 if done == 0 else 0.35)
        stage = first_stage + int(done)
        losses.append(LossPoint(update, stage, level * rng.uniform(0.9, 1.1)))
        if update % 200 == 0:
            share = 0.5 + (final - 0.5) * (1 - math.exp(-update / 900)) + rng.uniform(-0.02, 0.02)
            accuracies.append(AccuracyPoint(update, stage, min(1.0, share)))
    return Curve(method, losses, accuracies)


def sample_data() -> ReportData:
    def row(method: str, accuracy: float, tokens: float, thoughts: float, sec: float) -> TableRow:
        half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / 500)
        low, high = accuracy - half, min(1.0, accuracy + half)
        summary = METHODS[method].summary
        return TableRow(method, accuracy, low, high, 500, tokens, thoughts, sec, 0, 4000, summary)

    return ReportData(
        title="Sample of a report",
        conclusion="These numbers are made up: with continuous thoughts the small model finds the "
        "right candidate in 97 % of the test questions, without them in 55 %.",
        caption="The thoughts were trained by the loss on the answer and on the steps that "
        "were left, nothing else.",
        rows=[
            row("cot", 0.84, 9.2, 0, 0.0141),
            row("no-cot", 0.552, 2, 0, 0.0032),
            row("pause", 0.58, 2, 0, 0.0037),
            row("coconut", 0.972, 2, 3, 0.0068),
        ],
        curves=[
            sample_curve("cot", 0, 0, 0.84),
            sample_curve("no-cot", 3, 3, 0.55),
            sample_curve("pause", 3, 3, 0.58),
            sample_curve("coconut", 0, 3, 0.97),
        ],
        frontier=Frontier(
            mass=[DepthMass(k, k, share, 2 / 14) for k, share in ((1, 0.97), (2, 0.93), (3, 0.88))],
            questions=[sample_question(k, is_correct=k != 8) for k in range(12)],
            num_questions=500,
        ),
        provenance=Provenance(
            commit="0123456789abcdef0123456789abcdef01234567",
            machine="made-up machine, 4 cores",
            date="2025-01-31 12:00 UTC",
            command="latentcot quickstart --out runs/quickstart --seed 0",
            seed=0,
        ),
    )


def embedded(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    value: dict[str, Any] = json.loads(found[1])
    return value


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_file_holds_everything_and_points_nowhere(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", sample_data())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert len(page.encode()) < 1_000_000
    assert "://" not in page
    assert set(re.findall(r'\b(?:src|href)\s*=\s*["\']?([^"\'>\s]*)', page)) == {"data:,"}
    assert not re.search(r"@import|@font-face|\bfetch\(|XMLHttpRequest|\bimport\b\s*[({\"']", page)
    assert not re.search(r"url\((?!#)", page)
    assert "default-src 'none'" in page


def test_data_round_trips() -> None:
    data = sample_data()
    assert embedded(render_report(data)) == as_json(asdict(data))


def test_a_name_cannot_end_the_script() -> None:
    data = sample_data()
    assert data.frontier
    name = "</script><script>alert(1)</script><!-- $title"
    nodes = [name, *data.frontier.questions[0].nodes[1:]]
    question = replace(data.frontier.questions[0], nodes=nodes)
    data = replace(data, title=name, frontier=replace(data.frontier, questions=[question]))
    page = render_report(data)
    assert "<script>alert" not in page
    value = embedded(page)
    assert value["title"] == name
    assert value["frontier"]["questions"][0]["nodes"][0] == name


def test_without_frontier_there_is_no_such_section() -> None:
    page = render_report(replace(sample_data(), frontier=None))
    assert "The search inside the thoughts" not in page
    assert 'id="search"' not in page
    assert embedded(page)["frontier"] is None


def test_values_that_are_not_finite_become_gaps() -> None:
    curve = Curve("cot", [LossPoint(1, 0, 2.0), LossPoint(2, 0, math.nan)], [])
    page = render_report(replace(sample_data(), curves=[curve]))
    assert [point["loss"] for point in embedded(page)["curves"][0]["losses"]] == [2.0, None]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": 14}, "node 14 does not exist"),
        ({"edges": [(0, -1)]}, "node -1 does not exist"),
        ({"probabilities": []}, "'probabilities' is empty"),
        ({"probabilities": [[0.5, 0.5]]}, "thought 1 has 2 probabilities for 14 nodes"),
    ],
)
def test_a_question_that_cannot_be_drawn_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(sample_question(0), **changes)


def test_an_empty_frontier_is_refused() -> None:
    with pytest.raises(DataError, match="'questions' is empty"):
        Frontier(mass=[DepthMass(1, 1, 0.9, 0.1)], questions=[])


def dom_of(page: Path, folder: Path) -> str:
    """Open the page in a browser and return what its scripts have made of it."""
    command = [
        str(CHROMIUM),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=3000"),
        *("--window-size=1280,2400", "--dump-dom", page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed")


@needs_chromium
def test_page_draws_in_a_browser_without_errors(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", sample_data())
    dom = dom_of(tmp_path / "report.html", tmp_path)
    assert 'data-errors="0"' in dom
    results = dom[dom.index('<table class="rows results"') :]
    results = results[: results.index("</table>")]
    assert results.count('<tr role="row">') == 5
    assert all(words in results for words in ("97.2&nbsp;%", "95.8 to", "0.0141", "4\u202f000"))
    assert results.count("<circle") == 4
    assert dom.count('class="curve-area"') == dom.count('class="line"') / 2 == 4
    assert len(re.findall(r'<button type="button" class="mini"', dom)) == NUM_THOUGHTS
    assert dom.count("<option") == 12
    assert 'class="large"' in dom
    assert re.search(r'<g class="node[^>]*--part: 0\.[1-9]', dom)


@needs_chromium
def test_page_draws_what_little_there_is(tmp_path: Path) -> None:
    data = sample_data()
    lone = Curve("pause-multipass", [LossPoint(5, 2, math.nan)], [])
    write_report(tmp_path / "a.html", replace(data, frontier=None, curves=[]))
    write_report(tmp_path / "b.html", replace(data, rows=[], curves=[lone]))
    without, little = (dom_of(tmp_path / name, tmp_path) for name in ("a.html", "b.html"))
    assert 'data-errors="0"' in without
    assert "How they learned" not in without
    assert 'data-errors="0"' in little
    assert "pause-multipass" in little


@needs_chromium
def test_errors_are_counted(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    broken = re.sub(r'(id="data">).*?(</script>)', r"\1{\2", render_report(sample_data()))
    page.write_text(broken, encoding="utf-8")
    assert 'data-errors="1"' in dom_of(page, tmp_path)
