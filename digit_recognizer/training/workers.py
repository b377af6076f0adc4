"""Fits side by side, in processes of this machine, which joblib keeps between calls; start at `fit_all`."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from digit_recognizer import environment, signals
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
_on_progress: OnProgress  # what fits in this process tell


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
    calls = [partial(fit, task, data.train, data.test, _tell) for task in tasks]
    with _listening(on_progress):
        yield from _call_all(calls, nets, workers, tasks[0].threads, on_notice)


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
    every = [args for args in arguments for _ in range(workers)]
    calls = [partial(_numbered, number, function, *args) for number, args in enumerate(every)]
    ended = dict(_call_all(calls, [settings for settings, *_ in arguments], workers, threads))
    return [[ended[i * workers + worker] for worker in range(workers)] for i in range(len(arguments))]


def _numbered(number: int, function: Callable[..., Any], *args: Any) -> tuple[int, Any]:
    return number, function(*args)


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
) -> Generator[Any, None, None]:
    """Yield what the calls return, each as it ends."""
    from joblib.externals.loky import BrokenProcessPool

    here = workers == 1 and _stays_here(nets)
    results = None if here else _start_calls(calls, workers, threads, on_notice)
    try:
        yield from results or (call() for call in calls)
    except BrokenProcessPool:
        raise RunError(
            "a process that fits was killed, perhaps for lack of memory; try fewer --jobs"
        ) from None


def _start_calls(
    calls: Sequence[Callable[[], Any]], workers: int, threads: int, on_notice: OnNotice
) -> Iterator[Any] | None:
    """Start the calls in other processes, which are killed when the iterator is closed or raises.

    joblib has no pool of one process: there are two then, one of which works at a time. Returns None, with a
    notice, if no processes can be started.
    """
    from joblib import Parallel, delayed, parallel_config

    others = set(multiprocessing.active_children())
    try:
        # What a killed process leaves is cleaned up by others; that is no news.
        quiet = environment.own_settings(PYTHONWARNINGS="ignore:resource_tracker")
        with quiet, signals.kept_from_children(), parallel_config(
            "loky", n_jobs=max(2, workers), inner_max_num_threads=threads, require=None, max_nbytes=None,
            initializer=_begin_worker, initargs=(os.getpid(), _get_pipe()[1]),
        ):  # fmt: skip
            return Parallel(
                return_as="generator_unordered", batch_size=1, pre_dispatch="all" if workers > 1 else 1
            )(delayed(call)() for call in calls)
    except (OSError, RuntimeError) as error:  # of a process, or of a thread that waits for it
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
            process.join()
        reason = getattr(error, "strerror", None) or error
        on_notice(f"One fit is done after the other, as {workers} processes cannot be started: {reason}")
        return None


def _begin_worker(parent: int, to_parent: Connection) -> None:
    """Exit this process about a second after its parent dies; on Windows it finishes its fit."""
    global _on_progress
    _on_progress = to_parent.send

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _tell(progress: Progress) -> None:
    _on_progress(progress)


def _get_pipe() -> tuple[Connection, Connection]:
    global _pipe
    if _pipe is None:
        _pipe = multiprocessing.Pipe(duplex=False)
    return _pipe


@contextmanager
def _listening(on_progress: OnProgress) -> Iterator[None]:
    """Pass on what fits tell, in any process, until the block ends."""
    global _on_progress
    _on_progress, (reader, writer) = on_progress, _get_pipe()

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
        yield
    finally:
        writer.send(None)
        thread.join()
