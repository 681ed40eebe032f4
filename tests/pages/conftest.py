"""A browser for the pages: playwright with Debian's chromium; without it, tests are skipped."""

from pathlib import Path

import pytest

from latentcot.pages import write_page

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """A function (data, hash, options of the window) → the page.

    In the end the page must have had no error, nothing in its console, and no request.
    """
    problems, requests, contexts = [], [], []
    file = tmp_path / "report.html"

    def open_it(data, hash="", plays=False, **options):
        folder = "play" if "models" in data else "analysis" if "methods" in data else "report"
        write_page(file, folder, data)
        contexts.append(
            browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        )
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        if plays:
            page.clock.install()
        page.goto(file.as_uri() + hash)
        return page

    yield open_it
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("document.documentElement.dataset.errors") == "0"
        context.close()
    assert problems == []
    assert set(requests) <= {file.as_uri(), "data:,"}  # the empty icon is no request
