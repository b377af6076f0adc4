"""Download the competition's archive into the folder of the data, whole and checked or not at all."""

from contextlib import suppress
from pathlib import Path

from digit_recognizer import data
from digit_recognizer.errors import DataError, NetworkError, StoppedError
from digit_recognizer.files import check_folder, locked, writing
from digit_recognizer.leaderboard.client import Kaggle, OnBytes

PARTIAL = ".download"  # holds what came so far, for the next attempt to continue


def download(kaggle: Kaggle, folder: Path, *, force: bool = False, on_progress: OnBytes) -> Path:
    """Put the archive into `folder` and return its path; a good one stays unless `force`.

    Raises DataError if another process downloads it now, WriteError if `folder` cannot be written, and what
    `Kaggle.download` raises; the archive is then what it was.
    """
    final = folder / data.ARCHIVE
    if not force and final.exists():
        try:
            check(final)
            kaggle.on_notice(f"{final} is complete already; --force downloads it again")
        except DataError as error:
            kaggle.on_notice(f"{error}. Downloading it again")
            force = True
    if force or not final.exists():
        check_folder(folder)
        with writing(folder):
            _fetch(kaggle, final, on_progress)
    loose = sorted(path.name for name in data.COMPETITION_ROWS for path in folder.glob(f"{name}*"))
    if loose:
        kaggle.on_notice(f"{folder} also holds {', '.join(loose)}, which is read instead of the archive")
    return final


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


def check(archive: Path) -> None:
    """Raise DataError unless it is a zip of the competition's train.csv and test.csv, with all digits."""
    train = data.read_train(*data.read_file(archive, "train.csv"))
    test = data.read_test(*data.read_file(archive, "test.csv"))
    for name, rows in (("train.csv", len(train)), ("test.csv", len(test))):
        if rows != (expected := data.COMPETITION_ROWS[name]):
            raise DataError(f"{archive}: found {rows:,} rows in {name}, expected {expected:,}")
