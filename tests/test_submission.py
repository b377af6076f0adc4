import hashlib
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from digit_recognizer import submission
from digit_recognizer.errors import SubmissionError, WriteError

LABELS = np.array([7, 0, 9, 9, 3], np.uint8)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    submission.write(LABELS, tmp_path / "submission.csv")
    return tmp_path / "submission.csv"


def test_write_gives_kaggles_format(good: Path) -> None:
    assert good.read_bytes() == b"ImageId,Label\n1,7\n2,0\n3,9\n4,9\n5,3\n"


def test_check_reads_what_write_wrote(good: Path) -> None:
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
def test_a_bad_submission_raises_submission_error_in_one_line(
    good: Path, old: str, new: str | None, message: str
) -> None:
    text = good.read_text()
    assert old in text
    good.write_text("" if new is None else text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SubmissionError) as error:
        submission.check(good, rows=5)
    assert str(error.value).startswith(f"{good}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(good))


def test_an_unreadable_file_raises_submission_error(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="cannot be read"):
        submission.check(tmp_path / "none.csv", rows=5)
    with pytest.raises(SubmissionError, match="cannot be read"):
        submission.check(tmp_path, rows=5)
    (tmp_path / "picture.csv").write_bytes(bytes(range(256)))
    with pytest.raises(SubmissionError, match="is not a text file"):
        submission.check(tmp_path / "picture.csv", rows=5)


def test_the_checked_bytes_are_the_hashed_bytes(good: Path) -> None:
    content = good.read_bytes()
    good.write_bytes(content.replace(b",7", b",8"))
    checked = submission.check_bytes(content, str(good), rows=5)
    assert checked.labels.tolist() == LABELS.tolist()
    assert checked.sha256 == hashlib.sha256(content).hexdigest()
    assert submission.check(good, rows=5).sha256 != checked.sha256


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ImageId,Label\n" + "5\n" * 2_000_000, "line 2 has 1 values, expected 2: ImageId,Label"),
        ("ImageId,Label\n" + "," * 8_000_000, "line 2 has 8000001 values"),
        (
            "ImageId,Label\n" + '"1\n' + "1\n" * 2_000_000,
            "is not CSV (field larger than field limit (131072))",
        ),
        ("ImageId,Label\n" + "1" * 8_000_000, "is not CSV (field larger than field limit (131072))"),
        ("ImageId,Label\n" + "\n" * 8_000_000, "line 2 has 0 values"),
        ("ImageId,Label\n1,5\n" + "x" * 20_000_000, "cannot be read (is larger than 16,777,216 bytes)"),
    ],
    ids=["short rows", "one line of cells", "an open quote", "one line", "blank lines", "large"],
)
def test_a_large_file_is_refused_at_its_first_wrong_line(good: Path, content: str, message: str) -> None:
    good.write_text(content)
    tracemalloc.start()
    with pytest.raises(SubmissionError) as error:
        submission.check(good, rows=5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message in str(error.value)
    assert peak < 2**29


def test_only_plain_files_are_checked(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "endless.csv").symlink_to("/dev/zero")
    for name in ("pipe.csv", "endless.csv"):
        with pytest.raises(SubmissionError, match=rf"{name}: cannot be read \(is no plain file\)"):
            submission.check(tmp_path / name, rows=5)


def test_names_and_cells_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m\n.csv"
    for content in (
        "\x1b[2J,Label\n",
        "ImageId,Label\n\x1b[2J,1\n",
        "ImageId,Label\n1,\x1b[2J\n",
        "\udc9b",
        None,
    ):
        if content is not None:
            path.write_bytes(content.encode("utf-8", "surrogateescape"))
        else:
            path.unlink()
        with pytest.raises(SubmissionError) as error:
            submission.check(path, rows=5)
        assert str(error.value).isprintable()
        assert "a\\x1b[31m\\n.csv: " in str(error.value)


def test_a_failed_write_leaves_the_older_submission(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = good.read_bytes()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WriteError, match=r"cannot be written \(No space left"):
        submission.write(LABELS[::-1], good)
    assert good.read_bytes() == before
    assert list(good.parent.iterdir()) == [good]
