"""The epochs of a training and its progress, by steps or by a clock that the tests set."""

from collections.abc import Callable
from math import ceil

import numpy as np
import pytest
from conftest import Clock

from digit_recognizer import data
from digit_recognizer.errors import FitError
from digit_recognizer.nets import augment, pipelines, progress
from digit_recognizer.nets.augment import CHUNK, distort
from digit_recognizer.nets.epochs import Call, EarlyStopping, check_finite, hold_back, iter_epochs
from digit_recognizer.nets.progress import STEPS_PER_CALL, Budget, Steps, Timer, learning_rates
from digit_recognizer.settings import KerasSettings, MLPSettings, NetSettings


@pytest.fixture(scope="module")
def images(digits: data.Dataset) -> np.ndarray:
    return pipelines.scale(digits.train.pixels[:300])


def epochs_of(images: np.ndarray, settings: NetSettings, seed: int = 0) -> list[Call]:
    """Return what a net sees in each epoch, its calls put together."""
    steps = Steps(settings.epochs, -(-len(images) // settings.batch_size))
    epochs = []
    for calls in iter_epochs(images, settings, steps, np.random.RandomState(seed)):
        parts = [(call.order, call.images.copy(), call.rates) for call in calls]
        assert all(len(rates) == -(-len(order) // settings.batch_size) for order, _, rates in parts)
        assert max(len(rates) for _, _, rates in parts) <= STEPS_PER_CALL
        epochs.append(Call(*map(np.concatenate, zip(*parts, strict=True))))
    assert (steps.now, steps.epochs, steps.more()) == (1, settings.epochs, False)
    return epochs


@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_calls_and_chunks_change_nothing_of_an_epoch(images: np.ndarray, strength: float) -> None:
    """Each epoch is what one permutation and one generator make of all rows at once, by the seed alone."""
    many = np.resize(images, (2 * CHUNK + 100, images.shape[1]))
    settings = MLPSettings(batch_size=100, epochs=3, augment_strength=strength)
    rng = np.random.RandomState(5)
    draws = [(rng.permutation(len(many)), rng.randint(2**31 - 1)) for _ in range(3)]
    for number, (epoch, (order, seed)) in enumerate(zip(epochs_of(many, settings, 5), draws, strict=True)):
        expected = many[order]
        if strength:
            distort(expected, strength * (1 - number / 3), np.random.default_rng(seed))
        np.testing.assert_array_equal(epoch.order, order)
        np.testing.assert_allclose(epoch.images, expected, atol=1e-6)


@pytest.mark.parametrize("settings_type", [KerasSettings, MLPSettings])
def test_a_cosine_schedule_rises_and_falls_to_0(
    settings_type: type[KerasSettings | MLPSettings], images: np.ndarray
) -> None:
    settings = settings_type(learning_rate=0.5, learning_rate_schedule="cosine", epochs=10, batch_size=6)
    rates = np.concatenate([epoch.rates for epoch in epochs_of(images, settings)])
    assert rates.dtype == np.float32
    assert rates.argmax() in range(20, 30)  # after a twentieth of the training
    assert 0.49 < rates.max() < 0.5
    assert (np.diff(rates)[30:] < 0).all()
    assert rates[0] < 0.02
    assert rates[-1] < 1e-4


def test_a_constant_learning_rate_is_that_of_the_settings() -> None:
    assert learning_rates(MLPSettings(learning_rate=0.25), np.linspace(0, 1, 3)).tolist() == [0.25] * 3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(progress, "time", clock := Clock())
    return clock


STEPS = 300  # in an epoch
STEP = 0.06  # seconds, as measured


def slow_from(second: float) -> Callable[[float], float]:
    """Return the seconds of a step, by those since the start, of a machine that becomes half as fast."""
    return lambda now: STEP if now < second else 2 * STEP


@pytest.mark.parametrize(
    ("seconds", "predict", "step", "start", "metrics", "left", "epochs"),
    [
        (280, 0.5, slow_from(999), 2, 0, 0.5, 15.4),
        (11, 0.5, slow_from(999), 2, 0, 0.5, 0.47),  # it ends within its first epoch
        (4.5, 0.5, slow_from(999), 2, 0, 0.5, 0.11),
        (280, 15, slow_from(60), 2, 0, 30, 8.5),  # predictions have become slower as well
        (280, 15, slow_from(150), 2, 0, 30, 11),
        (280, 15, slow_from(225), 2, 0, 30, 13),
        (100, 0, slow_from(999), 50, 0, 0, 2.8),  # starting is no progress
        (100, 3, slow_from(999), 2, 3, 3, 4.6),  # metrics take their time
        (100, 20, lambda _: 10 * STEP, 2, 0, 50, 0.27),  # late in any case: half is for training
        (100, 3, lambda _: STEP / 3, 2, 0, 3, 15.8),  # it was measured beside other load
    ],
)
def test_a_timed_training_ends_in_time_with_its_schedule_at_its_end(
    clock: Clock, seconds: float, predict: float, step: Callable[[float], float],
    start: float, metrics: float, left: float, epochs: float,
) -> None:  # fmt: skip
    began, seen, calls = clock.now, [], []
    timer = Timer(Budget(seconds=seconds, epoch=STEPS * STEP, predict=predict))
    clock.now += start / 2
    timer.start(STEPS)
    clock.now += start / 2
    more = True
    while more:
        shares = timer.next_call()
        clock.now += len(shares) * step(clock.now - began)
        timer.end_call(len(shares))
        seen += shares.tolist()
        calls.append(len(shares))
        clock.now += metrics if len(seen) % STEPS == 0 else 0
        more = timer.more()
    assert seconds - (clock.now - began) == pytest.approx(left, abs=1.2)
    assert timer.epochs == len(seen) / STEPS == pytest.approx(epochs, rel=0.1)
    assert np.diff(seen).min() > -1e-9
    assert seen[0] < 2 / len(seen)
    assert timer.now == 1
    assert 1 - seen[-1] < 2 / len(seen) + 0.005
    assert calls[-4:] == sorted(calls[-4:], reverse=True)  # late ones are short
    assert calls[0] == calls[-1] == 1


@pytest.mark.parametrize("seconds", [0.001, 3.0])
def test_without_time_there_is_one_step(clock: Clock, seconds: float) -> None:
    timer = Timer(Budget(seconds=seconds, epoch=18, predict=5)).start(STEPS)
    assert (timer.total, len(timer.next_call())) == (1, 1)
    timer.end_call(1)
    assert (timer.more(), timer.now) == (False, 1)


@pytest.mark.parametrize("step", [0.001, 0.0])
def test_a_highest_number_of_epochs_ends_the_schedule_too(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    monkeypatch.setattr(progress, "MAX_EPOCHS", 6)
    timer = Timer(Budget(seconds=1000, epoch=0.3, predict=0)).start(STEPS)
    assert timer.total == 6 * STEPS
    more = True
    while more:
        shares = timer.next_call()
        clock.now += step * len(shares)
        timer.end_call(len(shares))
        more = timer.more()
    assert timer.epochs == 6
    assert shares[-1] > 0.98


def test_by_the_clock_augmentation_follows_the_progress_of_the_rows_it_is_for(
    clock: Clock, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    strengths: list[float] = []

    record = {"augment_strength": lambda rows, strength, rng: strengths.append(strength)}
    monkeypatch.setattr(augment, "AUGMENTATIONS", record)
    many = np.resize(images, (4 * CHUNK, images.shape[1]))
    settings = MLPSettings(batch_size=16, augment_strength=1.0)
    timer = Timer(Budget(seconds=51.2, epoch=51.2, predict=0)).start(4 * CHUNK // 16)
    ends = []
    for calls in iter_epochs(many, settings, timer, np.random.RandomState(0)):
        for call in calls:
            clock.now += 0.1 * len(call.rates)
        ends.append(timer.epochs)
    assert ends == [pytest.approx(1, abs=0.01)]
    assert strengths == sorted(strengths, reverse=True)
    np.testing.assert_allclose(strengths[:4], (1, 0.9, 0.65, 0.4), atol=0.25)


@pytest.mark.parametrize(("rows", "stratified"), [(600, True), (200, True), (95, False)])
def test_the_rows_held_back_for_patience_are_stratified(
    digits: data.Dataset, rows: int, stratified: bool
) -> None:
    indices = digits.train.labels[:rows].astype(np.int64)
    numbers = np.arange(rows)
    train, train_indices, valid, valid_indices = hold_back(numbers, indices, np.random.RandomState(0))
    np.testing.assert_array_equal(np.sort([*train, *valid]), numbers)
    np.testing.assert_array_equal(indices[train], train_indices)
    np.testing.assert_array_equal(indices[valid], valid_indices)
    assert len(valid) == ceil(rows / 10)
    share = np.bincount(indices, minlength=10) / 10
    assert (np.abs(np.bincount(valid_indices, minlength=10) - share) < 1).all() == stratified


def test_no_row_held_back_for_patience_is_trained_on_as_another_one(digits: data.Dataset) -> None:
    pixels, indices = np.tile(digits.train.pixels, (3, 1)), np.tile(digits.train.labels.astype(np.int64), 3)
    train, train_indices, valid, _ = hold_back(pixels, indices, np.random.RandomState(0))
    assert not {row.tobytes() for row in train} & {row.tobytes() for row in valid}
    assert len(train) == len(train_indices) > 0.7 * len(pixels)
    same = hold_back(np.ones((200, 784)), np.arange(200) % 10, np.random.RandomState(0))
    assert [len(side) for side in same[::2]] == [180, 20]


def test_patience_counts_epochs_without_a_lower_loss() -> None:
    stopping = EarlyStopping(2, np.array([0, 1]))
    over = [
        stopping.is_over(np.array([[p, 1 - p], [1 - p, p]]), [np.full(1, epoch)])
        for epoch, p in enumerate([0.6, 0.7, 0.65, 0.75, 0.7, 0.7])
    ]
    assert over == [False, False, False, False, False, True]
    assert stopping.best_weights == [3]


def test_weights_that_are_not_finite_raise_fit_error() -> None:
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(FitError, match="not finite after epoch 3; try a lower learning_rate"):
            check_finite([np.ones((2, 3)), np.array([1.0, value])], 3)
