"""Files of plain arrays (.npz), which are read without running anything in them, and checked."""

import re
from collections.abc import Mapping
from io import BytesIO
from math import prod
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike

from digit_recognizer.files import open_zip

# What write_array puts before the numbers; numpy's own reader would parse any Python expression here.
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<dtype><f[48]|<[iu][248]|\|[biu]1)', "
    rb"'fortran_order': (?P<fortran>True|False), 'shape': \((?P<shape>[0-9, ]{0,40})\), \} *\n",
    re.DOTALL,
)
NAME = re.compile(r"[A-Za-z0-9@._+/-]{1,250}\.npy")
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
        with open_zip(content) as archive:
            entries = archive.infolist()
            if not all(NAME.fullmatch(entry.filename) for entry in entries):
                raise ValueError("its arrays have strange names")
            if sum(entry.file_size for entry in entries) > len(content):
                raise ValueError("its arrays are larger than the file")
            return {entry.filename.removesuffix(".npy"): _read_array(archive, entry) for entry in entries}
    except (BadZipFile, EOFError, OverflowError, RuntimeError, ValueError) as error:  # zipfile's, too
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not a model's or run's .npz file: {reason}") from error


def _read_array(archive: ZipFile, entry: ZipInfo) -> np.ndarray:
    if entry.compress_type != ZIP_STORED:
        raise ValueError(f"{entry.filename} is compressed")
    data = archive.read(entry)
    header = HEADER.match(data)
    if header is None:
        raise ValueError(f"{entry.filename} is no array of float32, float64, integers or bool")
    shape = tuple(int(number) for number in header["shape"].split(b",") if number.strip())
    array = np.frombuffer(data, header["dtype"].decode(), offset=header.end())
    if array.size != prod(shape):
        raise ValueError(f"{entry.filename} holds {array.size} numbers, not those of shape {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{entry.filename} holds numbers that are NaN or infinite")
    return array.reshape(shape, order="F" if header["fortran"] == b"True" else "C").copy(order="K")


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
