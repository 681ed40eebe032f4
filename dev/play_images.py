"""The pictures of the page that thinks, taken from docs/play.html by a browser.

    python dev/play_images.py

Writes docs/images/play.png, play-phone.png and play.gif; wants playwright and Debian's chromium.
"""

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).resolve().parents[1] / "docs"
CHROMIUM = "/usr/bin/chromium"
# In the question that the page begins with: below the right root, and below the other one.
ON_THE_WAY, OFF_THE_WAY = "8", "10"
SECONDS, LAST_SECONDS, WIDTH, COLOURS = 1.3, 3.0, 820, 128


def frames(page: Page) -> list[Image.Image]:
    """Step through the thoughts, then turn the answer around by changing one."""
    taken: list[Image.Image] = []

    def take() -> None:
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)  # colours fade
        top = page.locator(".ask").bounding_box()
        bottom = page.locator("#answers").bounding_box()
        assert top is not None
        assert bottom is not None
        clip = {
            "x": top["x"] - 16,
            "y": top["y"] - 8,
            "width": 1152,
            "height": bottom["y"] + bottom["height"] - top["y"] + 16,
        }
        shot = Image.open(io.BytesIO(page.screenshot(clip=clip, full_page=True))).convert("RGB")
        taken.append(shot.resize((WIDTH, WIDTH * shot.height // shot.width)))

    def choose(change: str, node: str) -> None:
        page.select_option("#change-node", label=node)
        page.click(f"#change-{change}")

    for step in range(5):
        page.locator("#thought-range").fill(str(step))
        take()
    page.locator("#thought-range").fill("1")
    choose("remove", ON_THE_WAY)
    choose("add", OFF_THE_WAY)
    for step in range(1, 5):
        page.locator("#thought-range").fill(str(step))
        take()
    return taken


def main() -> None:
    """Write the three pictures."""
    images = DOCS / "images"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        address = (DOCS / "play.html").as_uri()
        for name, width, height, scheme in (
            ("play.png", 1280, 1180, "light"),
            ("play-phone.png", 390, 1180, "dark"),
        ):
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            page.goto(address)
            page.click("#thought-next")
            page.wait_for_timeout(500)
            page.screenshot(path=images / name)
        page = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme="light")
        page.goto(address)
        taken = frames(page)
        browser.close()
    height = max(one.height for one in taken)
    same = [Image.new("RGB", (WIDTH, height), "white") for _ in taken]
    for sheet, one in zip(same, taken, strict=True):
        sheet.paste(one)
    first, *others = [
        one.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for one in same
    ]
    seconds = [SECONDS] * (len(same) - 1) + [LAST_SECONDS]
    first.save(
        images / "play.gif",
        save_all=True,
        append_images=others,
        duration=[int(1000 * one) for one in seconds],
        loop=0,
        optimize=True,
    )
    for name in ("play.png", "play-phone.png", "play.gif"):
        print(f"{name}: {(images / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
