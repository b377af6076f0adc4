"""The report as a real browser shows and prints it."""
# ruff: noqa: F811

import html
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import browser, open_file  # noqa: F401
from conftest import TEST
from report_runs import FIGURES, fit, predict, write_run

from digit_recognizer import data, reports
from digit_recognizer.blending import WeightedCombiner
from digit_recognizer.predictions import BLEND, HeldOut, Predictions

pytestmark = pytest.mark.slow
# Of the page, the ink, what is right and what is wrong.
LIGHT = ["rgb(243, 245, 248)", "rgb(28, 37, 48)", "rgb(21, 115, 71)", "rgb(192, 39, 52)"]
DARK = ["rgb(14, 18, 23)", "rgb(232, 236, 241)", "rgb(76, 195, 138)", "rgb(255, 128, 134)"]

CLIPPED = """all => all.filter(e => {
    const box = e.getBoundingClientRect(), section = e.closest("section").getBoundingClientRect();
    return !(box.width > 0 && section.left <= box.left && box.right <= section.right);
}).map(e => e.outerHTML.slice(0, 100))"""
OVERFLOWING = """all => all.filter(
    e => e.scrollWidth > e.clientWidth && getComputedStyle(e).display != "inline"
).map(e => e.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, digits: data.Dataset, held_out: HeldOut) -> Path:
    """The page of a run of three recipes and their blend, with learning curves."""
    names = ["keras-mlp-plain", "sklearn-mlp-scaled", "cnn", BLEND]
    models = [
        Predictions(name, predict(held_out.labels, 0.1, seed), predict(np.arange(TEST) % 10, 0.1))
        for seed, name in enumerate(names)
    ]
    blend = WeightedCombiner(
        weights=(0.2, 0.3, 0.5), inverse_temperatures=(0.5, 0.8, 1.0), inverse_temperature=1.25
    )
    fits = [fit("holdout", 30, name) for name in names[:-1]]
    folder = tmp_path_factory.mktemp("runs") / "blended"
    by_name = {f"{fit.model} {fit.split}": fit for fit in fits}
    return reports.write(write_run(folder, digits, held_out, models, fits=by_name, blend=blend))


def colours(shown: Any, selector: str, name: str) -> set[str]:
    return set(shown.eval_on_selector_all(selector, f"all => all.map(e => getComputedStyle(e).{name})"))


@pytest.mark.parametrize(
    ("width", "scheme", "expected"), [(1280, "light", LIGHT), (390, "dark", DARK), (320, "light", LIGHT)]
)
def test_a_browser_shows_it_all_and_requests_nothing(
    open_file: Any, page: Path, width: int, scheme: str, expected: list[str]
) -> None:
    shown = open_file(page, viewport={"width": width, "height": 1000}, color_scheme=scheme)
    shown.eval_on_selector_all("details", "all => all.forEach(details => details.open = true)")
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    assert shown.eval_on_selector_all("img, svg.figure, table", CLIPPED) == []
    assert shown.eval_on_selector_all("body *:not(svg, svg *)", OVERFLOWING) == []
    assert shown.eval_on_selector_all("img", "all => all.every(image => image.naturalWidth)")

    paper, ink, right, wrong = expected
    assert colours(shown, "body", "backgroundColor") == {paper}
    assert colours(shown, ".examples .right strong", "color") == {right}
    assert colours(shown, ".examples .wrong strong", "color") == {wrong}
    assert colours(shown, "#confusions svg text", "fill") > {ink}
    assert colours(shown, ".digit", "filter") == {"none" if scheme == "light" else "invert(1)"}


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_short_until_all_misclassified_digits_are_asked_for(
    open_file: Any, page: Path, width: int
) -> None:
    shown = open_file(page, viewport={"width": width, "height": 1000})
    listed = "all => all.filter(e => e.checkVisibility({contentVisibilityAuto: true})).length"
    assert shown.eval_on_selector_all("#misclassified li", listed) == 24
    assert shown.evaluate("document.documentElement.scrollHeight") < 6_000
    shown.click("#misclassified summary")
    assert shown.eval_on_selector_all("#misclassified li", listed) > 24


def test_a_dark_page_is_printed_light_and_whole(open_file: Any, page: Path) -> None:
    a4 = {"width": 680, "height": 1000}  # pixels within its margins
    shown = open_file(page, viewport=a4, color_scheme="dark")
    shown.emulate_media(media="print")
    assert colours(shown, "body", "backgroundColor") == {"rgb(255, 255, 255)"}
    assert colours(shown, "#confusions svg text", "fill") > {LIGHT[1]}
    assert colours(shown, ".digit", "filter") == {"none"}
    assert colours(shown, "nav", "display") == {"none"}
    assert shown.evaluate("document.documentElement.scrollWidth") == 680
    measure = "all => all.map(e => e.getBoundingClientRect().height)"
    heights = shown.eval_on_selector_all("#misclassified li", measure)
    assert len(heights) > 24
    assert 0 not in heights
    assert shown.eval_on_selector_all("img, svg.figure, table", CLIPPED) == []


def test_a_notebook_shows_all_figures_in_its_frame(open_file: Any, page: Path, tmp_path: Path) -> None:
    document = html.escape(page.read_text(encoding="utf-8"))
    around = tmp_path / "notebook.html"
    around.write_text(f'<base href="https://localhost/lab/"><iframe srcdoc="{document}"></iframe>')
    frame = open_file(around).frames[1]
    sizes = frame.eval_on_selector_all("svg.figure", "all => all.map(e => e.getBBox().width)")
    assert len(sizes) == len(FIGURES)
    marks = frame.eval_on_selector_all("svg use", "all => all.map(e => e.getBBox().width)")
    assert marks
    assert min(*sizes, *marks) > 0
