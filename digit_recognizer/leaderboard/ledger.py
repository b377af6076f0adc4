"""What was submitted from a folder of runs, and the locks that make it once."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from digit_recognizer import runs
from digit_recognizer.errors import NotSubmittedError, RunError
from digit_recognizer.files import write_atomically
from digit_recognizer.leaderboard.worker import TAG
from digit_recognizer.manifest import KaggleOutcome, Sha256
from digit_recognizer.records import first_error
from digit_recognizer.runs import Run

LEDGER = ".submitted.json"  # in the folder of the runs: SHA-256 of each submitted file -> its latest outcome
TAG_HASH = 12  # digits of the SHA-256 in a tag
LOCK_SECONDS = 30.0  # for a read and a write of the ledger by others
_ENTRIES = TypeAdapter(dict[Sha256, KaggleOutcome])


def own_tag(message: str) -> re.Match[str] | None:
    """Return the tag of the submission itself: the last, as messages may quote others before it."""
    return max(TAG.finditer(message), key=re.Match.start, default=None)


def is_of_file(message: str, sha256: str) -> bool:
    """Return whether a submission's message says that it is of the file with that SHA-256."""
    tag = own_tag(message)
    return tag is not None and tag[1] == sha256[:TAG_HASH]


def read(out: Path) -> dict[str, KaggleOutcome]:
    """Return what was submitted from `out`, by the files' SHA-256; raises NotSubmittedError if damaged."""
    path = out / LEDGER
    try:
        return _ENTRIES.validate_json(path.read_bytes()) if path.exists() else {}
    except OSError as error:
        raise NotSubmittedError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        raise NotSubmittedError(
            f"{path}: {first_error(error)}; mend it, or delete it to forget what was submitted"
        ) from None


def sent_at(out: Path, outcome: KaggleOutcome) -> datetime:
    """Return when a submission was sent, in UTC; raises NotSubmittedError if the ledger does not tell."""
    try:
        moment = datetime.fromisoformat(outcome.submitted_at)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise NotSubmittedError(
            f"{out / LEDGER}: {outcome.file_sha256}.submitted_at: found {outcome.submitted_at[:60]!r}, "
            "expected a date and time; mend it, or delete the file to forget what was submitted"
        ) from None


def update(out: Path, sha256: str, outcome: KaggleOutcome | None, run: Run | None = None) -> Run | None:
    """Store a file's outcome in the ledger, and in its run's manifest; None removes it from the ledger.

    Returns the changed run. Raises RunError if one of them cannot be written.
    """
    lock = out / f"{LEDGER}.lock"
    with _held(lock, LOCK_SECONDS, lambda: RunError(f"{lock}: is held by another process; try again")):
        entries = read(out)
        entries.pop(sha256, None)
        if outcome is not None:
            entries[sha256] = outcome
        try:
            write_atomically(out / LEDGER, _ENTRIES.dump_json(entries, indent=2) + b"\n")
        except OSError as error:
            raise RunError(f"{out / LEDGER}: cannot be written ({error.strerror})") from None
        # The manifest is read again: what others stored in it since stays.
        return runs.record_kaggle(runs.load(run.folder), outcome) if run and outcome else run


@contextmanager
def only_submitter(out: Path, file: Path, sha256: str) -> Iterator[None]:
    """Hold the right to submit the file with that SHA-256, which ends with the process at the latest.

    Raises NotSubmittedError if another process has it.
    """
    lock = out / f".submitting-{sha256[:TAG_HASH]}.lock"
    busy = f"{file}: another command is submitting this very file now; `submissions` shows what becomes of it"
    with _held(lock, 0, lambda: NotSubmittedError(busy)):
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()  # while it is held, so that nobody waits for a deleted lock


@contextmanager
def _held(path: Path, seconds: float, busy: Callable[[], Exception]) -> Iterator[None]:
    lock = FileLock(path, timeout=seconds)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise busy() from None
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        lock.release()
