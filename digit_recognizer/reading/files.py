"""Pictures and Kaggle-shaped CSVs to rows of pixels, a chunk at a time."""

import logging
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digit_recognizer.data import PIXEL_COLUMNS, PIXELS, SIDE, parsing
from digit_recognizer.errors import DataError, PictureError
from digit_recognizer.files import open_plain
from digit_recognizer.reading.preparation import prepare

if TYPE_CHECKING:
    from PIL import Image

CHUNK = 4096  # rows; PREDICT_BATCH of nets/keras_net.py, so that each batch is one that the run itself had
PICTURES = 100  # whose digits a net sees at once: for each alone, a Keras net takes many times as long
MAX_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
TOO_LARGE = f"has more than {MAX_PIXELS:,} pixels; make it smaller"
DAMAGED = "it is cut off or damaged"
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what Pillow logs, PictureError says in one line


@dataclass(frozen=True)
class Chunk:
    """Digits to read together: pixels uint8 (n, 784); places: file and row of each, None for a picture."""

    places: Sequence[tuple[str, int | None]]
    pixels: np.ndarray


def read_all(paths: Iterable[Path]) -> Iterator[Chunk]:
    """Yield the digits of the files, in their order."""
    for is_csv, group in groupby(paths, key=lambda path: path.suffix.lower() == ".csv"):
        if is_csv:
            for path in group:
                yield from read_csv(path)
        else:
            yield from _read_pictures(group)


def _read_pictures(paths: Iterator[Path]) -> Iterator[Chunk]:
    while chunk := list(islice(paths, PICTURES)):
        pictures, refused = [], None
        for path in chunk:
            try:
                pictures.append(read_picture(path).reshape(PIXELS))
            except PictureError as error:
                refused = error
                break
        if pictures:  # those before a refused one are read
            yield Chunk([(str(path), None) for path in chunk[: len(pictures)]], np.stack(pictures))
        if refused:
            raise refused


def read_csv(path: Path) -> Iterator[Chunk]:
    """Yield the rows of a CSV of pixel0 to pixel783 in chunks, so that memory does not grow with its rows."""
    row = 1
    try:
        with open_plain(path) as file:
            lines = iter(lambda: file.readline(parsing.MAX_LINE + 1), b"")
            for pixels in parsing.parse(lines, str(path), PIXEL_COLUMNS, part_rows=CHUNK):
                yield _rows_of(str(path), row, pixels)
                row += len(pixels)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def check_pixels(pixels: np.ndarray) -> Iterator[Chunk]:
    """Return an array's digits in chunks; raise DataError unless they are integers from 0 to 255."""
    if pixels.shape[1:] not in ((PIXELS,), (SIDE, SIDE)) or not len(pixels):
        raise DataError(f"array: found shape {pixels.shape}, expected (n, {PIXELS}) or (n, {SIDE}, {SIDE})")
    if pixels.dtype.kind not in "iuf":
        raise DataError(f"array: found {pixels.dtype}, expected 0 to 255 (integers)")
    low, high = pixels.min(), pixels.max()
    scaled = pixels.dtype.kind == "f" and (
        high <= 1 or (pixels != np.floor(pixels)).any()
    )  # floats may be whole
    if scaled or low < 0 or high > 255:
        raise DataError(f"array: found {pixels.dtype} from {low} to {high}, expected 0 to 255 (integers)")
    rows = np.ascontiguousarray(pixels.reshape(len(pixels), PIXELS), dtype=np.uint8)
    return (_rows_of("array", first + 1, rows[first : first + CHUNK]) for first in range(0, len(rows), CHUNK))


def _rows_of(file: str, first: int, pixels: np.ndarray) -> Chunk:
    return Chunk([(file, row) for row in range(first, first + len(pixels))], pixels)


def read_picture(path: Path) -> np.ndarray:
    """Return the digit in a picture as uint8 (28, 28); raises PictureError in one line if there is none."""
    try:
        return prepare(_grey(path))
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from None


def _grey(path: Path) -> np.ndarray:
    """Return the picture's grey, 0 to 255, upright, on white where it is transparent."""
    from PIL import Image

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise PictureError(TOO_LARGE)
            # A phone's JPEG may hold further, smaller pictures (MPO); the photo is the first.
            if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
                raise PictureError("is animated or has several pages, expected one picture")
            return _to_grey(picture)
    except Image.DecompressionBombError:
        raise PictureError(TOO_LARGE) from None
    except Image.UnidentifiedImageError:
        raise PictureError(f"is no picture, expected {', '.join(FORMATS)}, or a .csv") from None
    except OSError as error:
        raise PictureError(f"cannot be read ({error.strerror or DAMAGED})") from None
    except (EOFError, SyntaxError, TypeError, ValueError, struct.error):  # what Pillow raises for damage
        raise PictureError(f"cannot be read ({DAMAGED})") from None


def _to_grey(picture: "Image.Image") -> np.ndarray:
    from PIL import Image, ImageOps

    if picture.mode == "F":
        raise PictureError("has floating-point pixels, expected 8 or 16 bits; save it as PNG")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip at 255
        return np.asarray(picture, dtype=float).clip(0, 65535) / 257
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return np.asarray(picture.convert("L"), dtype=float)
