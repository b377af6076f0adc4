import numpy as np
import pytest

from digit_recognizer.scoring import by_fold, calibration, confusions, score


def test_accuracy_and_wilsons_interval_over_different_digits() -> None:
    labels = np.repeat(np.arange(10), 10)
    probabilities = np.eye(10)[labels]
    certain = score(labels, probabilities)
    assert certain.accuracy == certain.high == 1
    assert certain.low == pytest.approx(100 / (100 + 1.96**2), abs=1e-4)
    probabilities[:5] = np.eye(10)[9]
    result = score(labels, probabilities)
    assert (result.accuracy, result.digits) == (0.95, 100)
    # (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = 0.95, n = 100, z = 1.96
    assert (result.low, result.high) == pytest.approx((0.8882, 0.9785), abs=1e-4)
    twice = score(np.tile(labels, 2), np.tile(probabilities, (2, 1)), np.tile(np.arange(100), 2))
    assert twice == result  # a digit that is predicted again makes the interval no narrower


def test_each_fold_is_scored_by_itself() -> None:
    labels = np.array([1, 1, 2, 2, 3, 3])
    probabilities = np.eye(10)[[1, 1, 2, 9, 9, 9]]
    assert by_fold(labels, probabilities, np.array([0, 0, 1, 1, 2, 2])) == [1, 0.5, 0]


def test_calibration_counts_and_compares_bin_by_bin() -> None:
    """Four digits given 0.95, three of them right, and two given 0.6 and 0.64, one of them right."""
    probabilities = np.full((6, 10), 0.0)
    probabilities[:4, 1], probabilities[4, 2], probabilities[5, 3] = 0.95, 0.6, 0.64
    result = calibration(np.array([1, 1, 1, 7, 2, 7]), probabilities)
    np.testing.assert_allclose(result.confidence, [0.6, 0.64, 0.95])
    np.testing.assert_allclose(result.accuracy, [1, 0, 0.75])
    assert result.counts.tolist() == [1, 1, 4]
    assert result.error == pytest.approx((0.4 + 0.64 + 4 * 0.2) / 6)
    last_bin = score(np.array([1, 1, 1, 7]), probabilities[:4])
    assert (result.low[2], result.high[2]) == pytest.approx((last_bin.low, last_bin.high))


def test_calibration_of_sure_and_right_predictions_is_without_error() -> None:
    labels = np.arange(10)
    result = calibration(labels, np.eye(10, dtype=np.float32) * np.float32(1.0000001))
    assert (result.confidence.tolist(), result.accuracy.tolist(), result.counts.tolist()) == ([1], [1], [10])
    assert result.error == 0


def test_confusions_join_both_directions_most_often_first() -> None:
    matrix = np.diag(np.full(10, 99))
    matrix[3, 5], matrix[5, 3], matrix[4, 9], matrix[0, 6] = 2, 1, 4, 1
    assert [str(pair) for pair in confusions(matrix)] == [
        "4 and 9: 4 errors (4 predicted as 9: 4, 9 as 4: 0)",
        "3 and 5: 3 errors (3 predicted as 5: 2, 5 as 3: 1)",
        "0 and 6: 1 error (0 predicted as 6: 1, 6 as 0: 0)",
    ]
    assert confusions(np.diag(np.full(10, 99))) == []
