"""A run's nets as layers of plain numbers, for a forward pass without TensorFlow or scikit-learn."""

import base64
from collections.abc import Iterable
from functools import partial
from itertools import pairwise, zip_longest
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from digit_recognizer import runs
from digit_recognizer.blending import AnyCombiner
from digit_recognizer.data import CLASSES, SIDE
from digit_recognizer.inference.models import Arrays, read_fits, submission_models
from digit_recognizer.nets.arrays import check_arrays
from digit_recognizer.nets.keras_model import kernel_shapes
from digit_recognizer.records import Record
from digit_recognizer.settings import KerasSettings, MLPSettings, Settings

EPSILON = 1e-3  # that Keras adds to a variance in batch normalisation


class Layer(Record):
    """A dense layer or a convolution; kernel: floats of `bits` bits, bias: of 32, both in base64."""

    shape: tuple[int, ...]  # (in, out), or (rows, columns, in, out)
    stride: int
    bits: Literal[16, 32]
    kernel: str
    bias: str


class Model(Record):
    """A model: the geometric mean of its fits, see `predictions.mean_of_fits`."""

    deskew: bool
    tta: bool
    activation: str
    output: Literal["softmax", "sigmoid"] = "softmax"
    global_pool: bool = False
    fits: tuple[tuple[Layer, ...], ...]


class Net(Record):
    """All that the page's forward pass needs."""

    models: tuple[Model, ...]
    blend: AnyCombiner | None


def read_net(run: runs.Run) -> Net:
    """Return the run's models, and how they are blended, as its submission was made."""
    names, combiner = submission_models(run)
    settings = run.manifest.settings
    fits = [read_fits(run, name, partial(fuse_batch_norm, settings=settings[name])) for name in names]
    models = tuple(make_model(settings[name], each) for name, each in zip(names, fits, strict=True))
    return Net(models=models, blend=combiner)


def make_model(settings: Settings, fits: Iterable[tuple[Layer, ...]]) -> Model:
    """Return the model of these settings whose fits have these layers."""
    return Model(**settings.model_dump(include=set(Model.model_fields)), fits=tuple(fits))


def fuse_batch_norm(arrays: Arrays, settings: Settings) -> tuple[Layer, ...]:
    """Return the net's layers, with what comes before the first and batch normalisation folded into them.

    Raises ValueError if these are not exactly the arrays of a net of these settings.
    """
    before = {name: arrays.pop(name) for name in list(arrays) if name.startswith(("standardize/", "pca/"))}
    shapes, strides = _shapes(settings, len(before.get("pca/components", range(SIDE * SIDE))))
    normed = isinstance(settings, KerasSettings) and settings.batch_norm
    expected: dict[str, tuple[tuple[int, ...], DTypeLike]] = {}
    if isinstance(settings, KerasSettings):
        expected = {"mixed_bfloat16": ((), np.bool_)}
    keys = []  # of each layer's arrays, by their short names
    for number, shape in enumerate(shapes):
        norm = normed and number < len(shapes) - 1
        at = number * 2 if normed else number
        names = {"kernel": f"layer{at}/kernel"}
        if norm:
            names |= {n: f"layer{at + 1}/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")}
        else:
            names["bias"] = f"layer{at}/bias"
        expected |= {key: (shape if n == "kernel" else shape[-1:], np.float32) for n, key in names.items()}
        keys.append(names)
    check_arrays(arrays, expected)
    folded = [_without_norm({n: arrays[key].astype(float) for n, key in names.items()}) for names in keys]
    folded[0] = _with_preprocessing(*folded[0], before, settings)
    return tuple(_encode(*layer, stride) for layer, stride in zip(folded, strides, strict=True))


def _shapes(settings: Settings, features: int) -> tuple[list[tuple[int, ...]], list[int]]:
    """Return the shape of each kernel, and the strides."""
    if isinstance(settings, KerasSettings):
        shapes = kernel_shapes(settings, features, CLASSES)
        pairs = zip_longest(settings.channels, settings.strides)
        strides = [stride or 2 for _, stride in pairs]
    else:
        shapes, strides = list(pairwise([features, *settings.hidden, CLASSES])), []
    return shapes, strides + [1] * (len(shapes) - len(strides))


def _without_norm(layer: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of the layer and its batch normalisation as one."""
    if "bias" in layer:
        return layer["kernel"], layer["bias"]
    factor = layer["gamma"] / np.sqrt(layer["moving_variance"] + EPSILON)
    return layer["kernel"] * factor, layer["beta"] - layer["moving_mean"] * factor


def _with_preprocessing(
    kernel: np.ndarray, bias: np.ndarray, before: Arrays, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of the first layer, with standardising or projecting the pixels in them."""
    step = settings.preprocessing if isinstance(settings, MLPSettings) else "scale"
    pixels, rows = (SIDE * SIDE,), len(kernel)
    if step == "standardize":
        check_arrays(before, {f"{step}/{name}": (pixels, np.float64) for name in ("mean", "scale")})
        kernel = kernel / before["standardize/scale"][:, None]
    elif step == "pca":
        check_arrays(
            before, {"pca/mean": (pixels, np.float32), "pca/components": ((rows, *pixels), np.float32)}
        )
        kernel = before["pca/components"].T @ kernel
    else:
        check_arrays(before, {})
        return kernel, bias
    return kernel, bias - before[f"{step}/mean"] @ kernel


def _encode(kernel: np.ndarray, bias: np.ndarray, stride: int) -> Layer:
    with np.errstate(over="ignore"):
        halves = kernel.astype("<f2")
    fits = np.allclose(halves, kernel, rtol=1e-3, atol=1e-6)  # weights of standardised pixels can be huge
    return Layer(
        shape=kernel.shape,
        stride=stride,
        bits=16 if fits else 32,
        kernel=base64.b64encode((halves if fits else kernel.astype("<f4")).tobytes()).decode(),
        bias=base64.b64encode(bias.astype("<f4").tobytes()).decode(),
    )
