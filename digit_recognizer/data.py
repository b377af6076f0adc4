"""Kaggle's CSVs, plain, gzipped or zipped -> `Digits`, with every check of the input."""

import csv
import gzip
import hashlib
import io
import warnings
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digit_recognizer.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SIDE = 28
PIXELS = SIDE * SIDE
CLASSES = 10
PIXEL_COLUMNS = [f"pixel{i}" for i in range(PIXELS)]
ARCHIVE = "digit-recognizer.zip"
ROWS_OF = {"train.csv": 42_000, "test.csv": 28_000}  # the competition's

# SHA-256 of the test rows' pixels, row by row as uint8: what a submission's ImageIds refer to.
KNOWN_TEST_ROWS = {
    "c8eadeb442ebf0f9eb1d8705b05388c5f74ed5a5bfaf8ef58e648ecdcf17772b": "competition",
    "1d108cb4c359bdbfbee1583aa096f03d19d473fea79071f767e9937d4d3e1e59": "sample",
}
# Written beside MNIST from OpenML, with the SHA-256 of its test rows: data/openml/ is known by it.
OPENML_MARKER = "NOT-FOR-KAGGLE.txt"

GET_THE_DATA = (
    "Get the competition's files from https://www.kaggle.com/competitions/digit-recognizer/data "
    f"and put {ARCHIVE} into data/ as it is"
)


@dataclass(frozen=True)
class Digits:
    """Labelled handwritten digits.

    pixels: uint8 of shape (n, 784), row-major 28x28, 0 = paper, 255 = ink.
    labels: uint8 of shape (n,), 0 to 9.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Dataset:
    """Digits to train on, digits to label, and where they came from.

    test: uint8 pixels of shape (m, 784).
    kind: 'competition' or 'sample' where the test rows are exactly those, 'openml' where they are those
    that OPENML_MARKER beside them names, else 'other'.
    test_labels: only where the data brings them along and they are not the competition's.
    """

    train: Digits
    test: np.ndarray
    source: Path
    kind: str
    fingerprint: dict[str, str]
    test_labels: np.ndarray | None = None


def sample_folder() -> Path:
    """The embedded sample: inside an installed package, or in `data/sample/` of a clone."""
    package = Path(__file__).resolve().parent
    installed = package / "sample"
    return installed if installed.is_dir() else package.parent / "data" / "sample"


def find(data_dir: Path | None = None) -> Path:
    """Where the digits are: `data_dir`, else data/, Kaggle's input folders, the embedded sample.

    Raises DataError when `data_dir` is given but is not a folder.
    """
    if data_dir is not None:
        if not data_dir.is_dir():
            raise DataError(
                f"{data_dir}: no such folder; --data-dir takes the folder that holds "
                f"train.csv and test.csv (or .csv.gz, or {ARCHIVE})"
            )
        return data_dir
    usual = [
        Path("data"),
        Path("/kaggle/input/digit-recognizer"),
        Path("/kaggle/input/competitions/digit-recognizer"),
    ]
    names = ("train.csv", "test.csv", "train.csv.gz", "test.csv.gz", ARCHIVE)
    # A folder with only one of the two files is chosen too: to fall back to the sample silently
    # would train on something else than the user put there.
    found = (folder for folder in usual if any((folder / name).exists() for name in names))
    return next(found, sample_folder())


def load(folder: Path) -> Dataset:
    """Read train and test digits from a folder.

    Raises DataError, naming file, row and column, for anything that is not Digit Recognizer's format.
    """
    train = read_train(*_content(folder, "train.csv"))
    test = read_test(*_content(folder, "test.csv"))
    fingerprint = {"train": _sha256(train.labels, train.pixels), "test": _sha256(test)}
    kind = KNOWN_TEST_ROWS.get(fingerprint["test"]) or _unknown_kind(folder, fingerprint["test"])
    labels_file = folder / "test_labels.csv"
    # The competition's own test labels are for Kaggle to know: never read, whoever put them there.
    known = labels_file.exists() and kind != "competition"
    test_labels = _read_test_labels(labels_file, len(test)) if known else None
    return Dataset(train, test, folder, kind, fingerprint, test_labels)


def _unknown_kind(folder: Path, test_rows: str) -> str:
    marker = folder / OPENML_MARKER
    return "openml" if marker.is_file() and test_rows in marker.read_text(errors="replace") else "other"


def _sha256(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def _content(folder: Path, name: str) -> tuple[bytes, str]:
    """The CSV's bytes and the name to call it by in messages."""
    plain, packed, archive = folder / name, folder / f"{name}.gz", folder / ARCHIVE
    try:
        if plain.exists():
            return plain.read_bytes(), str(plain)
        if packed.exists():
            return gzip.decompress(packed.read_bytes()), str(packed)
        if archive.exists():
            with zipfile.ZipFile(archive) as members:
                return members.read(name), f"{archive} ({name})"
    except KeyError:
        raise DataError(f"{archive}: holds no {name}; download the archive again") from None
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:  # the last: encrypted
        broken = next(path for path in (plain, packed, archive) if path.exists())
        raise DataError(f"{broken}: cannot be read ({error}); download it again") from None
    raise DataError(f"{folder}: holds neither {name}, {name}.gz nor {ARCHIVE}. {GET_THE_DATA}")


def read_train(content: bytes, name: str) -> Digits:
    """Parse train.csv: the columns label and pixel0 to pixel783, matched by name, in any order.

    Raises DataError with `name`, the row and the column of the first thing that is wrong.
    """
    values = _values(content, name, ["label", *PIXEL_COLUMNS])
    return Digits(np.ascontiguousarray(values[:, 1:]), values[:, 0].copy())


def read_test(content: bytes, name: str) -> np.ndarray:
    """Parse test.csv, which has no labels, to uint8 pixels of shape (n, 784); else as `read_train`."""
    return _values(content, name, PIXEL_COLUMNS)


def _values(content: bytes, name: str, wanted: list[str]) -> np.ndarray:
    """The wanted columns as uint8 of shape (n, len(wanted)), every value checked."""
    header = _header(content, name)
    _check_columns(header, wanted, name)
    columns = [header.index(column) for column in wanted]
    try:
        # The quick way refuses whatever is no integer from 0 to 255; only then is it worth looking where.
        values = _parse(content, name, header, columns, "uint8").to_numpy()
    except (ValueError, OverflowError):
        raise DataError(_what_is_wrong(content, name, header, columns)) from None
    if not len(values):
        raise DataError(f"{name}: has a header but no rows; expected one row for each digit")
    if "label" in wanted and values[:, wanted.index("label")].max() >= CLASSES:
        raise DataError(_what_is_wrong(content, name, header, columns))
    return np.ascontiguousarray(values)


def _header(content: bytes, name: str) -> list[str]:
    start = content[:100_000].lstrip()
    if not start:
        raise DataError(f"{name}: is empty. {GET_THE_DATA}")
    looks = {
        b"<": "an HTML page, perhaps a login page saved under this name",
        b"PK\x03\x04": "a zip archive under the wrong name",
        b"\x1f\x8b": "a gzip file under the wrong name (expected .csv.gz)",
    }
    for magic, what in looks.items():
        if start.startswith(magic):
            raise DataError(f"{name}: is {what}, not CSV. {GET_THE_DATA}")
    try:
        return next(csv.reader([content.split(b"\n", 1)[0].decode("utf-8-sig").strip()]), [])
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{name}: is not a CSV text file. {GET_THE_DATA}") from None


def _check_columns(header: list[str], wanted: list[str], name: str) -> None:
    missing = [column for column in wanted if column not in set(header)]
    if missing == ["label"]:
        raise DataError(
            f"{name}: has no column 'label'; is this test.csv, were train.csv and test.csv swapped?"
        )
    if "label" in header and "label" not in wanted:
        raise DataError(
            f"{name}: has a column 'label', which the unlabelled test digits do not have; "
            "is this train.csv, were train.csv and test.csv swapped?"
        )
    if missing:
        more = f" and {len(missing) - 1} more columns" if len(missing) > 1 else ""
        raise DataError(
            f"{name}: the header lacks {missing[0]}{more}; "
            f"expected {'label, ' if 'label' in wanted else ''}pixel0 to pixel{PIXELS - 1}"
        )
    for column in wanted:
        if header.count(column) > 1:
            raise DataError(f"{name}: column {column} stands {header.count(column)} times in the header")


def _parse(content: bytes, name: str, header: list[str], columns: list[int], dtype: str) -> "pd.DataFrame":
    """The rows below the header: `columns`, by position, in that order.

    Raises DataError where rows and header differ in width, ValueError where a value is not of `dtype`.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                io.BytesIO(content),
                header=None,
                skiprows=1,
                names=range(len(header)),  # by position: other people's extra columns may repeat
                dtype=dict.fromkeys(columns, dtype),
                index_col=False,
                keep_default_na=False,
                na_values=[""],
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError):
        lines = csv.reader(io.StringIO(content.decode("utf-8-sig", errors="replace"), newline=""))
        what = f"the rows do not fit the {len(header)} columns of the header"
        with suppress(csv.Error):  # a quote that is never closed, say
            wide = next((row for row in lines if len(row) > len(header)), None)
            if wide is not None:
                what = f"line {lines.line_num}: found {len(wide)} values, expected {len(header)}"
        raise DataError(f"{name}: {what}; download it again") from None
    return frame[columns]


def _what_is_wrong(content: bytes, name: str, header: list[str], columns: list[int]) -> str:
    """The first value that is not an integer in its column's range, as one line for the user."""
    cells = _parse(content, name, header, columns, "str")
    highest = [CLASSES - 1 if header[column] == "label" else 255 for column in columns]
    good = np.column_stack(
        [
            cells[column].isin([str(value) for value in range(high + 1)])
            for column, high in zip(columns, highest, strict=True)
        ]
    )
    row, column = (int(i[0]) for i in np.nonzero(~good))
    where = f"{name}: row {row + 1} below the header"
    if bool(cells.iloc[row, column:].isna().all()):
        return (
            f"{where} is cut short: found {column} of {len(columns)} values; "
            "the file is incomplete, download it again"
        )
    found = "nothing" if bool(cells.isna().iloc[row, column]) else str(cells.iloc[row, column])[:40]
    return (
        f"{where}, column {header[columns[column]]}: found {found}, "
        f"expected an integer from 0 to {highest[column]}; download the file again"
    )


def _read_test_labels(path: Path, rows: int) -> np.ndarray:
    import pandas as pd

    try:
        frame = pd.read_csv(path)
        labels = frame["Label"].to_numpy()
        complete = frame["ImageId"].tolist() == list(range(1, rows + 1))
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: expected columns ImageId and Label ({error})") from None
    if not complete or not np.isin(labels, range(CLASSES)).all():
        raise DataError(f"{path}: expected ImageId 1 to {rows} in order, and labels 0 to 9")
    return labels.astype(np.uint8)
