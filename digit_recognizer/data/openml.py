"""MNIST from OpenML in the shape of Kaggle's files, for people without a Kaggle account.

The competition drew its digits from these 70,000, see WHY_NOT. Nothing made here can be uploaded: `data.load`
knows the competition by the rows of its test.csv, in their order; a split by another seed gives other rows in
another order. Beside the competition's own test.csv, they overlap with it.
"""

import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer import data, files, submission
from digit_recognizer.errors import REFUSALS, DataError, NetworkError

NAME, VERSION = "mnist_784", 1
PAGE = "https://www.openml.org/d/554"
SPLIT_SEED = 0

CACHE_ADVICE = "; set SCIKIT_LEARN_DATA to another folder"
WHY_NOT = (
    "It is not the competition's data: it holds the competition's test digits together with their labels, so "
    "to train on it and submit to Kaggle would be cheating. Runs on it are for learning and can never be "
    "uploaded."
)
NOTICE = f"Fetching {NAME} from {PAGE}. {WHY_NOT}"


def download(folder: Path, on_notice: Callable[[str], None], *, timeout: float = 60) -> Path:
    """Fetch MNIST, write it into `folder` as Kaggle's files, and return the folder.

    timeout: seconds without a byte from the server.
    Raises DataError, before anything is fetched, if the folder holds other files, WriteError if it or the
    cache cannot be written; NetworkError if OpenML cannot be reached.
    """
    _check_replaceable(folder)
    files.check_folder(folder)
    files.check_folder(_cache(), CACHE_ADVICE)
    on_notice(NOTICE)
    return write(*fetch(timeout), folder)


def fetch(timeout: float = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return OpenML's mnist_784: uint8 pixels of shape (70000, 784) and labels of shape (70000,).

    timeout: seconds without a byte from the server.
    Raises NetworkError if it cannot be fetched or is anything but digits of 784 pixels, WriteError if the
    cache cannot be written.
    """
    from http.client import HTTPException

    from sklearn.datasets import fetch_openml

    usual_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout)  # scikit-learn would wait without end for a silent server
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns of each retry
            # The label, the column after the pixels, as text: by default it is a category, on which
            # scikit-learn 1.9 fails with pandas 3.1 (its pull request 34902 mends that).
            mnist = fetch_openml(
                NAME, version=VERSION, data_home=_cache(), as_frame=False,
                read_csv_kwargs={"dtype": {data.PIXELS: str}},
            )  # fmt: skip
            return _checked(mnist.data, mnist.target)
    except (OSError, HTTPException) as error:
        if getattr(error, "errno", None) in REFUSALS:
            with files.writing(_cache(), CACHE_ADVICE):
                raise
        reason = getattr(error, "reason", None) or error
        raise NetworkError(
            f"OpenML: {NAME} cannot be fetched ({reason}); look at your network, or try again later"
        ) from None
    except (ValueError, KeyError) as error:  # OpenML's refusals, wrong checksums, a login page for an answer
        reason = " ".join(str(error).split())
        raise NetworkError(f"OpenML: the answer is not {NAME} ({reason}); try again later") from None
    finally:
        socket.setdefaulttimeout(usual_timeout)


def _checked(pixels: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what was fetched as uint8; raise ValueError if it is not MNIST's."""
    pixels, labels = np.asarray(pixels), np.asarray(labels)
    if pixels.shape != (len(labels), data.PIXELS):
        raise ValueError(f"it has the shape {pixels.shape}, expected {data.PIXELS} pixels a digit")
    rounded = pixels.astype(np.uint8)
    if (rounded != pixels).any() or not np.isin(labels, list("0123456789")).all():
        raise ValueError("it holds other values than pixels of 0 to 255 and labels of 0 to 9")
    return rounded, labels.astype(np.uint8)


def _cache() -> Path:
    """Return the folder that scikit-learn keeps downloads in; raise WriteError if there can be none."""
    folder = os.environ.get("SCIKIT_LEARN_DATA") or "~/scikit_learn_data"
    with files.writing(Path(folder), CACHE_ADVICE):
        return files.user_path(folder)


def write(pixels: np.ndarray, labels: np.ndarray, folder: Path) -> Path:
    """Write train.csv, test.csv and test_labels.csv, split by `split`, and the marker that names them.

    pixels: uint8 of shape (n, 784); labels: uint8 of shape (n,), 0 to 9. The folder appears whole; an older
    download is replaced.
    Raises DataError if the folder holds other files, WriteError if it cannot be written.
    """
    _check_replaceable(folder)
    train, test = split(labels)
    header = ",".join(data.PIXEL_COLUMNS)
    with files.writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_folder(folder) as filling:
            table = np.column_stack([labels[train], pixels[train]])
            np.savetxt(filling / "train.csv", table, "%d", ",", header=f"label,{header}", comments="")
            np.savetxt(filling / "test.csv", pixels[test], "%d", ",", header=header, comments="")
            submission.write(labels[test], filling / "test_labels.csv")
            test_rows = data.load(filling).fingerprint["test"]
            (filling / data.OPENML_MARKER).write_text(
                f"MNIST ({NAME}, version {VERSION}) from {PAGE}, split with seed {SPLIT_SEED}.\n\n"
                f"{WHY_NOT}\n\nSHA-256 of the test rows, which identify this folder: {test_rows}\n",
                encoding="utf-8",
            )
    return folder


def split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers for train.csv and test.csv: stratified, 3 to 2, like the competition's."""
    from sklearn.model_selection import train_test_split

    rows, test = np.arange(len(labels)), len(labels) * 2 // 5
    return tuple(train_test_split(rows, test_size=test, stratify=labels, random_state=SPLIT_SEED))


def _check_replaceable(folder: Path) -> None:
    try:
        if not folder.exists() or (folder / data.OPENML_MARKER).is_file() or not any(folder.iterdir()):
            return
    except NotADirectoryError:
        pass
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None
    raise DataError(
        f"{folder}: holds files that are not OpenML's, which would be lost; "
        "move them away, or choose another folder"
    )
