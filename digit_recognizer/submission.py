"""Write and check the CSV that Kaggle takes: `ImageId,Label`, one row for each test digit."""

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digit_recognizer.errors import RowCountError, SubmissionError
from digit_recognizer.files import read_plain, write_atomically

HEADER = ["ImageId", "Label"]
MAX_BYTES = 1 << 24  # of a file; the competition's has 240,909


@dataclass(frozen=True)
class Submission:
    """A checked submission.

    labels: uint8 of shape (n,), in the order of ImageId 1 to n. content: the file's bytes.
    """

    labels: np.ndarray
    content: bytes

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def counts(self) -> list[int]:
        """How many digits were labelled 0, 1, ... 9."""
        return np.bincount(self.labels, minlength=10).tolist()


def to_bytes(labels: np.ndarray) -> bytes:
    """Return the CSV of labels of shape (n,), ImageId 1 to n; LF line ends, everywhere the same bytes."""
    rows = [",".join(HEADER), *(f"{number},{label}" for number, label in enumerate(labels, start=1))]
    return ("\n".join(rows) + "\n").encode()


def write(labels: np.ndarray, path: Path) -> None:
    """Write the CSV of labels of shape (n,)."""
    write_atomically(path, to_bytes(labels))


def check(path: Path, rows: int) -> Submission:
    """Read a file, once, and return its submission; raises SubmissionError like `check_bytes`."""
    try:
        content = read_plain(path, MAX_BYTES)
    except OSError as error:
        raise SubmissionError(f"{path}: cannot be read ({error.strerror})") from None
    return check_bytes(content, str(path), rows)


def check_bytes(content: bytes, name: str, rows: int) -> Submission:
    """Return the submission that a CSV's bytes hold; `name` is what messages call it.

    The ids 1 to `rows` may come in any order, each once; labels are the integers 0 to 9.
    Raises SubmissionError with the line of the first thing that Kaggle would reject.
    """
    found: dict[int, tuple[int, int]] = {}  # ImageId -> line, label
    for line, row in _rows(content, name):
        where = f"{name}: line {line}"
        if len(row) != 2:
            raise SubmissionError(f"{where} has {len(row)} values, expected 2: ImageId,Label")
        image_id, label = row
        if not re.fullmatch("[0-9]{1,9}", image_id) or not 1 <= (number := int(image_id)) <= rows:
            expected = f"expected an integer from 1 to {rows:,}"
            raise RowCountError(f"{where}: found ImageId {image_id[:20]!r}, {expected}")
        if not re.fullmatch("[0-9]", label):
            raise SubmissionError(f"{where}: found Label {label[:20]!r}, expected an integer from 0 to 9")
        if number in found:
            earlier = f"stands on line {found[number][0]} too"
            raise SubmissionError(f"{where}: ImageId {number} {earlier}, expected each once")
        found[number] = line, int(label)
    if len(found) < rows:
        missing = next(number for number in range(1, rows + 1) if number not in found)
        raise RowCountError(
            f"{name}: found {len(found):,} rows, expected {rows:,}, one for each test digit; "
            f"ImageId {missing} is the first that is missing"
        )
    return Submission(np.array([found[number][1] for number in range(1, rows + 1)], np.uint8), content)


def _rows(content: bytes, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows below the header with their line numbers."""
    lines = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8", newline=""))
    try:
        if (header := next(lines, [])) != HEADER:
            start = ",".join(header)[:40]
            raise SubmissionError(f"{name}: line 1: found {start!r}, expected the header ImageId,Label")
        for row in lines:
            yield lines.line_num, row
    except UnicodeDecodeError:
        begins = "expected a CSV that begins ImageId,Label"
        raise SubmissionError(f"{name}: is not a text file, {begins}") from None
    except csv.Error as error:
        raise SubmissionError(f"{name}: line {lines.line_num}: is not CSV ({error})") from None
