import numpy as np
import pytest

from digit_recognizer.scoring import score


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
