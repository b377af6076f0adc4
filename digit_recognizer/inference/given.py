"""What `predict` is given in a notebook, paths, arrays or a DataFrame, as paths or one array."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer.data import PIXEL_COLUMNS
from digit_recognizer.errors import DataError, shown
from digit_recognizer.job import to_path

EXPECTED = "expected paths of pictures and CSVs, an array of digits, or a DataFrame of their pixels"


def read(digits: Any) -> list[Path] | np.ndarray:
    """Return the paths, or the digits as one array of any shape and type, for `files.check_pixels`.

    Raises DataError for what is neither, and for a DataFrame of other columns than pixel0 to pixel783.
    """
    try:
        return _read(digits)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # of a method of the value's own
        raise DataError(f"digits: found {shown(digits)} ({shown(error)}), {EXPECTED}") from error


def _read(digits: Any) -> list[Path] | np.ndarray:
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
    given = list(digits)
    if given and all(hasattr(digit, "__array__") or isinstance(digit, list | tuple) for digit in given):
        return np.stack([np.asarray(digit) for digit in given])
    return [_path(path) for path in given]


def _path(value: object) -> Path:
    try:
        return to_path(value)
    except ValueError as error:
        reason = f" ({error})" if str(error) else ""
        raise DataError(f"digits: found {shown(value)}{reason}, {EXPECTED}") from error.__cause__
