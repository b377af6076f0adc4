"""Keras networks as scikit-learn classifiers; the only file that knows TensorFlow.

The steps are a TensorFlow function over rows that are in memory already: `Model.fit` feeds each step through
a pipeline of its own, and takes up to twice as long.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from digit_recognizer.nets import augment
from digit_recognizer.nets.epochs import OnEpoch, Pass, passes

WARM_UP = 0.05  # share of a training in which a cosine schedule rises to its rate
STEPS = 32  # in one call of TensorFlow's, which Ctrl-C cannot interrupt
ROWS = 4096  # predicted at a time
CPU = Path("/proc/cpuinfo")  # what Linux tells of the processor


class KerasNet(ClassifierMixin, BaseEstimator):
    """A Keras network of dense layers, with convolutions before them if `channels` says so.

    Parameters
    ----------
    channels : tuple of int, channels of each convolution; rows are square images then.
    kernels : tuple of int, its pixels across; 3 for those not named.
    strides : tuple of int, its stride; 2 for those not named.
    pool : bool, average each channel over the image after the convolutions, instead of keeping each pixel.
    hidden : tuple of int, units of each dense layer but the last.
    activation : str, of all layers but the last, a name that Keras knows.
    output : 'softmax', computed from logits, or 'sigmoid', whose ten outputs are scaled to a sum of 1.
    batch_norm : bool, batch normalisation before each activation.
    bfloat16 : bool, mixed precision (float32 weights, bfloat16 results) in all layers but the last, if there
        are convolutions, and where it is quicker; see `has_bfloat16`.
    dropout : tuple of float, share of units dropped after each hidden layer; () drops none.
    optimizer : 'adam', 'adamw', 'sgd' (with Nesterov momentum 0.9) or 'rmsprop'.
    learning_rate : float, at its highest.
    schedule : 'constant', or 'cosine', which warms up and falls to 0 along a half cosine.
    weight_decay : float, per step and learning rate.
    label_smoothing : float, share of each label that is spread over all classes.
    warp, warp_last : float, strength of `augment.warp` at the start and, changing evenly, at the end.
    epochs : int, passes over the rows, at most; with `until` of `fit`, as many as there is time for.
    batch_size : int, rows a step.
    tta : bool, test-time augmentation: predict the mean over `augment.shifted`.
    early_stopping : int, passes without a better loss on a tenth of the rows, kept aside, after which to
        stop and go back to the best weights; 0 trains to the end on all rows.
    random_state : int, RandomState or None; it alone decides weights, dropout, order of rows and warps.

    Attributes
    ----------
    model_ : the `keras.Sequential`.
    classes_ : array of shape (n_classes,).
    n_features_in_ : int.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (),
        kernels: tuple[int, ...] = (),
        strides: tuple[int, ...] = (),
        pool: bool = False,
        hidden: tuple[int, ...] = (128, 64),
        activation: str = "relu",
        output: str = "softmax",
        batch_norm: bool = False,
        bfloat16: bool = False,
        dropout: tuple[float, ...] = (),
        optimizer: str = "adamw",
        learning_rate: float = 3e-3,
        schedule: str = "cosine",
        weight_decay: float = 0.05,
        label_smoothing: float = 0.0,
        warp: float = 0.0,
        warp_last: float = 0.0,
        epochs: int = 20,
        batch_size: int = 128,
        tta: bool = False,
        early_stopping: int = 0,
        random_state: Any = None,
    ) -> None:
        self.channels = channels
        self.kernels = kernels
        self.strides = strides
        self.pool = pool
        self.hidden = hidden
        self.activation = activation
        self.output = output
        self.batch_norm = batch_norm
        self.bfloat16 = bfloat16
        self.dropout = dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.warp = warp
        self.warp_last = warp_last
        self.epochs = epochs
        self.batch_size = batch_size
        self.tta = tta
        self.early_stopping = early_stopping
        self.random_state = random_state

    def fit(self, X: Any, y: Any, on_epoch: OnEpoch | None = None, until: float | None = None) -> "KerasNet":
        """Fit to X of shape (n, n_features), floats near 0..1, and labels y of shape (n,).

        until: a moment, as of `time.time()`, to end by, with more passes or fewer than `epochs`.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("Classifier can't train when only one class is present.")
        random = check_random_state(self.random_state)
        if self.early_stopping:
            X, aside, codes, codes_aside = train_test_split(X, codes, test_size=0.1, random_state=random)
        self.model_ = self._build(X.shape[1], random)
        best_loss, best_epoch, best_weights = np.inf, 0, self.model_.get_weights()
        one_pass = self._one_pass()
        for epoch, one in enumerate(passes(X, self.epochs, until, self.warp, self.warp_last, random)):
            one_pass(one, codes[one.order])
            if on_epoch is not None:
                on_epoch()
            if not self.early_stopping:
                continue
            loss = log_loss(codes_aside, self.glance(aside), labels=range(len(self.classes_)))
            if loss < best_loss:
                best_loss, best_epoch, best_weights = loss, epoch, self.model_.get_weights()
            elif epoch - best_epoch >= self.early_stopping:
                break
        if self.early_stopping:
            self.model_.set_weights(best_weights)
        return self

    def _build(self, features: int, random: np.random.RandomState) -> Any:
        keras = import_keras()
        mixed = self.bfloat16 and self.channels and has_bfloat16()
        precision = {"dtype": "mixed_bfloat16" if mixed else "float32"}

        def seed() -> int:
            return int(random.randint(2**31 - 1))

        def weights() -> dict[str, Any]:
            """Of a layer that `activated` follows; batch normalisation has a bias of its own."""
            return precision | {
                "kernel_initializer": keras.initializers.GlorotUniform(seed()),
                "use_bias": not self.batch_norm,
            }

        def activated(layer: Any) -> list[Any]:
            norm = [keras.layers.BatchNormalization(**precision)] if self.batch_norm else []
            return [layer, *norm, keras.layers.Activation(self.activation, **precision)]

        layers: list[Any] = [keras.layers.Input((features,))]
        if self.channels:
            side = int(features**0.5)
            layers.append(keras.layers.Reshape((side, side, 1)))
        each = zip_longest(self.channels, self.kernels, self.strides)
        for channels, across, stride in each:
            layers += activated(
                keras.layers.Conv2D(channels, across or 3, strides=stride or 2, padding="same", **weights())
            )
        if self.channels:
            layers.append(keras.layers.GlobalAveragePooling2D() if self.pool else keras.layers.Flatten())
        for units, dropped in zip_longest(self.hidden, self.dropout[: len(self.hidden)], fillvalue=0.0):
            layers += activated(keras.layers.Dense(units, **weights()))
            if dropped:
                layers.append(keras.layers.Dropout(dropped, seed=seed()))
        last = keras.initializers.GlorotUniform(seed())
        sigmoid = "sigmoid" if self.output == "sigmoid" else None
        layers.append(keras.layers.Dense(len(self.classes_), sigmoid, kernel_initializer=last))
        return keras.Sequential(layers)

    def _one_pass(self) -> Callable[[Pass, np.ndarray], None]:
        """All steps of a pass over rows with these codes."""
        keras = import_keras()
        import tensorflow as tf

        model, outputs = self.model_, len(self.classes_)
        kind = {
            "adam": keras.optimizers.Adam,
            "adamw": keras.optimizers.AdamW,
            "rmsprop": keras.optimizers.RMSprop,
            "sgd": partial(keras.optimizers.SGD, momentum=0.9, nesterov=True),
        }[self.optimizer]
        optimizer = kind(self.learning_rate, weight_decay=self.weight_decay)
        optimizer.build(model.trainable_variables)
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=self.output == "softmax", label_smoothing=self.label_smoothing
        )

        def rate(done: Any) -> Any:
            if self.schedule == "constant":
                return self.learning_rate
            return self.learning_rate * tf.minimum(done / WARM_UP, 0.5 + 0.5 * tf.cos(np.pi * done))

        @tf.function(
            input_signature=[
                tf.TensorSpec((None, model.input_shape[1]), tf.float32),
                tf.TensorSpec((None,), tf.int64),
                tf.TensorSpec((None,), tf.float32),
            ]
        )
        def steps(images: Any, codes: Any, done: Any) -> None:
            for step in tf.range(tf.shape(done)[0]):
                optimizer.learning_rate.assign(rate(done[step]))
                batch = slice(step * self.batch_size, (step + 1) * self.batch_size)
                with tf.GradientTape() as tape:
                    said = _outputs(model, images[batch], training=True)
                    wrong = loss(tf.one_hot(codes[batch], outputs), said)
                optimizer.apply(tape.gradient(wrong, model.trainable_variables))

        def one_pass(one: Pass, codes: np.ndarray) -> None:
            count = -(-len(codes) // self.batch_size)
            done = one.start + (one.end - one.start) * np.arange(1, count + 1, dtype=np.float32) / (count + 1)
            for first in range(0, count, STEPS):
                rows = slice(first * self.batch_size, (first + STEPS) * self.batch_size)
                steps(one.images[rows], codes[rows], done[first : first + STEPS])

        return one_pass

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes), float32, rows summing to 1."""
        check_is_fitted(self, "model_")
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return augment.over_shifted(self.glance, X) if self.tta else self.glance(X)

    def glance(self, X: np.ndarray) -> np.ndarray:
        """What `predict_proba` says without `tta`, for X of float32: quicker, as for learning curves."""
        keras = import_keras()
        parts = [_outputs(self.model_, X[i : i + ROWS], training=False) for i in range(0, len(X), ROWS)]
        outputs = np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])
        if self.output == "softmax":
            return softmax(outputs, axis=1)
        return outputs / outputs.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """Labels of shape (n,)."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]


def _outputs(model: Any, rows: Any, *, training: bool) -> Any:
    """What `model(rows)` gives, with batch normalisation of images as one operation, where Keras takes many.

    Its moving variance is of unbiased ones, which Keras's is not: the same for a batch's thousands of pixels.
    """
    import tensorflow as tf

    for layer in model.layers:
        if hasattr(layer, "moving_mean") and len(rows.shape) == 4:
            rows, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                rows,
                layer.gamma.value,
                layer.beta.value,
                mean=layer.moving_mean.value,
                variance=layer.moving_variance.value,
                epsilon=layer.epsilon,
                is_training=training,
                exponential_avg_factor=1 - layer.momentum,
            )
            if training:
                layer.moving_mean.assign(mean)
                layer.moving_variance.assign(variance)
        else:
            rows = layer(rows, training=training)
    return rows


def has_bfloat16() -> bool:
    """Whether nets are fitted by a processor that multiplies numbers of 16 bits quicker than those of 32.

    Others would take longer, as they have to convert each; GPUs are left as they are. Only Linux tells.
    """
    import tensorflow as tf

    quick = CPU.exists() and any(name in CPU.read_text() for name in ("avx512_bf16", "amx_bf16"))
    by_onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0"  # TensorFlow's own operations convert them
    return quick and by_onednn and not tf.config.get_visible_devices("GPU")


def import_keras() -> Any:
    """The keras module, imported late, as it takes seconds, and quietly."""
    with _silent_stderr():
        import keras
    return keras


def limit_threads(threads: int) -> None:
    """Let a net in this process compute in so many threads; only before its first one does it count.

    Of a GPU, each process takes only the memory it needs, so that several fits share it.
    """
    import_keras()
    import tensorflow as tf

    with suppress(RuntimeError):  # already computing
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)


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
