"""Fits side by side, in processes of this machine; loky, joblib's engine, keeps them. Start at `fit_all`."""

import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import closing, suppress
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from digit_recognizer import environment, signals
from digit_recognizer.data import Dataset
from digit_recognizer.errors import LibraryError, RunError
from digit_recognizer.settings import Settings
from digit_recognizer.training import cluster
from digit_recognizer.training.fit import FitTask, OnProgress, Outcome, Progress, fit, limited_threads

OnNotice = Callable[[str], None]
POLL_SECONDS = 0.1  # between looks at what fits tell
GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")  # in /dev: NVIDIA's, AMD's, in Windows' Linux
IDLE_SECONDS = 300  # after which a process without a fit ends
_to_parent: Connection | None = None  # in a process that fits for another one
_pipe: tuple[Connection, Connection] | None = None  # from all of them to this one, which made them


def fit_all(
    tasks: Sequence[FitTask], data: Dataset, *, workers: int, on_progress: OnProgress, on_notice: OnNotice
) -> Generator[Outcome, None, None]:
    """Fit all in `workers` processes, or on a cluster, in as many threads as the first has; yield each then.

    A single worker is this very process where it may be, see `_stays_here`. On a cluster, `on_progress` is
    called in a thread. Raises RunError if a process is killed.
    """
    if cluster.current:
        yield from cluster.current.fit_all(tasks, data, on_progress)
        return
    pool = _start_processes([task.settings for task in tasks], workers, tasks[0].threads, on_notice)
    if pool is None:
        yield from (fit(task, data.train, data.test, on_progress) for task in tasks)
        return

    def listen() -> None:
        while _pipe and _pipe[0].poll():
            on_progress(_pipe[0].recv())

    calls = [(fit, task, data.train, data.test, _tell) for task in tasks]
    with closing(_call_all(pool, calls, workers, listen)) as called:
        yield from (result for _, result in called)


def import_libraries(nets: Sequence[Settings], *, workers: int, threads: int) -> None:
    """Import what the nets need in the processes that are to fit them; raise LibraryError if that fails."""
    first_of_kind = {net.net: net for net in reversed(nets)}
    calls = [(net, threads) for net in first_of_kind.values()]
    map_on_workers(_import_libraries, calls, workers=workers, threads=threads)


def _import_libraries(net: Settings, threads: int) -> None:
    try:
        with limited_threads(net, threads):
            from digit_recognizer.nets import pipelines  # noqa: F401
    except ImportError as error:  # told here, where its traceback is
        raise LibraryError.of_import(error) from error


def map_on_workers(
    function: Callable[..., Any], arguments: Sequence[Sequence[Any]], *, workers: int, threads: int
) -> list[list[Any]]:
    """Call `function` with each of the `arguments` as often as there are workers, all at once.

    arguments: of each call, a net's settings first. Returns the results for each of the arguments. The
    processes stay for `fit_all`; a single worker is this very process where it may be. Raises RunError if one
    is killed.
    """
    calls = [(function, *args) for args in arguments for _ in range(workers)]
    if cluster.current:
        ended = dict(cluster.current.call_all(calls))
    elif pool := _start_processes([settings for settings, *_ in arguments], workers, threads):
        ended = dict(_call_all(pool, calls, workers))
    else:
        ended = {number: function(*args) for number, (function, *args) in enumerate(calls)}
    return [[ended[i * workers + worker] for worker in range(workers)] for i in range(len(arguments))]


def stop_workers() -> None:
    """Kill the processes that wait for further fits; they would take seconds to end by themselves."""
    global _pipe
    _pipe = None  # it may hold what a fit that is cut off has told, or a part of that
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


def _call_all(
    pool: Executor, calls: Sequence[tuple[Any, ...]], workers: int, listen: Callable[[], None] = lambda: None
) -> Generator[tuple[int, Any], None, None]:
    """Yield each call's number and what it returns, as it ends; `listen` is called all the while."""
    from joblib.externals.loky import BrokenProcessPool

    rest, running = iter(enumerate(calls)), dict[Future[Any], int]()
    try:
        while True:
            # No more than its queue takes, so that each soon runs; see below.
            if following := list(islice(rest, 2 * workers - len(running))):
                with signals.kept_from_children():  # loky may start a process in place of one that grew
                    running |= {pool.submit(*call): number for number, call in following}
            if not running:
                return
            ended = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED).done
            listen()
            for future in ended:
                yield running.pop(future), future.result()
    except BrokenProcessPool:
        stop_workers()
        raise RunError(
            "a process that fits was killed, perhaps for lack of memory; try fewer --jobs"
        ) from None
    except BaseException:  # the caller wants no more, too
        try:  # a thread of loky's raises KeyError if it is stopped with a call that it has not begun to run
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline and not all(call.running() or call.done() for call in running):
                time.sleep(0.01)
        finally:
            stop_workers()
        raise


def _start_processes(
    nets: Sequence[Settings], workers: int, threads: int, on_notice: OnNotice = lambda _: None
) -> Executor | None:
    """Return processes for the nets, those there are if they suit; None if the fits are done in this one.

    That is a single worker, see `_stays_here`, or, with a notice, the way out if no process can be started.
    """
    if workers == 1 and _stays_here(nets):
        return None
    from joblib.externals.loky import get_reusable_executor

    global _pipe
    _pipe = _pipe or multiprocessing.Pipe(duplex=False)
    others = set(multiprocessing.active_children())
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    # What a killed process leaves is cleaned up by others; that is no news. Nor is one that is half started.
    quiet = environment.own_settings(PYTHONWARNINGS="ignore:resource_tracker")
    try:
        with quiet, signals.kept_from_children(), signals.Hold() as hold:
            pool: Executor = get_reusable_executor(
                max_workers=workers, timeout=IDLE_SECONDS, env=dict.fromkeys(names, str(threads)),
                initializer=_begin_worker, initargs=(os.getpid(), _pipe[1]),
            )  # fmt: skip
            pool.submit(int)  # which starts them
            with hold.released():
                return pool
    except (OSError, RuntimeError) as error:  # of a process, or of a thread that waits for it
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
            process.join()
        # Else loky would give the next call this pool. Its thread may not have begun, so nobody waits for it.
        with suppress(OSError, RuntimeError):
            get_reusable_executor(reuse=True).shutdown(wait=False, kill_workers=True)
        reason = getattr(error, "strerror", None) or error
        on_notice(f"One fit is done after the other, as {workers} processes cannot be started: {reason}")
        return None


def _begin_worker(parent: int, to_parent: Connection) -> None:
    """Exit this process about a second after its parent dies; on Windows it finishes its fit."""
    global _to_parent
    _to_parent = to_parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _tell(progress: Progress) -> None:
    """Send it to the process that asked for the fit; so short a message is written whole, or not at all."""
    assert _to_parent
    _to_parent.send(progress)
