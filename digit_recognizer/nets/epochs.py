"""The epochs of a training: order of rows, augmentation, and how many fit into the time; divergence."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import NamedTuple

import numpy as np

from digit_recognizer.errors import FitError
from digit_recognizer.nets.augment import Augmentation
from digit_recognizer.settings import MAX_EPOCHS, NetSettings

WARMUP_FRACTION = 0.05  # of a training, in which a cosine schedule rises to its learning rate
START_SECONDS = 1.0  # by which the first epoch may take longer than others; the last may be late by as much
OnEpochEnd = Callable[[], None]  # called after each epoch, when the net is able to predict
EPOCH_TOLERANCE = 0.1  # in epochs: how far the last may overrun the deadline, and the reserve kept before it
MAX_OVERRUN = 0.5  # in seconds, for long epochs: how far the last may overrun the deadline


class Epoch(NamedTuple):
    """Hold the training rows of one epoch.

    start, end: the share of the training before and after it, 0 to 1; schedules are functions of that share.
    order: row numbers, each once; images: the rows in that order, augmented; two
    epochs later this memory holds other rows.
    """

    start: float
    end: float
    order: np.ndarray
    images: np.ndarray


def iter_epochs(
    images: np.ndarray,
    count: int,
    deadline: float | None,
    augmentation: Augmentation,
    rng: np.random.RandomState,
) -> Iterator[Epoch]:
    """Yield `count` epochs or, with a deadline (Unix time), one and then as many as end by about then.

    images: float32 of shape (n, n_features). After each epoch the number left is estimated again from the
    time that the last ones took: a machine that slows down trains fewer, but its schedules come to an end.
    There are at most MAX_EPOCHS. A thread augments the next epoch while the caller uses this one, so that a
    second core is used: OpenCV and NumPy release Python's lock.
    """

    def draw(progress: float) -> tuple[Augmentation, np.ndarray, int]:
        return augmentation.at(progress), rng.permutation(len(images)), rng.randint(2**31 - 1)

    def augmented(augmentation: Augmentation, order: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rows = next(buffers)
        np.take(images, order, axis=0, out=rows, mode="clip")  # the usual mode takes a copy first
        return order, augmentation.apply(rows, np.random.default_rng(seed), out=rows)

    # With two fits side by side, an epoch takes a seventh longer or more in new memory each time.
    buffers = cycle([np.empty_like(images), np.empty_like(images)])
    start, left = 0.0, count
    planned = 0.0 if deadline is None else (deadline - time.time()) / count
    durations: list[float] = []
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(augmented, *draw(start))
        while left > 0:
            began = time.time()
            end = 1.0 if left == 1 else start + (1 - start) / left
            order, rows = upcoming.result()
            if end < 1:
                upcoming = thread.submit(augmented, *draw(end))
            yield Epoch(start, end, order, rows)
            start, left = end, left - 1
            if deadline is not None and end < 1:
                now = time.time()
                durations.append(now - began)
                left = min(_epochs_left(deadline - now, durations, planned), MAX_EPOCHS - len(durations))


def _epochs_left(seconds: float, durations: Sequence[float], planned: float) -> int:
    """Return how many epochs fit into the time.

    durations: of the epochs so far, in seconds; the first also holds the start. planned: seconds of an epoch
    by the plan that the number of epochs comes from.
    """
    if seconds <= 0:
        return 0
    first, later = durations[0], durations[1:][-3:]
    last_ones = later or [min(first, max(planned, first - START_SECONDS))]
    usual, slowest = max(float(np.mean(last_ones)), 1e-6), max(last_ones)  # a coarse clock may tell 0
    overrun = min(EPOCH_TOLERANCE * usual, MAX_OVERRUN)
    return max(int(seconds / usual - EPOCH_TOLERANCE), int(seconds + overrun > slowest))


def learning_rates(settings: NetSettings, epoch: Epoch, steps: int) -> np.ndarray:
    """Return the learning rate of each of the epoch's steps, float32."""
    if settings.learning_rate_schedule == "constant":
        return np.full(steps, settings.learning_rate, np.float32)
    progress = epoch.start + (epoch.end - epoch.start) * np.arange(1, steps + 1) / (steps + 1)
    cosine = 0.5 + 0.5 * np.cos(np.pi * progress)
    return (settings.learning_rate * np.minimum(progress / WARMUP_FRACTION, cosine)).astype(np.float32)


def check_finite(arrays: Iterable[np.ndarray], epoch: int) -> None:
    """Raise FitError if any weight is NaN or infinite after this epoch, the first being 1."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise FitError(
            f"the net diverged: its weights are not finite after epoch {epoch}; try a lower learning_rate"
        )


def check_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Return the probabilities; raise FitError if any is not finite, as huge weights make them."""
    if not np.isfinite(probabilities).all():
        raise FitError("the net diverged: its predictions are not finite; try a lower learning_rate")
    return probabilities
