"""Predictions for new digits by a finished run: pictures and CSVs become digits like MNIST's first.

files: pictures, CSVs and a notebook's arrays to rows of pixels     paper: what is ink in a picture
preparation: that ink becomes a digit as MNIST's are
models: the models that a run's submission is of, and the same as one function to probabilities
page: a page to draw on, from page/, that holds a run's nets as layers of plain numbers
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digit_recognizer.inference import files, models
from digit_recognizer.inference.files import Unread
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


def predict(run: Run, digits: Iterable[Path] | np.ndarray) -> Iterator[Prediction | Unread]:
    """Yield the run's prediction for each digit, in order, and each file that cannot be read.

    digits: files, or an array of digits like MNIST's: integers of shape (n, 784) or (n, 28, 28).
    Raises DataError if it is no such array, RunError if the run's models cannot be read.
    """
    chunks = files.check_pixels(digits) if isinstance(digits, np.ndarray) else files.read_all(digits)
    predict_proba = None
    for chunk in chunks:
        rows = None
        for place in chunk.places:
            if isinstance(place, Unread):
                yield place
                continue
            predict_proba = predict_proba or models.load(run)  # a file that is no picture is refused sooner
            rows = rows or iter(predict_proba(chunk.pixels))
            yield _prediction(*place, next(rows))


def _prediction(file: str, row: int | None, probabilities: np.ndarray) -> Prediction:
    label = int(probabilities.argmax())  # the first of equals, as in a submission
    others = probabilities.copy()
    others[label] = -1
    return Prediction(file, row, label, float(probabilities[label]), int(others.argmax()))
