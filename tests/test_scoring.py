import numpy as np
import pytest

from digit_recognizer.scoring import by_fold, score


def test_accuracy_and_wilsons_interval() -> None:
    labels = np.repeat(np.arange(10), 10)
    probabilities = np.eye(10)[labels]
    probabilities[:5] = np.eye(10)[9]
    result = score(labels, probabilities)
    assert result.accuracy == 0.95
    assert result.digits == 100
    # (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n) with p = 0.95, n = 100, z = 1.96
    assert (result.low, result.high) == pytest.approx((0.8882, 0.9785), abs=1e-4)


def test_the_interval_covers_the_true_accuracy_about_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    labels = np.zeros(400, int)
    covered = 0
    for _ in range(300):
        right = random.random(400) < 0.97
        result = score(labels, np.eye(10)[np.where(right, 0, 1)])
        covered += result.low <= 0.97 <= result.high
    assert 0.90 <= covered / 300 <= 0.99


def test_all_right_is_not_certainty() -> None:
    labels = np.arange(10)
    result = score(labels, np.eye(10))
    assert result.accuracy == result.high == 1
    assert 0.6 < result.low < 0.8


def test_predicting_digits_again_makes_the_interval_no_narrower() -> None:
    labels = np.repeat(np.arange(10), 10)
    probabilities = np.eye(10)[labels]
    probabilities[:5] = np.eye(10)[9]
    once = score(labels, probabilities)
    twice = score(np.tile(labels, 2), np.tile(probabilities, (2, 1)), np.tile(np.arange(100), 2))
    assert twice == once


def test_each_fold_is_scored_by_itself() -> None:
    labels = np.array([1, 1, 2, 2, 3, 3])
    probabilities = np.eye(10)[[1, 1, 2, 9, 9, 9]]
    assert by_fold(labels, probabilities, np.array([0, 0, 1, 1, 2, 2])) == [1, 0.5, 0]
