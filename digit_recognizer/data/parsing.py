"""Parse the competition's CSVs: pixels and labels to uint8, or the first wrong value's row and column.

pandas parses; the values are checked here, whatever its version lets through.
"""

import csv
import io
from collections.abc import Iterator
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

CELLS = {str(value): value for value in range(256)}
INVALID = 256
PLAIN = b"0123456789,\r\n"  # the only characters of rows that pandas parses


def parse(content: bytes, name: str, wanted: list[str], first_row: int = 1) -> np.ndarray:
    """Return the columns `wanted`, matched by name, as uint8 of shape (n, len(wanted)).

    first_row: number, in messages, of the first row below the header; above 1 in a later part of a file.
    Raises DataError with `name` (as messages show it), the row and the column of the first wrong value.
    """
    header = _header(content, name)
    _check_columns(header, wanted, name)
    columns = [header.index(column) for column in wanted]
    values = _parse_quickly(content, header, columns)
    if values is None or ("label" in wanted and values[:, wanted.index("label")].max() >= CLASSES):
        values = _parse(content, name, header, columns, first_row)
    if not len(values):
        raise DataError(f"{name}: has a header but no rows; expected one row for each digit")
    return np.ascontiguousarray(values)


def _header(content: bytes, name: str) -> list[str]:
    start = content[:100_000].lstrip()
    if not start:
        raise DataError(f"{name}: is empty. {DOWNLOAD_HINT}")
    looks = {
        b"<": "an HTML page, perhaps a login page saved under this name",
        b"PK\x03\x04": "a zip archive under the wrong name",
        b"\x1f\x8b": "a gzip file under the wrong name (expected .csv.gz)",
    }
    for magic, what in looks.items():
        if start.startswith(magic):
            raise DataError(f"{name}: is {what}, not CSV. {DOWNLOAD_HINT}")
    try:
        return next(csv.reader([content[: _header_end(content)].decode("utf-8-sig").strip()]), [])
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{name}: is not a CSV text file. {DOWNLOAD_HINT}") from None


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


def _header_end(content: bytes) -> int:
    return content.find(b"\n") + 1 or len(content)


def _parse_quickly(content: bytes, header: list[str], columns: list[int]) -> np.ndarray | None:
    """Return `columns` of the rows below the header as uint8; None unless all are integers from 0 to 255.

    pandas is asked for no uint8, as its 2.2 reads -1 as 255 then, and 256 as 0, without a word. Its integers
    may be spelled 255.0 or +5, so it gets no other characters than plain ones are made of.
    """
    first_line = content[: _header_end(content)]
    if content.translate(None, PLAIN) != first_line.translate(None, PLAIN):
        return None
    import pandas as pd

    try:  # usecols: pandas neither warns of a row that is too wide nor refuses it; the commas tell
        frame = pd.read_csv(io.BytesIO(content), index_col=False, usecols=range(len(header)))
    except (ValueError, OverflowError):  # parser errors are ValueErrors
        return None
    if content.count(b",") - first_line.count(b",") != len(frame) * (len(header) - 1):
        return None
    if frame.empty or not (frame.dtypes == np.int64).all():  # a short row's last values are NaN
        return None
    if frame.max().max() > 255:
        return None
    # As uint8 first: to_numpy copies the values.
    return frame.astype(np.uint8).to_numpy()[:, columns]


def _parse(content: bytes, name: str, header: list[str], columns: list[int], first_row: int) -> np.ndarray:
    """Return `columns` of the rows below the header, with the quotes, spaces and blank lines CSV allows.

    Much slower than pandas, but raises DataError with the row and column of the first wrong value.
    """
    highest = [CLASSES - 1 if header[column] == "label" else 255 for column in columns]
    rows = []
    for number, row in enumerate(_rows(content, name, len(header), first_row), start=first_row):
        cells = [row[column] for column in columns]
        values = [CELLS[cell] if cell in CELLS else _value(cell) for cell in cells]
        if any(map(gt, values, highest)):
            wrong = next(i for i, value in enumerate(values) if value > highest[i])
            cell = cells[wrong].strip()[:40] or "nothing"
            raise DataError(
                f"{name}: row {number} below the header, column {header[columns[wrong]]}: found {cell}, "
                f"expected an integer from 0 to {highest[wrong]}; download the file again"
            )
        rows.append(bytes(values))
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, len(columns))


def _value(cell: str) -> int:
    """Return the value of a cell that has spaces around it or leading zeros, else INVALID."""
    cell = cell.strip()
    return CELLS.get(cell.lstrip("0") or cell[:1], INVALID)


def _rows(content: bytes, name: str, columns: int, first_row: int) -> Iterator[list[str]]:
    """Yield the rows below the header but blank ones; raises DataError unless each has `columns` values."""
    lines = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", "replace", newline=""))
    number = first_row - 1
    try:
        next(lines)
        for row in lines:
            if len(row) < 2 and not "".join(row).strip():
                continue
            number += 1
            if len(row) > columns:
                raise DataError(
                    f"{name}: line {lines.line_num + first_row - 1}: found {len(row)} values, "
                    f"expected {columns}; download it again"
                )
            if len(row) < columns:
                raise DataError(
                    f"{name}: row {number} below the header is cut short: found {len(row)} of {columns} "
                    "values; the file is incomplete, download it again"
                )
            yield row
    except csv.Error as error:
        raise DataError(
            f"{name}: line {lines.line_num + first_row - 1}: is not CSV ({error}); download it again"
        ) from None
