"""A run's models as one function from pixels to probabilities, as the run made its own test probabilities."""

from collections.abc import Callable

import numpy as np

from digit_recognizer import runs, training
from digit_recognizer.errors import FitError, RunError
from digit_recognizer.reading.stored import read_fits, submission_models

PredictProba = Callable[[np.ndarray], np.ndarray]  # uint8 (n, 784) to float32 (n, 10)


def load(run: runs.Run) -> PredictProba:
    """Return a function from uint8 (n, 784) to float32 (n, 10); raises RunError if a model cannot be read."""
    names, combiner = submission_models(run)
    models = [_load_model(run, name) for name in names]

    def predict_proba(pixels: np.ndarray) -> np.ndarray:
        try:
            probabilities = [model(pixels) for model in models]
        except FitError:
            raise RunError(
                f"{run.folder / runs.FITS}: predictions are not finite; train that run again"
            ) from None
        return combiner.combine(probabilities).astype(np.float32) if combiner else probabilities[0]

    return predict_proba


def _load_model(run: runs.Run, name: str) -> PredictProba:
    from digit_recognizer.nets import pipelines

    settings = run.manifest.recipes[name]
    threads = max(1, min(run.manifest.config.threads or training.cpu_count(), training.cpu_count()))
    with training.limited_threads(settings, threads):
        fits = read_fits(run, name, lambda arrays: pipelines.from_arrays(arrays, settings))

    def predict_proba(pixels: np.ndarray) -> np.ndarray:
        with training.limited_threads(settings, threads):
            return np.mean([fit.predict_proba(pixels).astype(np.float32) for fit in fits], axis=0)

    return predict_proba
