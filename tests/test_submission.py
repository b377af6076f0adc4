import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import memory_below

from digit_recognizer import submission
from digit_recognizer.errors import SubmissionError

LABELS = np.array([7, 0, 9, 9, 3], np.uint8)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    submission.write(LABELS, tmp_path / "submission.csv")
    return tmp_path / "submission.csv"


def test_write_gives_kaggles_format_and_check_reads_it(good: Path) -> None:
    assert good.read_bytes() == b"ImageId,Label\n1,7\n2,0\n3,9\n4,9\n5,3\n"
    checked = submission.check(good, rows=5)
    assert checked.labels.tolist() == LABELS.tolist()
    assert checked.counts == [1, 0, 0, 1, 0, 0, 0, 1, 0, 2]
    assert checked.sha256 == hashlib.sha256(good.read_bytes()).hexdigest()
    assert checked.content == good.read_bytes()


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
    "id and a line end": ("5,3", '"5\n",3', "line 7: found ImageId '5\\n'"),
    "other script's digit": ("5,3", "\u0665,3", "line 6: found ImageId"),
    "double id": ("2,0", "1,0", "line 3: ImageId 1 stands on line 2 too, expected each once"),
    "label 10": ("4,9", "4,10", "line 5: found Label '10', expected an integer from 0 to 9"),
    "label fraction": ("4,9", "4,9.0", "line 5: found Label '9.0'"),
    "label negative": ("4,9", "4,-9", "line 5: found Label '-9'"),
    "label missing": ("4,9", "4,", "line 5: found Label ''"),
    "label NaN": ("4,9", "4,nan", "line 5: found Label 'nan'"),
    "label of another script": ("4,9", "4,\u0669", "line 5: found Label"),
    "one value": ("4,9", "4", "line 5 has 1 values, expected 2"),
    "three values": ("4,9", "4,9,9", "line 5 has 3 values"),
    "blank line": ("4,9", "\n4,9", "line 5 has 0 values"),
    "row missing": ("3,9\n", "", "found 4 rows, expected 5, one for each test digit; ImageId 3 is the first"),
    "control sequences": ("4,9", "4,\x1b[2J", "line 5: found Label '\\x1b[2J'"),
    "no text": ("4,9", "4,\udc9b", "is not a text file, expected a CSV that begins ImageId,Label"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_submission_raises_submission_error_in_one_line(
    good: Path, old: str, new: str, message: str
) -> None:
    assert old in good.read_text()
    path = good.with_name("a\x1b[31m\n.csv")
    path.write_bytes(good.read_text().replace(old, new, 1).encode(errors="surrogateescape"))
    with pytest.raises(SubmissionError) as error:
        submission.check(path, rows=5)
    text = str(error.value)
    assert text.startswith(f"{good.parent}/a\\x1b[31m\\n.csv: ")
    assert message in text
    assert text.isprintable()
    assert len(text) < 300 + len(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: found ''"),
        ("ImageId,Label\n" + "5\n" * 2_000_000, "line 2 has 1 values, expected 2: ImageId,Label"),
        ("ImageId,Label\n" + "," * 8_000_000, "line 2 has 8000001 values"),
        ('ImageId,Label\n"1\n' + "1\n" * 2_000_000, "is not CSV (field larger than field limit (131072))"),
        ("ImageId,Label\n" + "1" * 8_000_000, "is not CSV (field larger than field limit (131072))"),
        ("ImageId,Label\n" + "\n" * 8_000_000, "line 2 has 0 values"),
        ("ImageId,Label\n1,5\n" + "x" * 20_000_000, "cannot be read (is larger than 16,777,216 bytes)"),
    ],
    ids=["empty", "short rows", "one line of cells", "an open quote", "one line", "blank lines", "large"],
)
def test_a_large_file_is_refused_at_its_first_wrong_line(good: Path, content: str, message: str) -> None:
    good.write_text(content)
    with memory_below(2**29), pytest.raises(SubmissionError, match=re.escape(message)):
        submission.check(good, rows=5)
