"""The networks. To their callers all are scikit-learn classifiers: `fit`, `predict_proba`, `classes_`.

Both fit pass by pass, so that whoever asks is called back after each pass with the net as it then is.
"""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from digit_recognizer import augment

# What a skops file of ours holds besides what skops trusts by itself.
TRUSTED = [
    "digit_recognizer.augment.upright",
    "digit_recognizer.models.PassByPassMLP",
    "digit_recognizer.models.scale",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
]

OnEpoch = Callable[[], None]  # called after each pass, when the net is able to predict


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


class KerasNet(ClassifierMixin, BaseEstimator):
    """A Keras network of dense layers, with convolutions before them if `channels` says so.

    Parameters
    ----------
    channels : tuple of int, channels of each 3x3 convolution of stride 2; rows are square images then.
    hidden : tuple of int, units of each dense layer but the last.
    activation : str, of all layers but the last, a name that Keras knows.
    output : 'softmax', computed from logits, or 'sigmoid', whose ten outputs are scaled to a sum of 1.
    batch_norm : bool, batch normalisation before each activation.
    dropout : tuple of float, share of units dropped after each hidden layer; () drops none.
    optimizer : 'adam', 'adamw', 'sgd' (with Nesterov momentum 0.9) or 'rmsprop'.
    learning_rate : float, at the first step.
    schedule : 'constant', or 'cosine', which falls to 0 along a half cosine.
    weight_decay : float, per step and learning rate.
    warp, warp_last : float, strength of `augment.warp` in the first pass and, changing evenly, in the last.
    epochs : int, passes over the rows, at most.
    batch_size : int, rows a step.
    early_stopping : int, passes without a better loss on a tenth of the rows, kept aside, after which to
        stop and go back to the best weights; 0 trains to the end on all rows.
    random_state : int, RandomState or None; it alone decides weights, dropout and order of rows.

    Attributes
    ----------
    model_ : the `keras.Sequential`.
    classes_ : array of shape (n_classes,).
    n_features_in_ : int.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (),
        hidden: tuple[int, ...] = (128, 64),
        activation: str = "relu",
        output: str = "softmax",
        batch_norm: bool = False,
        dropout: tuple[float, ...] = (),
        optimizer: str = "adamw",
        learning_rate: float = 3e-3,
        schedule: str = "cosine",
        weight_decay: float = 0.05,
        warp: float = 0.0,
        warp_last: float = 0.0,
        epochs: int = 20,
        batch_size: int = 128,
        early_stopping: int = 0,
        random_state: Any = None,
    ) -> None:
        self.channels = channels
        self.hidden = hidden
        self.activation = activation
        self.output = output
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.warp = warp
        self.warp_last = warp_last
        self.epochs = epochs
        self.batch_size = batch_size
        self.early_stopping = early_stopping
        self.random_state = random_state

    def fit(self, X: Any, y: Any, on_epoch: OnEpoch | None = None) -> "KerasNet":
        """Fit to X of shape (n, n_features), floats near 0..1, and labels y of shape (n,)."""
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("Classifier can't train when only one class is present.")
        random = check_random_state(self.random_state)
        aside = None
        if self.early_stopping:
            X, X_aside, codes, codes_aside = train_test_split(X, codes, test_size=0.1, random_state=random)
            aside = X_aside, codes_aside
        steps = -(-len(X) // self.batch_size)  # of one pass, rounded up
        self.model_ = self._build(X.shape[1], random)
        self._compile(steps)
        best_loss, best_epoch, best_weights = np.inf, 0, self.model_.get_weights()
        strengths = np.linspace(self.warp, self.warp_last, self.epochs)
        for epoch, (order, images) in enumerate(augment.passes(X, strengths, random)):
            self.model_.fit(
                images,
                codes[order],
                batch_size=self.batch_size,
                initial_epoch=epoch,
                epochs=epoch + 1,
                shuffle=False,  # shuffled by `passes`: Keras would draw from a global generator
                verbose=0,
            )
            if on_epoch is not None:
                on_epoch()
            if aside is None:
                continue
            loss = self.model_.evaluate(*aside, batch_size=4096, verbose=0)
            if loss < best_loss:
                best_loss, best_epoch, best_weights = loss, epoch, self.model_.get_weights()
            elif epoch - best_epoch >= self.early_stopping:
                break
        if aside is not None:
            self.model_.set_weights(best_weights)
        return self

    def _build(self, features: int, random: np.random.RandomState) -> Any:
        keras = import_keras()

        def seed() -> int:
            return int(random.randint(2**31 - 1))

        def activated(layer: Any) -> list[Any]:
            norm = [keras.layers.BatchNormalization()] if self.batch_norm else []
            return [layer, *norm, keras.layers.Activation(self.activation)]

        layers: list[Any] = [keras.layers.Input((features,))]
        if self.channels:
            side = int(features**0.5)
            layers.append(keras.layers.Reshape((side, side, 1)))
        for channels in self.channels:
            kernel = keras.initializers.GlorotUniform(seed())
            conv = keras.layers.Conv2D(channels, 3, strides=2, padding="same", kernel_initializer=kernel)
            layers += activated(conv)
        if self.channels:
            layers.append(keras.layers.Flatten())
        for units, dropped in zip_longest(self.hidden, self.dropout[: len(self.hidden)], fillvalue=0.0):
            layers += activated(
                keras.layers.Dense(units, kernel_initializer=keras.initializers.GlorotUniform(seed()))
            )
            if dropped:
                layers.append(keras.layers.Dropout(dropped, seed=seed()))
        last = keras.initializers.GlorotUniform(seed())
        sigmoid = "sigmoid" if self.output == "sigmoid" else None
        layers.append(keras.layers.Dense(len(self.classes_), sigmoid, kernel_initializer=last))
        return keras.Sequential(layers)

    def _compile(self, steps: int) -> None:
        keras = import_keras()
        rate: Any = self.learning_rate
        if self.schedule == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(rate, steps * self.epochs)
        kind = {
            "adam": keras.optimizers.Adam,
            "adamw": keras.optimizers.AdamW,
            "rmsprop": keras.optimizers.RMSprop,
            "sgd": partial(keras.optimizers.SGD, momentum=0.9, nesterov=True),
        }[self.optimizer]
        self.model_.compile(
            kind(rate, weight_decay=self.weight_decay),
            keras.losses.SparseCategoricalCrossentropy(from_logits=self.output == "softmax"),
            steps_per_execution=min(20, steps),  # a small net's step is shorter than the call to it
        )

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes), float32, rows summing to 1."""
        check_is_fitted(self, "model_")
        X = validate_data(self, X, dtype=np.float32, reset=False)
        keras = import_keras()
        parts = [self.model_(X[i : i + 4096], training=False) for i in range(0, len(X), 4096)]
        outputs = np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])
        if self.output == "softmax":
            return softmax(outputs, axis=1)
        return outputs / outputs.sum(axis=1, keepdims=True)

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
    mlp : MLPClassifier, not fitted. If its `early_stopping` is on it is fitted in one go, as `partial_fit`
        cannot stop early; else its `max_iter` is not used.
    passes : int, passes over the rows.
    averaged : int, how many of the last passes are averaged.
    warp, warp_last : float, strength of `augment.warp` in the first pass and, changing evenly, in the last.

    Attributes
    ----------
    mlp_ : the fitted MLPClassifier.
    classes_ : array of shape (n_classes,).
    n_features_in_ : int.
    """

    def __init__(
        self,
        mlp: Any = None,
        passes: int = 14,
        averaged: int = 8,
        warp: float = 0.0,
        warp_last: float = 0.0,
    ) -> None:
        self.mlp = mlp
        self.passes = passes
        self.averaged = averaged
        self.warp = warp
        self.warp_last = warp_last

    def fit(self, X: Any, y: Any, on_epoch: OnEpoch | None = None) -> "PassByPassMLP":
        """Fit to X of shape (n, n_features), floats near 0..1, and labels y of shape (n,)."""
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError("Classifier can't train when only one class is present.")
        self.mlp_ = MLPClassifier() if self.mlp is None else clone(self.mlp)
        random = check_random_state(self.mlp_.random_state)
        if self.mlp_.early_stopping:
            self.mlp_.fit(X, y)
            if on_epoch is not None:
                on_epoch()
            return self
        last: deque[list[np.ndarray]] = deque(maxlen=self.averaged)
        # From a plain number, every partial_fit would shuffle the rows alike.
        self.mlp_.set_params(random_state=random)
        strengths = np.linspace(self.warp, self.warp_last, self.passes)
        for done, (order, images) in enumerate(augment.passes(X, strengths, random), start=1):
            self.mlp_.partial_fit(images, y[order], classes=self.classes_)
            last.append([weights.copy() for weights in self.mlp_.coefs_ + self.mlp_.intercepts_])
            if done == self.passes:  # before the last call, so that what is seen last is what comes out
                mean = [np.mean(weights, axis=0) for weights in zip(*last, strict=True)]
                layers = len(self.mlp_.coefs_)
                self.mlp_.coefs_, self.mlp_.intercepts_ = mean[:layers], mean[layers:]
            if on_epoch is not None:
                on_epoch()
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
