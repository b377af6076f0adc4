"""Read Kaggle's CSVs, plain, gzipped or zipped, into `Digits`, with every check of the input."""

import gzip
import hashlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import IO
from zipfile import BadZipFile

import numpy as np

from digit_recognizer import submission
from digit_recognizer.data.parsing import ARCHIVE, DOWNLOAD_HINT, PIXEL_COLUMNS, PIXELS, parse
from digit_recognizer.errors import DataError, SubmissionError
from digit_recognizer.files import restore

COMPETITION_ROWS = {"train.csv": 42_000, "test.csv": 28_000}
# What gzip and zipfile raise: RuntimeError for an encrypted archive, ValueError for impossible offsets.
BROKEN_ARCHIVE = (EOFError, RuntimeError, ValueError, LZMAError, struct.error, BadZipFile, zlib.error)
MAX_UNPACKED_BYTES = 2**30  # fourteen times the competition's train.csv; an archive of more is refused

# SHA-256 of the test rows' pixels, row by row as uint8: what a submission's ImageIds refer to.
KNOWN_FINGERPRINTS = {
    "c8eadeb442ebf0f9eb1d8705b05388c5f74ed5a5bfaf8ef58e648ecdcf17772b": "competition",
    "1d108cb4c359bdbfbee1583aa096f03d19d473fea79071f767e9937d4d3e1e59": "sample",
}
# Written beside MNIST from OpenML, with the SHA-256 of its test rows: data/openml/ is known by it.
OPENML_MARKER = "NOT-FOR-KAGGLE.txt"


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
    kind: 'contaminated' if train holds test rows; else 'competition' or 'sample' if the test rows are exactly
    theirs, 'openml' if OPENML_MARKER beside them names these test rows, else 'other'. Rows are compared
    exactly (MNIST has no two equal digits): this catches the wrong file, not somebody who alters pixels to
    cheat, as there is no end to the ways of doing that.
    test_labels: read only if the test rows are not the competition's.
    """

    train: Digits
    test: np.ndarray
    source: Path
    kind: str
    fingerprint: dict[str, str]
    test_labels: np.ndarray | None = None


def sample_folder() -> Path:
    """Return the embedded sample's folder, in an installed package or in `data/sample/` of a clone."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "sample"
    return installed if installed.is_dir() else package.parent / "data" / "sample"


def find(data_dir: Path | None = None) -> Path:
    """Return `data_dir` or, without one, the first of data/, Kaggle's input folders, the embedded sample.

    Raises DataError if `data_dir` is given but is not a folder.
    """
    if data_dir is not None:
        if not data_dir.exists():
            with suppress(OSError):
                restore(data_dir)  # after a download that was killed while replacing it
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
    filled = (folder for folder in usual if any((folder / name).exists() for name in names))
    return next(filled, sample_folder())


def load(folder: Path) -> Dataset:
    """Read train and test digits from a folder.

    Raises DataError, naming file, row and column, for anything that is not Digit Recognizer's format.
    """
    with ThreadPoolExecutor(1) as thread:  # pandas releases Python's lock
        reading_test = thread.submit(lambda: read_test(*_content(folder, "test.csv")))
        train = read_train(*_content(folder, "train.csv"))
        test = reading_test.result()
    fingerprint = {"train": _sha256(train.labels, train.pixels), "test": _sha256(test)}
    listed_kind = KNOWN_FINGERPRINTS.get(fingerprint["test"])
    kind = listed_kind or _unknown_kind(folder / OPENML_MARKER, fingerprint["test"])
    if len(_shared_rows(train.pixels, test)):
        kind = "contaminated"
    labels_file = folder / "test_labels.csv"
    # Only Kaggle may know the labels of the competition's test rows: never read, whoever put them there.
    readable = labels_file.exists() and listed_kind != "competition"
    test_labels = _read_test_labels(labels_file, len(test)) if readable else None
    return Dataset(train, test, folder, kind, fingerprint, test_labels)


def contamination_notice(dataset: Dataset) -> str:
    """Return one line on the test rows in the train rows of a dataset of kind 'contaminated'."""
    shared = _shared_rows(dataset.train.pixels, dataset.test)
    train_row = np.flatnonzero((dataset.train.pixels == dataset.test[shared[0]]).all(axis=1))[0]
    return (
        f"{dataset.source}: train.csv holds {len(shared)} of the {len(dataset.test)} rows of "
        f"test.csv with their labels (below the headers, row {shared[0] + 1} of test.csv is row "
        f"{train_row + 1} of train.csv). Scores on them are no evidence, and no run on this data can be "
        f"uploaded. {DOWNLOAD_HINT}"
    )


def _shared_rows(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the numbers of the test rows that are train rows too."""
    row = f"V{PIXELS}"  # a row as one item, whose bytes Python hashes quickly
    training_digits = set(train.view(row).ravel().tolist())
    return np.flatnonzero([pixels in training_digits for pixels in test.view(row).ravel().tolist()])


def _unknown_kind(marker: Path, test_rows: str) -> str:
    try:
        return "openml" if marker.is_file() and test_rows in marker.read_text(errors="replace") else "other"
    except OSError as error:
        raise _unreadable(marker, error) from None


def _sha256(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def _content(folder: Path, name: str) -> tuple[bytes, str]:
    """Return the CSV's bytes and the name that messages give it."""
    for path in (folder / name, folder / f"{name}.gz", folder / ARCHIVE):
        try:
            with path.open("rb") as file:
                content = _unpack(file, path, name)
        except FileNotFoundError:
            continue
        except KeyError:
            raise DataError(f"{path}: holds no {name}; download the archive again") from None
        except (OSError, *BROKEN_ARCHIVE) as error:
            raise _unreadable(path, error) from None
        return content, f"{path} ({name})" if path.name == ARCHIVE else str(path)
    raise DataError(f"{folder}: holds neither {name}, {name}.gz nor {ARCHIVE}. {DOWNLOAD_HINT}")


def _unpack(file: IO[bytes], path: Path, name: str) -> bytes:
    if path.suffix == ".gz":
        with gzip.open(file) as unpacked:
            return b"".join(_chunks(unpacked.read))
    if path.suffix == ".zip":
        with zipfile.ZipFile(file) as members, members.open(name) as unpacked:
            return b"".join(_chunks(unpacked.read))
    return file.read()


def _chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    size = 0
    while chunk := read(2**20):
        size += len(chunk)
        if size > MAX_UNPACKED_BYTES:
            raise zlib.error(f"it unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
        yield chunk


def _unreadable(path: Path, error: BaseException) -> DataError:
    reason, advice = str(error) or type(error).__name__, "download it again"
    if isinstance(error, OSError) and error.strerror:
        reason, advice = error.strerror, "expected a file that you may read"
    return DataError(f"{path}: cannot be read ({reason}); {advice}")


def read_train(content: bytes, name: str) -> Digits:
    """Parse train.csv: the columns label and pixel0 to pixel783, matched by name, in any order.

    Raises DataError with `name`, the row and the column of the first thing that is wrong.
    """
    values = parse(content, name, ["label", *PIXEL_COLUMNS])
    return Digits(np.ascontiguousarray(values[:, 1:]), values[:, 0].copy())


def read_test(content: bytes, name: str) -> np.ndarray:
    """Parse test.csv, which has no labels, to uint8 pixels of shape (n, 784); else like `read_train`."""
    return parse(content, name, PIXEL_COLUMNS)


def _read_test_labels(path: Path, rows: int) -> np.ndarray:
    try:
        return submission.check(path, rows).labels
    except SubmissionError as error:
        raise DataError(str(error)) from None
