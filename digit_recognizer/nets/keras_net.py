"""Keras networks as scikit-learn classifiers; only this file and keras_model.py know TensorFlow.

An epoch's steps are a TensorFlow function of rows in memory: `Model.fit` feeds each step through an input
pipeline, and takes up to twice as long.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from digit_recognizer.nets import keras_model
from digit_recognizer.nets.arrays import check_arrays
from digit_recognizer.nets.epochs import Call, EpochwiseClassifier, TrainEpoch
from digit_recognizer.nets.keras_model import build_model, forward, import_keras, own_keras_settings
from digit_recognizer.predictions import PREDICT_BATCH
from digit_recognizer.settings import KerasSettings

CPU_INFO = Path("/proc/cpuinfo")


class KerasNet(EpochwiseClassifier):
    """A Keras network, `model_`, by `settings.KerasSettings`: dense layers, after convolutions if any."""

    settings_type = KerasSettings

    fit = own_keras_settings()(EpochwiseClassifier.fit)

    def _build(self, rng: np.random.RandomState, steps: int) -> TrainEpoch:
        settings, features, classes = self._settings, self.n_features_in_, len(self.classes_)
        mixed = settings.bfloat16 and settings.is_convolutional
        self.model_ = build_model(settings, features, classes, rng, mixed=mixed, steps=steps)
        take_steps = _make_training(settings, self.model_)

        def train(calls: Iterator[Call], class_indices: np.ndarray, _: int) -> None:
            for call in calls:
                take_steps(call.images, class_indices[call.order], call.rates)

        return train

    @own_keras_settings()
    def _predict(self, X: np.ndarray) -> np.ndarray:
        keras = import_keras()
        starts = range(0, len(X), PREDICT_BATCH)
        parts = [forward(self.model_, X[start : start + PREDICT_BATCH], training=False) for start in starts]
        outputs = np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])
        if self._settings.output == "softmax":
            return softmax(outputs, axis=1)
        return outputs / outputs.sum(axis=1, keepdims=True)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that a fitted net is, besides its settings and classes."""
        mixed = any(layer.compute_dtype == "bfloat16" for layer in self.model_.layers)
        weights = {name: weight.numpy() for name, weight in keras_model.named_weights(self.model_).items()}
        return {"mixed_bfloat16": np.array(mixed), **weights}

    @own_keras_settings()
    def load_arrays(self, arrays: Mapping[str, np.ndarray], features: int, classes: np.ndarray) -> None:
        """Load the weights of `to_arrays`; raise ValueError if they are of other settings."""
        settings, mixed = self._settings, bool(np.any(arrays.get("mixed_bfloat16", False)))
        kernels = [array.shape for name, array in arrays.items() if name.endswith("/kernel")]
        expected_kernels = keras_model.kernel_shapes(settings, features, len(classes))
        if kernels != expected_kernels:  # known before the memory is taken
            raise ValueError(f"not a model of these settings: kernels {kernels}, expected {expected_kernels}")
        model = build_model(settings, features, len(classes), np.random.RandomState(0), mixed=mixed, steps=1)
        weights = keras_model.named_weights(model)
        expected = {name: (tuple(weight.shape), np.float32) for name, weight in weights.items()}
        check_arrays(arrays, {"mixed_bfloat16": ((), np.bool_), **expected})
        for name, weight in weights.items():
            weight.assign(arrays[name])
        self.model_, self.n_features_in_, self.classes_ = model, features, classes

    def _get_weights(self) -> list[np.ndarray]:
        return self.model_.get_weights()

    def _set_weights(self, weights: Sequence[np.ndarray]) -> None:
        self.model_.set_weights(weights)


def _make_training(
    settings: KerasSettings, model: Any
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    """Return a function that trains the model, given images, their class indices, and each step's rate."""
    keras = import_keras()
    import tensorflow as tf

    optimizers = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": partial(keras.optimizers.SGD, momentum=0.9, nesterov=True),
    }
    optimizer = optimizers[settings.optimizer](settings.learning_rate, weight_decay=settings.weight_decay)
    optimizer.build(model.trainable_variables)
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=settings.output == "softmax", label_smoothing=settings.label_smoothing
    )
    size, classes = settings.batch_size, model.output_shape[1]

    @tf.function(
        autograph=False,  # it leaves a file in the temporary folder when the process is killed
        input_signature=[
            tf.TensorSpec((None, model.input_shape[1]), tf.float32),
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((None,), tf.float32),
        ],
    )
    def steps(images: Any, class_indices: Any, rates: Any) -> None:
        def step(number: Any) -> list[Any]:
            optimizer.learning_rate.assign(rates[number])
            batch = slice(number * size, (number + 1) * size)
            with tf.GradientTape() as tape:
                outputs = forward(model, images[batch], training=True)
                batch_loss = loss(tf.one_hot(class_indices[batch], classes), outputs)
            optimizer.apply(tape.gradient(batch_loss, model.trainable_variables))
            return [number + 1]

        count = tf.shape(rates)[0]
        tf.while_loop(lambda number: number < count, step, [tf.constant(0)], parallel_iterations=1)

    return steps


def visible_gpus() -> int:
    """Return the number of GPUs that TensorFlow computes on: none without their driver and libraries."""
    import_keras()
    import tensorflow as tf

    return len(tf.config.get_visible_devices("GPU"))


def cpu_computes_bfloat16() -> bool:
    """Return whether bfloat16 is faster: Linux, a CPU with AVX-512 BF16 or AMX; imports no TensorFlow."""
    return CPU_INFO.exists() and any(name in CPU_INFO.read_text() for name in ("avx512_bf16", "amx_bf16"))


def limit_threads(threads: int) -> int:
    """Limit TensorFlow in this process to `threads` threads; no effect once it has computed.

    Returns its threads, 0 for all. Warns if it goes on with fewer, which no command does, but a notebook or a
    program may. Of a GPU, each process takes only the memory it needs, so that several fits share it.
    """
    import_keras()
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:  # already computing
        if 0 < (before := tf.config.threading.get_intra_op_parallelism_threads()) < threads:
            warnings.warn(
                f"TensorFlow goes on with {before} of {threads} threads, as it has computed in this process "
                "already; start Python, or the notebook's kernel, anew to use all",
                stacklevel=2,
            )
    return tf.config.threading.get_intra_op_parallelism_threads()
