"""The page that `draw` writes, in a real browser: what is drawn on it is read as `predict` reads it."""
# ruff: noqa: F811

import base64
import io
import json
import math
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browsers import browser, open_file  # noqa: F401
from conftest import typed
from PIL import Image
from pydantic_core import to_json

from digit_recognizer import data, inference, pipeline, runs
from digit_recognizer.errors import PictureError
from digit_recognizer.inference import page as drawing_page
from digit_recognizer.inference import preparation
from digit_recognizer.nets import pipelines
from digit_recognizer.settings import KerasSettings, MLPSettings, Settings

pytestmark = pytest.mark.slow
# Probabilities may differ by it: OpenCV before 5 rounds where a deskewed pixel comes from to 1/32.
LIMIT = 0.005 if int(cv2.__version__.split(".")[0]) >= 5 else 0.02
Point = tuple[float, float]
IDLE = "() => new Promise(done => (function check() { busy || stale ? setTimeout(check, 2) : done(); })())"
FORWARD = (
    "([net, rows]) => { const read = makeNet(JSON.parse(net)); return rows.map(row => [...read(row)]); }"
)


def arc(x: float, y: float, width: float, height: float, start: int, end: int) -> list[Point]:
    """Return points of an ellipse's arc, from one angle in degrees to another; 0 is right, 90 is down."""
    angles = [math.radians(start + (end - start) * part / 24) for part in range(25)]
    return [(x + width * math.cos(angle), y + height * math.sin(angle)) for angle in angles]


# Each digit's strokes, in a box from 0 to 1.
STROKES: list[list[list[Point]]] = [
    [arc(0.5, 0.5, 0.32, 0.5, -90, -450)],
    [[(0.36, 0.18), (0.52, 0), (0.52, 1)]],
    [[*arc(0.5, 0.28, 0.3, 0.28, -170, 30), (0.2, 1), (0.85, 1)]],
    [[*arc(0.45, 0.25, 0.28, 0.25, -150, 90), *arc(0.45, 0.74, 0.32, 0.26, -90, 150)]],
    [[(0.3, 0), (0.15, 0.6), (0.85, 0.6)], [(0.65, 0.25), (0.65, 1)]],
    [[(0.3, 0), (0.26, 0.45), *arc(0.45, 0.7, 0.32, 0.3, -110, 140)], [(0.3, 0), (0.78, 0)]],
    [[(0.65, 0), (0.4, 0.25), (0.26, 0.55), *arc(0.5, 0.72, 0.26, 0.28, 190, -170)]],
    [[(0.2, 0), (0.8, 0), (0.4, 1)]],
    [[*arc(0.5, 0.25, 0.23, 0.25, 90, 450), *arc(0.5, 0.75, 0.28, 0.25, -90, 270)]],
    [[*arc(0.5, 0.3, 0.25, 0.3, 0, -360), (0.74, 0.6), (0.68, 1)]],
]
# Height of the digit and its box's left and top, of the board's side; points between two events of the mouse.
VARIANTS = [(0.35, 0.06, 0.6, 1), (0.55, 0.42, 0.04, 3), (0.8, 0.17, 0.16, 2)]


def draw(shown: Any, strokes: list[list[Point]], size: float, left: float, top: float, speed: int) -> None:
    """Draw strokes with the mouse and wait until they are read."""
    box = shown.locator("#board").bounding_box()
    for stroke in strokes:
        points = [*stroke[:-3:speed], *stroke[-3:]] if len(stroke) > 9 else stroke
        for number, (x, y) in enumerate(points):
            place = (left + size * x) * box["width"] + box["x"], (top + size * y) * box["height"] + box["y"]
            between = 4 - speed if number and len(stroke) <= 9 else 1  # straight lines have few points
            shown.mouse.move(*place, steps=between)
            if number == 0:
                shown.mouse.down()
        shown.mouse.up()
    shown.evaluate(IDLE)


def status(shown: Any) -> str:
    shown.evaluate(IDLE)
    return shown.get_by_role("status").inner_text()


@pytest.fixture(scope="module")
def read_by(tmp_path_factory: pytest.TempPathFactory, sample_run: runs.Run) -> runs.Run:
    """The run that reads what is drawn: a copy, which gets the page."""
    return runs.load(shutil.copytree(sample_run.folder, tmp_path_factory.mktemp("draw") / "sample"))


@pytest.fixture(scope="module")
def page(read_by: runs.Run) -> Path:
    """The path that the command prints."""
    ended = typed("draw", read_by.folder, "--no-open", cwd=read_by.folder)
    assert ended.code == 0, ended.err
    return Path(ended.out.splitlines()[-1])


@pytest.fixture
def open_page(open_file: Any, page: Path) -> Any:
    return partial(open_file, page)


def test_the_page_is_small(read_by: runs.Run, page: Path) -> None:
    assert page == read_by.folder / "draw.html"
    assert page.stat().st_size < 1_000_000


def test_drawn_digits_are_read_right_and_as_predict_reads_them(open_page: Any, read_by: runs.Run) -> None:
    shown, predict_proba = open_page(), inference.load(read_by)
    assert status(shown) == ""
    right = 0
    for variant in VARIANTS:
        for digit, strokes in enumerate(STROKES):
            draw(shown, strokes, *variant)
            right += status(shown).startswith(str(digit))
            prepared = preparation.prepare(drawn(shown))
            seen = np.array(shown.evaluate("[...prediction.digit]"), int).reshape(28, 28)
            assert np.abs(seen - prepared).max() <= 1
            probabilities = shown.evaluate("[...prediction.probabilities]")
            assert np.abs(predict_proba(prepared.reshape(1, -1))[0] - probabilities).max() <= 0.01
            shown.get_by_role("button", name="Clear").click()
            assert status(shown) == ""
    assert right >= 27


def test_probabilities_are_live_while_a_stroke_is_drawn(open_page: Any) -> None:
    shown = open_page()
    box = shown.locator("#board").bounding_box()
    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    shown.mouse.down()
    shown.mouse.move(box["x"] + box["width"] / 2, box["y"] + 350, steps=20)
    shown.evaluate(IDLE)
    assert shown.locator(".best .name").inner_text() == "1"
    assert shown.get_by_role("status").inner_text() == ""  # a screen reader is told at the stroke's end
    said = shown.locator("#words").inner_text()
    assert re.fullmatch(r"\d+% likely(; next \d, \d+%)?", said)
    shown.mouse.up()
    assert status(shown) == f"1, {said}"


# Where two digits are drawn, of 0.3 of the board's height: left and top of each.
PLACES = {
    "side by side": [(0.05, 0.3), (0.6, 0.3)],
    "close together": [(0.2, 0.3), (0.5, 0.3)],
    "stacked": [(0.3, 0.1), (0.3, 0.5)],
    "aslant": [(0.1, 0.1), (0.45, 0.5)],
}


def drawn(shown: Any) -> np.ndarray:
    """Return the picture of the drawing that the page reads."""
    png = base64.b64decode(shown.evaluate("paper.toDataURL().split(',')[1]"))
    return np.array(Image.open(io.BytesIO(png)).convert("L"))


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_several_digits_are_no_digit(open_page: Any, places: list[Point]) -> None:
    shown = open_page()
    for digit, (left, top) in zip((8, 3), places, strict=True):
        draw(shown, STROKES[digit], 0.3, left, top, 1)
    assert status(shown).startswith("Several digits")
    with pytest.raises(PictureError, match="several digits"):
        preparation.prepare(drawn(shown))
    shown.get_by_role("button", name="Undo").click()
    assert status(shown).startswith("8")


def test_a_dot_is_no_digit(open_page: Any) -> None:
    shown = open_page()
    draw(shown, [[(0.5, 0.5), (0.51, 0.5)]], 0.3, 0.3, 0.3, 1)
    assert "no stroke" in status(shown)
    assert shown.locator("#words").inner_text() == status(shown)
    assert set(shown.locator(".value").all_inner_texts()) == {"\N{EN DASH}"}  # no probability, not 0%
    with pytest.raises(PictureError, match="no stroke"):
        preparation.prepare(drawn(shown))


def test_keys_draw_undo_and_clear(open_page: Any) -> None:
    shown = open_page()
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.id") == "board"
    for _ in range(2):
        shown.keyboard.press("Space")
        for _ in range(25):
            shown.keyboard.press("ArrowDown")
        shown.keyboard.press("Space")
        assert status(shown).startswith("1")
        for _ in range(25):
            shown.keyboard.press("ArrowUp")
    shown.keyboard.press("Control+z")
    assert status(shown).startswith("1")
    shown.keyboard.press("Control+z")
    assert status(shown) == ""
    shown.keyboard.press("Space")
    shown.keyboard.press("ArrowLeft")
    shown.keyboard.press("Escape")
    assert status(shown) == ""
    assert shown.get_by_role("button", name="Undo").is_disabled()


def swipe(shown: Any, start: Point, end: Point) -> None:
    """Move a finger over the screen."""
    touch = shown.context.new_cdp_session(shown)
    for part in range(21):
        x, y = (a + (b - a) * part / 20 for a, b in zip(start, end, strict=True))
        kind = "touchMove" if part else "touchStart"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_finger_draws_and_does_not_scroll(open_page: Any) -> None:
    phone = {"width": 375, "height": 500}
    shown = open_page(viewport=phone, has_touch=True, is_mobile=True)
    box = shown.locator("#board").bounding_box()
    middle = box["x"] + box["width"] / 2
    swipe(shown, (middle, box["y"] + box["height"] * 0.85), (middle, box["y"] + box["height"] * 0.15))
    assert status(shown).startswith("1")
    assert shown.evaluate("[scrollY, visualViewport.offsetTop, strokes.length]") == [0, 0, 1]
    swipe(shown, (190, 480), (190, 100))  # beside the board it does
    shown.wait_for_timeout(300)
    assert shown.evaluate("scrollY") > 0


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_is_in_sight_on_wide_and_narrow_screens(open_page: Any, scheme: str, width: int) -> None:
    shown = open_page(viewport={"width": width, "height": 720}, color_scheme=scheme)
    draw(shown, STROKES[8], 0.8, 0.1, 0.1, 3)
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    for part in ("#board", "#undo", "#clear", "#words", "#seen", "#bars"):
        box = shown.locator(part).bounding_box()
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= 720
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(243, 245, 248)", "dark": "rgb(14, 18, 23)"}[scheme]


NETS = {
    "convolutions with batch normalisation, flattened": KerasSettings(
        channels=(8, 12, 6), kernel_sizes=(5, 4), strides=(2, 1, 3), hidden=(20,), batch_norm=True, tta=True
    ),
    "averaged channels": KerasSettings(channels=(8, 12), hidden=(), global_pool=True, activation="gelu"),
    "sigmoids": KerasSettings(hidden=(30,), output="sigmoid", activation="elu", batch_norm=True),
    "standardised": MLPSettings(hidden=(30,), preprocessing="standardize", activation="tanh", deskew=True),
    "projected": MLPSettings(hidden=(30, 20), preprocessing="pca", activation="logistic"),
}


@pytest.mark.parametrize("name", NETS)
def test_every_kind_of_net_predicts_the_same(open_page: Any, digits: data.Dataset, name: str) -> None:
    settings: Settings = NETS[name].replace(epochs=3)
    classifier = pipelines.build(settings, 0).fit(digits.train.pixels, digits.train.labels)
    stored = pipelines.to_arrays(classifier)
    model = drawing_page.make_model(settings, [drawing_page.fuse_batch_norm(stored, settings)])
    net = to_json(drawing_page.Net([model], None)).decode()
    rows = digits.test[:40]
    probabilities = np.array(open_page().evaluate(FORWARD, [net, rows.tolist()]))
    assert np.abs(probabilities - classifier.predict_proba(rows)).max() <= LIMIT


@pytest.mark.parametrize("method", ["weighted", "mean", "stacked"])
def test_blends_predict_the_same(
    open_page: Any, digits: data.Dataset, tiny_run: runs.Run, tmp_path: Path, method: Any
) -> None:
    run = pipeline.blend_runs([tiny_run], method, out=tmp_path, name=None, on_notice=print)
    rows = digits.test[:40]
    net = to_json(drawing_page.read_net(run)).decode()
    probabilities = np.array(open_page().evaluate(FORWARD, [net, rows.tolist()]))
    assert np.abs(probabilities - inference.load(run)(rows)).max() <= LIMIT


def test_the_page_opens_where_there_is_a_display(
    tiny_run: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    run = pipeline.blend_runs([tiny_run], "mean", out=tmp_path, name="mean", on_notice=print)
    assert typed("draw", "--out", tmp_path, cwd=tmp_path).code == 0
    monkeypatch.setenv("DISPLAY", ":0")
    assert typed("draw", "--out", tmp_path, "--no-open", cwd=tmp_path).code == 0
    assert opened == []
    ended = typed("draw", "mean", "--out", tmp_path, "--json", cwd=tmp_path)
    path = json.loads(ended.out)["page"]
    assert opened == [Path(path).as_uri()]
    assert path == str(run.folder / drawing_page.PAGE)


def test_without_a_run_the_sample_is_trained_on(
    read_by: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[pipeline.Job] = []
    monkeypatch.setattr(pipeline, "train", lambda job, **_: jobs.append(job) or read_by)
    ended = typed("draw", "--no-open", cwd=tmp_path)
    assert ended.code == 0
    assert ended.err.count("\n") == 1
    assert "trained on the sample first" in ended.err
    assert jobs[0].data_dir == data.sample_folder()
