"""Pictures and Kaggle-shaped CSVs to rows of pixels, a chunk at a time."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from digit_recognizer.data import PIXEL_COLUMNS, PIXELS, parsing
from digit_recognizer.errors import DataError, PictureError
from digit_recognizer.reading.preparation import prepare

CHUNK = 28_672  # rows: seven of a net's batches, and all the competition's test digits in one, as in a run
MAX_PIXELS = 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


@dataclass(frozen=True)
class Digits:
    """Digits to read: pixels uint8 (n, 784). first_row: of a CSV's chunk; None for pictures, a file each."""

    files: tuple[str, ...]
    first_row: int | None
    pixels: np.ndarray


def read_all(paths: Iterable[Path]) -> Iterator[Digits]:
    """Yield the digits of the files, in their order."""
    for path in paths:
        if path.suffix.lower() == ".csv":
            yield from read_csv(path)
        else:
            yield Digits((str(path),), None, read_picture(path).reshape(1, PIXELS))


def read_csv(path: Path) -> Iterator[Digits]:
    """Yield the rows of a CSV of pixel0 to pixel783 in chunks, so that memory does not grow with its rows."""
    try:
        with path.open("rb") as file:
            header, row = file.readline(), 1
            while (lines := b"".join(islice(file, CHUNK))) or row == 1:
                pixels = parsing.parse(header + lines, str(path), PIXEL_COLUMNS)
                yield Digits((str(path),), row, pixels)
                row += len(pixels)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def read_picture(path: Path) -> np.ndarray:
    """Return the digit in a picture as uint8 (28, 28); raises PictureError in one line if there is none."""
    try:
        return prepare(_grey(path))
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from None


def _grey(path: Path) -> np.ndarray:
    """Return the picture's grey, 0 to 255, upright, on white where it is transparent."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as picture:
            warnings.simplefilter("ignore")
            if picture.width * picture.height > MAX_PIXELS:
                raise PictureError(f"has more than {MAX_PIXELS:,} pixels; make it smaller")
            if getattr(picture, "n_frames", 1) > 1:
                raise PictureError("is animated or has several pages, expected one picture")
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith(("I", "F")):  # 16 bits of grey, which Pillow would clip at 255
                return np.asarray(upright, dtype=float) / 257
            coloured = upright.convert("RGBA")
            white = Image.new("RGBA", coloured.size, "white")
            return np.asarray(Image.alpha_composite(white, coloured).convert("L"), dtype=float)
    except Image.DecompressionBombError:
        raise PictureError(f"has more than {MAX_PIXELS:,} pixels; make it smaller") from None
    except Image.UnidentifiedImageError:
        raise PictureError(f"is no picture, expected {', '.join(FORMATS)}, or a .csv") from None
    except OSError as error:
        raise PictureError(f"cannot be read ({error.strerror or 'it is cut off or damaged'})") from None
    except (ValueError, SyntaxError, EOFError):
        raise PictureError("cannot be read (it is cut off or damaged)") from None
