"""What a fit tells while it goes on: its learning curve, epoch by epoch, for the screen and the log."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from digit_recognizer.files import open_plain

MAX_LOG_BYTES = 1 << 24

# After an epoch: epoch, the number so far, and train_loss, train_accuracy, valid_loss, valid_accuracy.
Metrics = dict[str, float]


@dataclass(frozen=True)
class Progress:
    """How far a fit is.

    done: 0 before the first epoch, the share of its epochs or of its time after each, 1 with its result.
    epoch: the epochs so far, of `epochs`, which is None if the time decides. metrics: of the latest epoch.
    unit: what is counted; a search tells of candidates.
    """

    fit: str
    done: float
    epoch: float
    epochs: int | None
    metrics: Metrics
    unit: str = "epoch"


OnProgress = Callable[[Progress], None]


def file_name(fit: str) -> str:
    """Return what the files of a fit are called, without the ending."""
    return fit.replace(" ", "-")


def write_log(folder: Path, progress: Progress) -> None:
    """Add an epoch to the fit's log, which progress without metrics empties; a full disk ends no fit."""
    file = folder / f"{file_name(progress.fit)}.jsonl"
    with suppress(OSError):
        if not progress.metrics:
            file.unlink(missing_ok=True)
        elif progress.done < 1:
            with file.open("a", encoding="utf-8") as log:
                log.write(json.dumps(progress.metrics) + "\n")


def read_log(file: Path) -> list[Metrics]:
    """Return the metrics after each epoch that a fit has logged so far."""
    curve: list[Metrics] = []
    with suppress(FileNotFoundError, ValueError), open_plain(file) as log:  # a full disk cuts a line off
        for line in log.read(MAX_LOG_BYTES).splitlines():
            curve.append(json.loads(line))
    return curve
