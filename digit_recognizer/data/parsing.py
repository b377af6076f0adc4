"""Parse the competition's CSVs: pixels and labels to uint8, or the first wrong value's row and column.

NumPy parses what is written plainly, and anything else is read cell by cell. Each row is one line, of bounded
length, so that a file takes no more memory than its digits, twice, and a part of its lines.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import gt

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

MAX_LINE = 1 << 15  # bytes; a header has 6,935, a row of digits up to 3,137
MAX_BLANK_LINES = 10_000  # more than there are rows; some programs double line ends
PART_ROWS = 4096  # parsed at once
CELLS = {str(value): value for value in range(256)}
INVALID = 256
PLAIN = b"0123456789, \r\n"  # the only characters of lines that NumPy parses
FOREIGN = {
    b"<": "an HTML page, perhaps a login page saved under this name",
    b"PK\x03\x04": "a zip archive under the wrong name",
    b"\x1f\x8b": "a gzip file under the wrong name (expected .csv.gz)",
    b"\xff\xfe": "UTF-16 text (save it as UTF-8)",
    b"\xfe\xff": "UTF-16 text (save it as UTF-8)",
}


def parse(
    lines: Iterable[bytes], name: str, wanted: list[str], *, part_rows: int = PART_ROWS
) -> Iterator[np.ndarray]:
    """Yield the columns `wanted`, matched by name, as uint8 of shape (part_rows or fewer, len(wanted)).

    lines: of a longer one than MAX_LINE, its first MAX_LINE + 1 bytes are enough.
    Raises DataError with `name` (as messages show it), the row and the column of the first wrong value.
    """
    filled = _skip_blank(lines, name)
    table = _Table(name, _header(next(filled, b""), name), wanted)
    first = 1
    while part := list(islice(filled, part_rows)):
        values = table.parse_plain(part)
        if values is None:
            rows = [table.parse_cells(line, row) for row, line in enumerate(part, start=first)]
            values = np.array(rows, np.uint8)
        yield values
        first += len(part)
    if first == 1:
        raise DataError(f"{name}: has a header but no rows; expected one row for each digit")


def _skip_blank(lines: Iterable[bytes], name: str) -> Iterator[bytes]:
    surplus = 0
    for line in lines:
        blank = line.isspace()
        surplus += 1 if blank else -1
        if surplus > MAX_BLANK_LINES:
            raise DataError(
                f"{name}: is mostly blank lines, expected one row for each digit; download it again"
            )
        if not blank:
            yield line


def _header(line: bytes, name: str) -> list[str]:
    start = line.strip()
    if not start:
        raise DataError(f"{name}: is empty. {DOWNLOAD_HINT}")
    if name.endswith((".gz", ")")) and start.startswith((b"PK\x03\x04", b"\x1f\x8b")):  # ): in a zip
        raise DataError(f"{name}: is compressed twice; unpack it once")
    for magic, what in FOREIGN.items():
        if start.startswith(magic):
            raise DataError(f"{name}: is {what}, not CSV. {DOWNLOAD_HINT}")
    if len(line) > MAX_LINE:
        raise DataError(f"{name}: the header has more than {MAX_LINE:,} bytes, expected {PIXELS} pixels")
    try:
        return next(csv.reader([start.decode("utf-8-sig").strip()]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{name}: is not a CSV text file ({error}). {DOWNLOAD_HINT}") from None


class _Table:
    """The columns `wanted` of a CSV with that header; raises DataError unless each is there once."""

    def __init__(self, name: str, header: list[str], wanted: list[str]) -> None:
        counts = Counter(header)
        missing = [column for column in wanted if column not in counts]
        if set(missing) - {"label"}:
            more = f" and {len(missing) - 1} more columns" if len(missing) > 1 else ""
            expected = f"{'label, ' if 'label' in wanted else ''}pixel0 to pixel{PIXELS - 1}"
            raise DataError(f"{name}: the header lacks {missing[0]}{more}; expected {expected}")
        if ("label" in counts) != ("label" in wanted):
            has = "has a column 'label', expected pixels alone"
            if "label" in wanted:
                has = "has no column 'label'"
            raise DataError(f"{name}: {has}; were train.csv and test.csv swapped?")
        for column in wanted:
            if counts[column] > 1:
                raise DataError(f"{name}: column {column} stands {counts[column]} times in the header")
        self._name, self._header = name, header
        self._columns = [header.index(column) for column in wanted]
        self._highest = [CLASSES - 1 if column == "label" else 255 for column in wanted]

    def parse_plain(self, lines: list[bytes]) -> np.ndarray | None:
        """Return the values of lines of numbers and commas alone; None for others, and for wrong values."""
        commas = len(self._header) - 1
        for line in lines:
            if line.translate(None, PLAIN) or line.count(b",") != commas or len(line) > MAX_LINE:
                return None
        try:
            # int64, as NumPy 2.0 wraps what is out of a narrower type's range, with a warning at most.
            values = np.loadtxt(lines, np.int64, delimiter=",", usecols=self._columns, ndmin=2)
        except ValueError:  # an empty cell, two numbers in one, or a number beyond int64
            return None
        right = values.min() >= 0 and (values.max(axis=0) <= self._highest).all()
        return values.astype(np.uint8) if right else None

    def parse_cells(self, line: bytes, row: int) -> list[int]:
        """Return the values of a line; raise DataError at the first wrong one."""
        where, expected = f"{self._name}: row {row} below the header", len(self._header)
        if len(line) > MAX_LINE:
            raise DataError(f"{where} has more than {MAX_LINE:,} bytes; download the file again")
        try:
            cells = next(csv.reader([line.decode("utf-8", "replace")], strict=True))
        except csv.Error as error:
            raise DataError(f"{where} is not CSV ({error}); download the file again") from None
        if len(cells) != expected:
            what = "cut short" if len(cells) < expected else "too long"
            raise DataError(
                f"{where} is {what}: found {len(cells)} of {expected} values; download the file again"
            )
        values = [_value(cells[column]) for column in self._columns]
        wrong = list(map(gt, values, self._highest))
        if any(wrong):
            at = wrong.index(True)
            column = self._columns[at]
            raise DataError(
                f"{where}, column {self._header[column]}: found {cells[column].strip()[:40] or 'nothing'}, "
                f"expected an integer from 0 to {self._highest[at]}; download the file again"
            )
        return values


def _value(cell: str) -> int:
    """Return the value of a cell, which may have spaces around it and leading zeros, else INVALID."""
    if cell in CELLS:
        return CELLS[cell]
    cell = cell.strip(" \t")
    return CELLS.get(cell.lstrip("0") or cell[:1], INVALID)
