"""The models that a run's submission is of, as they are stored."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from digit_recognizer import runs, training
from digit_recognizer.blending import AnyCombiner
from digit_recognizer.errors import RunError
from digit_recognizer.nets.arrays import read_arrays
from digit_recognizer.predictions import BLEND

Arrays = dict[str, np.ndarray]
Fit = TypeVar("Fit")


def submission_models(run: runs.Run) -> tuple[list[str], AnyCombiner | None]:
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


def read_fits(run: runs.Run, model: str, read: Callable[[Arrays], Fit]) -> list[Fit]:
    """Return what `read` makes of the arrays of each fit of a model, whose mean predicts new digits.

    Raises RunError if a file cannot be read, or `read` raises ValueError.
    """
    names = run.manifest.inference_fits[model]
    if not names:
        raise RunError(f"{run.folder / runs.MANIFEST}: names no files of {model}; train that run again")
    return [_read(run.folder / runs.FITS / name, read) for name in names]


def _read(path: Path, read: Callable[[Arrays], Fit]) -> Fit:
    content = runs.read_fit(path)
    try:
        return read(training.read_model(read_arrays(content)))
    except ValueError as error:
        raise RunError(f"{path}: is {error}; train that run again") from None
