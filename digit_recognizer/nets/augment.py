"""Images warped, set upright, and looked at from several places; OpenCV does the warping.

Warps are for training rows alone. Setting upright is no augmentation: it is done to every image alike.
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np

# What a strength of 1 means: standard deviations, of a mild warp that leaves a 7 a 7.
ROTATION = np.deg2rad(8)  # radians
STRETCH = 0.085  # of the logarithm of width and of height
SHEAR = 0.085  # pixels sideways for each pixel down
SHIFT = 0.85  # pixels
ELASTIC = 0.25  # pixels, of a smooth displacement field
GRID = 6  # points across of that field's coarse grid
CHUNK = 2048  # images whose coordinates are in memory at a time


def warp(images: np.ndarray, strength: float, random: np.random.Generator) -> np.ndarray:
    """Each image rotated, stretched, sheared, shifted and bent a little, each otherwise.

    images: float32 of shape (n, side * side), ink high on 0; the same shape comes back. The bending is that
    of P. Simard et al., "Best Practices for Convolutional Neural Networks", ICDAR 2003, from a coarse grid.
    """
    side = _side(images)
    warped = np.empty_like(images)
    spread = _upsampling(side)
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        n = len(chunk)
        angle, shear = random.normal(0, strength, (2, n)) * [[ROTATION], [SHEAR]]
        width, height = np.exp(random.normal(0, strength * STRETCH, (2, n)))
        cos, sin = np.cos(angle), np.sin(angle)
        # Where each pixel of the warped image comes from: rotation @ shear @ stretch, about the centre.
        matrix = np.array(
            [[cos * width, (cos * shear - sin) * height], [sin * width, (sin * shear + cos) * height]]
        )
        shift = random.normal(0, strength * SHIFT, (n, 2))
        bend = random.normal(0, strength * ELASTIC, (n, 2, GRID, GRID)).astype(np.float32)
        bend = spread @ bend @ spread.T  # (n, 2, side, side)
        warped[start : start + n] = _remap(chunk, matrix.transpose(2, 0, 1), shift, bend)
    return warped


def upright(images: np.ndarray) -> np.ndarray:
    """Each image slanted back and centred by its moments: the mean of its ink goes to the middle, and ink
    lower down is on average no further left or right. Empty images stay as they are.

    images: float32 of shape (n, side * side); the same shape comes back. Y. LeCun et al., "Gradient-Based
    Learning Applied to Document Recognition", Proceedings of the IEEE 86 (1998), section III.
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
    straight = np.empty_like(images)
    for start in range(0, len(images), CHUNK):
        part = slice(start, start + CHUNK)
        straight[part] = _remap(images[part], matrix[part], shift[part])
    return straight


def shifted(images: np.ndarray) -> Iterator[np.ndarray]:
    """The images as they are, and moved by a pixel up, left, right and down: five views of the same digits.

    images: float32 of shape (n, side * side), as is each view.
    """
    side = _side(images)
    padded = np.pad(images.reshape(-1, side, side), [(0, 0), (1, 1), (1, 1)])
    for row, column in ((1, 1), (0, 1), (1, 0), (1, 2), (2, 1)):
        yield padded[:, row : row + side, column : column + side].reshape(images.shape)


def over_shifted(predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """The mean of what is predicted for each of the `shifted` views, of the shape of one prediction."""
    return np.mean([predict(view) for view in shifted(images)], axis=0)


def _side(images: np.ndarray) -> int:
    side = round(images.shape[1] ** 0.5)
    if side * side != images.shape[1]:
        raise ValueError(f"rows of {images.shape[1]} values are no square images")
    return side


def _remap(
    images: np.ndarray, matrix: np.ndarray, shift: np.ndarray, bend: np.ndarray | None = None
) -> np.ndarray:
    """Images whose pixel p, from the centre, is the old one at matrix @ p + shift + bend, bilinearly.

    matrix: (n, 2, 2), shift: (n, 2), bend: (n, 2, side, side); x before y.
    """
    side = _side(images)
    middle = (side - 1) / 2
    x, y = np.meshgrid(*[np.arange(side, dtype=np.float32) - np.float32(middle)] * 2)
    grid = np.stack([x.ravel(), y.ravel()])  # (2, side * side)
    start = (shift + middle).astype(np.float32)[:, :, None]
    sources = (matrix.astype(np.float32) @ grid + start).reshape(-1, 2, side, side)
    if bend is not None:
        sources += bend
    squares = images.reshape(-1, side, side)
    moved = [
        cv2.remap(image, source[0], source[1], cv2.INTER_LINEAR)
        for image, source in zip(squares, sources, strict=True)
    ]
    return np.stack(moved).reshape(images.shape)


def _upsampling(side: int) -> np.ndarray:
    """The matrix (side, GRID) that spreads a coarse grid over the image, cubic and smooth."""
    return cv2.resize(np.eye(GRID, dtype=np.float32), (GRID, side), interpolation=cv2.INTER_CUBIC)
