"""The epochs of a training and its progress, by steps or by a clock that the tests set."""

from collections.abc import Callable
from math import ceil

import numpy as np
import pytest

from digit_recognizer import data
from digit_recognizer.errors import FitError
from digit_recognizer.nets import augment, pipelines, progress
from digit_recognizer.nets.augment import CHUNK, distort
from digit_recognizer.nets.epochs import (
    Call,
    EarlyStopping,
    check_finite,
    check_probabilities,
    hold_back,
    iter_epochs,
)
from digit_recognizer.nets.progress import STEPS_PER_CALL, Budget, Steps, Timer, learning_rates
from digit_recognizer.settings import KerasSettings, MLPSettings, NetSettings

SETTINGS = MLPSettings(batch_size=8, epochs=3)


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


def test_epochs_take_every_row_once_in_new_orders(images: np.ndarray) -> None:
    epochs = epochs_of(images, SETTINGS)
    assert len(epochs) == 3
    for epoch in epochs:
        np.testing.assert_array_equal(epoch.images, images[epoch.order])
        assert sorted(epoch.order) == list(range(300))
    assert epochs[0].order.tolist() != epochs[1].order.tolist() != epochs[2].order.tolist()


def test_calls_and_chunks_change_nothing_of_an_epoch(images: np.ndarray) -> None:
    """Each epoch is what one permutation and one generator make of all rows at once."""
    many = np.resize(images, (2 * CHUNK + 100, images.shape[1]))
    settings = MLPSettings(batch_size=100, epochs=2, augment_strength=1.5, augment_strength_end=0.5)
    rng = np.random.RandomState(5)
    draws = [(rng.permutation(len(many)), rng.randint(2**31 - 1)) for _ in range(2)]
    for epoch, (order, seed), strength in zip(epochs_of(many, settings, 5), draws, (1.5, 1.0), strict=True):
        np.testing.assert_array_equal(epoch.order, order)
        np.testing.assert_array_equal(
            epoch.images, distort(many[order], strength, np.random.default_rng(seed))
        )


def test_epochs_augment_anew_and_by_the_seed_alone(images: np.ndarray) -> None:
    def in_rows_order(seed: int) -> list[np.ndarray]:
        settings = SETTINGS.replace(augment_strength=2.0)
        return [epoch.images[epoch.order.argsort()] for epoch in epochs_of(images, settings, seed)]

    first, second, third = in_rows_order(0)
    assert (first != second).any(axis=1).all()
    np.testing.assert_array_equal([first, second, third], in_rows_order(0))
    assert (in_rows_order(1)[0] != first).any()
    moved = [np.abs(rows - images).mean() for rows in (first, second, third)]
    assert moved == sorted(moved, reverse=True)  # to a strength of 0
    assert moved[2] < 0.8 * moved[0]


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


class Clock:
    """Stand for the module `time`, of which a timer must ask nothing but the monotonic clock."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


STEPS = 300  # in an epoch


def pass_time(
    clock: Clock,
    step: Callable[[float], float],
    budget: Budget,
    *,
    start: float = 2.0,
    metrics: float = 0.0,
) -> tuple[Timer, list[float], list[int], float]:
    """Train by a timer; return it, the progress at each step, the steps of each call, and the seconds left.

    step: the seconds of a step, by those since the fit's start. start: seconds before the first step.
    """
    timer, began = Timer(budget), clock.now
    clock.now += start / 2
    timer.start(STEPS)
    clock.now += start / 2
    seen: list[float] = []
    calls: list[int] = []
    more = True
    while more:
        shares = timer.next_call()
        clock.now += len(shares) * step(clock.now - began)
        timer.end_call(len(shares))
        seen += shares.tolist()
        calls.append(len(shares))
        if len(seen) % STEPS == 0:
            clock.now += metrics
        more = timer.more()
    assert timer.epochs == len(seen) / STEPS
    assert seen == sorted(seen)
    return timer, seen, calls, budget.seconds - (clock.now - began)


@pytest.mark.parametrize(
    ("seconds", "step", "epochs"), [(280, 0.06, 15), (25, 0.0025, 30), (11, 0.06, 0.45), (4.5, 0.06, 0.1)]
)
def test_a_timed_training_ends_in_time_with_its_schedule_at_its_end(
    clock: Clock, seconds: float, step: float, epochs: float
) -> None:
    """It may end within its first epoch."""
    budget = Budget(seconds=seconds, epoch=STEPS * step, predict=0.5)
    timer, seen, calls, left = pass_time(clock, lambda _: step, budget)
    assert 0.5 <= left < 0.5 + 1.1 * step
    assert timer.epochs == pytest.approx((seconds - 2.5) / step / STEPS, rel=0.05)
    assert timer.epochs == pytest.approx(epochs, rel=0.2)
    assert seen[0] < 2 / len(seen)
    assert seen[-1] > 1 - 1.6 / len(seen)
    assert max(np.diff(seen)) < 1.3 / len(seen)
    assert timer.now == 1
    assert calls[-4:] == sorted(calls[-4:], reverse=True)  # late ones are short
    assert calls[-1] == 1


@pytest.mark.parametrize("slow_from", [60, 150, 225])
def test_a_machine_that_becomes_half_as_fast_still_ends_in_time(clock: Clock, slow_from: float) -> None:
    budget = Budget(seconds=280, epoch=STEPS * 0.06, predict=15)
    _, seen, _, left = pass_time(clock, lambda now: 0.06 if now < slow_from else 0.12, budget)
    assert 29 < left < 31  # predictions have become slower as well
    assert seen[-1] > 0.999


def test_starting_is_no_progress(clock: Clock) -> None:
    budget = Budget(seconds=100, epoch=STEPS * 0.06, predict=0)
    _, seen, _, left = pass_time(clock, lambda _: 0.06, budget, start=50)
    assert seen[5] < 0.01
    assert 0 <= left < 0.1


def test_metrics_take_their_time(clock: Clock) -> None:
    budget = Budget(seconds=100, epoch=STEPS * 0.06, predict=3)
    timer, seen, _, left = pass_time(clock, lambda _: 0.06, budget, metrics=3)
    assert 2.9 < left < 3.1
    assert seen[-1] > 0.995
    assert timer.epochs == pytest.approx((95 - 4 * 3) / 18, abs=0.2)


def test_on_a_machine_that_is_far_slower_than_measured_half_of_the_time_is_for_training(clock: Clock) -> None:
    budget = Budget(seconds=100, epoch=STEPS * 0.01, predict=20)
    _, seen, _, left = pass_time(clock, lambda _: 0.1, budget)
    assert 49 < left < 51
    assert seen[-1] > 0.98


@pytest.mark.parametrize("seconds", [0.001, 3.0])
def test_without_time_there_is_one_step(clock: Clock, seconds: float) -> None:
    budget = Budget(seconds=seconds, epoch=STEPS * 0.06, predict=5)
    timer, seen, _, _ = pass_time(clock, lambda _: 0.06, budget)
    assert len(seen) == 1
    assert timer.now == 1


@pytest.mark.parametrize("step", [0.001, 0.0])
def test_a_highest_number_of_epochs_ends_the_schedule_too(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    monkeypatch.setattr(progress, "MAX_EPOCHS", 6)
    budget = Budget(seconds=1000, epoch=STEPS * 0.001, predict=0)
    timer, seen, _, _ = pass_time(clock, lambda _: step, budget)
    assert timer.epochs == 6
    assert seen[-1] > 0.98


def test_the_steps_to_come_are_guessed_by_the_measured_pace(clock: Clock) -> None:
    timer = Timer(Budget(seconds=100, epoch=STEPS * 0.5, predict=10)).start(STEPS)
    clock.now += 30
    assert timer.guess_steps() == 120
    clock.now += 300
    assert timer.guess_steps() == 1


def test_by_the_clock_augmentation_follows_the_progress_of_the_rows_it_is_for(
    clock: Clock, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    strengths: list[float] = []

    def keep(rows: np.ndarray, strength: float, rng: np.random.Generator, out: object) -> np.ndarray:
        strengths.append(strength)
        return rows

    monkeypatch.setitem(augment.AUGMENTATIONS, "augment_strength", keep)
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
    same = np.ones((200, 784))
    assert [len(side) for side in hold_back(same, np.arange(200) % 10, np.random.RandomState(0))[::2]] == [
        180,
        20,
    ]


def test_patience_counts_epochs_without_a_lower_loss() -> None:
    stopping = EarlyStopping(2, np.array([0, 1]))
    over = [
        stopping.is_over(np.array([[p, 1 - p], [1 - p, p]]), [np.full(1, epoch)])
        for epoch, p in enumerate([0.6, 0.7, 0.65, 0.75, 0.7, 0.7])
    ]
    assert over == [False, False, False, False, False, True]
    assert stopping.best_weights == [3]


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
