import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TEST, TRAIN

from digit_recognizer import data
from digit_recognizer.data import parsing
from digit_recognizer.errors import DataError


def test_a_byte_order_mark_and_blank_last_lines_are_ignored(
    folder: Path, digits: data.Dataset, train_csv: str
) -> None:
    (folder / "train.csv").write_bytes(b"\xef\xbb\xbf" + train_csv.encode() + b"\r\n\n")
    assert data.load(folder).fingerprint == digits.fingerprint


def test_columns_are_matched_by_name(folder: Path, digits: data.Dataset, train_csv: str) -> None:
    rows = [line.split(",") for line in train_csv.splitlines()]
    turned = [["note", *row[::-1], "note"] for row in rows]
    (folder / "train.csv").write_text("\n".join(",".join(row) for row in turned))
    assert data.load(folder).fingerprint == digits.fingerprint


def test_pixels_and_labels_equal_the_csv(digits: data.Dataset, train_csv: str, test_csv: str) -> None:
    rows = [[int(value) for value in line.split(",")] for line in train_csv.splitlines()[1:]]
    assert digits.train.pixels.dtype == np.uint8
    assert digits.train.pixels.shape == (TRAIN, 784)
    assert digits.train.labels.tolist() == [row[0] for row in rows]
    assert digits.train.pixels.tolist() == [row[1:] for row in rows]
    assert digits.test.shape == (TEST, 784)
    assert digits.test[-1].tolist() == [int(value) for value in test_csv.splitlines()[-1].split(",")]


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


FEW = 40


def first_lines(text: str) -> str:
    """Return the header and the first FEW rows."""
    return "\n".join(text.splitlines()[: FEW + 1]) + "\n"


BAD_TRAIN = {
    "HTML": (lambda _: "<!doctype html><html><title>Kaggle</title>", "is an HTML page"),
    "zip": (lambda _: "PK\x03\x04rest", "is a zip archive under the wrong name"),
    "empty": (lambda _: "", "is empty"),
    "header alone": (lambda text: text.splitlines()[0] + "\n", "has a header but no rows"),
    "no header": (lambda text: text.split("\n", 1)[1], "the header lacks label and"),
    "no label": (edited("label,", "digit,"), "has no column 'label'; is this test.csv"),
    "missing pixel": (edited("pixel7,", "pixel,"), "the header lacks pixel7; expected label, pixel0"),
    "double pixel": (edited("pixel7,", "pixel7,pixel7,"), "column pixel7 stands 2 times in the header"),
    "wide row": (edited("\n", "\n1,"), "line 2: found 786 values, expected 785"),
    "wide last row": (lambda text: text.rstrip() + ",1\n", f"line {TRAIN + 1}: found 786 values"),
    "blank line, then a wide row": (edited("\n", "\n\n1,"), "line 3: found 786 values, expected 785"),
    "open quote": (cell(2, 9, '"1'), "line "),
    "a wide and a short row": (
        lambda text: edited("\n1,", "\n")(text.rstrip() + ",1\n"),
        "below the header is cut short: found 784 of 785 values",
    ),
    "a comma behind every row": (
        lambda text: text.split("\n", 1)[0] + "\n" + text.split("\n", 1)[1].replace("\n", ",\n"),
        "line 2: found 786 values, expected 785",
    ),
    "short row": (edited("\n1,", "\n"), "below the header is cut short: found 784 of 785 values"),
    "truncated": (
        lambda text: text.rstrip()[:-1000],
        f"row {TRAIN} below the header is cut short: found",
    ),
}


BAD_TEST = {
    "wide row": (edited("\n", "\n1,"), "line 2: found 785 values, expected 784"),
    "wide last row": (lambda text: text.rstrip() + ",1\n", f"line {TEST + 1}: found 785 values"),
    "truncated": (lambda text: text.rstrip()[:-1000], f"row {TEST} below the header is cut short: found"),
}
BAD = [
    pytest.param(name, spoil, message, id=f"{name} {what}")
    for name, cases in (("train.csv", BAD_TRAIN), ("test.csv", BAD_TEST))
    for what, (spoil, message) in cases.items()
]


@pytest.mark.parametrize(("name", "spoil", "message"), BAD)
def test_a_bad_file_raises_data_error_in_one_line(
    folder: Path, name: str, spoil: Callable[[str], str], message: str
) -> None:
    file = folder / name
    file.write_text(spoil(file.read_text()))
    with pytest.raises(DataError) as error:
        data.load(folder)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [
    "-1", "256", "300", "999", "1e3", "255.0", "0.5", "", " ", "nan", "NaN", "NA", "inf", "ink", "True",
    "-0", "+5", "0x10", "1_0", "5 5", "65536", str(2**32), str(2**63), str(2**64), str(2**64 + 255), "\u0665",
])  # fmt: skip
@pytest.mark.parametrize("row", [1, 2, FEW])
def test_a_wrong_pixel_is_refused_with_its_row_and_column(
    folder: Path, train_csv: str, test_csv: str, value: str, row: int
) -> None:
    few = {"train.csv": first_lines(train_csv), "test.csv": first_lines(test_csv)}
    for name, text in few.items():
        (folder / name).write_text(text)
    for name, column in (("train.csv", 9), ("test.csv", 8)):
        (folder / name).write_text(cell(row, column, value)(few[name]), encoding="utf-8")
        with pytest.raises(DataError) as error:
            data.load(folder)
        assert str(error.value) == (
            f"{folder / name}: row {row} below the header, column pixel7: found "
            f"{value.strip() or 'nothing'}, expected an integer from 0 to 255; download the file again"
        )
        (folder / name).write_text(few[name])


@pytest.mark.parametrize("value", ["-1", "10", "255", "256", "266", "300", "9.0", "", "nan", "True", "nine"])
@pytest.mark.parametrize("row", [1, TRAIN])
def test_a_wrong_label_is_refused_with_its_row(folder: Path, train_csv: str, value: str, row: int) -> None:
    (folder / "train.csv").write_text(cell(row, 1, value)(train_csv))
    with pytest.raises(DataError) as error:
        data.load(folder)
    assert f"row {row} below the header, column label: found {value or 'nothing'}, expected" in str(
        error.value
    )


@pytest.mark.parametrize("value", ["-1", "256", "True", "1.0"])
def test_a_wrong_column_is_refused(folder: Path, train_csv: str, value: str) -> None:
    head, *rows = train_csv.splitlines()
    changed = [",".join([*row.split(",")[:-1], value]) for row in rows]
    (folder / "train.csv").write_text("\n".join([head, *changed]))
    with pytest.raises(DataError, match=rf"row 1 below the header, column pixel783: found {value}, expected"):
        data.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace(",0,", ", 0 ,"),
        lambda text: text.replace(",0,", ',"0",'),
        lambda text: text.replace(",0,", ",000,"),
        lambda text: text.replace(",9,", ",0009,"),
        lambda text: text.rstrip(),
    ],
    ids=["CRLF", "blank lines", "spaces", "quotes", "zeros", "many zeros", "no last line end"],
)
def test_other_spellings_give_the_same_digits(
    folder: Path,
    digits: data.Dataset,
    train_csv: str,
    change: Callable[[str], str],
) -> None:
    (folder / "train.csv").write_bytes(change(train_csv).encode())
    assert data.load(folder).fingerprint == digits.fingerprint


def test_every_value_is_parsed_alike_in_every_spelling() -> None:
    header = ["label", *parsing.PIXEL_COLUMNS]
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (500, 785)).astype(np.uint8)
    values[:, 0] %= 10
    rows = "\n".join(",".join(map(str, row)) for row in values.tolist())
    text = f"{','.join(header)}\n{rows}\n"
    for spelling in (text, text.rstrip() + " \n", "\n" + text + "\n", text.replace("\n1,", '\n"1",')):
        parts = list(parsing.parse(io.BytesIO(spelling.encode()), "train.csv", header, part_rows=70))
        assert [len(part) for part in parts] == [70] * 7 + [10]
        assert all(part.dtype == np.uint8 for part in parts)
        assert np.array_equal(np.concatenate(parts), values)


MILLION = 1_000_000
# What follows a valid header, and what is told of it, at once and in little memory.
ENDLESS = {
    "short rows": (b"5\n" * MILLION, "row 1 below the header is cut short: found 1 of 785 values"),
    "commas alone": (b"," * 784 + b"\n", "row 1 below the header, column label: found nothing, expected"),
    "700 values": (
        (b"0" + b",0" * 699 + b"\n") * 5000,
        "row 1 below the header is cut short: found 700 of 785 values",
    ),
    "a short row late": (
        (b"0" + b",0" * 784 + b"\n") * 5000 + b"5,0\n" * MILLION,
        "row 5001 below the header is cut short: found 2 of 785 values",
    ),
    "blank lines": (b"\n" * 5 * MILLION, "line 10003: found 10,002 blank lines by here"),
    "an open quote": (b'"0,' + b"0," * MILLION + b"\n", "line 2: is not CSV (field larger than field limit"),
    "quotes in every row": (b'"0,\n' * MILLION, "line 2: is not CSV (unexpected end of data)"),
    "one line": (b"0" * 5 * MILLION, "line 2 has more than 4,194,304 bytes, expected 785 values"),
    "one line of cells": (b"0," * 5 * MILLION, "line 2 has more than 4,194,304 bytes"),
    "a million cells": (b"0," * MILLION + b"0\n", "line 2: found 1000001 values, expected 785"),
    "a million digits": (
        b"0," + b"9" * 100_000 + b",0" * 783,
        f"row 1 below the header, column pixel0: found {'9' * 40}, expected an integer from 0 to 255",
    ),
    "NUL bytes": (bytes(5 * MILLION), "line 2 has more than 4,194,304 bytes"),
    "a NUL byte": (b"0,5\x006" + b",0" * 783, "row 1 below the header, column pixel0: found 5\\x006"),
    "a CR in a row": (b"0,\r0" + b",0" * 783, "line 2: is not CSV (new-line character"),
}
HEADER = ",".join(["label", *parsing.PIXEL_COLUMNS]).encode()
ENDLESS_HEADERS = {
    "a million columns": (HEADER + b",a" * MILLION, "found 1,000,785 columns, expected at most 5,000"),
    "a long header": (
        HEADER + b",a_column" * MILLION,
        "line 1 has more than 4,194,304 bytes, expected a hea",
    ),
    "HTML in one line": (b"<html>" * MILLION, "is an HTML page"),
    "blank lines": (b" \n" * 5 * MILLION, "line 10001: found 10,001 blank lines by here"),
    "NUL bytes": (bytes(5 * MILLION), "line 1 has more than 4,194,304 bytes"),
    "CR alone": (
        HEADER + b"\r" + b"0" + b",0" * 784,
        "line 1 has a CR within, expected lines that end with LF or",
    ),
    "UTF-16": ((HEADER + b"\n").decode().encode("utf-16"), "is UTF-16 text (save it as UTF-8), not CSV"),
}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        *(pytest.param(HEADER + b"\n" + rows, message, id=id) for id, (rows, message) in ENDLESS.items()),
        *(pytest.param(*case, id=f"header: {id}") for id, case in ENDLESS_HEADERS.items()),
    ],
)
def test_a_file_of_any_shape_is_refused_in_little_memory(content: bytes, message: str) -> None:
    file = io.BytesIO(content)
    lines = iter(lambda: file.readline(parsing.MAX_LINE + 1), b"")
    tracemalloc.start()
    with pytest.raises(DataError) as error:
        list(parsing.parse(lines, "train.csv", ["label", *parsing.PIXEL_COLUMNS]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(error.value).startswith("train.csv: ")
    assert message in str(error.value)
    assert len(str(error.value)) < 300
    assert peak < 2**28


def test_a_cell_cannot_steer_the_terminal(folder: Path, train_csv: str) -> None:
    folder = folder.rename(folder.with_name("digits\x1b[31m"))
    (folder / "train.csv").write_text(cell(2, 9, "\x1b[2J\x07")(train_csv))
    with pytest.raises(DataError) as error:
        data.load(folder)
    assert str(error.value).isprintable()
    assert "digits\\x1b[31m/train.csv: row 2" in str(error.value)
    assert "found \\x1b[2J\\x07, expected" in str(error.value)


def test_swapped_files_raise_data_error(folder: Path) -> None:
    (folder / "train.csv").rename(folder / "other")
    (folder / "test.csv").rename(folder / "train.csv")
    (folder / "other").rename(folder / "test.csv")
    with pytest.raises(DataError, match=r"train\.csv: has no column 'label'.* swapped"):
        data.load(folder)
    (folder / "train.csv").write_bytes((folder / "test.csv").read_bytes())
    with pytest.raises(DataError, match=r"test\.csv: has a column 'label'.* swapped"):
        data.load(folder)


def test_a_binary_file_raises_data_error(folder: Path) -> None:
    (folder / "train.csv").write_bytes(bytes(range(128, 256)) * 10)
    with pytest.raises(DataError, match="is not a CSV text file"):
        data.load(folder)
