"""Plain files to read, files and folders that appear whole or not at all, and locks between processes.

Where the user names a path, `user_path` takes it, and `check_output` and `write_output` write to it.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

from filelock import FileLock, Timeout

from digit_recognizer.errors import RunError, WriteError

TOKEN_BYTES = 4  # of the random end of a partial file's name
REPLACE_TRIES = 10
MAX_ENTRIES = 10_000  # of a zip archive


def user_path(name: str | os.PathLike[str]) -> Path:
    """Return the path that a user named, `~` expanded; nothing need be there.

    Raises OSError, whose `strerror` says why, if the system cannot even look: too long, a loop of links.
    """
    if not os.fspath(name):
        raise OSError(errno.EINVAL, "the path is empty")
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises for a file `~x`
    try:
        path.stat()
    except FileNotFoundError:
        if str(path).startswith("~"):
            raise OSError(errno.ENOENT, "there is no such user", str(path)) from None
    except NotADirectoryError:
        pass
    except ValueError as error:  # Python's, of a NUL
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    return path


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


@contextmanager
def writing(path: Path, advice: str = "") -> Iterator[None]:
    """Turn the system's refusal into WriteError, which names what could not be written, `path`."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({error.strerror or error}){advice}") from error


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`; a reader sees the old file or the new one, never a part.

    Text is written as UTF-8, what is no Unicode (a file name of other bytes) escaped. Raises WriteError.
    """
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    with writing(path), _partial(path, content) as partial:
        _replace(partial, path)


@contextmanager
def _partial(path: Path, content: bytes) -> Iterator[Path]:
    """Yield a hidden file beside `path` that holds the content; it is gone afterwards."""
    partial = _hidden(path, secrets.token_hex(TOKEN_BYTES))
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield partial
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


def check_folder(folder: Path, advice: str = "") -> None:
    """Raise WriteError unless `folder` can be made, or written into; it leaves nothing behind."""
    with writing(folder, advice):
        there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        with _partial(there / "x", b"x"):
            pass


def check_output(path: Path, keep: Iterable[Path] = ()) -> None:
    """Raise WriteError, before any work, unless `write_output` can write to the path that a user named.

    One of the files to keep is refused, whatever name or link leads to it.
    """
    with writing(path, "; name another file"):
        status = _status(path)
        if status and any(other and os.path.samestat(status, other) for other in map(_status, keep)):
            raise OSError(errno.EINVAL, "it is an input, or a file of a run")
        if status and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if _through(path) is not None:
            return
        if status and not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        with _partial(Path(os.path.realpath(path)), b"x"):
            pass


def write_output(path: Path, content: bytes) -> None:
    """Write to the path that a user named, or to what it links to, whole or not at all.

    A device, a FIFO, and what is stdout or stderr of this process are written through. Raises WriteError.
    """
    through = _through(path)
    if through is None:
        write_atomically(Path(os.path.realpath(path)), content)
        return
    with writing(path), open(through, "wb", closefd=through is path) as file:
        file.write(content)


def is_stdout(path: Path) -> bool:
    """Return whether `write_output` to the path goes to stdout, as to /dev/stdout."""
    return _through(path) == 1


def _through(path: Path) -> Path | int | None:
    """Return what to open where no file can take the place of the path; None for a plain file, or nothing."""
    status = _status(path)
    if status is None:
        return None
    own = (number for number in (1, 2) if os.path.samestat(status, os.fstat(number)))
    special = stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode)
    return next(own, path if special else None)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


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
    return path.with_name(f".{path.name[:200]}-{suffix}")  # a name has at most 255 bytes
