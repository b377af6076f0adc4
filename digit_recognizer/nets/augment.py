"""Training images distorted anew each epoch, images deskewed, predictions averaged over shifted images."""

from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np

from digit_recognizer.settings import NetSettings

# What a strength of 1 means: standard deviations, of a mild distortion that leaves a 7 a 7.
ROTATION = np.deg2rad(8)  # radians
STRETCH = 0.085  # of the logarithm of width and of height
SHEAR = 0.085  # pixels sideways for each pixel down
SHIFT = 0.85  # pixels
ELASTIC = 0.25  # pixels, of a smooth displacement field
GRID = 6  # points across of that field's coarse grid
CHUNK = 2048  # images whose random numbers are drawn at a time
REMAP_BATCH = 256  # images that OpenCV remaps in one call


def augment(images: np.ndarray, settings: NetSettings, progress: float, rng: np.random.Generator) -> None:
    """Change images, float32 (n, side * side), in place by each of AUGMENTATIONS at this progress, 0 to 1."""
    for name, function in AUGMENTATIONS.items():
        start, end = getattr(settings, name), getattr(settings, f"{name}_end")
        if strength := start + (end - start) * progress:
            function(images, strength, rng)


def distort(images: np.ndarray, strength: float, rng: np.random.Generator) -> None:
    """Rotate, stretch, shear, shift and bend each image a little, at random, in place.

    images: float32 of shape (n, side * side), ink high on 0. The bending is that of P. Simard et al., "Best
    Practices for Convolutional Neural Networks", ICDAR 2003, from a coarse grid.
    """
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        n = len(chunk)
        angle, shear = rng.normal(0, strength, (2, n)) * [[ROTATION], [SHEAR]]
        width, height = np.exp(rng.normal(0, strength * STRETCH, (2, n)))
        cos, sin = np.cos(angle), np.sin(angle)
        # Where each pixel of the distorted image comes from: rotation @ shear @ stretch, about the centre.
        matrix = np.array(
            [[cos * width, (cos * shear - sin) * height], [sin * width, (sin * shear + cos) * height]]
        )
        shift = rng.normal(0, strength * SHIFT, (n, 2))
        bend = rng.normal(0, strength * ELASTIC, (n, 2, GRID * GRID))
        _remap(chunk, matrix.transpose(2, 0, 1), shift, bend)


# What training images go through, in this order, by its strength at the start of a training, a field of
# `settings.NetSettings` that begins with `augment_`; with `_end`, another one is its strength at the end.
AUGMENTATIONS = {"augment_strength": distort}


def deskew(images: np.ndarray) -> np.ndarray:
    """Return each image centred and without its slant.

    The mean of the ink moves to the middle; rows of pixels move sideways until ink lower down is on average
    no further left or right. Empty images stay as they are. This is no augmentation: all images are deskewed,
    in training and prediction alike. images: float32 of shape (n, side * side), as is the result. Y. LeCun et
    al., "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE 86 (1998), III.
    """
    side = _side(images)
    x, y = np.meshgrid(*[np.arange(side, dtype=np.float32)] * 2)
    coordinates = np.stack([x, y]).reshape(2, -1)  # (2, side * side)
    mass = np.maximum(images.sum(axis=1), 1e-6)
    mean = images @ coordinates.T / mass[:, None]  # (n, 2)
    cross = images @ (coordinates[0] * coordinates[1]) / mass - mean[:, 0] * mean[:, 1]
    down = images @ coordinates[1] ** 2 / mass - mean[:, 1] ** 2
    slant = cross / np.maximum(down, 1e-3)
    matrix = np.zeros((len(images), 2, 2))
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1
    matrix[:, 0, 1] = slant
    inked = images.max(axis=1, keepdims=True) > 0
    shift = np.where(inked, mean - (side - 1) / 2, 0)
    deskewed = images.copy()
    _remap(deskewed, matrix, shift)
    return deskewed


def tta_views(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield images, float32 (n, side * side), as they are and moved by a pixel up, left, right and down."""
    side = _side(images)
    padded = np.pad(images.reshape(-1, side, side), [(0, 0), (1, 1), (1, 1)])
    for row, column in ((1, 1), (0, 1), (1, 0), (1, 2), (2, 1)):
        yield padded[:, row : row + side, column : column + side].reshape(images.shape)


def _side(images: np.ndarray) -> int:
    side = round(images.shape[1] ** 0.5)
    if side * side != images.shape[1]:
        raise ValueError(f"rows of {images.shape[1]} values are no square images")
    return side


def _remap(images: np.ndarray, matrix: np.ndarray, shift: np.ndarray, bend: np.ndarray | None = None) -> None:
    """Change images in place, so that pixel p is the old one at matrix @ p + shift + bend.

    matrix: (n, 2, 2), shift: (n, 2), bend: (n, 2, GRID * GRID) of the coarse grid; x before y; p counts from
    the centre. The place that a pixel comes from is linear in these numbers: one product with a fixed basis
    gives all places. Values between pixels are interpolated bilinearly. images: (n, side * side).
    """
    n, side = len(images), _side(images)
    numbers = np.empty((2, n, 3 if bend is None else 3 + GRID * GRID), np.float32)
    numbers[:, :, :2], numbers[:, :, 2] = matrix.transpose(1, 0, 2), shift.T
    if bend is not None:
        numbers[:, :, 3:] = bend.transpose(1, 0, 2)
    basis = _displacement_basis(side)[: numbers.shape[2]]
    # One call of OpenCV for many images: they are stacked below each other with a blank row above each, from
    # which comes what is from outside an image.
    stacked = np.zeros((min(n, REMAP_BATCH), side + 1, side), np.float32)
    for start in range(0, n, REMAP_BATCH):
        part = images[start : start + REMAP_BATCH]
        count = len(part)
        stacked[:count, 1:] = part.reshape(-1, side, side)
        x, y = numbers[:, start : start + count] @ basis  # (count, side * side)
        x += np.float32((side - 1) / 2)
        np.clip(y, -(side + 1) / 2, (side + 1) / 2, out=y)
        y += np.arange(count, dtype=np.float32)[:, np.newaxis] * (side + 1) + np.float32((side + 1) / 2)
        cv2.remap(stacked[:count].reshape(-1, side), x, y, cv2.INTER_LINEAR, dst=part)


@cache
def _displacement_basis(side: int) -> np.ndarray:
    """Return x, y, 1 and each grid point's spread at each pixel: (3 + GRID * GRID, side * side)."""
    x, y = np.meshgrid(*[np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)] * 2)
    spread = cv2.resize(np.eye(GRID, dtype=np.float32), (GRID, side), interpolation=cv2.INTER_CUBIC)
    return np.concatenate([[x.ravel(), y.ravel(), np.ones(side * side)], np.kron(spread, spread).T]).astype(
        np.float32
    )
