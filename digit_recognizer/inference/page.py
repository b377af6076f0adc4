"""The drawing page of a run: one HTML file that holds its nets, and predicts digits without a server.

The nets become layers of plain numbers, for page/net.js: a forward pass without TensorFlow or scikit-learn.
"""

import base64
import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike
from pydantic_core import to_json

from digit_recognizer import runs
from digit_recognizer.blending import AnyCombiner
from digit_recognizer.data import CLASSES, PIXELS
from digit_recognizer.files import check_folder, write_atomically
from digit_recognizer.inference import Arrays, read_fits, submission_models
from digit_recognizer.nets.arrays import Expected, check_arrays
from digit_recognizer.nets.keras_model import kernel_shapes
from digit_recognizer.settings import KerasSettings, Settings

PAGE = "draw.html"
FILES = Path(__file__).parent / "page"
SOURCES = ("net.js", "prepare.js", "draw.js", "draw.css")
NORM = ("gamma", "beta", "moving_mean", "moving_variance")  # the arrays of a batch normalisation
EPSILON = 1e-3  # that Keras adds to a variance in it


@dataclass(frozen=True)
class Layer:
    """A dense layer or a convolution; kernel: floats of `bits` bits, bias: of 32, both in base64."""

    shape: tuple[int, ...]  # (in, out), or (rows, columns, in, out)
    stride: int
    bits: Literal[16, 32]
    kernel: str
    bias: str


@dataclass(frozen=True)
class Model:
    """A model: the geometric mean of its fits, see `predictions.mean_of_fits`."""

    deskew: bool
    tta: bool
    activation: str
    output: str
    global_pool: bool
    fits: list[list[Layer]]


@dataclass(frozen=True)
class Net:
    """All that the page's forward pass needs, as JSON."""

    models: list[Model]
    blend: AnyCombiner | None


def write(run: runs.Run) -> Path:
    """Write the run's page into its folder and return its path.

    Its policy allows the scripts and the style in it by their hashes.
    Raises RunError if a model cannot be read or, before that, if the page cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    path = run.folder / PAGE
    check_folder(run.folder)
    environment = Environment(
        loader=FileSystemLoader(FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    sources = {name: (FILES / name).read_text(encoding="utf-8") for name in SOURCES}
    content = environment.get_template(PAGE).render(
        run=run,
        models=submission_models(run)[0],
        sources=sources,
        hashes={name: _hash(text) for name, text in sources.items()},
        net=to_json(read_net(run)).decode(),
        classes=range(CLASSES),
    )
    write_atomically(path, content)
    return path


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def read_net(run: runs.Run) -> Net:
    """Return the run's models, and how they are blended, as its submission was made."""
    names, combiner = submission_models(run)
    settings = run.manifest.settings
    fits = [read_fits(run, name, partial(fuse_batch_norm, settings=settings[name])) for name in names]
    models = [make_model(settings[name], each) for name, each in zip(names, fits, strict=True)]
    return Net(models, combiner)


def make_model(settings: Settings, fits: list[list[Layer]]) -> Model:
    """Return the model of these settings whose fits have these layers."""
    output, pool = getattr(settings, "output", "softmax"), getattr(settings, "global_pool", False)
    return Model(settings.deskew, settings.tta, settings.activation, output, pool, fits)


def fuse_batch_norm(arrays: Arrays, settings: Settings) -> list[Layer]:
    """Return the net's layers, with what comes before the first and batch normalisation folded into them.

    Raises ValueError if these are not exactly the arrays of a net of these settings.
    """
    features, *_ = *arrays.get("pca/components", np.empty(PIXELS)).shape, 0  # a damaged one may have no shape
    layers, expected = _describe(settings, features)
    check_arrays(arrays, expected)
    folded = [_without_norm(*(arrays[name].astype(float) for name in names)) for names in layers]
    folded[0] = _with_preprocessing(*folded[0], arrays)
    given, convolutions = getattr(settings, "strides", ()), len(getattr(settings, "channels", ()))
    strides = [*given, *[2] * (convolutions - len(given)), *[1] * (len(layers) - convolutions)]
    return [_encode(*layer, stride) for layer, stride in zip(folded, strides, strict=True)]


def _describe(settings: Settings, features: int) -> tuple[list[list[str]], Expected]:
    """Return the names of each layer's arrays, the kernel's first, and what is expected of all arrays."""
    expected: dict[str, tuple[tuple[int, ...], DTypeLike]] = {}
    normed = False
    if isinstance(settings, KerasSettings):
        shapes, normed = kernel_shapes(settings, features, CLASSES), settings.batch_norm
        expected["mixed_bfloat16"] = (), np.bool_
    else:
        shapes = list(pairwise([features, *settings.hidden, CLASSES]))
        if settings.preprocessing == "standardize":
            expected |= dict.fromkeys(("standardize/mean", "standardize/scale"), ((PIXELS,), np.float64))
        elif settings.preprocessing == "pca":
            expected["pca/mean"] = (PIXELS,), np.float32
            expected["pca/components"] = (features, PIXELS), np.float32
    layers = []
    for number, shape in enumerate(shapes):
        at = number * (1 + normed)
        names = [f"layer{at}/kernel", f"layer{at}/bias"]
        if normed and number < len(shapes) - 1:
            names[1:] = [f"layer{at + 1}/{name}" for name in NORM]
        expected |= {names[0]: (shape, np.float32)} | dict.fromkeys(names[1:], (shape[-1:], np.float32))
        layers.append(names)
    return layers, expected


def _without_norm(kernel: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of a layer; of one without a bias and its batch normalisation as one."""
    if len(rest) == 1:
        return kernel, rest[0]
    gamma, beta, mean, variance = rest
    factor = gamma / np.sqrt(variance + EPSILON)
    return kernel * factor, beta - mean * factor


def _with_preprocessing(
    kernel: np.ndarray, bias: np.ndarray, arrays: Arrays
) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of the first layer, with standardising or projecting the pixels in them."""
    if "standardize/mean" in arrays:
        kernel, mean = kernel / arrays["standardize/scale"][:, None], arrays["standardize/mean"]
    elif "pca/mean" in arrays:
        kernel, mean = arrays["pca/components"].T @ kernel, arrays["pca/mean"]
    else:
        return kernel, bias
    return kernel, bias - mean @ kernel


def _encode(kernel: np.ndarray, bias: np.ndarray, stride: int) -> Layer:
    with np.errstate(over="ignore"):
        halves = kernel.astype("<f2")
    fits = np.allclose(halves, kernel, rtol=1e-3, atol=1e-6)  # weights of standardised pixels can be huge
    floats = (halves if fits else kernel.astype("<f4"), bias.astype("<f4"))
    encoded = (base64.b64encode(array.tobytes()).decode() for array in floats)
    return Layer(kernel.shape, stride, 16 if fits else 32, *encoded)
