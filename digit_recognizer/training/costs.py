"""One short fit: what a net's epochs and predictions take on this machine."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from digit_recognizer.data import Dataset, Digits
from digit_recognizer.errors import RunError
from digit_recognizer.settings import Settings
from digit_recognizer.splits import Split
from digit_recognizer.training.fit import CURVE_ROWS, limited_threads
from digit_recognizer.training.workers import map_on_workers

MEASURED_ROWS = 2048  # training digits of the short fit


class Cost(NamedTuple):
    """Seconds of an epoch, and of the predictions after the training."""

    epoch: float
    predict: float


def measure(
    nets: Sequence[Settings],
    splits: Sequence[Split],
    data: Dataset,
    *,
    refit: bool,
    workers: int,
    threads: int,
) -> list[Cost]:
    """Return the cost of a fit of each net on a split, while `workers` processes fit side by side.

    The slowest process counts. Raises RunError if one is killed or runs out of memory.
    """
    rows = np.linspace(0, len(data.train) - 1, min(MEASURED_ROWS, len(data.train))).astype(int)
    few = Digits(data.train.pixels[rows], data.train.labels[rows])
    calls = [(settings, few, threads) for settings in nets]
    try:
        measured = map_on_workers(_seconds_per_row, calls, workers=workers, threads=threads)
    except MemoryError:
        raise RunError("out of memory while the speed of the nets is measured; try fewer --jobs") from None
    held_out = max(len(split.valid) for split in splits)
    trained = len(data.train) - (0 if refit else held_out)
    predicted = 2 * held_out + CURVE_ROWS + len(data.test)  # for the last metrics, too
    slowest = [np.max(seconds, axis=0).tolist() for seconds in measured]
    return [Cost(train * trained, predict * predicted) for train, predict in slowest]


def _seconds_per_row(settings: Settings, few: Digits, threads: int) -> tuple[float, float]:
    """Return what a row takes in an epoch and in `predict_proba`."""
    from digit_recognizer.nets import pipelines

    laps: list[float] = []
    with limited_threads(settings, threads):
        # A net that diverges fails in its fit, not here.
        classifier = pipelines.build(settings.replace(epochs=4, learning_rate=1e-6), 0)
        classifier.fit(few.pixels, few.labels, net__on_epoch_end=lambda _: laps.append(time.perf_counter()))
        classifier.predict_proba(few.pixels)
        laps.append(time.perf_counter())
    # The first epoch holds the start; during the last, no next one is augmented. Of the two between, take the
    # faster: other load may slow one.
    second, third, _, predict = np.diff(laps) / len(few)
    return max(min(second, third), 1e-9), predict
