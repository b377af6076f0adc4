"""Pictures, Kaggle-shaped CSVs and a notebook's arrays to rows of pixels, a chunk at a time."""

import io
import logging
import os
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digit_recognizer.data import PIXEL_COLUMNS, PIXELS, SIDE, parsing, read_file
from digit_recognizer.errors import DataError, DigitRecognizerError, PictureError, shown
from digit_recognizer.files import read_plain
from digit_recognizer.inference.paper import MIN_CONTRAST
from digit_recognizer.inference.preparation import prepare
from digit_recognizer.job import to_path
from digit_recognizer.predictions import PREDICT_BATCH

if TYPE_CHECKING:
    from PIL import Image

PICTURES = 100  # whose digits a net sees at once: for each alone, a Keras net takes many times as long
MAX_BYTES = 2**28  # of a picture's file
MAX_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
EXPECTED = f"expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
TOO_LARGE = f"has more than {MAX_PIXELS:,} pixels; make it smaller"
DAMAGED = "it is cut off or damaged"
EXPECTED_DIGITS = "expected paths of pictures and CSVs, an array of digits, or a DataFrame of their pixels"
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what Pillow logs, PictureError says in one line


@dataclass(frozen=True)
class Unread:
    """A file that cannot be read, or the rest of a CSV. error: why, in one line that names the file."""

    file: str
    error: DigitRecognizerError


@dataclass(frozen=True)
class Chunk:
    """Digits to predict together: pixels uint8 (n, 784).

    places: file and row of each, None for a picture; what cannot be read stands between them.
    """

    places: Sequence[tuple[str, int | None] | Unread]
    pixels: np.ndarray


def read_all(paths: Iterable[Path]) -> Iterator[Chunk]:
    """Yield the digits of the files, in their order, and what cannot be read in its place."""
    for is_csv, group in groupby(paths, key=lambda path: path.name.lower().endswith((".csv", ".csv.gz"))):
        if is_csv:
            for path in group:
                yield from read_csv(path)
        else:
            while batch := list(islice(group, PICTURES)):
                yield _read_pictures(batch)


def _read_pictures(paths: Iterable[Path]) -> Chunk:
    places: list[tuple[str, int | None] | Unread] = []
    digits = [np.empty((0, SIDE, SIDE), np.uint8)]
    for path in paths:
        try:
            digits.append(read_picture(path)[None])
            places.append((str(path), None))
        except PictureError as error:
            places.append(Unread(str(path), error))
    return Chunk(places, np.concatenate(digits).reshape(-1, PIXELS))


def read_csv(path: Path) -> Iterator[Chunk]:
    """Yield the rows of a CSV like test.csv in chunks as the run predicted it in; memory stays bounded."""
    row = 1
    try:
        lines, name = read_file(path, path.name)
        for pixels in parsing.parse(lines, name, PIXEL_COLUMNS, part_rows=PREDICT_BATCH):
            yield _rows_of(name, row, pixels)
            row += len(pixels)
    except DataError as error:
        yield Chunk([Unread(str(path), error)], np.empty((0, PIXELS), np.uint8))


def paths_or_array(digits: Any) -> list[Path] | np.ndarray:
    """Return what a notebook gives as paths, or as one array of any shape and type, for `check_pixels`.

    Raises DataError for what is neither, and for a DataFrame of other columns than pixel0 to pixel783.
    """
    try:
        return _to_paths_or_array(digits)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # of a method of the value's own
        raise DataError(f"digits: found {shown(digits)} ({shown(error)}), {EXPECTED_DIGITS}") from error


def _to_paths_or_array(digits: Any) -> list[Path] | np.ndarray:
    if hasattr(digits, "columns") and hasattr(digits, "to_numpy"):
        names = list(digits.columns)
        for name in [*names, *PIXEL_COLUMNS]:
            if names.count(name) != PIXEL_COLUMNS.count(name):
                raise DataError(
                    f"DataFrame: found column {shown(name)} {names.count(name)} times, expected pixel0 to "
                    "pixel783, each once, and no others"
                )
        digits = digits[PIXEL_COLUMNS]
    if hasattr(digits, "__array__"):
        array = np.asarray(digits)
        if array.dtype.kind not in "OU":
            return array
        digits = array.tolist()  # paths, or numbers of Python's
    if not isinstance(digits, Iterable) or isinstance(digits, str | bytes | Mapping | set | frozenset):
        digits = [digits]
    values = list(digits)
    if values and all(hasattr(value, "__array__") or isinstance(value, list | tuple) for value in values):
        return np.stack([np.asarray(value) for value in values])
    return [_path(value) for value in values]


def _path(value: object) -> Path:
    try:
        return to_path(value)
    except ValueError as error:
        reason = f" ({error})" if str(error) else ""
        raise DataError(f"digits: found {shown(value)}{reason}, {EXPECTED_DIGITS}") from error.__cause__


def check_pixels(pixels: np.ndarray) -> Iterator[Chunk]:
    """Return an array's digits in chunks; raise DataError unless they are integers from 0 to 255."""
    if pixels.shape[1:] not in ((PIXELS,), (SIDE, SIDE)) or not len(pixels):
        raise DataError(f"array: found shape {pixels.shape}, expected (n, {PIXELS}) or (n, {SIDE}, {SIDE})")
    if pixels.dtype.kind not in "iuf":
        raise DataError(f"array: found {pixels.dtype}, expected 0 to 255 (integers)")
    low, high = pixels.min(), pixels.max()
    # Floats may be whole numbers, but not 0 to 1.
    scaled = pixels.dtype.kind == "f" and (high <= 1 or (pixels != np.floor(pixels)).any())
    if scaled or low < 0 or high > 255:
        raise DataError(f"array: found {pixels.dtype} from {low} to {high}, expected 0 to 255 (integers)")
    rows = np.ascontiguousarray(pixels.reshape(len(pixels), PIXELS), dtype=np.uint8)
    starts = range(0, len(rows), PREDICT_BATCH)
    return (_rows_of("array", start + 1, rows[start : start + PREDICT_BATCH]) for start in starts)


def _rows_of(file: str, first: int, pixels: np.ndarray) -> Chunk:
    return Chunk([(file, row) for row in range(first, first + len(pixels))], pixels)


def read_picture(path: Path) -> np.ndarray:
    """Return the digit in a picture as uint8 (28, 28); raises PictureError in one line if there is none."""
    try:
        return prepare(_decode(_content(path)))
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from None


def _content(path: Path) -> bytes:
    try:
        content = read_plain(path, MAX_BYTES)
    except FileNotFoundError:
        raise PictureError("there is no such file") from None
    except OSError as error:
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises OSError for a path that is too long
            raise PictureError(f"is a folder; name the pictures in it, such as {path / '*.png'}") from None
        raise PictureError(f"cannot be read ({error.strerror})") from None
    if not content:
        raise PictureError("is empty")
    return content


def _decode(content: bytes) -> np.ndarray:
    """Return the picture's pixels, upright: (h, w) or (h, w, 3), 0 to 255."""
    from PIL import Image

    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(content), formats=FORMATS) as picture,
        ):
            if picture.width * picture.height > MAX_PIXELS:
                raise PictureError(TOO_LARGE)
            # A phone's JPEG may hold further, smaller pictures (MPO); the photo is the first.
            if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
                raise PictureError("is animated or has several pages, expected one picture")
            return _pixels_of(picture)
    except Image.DecompressionBombError:
        raise PictureError(TOO_LARGE) from None
    except Image.UnidentifiedImageError:
        if kind := _kind_of(content):
            raise PictureError(f"is {kind}, {EXPECTED}; export it as one") from None
        raise PictureError(f"is no picture, {EXPECTED}, or a .csv") from None
    except OSError as error:
        raise PictureError(f"cannot be read ({error.strerror or DAMAGED})") from None
    except (EOFError, SyntaxError, TypeError, ValueError, struct.error):  # what Pillow raises for damage
        raise PictureError(f"cannot be read ({DAMAGED})") from None


def _kind_of(content: bytes) -> str | None:
    """Return the name of a kind of file that people take for a picture."""
    start = content[:1024].lstrip().lower()
    if content[4:8] == b"ftyp":  # a box with its size, then the brands
        brands = content[8 : int.from_bytes(content[:4], "big")]
        if b"avif" in brands:
            return "AVIF"
        return "HEIC" if any(brand in brands for brand in (b"hei", b"hev", b"mif1", b"msf1")) else "a video"
    kinds = {
        b"%pdf": "a PDF",
        b"<svg": "an SVG drawing",
        b"<!doctype html": "a web page",
        b"<html": "a web page",
    }
    return next((kind for sign, kind in kinds.items() if sign in start), None)


def _pixels_of(picture: "Image.Image") -> np.ndarray:
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode[0] in "IF":  # 12, 16 or 32 bits, whose white nothing tells: the range that they have
        values = np.asarray(picture, float)
        low, high = values.min(), values.max()
        if not np.isfinite(high - low):
            raise PictureError("has pixels that are infinite or no number")
        return (values - low) * (255 / (high - low or 1))
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        for paper in ("white", "black"):  # white ink shows on black alone
            picture = Image.alpha_composite(Image.new("RGBA", clear.size, paper), clear)
            if np.ptp(np.asarray(picture)[..., :3], (0, 1)).max() >= MIN_CONTRAST:
                break
    return np.asarray(picture if picture.mode == "LAB" else picture.convert("RGB"))
