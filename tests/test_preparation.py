"""Any picture of a digit becomes one as MNIST's are, or is refused."""

from collections.abc import Callable, Iterable

import cv2
import numpy as np
import pytest

from digit_recognizer import data, inference, runs
from digit_recognizer.errors import PictureError
from digit_recognizer.inference.preparation import prepare

Rng = np.random.Generator


def difference(prepared: np.ndarray, digit: np.ndarray, shift: int = 0) -> float:
    """Return the mean difference of grey, of 255, between two digits; at the best shift of so many pixels."""
    shifts = np.ndindex(2 * shift + 1, 2 * shift + 1)
    moved = (np.roll(prepared, (down - shift, right - shift), (0, 1)) for down, right in shifts)
    return min(float(np.abs(each.astype(int) - digit).mean()) for each in moved)


@pytest.fixture(scope="module")
def some(digits: data.Dataset) -> np.ndarray:
    return digits.test[:100].reshape(-1, 28, 28)


@pytest.fixture(scope="module")
def inks(some: np.ndarray) -> list[np.ndarray]:
    """Digits of 112x112 pixels, 0 for paper and 1 for ink."""
    return [
        cv2.resize(digit, (112, 112), interpolation=cv2.INTER_CUBIC).astype(float) / 255 for digit in some[:5]
    ]


def page(ink: np.ndarray, margin: int = 20, paper: float = 255, dark: float = 250) -> np.ndarray:
    return paper - dark * np.pad(ink, margin)


def ruled(ink: np.ndarray, down: int, across: int, grey: float, width: int = 1) -> np.ndarray:
    rules = np.full_like(page(ink), 255)
    for shift in range(width):
        if down:
            rules[5 + shift :: down] = grey
        if across:
            rules[:, 5 + shift :: across] = grey
    return np.minimum(page(ink), rules)


def on_table(ink: np.ndarray, sides: tuple[int, int, int, int], table: float) -> np.ndarray:
    return np.pad(page(ink, 0, 210, 170), (sides[:2], sides[2:]), constant_values=table)


def turned(picture: np.ndarray, degrees: float, outside: float) -> np.ndarray:
    side = len(picture)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 1)
    return cv2.warpAffine(picture, turn, (side, side), borderValue=outside)


def edged(ink: np.ndarray, where: tuple[slice, slice], grey: float) -> np.ndarray:
    picture = page(ink, 8)
    picture[where] = grey
    return picture


def dashed(ink: np.ndarray, period: int, length: int) -> np.ndarray:
    picture = page(ink)
    marked = np.arange(len(picture)) % period < length
    picture[-8:-6, marked], picture[marked, 5:7] = 40, 40
    return picture


def coloured(
    ink: np.ndarray, pen: tuple[int, int, int], paper: "tuple[int, int, int] | np.ndarray"
) -> np.ndarray:
    share = np.pad(ink, 10)[..., None]
    return np.array(paper) * (1 - share) + np.array(pen) * share


def scribbled(ink: np.ndarray) -> np.ndarray:
    """Return a dark blue digit over yellow scribbles on cyan: bright as the paper, further from it in RGB."""
    loops = [cv2.circle(np.zeros(ink.shape), at, 30, 1, 7) for at in ((35, 45), (80, 40), (70, 85))]
    return coloured(ink, (0, 20, 127), coloured(np.max(loops, axis=0), (182, 255, 0), (127, 255, 255)))


def shaded(ink: np.ndarray, shade: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    picture = page(ink, 20, 230, 170)
    y, x = np.mgrid[-1 : 1 : len(picture) * 1j, -1 : 1 : len(picture) * 1j]
    return picture * shade(x, y)


def in_comb(ink: np.ndarray, width: int, ticks: float, below: int) -> np.ndarray:
    """Return a digit in a form's field: a line below it, and one up on either side."""
    picture = page(ink)
    side, bottom = len(picture), len(picture) - below
    picture[bottom : bottom + width, 9:-9] = 80
    for left in (9, side - 9 - width):
        picture[bottom - int(ticks * side) : bottom + width, left : left + width] = 80
    return picture


def folded(rng: Rng, depth: float, degrees: float, offset: float = 0, crease: float = 0) -> np.ndarray:
    """Return blank paper, darker on one side of a fold, and in the crease; offset: from the middle."""
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    across = x * np.cos(np.deg2rad(degrees)) + y * np.sin(np.deg2rad(degrees)) - offset
    dark = depth * (across > 0) + crease * np.exp(-((across * 50) ** 2))
    return 220 - dark + rng.normal(0, 2, x.shape)


def half_in_shadow(ink: np.ndarray, paper: float = 220) -> np.ndarray:
    picture = page(ink, 40, paper, 170)
    picture[:, len(picture) // 2 :] *= 0.5
    return picture


def grained(ink: np.ndarray, rng: Rng) -> np.ndarray:
    picture = 255 - ink * (70 + 30 * rng.random(ink.shape))
    picture[np.unravel_index(ink.argmax(), ink.shape)] = 20  # one dark pixel
    return picture


READ: dict[str, Callable[[np.ndarray, Rng], np.ndarray]] = {
    "white on black": lambda ink, _: 255 - page(ink),
    "shifted": lambda ink, _: np.pad(page(ink), ((0, 30), (12, 18)), constant_values=255),
    "line on the left": lambda ink, _: edged(ink, np.s_[:, :2], 0),
    "line on the right": lambda ink, _: edged(ink, np.s_[:, -4:], 90),
    "line above, off the edge": lambda ink, _: edged(ink, np.s_[3:5], 60),
    "line below": lambda ink, _: edged(ink, np.s_[-2:], 0),
    "border of a pixel": lambda ink, _: np.pad(page(ink), 1),
    "thick border": lambda ink, _: np.pad(page(ink), 20, constant_values=60),
    "frame with a margin": lambda ink, _: np.pad(np.pad(page(ink), 3), 15, constant_values=255),
    "two frames": lambda ink, _: np.pad(np.pad(np.pad(np.pad(page(ink), 2), 5, constant_values=255), 2), 9,
                                        constant_values=255),
    "frame aslant": lambda ink, _: turned(np.pad(np.pad(page(ink), 3), 40, constant_values=255), 4, 255),
    "white margin round black": lambda ink, _: np.pad(255 - page(ink), 20, constant_values=255),
    "dark margin": lambda ink, _: np.pad(page(ink), 30, constant_values=30),
    "form's cell": lambda ink, _: ruled(ink, 130, 130, 80, 2),
    "form's comb": lambda ink, _: in_comb(ink, 2, 0.3, 8),
    "form's comb, low": lambda ink, _: in_comb(ink, 3, 0.15, 6),
    "form's comb, high": lambda ink, _: in_comb(ink, 2, 0.55, 8),
    "dashed lines": lambda ink, _: dashed(ink, 14, 9),
    "dotted lines": lambda ink, _: dashed(ink, 6, 2),
    "squared paper": lambda ink, _: ruled(ink, 16, 16, 215),
    "dark squared paper": lambda ink, _: ruled(ink, 40, 40, 120),
    "lined paper": lambda ink, _: ruled(ink, 30, 0, 150, 2),
    "lined upright": lambda ink, _: ruled(ink, 0, 35, 150),
    "lined aslant": lambda ink, _: turned(np.pad(ruled(ink, 40, 0, 120, 2), 0), 2, 255)[6:-6, 6:-6],
    "table on one side": lambda ink, _: on_table(ink, (0, 0, 0, 40), 50),
    "table on two sides": lambda ink, _: on_table(ink, (30, 0, 30, 0), 50),
    "table on three sides": lambda ink, _: on_table(ink, (40, 10, 30, 0), 90),
    "table all round": lambda ink, _: on_table(ink, (40, 15, 30, 20), 30),
    "sheet aslant on a table": lambda ink, _: turned(on_table(ink, (40, 40, 40, 40), 50), 5, 50),
    "light from one side": lambda ink, _: shaded(ink, lambda x, y: 0.8 + 0.1 * x - 0.08 * y),
    "shadow's edge": lambda ink, _: shaded(ink, lambda x, y: 1 - 0.25 / (1 + np.exp(20 * (y - x)))),
    "vignette": lambda ink, _: shaded(ink, lambda x, y: 1 - 0.25 * (x * x + y * y)),
    "noise": lambda ink, rng: page(ink, 20, 220, 150) + rng.normal(0, 6, (152, 152)),
    "pencil": grained,
    "red on green": lambda ink, _: coloured(ink, (255, 0, 0), (0, 128, 0)),
    "pink on kraft": lambda ink, _: coloured(ink, (255, 160, 180), (225, 195, 150)),
    "dark blue over bright yellow": lambda ink, _: scribbled(ink),
    "dark blue over a bright band": lambda ink, _: coloured(
        ink,
        (0, 38, 255),
        np.array((0, 255, 255))
        + np.exp(-((np.arange(132) - 50.0) ** 2) / 200)[:, None] * np.array((200, -20, -255)),
    ),
    "highlighter": lambda ink, _: coloured(ink, (255, 255, 102), (255, 255, 255)),
    "blue ink on lines of blue": lambda ink, _: np.minimum(
        coloured(ink, (20, 30, 120), (250, 250, 245)),
        np.where((np.arange(132) % 30 == 4)[:, None, None], (150, 170, 230), 255),
    ),
    "many pixels": lambda ink, _: cv2.resize(page(ink), (1500, 1500)),
}  # fmt: skip


@pytest.mark.parametrize("kind", READ)
def test_a_digit_comes_out_as_on_plain_paper(inks: list[np.ndarray], kind: str) -> None:
    rng = np.random.default_rng(0)
    pictures = [np.clip(READ[kind](ink, rng), 0, 255) for ink in inks]
    differences = [difference(prepare(a), prepare(page(b)), 1) for a, b in zip(pictures, inks, strict=True)]
    assert np.median(differences) < 9, differences
    assert max(differences) < 18, differences  # another digit's is 30 to 60


def side_by_side(inks: list[np.ndarray], gap: int) -> np.ndarray:
    """Return digits in a row, cropped, with a gap of so many pixels."""
    rows = [ink[:, np.flatnonzero((ink > 0.2).any(axis=0))] for ink in inks]
    return np.hstack([np.pad(row, ((0, 0), (0, gap))) for row in rows])


def stained(side: int, width: float) -> np.ndarray:
    row = cv2.getGaussianKernel(side, width)
    return 220 - 80 * (row @ row.T) / row.max() ** 2


REFUSED: dict[str, Callable[[list[np.ndarray], Rng], np.ndarray]] = {
    "blank black": lambda _, __: np.zeros((28, 28)),
    "blank grey": lambda _, __: np.full((50, 30), 200.0),
    "blank noise": lambda _, rng: 200 + rng.normal(0, 4, (120, 120)),
    "blank noise in 28x28": lambda _, rng: 128 + rng.normal(0, 12, (28, 28)),
    "blank noise in colour": lambda _, rng: 200 + rng.normal(0, 8, (200, 200, 3)),
    "blank texture": lambda _, rng: 180 + 60 * cv2.GaussianBlur(rng.normal(0, 1, (200, 200)), (0, 0), 3),
    "blank light from one side": lambda _, rng: np.linspace(90, 230, 150) + rng.normal(0, 2, (150, 150)),
    "blank vignette": lambda _, rng: shaded(np.zeros((112, 112)), lambda x, y: 1 - 0.3 * (x * x + y * y)),
    "blank stain": lambda _, rng: stained(150, 20) + rng.normal(0, 2, (150, 150)),
    "blank, folded": lambda _, rng: folded(rng, 10, 0),
    "blank, folded off the middle": lambda _, rng: folded(rng, 15, 0, 0.3),
    "blank, folded across": lambda _, rng: folded(rng, 8, 90, crease=15),
    "blank, folded aslant": lambda _, rng: folded(rng, 20, 80, -0.4),
    "blank, bright on one side": lambda _, rng: folded(rng, -12, 0, -0.25),
    "shadow on half of a digit": lambda inks, _: half_in_shadow(inks[0]),
    "shadow beside a digit": lambda inks, _: half_in_shadow(np.pad(inks[1], ((0, 0), (0, 140)))),
    "lines alone": lambda _, rng: ruled(np.zeros((112, 112)), 20, 0, 120),
    "lines both ways": lambda _, rng: ruled(np.zeros((112, 112)), 24, 24, 120) - 2 * rng.random((152, 152)),
    "frame alone": lambda inks, _: np.pad(np.pad(page(0 * inks[0]), 3), 15, constant_values=255),
    "blot": lambda _, __: 255.0 - cv2.circle(np.zeros((100, 100)), (50, 50), 12, 255, -1),
    "several digits far apart": lambda inks, _: page(side_by_side(inks[:2], 70)),
    "several digits in a row": lambda inks, _: page(side_by_side(inks[:4], 22)),
    "several digits close together": lambda inks, _: page(side_by_side(inks[:3], 10)),
    "several digits stacked": lambda inks, _: page(np.vstack(inks[:2])),
    "several digits aslant": lambda inks, _: page(np.block([[inks[0], 0 * inks[0]], [0 * inks[0], inks[1]]])),
    "several digits in a square": lambda inks, _: page(np.block([[inks[0], inks[1]], [inks[2], inks[3]]])),
    "several digits in cells": lambda inks, _: np.hstack([np.pad(page(ink), 2) for ink in inks[:3]]),
    "several, one smaller": lambda inks, _: page(side_by_side([inks[0], np.pad(inks[1][::2, ::2], 28)], 9)),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_one_digit_is_refused(inks: list[np.ndarray], kind: str) -> None:
    why = {
        "blank": "is blank|no stroke",
        "blank,": "is blank",
        "shadow": "in shadow",
        "lines": "lines alone",
        "several": "several digits",
    }.get(kind.split()[0])
    with pytest.raises(PictureError, match=why):
        prepare(np.clip(REFUSED[kind](inks, np.random.default_rng(0)), 0, 255))


def test_mnist_digits_stay_nearly_as_they_are(some: np.ndarray) -> None:
    differences = [difference(prepare(digit), digit) for digit in some]
    assert np.median(differences) < 1.5
    assert np.mean(np.array(differences) < 4) >= 0.9


def test_sizes_and_thickness_make_little_difference(some: np.ndarray) -> None:
    for side, most in {21: 12, 35: 10, 140: 1, 500: 2}.items():
        resized = [cv2.resize(digit, (side, side), interpolation=cv2.INTER_AREA) for digit in some[:20]]
        pairs = zip(resized, some, strict=False)
        assert np.median([difference(prepare(a), prepare(b), 1) for a, b in pairs]) < most
    thin = np.full((400, 400), 255.0)
    thin[50:350, 199:200] = 0
    assert prepare(thin).max() == 255  # not as faint as a pixel's share of twenty


@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (1, 500), (500, 2)])
def test_a_picture_too_small_for_a_digit_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match=f"is {shape[1]}x{shape[0]} pixels"):
        prepare(np.zeros(shape))


def test_parts_of_a_digit_are_joined_and_dots_left_out(inks: list[np.ndarray]) -> None:
    body, bar = np.zeros((2, 120, 100))
    cv2.ellipse(body, (50, 75), (28, 28), 0, -90, 150, 1, 7)
    cv2.line(bar, (42, 22), (76, 22), 1, 7)  # of a 5, apart from its body
    assert difference(prepare(page(body + bar)), prepare(page(body))) > 20
    for ink in inks:
        plain = np.pad(side_by_side([ink], 0), ((0, 0), (0, 30)))
        dotted = cv2.circle(plain.copy(), (plain.shape[1] - 8, 85), 5, 1, -1)
        assert difference(prepare(page(dotted)), prepare(page(plain))) < 2


@pytest.mark.slow
def test_digits_of_any_size_and_paper_are_predicted_nearly_as_well(sample_run: runs.Run) -> None:
    sample, predict_proba = data.load(data.sample_folder()), inference.load(sample_run)
    test, labels, rng = sample.test[:100], np.array(sample.test_labels[:100]), np.random.default_rng(0)

    def on_paper(ink: np.ndarray) -> np.ndarray:
        """Return dark ink on grey, uneven paper, off the middle."""
        margin = len(ink) // 4
        top, left = rng.integers(0, margin + 1, 2)
        shifted = np.pad(ink / 255, ((top, margin - top), (left, margin - left)))
        slope = np.linspace(130, 210, len(shifted))
        return np.clip((slope[None] + slope[:, None] / 4) * (1 - 0.85 * shifted), 0, 255).astype(np.uint8)

    def right(pictures: Iterable[np.ndarray]) -> np.ndarray:
        digits = np.stack([prepare(picture).ravel() for picture in pictures])
        return predict_proba(digits).argmax(axis=1) == labels[: len(digits)]

    expected = predict_proba(test).argmax(axis=1) == labels
    assert expected.mean() > 0.96
    shares = []
    for side, count in {14: 100, 28: 100, 70: 100, 160: 50, 400: 50}.items():  # large pictures take longest
        way = cv2.INTER_AREA if side < 28 else cv2.INTER_CUBIC
        inks = [cv2.resize(digit.reshape(28, 28), (side, side), interpolation=way) for digit in test[:count]]
        lost = [expected[:count].mean() - right(each).mean() for each in (inks, map(on_paper, inks))]
        shares.append(lost)
    plain, altered = np.mean(shares, axis=0)
    assert plain <= 0.01
    assert altered <= 0.03
