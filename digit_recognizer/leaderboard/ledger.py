"""What was submitted from a folder of runs, and the locks that make it once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from digit_recognizer import runs
from digit_recognizer.errors import NotSubmittedError, RunError
from digit_recognizer.files import locked, write_atomically
from digit_recognizer.leaderboard.messages import HASH_DIGITS
from digit_recognizer.manifest import KaggleOutcome, Sha256
from digit_recognizer.records import first_error
from digit_recognizer.runs import Run

LEDGER = ".submitted.json"  # in the folder of the runs: SHA-256 of each submitted file -> its latest outcome
LOCK_SECONDS = 30.0  # for a read and a write of the ledger by others
_ENTRIES = TypeAdapter(dict[Sha256, KaggleOutcome])


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


def previous_outcome(out: Path, sha256: str, run: Run | None) -> KaggleOutcome | None:
    """Return the outcome of the file's latest submission from here, from the ledger or its run."""
    stored = run.manifest.kaggle if run else None
    if stored is not None and stored.file_sha256 != sha256:
        stored = None
    return read(out).get(sha256, stored)


def update(out: Path, sha256: str, outcome: KaggleOutcome | None, run: Run | None = None) -> Run | None:
    """Store a file's outcome in the ledger, and in its run's manifest; None removes it from the ledger.

    Returns the changed run. Raises RunError if one of them cannot be written.
    """
    lock = out / f"{LEDGER}.lock"
    with locked(lock, RunError(f"{lock}: is held by another process; try again"), seconds=LOCK_SECONDS):
        entries = read(out)
        entries.pop(sha256, None)
        if outcome is not None:
            entries[sha256] = outcome
        write_atomically(out / LEDGER, _ENTRIES.dump_json(entries, indent=2) + b"\n")
        # The manifest is read again: what others stored in it since stays.
        return runs.record_kaggle(runs.load(run.folder), outcome) if run and outcome else run


@contextmanager
def only_submitter(out: Path, file: Path, sha256: str) -> Iterator[None]:
    """Hold the right to submit the file with that SHA-256, which ends with the process at the latest.

    Raises NotSubmittedError if another process has it.
    """
    lock = out / f".submitting-{sha256[:HASH_DIGITS]}.lock"
    busy = f"{file}: another command is submitting this very file now; `submissions` shows what becomes of it"
    with locked(lock, NotSubmittedError(busy), delete=True):
        yield
