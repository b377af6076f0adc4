"""Fits side by side, in processes of this machine; joblib is the engine."""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from digit_recognizer.data import Dataset
from digit_recognizer.errors import RunError
from digit_recognizer.training.fit import FitFailure, FitResult, FitTask, OnProgress, fit, read_log

POLL_SECONDS = 0.2  # between looks at the logs of fits in other processes


def fit_all(
    tasks: Sequence[FitTask],
    data: Dataset,
    *,
    workers: int,
    logs: Path,
    on_progress: OnProgress,
) -> Generator[FitResult | FitFailure, None, None]:
    """Fit all in `workers` processes, with as many threads as the first one has; yield each as it ends.

    A single worker is this very process. logs: a folder for learning curves, `<task.file_name>.jsonl`.
    Raises RunError if a process is killed.
    """
    import joblib

    # A process that stays from an earlier call may work in another folder.
    files = [logs.absolute() / f"{task.file_name}.jsonl" for task in tasks]
    for file in files:
        file.unlink(missing_ok=True)  # of a fit that was cut off
    calls = [
        joblib.delayed(fit)(task, data.train, data.test, log=file)
        for task, file in zip(tasks, files, strict=True)
    ]
    with _report_progress(tasks, files, on_progress) as report_end, _parallel(workers, tasks[0].threads):
        for result in joblib.Parallel(return_as="generator_unordered")(calls):
            if isinstance(result, FitResult):
                report_end(result)
            yield result


def map_on_workers(
    function: Callable[..., Any], arguments: Sequence[Sequence[Any]], *, workers: int, threads: int
) -> list[list[Any]]:
    """Call `function` with each of the `arguments` in all workers at once; return their results, by worker.

    The processes stay for `fit_all`; a single worker is this very process. Raises RunError if one is killed.
    """
    import joblib

    calls = [joblib.delayed(function)(*args) for args in arguments for _ in range(workers)]
    with _parallel(workers, threads):
        results = joblib.Parallel(batch_size=1)(calls)
    return [results[i * workers : (i + 1) * workers] for i in range(len(arguments))]


def stop_workers() -> None:
    """Kill the processes that wait for further fits; they would take seconds to end by themselves."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True).shutdown(kill_workers=True)


@contextmanager
def _parallel(workers: int, threads: int) -> Iterator[None]:
    """Let joblib use `workers` processes; raise RunError if one of them is killed."""
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with joblib.parallel_config(
        "loky", n_jobs=workers, inner_max_num_threads=threads,
        max_nbytes=None,  # else the digits go through files in /dev/shm or TMPDIR, which may be full
        initializer=_exit_with_parent, initargs=(os.getpid(),),
    ):  # fmt: skip
        try:
            yield
        except TerminatedWorkerError:
            raise RunError(
                "a process that fits was killed, perhaps for lack of memory; try fewer --jobs"
            ) from None


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
