"""What is ink in a picture: its colour, the sheet it stands on, the paper's shade, and lines printed on it.

A mask is a bool array, true for ink. A contour is OpenCV's: the points round a region, and its place in the
tree of regions within regions.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from digit_recognizer.errors import PictureError

LARGEST = 400  # longest side of the picture in which paper and ink are told apart
MIN_CONTRAST = 12  # of 255, between paper and ink; below it a picture is blank
SEPARATION = 4.5  # of ink from paper, in paper's deviations: of noise it is below 3, of digits above 5
COARSE = 48  # longest side at which the paper's shade is fitted
CONVEX, RECTANGULAR, ROUND = 0.93, 0.85, 0.7  # share of a sheet in its convex hull; in the rectangle round it
SMALLEST = 0.02  # of the picture, that a sheet takes
STRAIGHT = 0.9  # share of a line that is ink
THIN = 12  # times that a line's width goes into the picture's shorter side, at least
BLANK = "is blank, expected a digit"
SEVERAL = "holds several digits, expected one; cut it into one picture each"


def find_ink(picture: np.ndarray) -> np.ndarray:
    """Return the ink in a picture, (h, w) or (h, w, channels) from 0 to 255: 0 for paper, 1 for full ink.

    A frame, or a table with the sheet on it, is left outside. Raises PictureError for a blank picture.
    """
    if min(picture.shape[:2]) < 3 or max(picture.shape[:2]) < 8:
        raise PictureError(f"is {picture.shape[1]}x{picture.shape[0]} pixels, expected a digit of 8 or more")
    picture = _shrink(picture)
    contrast = _contrast(picture)
    sheet = _enter_sheet(picture, contrast)
    if sheet is not None:
        contrast = _contrast(sheet)
    ink = _normalize_background(contrast)
    smooth = cv2.GaussianBlur(ink, (0, 0), max(0.3, max(ink.shape) / 150))
    dark = _otsu(smooth)
    paper = smooth[~dark]
    if ink.max() < MIN_CONTRAST or smooth[dark].mean() - paper.mean() < SEPARATION * (paper.std() + 0.5):
        raise PictureError(BLANK)
    return ink / np.median(ink[_otsu(ink)])


def _shrink(picture: np.ndarray) -> np.ndarray:
    """Return float32 (h, w, channels) with at most LARGEST pixels on the longest side.

    Colours, of three channels, become brightness and half of what red and blue differ from it: in
    RGB, yellow on cyan differs more than dark blue does, though less to the eye.
    """
    rows, columns = picture.shape[:2]
    if (factor := LARGEST / max(rows, columns)) < 1:
        size = max(1, round(columns * factor)), max(1, round(rows * factor))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    picture = np.atleast_3d(picture).astype(np.float32)
    if picture.shape[2] != 3:
        return picture / np.sqrt(np.float32(picture.shape[2]))
    return cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb) * np.array([1, 0.5, 0.5], np.float32)


def _contrast(picture: np.ndarray) -> np.ndarray:
    """Return how far each pixel is from the paper's colour towards the ink's, float32 (h, w).

    Paper is the median of the outermost pixels, ink what differs most from it: any two colours will do.
    """
    edge = np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
    away = picture - np.median(edge, axis=0)
    distance = np.sqrt((away**2).sum(axis=2))
    farthest = distance.max()
    if farthest < MIN_CONTRAST:
        raise PictureError(BLANK)
    first = away[np.unravel_index(distance.argmax(), distance.shape)]
    ink = away[(distance >= farthest / 2) & (away @ first > 0)].mean(axis=0)
    return away @ (ink / np.linalg.norm(ink))


def _otsu(values: np.ndarray) -> np.ndarray:
    """Return the mask of the upper of two classes, parted by Otsu's threshold."""
    grey = cv2.normalize(values, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return grey > cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)[0]


def _normalize_background(contrast: np.ndarray) -> np.ndarray:
    """Return the contrast less the paper's shade, a surface of second degree fitted to what is no ink."""
    factor = min(1.0, COARSE / max(contrast.shape))
    size = [max(2, int(side * factor)) for side in contrast.shape]
    coarse = cv2.resize(contrast, size[::-1], interpolation=cv2.INTER_AREA)
    terms, values, paper = _terms(*coarse.shape), coarse.ravel(), ~_otsu(coarse).ravel()
    shade = np.zeros(6)
    for _ in range(5):
        if paper.sum() < 12:
            break
        shade = np.linalg.lstsq(terms[paper], values[paper])[0]
        rest = values - terms @ shade
        paper = rest < 2.5 * (1.4826 * np.median(np.abs(rest[paper])) + 0.6)  # deviations of noise
    return (contrast - (_terms(*contrast.shape) @ shade).reshape(contrast.shape)).astype(np.float32)


def _terms(rows: int, columns: int) -> np.ndarray:
    y, x = (axis.ravel() for axis in np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j])
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _enter_sheet(picture: np.ndarray, contrast: np.ndarray) -> np.ndarray | None:
    """Return the innermost sheet that holds a digit, with paper for all that is round it; None without one.

    A sheet is a convex region of either class that a frame, a margin or a table encloses.
    """
    dark = _otsu(contrast)
    sheets = sorted([*_sheets(dark), *_sheets(~dark)], key=cv2.contourArea)
    if not sheets:
        return None
    left, top, width, height = cv2.boundingRect(sheets[0])
    for other in sheets[1:]:
        x, y, w, h = cv2.boundingRect(other)
        apart = x >= left + width or left >= x + w or y >= top + height or top >= y + h
        if apart and cv2.contourArea(other) < 2 * cv2.contourArea(sheets[0]):
            raise PictureError(SEVERAL)
    mask = cv2.drawContours(np.zeros(dark.shape, np.uint8), sheets, 0, 1, -1)
    inside = cv2.drawContours(mask, sheets, 0, 0, 1).astype(bool)  # without its edge
    if inside.all():
        return None
    paper = inside & (dark == (dark[inside].mean() > 0.5))
    cleared = np.where(inside[..., None], picture, np.median(picture[paper], axis=0))
    return cleared[max(top, 0) : top + height, max(left, 0) : left + width]


def _sheets(ink: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the contour of each sheet that ink, or the picture's edge, encloses and that holds a digit."""
    padded = np.pad(ink.astype(np.uint8), 1, constant_values=1)
    contours, tree = cv2.findContours(padded, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE, offset=(-1, -1))
    for number, contour in enumerate(contours):
        depth, above = 0, tree[0][number][3]
        while above >= 0:
            depth, above = depth + 1, tree[0][above][3]
        area, (_, sides, _) = cv2.contourArea(contour), cv2.minAreaRect(contour)
        filled = area / (sides[0] * sides[1] or 1)
        hull = cv2.contourArea(cv2.convexHull(contour))
        if depth % 2 == 0 or area < max(64, SMALLEST * ink.size) or area < CONVEX * hull or filled < ROUND:
            continue
        child = tree[0][number][2]
        while child >= 0:
            inner = tree[0][child][2]
            hole = cv2.contourArea(contours[inner]) if inner >= 0 else 0.0
            if _is_digit(contours[child], hole, max(sides), filled > RECTANGULAR):
                yield contour
                break
            child = tree[0][child][0]


def _is_digit(contour: np.ndarray, hole: float, side: float, rectangular: bool) -> bool:
    """Return whether a region in a sheet may be a digit, not the hole in a 0 that was taken for a sheet."""
    length, width = sorted((edge + 1 for edge in cv2.minAreaRect(contour)[1]), reverse=True)
    area = cv2.contourArea(contour) + len(contour) / 2
    hull = cv2.contourArea(cv2.convexHull(contour)) + len(contour) / 2
    ragged = area < (0.85 if rectangular else 0.7) * hull
    return length >= 0.2 * side and (hole > 0.02 * area or ragged or (rectangular and length > 2.5 * width))


def without_lines(ink: np.ndarray) -> np.ndarray | None:
    """Return the mask without thin straight lines from edge to edge, what they cross closed again.

    None if there are no such lines.
    """
    lines = _lines(ink)
    if not lines.any():
        return None
    distance = cv2.distanceTransform(np.pad(ink, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    width = int(np.ceil(2 * np.median(distance[lines]) - 0.5))
    if width > max(2, min(ink.shape) / THIN):
        return None
    reach = 2 * width + 3
    band = cv2.dilate(lines.astype(np.uint8), np.ones((2 * width + 1,) * 2, np.uint8)).astype(bool)
    rest = np.pad(ink & ~band, reach).astype(np.uint8)
    closed = cv2.morphologyEx(rest, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    return ink & (~band | closed[reach:-reach, reach:-reach].astype(bool))


def _lines(ink: np.ndarray) -> np.ndarray:
    """Return the mask of what lies on a straight line from edge to edge, by a Hough transform."""
    rows, columns = ink.shape
    lines = np.zeros_like(ink)
    shorter, far = min(ink.shape), rows + columns
    votes = cv2.HoughLines(ink.astype(np.uint8), 1, np.pi / 360, max(3, int(0.6 * shorter)))
    for rho, angle in [] if votes is None else votes.reshape(-1, 2)[:400]:
        normal, along = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        ends = [tuple(map(round, rho * normal + far * sign * along)) for sign in (-1, 1)]
        _, start, end = cv2.clipLine((0, 0, columns, rows), *ends)
        length = max(abs(start[0] - end[0]), abs(start[1] - end[1])) + 1
        x, y = (np.rint(np.linspace(*pair, length)).astype(int) for pair in zip(start, end, strict=True))
        part, tip = ink[y, x], max(1, length // 12)
        if (
            length >= 0.75 * shorter
            and part.mean() >= STRAIGHT
            and min(part[:tip].mean(), part[-tip:].mean()) >= 0.5
        ):
            lines[y, x] = True
    return lines & ink
