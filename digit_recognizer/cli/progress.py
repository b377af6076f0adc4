"""Progress of fits and of Kaggle's answers: bars on a terminal, lines elsewhere, a notebook's table."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from digit_recognizer.cli.terminal import fitting, notice
from digit_recognizer.errors import printable

if TYPE_CHECKING:
    from rich import progress as rich_progress

    from digit_recognizer.job import Job
    from digit_recognizer.runs import Run
    from digit_recognizer.training import OnProgress, Progress

LINE_SECONDS = 10.0  # between lines of a fit where there is no terminal
BAR_WIDTH, ACCURACY_WIDTH = 3, len("validation accuracy 0.9999")
CELL_SECONDS = 0.5  # between updates of a notebook's cell


@contextmanager
def show_progress() -> "Iterator[OnProgress]":
    """Yield a callback that shows how far each fit is, the time left and the accuracy so far, on stderr."""
    from rich.console import Console

    if sys.stderr.isatty() and Console(stderr=True).is_interactive:  # it is not with TERM=dumb, in an editor
        with _bars() as on_progress:
            yield on_progress
    else:
        yield lines(notice)


def train_visibly(job: "Job") -> "Run":
    """Train, with notices and progress on stderr."""
    from digit_recognizer import pipeline

    with show_progress() as on_progress:
        return pipeline.train(job, on_notice=notice, on_progress=on_progress)


def lines(write: Callable[[str], None], seconds: float = LINE_SECONDS) -> "OnProgress":
    """Return a callback that writes a line about a fit at its end and every `seconds`."""
    first: dict[str, tuple[float, float]] = {}  # when how much was seen first; fits wait for a process
    written: dict[str, float] = {}

    def on_progress(progress: "Progress") -> None:
        if not progress.done:  # it begins, perhaps after one of the same name
            first.pop(progress.fit, None)
            written.pop(progress.fit, None)
            return
        now = time.monotonic()
        began, done = first.setdefault(progress.fit, (now, progress.done))
        last = progress.done >= 1
        if not last and now - written.get(progress.fit, began) < seconds:
            return
        written[progress.fit] = now
        left = (now - began) / max(0.001, progress.done - done) * (1 - progress.done)
        remaining = "" if last else f", {left:.0f} s left"
        write(f"{progress.fit}: {_epochs(progress)}{_accuracy(progress)}{remaining}")

    return on_progress


def notebook_cell() -> "OnProgress":
    """Return a callback that keeps a table of the fits up to date in the notebook's cell."""
    import html

    from IPython.display import HTML, display

    cell = display(HTML(""), display_id=True)
    rows: dict[str, str] = {}
    shown = [0.0]

    def on_progress(progress: "Progress") -> None:
        text = html.escape(f"{_epochs(progress)}{_accuracy(progress)}")
        bar = f"<progress value={progress.done:.3f}></progress>"
        rows[progress.fit] = f"<tr><td>{html.escape(progress.fit)}<td>{bar}<td>{text}"
        if time.monotonic() - shown[0] >= CELL_SECONDS or progress.done >= 1:
            shown[0] = time.monotonic()
            cell.update(HTML(f"<table>{''.join(rows.values())}</table>"))

    return on_progress


def _epochs(progress: "Progress") -> str:
    """Return the epochs so far; where the time decides how many there will be, the share of it as well."""
    if progress.epochs is None:
        return f"{progress.done:.0%}, {progress.unit} {round(progress.epoch, 1):g}"
    return f"{progress.unit} {progress.epoch:.0f} of {progress.epochs}"


def _accuracy(progress: "Progress") -> str:
    accuracy = progress.metrics.get("valid_accuracy")
    return "" if accuracy is None else f", validation accuracy {accuracy:.4f}"


@contextmanager
def _bars() -> "Iterator[OnProgress]":
    from rich import progress as rich_progress
    from rich.console import RenderableType
    from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.table import Column

    whole = Column(no_wrap=True, overflow="ellipsis")
    remaining = TimeRemainingColumn(table_column=whole)
    columns = {  # in the order on the screen
        "fit": (TextColumn("{task.description}", markup=False, table_column=whole),),
        "bar": (BarColumn(table_column=Column(min_width=BAR_WIDTH, ratio=1)),),
        "epochs": (TextColumn("{task.fields[epochs]}", table_column=whole),),
        "left": (TextColumn("left"), remaining),
        "accuracy": (TextColumn("{task.fields[accuracy]}", table_column=whole),),
    }

    class Bars(rich_progress.Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            """Yield the bars, with the most important columns on a narrow terminal."""
            if not self.tasks:
                return
            texts = [(task.description, task.fields["epochs"]) for task in self.tasks]
            fit, epochs = (max(map(len, column)) for column in zip(*texts, strict=True))
            left = max(len(f"left {remaining.render(task)}") for task in self.tasks)
            widths = {"fit": fit, "accuracy": ACCURACY_WIDTH, "left": left, "bar": BAR_WIDTH}
            shown = fitting({**widths, "epochs": epochs}, self.console.width, gap=1)
            self.columns = tuple(column for name in columns if name in shown for column in columns[name])
            yield from super().get_renderables()

    with _shown(Bars) as bars:
        tasks: dict[str, TaskID] = {}
        total = bars.add_task("all fits", epochs="", accuracy="", visible=False)

        def on_progress(progress: "Progress") -> None:
            bars.start()
            if progress.fit not in tasks:
                tasks[progress.fit] = bars.add_task(progress.fit, total=1, epochs="", accuracy="")
            task = bars.tasks[tasks[progress.fit]]
            if not progress.done:  # it begins, perhaps after one of the same name
                bars.reset(task.id)
            accuracy = _accuracy(progress).removeprefix(", ")
            bars.update(task.id, completed=progress.done, epochs=_epochs(progress), accuracy=accuracy)
            bars.update(total, total=len(tasks), visible=len(tasks) > 1)
            # Side by side, first epochs end at about the same time: the speed is seen with the second ones.
            if task.speed or not bars.tasks[total].completed or progress.done >= 1:
                bars.update(total, completed=sum(bars.tasks[each].completed for each in tasks.values()))

        yield on_progress


@contextmanager
def _shown(
    kind: "type[rich_progress.Progress]", *columns: "rich_progress.ProgressColumn"
) -> Iterator["rich_progress.Progress"]:
    """Yield bars on stderr, which are there from their `start` to the block's end."""
    from rich.console import Console, ConsoleDimensions

    class Narrower(Console):
        @property  # type: ignore[misc]  # nobody sets it
        def size(self) -> ConsoleDimensions:
            columns, lines = super().size
            return ConsoleDimensions(columns - len("^C"), lines)  # which Ctrl-C prints behind the last bar

    # An epoch may take minutes: the speed is that of all since the first one.
    bars = kind(*columns, console=Narrower(stderr=True), speed_estimate_period=float("inf"))
    try:
        yield bars
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
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    bar = BarColumn(table_column=Column(min_width=BAR_WIDTH, ratio=1))
    whole = [kind(table_column=Column(no_wrap=True)) for kind in (DownloadColumn, TimeRemainingColumn)]
    with _shown(Progress, TextColumn("Downloading"), bar, *whole) as bars:
        task = bars.add_task("", total=None)

        def on_progress(received: int, size: int | None) -> None:
            bars.start()
            bars.update(task, completed=received, total=size)

        yield on_progress
