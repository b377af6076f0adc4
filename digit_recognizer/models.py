"""The networks. To their callers all are scikit-learn classifiers: `fit`, `predict_proba`, `classes_`.

Both fit pass by pass, so that whoever asks is called back after each pass with the net as it then is.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

# What a skops file of ours holds besides what skops trusts by itself.
TRUSTED = [
    "digit_recognizer.models.PassByPassMLP",
    "digit_recognizer.models.scale",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
]

OnEpoch = Callable[[], None]  # called after each pass, when the net is able to predict


def scale(pixels: np.ndarray) -> np.ndarray:
    """uint8 0..255 -> float32 0..1: the one place where pixels become floats."""
    return np.asarray(pixels, dtype=np.float32) / np.float32(255)


def on_pixels(net: BaseEstimator) -> Pipeline:
    """The net, last step of a pipeline that takes pixels as they are in the CSV."""
    return Pipeline([("scale", FunctionTransformer(scale)), ("net", net)])


class KerasMLPClassifier(ClassifierMixin, BaseEstimator):
    """A dense Keras network: ReLU inside, logits out, AdamW whose rate falls along a half cosine.

    Parameters
    ----------
    hidden : tuple of int, units of each hidden layer.
    epochs : int, passes over the rows.
    batch_size : int, rows a step.
    learning_rate : float, AdamW's rate at the first step.
    weight_decay : float, AdamW's.
    random_state : int, RandomState or None; it alone decides initial weights and order of rows.

    Attributes
    ----------
    model_ : the `keras.Sequential`.
    classes_ : array of shape (n_classes,).
    n_features_in_ : int.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (128, 64),
        epochs: int = 20,
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.05,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def fit(self, X: Any, y: Any, on_epoch: OnEpoch | None = None) -> "KerasMLPClassifier":
        """Fit to X of shape (n, n_features), floats near 0..1, and labels y of shape (n,)."""
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("Classifier can't train when only one class is present.")
        random = check_random_state(self.random_state)
        steps = -(-len(X) // self.batch_size)  # of one pass, rounded up
        self.model_ = self._build(X.shape[1], steps * self.epochs, random)
        for epoch in range(self.epochs):
            order = random.permutation(len(X))
            self.model_.fit(
                X[order],
                codes[order],
                batch_size=self.batch_size,
                initial_epoch=epoch,
                epochs=epoch + 1,
                shuffle=False,  # shuffled above: Keras would draw from a global generator
                verbose=0,
            )
            if on_epoch is not None:
                on_epoch()
        return self

    def _build(self, features: int, steps: int, random: np.random.RandomState) -> Any:
        keras = import_keras()
        layers: list[Any] = [keras.layers.Input((features,))]
        for units in (*self.hidden, len(self.classes_)):
            weights = keras.initializers.GlorotUniform(seed=random.randint(2**31 - 1))
            layers.append(keras.layers.Dense(units, "relu", kernel_initializer=weights))
        layers[-1].activation = keras.activations.linear
        model = keras.Sequential(layers)
        rate = keras.optimizers.schedules.CosineDecay(self.learning_rate, steps)
        model.compile(
            keras.optimizers.AdamW(rate, weight_decay=self.weight_decay),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=min(20, steps),  # a small net's step is shorter than the call to it
        )
        return model

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes), float32, rows summing to 1."""
        check_is_fitted(self, "model_")
        X = validate_data(self, X, dtype=np.float32, reset=False)
        keras = import_keras()
        parts = [self.model_(X[i : i + 4096], training=False) for i in range(0, len(X), 4096)]
        return np.concatenate([keras.ops.convert_to_numpy(keras.ops.softmax(logits)) for logits in parts])

    def predict(self, X: Any) -> np.ndarray:
        """Labels of shape (n,)."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]


class PassByPassMLP(ClassifierMixin, BaseEstimator):
    """Fit scikit-learn's MLPClassifier by `partial_fit` and average the weights of its last passes.

    The average of the points that a constant learning rate circles around lies nearer the middle of the
    valley than any of them: P. Izmailov et al., "Averaging Weights Leads to Wider Optima", UAI 2018.

    Parameters
    ----------
    mlp : MLPClassifier, not fitted; `max_iter` is not used, `early_stopping` must be off.
    passes : int, passes over the rows.
    averaged : int, how many of the last passes are averaged.

    Attributes
    ----------
    mlp_ : the fitted MLPClassifier.
    classes_ : array of shape (n_classes,).
    n_features_in_ : int.
    """

    def __init__(self, mlp: Any = None, passes: int = 14, averaged: int = 6) -> None:
        self.mlp = mlp
        self.passes = passes
        self.averaged = averaged

    def fit(self, X: Any, y: Any, on_epoch: OnEpoch | None = None) -> "PassByPassMLP":
        """Fit to X of shape (n, n_features), floats near 0..1, and labels y of shape (n,)."""
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        self.mlp_ = MLPClassifier() if self.mlp is None else clone(self.mlp)
        # From a plain number, every partial_fit would shuffle the rows alike.
        self.mlp_.set_params(random_state=check_random_state(self.mlp_.random_state))
        last: deque[list[np.ndarray]] = deque(maxlen=self.averaged)
        for _ in range(self.passes):
            self.mlp_.partial_fit(X, y, classes=self.classes_)
            last.append([weights.copy() for weights in self.mlp_.coefs_ + self.mlp_.intercepts_])
            if on_epoch is not None:
                on_epoch()
        mean = [np.mean(weights, axis=0) for weights in zip(*last, strict=True)]
        layers = len(self.mlp_.coefs_)
        self.mlp_.coefs_, self.mlp_.intercepts_ = mean[:layers], mean[layers:]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes), rows summing to 1."""
        check_is_fitted(self, "mlp_")
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return self.mlp_.predict_proba(X)

    def predict(self, X: Any) -> np.ndarray:
        """Labels of shape (n,)."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]


def import_keras() -> Any:
    """The keras module, imported late, as it takes seconds, and quietly."""
    with _silent_stderr():
        import keras
    return keras


def limit_threads(threads: int) -> None:
    """Let a net in this process compute in so many threads; only before its first one does it count."""
    if import_keras().backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    with suppress(RuntimeError):  # already computing
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """TensorFlow's C++ logs of the import, which no setting silences, would tear the progress bar."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def to_bytes(classifier: Pipeline) -> tuple[str, bytes]:
    """A fitted classifier as the ending and content of its file: Keras's `.keras`, else skops. No pickles.

    A `.keras` file holds the net alone, `load` puts the steps before it back.
    """
    net = classifier[-1]
    if isinstance(net, KerasMLPClassifier):
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
