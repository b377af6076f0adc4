"""Plain files to read, files and folders that appear whole or not at all, and locks between processes."""

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

from digit_recognizer.errors import WriteError

REPLACE_TRIES = 10 if os.name == "nt" else 1
MAX_ENTRIES = 10_000  # of a zip archive


def user_path(name: str | os.PathLike[str]) -> Path:
    """Return the path that a user named, `~` expanded; nothing need be there.

    Raises OSError, whose `strerror` says why, if the system cannot even look: too long, a loop of links.
    """
    if not os.fspath(name):
        raise OSError(errno.EINVAL, "the path is empty")
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises for a file `~x`
    with suppress(NotADirectoryError):
        try:
            path.stat()
        except FileNotFoundError:
            if str(path).startswith("~"):
                raise OSError(errno.ENOENT, "there is no such user", str(path)) from None
        except ValueError:  # Python's, whose words differ between its versions
            raise OSError(errno.EINVAL, "no path can hold a NUL or a lone surrogate", str(path)) from None
    return path


def default_folder(name: str) -> Path:
    """Return the folder `name` of the clone if the current folder is in it, else of the current folder.

    The clone is where the package lies, unless it was installed from a wheel. The path is relative.
    """
    clone = Path(__file__).resolve().parents[1]
    with suppress(FileNotFoundError):  # of a current folder that was deleted
        if (clone / "data" / "sample").is_dir() and Path.cwd().is_relative_to(clone):
            return Path(os.path.relpath(clone / name))
    return Path(name)


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a plain file to read its bytes.

    A FIFO would wait for a writer, and a device may never end, wherever a link leads.
    Raises OSError, whose `strerror` says why, for anything that is no plain file or cannot be opened.
    """
    at_once = getattr(os, "O_NONBLOCK", 0)  # else a FIFO waits here
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | at_once)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no plain file", str(path))
        yield file


def read_plain(path: Path, limit: int) -> bytes:
    """Return the content of a plain file of at most `limit` bytes; raises OSError as `open_plain` does."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"is larger than {limit:,} bytes", str(path))
        return file.read(size)  # takes memory for as many at once


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
        dangling = isinstance(error, FileNotFoundError) and path.is_symlink()
        reason = "it is a link to what is not there" if dangling else error.strerror or error
        raise WriteError(f"{path}: cannot be written ({reason}){advice}") from error


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` to `path`; a reader sees the old file or the new one, never a part.

    Text is written as UTF-8, what is no Unicode (a file name of other bytes) escaped. An older file's owner
    and permissions stay, as far as the system allows. Raises WriteError.
    """
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    with writing(path), _partial(path, content) as partial:
        with suppress(OSError, AttributeError):  # there is none, or no owner on Windows
            older = path.stat()
            partial.chmod(stat.S_IMODE(older.st_mode))
            os.chown(partial, older.st_uid, older.st_gid)
        for tries_left in reversed(range(REPLACE_TRIES)):
            try:
                partial.replace(path)
                return
            except PermissionError:  # on Windows, somebody may have that file open
                if not tries_left:
                    raise
                time.sleep(1 / REPLACE_TRIES)


@contextmanager
def _partial(path: Path, content: bytes) -> Iterator[Path]:
    """Yield a hidden file beside `path` that holds the content; it is gone afterwards."""
    partial = _hidden(path)
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{path.name[:200]}-{secrets.token_hex(4)}")  # of at most 255 bytes


def is_partial(path: Path) -> bool:
    """Return whether the path is called like a file that a killed process was writing."""
    return re.fullmatch(r"\..+-[0-9a-f]{8}", path.name) is not None


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
        there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
        with _partial(there / "x", b"x"):
            pass


def check_output(path: Path, keep: Iterable[Path] = ()) -> None:
    """Raise WriteError, before any work, unless `write_output` can write to the path that a user named.

    One of the files to keep is refused, whatever name or link leads to it.
    """
    with writing(path, "; name another file"):
        if path.exists():
            if any(path.samefile(other) for other in keep if other.exists()):
                raise OSError(errno.EINVAL, "it is an input")
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if not (path.is_file() or _is_written_through(path)):
                raise OSError(errno.EINVAL, "it is no file")
        if not _is_written_through(path):
            with _partial(Path(os.path.realpath(path)), b"x"):
                pass


def write_output(path: Path, content: bytes) -> None:
    """Write to the path that a user named, or to what it links to, whole or not at all; raise WriteError.

    Devices, FIFOs, files open by number and this process's stdout are written through, as no file can take
    their place.
    """
    if not _is_written_through(path):
        write_atomically(Path(os.path.realpath(path)), content)
        return
    with writing(path), path.open("ab") as file:
        file.write(content)


def is_stdout(path: Path) -> bool:
    """Return whether the path is this process's stdout, as /dev/stdout is."""
    try:
        return os.path.samestat(path.stat(), os.fstat(1))
    except OSError:  # there is no such path, or no stdout
        return False


def _is_written_through(path: Path) -> bool:
    return path.is_fifo() or path.is_char_device() or is_stdout(path) or _is_descriptor(path)


def _is_descriptor(path: Path) -> bool:
    """Return whether the path, or what it links to, is an open file by its number, as /dev/fd/3 is."""
    for _ in range(40):  # the system follows no more links
        folder = Path(os.path.realpath(path.parent))
        if re.fullmatch("/proc/[0-9]+(/task/[0-9]+)?/fd|/dev/fd", str(folder)):
            return True
        if not path.is_symlink():
            return False
        path = folder / os.readlink(path)  # noqa: PTH115 - what may be no path of a file
    return False


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `final` when the block ends without an exception.

    No system renames a folder onto a full one, so the older folder is moved aside first; a process that is
    killed just then leaves it under a hidden name. Raises OSError if the folder cannot be written.
    """
    final = final.resolve()  # a link to a folder on another disk stays a link
    filling, older = _hidden(final), _hidden(final)
    try:
        filling.mkdir()
        yield filling
        if final.exists():
            final.rename(older)
        filling.rename(final)
    finally:
        if older.exists() and not final.exists():
            older.rename(final)
        delete(filling)
        delete(older)


@contextmanager
def locked(path: Path, busy: Exception, *, seconds: float = 0, delete: bool = False) -> Iterator[None]:
    """Hold the lock in the file `path`, which ends with the process at the latest.

    Raises `busy` if another process holds it for `seconds`, WriteError if it cannot be written.
    delete: delete the file in the end.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=seconds)
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), suppress(Timeout):
        lock.acquire()
    if not lock.is_locked:
        raise busy
    try:
        yield
    finally:
        if delete:
            with suppress(OSError):
                path.unlink()  # while it is held, so that nobody waits for a deleted lock
        lock.release()
