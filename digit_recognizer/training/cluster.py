"""Fits on the workers of a Dask scheduler, `--cluster`.

Dask does again elsewhere what a lost worker did; with --minutes there is no time for it.
"""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from math import inf
from typing import Any

from digit_recognizer import manifest
from digit_recognizer.data import Dataset
from digit_recognizer.errors import LibraryError, RunError
from digit_recognizer.training.fit import FitFailure, FitResult, FitTask, OnProgress, Progress, fit

SECONDS = 10.0  # to wait for the scheduler, and for a worker when there is none
LOOK_SECONDS = 1.0  # between looks for workers that have joined
LATE_SHARE, LATE_SECONDS = 0.1, 1.0  # of a budget, and besides, after which a fit is given up
LOST = "the scheduler at {} is lost; start it again, or leave out --cluster to go on here"


class Cluster:
    """The workers of a scheduler. Each does one call at a time, as a net's numbers depend on its threads."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address, self._expected = client, address, _facts(1)

    def workers(self) -> list[str]:
        """Return the workers' addresses; raise RunError if there are none for SECONDS."""
        try:
            self._client.wait_for_workers(1, timeout=SECONDS)
            return sorted(self._client.nthreads())
        except TimeoutError:
            start = f"dask worker {self._address} --nthreads 1"
            raise RunError(f"{self._address} has no workers; start one: {start}") from None
        except (OSError, AttributeError):  # of a client that has given up
            raise RunError(LOST.format(self._address)) from None

    def check(self) -> None:
        """Raise RunError, with its address, if the scheduler or a worker cannot import this package."""
        code, address = f"import {__name__}", self._address
        try:
            self._client.run_on_scheduler(exec, code)
            found = self._client.run(exec, code, on_error="return")
            address = next((address for address, error in found.items() if error), address)
            if found.get(address):
                raise found[address]
        except OSError:
            raise RunError(LOST.format(self._address)) from None
        except Exception as error:  # whatever an import there ends in
            raise RunError(f"{address}: {error}; install there what is installed here") from error

    def call_all(
        self, calls: Sequence[tuple[Any, ...]], end: float = inf
    ) -> Generator[tuple[int, Any], None, None]:
        """Yield each call's number and what it returns, as it ends; a free worker gets the next one.

        end: when None is yielded for calls that have not ended, as at once for those of a lost worker.
        Raises RunError if a worker may give other numbers than this machine, or the scheduler is lost.
        """
        from distributed import KilledWorker, wait

        rest, running = deque(enumerate(calls)), dict[Any, tuple[int, str]]()
        try:
            while (rest or running) and time.monotonic() < end:
                alive, busy = self.workers(), {address for _, address in running.values()}
                for address in [address for address in alive if address not in busy][: len(rest)]:
                    number, call = rest.popleft()
                    where = {"workers": [address], "allow_other_workers": end == inf}
                    future = self._client.submit(_call, self._expected, *call, pure=False, **where)
                    running[future] = number, address
                with suppress(TimeoutError):
                    wait(list(running), timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED")
                for future, (_, address) in list(running.items()):
                    if future.done() or (end < inf and address not in alive):
                        yield running.pop(future)[0], future.result() if future.done() else None
            yield from ((number, None) for number, _ in [*running.values(), *rest])
        except KilledWorker as error:
            raise RunError(f"{error}; perhaps for lack of memory: give the workers more") from None
        except (OSError, CancelledError):
            raise RunError(LOST.format(self._address)) from None
        finally:
            with suppress(Exception):  # the scheduler may be lost
                self._client.cancel(list(running))

    def fit_all(
        self, tasks: Sequence[FitTask], data: Dataset, on_progress: OnProgress
    ) -> Generator[FitResult | FitFailure, None, None]:
        """Fit all; yield each as it ends. `on_progress` is called in a thread."""
        began, topic = time.monotonic(), f"digit_recognizer {self._client.id}"
        self._client.subscribe_topic(topic, lambda event: on_progress(Progress(*event[1])))
        # The result of a call stays with the workers; if they are lost, Dask makes it again.
        digits = self._digits = self._client.submit(tuple, [data.train, data.test])
        left, end = 1.0, inf
        if seconds := max((task.budget.seconds for task in tasks if task.budget), default=0.0):
            deque(self.call_all([(len, digits)] * len(self.workers())), maxlen=0)  # so that they are there
            left = max(1e-3, 1 - (time.monotonic() - began) / seconds)
            end = time.monotonic() + seconds * (left + LATE_SHARE) + LATE_SECONDS
        tasks = [replace(task, threads=1, budget=task.budget and task.budget.times(left)) for task in tasks]
        with closing(self.call_all([(_fit, task, digits, topic) for task in tasks], end)) as called:
            for number, result in called:
                yield result or FitFailure(tasks[number], "not done in time; its worker was lost or held up")


current: Cluster | None = None  # that fits go to


def workers_now(planned: int) -> int:
    """Return how many fits are done at a time: as planned here; a cluster's workers come and go."""
    return len(current.workers()) if current else planned


@contextmanager
def on_cluster(address: str | None) -> Iterator[None]:
    """Let fits go to the workers of the scheduler at `address` in a `with` block; None changes nothing.

    Raises LibraryError without Dask's `distributed`, and RunError if no scheduler answers.
    """
    global current
    if address is None or current:  # already
        yield
        return
    try:
        import dask
        import distributed
    except ImportError as error:
        raise LibraryError(f"--cluster needs {error.name}: python -m pip install distributed") from None

    class Client(distributed.Client):
        def start(self, **options: Any) -> None:
            """Start, with a limit that Dask has not for a server that takes the call and says nothing."""
            super().start(callback_timeout=2 * SECONDS, **options)

    warned = {"distributed.admin.large-graph-warning-threshold": "1TB"}  # the digits are sent once
    with distributed.utils.silence_logging_cmgr(logging.CRITICAL), dask.config.set(warned):
        try:
            client = Client(address, timeout=SECONDS, set_as_default=False)
        except Exception as error:  # of the network, of TLS or of what answers there
            raise RunError(
                f"--cluster: no scheduler answers at {address} ({error}); start one there"
            ) from None
        with client, client.as_current():
            try:
                current = Cluster(client, address)
                current.check()
                yield
            finally:
                current = None


def _facts(threads: int) -> dict[str, Any]:
    """Return what has to be equal for equal numbers."""
    import distributed

    ours = {"--nthreads": threads, "source_hash": manifest.source_hash()}
    return {**manifest.current_versions(), "distributed": distributed.__version__, **ours}


def _call(expected: dict[str, Any], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function on this worker; raise RunError, with its address, if it may give other numbers."""
    from distributed import get_worker

    worker = get_worker()
    found = _facts(worker.state.nthreads)
    if "tensorflow" in sys.modules:
        from digit_recognizer.nets import keras_net

        found["TensorFlow's threads"] = keras_net.limit_threads(1)  # another program may have set them
    for name, value in found.items():
        if value != expected.get(name, 1):
            raise RunError(
                f"worker {worker.address}: has {name} {value}, expected {expected.get(name, 1)}; start it "
                "anew with --nthreads 1 and the packages that are installed here"
            )
    try:
        return function(*arguments)
    except OSError as error:  # else it would read as the loss of the scheduler
        raise RunError(f"worker {worker.address}: {error}") from error


def _fit(task: FitTask, digits: tuple[Any, Any], topic: str) -> FitResult | FitFailure:
    from distributed import get_worker

    worker = get_worker()
    state = worker.state.tasks[worker.get_current_task()]

    def tell(progress: Progress) -> None:
        if state.state != "executing":  # it is cancelled; Dask stops no thread
            raise RunError(f"{progress.fit} was cancelled")
        worker.log_event(topic, list(vars(progress).values()))

    tell(task.progress())  # another worker may have told some of its epochs already
    return fit(task, *digits, tell)
