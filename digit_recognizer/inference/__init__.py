"""Predictions for new digits by a finished run: pictures and CSVs become digits like MNIST's first.

files: pictures and CSVs to rows of pixels     paper: what is ink in a picture
preparation: that ink becomes a digit as MNIST's are     given: what a notebook passes, as paths or an array
models: the models that a run's submission is of, and the same as one function to probabilities
weights: a run's nets as layers of plain numbers     page: a page to draw on that holds them, made from page/
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from digit_recognizer.errors import DigitRecognizerError
    from digit_recognizer.inference import files
    from digit_recognizer.runs import Run


@dataclass(frozen=True)
class Prediction:
    """What a run predicts for one digit.

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


def predict(run: "Run", digits: "Iterable[Path] | np.ndarray") -> Iterator[Prediction | Unread]:
    """Yield the run's prediction for each digit, in order, and each file that cannot be read.

    digits: files, or an array of digits like MNIST's: integers of shape (n, 784) or (n, 28, 28).
    Raises DataError if it is no such array, RunError if the run's models cannot be read.
    """
    import numpy as np

    from digit_recognizer.inference import files, models

    chunks = files.check_pixels(digits) if isinstance(digits, np.ndarray) else files.read_all(digits)
    predict_proba = None
    for chunk in chunks:
        if isinstance(chunk, Unread):
            yield chunk
            continue
        predict_proba = predict_proba or models.load(run)  # a file that is no picture is refused sooner
        yield from _predictions(chunk, predict_proba(chunk.pixels))


def _predictions(chunk: "files.Chunk", probabilities: "np.ndarray") -> Iterator[Prediction]:
    labels = probabilities.argmax(axis=1)  # the first of equals, as in a submission
    for (file, number), label, row in zip(chunk.places, labels.tolist(), probabilities, strict=True):
        others = row.copy()
        others[label] = -1
        yield Prediction(file, number, label, float(row[label]), int(others.argmax()))
