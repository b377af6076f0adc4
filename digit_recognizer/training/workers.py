"""Fits side by side, in processes of this machine, which joblib keeps between calls; start at `fit_all`."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from digit_recognizer import environment
from digit_recognizer.data import Dataset
from digit_recognizer.errors import LibraryError, RunError
from digit_recognizer.settings import Settings
from digit_recognizer.training.fit import FitFailure, FitResult, FitTask, fit, limited_threads
from digit_recognizer.training.history import OnProgress, Progress
from digit_recognizer.training.machine import gpu_count, why_no_processes

OnNotice = Callable[[str], None]
# The ends of a pipe from all processes that fit to this one. A short message is written as a whole, also by a
# process that is killed.
_pipe: tuple[Connection, Connection] | None = None
_to_parent: Connection  # in a process that fits


def fit_all(
    tasks: Sequence[FitTask],
    data: Dataset,
    *,
    workers: int,
    on_progress: OnProgress,
    on_notice: OnNotice,
) -> Generator[FitResult | FitFailure, None, None]:
    """Fit all in `workers` processes, with as many threads as the first one has; yield each as it ends.

    A single worker is this very process where it may be, see `_stays_here`. Raises RunError if a process is
    killed.
    """
    nets = [task.settings for task in tasks]
    with _listening(on_progress) as listener:
        calls = [partial(fit, task, data.train, data.test, listener) for task in tasks]
        with closing(_call_all(calls, nets, workers, tasks[0].threads, on_notice)) as results:
            for _, result in results:
                yield result


def import_libraries(nets: Sequence[Settings], *, workers: int, threads: int) -> None:
    """Import what the nets need in the processes that are to fit them; raise LibraryError if that fails."""
    first_of_kind = {net.net: net for net in reversed(nets)}
    map_on_workers(
        _import_libraries,
        [(net, threads) for net in first_of_kind.values()],
        workers=workers,
        threads=threads,
    )


def _import_libraries(net: Settings, threads: int) -> None:
    try:
        with limited_threads(net, threads):
            from digit_recognizer.nets import pipelines  # noqa: F401
    except ImportError as error:  # told here, where its traceback is
        raise LibraryError.of_import(error) from error


def map_on_workers(
    function: Callable[..., Any], arguments: Sequence[Sequence[Any]], *, workers: int, threads: int
) -> list[list[Any]]:
    """Call `function` with each of the `arguments` in all workers at once; return their results, by worker.

    arguments: of each call, a net's settings first. The processes stay for `fit_all`; a single worker is this
    very process where it may be. Raises RunError if one is killed.
    """
    calls = [partial(function, *args) for args in arguments for _ in range(workers)]
    ended = dict(_call_all(calls, [settings for settings, *_ in arguments], workers, threads))
    return [[ended[i * workers + worker] for worker in range(workers)] for i in range(len(arguments))]


def stop_workers() -> None:
    """Kill the processes that wait for further fits; they would take seconds to end by themselves."""
    if "joblib" in sys.modules:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown(kill_workers=True)


def _stays_here(nets: Sequence[Settings]) -> bool:
    """Return whether nets are fitted in this process, when one is fitted at a time.

    A notebook may have changed TensorFlow for good: its threads, its backend, its rules for numbers. There,
    Keras nets get a process of their own, but for a GPU, whose memory the notebook may hold.
    """
    if environment.is_own_process or not any(net.net == "keras" for net in nets):
        return True
    return gpu_count() > 0 or bool(why_no_processes())


def _call_all(
    calls: Sequence[Callable[[], Any]],
    nets: Sequence[Settings],
    workers: int,
    threads: int,
    on_notice: OnNotice = lambda _: None,
) -> Generator[tuple[int, Any], None, None]:
    """Yield each call's number and what it returns, as it ends."""
    from joblib.externals.loky import BrokenProcessPool

    here = workers == 1 and _stays_here(nets)
    results = None if here else _start_calls(calls, workers, threads, on_notice)
    try:
        yield from results or ((number, call()) for number, call in enumerate(calls))
    except BrokenProcessPool:
        raise RunError(
            "a process that fits was killed, perhaps for lack of memory; try fewer --jobs"
        ) from None


def _start_calls(
    calls: Sequence[Callable[[], Any]], workers: int, threads: int, on_notice: OnNotice
) -> Iterator[tuple[int, Any]] | None:
    """Start the calls in other processes, which are killed when the iterator is closed or raises.

    joblib has no pool of one process: there are two then, one of which works at a time. Returns None, with a
    notice, if no processes can be started.
    """
    from joblib import Parallel, delayed, parallel_config

    others = set(multiprocessing.active_children())
    try:
        with parallel_config(
            "loky", n_jobs=max(2, workers), inner_max_num_threads=threads, require=None, max_nbytes=None,
            initializer=_begin_worker, initargs=(os.getpid(), _get_pipe()[1]),
        ):  # fmt: skip
            return Parallel(
                return_as="generator_unordered", batch_size=1, pre_dispatch="all" if workers > 1 else 1
            )(delayed(_call)(number, call) for number, call in enumerate(calls))
    except (OSError, RuntimeError) as error:  # of a process, or of a thread that waits for it
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
            process.join()
        reason = getattr(error, "strerror", None) or error
        on_notice(f"One fit is done after the other, as {workers} processes cannot be started: {reason}")
        return None


def _call(number: int, call: Callable[[], Any]) -> tuple[int, Any]:
    return number, call()


def _begin_worker(parent: int, to_parent: Connection) -> None:
    """Exit this process about a second after its parent dies; on Windows it finishes its fit."""
    global _to_parent
    _to_parent = to_parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Listener:
    """Pass on what fits tell; in another process, it is what sends that here."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress

    def __call__(self, progress: Progress) -> None:
        self._on_progress(progress)

    def __reduce__(self) -> tuple[Callable[[], OnProgress], tuple[()]]:
        return _get_sender, ()


def _get_sender() -> OnProgress:
    return _to_parent.send


def _get_pipe() -> tuple[Connection, Connection]:
    global _pipe
    if _pipe is None:
        _pipe = multiprocessing.Pipe(duplex=False)
    return _pipe


@contextmanager
def _listening(on_progress: OnProgress) -> Iterator[_Listener]:
    """Yield what fits tell their progress to, in any process, until the block ends."""
    reader, writer = _get_pipe()

    def listen() -> None:
        told = iter(reader.recv, None)
        try:
            for progress in told:
                on_progress(progress)
        finally:
            for _ in told:  # else the fits would wait for who reads
                pass

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield _Listener(on_progress)
    finally:
        writer.send(None)
        thread.join()
