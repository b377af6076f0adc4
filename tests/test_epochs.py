import numpy as np
import pytest

from digit_recognizer import data
from digit_recognizer.errors import FitError
from digit_recognizer.nets import pipelines
from digit_recognizer.nets.augment import Augmentation
from digit_recognizer.nets.epochs import Epoch, check_finite, check_probabilities, iter_epochs, learning_rates
from digit_recognizer.settings import KerasSettings, MLPSettings


@pytest.fixture(scope="module")
def images(digits: data.Dataset) -> np.ndarray:
    return pipelines.scale(digits.train.pixels[:40])


def test_epochs_take_every_row_once_in_new_orders(images: np.ndarray) -> None:
    orders = []
    for epoch in iter_epochs(images, 3, None, Augmentation(), np.random.RandomState(0)):
        np.testing.assert_array_equal(epoch.images, images[epoch.order])
        assert sorted(epoch.order) == list(range(40))
        orders.append(epoch.order.tolist())
    assert len(orders) == 3
    assert orders[0] != orders[1] != orders[2]


def test_epochs_divide_the_training_evenly(images: np.ndarray) -> None:
    parts = [
        (epoch.start, epoch.end)
        for epoch in iter_epochs(images, 4, None, Augmentation(), np.random.RandomState(0))
    ]
    np.testing.assert_allclose(parts, [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)])
    assert parts[-1][1] == 1


def in_rows_order(images: np.ndarray, strength: float, end: float, seed: int) -> list[np.ndarray]:
    augmented = []
    for epoch in iter_epochs(images, 3, None, Augmentation(strength, end), np.random.RandomState(seed)):
        restored = np.empty_like(epoch.images)
        restored[epoch.order] = epoch.images
        augmented.append(restored)
    return augmented


def test_epochs_augment_anew_and_by_the_seed_alone(images: np.ndarray) -> None:
    first, second, third = in_rows_order(images, 1.0, 1.0, seed=0)
    assert (first != second).any(axis=1).all()
    assert (second != third).any(axis=1).all()
    for before, after in zip((first, second, third), in_rows_order(images, 1.0, 1.0, seed=0), strict=True):
        np.testing.assert_array_equal(after, before)
    assert (in_rows_order(images, 1.0, 1.0, seed=1)[0] != first).any()


def test_augmentation_weakens_along_the_training(images: np.ndarray) -> None:
    moved = [np.abs(rows - images).mean() for rows in in_rows_order(images, 2.0, 0.0, seed=0)]
    assert moved == sorted(moved, reverse=True)
    assert moved[2] < 0.8 * moved[0]


class Clock:
    """Stand for the module `time`: each epoch takes as long as the test says."""

    now = 1000.0

    def time(self) -> float:
        return self.now


def timed(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch, expected: int, seconds: list[float]
) -> list[float]:
    """Return the ends of a training's epochs within 10 seconds, if they take these seconds each."""
    clock = Clock()
    monkeypatch.setattr("digit_recognizer.nets.epochs.time", clock)
    ends = []
    for epoch in iter_epochs(images, expected, clock.now + 10, Augmentation(), np.random.RandomState(0)):
        clock.now += seconds[min(len(ends), len(seconds) - 1)]
        ends.append(epoch.end)
    assert clock.now < 1000 + 10 + 0.1 * seconds[-1] + 1e-9
    return ends


def test_the_deadline_decides_how_many_epochs_fit(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for expected in (1, 5, 10, 40):
        ends = timed(images, monkeypatch, expected, [1.0])
        assert len(ends) == (1 if expected == 1 else pytest.approx(9.5, abs=0.6))
        assert ends[-1] == 1
        assert ends == sorted(ends)


def test_a_slow_first_epoch_is_not_projected(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    for expected, first, others in ((9, 1.9, 1.0), (90, 1.1, 0.1), (90, 0.9, 0.1)):
        ends = timed(images, monkeypatch, expected, [first, others])
        assert len(ends) == pytest.approx(expected, abs=1)
        assert ends[-1] == 1
        parts = np.diff([0.0, *ends])
        assert parts.max() < 1.5 * parts.min()


def test_a_machine_that_slows_down_at_once_ends_about_in_time(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert timed(images, monkeypatch, 3, [6.0]) == [1 / 3]
    assert timed(images, monkeypatch, 4, [4.5])[-1] == 1


def test_a_slow_first_epoch_of_a_long_training_is_projected(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("digit_recognizer.nets.epochs.time", clock)
    ends = []
    for epoch in iter_epochs(images, 3, clock.now + 300, Augmentation(), np.random.RandomState(0)):
        clock.now += 160  # the machine has slowed down since the three were planned
        ends.append(epoch.end)
    assert ends == [1 / 3]  # in time, rather than complete


def test_a_long_last_epoch_does_not_overrun_the_deadline(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("digit_recognizer.nets.epochs.time", clock)
    for _ in iter_epochs(images, 10, clock.now + 998, Augmentation(), np.random.RandomState(0)):
        clock.now += 100
    assert clock.now == 1000 + 900


def test_there_is_a_highest_number_of_epochs(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("digit_recognizer.nets.epochs.MAX_EPOCHS", 6)
    ends = timed(images, monkeypatch, 4, [0.5])
    assert len(ends) == 6
    assert ends[-1] == 1


def test_a_machine_that_slows_down_trains_fewer_epochs_to_the_same_end(
    images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = timed(images, monkeypatch, 20, [0.5] * 6 + [1.0])
    assert len(ends) == pytest.approx(12.5, abs=0.6)
    assert ends[-1] == 1


def test_a_stall_beyond_the_deadline_ends_early(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("digit_recognizer.nets.epochs.time", clock)
    ends = []
    for epoch in iter_epochs(images, 20, clock.now + 10, Augmentation(), np.random.RandomState(0)):
        clock.now += 0.5 if len(ends) < 4 else 20
        ends.append(epoch.end)
    assert len(ends) == 5
    assert ends[-1] < 1


def test_a_past_deadline_leaves_one_epoch(images: np.ndarray) -> None:
    epochs = list(iter_epochs(images, 20, 0.0, Augmentation(), np.random.RandomState(0)))
    assert [(epoch.start, epoch.end) for epoch in epochs] == [(0, 0.05)]


def test_weights_that_are_not_finite_raise_fit_error() -> None:
    good = np.ones((2, 3), np.float32)
    check_finite([good], 1)
    for value in (np.nan, np.inf, -np.inf):
        bad = good.copy()
        bad[1, 2] = value
        with pytest.raises(FitError, match="not finite after epoch 3; try a lower learning_rate"):
            check_finite([good, bad], 3)
        with pytest.raises(FitError, match="predictions are not finite"):
            check_probabilities(bad)


@pytest.mark.parametrize("settings_type", [KerasSettings, MLPSettings])
def test_a_cosine_schedule_rises_and_falls_to_0(settings_type: type[KerasSettings | MLPSettings]) -> None:
    settings = settings_type(learning_rate=0.5, learning_rate_schedule="cosine")
    nothing = np.zeros(0)
    epochs = [Epoch(i / 10, (i + 1) / 10, nothing, nothing) for i in range(10)]
    rates = np.concatenate([learning_rates(settings, epoch, 50) for epoch in epochs])
    assert rates.dtype == np.float32
    assert rates.argmax() in range(20, 30)  # after a twentieth of the training
    assert 0.49 < rates.max() < 0.5
    assert (np.diff(rates)[30:] < 0).all()
    assert rates[0] < 0.02
    assert rates[-1] < 1e-4


def test_a_constant_learning_rate_is_that_of_the_settings() -> None:
    rates = learning_rates(MLPSettings(learning_rate=0.25), Epoch(0, 1, np.zeros(0), np.zeros(0)), 3)
    assert rates.tolist() == [0.25] * 3
