"""The page of an analysis without a browser: what it takes and refuses, what its file holds."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import latentcot.pages.analysis
import latentcot.pages.report
import latentcot.pages.shared
from latentcot.errors import DataError, RunError
from latentcot.pages.analysis import (
    MOST_BYTES,
    DepthMass,
    Effect,
    ForcedAnswer,
    OutcomeShares,
    PageData,
    render_page,
    write_page,
)
from page_samples import sample_method, sample_page, sample_question, sample_readings

PACKAGES = (latentcot.pages.shared, latentcot.pages.report, latentcot.pages.analysis)


def scripts_of(*packages: Any) -> dict[str, str]:
    files = [file for p in packages for file in Path(p.__file__).parent.glob("*.js")]
    return {f"{file.parent.name}/{file.name}": file.read_text(encoding="utf-8") for file in files}


def embedded(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    value: dict[str, Any] = json.loads(found[1])
    return value


# --- the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("num_methods", [1, 2])
def test_file_holds_everything_and_points_nowhere(tmp_path: Path, num_methods: int) -> None:
    write_page(tmp_path / "report.html", sample_page(num_methods))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert len(page.encode()) < 200_000
    assert "://" not in page
    assert set(re.findall(r'\b(?:src|href|action)\s*=\s*["\']?([^"\'>\s]*)', page)) == {"data:,"}
    assert not re.search(r"@import|@font-face|\bfetch\(|XMLHttpRequest|\bimport\b\s*[({\"']", page)
    assert not re.search(r"url\((?!#)", page)
    assert page.count("<script") == 3 == page.count("</script>")


def test_every_request_is_forbidden() -> None:
    page = render_page(sample_page())
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert found and page.index(found[0]) < page.index("<script")
    rules = dict(rule.strip().split(" ", 1) for rule in found[1].split(";"))
    assert rules["default-src"] == rules["form-action"] == rules["base-uri"] == "'none'"
    assert rules["img-src"] == "data:"  # the empty icon
    allowed = set(rules) - {"default-src", "form-action", "base-uri", "img-src"}
    assert {rules[name] for name in allowed} == {"'unsafe-inline'"}


def test_data_round_trips() -> None:
    data = sample_page()
    assert embedded(render_page(data)) == json.loads(json.dumps(asdict(data)))


HOSTILE = '</script><script>alert(1)</script><!-- $title ${data} <img src=x onerror="alert(2)">'


def test_texts_cannot_become_html() -> None:
    question = replace(sample_question(0), text=HOSTILE, nodes=[HOSTILE] * 14, id=HOSTILE)
    readings = sample_readings(0, 0)
    answers = [replace(readings.answers[0], text=HOSTILE, answer=HOSTILE)]
    readings = replace(readings, answers=answers)
    method = replace(sample_method(), name=HOSTILE, summary=HOSTILE, questions=[readings])
    page = render_page(
        replace(
            sample_page(1), title=HOSTILE, caption=HOSTILE, questions=[question], methods=[method]
        )
    )
    assert "<script>alert" not in page and "<img" not in page and "<!-- " not in page
    value = embedded(page)
    assert value["title"] == value["questions"][0]["nodes"][3] == HOSTILE


def test_no_script_makes_html_of_texts() -> None:
    for name, text in scripts_of(*PACKAGES).items():
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, f"{name}: {word}"


def test_every_script_is_on_a_page_and_every_function_is_called() -> None:
    pages = render_page(sample_page())
    source = Path(latentcot.pages.report.__file__).read_text(encoding="utf-8")
    scripts = scripts_of(*PACKAGES)
    for name, text in scripts.items():
        is_used = text.strip() in pages or f'"{Path(name).stem}"' in source
        assert is_used, f"{name} is on no page"
    together = "\n".join(scripts.values())
    for function in re.findall(r"^function (\w+)\(", together, re.MULTILINE):
        assert len(re.findall(rf"\b{function}\b", together)) > 1, f"{function} is never called"


def test_values_that_are_not_finite_become_gaps() -> None:
    data = sample_page(1)
    readings = [replace(r, thoughts=[[math.nan] * 14]) for r in data.methods[0].questions]
    data = replace(data, methods=[replace(data.methods[0], questions=readings)])
    method = embedded(render_page(data))["methods"][0]
    assert method["questions"][0]["thoughts"] == [[None] * 14]


def test_a_page_that_is_too_large_is_refused_in_words(tmp_path: Path) -> None:
    data = sample_page()
    long = replace(data.questions[0], text="a" * MOST_BYTES)
    with pytest.raises(DataError, match=r"5\.\d MB with 4 questions.*Show fewer"):
        write_page(tmp_path / "page.html", replace(data, questions=[long, *data.questions[1:]]))
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/page\.html: cannot be written"):
        write_page(tmp_path / "file" / "page.html", sample_page())


# --- what is refused --------------------------------------------------------------------------


def with_readings(data: PageData, **changes: Any) -> PageData:
    first, *others = data.methods[0].questions
    method = replace(data.methods[0], questions=[replace(first, **changes), *others])
    return replace(data, methods=[method, *data.methods[1:]])


REFUSALS: dict[str, tuple[Callable[[PageData], Any], str]] = {
    "form": (lambda d: replace(d, form="poems"), "must be one of symbols, words, got 'poems'"),
    "no question": (lambda d: replace(d, questions=[]), "'questions' is empty"),
    "no method": (lambda d: replace(d, methods=[]), "got 0: none"),
    "three methods": (
        lambda d: replace(d, methods=[sample_method(n) for n in "abc"]),
        "got 3: a, b, c",
    ),
    "same method twice": (
        lambda d: replace(d, methods=[d.methods[0]] * 2),
        "different names, got 2: coconut, coconut",
    ),
    "too few readings": (
        lambda d: replace(d, questions=[*d.questions, sample_question(9)]),
        "'coconut' has readings of 4 questions, but the page shows 5",
    ),
    "a node too few": (
        lambda d: with_readings(d, thoughts=[[0.1] * 14, [0.1] * 13]),
        "question 'test-0': thought 2 has 13 numbers for 14 nodes",
    ),
    "a value too many": (
        lambda d: with_readings(d, values=[[0.1] * 15]),
        "values after 0 thoughts has 15 numbers for 14 nodes",
    ),
    "nothing read": (
        lambda d: with_readings(d, thoughts=[], values=[]),
        "both 'thoughts' and 'values' are empty",
    ),
    "no share": (lambda d: with_readings(d, values=[[1.2] * 14]), "'values': 1.2 is no share"),
    "below zero": (lambda d: with_readings(d, thoughts=[[-1.0] * 14]), "'thoughts': -1.0 is no"),
    "unknown node": (lambda d: replace(d.questions[0], target=14), "node 14 does not exist"),
    "negative node": (lambda d: replace(d.questions[0], edges=[(0, -1)]), "node -1 does not"),
    "accuracy in percent": (
        lambda d: replace(d.methods[0], accuracy=90.0),
        "'coconut': 90.0 is no",
    ),
    "effect in percent": (lambda d: Effect("zero", 1, 50.0, 0, 1, 9), "'zero': 50.0 is no share"),
    "mass in percent": (
        lambda d: DepthMass(2, 2, 90, 0, 0, 1),
        "mass of thought 2: 90 is no share",
    ),
    "unknown outcome": (
        lambda d: ForcedAnswer(2, "", "", "lucky", True),
        "answer after 2 thoughts: there is no outcome 'lucky'. There are correct_path, longer_path",
    ),
    "unknown outcome of bars": (
        lambda d: OutcomeShares(1, 9, 0.5, 0.4, 0.6, {"luck": 1.0}),
        "outcomes after 1 thoughts: there is no outcome 'luck'",
    ),
    "bars not full": (
        lambda d: OutcomeShares(1, 9, 0.5, 0.4, 0.6, {"correct_path": 0.5}),
        "the shares add up to 0.500",
    ),
    "bars of NaN": (
        lambda d: OutcomeShares(1, 9, 0.5, 0.4, 0.6, {"correct_path": math.nan}),
        "the shares add up to nan",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_together_is_refused_in_words(case: str) -> None:
    do, words = REFUSALS[case]
    with pytest.raises(DataError, match=re.escape(words)):
        do(sample_page())


def test_what_was_not_measured_may_be_left_out() -> None:
    data = sample_page(1)
    readings = [replace(r, thoughts=[], answers=[], interventions=[]) for r in
                data.methods[0].questions]  # fmt: skip
    method = replace(data.methods[0], outcomes=[], mass=[], interventions=[], questions=readings)
    assert embedded(render_page(replace(data, methods=[method])))["methods"][0]["mass"] == []
