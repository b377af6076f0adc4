"""Plain files to read, files and folders that appear whole or not at all, and locks between processes."""

import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

from filelock import FileLock, Timeout

from digit_recognizer.errors import RunError

TOKEN_BYTES = 4  # of the random end of a partial file's name
REPLACE_TRIES = 10
MAX_ENTRIES = 10_000  # of a zip archive


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a plain file to read its bytes.

    A FIFO would wait for a writer, and a device may never end, wherever a link leads.
    Raises OSError, whose `strerror` says why, for anything that is no plain file or cannot be opened.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "is no plain file", str(path))
            yield file
    except ValueError as error:  # Python's, of a NUL in the path
        if "\0" not in str(path):
            raise
        raise OSError(errno.EINVAL, str(error), str(path)) from None


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # else a FIFO waits here


def read_plain(path: Path, limit: int) -> bytes:
    """Return the content of a plain file of at most `limit` bytes.

    Raises OSError, whose `strerror` says why, for a longer one and as `open_plain` does.
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"is larger than {limit:,} bytes", str(path))
        content = file.read(size + 1)  # takes memory for as many at once
    if len(content) > size:
        raise OSError(errno.EFBIG, "has grown while it was read", str(path))
    return content


def open_zip(content: bytes) -> ZipFile:
    """Open a zip archive; raise what zipfile raises for damage, and for more entries than any of ours has.

    zipfile makes objects of all entries at once, twenty times as large as what an entry takes in the file.
    """
    entries = content.count(b"PK\x01\x02")
    if entries > MAX_ENTRIES:
        raise BadZipFile(f"it has {entries:,} entries, expected at most {MAX_ENTRIES:,}")
    return ZipFile(BytesIO(content))


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path`; a reader sees the old file or the new one, never a part.

    Raises OSError if it cannot be written.
    """
    partial = _hidden(path, secrets.token_hex(TOKEN_BYTES))
    try:
        with partial.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        _replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _replace(partial: Path, path: Path) -> None:
    """Give `partial` the name `path`; on Windows, wait a second for those who have that file open."""
    for _ in range(REPLACE_TRIES if os.name == "nt" else 0):
        with suppress(PermissionError):
            partial.replace(path)
            return
        time.sleep(1 / REPLACE_TRIES)
    partial.replace(path)


def is_partial(path: Path) -> bool:
    """Return whether it is what a killed `write_atomically` left."""
    return re.fullmatch(rf"\..+-[0-9a-f]{{{2 * TOKEN_BYTES}}}", path.name) is not None


def delete(path: Path) -> None:
    """Delete a file, a link or a whole folder, as far as it is there and can be deleted."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `final` when the block ends without an exception.

    No system renames a folder onto a full one, so the older folder is moved aside first. It is deleted only
    while the new one is in place, and `restore` brings it back if the process was killed in between.
    Raises OSError if the folder cannot be written.
    """
    final = final.resolve()  # a link to a folder on another disk stays a link
    restore(final)
    filling, old = _hidden(final, secrets.token_hex(TOKEN_BYTES)), _hidden(final, "old")
    try:
        filling.mkdir()
        yield filling
        if final.exists():
            final.rename(old)
        filling.rename(final)
    finally:
        restore(final)
        shutil.rmtree(filling, ignore_errors=True)


def restore(final: Path) -> None:
    """Bring back the older folder if an `atomic_folder` was killed after moving it aside, else delete it."""
    final = final.resolve()
    old = _hidden(final, "old")
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        old.rename(final)


@contextmanager
def locked(path: Path, busy: Exception, *, seconds: float = 0, delete: bool = False) -> Iterator[None]:
    """Hold the lock in the file `path`, which ends with the process at the latest.

    Raises `busy` if another process holds it for `seconds`, RunError if its folder cannot be written.
    delete: delete the file in the end.
    """
    lock = FileLock(path, timeout=seconds)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise busy from None
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        if delete:
            with suppress(OSError):
                path.unlink()  # while it is held, so that nobody waits for a deleted lock
        lock.release()


def _hidden(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}-{suffix}")
