"""What fits compute on: cores, GPUs, and how both are shared."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from digit_recognizer.settings import Settings
from digit_recognizer.training import cluster

GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")  # in /dev: NVIDIA's, AMD's, in Windows' Linux
# With a time limit. A net gets several threads only while threads * minutes <= MAX_THREAD_MINUTES.
MAX_THREADS, MAX_THREAD_MINUTES = 4, 16
# A dense net keeps this many cores busy: one trains, one augments the next rows.
CORES_PER_DENSE_FIT = 2


def cpu_count() -> int:
    """Return the number of cores this process may use."""
    import joblib

    try:
        return joblib.cpu_count()
    except ValueError:  # LOKY_MAX_CPU_COUNT, which is set for other programs, is no number
        return os.cpu_count() or 1


def gpu_count() -> int:
    """Return the number of GPUs that TensorFlow sees; without a GPU's file in /dev, it is not asked."""
    if not any(file for pattern in GPU_FILES for file in Path("/dev").glob(pattern)):
        return 0
    from digit_recognizer.nets import keras_net

    return keras_net.visible_gpus()


def why_no_processes() -> str:
    """Return why processes cannot be started here, in words; "" if they can."""
    import joblib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the same
        if joblib.effective_n_jobs(2) > 1:
            return ""
    if os.environ.get("JOBLIB_MULTIPROCESSING") == "0":
        return "JOBLIB_MULTIPROCESSING=0"
    return "no semaphores, which Linux keeps in /dev/shm, or this is a daemon of multiprocessing"


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
