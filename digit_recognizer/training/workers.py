"""Fits side by side, in processes of this machine; loky, joblib's engine, keeps the processes."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from digit_recognizer import environment
from digit_recognizer.data import Dataset
from digit_recognizer.errors import LibraryError, RunError
from digit_recognizer.settings import Settings
from digit_recognizer.training.fit import (
    FitFailure,
    FitResult,
    FitTask,
    OnProgress,
    fit,
    limited_threads,
    read_log,
)
from digit_recognizer.training.machine import gpu_count, why_no_processes

POLL_SECONDS = 0.2  # between looks at the logs of fits in other processes
IDLE_SECONDS = 300  # after which a process without a fit ends

OnNotice = Callable[[str], None]
_pool: Any = None  # loky's ProcessPoolExecutor
_pool_size = (0, 0)  # its processes, and the threads of each


def fit_all(
    tasks: Sequence[FitTask],
    data: Dataset,
    *,
    workers: int,
    logs: Path,
    on_progress: OnProgress,
    on_notice: OnNotice,
) -> Generator[FitResult | FitFailure, None, None]:
    """Fit all in `workers` processes, with as many threads as the first one has; yield each as it ends.

    A single worker is this very process where it may be, see `_stays_here`. logs: a folder for learning
    curves, `<task.file_name>.jsonl`. Raises RunError if a process is killed.
    """
    # A process that stays from an earlier call may work in another folder.
    files = [logs.absolute() / f"{task.file_name}.jsonl" for task in tasks]
    for file in files:
        file.unlink(missing_ok=True)  # of a fit that was cut off
    calls = [
        partial(fit, task, data.train, data.test, log=file) for task, file in zip(tasks, files, strict=True)
    ]
    here = workers == 1 and _stays_here([task.settings for task in tasks])
    called = _call_all(calls, 0 if here else workers, tasks[0].threads, on_notice)
    with _report_progress(tasks, files, on_progress) as report_end, closing(called):
        for _, result in called:
            if isinstance(result, FitResult):
                report_end(result)
            yield result


def import_libraries(tasks: Sequence[FitTask], *, workers: int) -> None:
    """Import what the tasks' nets need in the processes that are to fit them, which takes no more time.

    Raises LibraryError if it cannot be imported.
    """
    first = [[task for task in tasks if task.settings.net == net][:workers] for net in ("keras", "mlp")]
    calls = [partial(_import_libraries, task) for of_net in first for task in of_net]
    here = workers == 1 and _stays_here([task.settings for task in tasks])
    list(_call_all(calls, 0 if here else workers, tasks[0].threads))


def _import_libraries(task: FitTask) -> None:
    try:
        with limited_threads(task.settings, task.threads):
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
    here = workers == 1 and _stays_here([settings for settings, *_ in arguments])
    ended = dict(_call_all(calls, 0 if here else workers, threads))
    results = [ended[number] for number in range(len(calls))]
    return [results[i * workers : (i + 1) * workers] for i in range(len(arguments))]


def stop_workers() -> None:
    """Kill the processes that wait for further fits; they would take seconds to end by themselves."""
    global _pool
    pool, _pool = _pool, None
    if pool is not None:
        pool.shutdown(kill_workers=True)


def _stays_here(settings: Sequence[Settings]) -> bool:
    """Return whether nets are fitted in this process, when one is fitted at a time.

    A notebook may have changed TensorFlow for good: its threads, its backend, its rules for numbers. There,
    Keras nets get a process of their own, but for a GPU, whose memory the notebook may hold.
    """
    if environment.is_own_process or not any(each.net == "keras" for each in settings):
        return True
    return gpu_count() > 0 or bool(why_no_processes())


def _call_all(
    calls: Sequence[Callable[[], Any]], workers: int, threads: int, on_notice: OnNotice = lambda _: None
) -> Generator[tuple[int, Any], None, None]:
    """Yield each call's number and what it returns, as it ends; 0 workers: in this process."""
    from joblib.externals.loky import BrokenProcessPool

    futures = _submit(calls, workers, threads, on_notice) if workers else None
    if futures is None:
        for number, call in enumerate(calls):
            yield number, call()
        return
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        stop_workers()
        raise RunError(
            "a process that fits was killed, perhaps for lack of memory; try fewer --jobs"
        ) from None
    except BaseException:  # the caller wants no more, too
        stop_workers()
        raise


def _submit(
    calls: Sequence[Callable[[], Any]], workers: int, threads: int, on_notice: OnNotice = lambda _: None
) -> dict["Future[Any]", int] | None:
    """Return the calls' futures, in as many processes; None, with a notice, if these cannot be started."""
    global _pool, _pool_size
    from joblib.externals.loky import ProcessPoolExecutor

    if _pool_size != (workers, threads):
        stop_workers()
    others = set(multiprocessing.active_children())
    try:
        if _pool is None:
            names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
            _pool = ProcessPoolExecutor(
                workers, timeout=IDLE_SECONDS, env=dict.fromkeys(names, str(threads)),
                initializer=_exit_with_parent, initargs=(os.getpid(),),
            )  # fmt: skip
            _pool_size = (workers, threads)
        return {_pool.submit(call): number for number, call in enumerate(calls)}
    except (OSError, RuntimeError) as error:  # of a process, or of a thread that waits for it
        _pool = None
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
            process.join()
        reason = getattr(error, "strerror", None) or error
        on_notice(f"One fit is done after the other, as {workers} processes cannot be started: {reason}")
        return None


def _exit_with_parent(parent: int) -> None:
    """Exit this worker about a second after its parent dies; on Windows it finishes its fit."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _report_progress(
    tasks: Sequence[FitTask], files: Sequence[Path], on_progress: OnProgress
) -> Iterator[Callable[[FitResult], None]]:
    """Pass on what is new in the fits' logs to `on_progress`, until the block ends.

    Yield a function that takes the result of each fit that ended, and tells that it is done.
    """
    shown = {task.name: task.progress() for task in tasks}
    ended: set[str] = set()
    lock = threading.Lock()  # nothing is told of a fit after its end
    stop = threading.Event()
    began = time.monotonic()

    def look() -> None:
        for task, file in zip(tasks, files, strict=True):
            progress = task.progress(read_log(file), time.monotonic() - began)
            with lock:
                if task.name not in ended and progress != shown[task.name]:
                    shown[task.name] = progress
                    on_progress(progress)

    def follow() -> None:
        while not stop.wait(POLL_SECONDS):
            look()

    def report_end(result: FitResult) -> None:
        with lock:
            ended.add(result.task.name)
            on_progress(replace(result.task.progress(result.curve), done=1.0))

    for progress in shown.values():
        on_progress(progress)
    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield report_end
    finally:
        stop.set()
        follower.join()
