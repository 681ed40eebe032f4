"""The pages as files: what they hold, what they let nobody do; and that each opens in a browser."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import get_args, get_type_hints, is_typeddict

import pytest

import latentcot.pages
from latentcot.errors import DataError, RunError
from latentcot.pages import MOST_BYTES, analysis, pick, play, render_page, report, write_page
from page_samples import (
    hostile,
    sample_method,
    sample_page,
    sample_play,
    sample_report,
    with_readings,
)

both = pytest.mark.parametrize(
    ("folder", "data"),
    [("analysis", sample_page()), ("report", sample_report())],
    ids=["analysis", "report"],
)
every = pytest.mark.parametrize(
    ("folder", "data"),
    [("analysis", sample_page()), ("report", sample_report()), ("play", sample_play())],
    ids=["analysis", "report", "play"],
)
SCRIPTS = {
    path: path.read_text(encoding="utf-8")
    for path in Path(latentcot.pages.__file__).parent.rglob("*.js")
}


def embedded(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


@every
def test_file_holds_everything_and_points_nowhere(tmp_path, folder, data):
    write_page(tmp_path / "report.html", folder, data)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert embedded(page) == data
    assert len(page.encode()) < 200_000
    assert "://" not in page
    assert set(re.findall(r'\b(?:src|href|action)\s*=\s*["\']?([^"\'>\s]*)', page)) == {"data:,"}
    assert not re.search(r"@import|@font-face|\bfetch\(|XMLHttpRequest|\bimport\b\s*[({\"']", page)
    assert not re.search(r"url\((?!#)", page)
    assert page.count("<script") == 3 == page.count("</script>")


@every
def test_every_request_is_forbidden(folder, data):
    page = render_page(folder, data)
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert page.index(found[0]) < page.index("<script")
    rules = dict(rule.strip().split(" ", 1) for rule in found[1].split(";"))
    assert rules["default-src"] == rules["form-action"] == rules["base-uri"] == "'none'"
    assert rules["img-src"] == "data:"  # the empty icon
    allowed = set(rules) - {"default-src", "form-action", "base-uri", "img-src"}
    assert {rules[name] for name in allowed} == {"'unsafe-inline'"}


@every
def test_texts_cannot_become_html(folder, data):
    page = render_page(folder, hostile(data))
    assert "<script>alert" not in page and "<img" not in page and "<!-- " not in page
    assert embedded(page) == hostile(data)


def test_no_script_makes_html_of_texts():
    for path, text in SCRIPTS.items():
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, f"{path.name}: {word}"


def test_every_function_of_the_scripts_is_called():
    together = "\n".join(SCRIPTS.values())
    uses = Counter(re.findall(r"\w+", together))
    for function in re.findall(r"^(?:async )?function (\w+)\(", together, re.MULTILINE):
        assert uses[function] > 1, f"{function} is never called"


def check(kind, value):
    """Every dict has the keys that its TypedDict describes."""
    if is_typeddict(kind):
        assert value.keys() == get_type_hints(kind).keys(), kind
        for key, inner in get_type_hints(kind).items():
            check(inner, value[key])
    for inner in get_args(kind) if value is not None else ():
        for item in value if isinstance(value, list) else [value]:
            check(inner, item)


def test_these_tests_show_what_is_described():
    check(analysis.PageData, sample_page())
    check(report.ReportData, sample_report())
    check(play.PlayData, sample_play())
    mass = sample_method()["mass"][0]
    assert pick(analysis.DepthMass, mass | {"more": 1}) == mass


def test_numbers_that_are_not_finite_become_gaps():
    data = with_readings(sample_page(1), thoughts=[[math.nan, math.inf, -math.inf, 0.5]])
    [method] = embedded(render_page("analysis", data))["methods"]
    assert method["questions"][0]["thoughts"] == [[None, None, None, 0.5]]


def test_a_page_that_is_too_large_is_refused_in_words(tmp_path):
    data = sample_page() | {"caption": "a" * MOST_BYTES}
    words = r"page\.html: would have 10\.\d MB, but .* not have more than 5\. Show fewer questions"
    with pytest.raises(DataError, match=words):
        write_page(tmp_path / "page.html", "analysis", data)
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_says_where(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/page\.html: cannot be written"):
        write_page(tmp_path / "file" / "page.html", "analysis", sample_page())


@both
def test_opens_in_a_browser_without_errors(open_page, folder, data):
    page = open_page(data)
    assert page.title() == data["title"] == page.locator("h1").text_content()
    assert page.locator("svg.large g.node").count() == 14 * len(data.get("methods", "1"))
    assert page.locator("footer dd").first.text_content() == data["provenance"]["command"]
