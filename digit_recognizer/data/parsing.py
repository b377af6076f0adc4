"""Parse the competition's CSVs: pixels and labels to uint8, or the first wrong value's row and column.

NumPy parses. Only what it refuses, or could take for a number that is not written there, is looked at cell by
cell. Each row is one line, of bounded length, so that no file takes more memory than its digits.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from digit_recognizer.errors import DataError
from digit_recognizer.predictions import CLASSES

SIDE = 28
PIXELS = SIDE * SIDE
PIXEL_COLUMNS = [f"pixel{i}" for i in range(PIXELS)]
ARCHIVE = "digit-recognizer.zip"
DOWNLOAD_HINT = (
    "Get the competition's files from https://www.kaggle.com/competitions/digit-recognizer/data "
    f"and put {ARCHIVE} into data/ as it is"
)

MAX_LINE = 1 << 22  # bytes; a row of digits has up to 3,137
MAX_COLUMNS = 5_000
MAX_BLANK_LINES = 10_000  # and one for each row, as some programs double line ends
PART_ROWS, PART_BYTES = 4096, 1 << 24  # of lines parsed at once
CELLS = {str(value): value for value in range(256)}
INVALID = 256
SPACES = " \t"
PLAIN = b"0123456789, \r\n"  # the only characters of lines that are parsed without a look at each cell


def parse(
    lines: Iterable[bytes], name: str, wanted: list[str], *, part_rows: int = PART_ROWS
) -> Iterator[np.ndarray]:
    """Yield the columns `wanted`, matched by name, as uint8 of shape (n, len(wanted)), a part at a time.

    lines: of a longer one than MAX_LINE, its first MAX_LINE + 1 bytes are enough.
    part_rows: n of each part but the last; less if lines are very long.
    Raises DataError with `name` (as messages show it), the row and the column of the first wrong value.
    """
    filled = _filled(lines, name)
    header = _header(next(filled, (1, b""))[1], name)
    _check_columns(header, wanted, name)
    table = _Table(name, header, wanted)
    for part in _parts(filled, part_rows):
        yield table.parse(part)
    if not table.rows:
        raise DataError(f"{name}: has a header but no rows; expected one row for each digit")


def _filled(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers."""
    blank = 0
    for number, line in enumerate(lines, start=1):
        if not line.isspace():
            yield number, line
            continue
        blank += 1
        if blank > MAX_BLANK_LINES + (number - blank):
            raise DataError(
                f"{name}: line {number}: found {blank:,} blank lines by here, expected one row for each "
                "digit; download it again"
            )


def _parts(lines: Iterator[tuple[int, bytes]], rows: int) -> Iterator[dict[int, bytes]]:
    """Yield up to so many lines at once, by their numbers."""
    part, size = {}, 0
    for number, line in lines:
        part[number] = line
        size += len(line)
        if len(part) == rows or size > PART_BYTES:
            yield part
            part, size = {}, 0
    if part:
        yield part


def _header(line: bytes, name: str) -> list[str]:
    start = line.strip()
    if not start:
        raise DataError(f"{name}: is empty. {DOWNLOAD_HINT}")
    looks = {
        b"<": "an HTML page, perhaps a login page saved under this name",
        b"PK\x03\x04": "a zip archive under the wrong name",
        b"\x1f\x8b": "a gzip file under the wrong name (expected .csv.gz)",
        b"\xff\xfe": "UTF-16 text (save it as UTF-8)",
        b"\xfe\xff": "UTF-16 text (save it as UTF-8)",
    }
    for magic, what in looks.items():
        if start.startswith(magic):
            raise DataError(f"{name}: is {what}, not CSV. {DOWNLOAD_HINT}")
    if b"\r" in start:
        raise DataError(
            f"{name}: line 1 has a CR within, expected lines that end with LF or CRLF; save it anew"
        )
    if len(line) > MAX_LINE:
        raise DataError(
            f"{name}: line 1 has more than {MAX_LINE:,} bytes, expected a header of {PIXELS} pixels"
        )
    try:
        return next(csv.reader([start.decode("utf-8-sig").strip()]), [])
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{name}: is not a CSV text file. {DOWNLOAD_HINT}") from None


def _check_columns(header: list[str], wanted: list[str], name: str) -> None:
    if len(header) > MAX_COLUMNS:
        raise DataError(
            f"{name}: found {len(header):,} columns, expected at most {MAX_COLUMNS:,}; a digit has {PIXELS} "
            "pixels"
        )
    counts = Counter(header)
    missing = [column for column in wanted if column not in counts]
    if missing == ["label"]:
        raise DataError(
            f"{name}: has no column 'label'; is this test.csv, were train.csv and test.csv swapped?"
        )
    if "label" in counts and "label" not in wanted:
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
        if counts[column] > 1:
            raise DataError(f"{name}: column {column} stands {counts[column]} times in the header")


class _Table:
    """The rows below a header; `rows` counts those that are parsed."""

    def __init__(self, name: str, header: list[str], wanted: list[str]) -> None:
        self.rows = 0
        self._name, self._header = name, header
        self._columns = [header.index(column) for column in wanted]
        self._highest = [CLASSES - 1 if column == "label" else 255 for column in wanted]

    def parse(self, part: dict[int, bytes]) -> np.ndarray:
        """Return the wanted columns of these lines."""
        lines, commas = list(part.values()), len(self._header) - 1
        plain = not b"".join(lines).translate(None, PLAIN)
        if not plain or any(line.count(b",") != commas or len(line) > MAX_LINE for line in lines):
            self._check(part)
        try:
            # int64, as NumPy 2.0 wraps what is out of a narrower type's range, with a warning at most.
            values = np.loadtxt(
                lines, np.int64, comments=None, delimiter=",", usecols=self._columns, ndmin=2, quotechar='"',
                encoding="latin-1",
            )  # fmt: skip
            right = len(values) == len(lines) and values.min() >= 0 and (values.max(0) <= self._highest).all()
        except ValueError:
            right = False
        if not right:
            self._check(part)
            raise DataError(f"{self._name}: line {min(part)} or one below it is not CSV; download it again")
        self.rows += len(lines)
        return values.astype(np.uint8)

    def _check(self, part: dict[int, bytes]) -> None:
        """Raise DataError if a line is wrong, with the row and column of the first wrong value."""
        for row, (number, line) in enumerate(part.items(), start=self.rows + 1):
            if len(line) > MAX_LINE:
                raise DataError(
                    f"{self._name}: line {number} has more than {MAX_LINE:,} bytes, expected "
                    f"{len(self._header)} values; download it again"
                )
            try:
                cells = next(csv.reader([line.decode("utf-8", "replace")], strict=True))
            except csv.Error as error:
                raise DataError(
                    f"{self._name}: line {number}: is not CSV ({error}); download it again"
                ) from None
            self._check_width(row, number, len(cells))
            for column, highest in zip(self._columns, self._highest, strict=True):
                if _value(cells[column]) > highest:
                    raise DataError(
                        f"{self._name}: row {row} below the header, column {self._header[column]}: found "
                        f"{cells[column].strip(SPACES)[:40] or 'nothing'}, expected an integer from 0 to "
                        f"{highest}; download the file again"
                    )

    def _check_width(self, row: int, number: int, cells: int) -> None:
        expected = len(self._header)
        if cells > expected:
            raise DataError(
                f"{self._name}: line {number}: found {cells} values, expected {expected}; download it again"
            )
        if cells < expected:
            raise DataError(
                f"{self._name}: row {row} below the header is cut short: found {cells} of {expected} "
                "values; the file is incomplete, download it again"
            )


def _value(cell: str) -> int:
    """Return the value of a cell, which may have spaces around it and leading zeros, else INVALID."""
    if cell in CELLS:
        return CELLS[cell]
    cell = cell.strip(SPACES)
    return CELLS.get(cell.lstrip("0") or cell[:1], INVALID)
