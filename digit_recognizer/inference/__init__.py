"""Predictions for new digits by a finished run: pictures and CSVs become digits like MNIST's first.

files: pictures, CSVs and a notebook's arrays to rows of pixels     paper: what is ink in a picture
preparation: that ink becomes a digit as MNIST's are
page: a page to draw on, from page/, that holds a run's nets as layers of plain numbers
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from digit_recognizer import runs, training
from digit_recognizer.blending import AnyCombiner
from digit_recognizer.errors import FitError, RunError
from digit_recognizer.inference import files
from digit_recognizer.inference.files import Unread
from digit_recognizer.nets.arrays import read_arrays
from digit_recognizer.predictions import BLEND, mean_of_fits
from digit_recognizer.runs import Run

Arrays = dict[str, np.ndarray]
Fit = TypeVar("Fit")


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
            predict_proba = predict_proba or load(run)  # a file that is no picture is refused sooner
            rows = rows or iter(predict_proba(chunk.pixels))
            yield _prediction(*place, next(rows))


def _prediction(file: str, row: int | None, probabilities: np.ndarray) -> Prediction:
    label = int(probabilities.argmax())  # the first of equals, as in a submission
    others = probabilities.copy()
    others[label] = -1
    return Prediction(file, row, label, float(probabilities[label]), int(others.argmax()))


def load(run: Run) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from uint8 (n, 784) to float32 (n, 10), by which the run made its submission.

    Raises RunError if a model cannot be read.
    """
    from digit_recognizer.nets import pipelines

    names, combiner = submission_models(run)
    threads = max(1, min(run.manifest.config.threads or training.cpu_count(), training.cpu_count()))
    models = []
    for name in names:
        settings = run.manifest.settings[name]
        with training.limited_threads(settings, threads):
            fits = read_fits(run, name, partial(pipelines.from_arrays, settings=settings))
        models.append((settings, fits))

    def predict_proba(pixels: np.ndarray) -> np.ndarray:
        means = []
        try:
            for settings, fits in models:
                with training.limited_threads(settings, threads):
                    means.append(mean_of_fits([fit.predict_proba(pixels).astype(np.float32) for fit in fits]))
        except FitError:
            raise RunError(
                f"{run.folder / runs.FITS}: predictions are not finite; train that run again"
            ) from None
        return combiner.combine(means).astype(np.float32) if combiner else means[0]

    return predict_proba


def submission_models(run: Run) -> tuple[list[str], AnyCombiner | None]:
    """Return the names of the models, and how they are blended; None for a single model.

    Raises RunError if the run does not say how they are blended.
    """
    manifest = run.manifest
    main = manifest.submission_model or manifest.main_model
    if main != BLEND:
        return [main], None
    if manifest.blend is None:
        raise RunError(
            f"{run.folder / runs.MANIFEST}: does not say how its models are blended; train it again"
        )
    return list(manifest.models), manifest.blend


def read_fits(run: Run, model: str, read: Callable[[Arrays], Fit]) -> list[Fit]:
    """Return what `read` makes of the arrays of each fit of a model, for `mean_of_fits`.

    Raises RunError if a file cannot be read, or `read` raises ValueError.
    """
    names = run.manifest.inference_fits[model]
    if not names:
        raise RunError(f"{run.folder / runs.MANIFEST}: names no files of {model}; train that run again")
    fits = []
    for name in names:
        path = run.folder / runs.FITS / name
        content = runs.read_file(path)
        try:
            fits.append(read(training.read_model(read_arrays(content))))
        except ValueError as error:
            raise RunError(f"{path}: is {error}; train that run again") from None
    return fits
