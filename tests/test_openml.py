"""Stored replies play OpenML: scikit-learn's own client asks for them."""

import csv
import hashlib
import json
import socket
from collections.abc import Callable
from email.message import Message
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import Request

import numpy as np
import pytest
from conftest import Result, full_disk, typed

from digit_recognizer import data
from digit_recognizer.data import openml
from digit_recognizer.errors import DataError, NetworkError, WriteError

Replies = dict[str, bytes] | Exception
DIGITS = 200  # as the stand-in for MNIST's 70,000


@pytest.fixture(scope="module")
def mnist(digits: data.Dataset) -> data.Digits:
    return data.Digits(digits.train.pixels[:DIGITS], digits.train.labels[:DIGITS])


def test_train_and_test_csv_together_hold_every_digit_once(tmp_path: Path, mnist: data.Digits) -> None:
    folder = openml.write(mnist.pixels, mnist.labels, tmp_path / "data" / "openml")
    assert folder == tmp_path / "data" / "openml"
    assert {path.name for path in folder.iterdir()} == {
        "train.csv", "test.csv", "test_labels.csv", "NOT-FOR-KAGGLE.txt",
    }  # fmt: skip
    assert [path.name for path in folder.parent.iterdir()] == ["openml"]
    with (folder / "train.csv").open() as file:
        assert next(csv.reader(file)) == ["label", *data.PIXEL_COLUMNS]
    written = data.load(folder)
    assert (len(written.train), len(written.test)) == (120, 80)
    before = sorted((label, row.tobytes()) for label, row in zip(mnist.labels, mnist.pixels, strict=True))
    labels = np.concatenate([written.train.labels, written.test_labels])
    pixels = np.concatenate([written.train.pixels, written.test])
    after = sorted((label, row.tobytes()) for label, row in zip(labels, pixels, strict=True))
    assert after == before
    of_all = np.bincount(mnist.labels, minlength=10)
    np.testing.assert_allclose(np.bincount(written.train.labels, minlength=10), 0.6 * of_all, atol=1)
    again = openml.write(mnist.pixels, mnist.labels, tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_all_of_mnist_is_split_as_the_competition_is() -> None:
    train, test = openml.split(np.arange(70_000) % 10)
    assert [len(train), len(test)] == list(data.COMPETITION_ROWS.values())
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(70_000))


def test_the_marker_gives_kind_openml_and_says_why_it_is_not_for_kaggle(
    tmp_path: Path, mnist: data.Digits, test_csv: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = openml.write(mnist.pixels, mnist.labels, tmp_path / "openml")
    written = data.load(folder)
    assert written.kind == "openml"
    assert written.fingerprint["test"] in (folder / data.OPENML_MARKER).read_text()
    for text in (openml.NOTICE, (folder / data.OPENML_MARKER).read_text()):
        assert "would be cheating" in text
        assert "not the competition's" in text
    # The marker speaks of its own rows alone: what is known by its rows stays what it is.
    monkeypatch.setitem(data.KNOWN_FINGERPRINTS, written.fingerprint["test"], "competition")
    assert data.load(folder).kind == "competition"
    (folder / "test_labels.csv").unlink()
    (folder / "test.csv").write_text(test_csv)
    assert data.load(folder).kind == "other"


def test_only_an_older_download_or_an_empty_folder_is_replaced_and_only_by_a_whole_one(
    tmp_path: Path, mnist: data.Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = mnist.pixels[:100], mnist.labels[:100]
    folder, mine = tmp_path / "openml", tmp_path / "mine"
    mine.mkdir()
    for new in (folder, mine):
        openml.write(mnist.pixels, mnist.labels, new)
    (mine / data.OPENML_MARKER).unlink()
    for start in (openml.write, lambda *_: openml.download(mine, pytest.fail)):  # before anything is fetched
        with pytest.raises(DataError, match=r"mine: holds files that are not OpenML's"):
            start(*few, mine)
    refused = pytest.raises(WriteError, match=r"openml: cannot be written \(No space")
    with monkeypatch.context() as patch, refused:
        patch.setattr(openml.submission, "write", full_disk)
        openml.write(*few, folder)
    assert [len(data.load(path).train) for path in (folder, mine)] == [120, 120]
    openml.write(*few, folder)
    assert len(data.load(folder).train) == 60
    assert {path.name for path in tmp_path.iterdir()} == {"openml", "mine"}


def answers(mnist: data.Digits) -> dict[str, bytes]:
    """Return OpenML's replies to scikit-learn about mnist_784: recorded fields, fewer digits."""
    names = [f"pixel{i}" for i in range(1, 785)]
    head = ["@RELATION mnist_784", *(f"@ATTRIBUTE {name} real" for name in names)]
    rows = [",".join(map(str, [*row, label])) for row, label in zip(mnist.pixels, mnist.labels, strict=True)]
    arff = "\n".join([*head, "@ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}", "@DATA", *rows]).encode()
    plain = {"is_target": "false", "is_ignore": "false", "is_row_identifier": "false",
             "number_of_missing_values": "0", "data_type": "numeric"}  # fmt: skip
    target = {**plain, "name": "class", "is_target": "true", "data_type": "nominal",
              "nominal_value": list("0123456789")}  # fmt: skip
    features = [{**plain, "name": name} for name in names] + [target]
    description = {
        "id": "554", "name": "mnist_784", "version": "1", "description": "MNIST",
        "format": "ARFF", "status": "active", "file_id": "52667",
        "url": "https://api.openml.org/data/v1/download/52667/mnist_784.arff",
        "md5_checksum": hashlib.md5(arff).hexdigest(),
    }  # fmt: skip
    listing = {"data": {"dataset": [{"did": 554, "name": "mnist_784", "version": 1, "status": "active"}]}}
    api = "/api/v1/json/data"
    replies = {
        f"{api}/list/data_name/mnist_784/limit/2/data_version/1": listing,
        f"{api}/554": {"data_set_description": description},
        f"{api}/features/554": {"data_features": {
            "feature": [{"index": str(i), **feature} for i, feature in enumerate(features)]
        }},
        f"{api}/qualities/554": {"data_qualities": {
            "quality": [{"name": "NumberOfInstances", "value": f"{len(rows)}.0"}]
        }},
    }  # fmt: skip
    return {path: json.dumps(reply).encode() for path, reply in replies.items()} | {
        "/data/v1/download/52667": arff,  # asked for by scikit-learn 1.6
        "/data/v1/download/52667/mnist_784.arff": arff,
    }


class Reply(BytesIO):
    """What `urlopen` returns: content without headers."""

    def info(self) -> dict[str, str]:
        return {}

    def read(self, size: int | None = -1) -> bytes:
        assert socket.getdefaulttimeout() == 0.3
        return super().read(size)


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Replies], Result]:
    """`download --source openml`, which gets these replies by their paths, or a network that is broken so."""
    monkeypatch.setattr("sklearn.datasets._openml.time.sleep", lambda _: None)  # between its tries
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "cache"))

    def download(replies: Replies) -> Result:
        def urlopen(request: Request) -> Reply:
            assert socket.getdefaulttimeout() == 0.3
            if isinstance(replies, Exception):
                raise replies
            content = replies.get(urlparse(request.full_url).path)
            if content is None:  # OpenML's "there is no such thing"
                raise HTTPError(request.full_url, 412, "", Message(), BytesIO())
            return Reply(content)

        monkeypatch.setattr("sklearn.datasets._openml.urlopen", urlopen)
        return typed("download", "--source", "openml", "--timeout", 0.3, cwd=tmp_path)

    return download


def test_download_writes_the_digits_that_openml_sends(
    download: Callable[[Replies], Result], tmp_path: Path, mnist: data.Digits
) -> None:
    ended = download(answers(mnist))
    assert (ended.code, ended.out) == (0, "data/openml\n"), ended.out + ended.err
    assert ended.err == openml.NOTICE + "\n"
    straight = openml.write(mnist.pixels, mnist.labels, tmp_path / "straight")
    for path in straight.iterdir():
        assert (tmp_path / "data/openml" / path.name).read_bytes() == path.read_bytes()


def without(path: str) -> Callable[[dict[str, bytes]], Replies]:
    return lambda replies: {url: reply for url, reply in replies.items() if not url.endswith(path)}


def spoilt(part: str, content: bytes) -> Callable[[dict[str, bytes]], Replies]:
    return lambda replies: {path: content if part in path else reply for path, reply in replies.items()}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda _: URLError(OSError(111, "refused")), "OpenML: mnist_784 cannot be fetched ([Errno 111]"),
        (
            lambda _: TimeoutError("timed out"),
            "mnist_784 cannot be fetched (timed out); look at your network",
        ),
        (lambda _: URLError(TimeoutError("timed out")), "OpenML: mnist_784 cannot be fetched (timed out)"),
        (without("data_version/1"), "OpenML: the answer is not mnist_784 (Dataset mnist_784 with version 1"),
        (spoilt("limit/2/data_version/1", b"<html>log in"), "OpenML: the answer is not mnist_784 (Expecting"),
        (spoilt("download/52667", b"@DATA\n"), "md5 checksum of"),
    ],
    ids=["no network", "silence", "silence at the start", "not there", "a login page", "cut short"],
)
def test_a_failed_download_raises_network_error_and_writes_nothing(
    download: Callable[[Replies], Result], tmp_path: Path, mnist: data.Digits, spoil: Callable, message: str
) -> None:
    ended = download(spoil(answers(mnist)))
    assert (ended.code, ended.out) == (7, "")
    notice, error = ended.err.splitlines()
    assert notice == openml.NOTICE
    assert error.startswith("Error: OpenML: ")
    assert message in error
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (np.zeros((2, 64)), ["1", "2"], r"the answer is not mnist_784 \(it has the shape \(2, 64\), exp"),
        (np.full((2, 784), 0.5), ["1", "2"], "holds other values"),
        (np.full((2, 784), 300.0), ["1", "2"], "holds other values"),
        (np.zeros((2, 784)), ["1", "x"], "holds other values"),
    ],
)
def test_other_shapes_and_values_raise_network_error(
    monkeypatch: pytest.MonkeyPatch, pixels: np.ndarray, labels: list[str], message: str
) -> None:
    answer = SimpleNamespace(data=pixels, target=np.array(labels, object))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda *_, **__: answer)
    with pytest.raises(NetworkError, match=message):
        openml.fetch()


def test_a_cache_that_cannot_be_written_is_named_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    advice = "; set SCIKIT_LEARN_DATA to another folder"
    named = {f"{tmp_path}/file/x": "Not a directory", "~no-such-user/x": "there is no such user"}
    for cache, reason in named.items():  # before anything is told, and fetched
        monkeypatch.setenv("SCIKIT_LEARN_DATA", cache)
        with pytest.raises(WriteError) as error:
            openml.download(tmp_path / "openml", pytest.fail)
        assert str(error.value) == f"{cache}: cannot be written ({reason}){advice}"

    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setattr("sklearn.datasets.fetch_openml", full_disk)
    with pytest.raises(WriteError) as error:
        openml.fetch()
    assert str(error.value) == f"{tmp_path}: cannot be written (No space left on device){advice}"
