"""Pipelines from pixels to a net, as recipes' settings say, as they are and as fitted arrays."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from digit_recognizer.nets.arrays import check_arrays
from digit_recognizer.nets.augment import deskew
from digit_recognizer.nets.keras_net import KerasNet
from digit_recognizer.nets.sklearn_net import EpochwiseMLPClassifier
from digit_recognizer.predictions import CLASSES
from digit_recognizer.settings import KerasSettings, Settings

PIXELS = 784
# The arrays that fitted steps need to transform rows, by the step's name; with _ appended, its attributes.
FITTED: dict[str, dict[str, DTypeLike]] = {
    "standardize": {"mean": np.float64, "scale": np.float64},
    "pca": {"mean": np.float32, "components": np.float32},
}


def build(settings: Settings, seed: int) -> Pipeline:
    """Return the classifier, not fitted, of uint8 pixels of shape (n, 784)."""
    steps = [("scale", FunctionTransformer(scale))]
    if settings.deskew:
        steps.append(("deskew", FunctionTransformer(deskew)))
    if isinstance(settings, KerasSettings):
        return Pipeline([*steps, ("net", KerasNet(settings, seed))])
    if settings.preprocessing == "standardize":
        steps.append(("standardize", StandardScaler()))
    elif settings.preprocessing == "pca":  # as many components as hold 95% of the variance
        steps.append(("pca", PCA(0.95, svd_solver="covariance_eigh")))
    return Pipeline([*steps, ("net", EpochwiseMLPClassifier(settings, seed))])


def scale(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 0..255 as float32 0..1; nothing else makes floats of pixels."""
    return np.divide(pixels, np.float32(255), dtype=np.float32)


def to_arrays(classifier: Pipeline) -> dict[str, np.ndarray]:
    """Return all that a fitted classifier of the digits 0 to 9 is, besides its settings, as plain arrays."""
    arrays = {
        f"{name}/{attribute}": getattr(step, f"{attribute}_")
        for name, step in classifier.steps
        for attribute in FITTED.get(name, ())
    }
    return arrays | classifier[-1].to_arrays()


def from_arrays(arrays: Mapping[str, np.ndarray], settings: Settings) -> Pipeline:
    """Return the fitted classifier that `to_arrays` was called of; it predicts the same, bit by bit.

    Raises ValueError in one line if these are not exactly the arrays that the settings need.
    """
    classifier, arrays, features = build(settings, seed=0), dict(arrays), PIXELS
    for name, step in classifier.steps[:-1]:
        if name not in FITTED:
            continue
        rows = {"components": arrays.get("pca/components", np.empty(0)).shape[:1]}  # PCA chose how many
        expected = {
            f"{name}/{attribute}": ((*rows.get(attribute, ()), PIXELS), dtype)
            for attribute, dtype in FITTED[name].items()
        }
        fitted = {key: arrays.pop(key) for key in expected if key in arrays}
        check_arrays(fitted, expected)
        step.n_features_in_ = PIXELS
        for key, array in fitted.items():
            setattr(step, f"{key.partition('/')[2]}_", array)
        if name == "pca":  # scikit-learn 1.6 looks at its dtype, but uses it only to whiten
            features = len(step.components_)
            step.explained_variance_ = np.ones(features, np.float32)
    classifier[-1].load_arrays(arrays, features, np.arange(CLASSES))
    return classifier
