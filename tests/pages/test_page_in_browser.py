"""The page of an analysis in a real browser: every test also fails on an error in its console.

Needs playwright and Debian's chromium; waits are for conditions, never for time.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from latentcot.pages.analysis import MethodResults, PageData, write_page
from page_samples import (
    INTERVENTIONS,
    NUM_QUESTIONS,
    NUM_THOUGHTS,
    sample_method,
    sample_page,
    sample_question,
)

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is not installed"),
]

Open = Callable[..., Any]
HOSTILE = "</text></script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """A function (data, hash, options of the window) → the page; it must give no error."""
    problems: list[str] = []
    requests: list[str] = []
    files: set[str] = set()
    contexts = []

    def open_it(data: PageData, hash: str = "", plays: bool = False, **options: Any) -> Any:
        file = tmp_path / "report.html"
        write_page(file, data)
        contexts.append(
            browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        )
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        if plays:
            page.clock.install()
        page.goto(file.as_uri() + hash)
        files.add(file.as_uri())
        return page

    yield open_it
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("document.documentElement.dataset.errors") == "0"
        context.close()
    assert problems == []
    assert set(requests) - {"data:,"} <= files  # the empty icon is no request


def numbers_in(page: Any, method: int = 0) -> list[str]:
    """The numbers in the nodes of one graph, in the order of the nodes."""
    shares = page.locator("#graphs .column").nth(method).locator("g.node .share")
    texts: list[str] = shares.all_text_contents()
    return texts


def as_shown(shares: Any) -> list[str]:
    return [str(int(100 * share + 0.5)) for share in shares]


def names_in(page: Any, method: int = 0) -> list[str]:
    names = page.locator("#graphs .column").nth(method).locator("svg .name")
    texts: list[str] = names.all_text_contents()
    return texts


def shows(page: Any, data: PageData, question: int, step: int, view: str = "thoughts") -> None:
    """Every number of every method on the page is that of this question and step."""
    row = step - 1 if view == "thoughts" else step
    rows = [getattr(method.questions[question], view)[row] for method in data.methods]
    seen = page.evaluate(
        """() => {
          const value = (id) => document.getElementById(id).value;
          const texts = (within, which) =>
            [...within.querySelectorAll(which)].map((element) => element.textContent);
          return {
            graphs: [...document.querySelectorAll("#graphs .column")].map((column) =>
              ({ numbers: texts(column, "g.node .share"), names: texts(column, ".name") })),
            table: [...document.querySelectorAll("#nodes-table tbody tr")].map((row) =>
              texts(row, "th, td")),
            controls: [value("thought-range"), value("question-select")],
          };
        }"""
    )
    names = list(data.questions[question].nodes)
    numbers = [as_shown(row) for row in rows]
    assert seen["graphs"] == [{"numbers": shown, "names": names} for shown in numbers]
    exact = [[f"{100 * row[node]:.1f}\u00a0%" for row in rows] for node in range(len(names))]
    assert {cells[0]: cells[4:] for cells in seen["table"]} == dict(zip(names, exact, strict=True))
    assert seen["controls"] == [str(step), str(question)]
    assert f"q={question + 1}&t={step}" in page.url


# --- slider, keys, play -----------------------------------------------------------------------


@pytest.mark.parametrize("num_methods", [1, 2])
def test_slider_moves_by_keys_and_everything_follows(open_page: Open, num_methods: int) -> None:
    data = sample_page(num_methods)
    page = open_page(data)
    shows(page, data, question=0, step=1)
    page.focus("#thought-range")
    page.keyboard.press("ArrowRight")
    shows(page, data, question=0, step=2)
    page.keyboard.press("End")
    shows(page, data, question=0, step=NUM_THOUGHTS)
    assert page.locator("#thought-range").get_attribute("aria-valuetext") == "thought 3 of 3"
    assert page.locator("#thought-next").is_disabled()
    page.keyboard.press("Home")
    shows(page, data, question=0, step=1)
    assert page.locator("#thought-previous").is_disabled()


def test_slider_moves_by_mouse(open_page: Open) -> None:
    data = sample_page()
    page = open_page(data)
    slider = page.locator("#thought-range")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    shows(page, data, question=0, step=3)
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    shows(page, data, question=0, step=2)
    page.click("#thought-previous")
    shows(page, data, question=0, step=1)


def test_arrow_keys_step_from_anywhere_but_where_they_mean_something_else(open_page: Open) -> None:
    data = sample_page()
    page = open_page(data)
    page.focus("#thought-play")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    shows(page, data, question=0, step=3)
    page.keyboard.press("ArrowLeft")
    shows(page, data, question=0, step=2)
    page.focus("#question-select")
    page.keyboard.press("ArrowRight")  # the next question here, or nothing
    assert page.locator("#thought-range").input_value() == "2"


def test_what_changed_is_said(open_page: Open) -> None:
    data = sample_page()
    page = open_page(data)
    live = page.locator("#live")
    assert live.get_attribute("aria-live") == "polite"
    page.focus("#thought-range")
    page.keyboard.press("ArrowRight")
    frontier = [sum(m.questions[0].thoughts[1][node] for node in (3, 4)) for m in data.methods]
    words = live.text_content()
    assert words.startswith("Thought 2: coconut: ")
    for method, share in zip(data.methods, frontier, strict=True):
        assert f"{method.name}: {int(100 * share + 0.5)}\u00a0% on the frontier, depth 2" in words
    names = " and ".join(data.questions[0].nodes[node] for node in (3, 4))
    assert f"({names})" in words and "evenly it would be 14\u00a0%" in words
    readouts = page.locator("#graphs .readout").all_text_contents()
    assert [text.split(":")[0] for text in readouts] == ["Thought 2", "Thought 2"]


def test_play_runs_to_the_last_thought_and_stops(open_page: Open) -> None:
    data = sample_page(1)
    page = open_page(data, plays=True)
    play = page.locator("#thought-play")
    play.click()
    assert play.text_content() == "Pause"
    page.clock.run_for(1500)
    shows(page, data, question=0, step=2)
    play.click()
    page.clock.run_for(9000)
    shows(page, data, question=0, step=2)
    play.click()
    page.clock.run_for(9000)
    shows(page, data, question=0, step=3)
    assert play.text_content() == "Play"
    play.click()  # from the end it begins anew
    shows(page, data, question=0, step=1)


def test_values_have_a_slider_from_zero(open_page: Open) -> None:
    data = sample_page()
    page = open_page(data)
    page.get_by_role("radio", name="value after k thoughts").check()
    shows(page, data, question=0, step=1, view="values")
    assert page.url.endswith("view=values")
    page.focus("#thought-range")
    page.keyboard.press("Home")
    shows(page, data, question=0, step=0, view="values")
    assert page.locator("#thought-number").text_content() == "k = 0 of 3"
    assert "After 0 thoughts: " in page.locator("#live").text_content()
    assert "depth 1" in page.locator("#live").text_content()  # symbols: the step to come
    page.get_by_role("radio", name="probability in the thought").check()
    shows(page, data, question=0, step=1)


def test_in_words_the_step_begins_where_the_thought_stands(open_page: Open) -> None:
    page = open_page(replace(sample_page(1), form="words"), "#q=1&t=2&view=values")
    assert "depth 2" in page.locator("#live").text_content()


def test_with_two_thoughts_a_step_values_are_of_the_step(open_page: Open) -> None:
    data = sample_page(1)
    data = replace(data, methods=[replace(data.methods[0], thoughts_per_step=2)])
    page = open_page(data, "#q=1&t=3&view=values")
    assert "After 3 thoughts" in page.locator("#live").text_content()
    assert "depth 2" in page.locator("#live").text_content()


# --- choosing a question ----------------------------------------------------------------------


def test_choosing_a_question_changes_the_graph(open_page: Open) -> None:
    data = sample_page()
    page = open_page(data)
    page.select_option("#question-select", index=1)
    shows(page, data, question=1, step=1)
    assert page.locator("#question-text").text_content() == data.questions[1].text
    assert not page.locator("#question-text").is_visible()
    page.get_by_text("The question as the model reads it").click()
    assert page.locator("#question-text").is_visible()
    page.click("#thought-next")
    page.click("#question-next")
    shows(page, data, question=2, step=2)  # the thought stays
    page.click("#question-previous")
    page.click("#question-previous")
    page.click("#question-previous")
    shows(page, data, question=NUM_QUESTIONS - 1, step=2)
    page.click("#question-wrong")
    shows(page, data, question=2, step=2)
    assert "coconut ✗" in page.locator("#question-select option").nth(2).text_content()


def test_the_address_says_what_is_shown(open_page: Open) -> None:
    data = sample_page()
    page = open_page(data, "#q=3&t=2")
    shows(page, data, question=2, step=2)
    page.evaluate("location.hash = '#q=2&t=3&view=values'")
    page.wait_for_function("document.getElementById('question-select').value === '1'")
    shows(page, data, question=1, step=3, view="values")


@pytest.mark.parametrize("hash", ["#q=99&t=99", "#q=-1&t=x&view=toString", "#%%%", "#q=4&t=3&q=1"])
def test_an_address_of_nonsense_shows_something(open_page: Open, hash: str) -> None:
    page = open_page(sample_page(1), hash)
    assert len(numbers_in(page)) == 14


# --- answers and interventions ----------------------------------------------------------------


def test_answers_after_k_thoughts(open_page: Open) -> None:
    page = open_page(sample_page())
    for method in (0, 1):
        rows = page.locator("#answers .column").nth(method).locator("tbody tr")
        assert rows.count() == 7
        first, last = rows.nth(0).text_content(), rows.nth(6).text_content()
        assert f"answer 0 {method} 0" in first and "✗ wrong" in first and "correct path" in first
        assert f"text 0 {method} 6" in last and "✓ right" in last
    here = page.locator("#answers tr[aria-current=true] th")
    assert here.all_text_contents() == ["1", "1"]
    page.click("#thought-next")
    assert here.all_text_contents() == ["2", "2"]


def test_interventions_at_the_thought_under_the_slider(open_page: Open) -> None:
    page = open_page(sample_page())

    def rows(method: int) -> list[str]:
        cells = page.locator("#changes .column").nth(method).locator("tbody tr")
        texts: list[str] = cells.all_text_contents()
        return texts

    page.click("#thought-next")
    assert len(rows(0)) == 1 + len(INTERVENTIONS)
    none, zero, *_ = rows(0)
    assert "answer 0 0 3" in none and "90.0\u00a0%" in none
    assert "zero 2 of 0 0" in zero and "✓ right" in zero
    assert "34.0\u00a0%31.0 to 37.0, p\u00a0=\u00a00.01" in zero
    assert "zero 2 of 0 1" in rows(1)[1] and "54.0\u00a0%" in rows(1)[1]
    page.get_by_role("radio", name="all thoughts").check()
    assert "zero null of 0 0" in rows(0)[1].replace("None", "null") and "✗ wrong" in rows(0)[1]
    page.click("#thought-next")
    assert "zero None of 0 0" in rows(0)[1]
    page.get_by_role("radio", name="thought 3 alone").check()
    assert "swap 3 of 0 0" in rows(0)[3]


def test_overview_counts_what_was_given(open_page: Open) -> None:
    page = open_page(sample_page())
    assert page.locator("#accuracy .headline strong").all_text_contents() == [
        "90.0\u00a0%",
        "70.0\u00a0%",
    ]
    assert page.locator("#outcomes rect.stacked").count() == 2 * 7 * 6
    edges = page.locator("#outcomes rect.stacked").evaluate_all(
        "(bars) => bars.map((bar) => [bar.y.baseVal.value, bar.height.baseVal.value])"
    )
    for (above, _), (top, height) in pairwise(edges[:6]):  # the first bar, from below
        assert top + height == pytest.approx(above, abs=0.01)
    fills = page.locator("#outcomes rect.stacked").evaluate_all(
        "(bars) => bars.map((bar) => bar.getAttribute('fill'))"
    )
    patterns = page.locator("#svg-defs pattern").evaluate_all("(all) => all.map((p) => p.id)")
    assert {re.sub(r"url\(#(.*)\)", r"\1", fill) for fill in fills} == set(patterns)
    assert page.locator("#outcomes-legend .key").count() == 6
    assert page.locator("#outcomes-table tbody tr").count() == 14
    assert page.locator("#mass rect.bar").count() == 2 * NUM_THOUGHTS * 2 + 4  # and the keys
    rows = page.locator("#effects .column").first.locator("tbody tr")
    assert rows.count() == 1 + len(INTERVENTIONS)  # those at all thoughts


# --- colours, widths, print -------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_button(open_page: Open, scheme: str) -> None:
    page = open_page(sample_page(1), color_scheme=scheme)
    button = page.get_by_role("button", name="Dark colours")

    def is_dark() -> bool:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark: bool = sum(map(int, re.findall(r"\d+", colour)[:3])) < 200
        assert button.get_attribute("aria-pressed") == str(dark).lower()
        return dark

    assert is_dark() == (scheme == "dark")
    button.click()
    assert is_dark() == (scheme == "light")
    button.focus()
    page.keyboard.press("Enter")
    assert is_dark() == (scheme == "dark")
    page.emulate_media(media="print")
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(255, 255, 255)"
    assert not page.locator("#thought-range").is_visible()


def in_words() -> PageData:
    """Long names and long answers."""
    names = [f"schrompus{chr(97 + k)}" for k in range(14)]
    long = "Every schrompus is a wumpus. " * 8
    questions = [replace(sample_question(k), nodes=names, text=long) for k in range(NUM_QUESTIONS)]
    data = sample_page()

    def lengthened(method: MethodResults) -> MethodResults:
        readings = [
            replace(r, answers=[replace(a, text=long, answer=long[:28]) for a in r.answers])
            for r in method.questions
        ]
        return replace(method, questions=readings)

    return replace(
        data, form="words", questions=questions, methods=[*map(lengthened, data.methods)]
    )


@pytest.mark.parametrize(
    "data", [sample_page(1), sample_page(2), in_words()], ids=["1", "2", "words"]
)
def test_nothing_sticks_out_of_the_window(open_page: Open, data: PageData) -> None:
    page = open_page(data)
    for width in (360, 800, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for _ in range(2):  # what is drawn for a width is drawn in the next frame
            page.evaluate("() => new Promise((done) => requestAnimationFrame(done))")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        lefts = page.locator("#graphs .column").evaluate_all(
            "(all) => all.map((column) => column.getBoundingClientRect().left)"
        )
        assert len(set(lefts)) == (len(data.methods) if width > 832 else 1)


# --- for everybody ----------------------------------------------------------------------------


@pytest.mark.parametrize("num_methods", [1, 2])
def test_every_control_has_a_role_and_a_name(open_page: Open, num_methods: int) -> None:
    page = open_page(sample_page(num_methods))
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    found: dict[str, list[str]] = {}
    for node in nodes:
        if not node["ignored"]:
            name = node.get("name", {}).get("value", "")
            found.setdefault(node["role"]["value"], []).append(name)
    for role in ("button", "slider", "combobox", "radio", "image", "DisclosureTriangle", "heading"):
        assert found[role] and all(name.strip() for name in found[role]), (role, found[role])
    assert {name.removeprefix("◐ ") for name in found["button"]} >= {
        *("Dark colours", "Previous question", "Next question"),
        *("Previous thought", "Next thought", "Play"),
    }
    assert (found["slider"], found["combobox"]) == (["Thought"], ["Question"])
    assert len(found["radio"]) == 4
    assert {"main", "group", "region"} <= set(found)


def test_tab_reaches_every_control_in_reading_order(open_page: Open) -> None:
    page = open_page(sample_page())
    order: list[str] = []
    for _ in range(30):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id"))
        if order[-1] == "replace-one":
            break
    wanted = [
        *("theme", "question-previous", "question-select", "question-next", "question-wrong"),
        *("thought-range", "thought-next", "thought-play", "replace-one"),
    ]
    assert [name for name in order if name in wanted] == wanted
    page.focus("#thought-range")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_texts_are_shown_as_texts(open_page: Open) -> None:
    data = sample_page(1)
    question = replace(data.questions[0], nodes=[HOSTILE] * 14, text=HOSTILE)
    readings = data.methods[0].questions[0]
    readings = replace(
        readings, answers=[replace(readings.answers[3], answer=HOSTILE, text=HOSTILE)]
    )
    method = replace(data.methods[0], name=HOSTILE, summary=HOSTILE, questions=[readings])
    page = open_page(
        replace(data, title=HOSTILE, caption=HOSTILE, questions=[question], methods=[method])
    )
    assert page.title() == HOSTILE == page.locator("h1").text_content()
    assert page.locator("img").count() == 0
    assert names_in(page) == [HOSTILE] * 14
    assert HOSTILE in page.locator("#answers").text_content()
    assert (
        HOSTILE
        in page.locator("#effects").text_content() + page.locator("#accuracy").text_content()
    )


def test_the_browser_refuses_requests(browser: Any, tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", sample_page(1))
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    refused = page.evaluate(
        """async () => {
          const refused = [];
          addEventListener("securitypolicyviolation", (e) => refused.push(e.effectiveDirective));
          await fetch("https://example.org").catch(() => null);
          const image = new Image();
          await new Promise((done) => { image.onerror = done; image.src = "https://example.org"; });
          return refused;
        }"""
    )
    page.close()
    assert refused == ["connect-src", "img-src"]


# --- little data ------------------------------------------------------------------------------


def test_without_thoughts_there_are_values(open_page: Open) -> None:
    data = sample_page(1)
    readings = [replace(r, thoughts=[]) for r in data.methods[0].questions]
    method = replace(data.methods[0], questions=readings, mass=[])
    page = open_page(replace(data, methods=[method]))
    assert page.get_by_role("radio", name="probability in the thought").is_disabled()
    assert page.get_by_role("radio", name="value after k thoughts").is_checked()
    assert page.locator("#thought-range").input_value() == "1"
    assert page.locator("#mass-band").count() == 0


def test_a_method_may_have_fewer_thoughts_or_less_measured(open_page: Open) -> None:
    data = sample_page()
    little = [
        replace(r, thoughts=r.thoughts[:1], values=[], answers=[], interventions=[])
        for r in data.methods[1].questions
    ]
    second = replace(data.methods[1], questions=little, outcomes=[], interventions=[])
    page = open_page(replace(data, methods=[data.methods[0], second]), "#q=1&t=3")
    assert numbers_in(page, 0) == as_shown(data.methods[0].questions[0].thoughts[2])
    assert numbers_in(page, 1) == ["–"] * 14
    assert "has no thought 3" in page.locator("#live").text_content()
    for band in ("outcomes", "effects", "answers", "changes"):
        assert (
            page.locator(f"#{band} .column").nth(1).locator("div").text_content() == "Not measured."
        )


def test_one_node_one_question_nothing_measured(open_page: Open) -> None:
    question = replace(sample_question(0), nodes=["a", "b"], edges=[(0, 0)], target=0, neg_target=1,
                       path=[0])  # fmt: skip
    readings = replace(sample_method().questions[0], thoughts=[[float("nan"), 0.5]], values=[],
                       answers=[], interventions=[])  # fmt: skip
    method = replace(sample_method(), outcomes=[], mass=[], interventions=[], questions=[readings])
    page = open_page(replace(sample_page(1), questions=[question], methods=[method]))
    assert numbers_in(page) == ["–", "50"]
    assert page.locator("#thought-play").is_disabled()
    assert page.locator("#question-wrong").is_hidden()
    for band in ("mass", "outcomes", "effects"):
        assert page.locator(f"#{band}-band").count() == 0
    for band in ("answers", "changes"):
        assert page.locator(f"#{band}-band").is_hidden()
