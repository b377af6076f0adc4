"""Files and folders that appear whole or not at all, and locks between processes."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from digit_recognizer.errors import RunError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path`; a reader sees the old file or the new one, never a part.

    Raises OSError if it cannot be written.
    """
    partial = _hidden(path, secrets.token_hex(4))
    try:
        with partial.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `final` when the block ends without an exception.

    No system renames a folder onto a full one, so the older folder is moved aside first. It is deleted only
    while the new one is in place, and `restore` brings it back if the process was killed in between.
    Raises OSError if the folder cannot be written.
    """
    final = final.resolve()  # a link to a folder on another disk stays a link
    restore(final)
    filling, old = _hidden(final, secrets.token_hex(4)), _hidden(final, "old")
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
