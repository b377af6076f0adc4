"""Ctrl-C, SIGTERM (a batch system's stop) and SIGHUP (a closed terminal): taken alike, or held."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _numbers() -> list[int]:
    """Return the signals that this thread gets: the main thread all that nohup does not ignore."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in NUMBERS if signal.getsignal(number) != signal.SIG_IGN]


@contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does."""
    numbers = [number for number in _numbers() if signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Keep the terminal's Ctrl-C and end, which this process handles, from those that start meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # else the first process would start it: Python 3.11 unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Hold:
    """Hold signals back in a `with` block, but where it is `released`; for what takes a second or two."""

    def __init__(self) -> None:
        self._came: list[int] = []
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Hold":
        self._handlers = {
            number: signal.signal(number, lambda number, _: self._came.append(number))
            for number in _numbers()
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Let signals through meanwhile; one that was held back raises KeyboardInterrupt at once."""
        try:
            self.__exit__()
            if self._came:
                raise KeyboardInterrupt
            yield
        finally:
            self.__enter__()
