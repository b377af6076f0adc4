"""Model files: a .npz of plain arrays, which is read without running anything in it, and checked."""

from collections.abc import Mapping
from io import BytesIO
from math import prod
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike

DTYPES = [np.dtype(name) for name in ("bool", "float32", "float64")]
Expected = Mapping[str, tuple[tuple[int, ...], DTypeLike]]


def write_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of an .npz file of these arrays."""
    file = BytesIO()
    with ZipFile(file, "w", ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:  # no date: same bytes
                npy.write_array(entry, array, allow_pickle=False)
    return file.getvalue()


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file, by name; raise ValueError in one line if it is no such file.

    No array takes more memory than its bytes in the file: entries are not compressed, and do not overlap.
    """
    try:
        with ZipFile(BytesIO(content)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > len(content):
                raise ValueError("its arrays are larger than the file")
            return {entry.filename.removesuffix(".npy"): _read_array(archive, entry) for entry in entries}
    except (BadZipFile, NotImplementedError, RuntimeError, EOFError, OverflowError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not a model's .npz file: {reason}") from error


def _read_array(archive: ZipFile, entry: ZipInfo) -> np.ndarray:
    if entry.compress_type != ZIP_STORED:
        raise ValueError(f"{entry.filename} is compressed")
    with archive.open(entry) as file:
        if npy.read_magic(file) != (1, 0):
            raise ValueError(f"{entry.filename} has an unknown format")
        shape, _, dtype = npy.read_array_header_1_0(file)
        bounded = min(shape, default=1) > 0 and prod(shape) * dtype.itemsize == entry.file_size - file.tell()
    if dtype not in DTYPES or not bounded:
        raise ValueError(f"{entry.filename} declares {dtype} of shape {shape}, which it does not hold")
    with archive.open(entry) as file:
        array = npy.read_array(file, allow_pickle=False)
    if not np.isfinite(array).all():
        raise ValueError(f"{entry.filename} holds numbers that are NaN or infinite")
    return array


def check_arrays(arrays: Mapping[str, np.ndarray], expected: Expected) -> None:
    """Raise ValueError unless the arrays have exactly these names, shapes and dtypes."""
    shown = {name: f"{np.dtype(dtype)} of shape {shape}" for name, (shape, dtype) in expected.items()}
    actual = {name: f"{array.dtype} of shape {array.shape}" for name, array in arrays.items()}
    for name in [*shown, *actual]:
        if shown.get(name) != actual.get(name):
            raise ValueError(
                f"not a model of these settings: {name} is {actual.get(name, 'missing')}, "
                f"expected {shown.get(name, 'no such array')}"
            )
