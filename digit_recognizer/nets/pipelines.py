"""What the recipes build: pipelines from pixels to a net, and their files.

To their callers all nets are scikit-learn classifiers: `fit`, `predict_proba`, `classes_`. They fit pass by
pass, and call back after each pass with the net as it then is.
"""

import tempfile
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from digit_recognizer.nets import augment
from digit_recognizer.nets.keras_net import KerasNet, import_keras

# What a skops file of ours holds besides what skops trusts by itself.
TRUSTED = [
    "digit_recognizer.nets.augment.upright",
    "digit_recognizer.nets.pipelines.scale",
    "digit_recognizer.nets.sklearn_net.PassByPassMLP",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
]


def scale(pixels: np.ndarray) -> np.ndarray:
    """uint8 0..255 -> float32 0..1: the one place where pixels become floats."""
    return np.asarray(pixels, dtype=np.float32) / np.float32(255)


def on_pixels(net: BaseEstimator, *before: TransformerMixin, upright: bool = False) -> Pipeline:
    """The net, last step of a pipeline that takes pixels as they are in the CSV.

    upright: set the images upright first; before: what else is fitted and done before the net.
    """
    steps = [(type(step).__name__.lower(), step) for step in before]
    if upright:
        steps.insert(0, ("upright", FunctionTransformer(augment.upright)))
    return Pipeline([("scale", FunctionTransformer(scale)), *steps, ("net", net)])


def to_bytes(classifier: Pipeline) -> tuple[str, bytes]:
    """A fitted classifier as the ending and content of its file: Keras's `.keras`, else skops. No pickles.

    A `.keras` file holds the net alone, `load` puts the steps before it back.
    """
    net = classifier[-1]
    if isinstance(net, KerasNet):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.keras"
            net.model_.save(path)
            return ".keras", path.read_bytes()
    import skops.io

    return ".skops", skops.io.dumps(classifier)


def load(path: Path, classifier: Pipeline) -> Pipeline:
    """The fitted classifier saved at `path`; `classifier` is its recipe's, not fitted.

    Of types that skops does not know, a file may hold those in TRUSTED; skops raises for any other.
    """
    if path.suffix == ".keras":
        net = classifier[-1]
        net.model_ = import_keras().models.load_model(path)
        net.n_features_in_ = net.model_.input_shape[-1]
        net.classes_ = np.arange(net.model_.output_shape[-1])
        return classifier
    import skops.io

    return skops.io.load(path, trusted=TRUSTED)
