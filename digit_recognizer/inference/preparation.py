"""A picture becomes a digit as MNIST's are: a box of 20x20, antialiased, centred by mass in 28x28.

`prepare` is the whole algorithm, a step a line. page/prepare.js does the same for the drawing page, whose
even paper without lines needs nothing of paper.py and only the first of LEVELS.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from digit_recognizer.data import SIDE
from digit_recognizer.errors import PictureError
from digit_recognizer.inference.paper import SEVERAL, find_ink, without_lines

MIDDLE = 14.5  # where MNIST's digits have their centre of mass, from the picture's edge
BOX = 20  # longest side of MNIST's digits before they were centred
LEVELS = (0.15, 0.3, 0.45)  # of full ink, above which a pixel is ink: the higher for shadows
FAINT = 0.2  # of full ink, below which a digit's pixels are paper
INNER = 0.1  # share of the largest patch's ink that one clear of the edge has, if it is the digit
LINED = 0.5  # the same where lines are taken away, since more may be left of them than of a digit
HOLLOW = 0.2  # ink of thin lines, of the rectangle round them
SPECK = 0.01  # a patch with less than this share of the largest one's ink is dirt
MAIN = 0.15  # share of the largest patch's ink that the digit's tallest one has at least
TALL = 0.5  # share of the digit's height from which on another patch is a digit of its own
NEAR = 0.06  # unless it is no further away than this, as in a broken stroke
SAME = 0.8  # and lower than this
SHADE = 0.22  # of the picture, from a side on: ink all over it is a shadow, or what lies behind a fold
PATCH = 0.45  # side of a square of ink, of the longest side, that no stroke holds


@dataclass(frozen=True)
class Patch:
    """Ink connected by sides or corners: the rectangle round it in pixels, and its amount."""

    left: int
    top: int
    right: int
    bottom: int
    ink: float

    @property
    def height(self) -> int:
        """Return the rows that it takes."""
        return self.bottom - self.top


def prepare(picture: np.ndarray) -> np.ndarray:
    """Return the digit in a picture as uint8 of shape (28, 28).

    picture: (h, w), or (h, w, channels) in any colours, from 0 to 255.
    Raises PictureError, with the reason, for a blank picture, several digits, or a patch that no pen draws.
    """
    ink = find_ink(picture)
    digit = find_digit(ink)
    near = cv2.dilate(digit.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return centre(fit(crop(np.where(near & (ink > FAINT), np.minimum(ink, 1), 0))))


def find_digit(ink: np.ndarray) -> np.ndarray:
    """Return the mask of the digit, at the lowest level at which it is clear of the picture's edge.

    If there is none, without lines; if that does not help, it may touch the edge.
    """
    for level in LEVELS:
        if (digit := _digit_in(ink > level, ink, INNER)) is not None:
            return digit
    mask = ink > LEVELS[0]
    if (rest := without_lines(mask)) is not None:
        digit = _digit_in(rest, ink, LINED)
        if digit is None and rest.sum() < 0.1 * mask.sum() and not _is_upright_line(mask):
            raise PictureError("holds lines alone, expected a digit")
    sides = (mask, mask[::-1], mask.T, mask.T[::-1])
    shaded = any(side[: int(SHADE * len(side)) or 1].mean() > 0.95 for side in sides)
    if digit is None and (shaded or (digit := _digit_in(mask, ink, 0)) is None):
        raise PictureError("is blank, or partly in shadow; expected a digit on even paper")
    return digit


def _is_upright_line(mask: np.ndarray) -> bool:
    (rows, columns), parts = crop(mask).shape, cv2.connectedComponents((~mask).astype(np.uint8))[0]
    return rows > columns and parts <= 3  # its two sides, and 0


def _digit_in(mask: np.ndarray, ink: np.ndarray, share: float) -> np.ndarray | None:
    """Return the mask of those patches of a mask that are the digit, all of them clear of the edge.

    None unless one that is clear of it has this share of the largest patch's ink. 0: all may touch the edge.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    amounts = np.bincount(labels.ravel(), ink.ravel(), count)
    patches = {
        number: Patch(x, y, x + width, y + height, amounts[number])
        for number, (x, y, width, height, _) in enumerate(stats.tolist())
        if number
    }
    most = max((patch.ink for patch in patches.values()), default=0)
    if share:
        rows, columns = mask.shape
        patches = {
            number: patch
            for number, patch in patches.items()
            if patch.left and patch.top and patch.right < columns and patch.bottom < rows
        }
    if max((patch.ink for patch in patches.values()), default=0) <= share * most:
        return None
    main = [patch for patch in patches.values() if patch.ink >= MAIN * most]
    patches = {n: patch for n, patch in patches.items() if not any(_is_field(patch, each) for each in main)}
    digit = np.isin(labels, join(patches))
    if _is_frame(digit):
        raise PictureError("holds an empty frame, expected a digit")
    square = 2 * cv2.distanceTransform(np.pad(digit, 1).astype(np.uint8), cv2.DIST_C, 3).max() - 1
    if square > PATCH * max(crop(digit).shape):
        raise PictureError("holds a patch that is no stroke, such as a shadow or a blot; expected a digit")
    return digit


def _is_field(patch: Patch, digit: Patch) -> bool:
    """Return whether a patch is thin lines on both sides of a digit and below it, as of a form's comb."""
    holds = patch.left < digit.left and digit.right < patch.right and digit.bottom < patch.bottom
    return holds and patch.ink < min(digit.ink, HOLLOW * (patch.right - patch.left) * patch.height)


def _is_frame(mask: np.ndarray) -> bool:
    """Return whether the mask is a thin outline of a rectangle, in any direction."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=cv2.contourArea)
    area, (_, (width, height), _) = cv2.contourArea(outline), cv2.minAreaRect(outline)
    return area > 0.9 * width * height and mask.sum() < 0.4 * area


def join(patches: dict[int, Patch]) -> list[int]:
    """Return the numbers of the patches that are one digit; raise PictureError if there are several digits.

    It grows from its tallest patch by what is near: half of its own length for a small patch, such as the bar
    of a 5, unless it is below.
    """
    most = max(patch.ink for patch in patches.values())
    rest = {number: patch for number, patch in patches.items() if patch.ink >= SPECK * most}
    tall = max(patch.height for patch in rest.values())
    first = max((n for n in rest if rest[n].ink >= MAIN * most), key=lambda number: rest[number].height)
    digit, box = [first], rest.pop(first)
    while near := [number for number, patch in rest.items() if _is_near(patch, box, tall)]:
        patch = rest.pop(near[0])
        digit.append(near[0])
        left, top = min(box.left, patch.left), min(box.top, patch.top)
        box = Patch(left, top, max(box.right, patch.right), max(box.bottom, patch.bottom), box.ink)
    if any(patch.height >= TALL * tall and patch.ink >= INNER * most for patch in rest.values()):
        raise PictureError(SEVERAL)
    return digit


def _is_near(patch: Patch, box: Patch, tall: int) -> bool:
    across = max(patch.left - box.right, box.left - patch.right)
    gap = max(across, patch.top - box.bottom, box.top - patch.bottom)
    if patch.height >= TALL * tall or patch.top >= box.bottom:
        return gap <= NEAR * tall and patch.height < SAME * tall
    return gap <= max(patch.right - patch.left, patch.height) / 2


def crop(ink: np.ndarray) -> np.ndarray:
    """Return the smallest rectangle that holds all the ink."""
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def fit(ink: np.ndarray) -> np.ndarray:
    """Return the ink with BOX pixels on its longest side, each the mean of the old ones under it.

    The most becomes full ink, as in MNIST: a thin stroke is less in each pixel than it was.
    """
    rows, columns = (max(1, int(side * BOX / max(ink.shape) + 0.5)) for side in ink.shape)
    fitted = cv2.resize(ink, (columns, rows), interpolation=cv2.INTER_AREA)
    return fitted / fitted.max()


def centre(ink: np.ndarray) -> np.ndarray:
    """Return the ink in 28x28 pixels, 0 to 255, its centre of mass as near the middle as whole pixels allow.

    The middle is that of pixel 14, counted from 0, as in MNIST; a digit stays within the picture.
    """
    digit = np.zeros((SIDE, SIDE))
    rows, columns = ink.shape
    total = ink.sum()
    row = (ink.sum(axis=1) @ (np.arange(rows) + 0.5)) / total
    column = (ink.sum(axis=0) @ (np.arange(columns) + 0.5)) / total
    top = min(max(int(MIDDLE - row + 0.5), 0), SIDE - rows)
    left = min(max(int(MIDDLE - column + 0.5), 0), SIDE - columns)
    digit[top : top + rows, left : left + columns] = ink
    return (digit * 255 + 0.5).astype(np.uint8)
