import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TEST, TRAIN

from digit_recognizer import data
from digit_recognizer.errors import DataError


def pack(folder: Path) -> Path:
    """The folder's two files as Kaggle delivers them, with its line ends."""
    with zipfile.ZipFile(folder / data.ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train.csv", "test.csv"):
            archive.writestr(name, (folder / name).read_text().replace("\n", "\r\n"))
            (folder / name).unlink()
    return folder


def squeeze(folder: Path) -> Path:
    for name in ("train.csv", "test.csv"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    return folder


def test_pixels_and_labels_are_what_the_csv_says(digits: data.Dataset, train_csv: str, test_csv: str) -> None:
    rows = [[int(value) for value in line.split(",")] for line in train_csv.splitlines()[1:]]
    assert digits.train.pixels.dtype == np.uint8
    assert digits.train.pixels.shape == (TRAIN, 784)
    assert digits.train.labels.tolist() == [row[0] for row in rows]
    assert digits.train.pixels.tolist() == [row[1:] for row in rows]
    assert digits.test.shape == (TEST, 784)
    assert digits.test[-1].tolist() == [int(value) for value in test_csv.splitlines()[-1].split(",")]


@pytest.mark.parametrize("packed", [pack, squeeze])
def test_zip_and_gz_are_read_as_they_are(
    folder: Path, digits: data.Dataset, packed: Callable[[Path], Path]
) -> None:
    assert data.load(packed(folder)).fingerprint == digits.fingerprint


def test_columns_are_matched_by_name(folder: Path, digits: data.Dataset, train_csv: str) -> None:
    rows = [line.split(",") for line in train_csv.splitlines()]
    turned = [["note", *row[::-1], "note"] for row in rows]
    (folder / "train.csv").write_text("\n".join(",".join(row) for row in turned))
    assert data.load(folder).fingerprint == digits.fingerprint


def test_byte_order_mark_and_blank_last_lines_do_no_harm(
    folder: Path, digits: data.Dataset, train_csv: str
) -> None:
    (folder / "train.csv").write_bytes(b"\xef\xbb\xbf" + train_csv.encode() + b"\r\n\n")
    assert data.load(folder).fingerprint == digits.fingerprint


def test_any_changed_pixel_or_label_changes_the_fingerprint(
    folder: Path, digits: data.Dataset, train_csv: str
) -> None:
    head, first, rest = train_csv.split("\n", 2)
    label = (int(first[0]) + 1) % 10
    (folder / "train.csv").write_text(f"{head}\n{label}{first[1:]}\n{rest}")
    changed = data.load(folder).fingerprint
    assert changed["train"] != digits.fingerprint["train"]
    assert changed["test"] == digits.fingerprint["test"]


def test_digits_are_looked_for_in_order(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert data.find(None) == ROOT / "data" / "sample"
    (tmp_path / "data").mkdir()
    assert data.find(None) == ROOT / "data" / "sample"
    (tmp_path / "data" / "train.csv").touch()
    assert data.find(None) == Path("data")
    assert data.find(folder) == folder


def test_the_sample_is_known_by_its_rows_wherever_it_lies(tmp_path: Path) -> None:
    for file in (ROOT / "data" / "sample").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    sample = data.load(tmp_path)
    assert sample.kind == "sample"
    assert sample.test_labels is not None
    assert len(sample.train.labels) == 6000
    assert len(sample.test_labels) == 4000


def test_labels_of_the_competitions_test_rows_are_never_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "test_labels.csv").write_text("ImageId,Label\n" + "".join(f"{i + 1},3\n" for i in range(TEST)))
    other = data.load(folder)
    assert other.kind == "other"
    assert other.test_labels is not None
    monkeypatch.setitem(data.KNOWN_FINGERPRINTS, other.fingerprint["test"], "competition")
    assert data.load(folder).kind == "competition"
    assert data.load(folder).test_labels is None


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


BAD_TRAIN = {
    "HTML": (lambda _: "<!doctype html><html><title>Kaggle</title>", "is an HTML page"),
    "zip": (lambda _: "PK\x03\x04rest", "is a zip archive under the wrong name"),
    "empty": (lambda _: "", "is empty"),
    "header alone": (lambda text: text.splitlines()[0] + "\n", "has a header but no rows"),
    "no header": (lambda text: text.split("\n", 1)[1], "the header lacks label and"),
    "no label": (edited("label,", "digit,"), "has no column 'label'; is this test.csv"),
    "missing pixel": (edited("pixel7,", "pixel,"), "the header lacks pixel7; expected label, pixel0"),
    "double pixel": (edited("pixel7,", "pixel7,pixel7,"), "column pixel7 stands 2 times in the header"),
    "label 10": (cell(3, 1, "10"), "row 3 below the header, column label: found 10, expected an integer"),
    "label 300": (cell(3, 1, "300"), "row 3 below the header, column label: found 300"),
    "no label value": (cell(3, 1, ""), "row 3 below the header, column label: found nothing"),
    "negative": (cell(2, 9, "-1"), "row 2 below the header, column pixel7: found -1"),
    "above 255": (cell(2, 9, "256"), "column pixel7: found 256, expected an integer from 0 to 255"),
    "fraction": (cell(2, 9, "0.5"), "column pixel7: found 0.5"),
    "text": (cell(2, 9, "ink"), "column pixel7: found ink"),
    "NaN": (cell(2, 9, "nan"), "column pixel7: found nan"),
    "wide row": (edited("\n", "\n1,"), "line 2: found 786 values, expected 785"),
    "wide last row": (lambda text: text.rstrip() + ",1\n", f"line {TRAIN + 1}: found 786 values"),
    "truncated": (
        lambda text: text.rstrip()[:-1000],
        f"row {TRAIN} below the header is cut short: found",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_TRAIN.values(), ids=BAD_TRAIN.keys())
def test_a_bad_file_is_one_clear_line(
    folder: Path, train_csv: str, spoil: Callable[[str], str], message: str
) -> None:
    (folder / "train.csv").write_text(spoil(train_csv))
    with pytest.raises(DataError) as error:
        data.load(folder)
    assert str(error.value).startswith(f"{folder / 'train.csv'}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_swapped_files_are_named(folder: Path) -> None:
    (folder / "train.csv").rename(folder / "other")
    (folder / "test.csv").rename(folder / "train.csv")
    (folder / "other").rename(folder / "test.csv")
    with pytest.raises(DataError, match=r"train\.csv: has no column 'label'.* swapped"):
        data.load(folder)
    (folder / "train.csv").write_bytes((folder / "test.csv").read_bytes())
    with pytest.raises(DataError, match=r"test\.csv: has a column 'label'.* swapped"):
        data.load(folder)


def test_not_text(folder: Path) -> None:
    (folder / "train.csv").write_bytes(bytes(range(128, 256)) * 10)
    with pytest.raises(DataError, match="is not a CSV text file"):
        data.load(folder)


@pytest.mark.parametrize("packed", [pack, squeeze])
def test_a_truncated_archive_is_named(folder: Path, packed: Callable[[Path], Path]) -> None:
    packed(folder)
    broken = folder / "train.csv.gz" if packed is squeeze else folder / data.ARCHIVE
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cannot be read .*; download it again") as error:
        data.load(folder)
    assert str(error.value).startswith(str(broken))


def test_missing_files_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        data.find(tmp_path / "nowhere")
    (folder / "test.csv").unlink()
    with pytest.raises(DataError, match=r"holds neither test\.csv, test\.csv\.gz nor digit-recognizer\.zip"):
        data.load(folder)
    with zipfile.ZipFile(folder / data.ARCHIVE, "w") as archive:
        archive.writestr("sample_submission.csv", "ImageId,Label\n")
    with pytest.raises(DataError, match=r"holds no test\.csv"):
        data.load(folder)
