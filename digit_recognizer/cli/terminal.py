"""What reaches the terminal, escaped: results on stdout, notices on stderr."""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click

from digit_recognizer.errors import printable


def notice(text: object) -> None:
    """Print a line for the user that is no result."""
    click.echo("\n".join(map(printable, str(text).split("\n"))), err=True)


def result(text: object) -> None:
    """Print a line of the command's result."""
    click.echo(printable(text))


def results(lines: Iterable[object]) -> None:
    """Print lines of the command's result."""
    for line in lines:
        result(line)


def number(value: float | None, style: str) -> str:
    """Return a number in a format of Python's, "-" for None."""
    return "-" if value is None else format(value, style)


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, a batch system's stop, and SIGHUP raise KeyboardInterrupt as Ctrl-C does."""
    in_main_thread = threading.current_thread() is threading.main_thread()  # which alone gets signals
    names = [name for name in ("SIGTERM", "SIGHUP") if in_main_thread and hasattr(signal, name)]
    # What nohup ignores stays ignored.
    numbers = [
        number for name in names if signal.getsignal(number := getattr(signal, name)) == signal.SIG_DFL
    ]
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
