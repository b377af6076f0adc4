"""What fits compute on: how cores and GPUs are shared, and what an epoch and the predictions take there."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import numpy as np

from digit_recognizer.data import Dataset, Digits
from digit_recognizer.errors import RunError
from digit_recognizer.settings import Settings
from digit_recognizer.training import cluster
from digit_recognizer.training.fit import CURVE_ROWS, limited_threads
from digit_recognizer.training.workers import gpu_count, map_on_workers, why_no_processes

# With a time limit. A net gets several threads only while threads * minutes <= MAX_THREAD_MINUTES.
MAX_THREADS, MAX_THREAD_MINUTES = 4, 16
# A dense net keeps this many cores busy: one trains, one augments the next rows.
CORES_PER_DENSE_FIT = 2
MEASURED_ROWS = 2048  # training digits of the short fit that tells what a net takes


def cpu_count() -> int:
    """Return the number of cores this process may use."""
    import joblib

    try:
        return joblib.cpu_count()
    except ValueError:  # LOKY_MAX_CPU_COUNT, which is set for other programs, is no number
        return os.cpu_count() or 1


@dataclass(frozen=True)
class Machine:
    """What the fits of a run share; it decides numbers, so it is looked at once.

    bfloat16: whether convolutional nets that ask for it compute in it; None if none asks. why_alone: why fits
    are done one at a time; "" if processes can be started. cluster: whether the cores are its workers.
    """

    cores: int
    gpus: int
    bfloat16: bool | None
    why_alone: str = ""
    cluster: bool = False

    @classmethod
    def look(cls, settings: Sequence[Settings], jobs: int | None) -> "Machine":
        """Return the machine for nets with these settings, with `jobs` cores if that is not None.

        Of a cluster's workers, the least one; raises RunError if one does not suit.
        """
        if there := cluster.current:
            found = dict(there.call_all([(cls.look, settings, 1)] * len(there.workers()))).values()
            least = min(found, key=lambda machine: (machine.gpus, bool(machine.bfloat16)))
            return replace(least, cores=len(found), why_alone="", cluster=True)
        gpus = gpu_count() if any(net.net == "keras" for net in settings) else 0
        bfloat16 = None
        if any(net.net == "keras" and net.bfloat16 and net.is_convolutional for net in settings):
            from digit_recognizer.nets import keras_net

            bfloat16 = keras_net.cpu_computes_bfloat16() and not gpus
        return cls(jobs or cpu_count(), gpus, bfloat16, why_no_processes())

    def adapt(self, settings: Settings) -> Settings:
        """Return the settings as this machine computes them."""
        if settings.net == "keras" and settings.bfloat16 and not self.bfloat16:
            return settings.replace(bfloat16=False)
        return settings

    def split_cores(
        self, settings: Sequence[Settings], *, fits: int, minutes: float | None = None
    ) -> tuple[int, int]:
        """Return how many processes do `fits` fits side by side, and the threads of each.

        The threads decide a run's numbers: sums in another number of threads are rounded differently. The
        steps of dense nets are too short to be shared. In up to 8 minutes, several cores help more on one
        long convolutional net than on several short ones.
        """
        if self.cluster:
            return self.cores if minutes else min(self.cores, fits), 1
        convolutional = any(net.is_convolutional for net in settings)
        needs_gpu = self.gpus and any(net.net == "keras" for net in settings)  # a fit takes a whole one
        if needs_gpu or self.why_alone:
            return 1, self.cores if convolutional else 1
        if minutes is None:
            processes = min(self.cores, fits)
            return processes, self.cores // processes if convolutional else 1
        if not convolutional:
            return max(1, self.cores // CORES_PER_DENSE_FIT), 1
        threads = max(1, min(self.cores // fits, MAX_THREADS, int(MAX_THREAD_MINUTES / minutes)))
        few, many = self.cores // threads, -(-self.cores // threads)
        return max([(few, threads), (many, self.cores // many)], key=prod)  # fewer cores are idle


class Cost(NamedTuple):
    """Seconds of an epoch, and of the predictions after the training."""

    epoch: float
    predict: float


def measure(
    nets: Sequence[Settings], held_out: int, data: Dataset, *, refit: bool, workers: int, threads: int
) -> list[Cost]:
    """Return the cost of a fit of each net, while `workers` processes fit side by side.

    held_out: number of rows that a split holds out. The slowest process counts. Raises RunError if one is
    killed or runs out of memory.
    """
    rows = np.linspace(0, len(data.train) - 1, min(MEASURED_ROWS, len(data.train))).astype(int)
    few = Digits(data.train.pixels[rows], data.train.labels[rows])
    calls = [(settings, few, threads) for settings in nets]
    try:
        measured = map_on_workers(_seconds_per_row, calls, workers=workers, threads=threads)
    except MemoryError:
        raise RunError("out of memory while the speed of the nets is measured; try fewer --jobs") from None
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
