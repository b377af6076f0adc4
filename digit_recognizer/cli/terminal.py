"""What reaches the terminal: results on stdout, notices and progress bars on stderr."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from digit_recognizer.errors import printable


def notice(text: object) -> None:
    """Print a line for the user that is no result."""
    click.echo("\n".join(map(printable, str(text).split("\n"))), err=True)


def result(text: object) -> None:
    """Print a line of the command's result."""
    click.echo("\n".join(map(printable, str(text).split("\n"))))


def results(lines: Iterable[object]) -> None:
    """Print lines of the command's result."""
    for line in lines:
        result(line)


@contextmanager
def progress_bars() -> Iterator[Callable[[Any], None]]:
    """Yield a callback that shows each fit's epochs, the time left and the accuracy so far, on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs, left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[accuracy]}"),
        console=Console(stderr=True),
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is as good as Ctrl-C
    tasks: dict[str, Any] = {}
    total = bars.add_task("all fits", accuracy="", visible=False)
    try:

        def on_progress(progress: Any) -> None:
            bars.start()
            accuracy = progress.metrics.get("valid_accuracy")
            shown = "" if accuracy is None else f"held-out accuracy {accuracy:.4f}"
            if progress.fit not in tasks:
                tasks[progress.fit] = bars.add_task(progress.fit, total=progress.epochs, accuracy="")
                epochs = sum(task.total or 0 for task in bars.tasks if task.id != total)
                bars.update(total, total=epochs, visible=len(tasks) > 1)
            task = bars.tasks[tasks[progress.fit]]
            bars.advance(total, progress.epoch - task.completed)
            bars.update(task.id, completed=progress.epoch, accuracy=shown)

        yield on_progress
    finally:
        if bars.live.is_started:  # else it would print an empty line
            bars.stop()


@contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows on stderr what is being done; nothing if stderr is no terminal."""
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(printable(text)))


@contextmanager
def download_bar() -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function that shows a bar on stderr: bytes so far, in all, and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    bars = Progress(
        TextColumn("Downloading"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bars.add_task("", total=None)
    try:

        def on_progress(received: int, size: int | None) -> None:
            bars.start()
            bars.update(task, completed=received, total=size)

        yield on_progress
    finally:
        if bars.live.is_started:  # else it would print an empty line
            bars.stop()
