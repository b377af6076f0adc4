"""The competition's archive from Kaggle into the folder of the data, whole and checked or not at all."""

import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from digit_recognizer import data
from digit_recognizer.errors import DataError, NetworkError, StoppedError
from digit_recognizer.leaderboard.client import Kaggle

MEMBERS = ("train.csv", "test.csv", "sample_submission.csv")
PARTIAL = ".download"  # holds what came so far, for the next attempt to go on with


def download(
    kaggle: Kaggle,
    folder: Path,
    *,
    force: bool = False,
    on_notice: Callable[[str], None],
    on_progress: Callable[[int, int | None], None],
) -> Path:
    """Put the archive into `folder` and return its path; one that is there and good stays unless `force`.

    on_progress: gets the bytes so far, and in all where Kaggle says it. Raises DataError where `folder`
    cannot be written, and what `Kaggle.download` raises; the archive is then what it was.
    """
    final = folder / data.ARCHIVE
    if not force and _is_good(final, on_notice):
        on_notice(f"{final} is there already, and good; --force downloads it again")
    else:
        _fetch(kaggle, final, on_progress)
    loose = sorted(path.name for name in data.COMPETITION_ROWS for path in folder.glob(f"{name}*"))
    if loose:
        on_notice(f"{folder} also holds {', '.join(loose)}, which goes before the archive")
    return final


def _is_good(archive: Path, on_notice: Callable[[str], None]) -> bool:
    if not archive.exists():
        return False
    try:
        check(archive)
    except DataError as error:
        on_notice(f"{error}. Downloading it anew")
        return False
    return True


def _fetch(kaggle: Kaggle, final: Path, on_progress: Callable[[int, int | None], None]) -> None:
    partial = final.parent / PARTIAL / final.name
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        kaggle.download(partial, on_progress)
        try:
            check(partial)
        except DataError as error:
            partial.unlink(missing_ok=True)  # nothing to go on with
            raise NetworkError(f"what came from Kaggle is no good, {final} is as it was: {error}") from None
        partial.replace(final)
        shutil.rmtree(partial.parent)
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped; {final} is as it was. The same command goes on where this one was"
        ) from None
    except OSError as error:
        raise DataError(f"{final.parent}: cannot be written ({error.strerror})") from None


def check(archive: Path) -> None:
    """Raise DataError unless it is a zip of the competition's three files, whole, with all their digits."""
    try:
        with zipfile.ZipFile(archive) as content:
            files = {name: content.read(name) for name in MEMBERS}
    except KeyError as error:
        raise DataError(f"{archive}: {error.args[0]}") from None
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        raise DataError(f"{archive}: is not a whole zip archive ({error})") from None
    train = data.read_train(files["train.csv"], f"{archive} (train.csv)")
    test = data.read_test(files["test.csv"], f"{archive} (test.csv)")
    for name, found in (("train.csv", len(train)), ("test.csv", len(test))):
        if found != data.COMPETITION_ROWS[name]:
            expected = data.COMPETITION_ROWS[name]
            raise DataError(f"{archive}: found {found} rows in {name}, expected {expected}")
