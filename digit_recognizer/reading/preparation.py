"""A grey picture becomes a digit as MNIST's are: a box of 20x20, antialiased, centred by mass in 28x28.

`prepare` is the whole algorithm, a step a line. page/prepare.js does the same for the even paper of the
drawing page, where `even` only subtracts the paper's grey and divides by the greatest value.
"""

import numpy as np

from digit_recognizer.data import SIDE
from digit_recognizer.errors import PictureError

MIDDLE = 14.5  # where MNIST's digits have their centre of mass, from the picture's edge
BOX = 20  # longest side of MNIST's digits before they were centred
WORK = 80  # longest side at which thin strokes are thickened
LARGEST = 400  # longest side of the picture in which paper and ink are told apart
MIN_CONTRAST = 20  # of 255, between paper and ink; below it a picture is blank
SHADOW = 0.25  # of full ink; on uneven paper, what is fainter is paper
SPECK = 0.02  # a patch with less than this share of the largest patch's ink is dirt
FAR = 0.5  # patches this much of the tallest patch's height apart, side by side, are several digits
THIN = 5.8  # stroke width at WORK below which strokes are thickened: one MNIST digit in 20 is thinner
STROKE = 8.3  # MNIST's median stroke width at WORK


def prepare(grey: np.ndarray) -> np.ndarray:
    """Return the digit in a grey picture of any size (0 black to 255 white) as uint8 of shape (28, 28).

    Raises PictureError, with the reason, if the picture is blank or holds several digits.
    """
    grey = shrink(grey.astype(float), LARGEST)
    ink = crop(without_specks(even(ink_up(grey))))
    if grey.shape != (SIDE, SIDE) or max(ink.shape) > BOX:  # else it has MNIST's size already
        work = scale(ink, WORK)
        ink = scale(thicken(work), BOX)
    return centre(ink)


def ink_up(grey: np.ndarray) -> np.ndarray:
    """Return the picture with ink brighter than paper, whichever of them it was.

    Paper's grey is the median of the outermost pixels; ink is on the side of it that goes further.
    """
    if min(grey.shape) < 3:
        raise PictureError(f"is {grey.shape[1]}x{grey.shape[0]} pixels, expected a digit of 8 or more")
    border = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
    paper = np.median(border)
    return grey if grey.max() - paper > paper - grey.min() else 255 - grey


def even(bright: np.ndarray) -> np.ndarray:
    """Return the ink from 0 to 1, after the paper's uneven grey and noise are subtracted.

    The paper's grey is a morphological opening: the least value in a square window of half the picture's
    longest side, then the greatest of those in the same window. Beyond the edge the picture goes on mirrored,
    upside down in grey as well (2 * edge - mirrored pixel), so that a slope of grey goes on evenly.
    Of even paper that is all. Elsewhere, full ink is the median of what is left and above half of the
    greatest value, and noise is twice the median of what is below, or SHADOW of full ink if that is more.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    reach = max(bright.shape) // 4
    window = 2 * reach + 1
    continued = np.pad(bright, 2 * reach, "reflect", reflect_type="odd")
    opened = maximum_filter(minimum_filter(continued, window), window)
    rows, columns = bright.shape
    paper = opened[2 * reach :, 2 * reach :][:rows, :columns]
    ink = bright - np.minimum(paper, bright)
    peak = ink.max()
    if peak < MIN_CONTRAST:
        raise PictureError("is blank, expected a digit")
    if np.ptp(paper) == 0:
        return ink / peak
    full = np.median(ink[ink > peak / 2])
    noise = max(2 * np.median(ink[ink < peak / 2]), SHADOW * full)
    return np.clip((ink - noise) / (full - noise), 0, 1) if noise < full else ink / peak


def without_specks(ink: np.ndarray) -> np.ndarray:
    """Return the ink without small separate patches; raise PictureError if patches are far apart.

    A patch is connected by sides or corners.
    """
    from scipy.ndimage import find_objects, label

    patches, count = label(ink > 0, np.ones((3, 3)))
    amounts = np.bincount(patches.ravel(), ink.ravel(), minlength=count + 1)
    amounts[0] = 0
    large = amounts >= SPECK * amounts.max()
    boxes = sorted(
        (columns.start, columns.stop, rows.stop - rows.start)
        for number, (rows, columns) in enumerate(find_objects(patches), start=1)
        if large[number]
    )
    tallest, right = max(height for *_, height in boxes), boxes[0][1]
    for left, end, _ in boxes[1:]:
        if left - right > FAR * tallest:
            raise PictureError("holds several digits far apart, expected one; cut it into one picture each")
        right = max(right, end)
    return np.where(large[patches], ink, 0)


def crop(ink: np.ndarray) -> np.ndarray:
    """Return the smallest rectangle that holds all the ink."""
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def thicken(ink: np.ndarray) -> np.ndarray:
    """Return the ink with thin strokes thickened to MNIST's typical width by a disk with a soft edge.

    The stroke width is 2 * ink / length of the outline, and the outline's length is the sum of the slopes.
    Each pixel becomes the greatest of its neighbours' ink times clip(radius + 0.5 - distance, 0, 1).
    """
    padded = np.pad(ink, int(STROKE))
    slope = np.hypot(*np.gradient(padded)).sum()
    width = 2 * padded.sum() / slope
    if width >= THIN:
        return ink
    radius = (STROKE - width) / 2
    reach = int(np.ceil(radius))
    thick = padded.copy()
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            weight = min(1.0, max(0.0, radius + 0.5 - float(np.hypot(down, across))))
            np.maximum(thick, weight * np.roll(padded, (down, across), (0, 1)), out=thick)
    return scale(crop(thick), WORK)


def shrink(picture: np.ndarray, longest: int) -> np.ndarray:
    """Return the picture with at most `longest` pixels on its longest side."""
    return scale(picture, longest) if max(picture.shape) > longest else picture


def scale(picture: np.ndarray, longest: int) -> np.ndarray:
    """Return the picture with `longest` pixels on its longest side, in the same proportions."""
    factor = longest / max(picture.shape)
    rows, columns = (max(1, int(side * factor + 0.5)) for side in picture.shape)
    return area_resize(picture, rows, columns)


def area_resize(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the picture at another size: a new pixel is the mean of the old ones under it, by area."""
    return _overlaps(rows, picture.shape[0]) @ picture @ _overlaps(columns, picture.shape[1]).T


def _overlaps(new: int, old: int) -> np.ndarray:
    """Return the share of each new pixel, in rows, that each old one covers, in columns."""
    edges = np.arange(new + 1) * (old / new)
    start, end = edges[:-1, None], edges[1:, None]
    pixels = np.arange(old)
    return np.clip(np.minimum(end, pixels + 1) - np.maximum(start, pixels), 0, None) * (new / old)


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
