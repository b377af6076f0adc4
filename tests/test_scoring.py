import numpy as np
import pytest

from digit_recognizer.predictions import HeldOut
from digit_recognizer.scoring import (
    Accuracy,
    HeldOutDigits,
    accuracy,
    by_digit,
    calibration,
    confusions,
    errors,
    estimate,
    wilson,
)


def held_out(right: np.ndarray, rows: np.ndarray | None = None) -> HeldOutDigits:
    rows = np.arange(len(right)) if rows is None else rows
    return HeldOutDigits(rows, right.astype(float), np.zeros(len(right)))


def ends(score: Accuracy) -> tuple[float, float]:
    return score.low, score.high


def test_accuracy_and_errors() -> None:
    assert accuracy(np.array([1, 2, 3, 4]), np.eye(10)[[1, 2, 3, 9]]) == 0.75
    assert errors(0.99628, 28_000) == 104
    assert errors(1.0, 28_000) == 0


def test_wilsons_interval() -> None:
    # (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = 0.95, n = 100, z = 1.96
    assert ends(wilson(0.95, 100)) == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert ends(wilson(1.0, 100)) == pytest.approx((100 / (100 + 1.96**2), 1), abs=1e-4)
    assert all(wilson(1.0, digits).high == 1 and wilson(0.0, digits).low == 0 for digits in range(1, 2200))


def test_without_margins_the_estimate_is_the_share_of_the_held_out_rows() -> None:
    right = np.repeat([True, False], [95, 5])
    found = estimate(held_out(right, np.arange(100, 200)), 1000, None)
    assert found.score == found.raw
    assert (found.score, found.digits, found.worth) == (wilson(0.95, 100), 100, 100)
    assert np.sum(found.influence**2) == pytest.approx(0.95 * 0.05 / 100)
    assert not found.influence[:100].any()
    assert not found.influence[200:].any()


def test_a_digit_that_is_predicted_twice_counts_once() -> None:
    """As in repeated cross-validation: one of its two predictions is right, so half of it is."""
    labels, rows = np.array([1, 2, 1, 2]), np.array([7, 3, 7, 3])
    digits = by_digit(HeldOut(rows, np.zeros(4, int), labels), np.eye(10)[[1, 2, 1, 5]])
    assert (digits.rows.tolist(), digits.right.tolist()) == ([3, 7], [0.5, 1])
    np.testing.assert_allclose(digits.loss, [-np.log(1e-6) / 2, 0])
    assert estimate(digits, 10, None).digits == 2


ROWS, SHARE = 12_000, 0.1


def hard_digits(seed: int, known: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return margins of two references, and whether a model is right: hard digits are hard for all.

    known: how much of the difficulty the references know.
    """
    rng = np.random.default_rng(seed)
    difficulty, noise = rng.normal(size=ROWS), rng.normal(size=(ROWS, 2))
    margins = 6 - 3 * (known * difficulty[:, None] + (1 - known + 0.2) * noise)
    chance_of_error = 1 / (1 + np.exp(10 - 5 * difficulty))
    return margins, rng.random(ROWS) >= chance_of_error


def holdouts(right: np.ndarray, margins: np.ndarray, count: int) -> np.ndarray:
    """Return of holdouts: adjusted and raw error, and whether the interval holds the accuracy of all rows."""
    found = []
    for seed in range(count):
        rows = np.sort(np.random.default_rng(seed).choice(ROWS, int(SHARE * ROWS), replace=False))
        each = estimate(held_out(right[rows], rows), ROWS, margins)
        both = (each.score.accuracy - right.mean(), each.raw.accuracy - right.mean())
        found.append((*both, each.score.low <= right.mean() <= each.score.high, each.worth))
    return np.array(found)


def test_margins_take_out_how_hard_the_held_out_rows_are() -> None:
    margins, right = hard_digits(0)
    adjusted, raw, inside, worth = holdouts(right, margins, 60).T
    assert np.sqrt(np.mean(adjusted**2)) < 0.75 * np.sqrt(np.mean(raw**2))
    assert abs(adjusted.mean()) < 3 * adjusted.std() / np.sqrt(60)  # without bias
    assert inside.mean() >= 0.9
    assert np.median(worth) > 1.5 * SHARE * ROWS


def test_margins_that_know_nothing_change_nothing() -> None:
    margins, right = hard_digits(1, known=0.0)
    rng = np.random.default_rng(0)
    adjusted, raw, _inside, worth = holdouts(right, rng.permutation(margins), 40).T
    assert np.abs(adjusted - raw).max() < np.abs(raw).max() / 2
    assert 0.85 * SHARE * ROWS < np.median(worth) < 1.15 * SHARE * ROWS


@pytest.mark.parametrize("wrong", [0, 4, 196, 200], ids=str)
def test_too_few_errors_to_learn_from_are_not_adjusted(wrong: int) -> None:
    right = np.arange(200) >= wrong
    found = estimate(held_out(right), 1000, np.random.default_rng(0).normal(size=(1000, 2)))
    assert found.score == found.raw
    assert found.score.accuracy == pytest.approx(1 - wrong / 200)


def test_a_cross_validation_of_all_rows_is_not_adjusted() -> None:
    margins, right = hard_digits(2)
    found = estimate(held_out(right), ROWS, margins)
    assert found.score == found.raw


def test_calibration_counts_and_compares_bin_by_bin() -> None:
    """Four digits given 0.95, three of them right, and two given 0.6 and 0.64, one of them right."""
    probabilities = np.full((6, 10), 0.0)
    probabilities[:4, 1], probabilities[4, 2], probabilities[5, 3] = 0.95, 0.6, 0.64
    result = calibration(np.array([1, 1, 1, 7, 2, 7]), probabilities)
    np.testing.assert_allclose(result.confidence, [0.6, 0.64, 0.95])
    np.testing.assert_allclose(result.accuracy, [1, 0, 0.75])
    assert result.counts.tolist() == [1, 1, 4]
    assert result.error == pytest.approx((0.4 + 0.64 + 4 * 0.2) / 6)
    assert (result.low[2], result.high[2]) == pytest.approx(ends(wilson(0.75, 4)))


def test_calibration_of_sure_and_right_predictions_is_without_error() -> None:
    labels = np.arange(10)
    result = calibration(labels, np.eye(10, dtype=np.float32) * np.float32(1.0000001))
    assert (result.confidence.tolist(), result.accuracy.tolist(), result.counts.tolist()) == ([1], [1], [10])
    assert result.error == 0


def test_confusions_join_both_directions_most_often_first() -> None:
    matrix = np.diag(np.full(10, 99))
    matrix[3, 5], matrix[5, 3], matrix[4, 9], matrix[0, 6] = 2, 1, 4, 1
    assert confusions(matrix) == [
        "4 and 9: 4 errors (4 predicted as 9: 4, 9 as 4: 0)",
        "3 and 5: 3 errors (3 predicted as 5: 2, 5 as 3: 1)",
        "0 and 6: 1 error (0 predicted as 6: 1, 6 as 0: 0)",
    ]
    assert confusions(np.diag(np.full(10, 99))) == []
