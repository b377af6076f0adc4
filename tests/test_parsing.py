import io
from collections.abc import Callable

import numpy as np
import pytest
from conftest import TEST, TRAIN, memory_below

from digit_recognizer import data
from digit_recognizer.data import parsing
from digit_recognizer.errors import DataError

TRAIN_COLUMNS = ["label", *parsing.PIXEL_COLUMNS]
FEW = 40


@pytest.fixture(scope="module")
def few(train_csv: str) -> str:
    """The header and the first FEW rows of train.csv."""
    return "\n".join(train_csv.splitlines()[: FEW + 1]) + "\n"


def parse(content: str | bytes, wanted: list[str] = TRAIN_COLUMNS) -> np.ndarray:
    content = content.encode() if isinstance(content, str) else content
    file = io.BytesIO(content)
    lines = iter(lambda: file.readline(parsing.MAX_LINE + 1), b"")
    return np.concatenate(list(parsing.parse(lines, "x.csv", wanted)))


def refusal(content: str | bytes, wanted: list[str] = TRAIN_COLUMNS) -> str:
    """Return what is told of a bad file, in one line, after its name."""
    with pytest.raises(DataError) as error:
        parse(content, wanted)
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 300
    assert message.startswith("x.csv: ")
    return message.removeprefix("x.csv: ")


def test_pixels_and_labels_equal_the_csv(digits: data.Dataset, train_csv: str, test_csv: str) -> None:
    rows = [[int(value) for value in line.split(",")] for line in train_csv.splitlines()[1:]]
    assert digits.train.pixels.dtype == np.uint8
    assert digits.train.pixels.shape == (TRAIN, 784)
    assert digits.train.labels.tolist() == [row[0] for row in rows]
    assert digits.train.pixels.tolist() == [row[1:] for row in rows]
    assert digits.test.shape == (TEST, 784)
    assert digits.test[-1].tolist() == [int(value) for value in test_csv.splitlines()[-1].split(",")]


SPELLINGS: dict[str, Callable[[str], str]] = {
    "byte order mark": lambda text: "\ufeff" + text,
    "other columns, other order": lambda text: "\n".join(
        ",".join(["note", *line.split(",")[::-1], "note"]) for line in text.splitlines()
    ),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "blank lines": lambda text: "\n" + text.replace("\n", "\n\n") + "\r\n \n",
    "spaces": lambda text: text.replace(",0,", ", 0 ,"),
    "quotes": lambda text: text.replace(",0,", ',"0",'),
    "quotes from one row on": lambda text: text.replace("\n1,", '\n"1",', 1),
    "zeros": lambda text: text.replace(",0,", ",000,").replace(",9,", ",0009,"),
    "no last line end": str.rstrip,
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_give_the_same_digits(few: str, spelling: str) -> None:
    changed = SPELLINGS[spelling](few)
    assert changed != few
    np.testing.assert_array_equal(parse(changed), parse(few))


def test_every_value_is_parsed_in_parts() -> None:
    values = np.random.default_rng(0).integers(0, 256, (500, 785)).astype(np.uint8)
    values[:, 0] %= 10
    rows = [",".join(TRAIN_COLUMNS), *(",".join(map(str, row)) for row in values.tolist())]
    parts = list(parsing.parse((f"{row}\n".encode() for row in rows), "x.csv", TRAIN_COLUMNS, part_rows=70))
    assert [len(part) for part in parts] == [70] * 7 + [10]
    assert all(part.dtype == np.uint8 for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), values)


def edited(old: str, new: str) -> Callable[[str], str]:
    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return edit


def cell(row: int, column: int, value: str) -> Callable[[str], str]:
    """Put a value into a row below the header, both counted from 1."""

    def edit(text: str) -> str:
        rows = [line.split(",") for line in text.splitlines()]
        rows[row][column - 1] = value
        return "\n".join(",".join(line) for line in rows) + "\n"

    return edit


BAD: dict[str, tuple[Callable[[str], str], str]] = {
    "HTML": (lambda _: "<!doctype html><html><title>Kaggle</title>", "is an HTML page"),
    "zip": (lambda _: "PK\x03\x04rest", "is a zip archive under the wrong name"),
    "empty": (lambda _: "", "is empty"),
    "header alone": (lambda text: text.splitlines()[0] + "\n", "has a header but no rows"),
    "no header": (lambda text: text.split("\n", 1)[1], "the header lacks label and"),
    "no label": (edited("label,", "digit,"), "has no column 'label'; were train.csv and test.csv swapped?"),
    "missing pixel": (edited("pixel7,", "pixel,"), "the header lacks pixel7; expected label, pixel0"),
    "double pixel": (edited("pixel7,", "pixel7,pixel7,"), "column pixel7 stands 2 times in the header"),
    "CR alone": (edited("\n", "\r"), "is not a CSV text file (new-line character"),
    "wide row": (edited("\n", "\n1,"), "row 1 below the header is too long: found 786 of 785 values"),
    "blank line, then a wide row": (edited("\n", "\n\n1,"), "row 1 below the header is too long"),
    "wide last row": (lambda text: text.rstrip() + ",1\n", f"row {FEW} below the header is too long"),
    "short row": (edited("\n1,", "\n"), "row 10 below the header is cut short: found 784 of 785 values"),
    "truncated": (lambda text: text.rstrip()[:-1000], f"row {FEW} below the header is cut short: found"),
    "open quote": (cell(2, 9, '"1'), "row 2 below the header is not CSV (unexpected end of data)"),
    "NUL": (cell(1, 9, "5\x006"), "row 1 below the header, column pixel7: found 5\\x006, expected"),
    "control characters": (cell(2, 9, "\x1b[2J"), "row 2 below the header, column pixel7: found \\x1b[2J,"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_raises_data_error_in_one_line(
    few: str, spoil: Callable[[str], str], message: str
) -> None:
    assert refusal(spoil(few)).startswith(message)


@pytest.mark.parametrize("value", [
    "-1", "256", "300", "999", "1e3", "255.0", "0.5", "", " ", "nan", "NaN", "NA", "inf", "ink", "True",
    "-0", "+5", "0x10", "1_0", "5 5", "65536", str(2**32), str(2**63), str(2**64), str(2**64 + 255), "\u0665",
])  # fmt: skip
def test_a_wrong_value_is_refused_with_its_row_and_column(few: str, value: str) -> None:
    cells = {(1, 1): ("label", 9), (FEW, 9): ("pixel7", 255), (2, 785): ("pixel783", 255)}
    for (row, column), (name, highest) in cells.items():
        assert refusal(cell(row, column, value)(few)) == (
            f"row {row} below the header, column {name}: found {value.strip() or 'nothing'}, expected an "
            f"integer from 0 to {highest}; download the file again"
        )


@pytest.mark.parametrize("label", ["10", "11", "255", "266", "9.0"])
def test_a_wrong_label_is_refused(few: str, label: str) -> None:
    assert f"row 1 below the header, column label: found {label}" in refusal(cell(1, 1, label)(few))


MILLION = 1_000_000
ROW = b"0" + b",0" * 784 + b"\n"
HEADER = ",".join(TRAIN_COLUMNS).encode()
TOO_LONG = "row 1 below the header has more than 32,768 bytes"
# What follows a valid header, and what is told of it, at once and in little memory.
ENDLESS = {
    "short rows": (b"5\n" * MILLION, "row 1 below the header is cut short: found 1 of 785 values"),
    "commas alone": (b"," * 784 + b"\n", "row 1 below the header, column label: found nothing, expected"),
    "700 values": ((b"0" + b",0" * 699 + b"\n") * 5000, "row 1 below the header is cut short: found 700 of"),
    "a short row late": (ROW * 5000 + b"5,0\n" * MILLION, "row 5001 below the header is cut short: found"),
    "blank lines": (b"\n" * 5 * MILLION, "is mostly blank lines"),
    "quotes in every row": (b'"0,\n' * MILLION, "row 1 below the header is not CSV (unexpected end of data)"),
    "one line": (b"0" * 5 * MILLION, TOO_LONG),
    "one line of cells": (b"0," * 5 * MILLION, TOO_LONG),
    "one cell": (b"0," + b"9" * 30_000 + b",0" * 783, "row 1 below the header, column pixel0: found 999"),
    "NUL bytes": (bytes(5 * MILLION), TOO_LONG),
}  # fmt: skip
ENDLESS_HEADERS = {
    "a million columns": (HEADER + b",a" * MILLION, "the header has more than 32,768 bytes, expected 784"),
    "20,000 columns": (HEADER + b",a" * 20_000 + b"\n" + ROW, "the header has more than 32,768 bytes"),
    "HTML in one line": (b"<html>" * MILLION, "is an HTML page"),
    "blank lines": (b" \n" * 5 * MILLION, "is mostly blank lines"),
    "NUL bytes": (bytes(5 * MILLION), "the header has more than 32,768 bytes"),
    "UTF-16": ((HEADER + b"\n").decode().encode("utf-16"), "is UTF-16 text (save it as UTF-8), not CSV"),
    "binary": (bytes(range(128, 256)) * 10, "is not a CSV text file"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *(pytest.param(HEADER + b"\n" + rows, message, id=id) for id, (rows, message) in ENDLESS.items()),
        *(pytest.param(*case, id=f"header: {id}") for id, case in ENDLESS_HEADERS.items()),
    ],
)
def test_a_file_of_any_shape_is_refused_in_little_memory(content: bytes, message: str) -> None:
    with memory_below(2**27):
        assert refusal(content).startswith(message)


def test_a_train_csv_in_place_of_test_csv_is_refused(few: str) -> None:
    told = "has a column 'label', expected pixels alone; were train.csv and test.csv swapped?"
    assert told in refusal(few, parsing.PIXEL_COLUMNS)
