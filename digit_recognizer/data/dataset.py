"""Kaggle's CSVs as `Digits`, with every check of the input, and what is known of them."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from digit_recognizer import submission
from digit_recognizer.data.parsing import DOWNLOAD_HINT, PIXEL_COLUMNS, parse
from digit_recognizer.data.source import read, unreadable
from digit_recognizer.errors import DataError, SubmissionError
from digit_recognizer.files import read_plain
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
    first_rows: int of shape (n,), the number of the first train row with the same pixels as each train row.
    test_labels: read only if the test rows are not the competition's.
    """

    train: Digits
    test: np.ndarray
    source: Path
    kind: str
    fingerprint: dict[str, str]
    first_rows: np.ndarray
    test_labels: np.ndarray | None = None


def load(folder: Path) -> Dataset:
    """Read train and test digits from a folder.

    Raises DataError, naming file, row and column, for anything that is not Digit Recognizer's format.
    """
    train = read_train(*read(folder, "train.csv"))
    test = read_test(*read(folder, "test.csv"))
    fingerprint = {"train": _sha256(train.labels, train.pixels), "test": _sha256(test)}
    first, shared = _match(train.pixels, test)
    listed_kind = KNOWN_FINGERPRINTS.get(fingerprint["test"])
    kind = listed_kind or _unknown_kind(folder / OPENML_MARKER, fingerprint["test"])
    if len(shared):
        kind = "contaminated"
    labels_file = folder / "test_labels.csv"
    # Only Kaggle may know the labels of the competition's test rows: never read, whoever put them there.
    readable = os.path.lexists(labels_file) and listed_kind != "competition"
    test_labels = _read_test_labels(labels_file, len(test)) if readable else None
    return Dataset(train, test, folder, kind, fingerprint, first, test_labels)


def contamination_notice(dataset: Dataset) -> str:
    """Return one line on the test rows in the train rows of a dataset of kind 'contaminated'."""
    _, shared = _match(dataset.train.pixels, dataset.test)
    train_row = np.flatnonzero((dataset.train.pixels == dataset.test[shared[0]]).all(axis=1))[0]
    return (
        f"{dataset.source}: train.csv holds {len(shared)} of the {len(dataset.test)} rows of "
        f"test.csv with their labels (below the headers, row {shared[0] + 1} of test.csv is row "
        f"{train_row + 1} of train.csv). Scores on them are no evidence, and no run on this data can be "
        f"uploaded. {DOWNLOAD_HINT}"
    )


def repeats_notice(dataset: Dataset) -> str:
    """Return one line on the train rows that repeat an earlier one's pixels; "" if none does."""
    rows = np.arange(len(dataset.train))
    repeats = np.flatnonzero(dataset.first_rows != rows)
    if not len(repeats):
        return ""
    first, labels = dataset.first_rows[repeats], dataset.train.labels
    relabelled = np.count_nonzero(labels[repeats] != labels[first])
    return (
        f"{dataset.source}: {len(repeats):,} of the {len(rows):,} rows of train.csv repeat the pixels of an "
        f"earlier row{f', {relabelled:,} with another label' if relabelled else ''} (below the header, row "
        f"{repeats[0] + 1} those of row {first[0] + 1}). Equal rows are held out together, and count as one "
        "digit"
    )


def _match(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first equal train row of each train row, and which test rows are train rows."""
    of_train, of_test = np.split(first_rows(chain(train, test)), [len(train)])
    return of_train, np.flatnonzero(of_test < len(train))


def _unknown_kind(marker: Path, test_rows: str) -> str:
    try:
        named = test_rows.encode() in read_plain(marker, MAX_MARKER_BYTES)
    except FileNotFoundError:
        return "other"
    except OSError as error:
        raise unreadable(marker, error) from None
    return "openml" if named else "other"


def _sha256(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.data)
    return digest.hexdigest()


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


def _read_test_labels(path: Path, rows: int) -> np.ndarray:
    try:
        return submission.check(path, rows).labels
    except SubmissionError as error:
        raise DataError(str(error)) from None
