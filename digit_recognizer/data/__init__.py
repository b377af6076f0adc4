"""Kaggle's CSVs, or MNIST from OpenML, as checked digits; start at `load` and `find`."""

import gzip
import hashlib
import io
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile

import numpy as np

from digit_recognizer import submission
from digit_recognizer.data.parsing import ARCHIVE, DOWNLOAD_HINT, MAX_LINE, PIXEL_COLUMNS, PIXELS, SIDE, parse
from digit_recognizer.errors import DataError, SubmissionError
from digit_recognizer.files import default_folder, open_plain, open_zip, read_plain
from digit_recognizer.predictions import CLASSES
from digit_recognizer.splits import first_rows

COMPETITION_ROWS = {"train.csv": 42_000, "test.csv": 28_000}
MAX_MARKER_BYTES = 2**16

# SHA-256 of the test rows' pixels, row by row as uint8: what a submission's ImageIds refer to.
KNOWN_FINGERPRINTS = {
    "c8eadeb442ebf0f9eb1d8705b05388c5f74ed5a5bfaf8ef58e648ecdcf17772b": "competition",
    "1d108cb4c359bdbfbee1583aa096f03d19d473fea79071f767e9937d4d3e1e59": "sample",
}
# Written beside MNIST from OpenML, with the SHA-256 of its test rows: data/openml/ is known by it.
OPENML_MARKER = "NOT-FOR-KAGGLE.txt"
KIND_NOTICES = {
    "sample": "This is the embedded sample, one seventh of the competition's size, and no submission for "
    f"Kaggle. {DOWNLOAD_HINT}",
    "openml": "These are MNIST's digits from OpenML, for learning, and no submission for Kaggle",
}
# What gzip and zipfile raise: RuntimeError for an encrypted archive, ValueError for impossible offsets.
BROKEN_ARCHIVE = (EOFError, RuntimeError, ValueError, struct.error, BadZipFile, zlib.error)
MAX_UNPACKED_BYTES = 2**30  # fourteen times the competition's train.csv; more is refused
NOT_THE_USERS = ("README.md", "openml", "sample")  # in data/ of a clone, or by `download --openml`


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
    kind: 'train_test_overlap' if train holds test rows; else 'competition' or 'sample' if the test rows are
    exactly theirs, 'openml' if OPENML_MARKER beside them names these test rows, else 'other'. Rows are
    compared exactly (MNIST has no two equal digits): this catches the wrong file, not somebody who alters
    pixels to cheat, as there is no end to the ways of doing that.
    first_rows: int of shape (n,), the number of the first train row with the same pixels as each train row.
    overlap: the test rows that are train rows, and the number of that train row, of each.
    test_labels: read only if the test rows are not the competition's.
    """

    train: Digits
    test: np.ndarray
    source: Path
    kind: str
    fingerprint: dict[str, str]
    first_rows: np.ndarray
    overlap: dict[int, int]
    test_labels: np.ndarray | None = None

    def notices(self) -> Iterator[str]:
        """Yield, in a line each, what a user should know before training on these digits."""
        source, rows, labels = self.source, np.arange(len(self.train)), self.train.labels
        yield f"Read {len(rows):,} + {len(self.test):,} digits from {source}"
        repeats = np.flatnonzero(self.first_rows != rows)
        if len(repeats):
            first = self.first_rows[repeats]
            relabelled = np.count_nonzero(labels[repeats] != labels[first])
            yield (
                f"{source}: {len(repeats):,} of the {len(rows):,} rows of train.csv repeat the pixels of an "
                f"earlier row{f', {relabelled:,} with another label' if relabelled else ''} (below "
                f"the header, row {repeats[0] + 1} those of row {first[0] + 1}). Equal rows are held out "
                "together, and count as one digit"
            )
        for test_row, train_row in list(self.overlap.items())[:1]:
            yield (
                f"{source}: train.csv holds {len(self.overlap):,} of the {len(self.test):,} rows of test.csv "
                f"with their labels (below the headers, row {test_row + 1} of test.csv is row "
                f"{train_row + 1} of train.csv). Scores on them are no evidence, and no run on this data can "
                f"be uploaded. {DOWNLOAD_HINT}"
            )
        if self.kind in KIND_NOTICES:
            yield KIND_NOTICES[self.kind]


def load(folder: Path) -> Dataset:
    """Read train and test digits from a folder.

    Raises DataError, naming file, row and column, for anything that is not Digit Recognizer's format.
    """
    train = read_train(*read(folder, "train.csv"))
    test = read_test(*read(folder, "test.csv"))
    fingerprint = {"train": _sha256(train.labels, train.pixels), "test": _sha256(test)}
    of_train, of_test = np.split(first_rows(chain(train.pixels, test)), [len(train)])
    overlap = {row: first for row, first in enumerate(of_test.tolist()) if first < len(train)}
    listed_kind = KNOWN_FINGERPRINTS.get(fingerprint["test"])
    labels_file, test_labels = folder / "test_labels.csv", None
    # Only Kaggle may know the labels of the competition's test rows: never read, whoever put them there.
    if os.path.lexists(labels_file) and listed_kind != "competition":
        try:
            test_labels = submission.check(labels_file, len(test)).labels
        except SubmissionError as error:
            raise DataError(str(error)) from None
    kind = listed_kind or _unknown_kind(folder / OPENML_MARKER, fingerprint["test"])
    kind = "train_test_overlap" if overlap else kind
    return Dataset(train, test, folder.absolute(), kind, fingerprint, of_train, overlap, test_labels)


def _unknown_kind(marker: Path, test_rows: str) -> str:
    try:
        return "openml" if test_rows.encode() in read_plain(marker, MAX_MARKER_BYTES) else "other"
    except FileNotFoundError:
        return "other"
    except OSError as error:
        raise unreadable(marker, error) from None


def _sha256(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.data for array in arrays)).hexdigest()


def read_train(lines: Iterable[bytes], name: str) -> Digits:
    """Parse train.csv: the columns label and pixel0 to pixel783, matched by name, in any order.

    Raises DataError with `name`, the row and the column of the first thing that is wrong.
    """
    parts = list(parse(lines, name, ["label", *PIXEL_COLUMNS]))
    pixels, labels = [part[:, 1:] for part in parts], [part[:, 0] for part in parts]
    return Digits(np.concatenate(pixels), np.concatenate(labels))


def read_test(lines: Iterable[bytes], name: str) -> np.ndarray:
    """Parse test.csv, which has no labels, to uint8 pixels of shape (n, 784); else like `read_train`."""
    return np.concatenate(list(parse(lines, name, PIXEL_COLUMNS)))


def sample_folder() -> Path:
    """Return the embedded sample's folder, in an installed package or in `data/sample/` of a clone."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "sample"
    return installed if installed.is_dir() else package.parent / "data" / "sample"


def find(data_dir: Path | None = None) -> Path:
    """Return `data_dir` or, without one, the first of data/, Kaggle's input folders, the embedded sample.

    data/ is the clone's in the clone, else the current folder's. A folder that holds anything of the user's
    is chosen: to fall back to the sample silently would train on something else than they put there. `load`
    then says what is wrong with it.
    Raises DataError if `data_dir` is given but is not a folder.
    """
    if data_dir is None:
        kaggle = Path("/kaggle/input")
        kaggles = kaggle / "digit-recognizer", kaggle / "competitions/digit-recognizer"
        return next(filter(_is_filled, [default_folder("data"), *kaggles]), sample_folder())
    if not os.path.isdir(data_dir):  # noqa: PTH112 - Path.is_dir raises if a name is too long
        raise DataError(
            f"{data_dir}: no such folder; --data-dir takes the folder that holds "
            f"train.csv and test.csv (or .csv.gz, or {ARCHIVE})"
        )
    return data_dir


def _is_filled(folder: Path) -> bool:
    try:
        return bool(_entries(folder))
    except OSError:  # a link to nothing, or a folder that may not be read
        return os.path.lexists(folder)


def _entries(folder: Path) -> list[str]:
    """Return the names of what a user put into the folder."""
    names = (entry.name for entry in folder.iterdir())
    return sorted(name for name in names if name not in NOT_THE_USERS and not name.startswith("."))


def read(folder: Path, name: str) -> tuple[Iterator[bytes], str]:
    """Return the lines of a folder's train.csv or test.csv, and the name that messages give it.

    Of a longer line than MAX_LINE, come the first MAX_LINE + 1 bytes.
    Raises DataError if there is none or, while lines are read, if it cannot be read or is too large.
    """
    for path in (folder / name, folder / f"{name}.gz", folder / f"{name}.zip", folder / ARCHIVE):
        if os.path.lexists(path):
            return read_file(path, name)
    try:
        names = _entries(folder)
    except OSError as error:
        raise unreadable(folder, error) from None
    found = "; if the files lie elsewhere, name their folder with --data-dir"
    if names:
        nested = [f"{each}/{name}" if os.path.lexists(folder / each / name) else each for each in names[:5]]
        found = f", but found {', '.join(nested)}{', ...' if len(names) > 5 else ''}; "
        found += "rename the file, or name its folder with --data-dir"
    raise DataError(f"{folder}: holds neither {name}, {name}.gz nor {ARCHIVE}{found}. {DOWNLOAD_HINT}")


def read_file(path: Path, name: str) -> tuple[Iterator[bytes], str]:
    """Return what `read` returns, of a plain or gzipped file, or of `name` in an archive."""
    return _lines(path, name), f"{path} ({name})" if path.suffix == ".zip" else str(path)


def _lines(path: Path, name: str) -> Iterator[bytes]:
    size = 0
    try:
        with _open(path, name) as file:
            while line := file.readline(MAX_LINE + 1):
                size += len(line)
                if size > MAX_UNPACKED_BYTES:
                    raise BadZipFile(f"it holds more than {MAX_UNPACKED_BYTES:,} bytes")
                yield line
    except (OSError, *BROKEN_ARCHIVE) as error:
        raise unreadable(path, error) from None


@contextmanager
def _open(path: Path, name: str) -> Iterator[IO[bytes]]:
    if path.suffix != ".zip":
        packed = path.suffix.lower() == ".gz"
        with open_plain(path) as file:
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if packed else file
        return
    with open_zip(read_plain(path, MAX_UNPACKED_BYTES)) as archive:
        # In whatever folder: programs pack a folder with its name.
        found = [entry for entry in archive.infolist() if re.split(r"[/\\]", entry.filename)[-1] == name]
        if len(found) != 1:
            what = f"{len(found)} files called {name}, expected one" if found else f"no {name}"
            raise DataError(f"{path}: holds {what}; download the archive again")
        if found[0].compress_type not in (ZIP_STORED, ZIP_DEFLATED):  # others are unpacked without a bound
            raise BadZipFile(f"{name} is not compressed by deflate")
        with archive.open(found[0]) as member:
            yield io.BufferedReader(cast("io.RawIOBase", member), 2**20)


def unreadable(path: Path, error: BaseException) -> DataError:
    """Return the error that says why the file cannot be read."""
    reason, advice = str(error) or type(error).__name__, "download it again"
    if isinstance(error, OSError) and error.strerror:
        reason, advice = error.strerror, "expected a file that you may read"
    if isinstance(error, FileNotFoundError):
        if not path.is_symlink():
            return DataError(f"{path}: there is no such file")
        reason = "a link to what is not there"
    return DataError(f"{path}: cannot be read ({reason}); {advice}")
