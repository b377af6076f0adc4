"""Keras models as settings describe them: their layers in order, and the forward pass."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.environment import own_settings
from digit_recognizer.errors import LibraryError
from digit_recognizer.settings import KerasSettings

# What keras.json or a notebook may have set otherwise. The policy stands first: when it is first asked for,
# Keras makes it of the float type.
KERAS_CONFIG = {
    "dtype_policy": "float32",
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
}


def build_model(
    settings: KerasSettings,
    features: int,
    classes: int,
    rng: np.random.RandomState,
    *,
    mixed: bool,
    steps: int,
) -> Any:
    """Return a new `keras.Sequential` from rows of `features` values to logits or sigmoids.

    Shapes are those of `cnn` and, if it has no convolutions, of `keras-mlp`, both on 28x28 pixels. mixed:
    compute all layers but the last in bfloat16, with weights of float32. steps: about so many of training.
    """
    keras = import_keras()
    layers = keras.layers
    dtype = "mixed_bfloat16" if mixed else "float32"
    use_bias = not settings.batch_norm  # which has a bias, beta
    net = [layers.Input((features,))]  # (n, 784)

    def draw_kernel() -> Any:
        return keras.initializers.GlorotUniform(_draw_seed(rng))

    def add(layer: Any) -> None:
        net.append(layer)
        if settings.batch_norm:
            net.append(layers.BatchNormalization(momentum=choose_momentum(steps), dtype=dtype))
        net.append(layers.Activation(settings.activation, dtype=dtype))

    if settings.channels:
        side = int(features**0.5)
        net.append(layers.Reshape((side, side, 1)))  # (n, 28, 28, 1)
    for channels, size, stride in zip_longest(settings.channels, settings.kernel_sizes, settings.strides):
        # cnn: (n, 14, 14, 32), (n, 14, 14, 64), (n, 7, 7, 64), (n, 7, 7, 128), (n, 4, 4, 128)
        add(
            layers.Conv2D(
                channels, size or 3, strides=stride or 2, padding="same", use_bias=use_bias,
                kernel_initializer=draw_kernel(), dtype=dtype,
            )
        )  # fmt: skip
    if settings.channels:  # cnn: (n, 2048), or with global_pool (n, 128)
        net.append(layers.GlobalAveragePooling2D() if settings.global_pool else layers.Flatten())
    for units, dropped in zip_longest(settings.hidden, settings.dropout, fillvalue=0.0):
        # keras-mlp: (n, 128), (n, 64)
        add(layers.Dense(units, use_bias=use_bias, kernel_initializer=draw_kernel(), dtype=dtype))
        if dropped:
            net.append(layers.Dropout(dropped, seed=_draw_seed(rng)))
    sigmoid = "sigmoid" if settings.output == "sigmoid" else None
    net.append(layers.Dense(classes, sigmoid, kernel_initializer=draw_kernel()))  # (n, 10)
    return keras.Sequential(net)


def choose_momentum(steps: int) -> float:
    """Return the momentum of batch normalisation for a training of so many steps.

    The net predicts with an average over its last steps: 100 of them, as in Keras, and at most a twentieth of
    the training. Else the first steps of a short one, of a net that knows nothing, would still count for
    much: after one epoch, `cnn-small` would have an accuracy of 0.28 instead of 0.98.
    """
    return 1 - 1 / min(100, max(1, 0.05 * steps))


def kernel_shapes(settings: KerasSettings, features: int, classes: int) -> list[tuple[int, ...]]:
    """Return the shape of each layer's kernel: (rows, columns, in, out) of images, then (in, out)."""
    shapes: list[tuple[int, ...]] = []
    side, depth, width = int(features**0.5), 1, features
    for channels, size, stride in zip_longest(settings.channels, settings.kernel_sizes, settings.strides):
        shapes.append((size or 3, size or 3, depth, channels))
        depth, side = channels, -(-side // (stride or 2))
        width = depth * (1 if settings.global_pool else side * side)
    return [*shapes, *pairwise([width, *settings.hidden, classes])]


def forward(model: Any, rows: Any, *, training: bool) -> Any:
    """Return what `model(rows)` does, but with batch normalisation of images as one operation, not several.

    12,600 rows on two threads take 4.0 s instead of 5.2 s. The moving variance averages unbiased batch
    variances, Keras's averages biased ones: over thousands of pixels that hardly differs.
    """
    import tensorflow as tf

    for layer in model.layers:
        if not hasattr(layer, "moving_mean") or len(rows.shape) != 4:
            rows = layer(rows, training=training)
            continue
        rows, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            rows, layer.gamma.value, layer.beta.value, mean=layer.moving_mean.value,
            variance=layer.moving_variance.value, epsilon=layer.epsilon, is_training=training,
            exponential_avg_factor=1 - layer.momentum,
        )  # fmt: skip
        if training:
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
    return rows


def named_weights(model: Any) -> dict[str, Any]:
    """Return the model's variables by names such as `layer0/kernel`, counting layers that have any."""
    layers = [layer for layer in model.layers if layer.weights]
    return {f"layer{i}/{weight.name}": weight for i, layer in enumerate(layers) for weight in layer.weights}


def _draw_seed(rng: np.random.RandomState) -> int:
    return int(rng.randint(2**31 - 1))


def import_keras() -> Any:
    """Return the keras module on TensorFlow, imported late, as it takes seconds, and quietly.

    Raises LibraryError if it cannot be imported, or was imported before with another backend.
    """
    if "keras" not in sys.modules:
        try:
            with _quick_and_quiet():
                _import_keras()
        except Exception as error:  # a broken installation raises anything
            advice = ", or choose a net of scikit-learn, such as sklearn-mlp"
            raise LibraryError.of_import(error, advice) from error
    import keras

    if keras.config.backend() != "tensorflow":
        raise LibraryError(
            f"Keras computes with {keras.config.backend()} in this Python; start it anew, and import this "
            "package first or set KERAS_BACKEND=tensorflow"
        )
    return keras


def _import_keras() -> None:
    backend, no_file = {"KERAS_BACKEND": "tensorflow"}, {"KERAS_HOME": os.devnull}
    homeless = os.path.expanduser("~") == "~"  # noqa: PTH111 - TensorFlow would make a folder of that name
    try:
        with own_settings(**backend, **(no_file if homeless else {})):
            import keras
    except Exception:  # Keras refuses a damaged keras.json, before it imports TensorFlow
        for name in [name for name in sys.modules if name.partition(".")[0] == "keras"]:
            del sys.modules[name]
        with own_settings(**backend, **no_file):
            import keras  # noqa: F401


@contextmanager
def own_keras_settings() -> Iterator[None]:
    """Compute by the package's settings of Keras and TensorFlow, and set the user's back in the end."""
    keras = import_keras()
    import tensorflow as tf

    if not tf.executing_eagerly():
        raise LibraryError("TensorFlow's eager execution is off in this Python; start it anew")
    with ExitStack() as stack:
        for name, value in KERAS_CONFIG.items():
            stack.callback(getattr(keras.config, f"set_{name}"), getattr(keras.config, name)())
            getattr(keras.config, f"set_{name}")(value)
        stack.callback(tf.config.run_functions_eagerly, tf.config.functions_run_eagerly())
        tf.config.run_functions_eagerly(False)
        yield


@contextmanager
def _quick_and_quiet() -> Iterator[None]:
    """Discard TensorFlow's C++ logs of its import, which no setting silences and which tear progress bars.

    Nor is garbage looked for among the objects of the import, all of which stay: a sixth of its time.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with ExitStack() as stack:
        if gc.isenabled():
            gc.disable()
            stack.callback(gc.enable)
        stderr = os.dup(2)
        stack.callback(os.close, stderr)
        with Path(os.devnull).open("wb") as devnull:
            os.dup2(devnull.fileno(), 2)
        stack.callback(os.dup2, stderr, 2)
        yield
