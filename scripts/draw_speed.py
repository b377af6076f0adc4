"""Time how long a drawing page takes to read a drawing: `python scripts/draw_speed.py draw.html ...`.

A mouse draws in headless Chromium; the time of a prediction is from the strokes to the probabilities shown.
"""

import shutil
import statistics
import sys
from pathlib import Path

WAIT = "() => new Promise(done => (function check() { busy || stale ? setTimeout(check, 2) : done(); })())"
DURATIONS = "performance.getEntriesByName('prediction').map(entry => entry.duration)"
WARM_UP = 50  # predictions until the browser has compiled the page's functions


def measure(browser: object, page: Path) -> list[float]:
    """Return the milliseconds of each prediction while sevens are drawn."""
    shown = browser.new_page()  # type: ignore[attr-defined]
    shown.goto(page.resolve().as_uri())
    box = shown.locator("#board").bounding_box()
    while len(times := shown.evaluate(DURATIONS)) < WARM_UP + 200:
        for number, (x, y) in enumerate([(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]):
            shown.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=20 * number + 1)
            if number == 0:
                shown.mouse.down()
        shown.mouse.up()
        shown.evaluate(WAIT)
        shown.keyboard.press("Escape")
    shown.close()
    return times[WARM_UP:]


def main() -> None:
    """Print a line for each page."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    executable = next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
        )
        for page in map(Path, sys.argv[1:]):
            times = measure(browser, page)
            print(f"{page}: median {statistics.median(times):.1f} ms of {len(times)} predictions")
        browser.close()


if __name__ == "__main__":
    main()
