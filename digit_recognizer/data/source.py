"""Find train.csv and test.csv, plain, gzipped or zipped, and read their lines."""

import gzip
import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile

from digit_recognizer.data.parsing import ARCHIVE, DOWNLOAD_HINT, MAX_LINE
from digit_recognizer.errors import DataError
from digit_recognizer.files import default_folder, open_plain, open_zip, read_plain

# What gzip and zipfile raise: RuntimeError for an encrypted archive, ValueError for impossible offsets.
BROKEN_ARCHIVE = (EOFError, RuntimeError, ValueError, struct.error, BadZipFile, zlib.error)
MAX_UNPACKED_BYTES = 2**30  # fourteen times the competition's train.csv; more is refused
NOT_THE_USERS = ("README.md", "openml", "sample")  # in data/ of a clone, or by `download --openml`


def sample_folder() -> Path:
    """Return the embedded sample's folder, in an installed package or in `data/sample/` of a clone."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "sample"
    return installed if installed.is_dir() else package.parent / "data" / "sample"


def find(data_dir: Path | None = None) -> Path:
    """Return `data_dir` or, without one, the first of data/, Kaggle's input folders, the embedded sample.

    data/ is the clone's in the clone, else the current folder's. A folder that holds anything of the user's
    is chosen: to fall back to the sample silently would train on something else than they put there. `load`
    then says what is wrong with it.
    Raises DataError if `data_dir` is given but is not a folder.
    """
    if data_dir is None:
        kaggle = Path("/kaggle/input")
        kaggles = kaggle / "digit-recognizer", kaggle / "competitions/digit-recognizer"
        return next(filter(_is_filled, [default_folder("data"), *kaggles]), sample_folder())
    if not os.path.isdir(data_dir):  # noqa: PTH112 - Path.is_dir raises if a name is too long
        raise DataError(
            f"{data_dir}: no such folder; --data-dir takes the folder that holds "
            f"train.csv and test.csv (or .csv.gz, or {ARCHIVE})"
        )
    return data_dir


def _is_filled(folder: Path) -> bool:
    try:
        return bool(_entries(folder))
    except OSError:  # a link to nothing, or a folder that may not be read
        return os.path.lexists(folder)


def _entries(folder: Path) -> list[str]:
    """Return the names of what a user put into the folder."""
    names = (entry.name for entry in folder.iterdir())
    return sorted(name for name in names if name not in NOT_THE_USERS and not name.startswith("."))


def read(folder: Path, name: str) -> tuple[Iterator[bytes], str]:
    """Return the lines of a folder's train.csv or test.csv, and the name that messages give it.

    Of a longer line than MAX_LINE, come the first MAX_LINE + 1 bytes.
    Raises DataError if there is none or, while lines are read, if it cannot be read or is too large.
    """
    for path in (folder / name, folder / f"{name}.gz", folder / f"{name}.zip", folder / ARCHIVE):
        if os.path.lexists(path):
            return read_file(path, name)
    try:
        names = _entries(folder)
    except OSError as error:
        raise unreadable(folder, error) from None
    found = "; if the files lie elsewhere, name their folder with --data-dir"
    if names:
        nested = [f"{each}/{name}" if os.path.lexists(folder / each / name) else each for each in names[:5]]
        found = f", but found {', '.join(nested)}{', ...' if len(names) > 5 else ''}; "
        found += "rename the file, or name its folder with --data-dir"
    raise DataError(f"{folder}: holds neither {name}, {name}.gz nor {ARCHIVE}{found}. {DOWNLOAD_HINT}")


def read_file(path: Path, name: str) -> tuple[Iterator[bytes], str]:
    """Return what `read` returns, of a plain or gzipped file, or of `name` in an archive."""
    return _lines(path, name), f"{path} ({name})" if path.suffix == ".zip" else str(path)


def _lines(path: Path, name: str) -> Iterator[bytes]:
    size = 0
    try:
        with _open(path, name) as file:
            while line := file.readline(MAX_LINE + 1):
                size += len(line)
                if size > MAX_UNPACKED_BYTES:
                    raise BadZipFile(f"it unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
                yield line
    except (OSError, *BROKEN_ARCHIVE) as error:
        raise unreadable(path, error) from None


@contextmanager
def _open(path: Path, name: str) -> Iterator[IO[bytes]]:
    if path.suffix != ".zip":
        with open_plain(path) as file:
            yield cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if path.suffix == ".gz" else file
        return
    with open_zip(read_plain(path, MAX_UNPACKED_BYTES)) as archive:
        # In whatever folder: programs pack a folder with its name.
        found = [entry for entry in archive.infolist() if re.split(r"[/\\]", entry.filename)[-1] == name]
        if len(found) != 1:
            what = f"{len(found)} files called {name}, expected one" if found else f"no {name}"
            raise DataError(f"{path}: holds {what}; download the archive again")
        if found[0].compress_type not in (ZIP_STORED, ZIP_DEFLATED):  # others are unpacked without a bound
            raise BadZipFile(f"{name} is not compressed by deflate")
        with archive.open(found[0]) as member:
            yield io.BufferedReader(cast("io.RawIOBase", member), 2**20)


def unreadable(path: Path, error: BaseException) -> DataError:
    """Return the error that says why the file cannot be read."""
    reason, advice = str(error) or type(error).__name__, "download it again"
    if isinstance(error, OSError) and error.strerror:
        reason, advice = error.strerror, "expected a file that you may read"
    if path.is_symlink() and isinstance(error, FileNotFoundError):
        reason = "a link to what is not there"
    return DataError(f"{path}: cannot be read ({reason}); {advice}")
