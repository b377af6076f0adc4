"""Download the competition's archive into the folder of the data, whole and checked or not at all."""

import io
import zipfile
from contextlib import suppress
from pathlib import Path

from digit_recognizer import data
from digit_recognizer.data.source import BROKEN_ARCHIVE
from digit_recognizer.errors import DataError, NetworkError, StoppedError
from digit_recognizer.files import locked
from digit_recognizer.leaderboard.client import Kaggle, OnBytes, OnText

FILES = ("train.csv", "test.csv", "sample_submission.csv")
PARTIAL = ".download"  # holds what came so far, for the next attempt to continue


def download(kaggle: Kaggle, folder: Path, *, force: bool = False, on_progress: OnBytes) -> Path:
    """Put the archive into `folder` and return its path; a good one stays unless `force`.

    Raises DataError if another process downloads it now or `folder` cannot be written, and what
    `Kaggle.download` raises; the archive is then what it was.
    """
    final = folder / data.ARCHIVE
    if not force and _is_good(final, kaggle.on_notice):
        kaggle.on_notice(f"{final} is complete already; --force downloads it again")
    else:
        _fetch(kaggle, final, on_progress)
    loose = sorted(path.name for name in data.COMPETITION_ROWS for path in folder.glob(f"{name}*"))
    if loose:
        kaggle.on_notice(f"{folder} also holds {', '.join(loose)}, which is read instead of the archive")
    return final


def _is_good(archive: Path, on_notice: OnText) -> bool:
    if not archive.exists():
        return False
    try:
        check(archive)
    except DataError as error:
        on_notice(f"{error}. Downloading it again")
        return False
    return True


def _fetch(kaggle: Kaggle, final: Path, on_progress: OnBytes) -> None:
    partial = final.parent / PARTIAL / final.name
    busy = DataError(f"{final}: another command is downloading it now; wait for it, or stop it first")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        with locked(partial.with_name("lock"), busy, delete=True):
            kaggle.download(partial, on_progress)
            try:
                check(partial)
            except DataError as error:
                partial.unlink(missing_ok=True)  # nothing to continue
                raise NetworkError(f"Kaggle sent a damaged archive, {final} is as it was: {error}") from None
            partial.replace(final)
        with suppress(OSError):  # another command may have begun
            partial.parent.rmdir()
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped; {final} is as it was. The same command continues the download"
        ) from None
    except OSError as error:
        raise DataError(f"{final.parent}: cannot be written ({error.strerror})") from None


def check(archive: Path) -> None:
    """Raise DataError unless it is a zip of the competition's three files, whole, with all their digits."""
    try:
        with zipfile.ZipFile(archive) as content:
            files = {name: content.read(name) for name in FILES}
    except KeyError as error:
        raise DataError(f"{archive}: {error.args[0]}") from None
    except (OSError, *BROKEN_ARCHIVE) as error:
        raise DataError(f"{archive}: is not a whole zip archive ({error})") from None
    train = data.read_train(io.BytesIO(files["train.csv"]), f"{archive} (train.csv)")
    test = data.read_test(io.BytesIO(files["test.csv"]), f"{archive} (test.csv)")
    for name, rows in (("train.csv", len(train)), ("test.csv", len(test))):
        if rows != (expected := data.COMPETITION_ROWS[name]):
            raise DataError(f"{archive}: found {rows} rows in {name}, expected {expected}")
