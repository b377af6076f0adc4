"""A run's models as one function from pixels to probabilities, as the run made its own test probabilities."""

from collections.abc import Callable

import numpy as np

from digit_recognizer import runs, training
from digit_recognizer.errors import FitError, RunError
from digit_recognizer.predictions import BLEND

MAX_BYTES = 2**30  # of a model's file


def load(run: runs.Run) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from uint8 (n, 784) to float32 (n, 10); raises RunError if a model cannot be read."""
    manifest = run.manifest
    main = manifest.submission_model or manifest.main_model
    if main == BLEND and manifest.blend is None:
        raise RunError(
            f"{run.folder / runs.MANIFEST}: does not say how its models are blended; train it again"
        )
    names = manifest.models if main == BLEND else [main]
    members = [_load_model(run, name) for name in names]

    def predict_proba(pixels: np.ndarray) -> np.ndarray:
        try:
            probabilities = [member(pixels) for member in members]
        except FitError:
            raise RunError(
                f"{run.folder / runs.MODELS}: predictions are not finite; train that run again"
            ) from None
        if main != BLEND or manifest.blend is None:
            return probabilities[0]
        return manifest.blend.combine(probabilities).astype(np.float32)

    return predict_proba


def _load_model(run: runs.Run, name: str) -> Callable[[np.ndarray], np.ndarray]:
    settings = run.manifest.recipes[name]
    threads = min(run.manifest.config.threads or training.cpu_count(), training.cpu_count())
    files = run.manifest.test_fits[name]
    if not files:
        raise RunError(f"{run.folder / runs.MANIFEST}: names no files of {name}; train that run again")
    with training.limited_threads(settings, max(1, threads)):
        fits = [_load_fit(run, file, name) for file in files]

    def predict_proba(pixels: np.ndarray) -> np.ndarray:
        with training.limited_threads(settings, max(1, threads)):
            return np.mean([fit.predict_proba(pixels).astype(np.float32) for fit in fits], axis=0)

    return predict_proba


def _load_fit(run: runs.Run, file: str, name: str):  # type: ignore[no-untyped-def]  # a scikit-learn Pipeline
    from digit_recognizer.nets import pipelines

    path = run.folder / runs.MODELS / file
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise RunError(f"{path}: expected a model's file of at most 1 GiB; train that run again")
        return pipelines.from_bytes(path.read_bytes(), run.manifest.recipes[name])
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); train that run again") from None
    except ValueError as error:
        raise RunError(f"{path}: is {error}; train that run again") from None
