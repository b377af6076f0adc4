"""`download`, by the real client, against a Kaggle on loopback; and the whole way from there to a score."""

import io
import json
import os
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest
import stub_kaggle
from conftest import DEADLINE, TEST, TRAIN, set_options
from stub_kaggle import Fault, User, cut, hang, page, refusing, reset

from digit_recognizer import data, submission

pytestmark = pytest.mark.slow


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression, compresslevel=1) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


@pytest.fixture(scope="module")
def few(train_csv: str, test_csv: str) -> dict[str, bytes]:
    return {"train.csv": train_csv.encode(), "test.csv": test_csv.encode()}


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, few: dict[str, bytes]) -> bytes:
    """An archive of the competition's shape, of as few rows as are expected here."""
    for name, rows in (("train.csv", TRAIN), ("test.csv", TEST)):
        monkeypatch.setitem(data.COMPETITION_ROWS, name, rows)
    return zipped(few, zipfile.ZIP_STORED)  # large, to break off within


@pytest.fixture
def final(user: User) -> Path:
    """The archive that is there, and broken."""
    path = user.folder / "data/digit-recognizer.zip"
    path.parent.mkdir()
    path.write_bytes(b"PK")
    return path


def test_an_archive_that_breaks_off_is_continued_and_put_in_place(
    user: User, final: Path, archive: bytes
) -> None:
    user.kaggle.archive = archive
    user.kaggle.faults["archive"] = [cut(0.5, reset)]
    result = user.run("download")
    assert (result.code, result.out) == (0, "data/digit-recognizer.zip\n"), result.err
    assert "data/digit-recognizer.zip: cannot be read (File is not a zip file); download it" in result.err
    assert "the connection broke off; check the network, and the proxy if there is one. Trying" in result.err
    assert list(final.parent.iterdir()) == [final]
    assert final.read_bytes() == archive
    *asked_for_all, rest = user.kaggle.ranges
    assert asked_for_all == [None, None]  # the client looks at the answer, and asks anew for the rest of it
    assert rest is not None
    assert int(rest.removeprefix("bytes=").removesuffix("-")) > 0

    seen = len(user.kaggle.seen)
    (user.folder / "data/train.csv").touch()
    result = user.run("download")
    assert (result.code, result.out) == (0, "data/digit-recognizer.zip\n")
    assert "data/digit-recognizer.zip is complete already; --force downloads it again\n" in result.err
    assert "data also holds train.csv, which is read instead of the archive\n" in result.err
    assert len(user.kaggle.seen) == seen


def test_ctrl_c_keeps_the_partial_archive_and_the_next_download_continues_it(
    user: User, archive: bytes
) -> None:
    user.kaggle.archive = archive
    user.kaggle.faults["archive"] = [cut(0.5, hang)]
    process = user.start("download")
    assert user.kaggle.reached.wait(DEADLINE)
    second = user.run("download")
    told = "another command is downloading it now; wait for it, or stop it first"
    assert second.refusal() == f"Error: data/digit-recognizer.zip: {told}"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    result = user.finish(process)
    assert (result.code, result.out) == (130, "")
    told = "Stopped; data/digit-recognizer.zip is as it was. The same command continues the download"
    assert result.last_line == told
    result = user.run("download")
    assert result.code == 0, result.err
    assert user.kaggle.ranges[-1] is not None
    assert [path.name for path in (user.folder / "data").iterdir()] == ["digit-recognizer.zip"]
    assert (user.folder / "data/digit-recognizer.zip").read_bytes() == archive


def spoilt(files: dict[str, bytes]) -> bytes:
    content = bytearray(zipped(files))
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda few: zipped(few)[:-100], "cannot be read (File is not a zip file); download it again"),
        (spoilt, "cannot be read ("),
        (lambda few: stub_kaggle.PAGE.encode(), "cannot be read (File is not a zip file); download it again"),
        (lambda few: zipped({"train.csv": few["train.csv"]}), "holds no test.csv; download the archive"),
        (zipped, "found 600 rows in train.csv, expected 42,000"),
        (lambda few: zipped(few | {"test.csv": few["train.csv"]}), "(test.csv): has a column 'label'"),
    ],
    ids=["truncated", "broken", "a page", "a member missing", "too few rows", "train.csv twice"],
)
def test_another_archive_than_the_competitions_replaces_nothing(
    user: User, final: Path, few: dict[str, bytes], spoil: Any, message: str
) -> None:
    user.kaggle.archive = spoil(few)
    result = user.run("download", "--force")
    assert (result.code, result.out) == (7, "")
    sent = "Error: Kaggle sent a damaged archive, data/digit-recognizer.zip is as it was: "
    assert result.last_line.startswith(sent)
    assert message in result.last_line
    assert final.read_bytes() == b"PK"
    assert list((user.folder / "data/.download").iterdir()) == []


RULES = "You must accept this competition's rules before you'll be able to download files."
CASES: dict[str, tuple[str, Fault, int, str]] = {
    "rules": ("find archive", refusing(403, RULES), 4, "accept the competition's rules at https://www.kagg"),
    "404": ("find archive", refusing(404, "Not found"), 7, "Kaggle does not find it. Kaggle says: Not found"),
    "404 of the storage": ("archive", page(404), 7, "Kaggle does not find it in its storage"),
    "403 of the storage": ("archive", refusing(403, "expired"), 7, "Kaggle's storage refused it (403); try"),
    "500 always": ("find archive", refusing(500, ""), 7, "Kaggle's server failed (500); try again later"),
    "502 with a page": ("archive", page(502), 7, "Kaggle's storage refused it (502); try again later"),
    "200 with a page": ("find archive", page(200), 7, "a web page came instead of Kaggle's answer"),
    "200 with a page of the storage": ("archive", page(200), 7, "a web page came instead of Kaggle's answer"),
    "reset": ("find archive", reset, 7, "downloading the archive: the connection broke off"),
    "reset each time": ("archive", cut(0.5, reset), 7, "downloading the archive: the connection broke off"),
    "hang": ("find archive", hang, 7, "downloading the archive: no answer within 0.5 seconds (--timeout)"),
    "hang of the storage": ("archive", cut(0.5, hang), 7, "downloading the archive: no answer within 0.5 s"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_download_that_fails_is_one_line_and_replaces_nothing(user: User, final: Path, case: str) -> None:
    step, fault, code, message = CASES[case]
    user.kaggle.archive = bytes(200_000)
    user.kaggle.always[step] = fault
    timeout = 0.5 if "hang" in case else 20
    result = user.run("download", "--force", "--verbose", "--timeout", timeout)
    assert (result.code, result.out) == (code, "")
    assert result.last_line.startswith("Error: ")
    assert message in result.last_line
    assert final.read_bytes() == b"PK"


def test_a_folder_that_cannot_be_written(user: User) -> None:
    (user.folder / "file").touch()
    line = "Error: file: cannot be written (Not a directory)"
    assert user.run("download", "--data-dir", "file").refusal() == line
    assert user.kaggle.seen == []


def test_download_train_submit_and_the_score_is_the_runs(
    user: User, archive: bytes, test_labels: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample's digits are made the competition's."""
    monkeypatch.chdir(user.folder)
    user.kaggle.archive = archive
    assert user.run("download").out == "data/digit-recognizer.zip\n"

    digits = data.load(Path("data"))
    monkeypatch.setitem(data.KNOWN_FINGERPRINTS, digits.fingerprint["test"], "competition")
    settings = set_options(("epochs=8", "averaged_epochs=1", "hidden=32", "learning_rate=0.01"))
    result = user.run("train", "--recipe", "sklearn-mlp", *settings, "--name", "whole", "--holdout", "0.2")
    assert result.code == 0, result.err

    result = user.run("submit")
    assert result.code == 0, result.err
    before = Path("submissions/whole/run.json").read_text()
    score, expected = json.loads(before)["scores"]["sklearn-mlp"], json.loads(before)["expected_score"]
    assert result.out == (
        f"Submission 4000: public score 0.99142, {round((1 - 0.99142) * TEST)} error of {TEST}; "
        f"validation accuracy {score['accuracy']:.4f}, expected {expected['low']:.4f} to "
        f"{expected['high']:.4f}: above\n"
    )
    (stored,) = json.loads(Path("submissions/.submitted.json").read_text()).values()
    assert (stored["run"], stored["public_score"]) == ("whole", 0.99142)
    assert stored["validation"]["low"] == score["low"]
    (sent,) = user.kaggle.uploads.values()
    assert (submission.check_bytes(sent, "sent", TEST).labels == test_labels).mean() > 0.6

    head, row = user.run("runs").out.splitlines()
    assert head.index("public score") + len("public score") == row.index("0.99142") + len("0.99142")
    assert row.startswith("whole")
    listed = json.loads(user.run("submissions", "--json").out)["submissions"]
    assert [(row["ref"], row["run"], row["public_score"]) for row in listed] == [(4000, "whole", 0.99142)]
    assert Path("submissions/whole/run.json").read_text() == before
