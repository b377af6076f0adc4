"""Any picture of a digit becomes one as MNIST's are."""

import numpy as np
import pytest

from digit_recognizer import data
from digit_recognizer.errors import PictureError
from digit_recognizer.reading.preparation import area_resize, prepare


def enlarge(digit: np.ndarray, times: int) -> np.ndarray:
    return np.kron(digit, np.ones((times, times)))


def difference(prepared: np.ndarray, digit: np.ndarray) -> float:
    """Return the mean difference of grey, of 255, between two digits."""
    return float(np.abs(prepared.astype(int) - digit).mean())


@pytest.fixture(scope="module")
def some(digits: data.Dataset) -> np.ndarray:
    return digits.test[:100].reshape(-1, 28, 28)


def test_mnist_digits_stay_nearly_as_they_are(some: np.ndarray) -> None:
    differences = [difference(prepare(digit), digit) for digit in some]
    assert np.median(differences) < 0.5
    assert np.mean(np.array(differences) < 2) >= 0.9


def test_inverted_shifted_and_enlarged_digits_come_out_alike(some: np.ndarray) -> None:
    for digit in some:
        expected = prepare(digit)
        assert np.array_equal(prepare(255 - digit), expected)
        shifted = np.pad(digit, ((0, 30), (12, 18)))
        assert prepare(shifted).shape == (28, 28)
    enlarged = [difference(prepare(enlarge(digit, 5)), prepare(digit)) for digit in some]
    assert np.median(enlarged) < 2


def test_uneven_grey_paper_is_evened(some: np.ndarray) -> None:
    paper = np.linspace(150, 230, 140)[None, :] * np.ones((140, 1))
    results = [
        difference(prepare(paper * (1 - enlarge(digit, 5) / 255)), prepare(enlarge(digit, 5)))
        for digit in some
    ]
    assert np.median(results) < 6


def test_a_thin_line_becomes_as_thick_as_mnist_strokes() -> None:
    canvas = np.full((400, 400), 255.0)
    canvas[50:350, 199:201] = 0
    inked = (prepare(canvas) > 127).sum(axis=1)
    assert inked.max() == 2


def test_blank_pictures_and_several_digits_are_refused(some: np.ndarray) -> None:
    for blank in (np.zeros((28, 28)), np.full((50, 30), 200.0), np.zeros((1, 1))):
        with pytest.raises(PictureError):
            prepare(blank)
    with pytest.raises(PictureError, match="several digits"):
        prepare(np.hstack([some[0], np.zeros((28, 28)), some[1]]))


def test_area_resize_keeps_the_mean(some: np.ndarray) -> None:
    for side in (7, 20, 28, 80):
        assert area_resize(some[0] / 255, side, side).mean() == pytest.approx(some[0].mean() / 255)
