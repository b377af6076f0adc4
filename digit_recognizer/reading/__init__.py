"""Reading new digits with a finished run: pictures and CSVs become digits like MNIST's, then predictions.

files: pictures and CSVs to rows of pixels     paper: what is ink in a picture
preparation: that ink becomes a digit as MNIST's are
stored: the models that a run's submission is of     model: the same, as one function to probabilities
weights: a run's nets as layers of plain numbers     page: a page to draw on that holds them, made from page/
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from digit_recognizer.errors import DigitRecognizerError
    from digit_recognizer.reading import files
    from digit_recognizer.runs import Run


@dataclass(frozen=True)
class Reading:
    """What a run reads in one digit.

    row: in a CSV, below its header, or in an array, from 1; None for a picture.
    """

    file: str
    row: int | None
    label: int
    probability: float
    runner_up: int


@dataclass(frozen=True)
class Unread:
    """A file that cannot be read, or the rest of a CSV. error: why, in one line that names the file."""

    file: str
    error: "DigitRecognizerError"


def read(run: "Run", paths: Iterable[Path]) -> Iterator[Reading | Unread]:
    """Yield what the run reads in each digit of the files, in their order, and each file that cannot be read.

    Raises RunError if the run's models cannot be read.
    """
    from digit_recognizer.reading import files, model

    predict_proba = None
    for chunk in files.read_all(paths):
        if isinstance(chunk, Unread):
            yield chunk
            continue
        predict_proba = predict_proba or model.load(run)  # a file that is no picture is refused sooner
        yield from _readings(chunk, predict_proba(chunk.pixels))


def read_pixels(run: "Run", pixels: "np.ndarray") -> list[Reading]:
    """Return what the run reads in an array of digits like MNIST's: integers (n, 784) or (n, 28, 28).

    Raises DataError if the array is no such one, RunError if the run's models cannot be read.
    """
    from digit_recognizer.reading import files, model

    chunks = files.check_pixels(pixels)
    predict_proba = model.load(run)
    return [reading for chunk in chunks for reading in _readings(chunk, predict_proba(chunk.pixels))]


def _readings(chunk: "files.Chunk", probabilities: "np.ndarray") -> Iterator[Reading]:
    labels = probabilities.argmax(axis=1)  # the first of equals, as in a submission
    for (file, number), label, row in zip(chunk.places, labels.tolist(), probabilities, strict=True):
        others = row.copy()
        others[label] = -1
        yield Reading(file, number, label, float(row[label]), int(others.argmax()))
