"""Fits on the workers of a Dask scheduler, `--cluster`; Dask does again elsewhere what a lost worker did."""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from digit_recognizer import manifest
from digit_recognizer.data import Dataset
from digit_recognizer.errors import LibraryError, RunError
from digit_recognizer.training.fit import FitFailure, FitResult, FitTask, fit
from digit_recognizer.training.history import OnProgress, Progress

SECONDS = 10.0  # to wait for the scheduler, and for a worker when there is none
LOOK_SECONDS = 1.0  # between looks for workers that have joined
LATE_SHARE, LATE_SECONDS = 0.1, 1.0  # beyond its budget, after which a fit is given up
Call = tuple[Any, ...]  # a function and its arguments
_cluster: "Cluster | None" = None


def connected() -> "Cluster | None":
    """Return the cluster that fits go to; None if they stay on this machine."""
    return _cluster


@contextmanager
def on_cluster(address: str | None) -> Iterator[None]:
    """Let fits go to the workers of the scheduler at `address` in a `with` block; None changes nothing.

    Raises LibraryError without Dask's `distributed`, and RunError if the scheduler or a worker does not suit.
    """
    global _cluster
    if address is None:
        yield
        return
    try:
        import dask
        import distributed
    except ImportError as error:
        name = str(error.name).partition(".")[0]
        raise LibraryError(f"--cluster needs {name}; install it: python -m pip install distributed") from None
    with ExitStack() as stack:
        stack.enter_context(distributed.utils.silence_logging_cmgr(logging.CRITICAL))  # we tell it in a line
        # The digits are larger; they are sent once.
        stack.enter_context(dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}))
        try:
            client = distributed.Client(address, timeout=SECONDS, set_as_default=False)
        except (OSError, ValueError, OverflowError) as error:
            raise RunError(
                f"--cluster: no scheduler answers at {address} ({' '.join(str(error).split())[:200]}); start "
                "one with `dask scheduler`, or leave out --cluster"
            ) from None
        stack.callback(client.close)
        stack.enter_context(client.as_current())
        cluster = Cluster(client, address)
        cluster.check()
        _cluster = cluster
        try:
            yield
        finally:
            _cluster = None


class Cluster:
    """The workers of a scheduler. Each does one call at a time, as a net's numbers depend on its threads."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._facts, self._digits = _facts(), None

    def workers(self) -> list[str]:
        """Return the workers' addresses; raise RunError if there are none for SECONDS."""
        with self._reached():
            try:
                self._client.wait_for_workers(1, timeout=SECONDS)
            except TimeoutError:
                raise RunError(
                    f"{self._address} has no workers; start one: dask worker {self._address} --nthreads 1"
                ) from None
            return sorted(self._client.nthreads())

    def ask(self, function: Callable[..., Any], *arguments: object) -> dict[str, Any]:
        """Return what a function returns on each worker, by its address; an exception that it raises, too."""
        addresses = self.workers()
        with self._reached():
            answers = self._client.run(function, *arguments, workers=addresses, on_error="return")
        return {address: answers[address] for address in addresses if address in answers}

    def check(self) -> None:
        """Raise RunError, with its address, if a worker may give other numbers than this machine."""
        for address, found in self.ask(_facts).items():
            if isinstance(found, Exception):
                raise RunError(f"worker {address}: cannot use digit_recognizer ({found}); install it there")
            _compare(address, self._facts, found)

    def call_all(
        self, calls: Sequence[Call], threads: int, seconds: float | None = None
    ) -> Generator[tuple[int, Any], None, None]:
        """Yield each call's number and what it returns, as it ends; a free worker gets the next one.

        seconds: after which None is yielded for those that have not ended; they are not done again elsewhere.
        Raises RunError if the scheduler is lost, or all workers are.
        """
        rest, running = deque(enumerate(calls)), dict[Any, tuple[int, str]]()
        end = None if seconds is None else time.monotonic() + seconds
        try:
            while rest or running:
                if end and time.monotonic() > end:
                    yield from ((number, None) for number, _ in [*running.values(), *rest])
                    return
                busy = {address for _, address in running.values()}
                free = [address for address in self.workers() if address not in busy]
                with self._reached():
                    for address in free[: len(rest)]:
                        number, call = rest.popleft()
                        future = self._client.submit(
                            _call, self._facts, threads, *call,
                            pure=False, workers=[address], allow_other_workers=end is None,
                        )  # fmt: skip
                        running[future] = number, address
                    done = self._wait(running)
                for future in done:
                    number, address = running.pop(future)
                    yield number, self._result(future, address)
        finally:
            with suppress(Exception):  # the scheduler may be lost
                self._client.cancel(list(running))

    def fit_all(
        self, tasks: Sequence[FitTask], data: Dataset, on_progress: OnProgress
    ) -> Generator[FitResult | FitFailure, None, None]:
        """Fit all; yield each as it ends. `on_progress` is called in a thread."""
        began = time.monotonic()
        with self._reached():  # those that are there already are not sent again
            self._digits = self._client.submit(_digits, data.train, data.test)
        seconds = max((task.budget.seconds for task in tasks if task.budget), default=None)
        if seconds:  # which do not begin before the digits are there
            placed = self.call_all([(len, self._digits)] * len(self.workers()), 1, seconds)
            deque(placed, maxlen=0)
            left = max(1e-3, 1 - (time.monotonic() - began) / seconds)
            tasks = [replace(task, budget=task.budget and task.budget.times(left)) for task in tasks]
            seconds = seconds * (left + LATE_SHARE) + LATE_SECONDS
        with self._listening({task.name for task in tasks}, on_progress) as topic:
            calls = [(_fit, task, self._digits, topic) for task in tasks]
            for number, result in self.call_all(calls, tasks[0].threads, seconds):
                lost = FitFailure(tasks[number], "not done in time, as its worker was lost or held up")
                yield lost if result is None else result

    @contextmanager
    def _listening(self, fits: set[str], on_progress: OnProgress) -> Iterator[str]:
        """Pass on what these fits tell until the block ends; yield where they are to tell it."""
        topic = f"digit_recognizer-{uuid4()}"

        def hear(event: tuple[float, Sequence[Any]]) -> None:
            if (progress := Progress(*event[1])).fit in fits:
                on_progress(progress)

        with self._reached():
            self._client.subscribe_topic(topic, hear)
        try:
            yield topic
        finally:
            fits.clear()
            with suppress(Exception):
                self._client.unsubscribe_topic(topic)

    def _wait(self, running: dict[Any, Any]) -> set[Any]:
        from distributed import wait

        try:
            return wait(list(running), timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            return set()

    def _result(self, future: Any, address: str) -> Any:
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker:
            raise RunError(
                f"worker {address} and others were killed by the same fit, perhaps for lack of memory; give "
                "workers more, or a smaller batch_size"
            ) from None
        except CancelledError:
            raise self._lost() from None

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Raise RunError if the scheduler is lost in the block."""
        try:
            yield
        except (OSError, CancelledError, RuntimeError, AttributeError) as error:  # of a client that is closed
            raise self._lost() from error

    def _lost(self) -> RunError:
        return RunError(
            f"the scheduler at {self._address} is lost; start it again, or leave out --cluster to go on here"
        )


def _facts(dask_worker: Any = None) -> dict[str, Any]:
    """Return what has to be equal for equal numbers: of this worker, or as it should be."""
    import distributed

    threads = 1 if dask_worker is None else dask_worker.state.nthreads
    ours = {"--nthreads": threads, "source_hash": manifest.source_hash()}
    return {**manifest.current_versions(), "distributed": distributed.__version__, **ours}


def _compare(address: str, expected: dict[str, Any], found: dict[str, Any]) -> None:
    for name, value in expected.items():
        if found.get(name) != value:
            raise RunError(
                f"worker {address}: has {name} {found.get(name)}, expected {value}; start it with --nthreads "
                "1, and with the packages that are installed here"
            )


def _call(facts: dict[str, Any], threads: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function on this worker, which may have joined since the check; raise RunError if other."""
    from distributed import get_worker

    worker = get_worker()
    _compare(worker.address, facts, _facts(worker))
    if "tensorflow" in sys.modules:
        from digit_recognizer.nets import keras_net

        if (found := keras_net.limit_threads(threads)) != threads:
            raise RunError(
                f"worker {worker.address}: TensorFlow has computed in {found or 'all'} threads there, "
                f"expected {threads}; start that worker again"
            )
    return function(*arguments)


def _digits(*digits: Any) -> tuple[Any, ...]:
    return digits


def _fit(task: FitTask, digits: tuple[Any, ...], topic: str) -> FitResult | FitFailure:
    tell = partial(_tell, topic)
    tell(task.progress())  # another worker may have told some of its epochs already
    train, test = digits
    return fit(task, train, test, tell)


def _tell(topic: str, progress: Progress) -> None:
    """Send it to who asked for the fit; raise if nobody does any more, as Dask cannot stop a thread."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state != "executing":
        raise RunError(f"{progress.fit} was cancelled")
    worker.log_event(topic, list(vars(progress).values()))
