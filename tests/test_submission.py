from pathlib import Path

import numpy as np
import pytest

from digit_recognizer import submission
from digit_recognizer.errors import SubmissionError

LABELS = np.array([7, 0, 9, 9, 3], np.uint8)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    submission.write(LABELS, tmp_path / "submission.csv")
    return tmp_path / "submission.csv"


def test_the_bytes_are_kaggles_format(good: Path) -> None:
    assert good.read_bytes() == b"ImageId,Label\n1,7\n2,0\n3,9\n4,9\n5,3\n"


def test_what_is_written_is_read_back(good: Path) -> None:
    checked = submission.check(good, rows=5)
    assert checked.labels.tolist() == LABELS.tolist()
    assert checked.counts == [1, 0, 0, 1, 0, 0, 0, 1, 0, 2]


def test_rows_may_come_in_any_order_and_with_any_line_ends(good: Path) -> None:
    head, *rows = good.read_text().splitlines()
    good.write_bytes("\r\n".join([head, *rows[::-1]]).encode())
    assert submission.check(good, rows=5).labels.tolist() == LABELS.tolist()


BAD = {
    "lower case header": ("ImageId", "imageid", "line 1: found 'imageid,Label', expected the header"),
    "byte order mark": ("ImageId", "\ufeffImageId", "line 1: found '\\ufeffImageId,Label'"),
    "index column": ("ImageId,", ",ImageId,", "line 1: found ',ImageId,Label'"),
    "no header": ("ImageId,Label\n", "", "line 1: found '1,7'"),
    "id 0": ("\n1,7", "\n0,7", "line 2: found ImageId '0', expected an integer from 1 to 5"),
    "id past the last": ("5,3", "6,3", "line 6: found ImageId '6'"),
    "huge id": ("5,3", "5" * 5000 + ",3", "line 6: found ImageId"),
    "id fraction": ("5,3", "5.0,3", "line 6: found ImageId '5.0'"),
    "other script's digit": ("5,3", "\u0665,3", "line 6: found ImageId"),
    "double id": ("2,0", "1,0", "line 3: ImageId 1 stands on line 2 too, expected each once"),
    "label 10": ("4,9", "4,10", "line 5: found Label '10', expected an integer from 0 to 9"),
    "label fraction": ("4,9", "4,9.0", "line 5: found Label '9.0'"),
    "label negative": ("4,9", "4,-9", "line 5: found Label '-9'"),
    "label missing": ("4,9", "4,", "line 5: found Label ''"),
    "label NaN": ("4,9", "4,nan", "line 5: found Label 'nan'"),
    "one value": ("4,9", "4", "line 5 has 1 values, expected 2"),
    "three values": ("4,9", "4,9,9", "line 5 has 3 values"),
    "blank line": ("4,9", "\n4,9", "line 5 has 0 values"),
    "row missing": ("3,9\n", "", "found 4 rows, expected 5, one for each test digit; ImageId 3 is the first"),
    "empty": ("", None, "line 1: found ''"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD.values(), ids=BAD.keys())
def test_what_kaggle_rejects_is_one_clear_line(good: Path, old: str, new: str | None, message: str) -> None:
    text = good.read_text()
    assert old in text
    good.write_text("" if new is None else text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SubmissionError) as error:
        submission.check(good, rows=5)
    assert str(error.value).startswith(f"{good}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(good))


def test_kaggles_number_of_rows_is_the_default(good: Path) -> None:
    with pytest.raises(SubmissionError, match="found 5 rows, expected 28000"):
        submission.check(good)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="cannot be read"):
        submission.check(tmp_path / "none.csv")
    with pytest.raises(SubmissionError, match="cannot be read"):
        submission.check(tmp_path)
    (tmp_path / "picture.csv").write_bytes(bytes(range(256)))
    with pytest.raises(SubmissionError, match="is not a text file"):
        submission.check(tmp_path / "picture.csv")
