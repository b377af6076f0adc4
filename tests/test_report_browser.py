"""The report as a real browser shows and prints it."""
# ruff: noqa: F811

from pathlib import Path
from typing import Any

import pytest
from browsers import browser  # noqa: F401
from report_runs import held_out, model, page, small  # noqa: F401

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_all_and_requests_nothing(
    browser: Any, page: Path, scheme: str, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    shown = context.new_page()
    shown.set_default_timeout(30_000)
    messages, requested = [], []
    shown.on("console", lambda message: messages.append(message.text))
    shown.on("pageerror", lambda error: messages.append(str(error)))
    shown.on("request", lambda request: requested.append(request.url))
    shown.goto(page.as_uri())
    shown.wait_for_load_state("networkidle")
    assert messages == []
    assert [url for url in requested if not url.startswith("data:")] == [page.as_uri()]

    images = shown.eval_on_selector_all(
        "img",
        """all => all.map(image => ({
            alt: image.alt, natural: image.naturalWidth, kind: image.className,
            wide: image.getBoundingClientRect().width, right: image.getBoundingClientRect().right,
            scrolls: image.closest(".scroll") !== null,
        }))""",
    )
    assert all(image["alt"] and image["natural"] > 0 for image in images)
    for image in images:
        hidden = image["kind"] == f"figure {'dark' if scheme == 'light' else 'light'}"
        assert (image["wide"] == 0) is hidden
        assert image["scrolls"] or image["right"] <= width
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(243, 245, 248)", "dark": "rgb(14, 18, 23)"}[scheme]

    colours = "all => all.map(title => getComputedStyle(title).color)"
    green = {"light": "rgb(21, 115, 71)", "dark": "rgb(76, 195, 138)"}[scheme]
    red = {"light": "rgb(192, 39, 52)", "dark": "rgb(255, 128, 134)"}[scheme]
    assert set(shown.eval_on_selector_all(".tiles .right strong", colours)) == {green}
    assert set(shown.eval_on_selector_all(".tiles .wrong strong", colours)) == {red}
    context.close()


def test_a_dark_page_is_printed_light_and_whole(browser: Any, page: Path) -> None:
    a4 = {"width": 680, "height": 1000}  # pixels within its margins
    context = browser.new_context(viewport=a4, color_scheme="dark")
    shown = context.new_page()
    shown.set_default_timeout(30_000)
    shown.goto(page.as_uri())
    shown.emulate_media(media="print")
    widths = "all => all.map(box => box.getBoundingClientRect().width)"
    assert set(shown.eval_on_selector_all("img.dark", widths)) == {0}
    assert 0 not in shown.eval_on_selector_all("img.light", widths)
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    overflow = "all => all.filter(box => box.scrollWidth > box.clientWidth).map(box => box.ariaLabel)"
    assert shown.eval_on_selector_all(".scroll", overflow) == []  # paper does not scroll
    context.close()
