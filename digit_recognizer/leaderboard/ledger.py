"""What was submitted from a folder of runs, and what became of it."""

import math
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, RootModel

from digit_recognizer import records, runs, scoring
from digit_recognizer.data import COMPETITION_ROWS
from digit_recognizer.errors import DigitRecognizerError, NotSubmittedError, RunError
from digit_recognizer.files import locked
from digit_recognizer.manifest import ExpectedScore, Sha256
from digit_recognizer.records import Record
from digit_recognizer.scoring import Accuracy

LOCK_SECONDS = 30.0  # for a read and a write of the ledger by others
NEWS = {"ref", "status", "public_score"}  # what an outcome tells of Kaggle's latest answer
OF_RUN = {"run", "validation", "expected"}  # what it tells of the run
HASH_DIGITS = 12  # of the file's SHA-256, in a tag
# In the message of each submission: the start of the file's SHA-256, and the attempt.
TAG = re.compile(rf"\[[0-9a-f]{{{HASH_DIGITS}}}-[0-9a-f]{{4}}\]")


def tag_of(message: str) -> str:
    """Return a submission's own tag: the last, as messages may quote others before it; "" without one."""
    return ["", *TAG.findall(message)][-1]


def _to_utc(value: object) -> object:
    """Return a moment in UTC, which it is in if it does not say so; None if it is empty."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and value else value or None
        if isinstance(moment, datetime):
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("expected a date and time") from None
    return moment


def _to_score(value: object) -> float | None:
    try:
        score = float(str(value))
    except ValueError:
        return None
    return score if math.isfinite(score) else None


UtcDatetime = Annotated[datetime | None, BeforeValidator(_to_utc)]


class Submission(Record):
    """A submission's public score, and what the run that wrote the file promised when it was sent.

    validation: the run's validation accuracy. expected: the score that it expected. A resumed run writes
    another file.
    """

    public_score: Annotated[float | None, BeforeValidator(_to_score)] = None
    run: str | None = None
    validation: Accuracy | None = Field(
        default=None,
        validation_alias=AliasChoices("validation", "local"),  # as earlier versions wrote it
    )
    expected: ExpectedScore | None = None

    @property
    def errors(self) -> int | None:
        """The number of errors on the test digits that the public score stands for."""
        if self.public_score is None or not 0 <= self.public_score <= 1:
            return None
        return scoring.errors(self.public_score, COMPETITION_ROWS["test.csv"])

    @property
    def place(self) -> str | None:
        """Where the public score is, by the interval that was expected; None without both."""
        score = self.public_score
        return None if self.expected is None or score is None else self.expected.place(score)


class KaggleSubmission(Submission):
    """One of the account's submissions, as Kaggle lists it."""

    ref: Annotated[int, Field(gt=0)]
    date: UtcDatetime = None
    file_name: str
    description: str
    status: Literal["PENDING", "COMPLETE", "ERROR"]
    error_description: str

    @property
    def hash_start(self) -> str:
        """The start of its file's SHA-256, as its own tag tells it; "" without one."""
        return tag_of(self.description)[1 : 1 + HASH_DIGITS]


class KaggleOutcome(Submission):
    """What became of a file's latest submission.

    status: SENT while it is not known whether Kaggle has it, then Kaggle's PENDING, COMPLETE or ERROR.
    """

    ref: int | None = None
    status: Literal["SENT", "PENDING", "COMPLETE", "ERROR"] = "SENT"
    message: str
    submitted_at: UtcDatetime = None
    file_sha256: Sha256

    @property
    def accepted(self) -> bool:
        """Whether it is certain that Kaggle has the submission: its number proves it."""
        return self.status != "SENT" and bool(self.ref)


class _Ledger(RootModel[dict[Sha256, KaggleOutcome]]):
    """The file: by the SHA-256 of each."""


def sent(message: str, sha256: str, run: runs.Run | None) -> KaggleOutcome:
    """Return the outcome of a file that is sent, by the run that wrote it."""
    promised: dict[str, Any] = {}
    if run is not None:
        score = run.main_score.model_dump(include={"accuracy", "low", "high"})
        promised = {"validation": Accuracy(**score), "expected": run.manifest.expected_score}
        promised["run"] = run.folder.resolve().name
    return KaggleOutcome(message=message, file_sha256=sha256, **promised)


def read(out: Path) -> dict[str, KaggleOutcome]:
    """Return what was submitted from `out`, by the files' SHA-256; raises NotSubmittedError if damaged."""
    try:
        return records.read(out / runs.LEDGER, _Ledger).root if os.path.lexists(out / runs.LEDGER) else {}
    except RunError as error:
        raise NotSubmittedError(f"{error}; mend it, or delete it to forget what was submitted") from None


def update(out: Path, outcomes: Mapping[str, KaggleOutcome | None]) -> None:
    """Store outcomes by the files' SHA-256; None removes one. Raises RunError if they cannot be written."""
    lock = out / f"{runs.LEDGER}.lock"
    with locked(lock, RunError(f"{lock}: is held by another process; try again"), seconds=LOCK_SECONDS):
        entries = {sha256: outcome for sha256, outcome in {**read(out), **outcomes}.items() if outcome}
        records.write(out / runs.LEDGER, _Ledger(entries))


def match(
    submissions: list[KaggleSubmission], out: Path, on_notice: Callable[[str], None]
) -> list[KaggleSubmission]:
    """Return Kaggle's list with what the runs in `out` promised; the ledger is told the news."""
    newest_last = reversed(runs.list_all(out, on_notice))
    here = {run.manifest.submission_sha256: run for run in newest_last}  # the newest of equal files
    known = read(out)
    files = {sha256[:HASH_DIGITS]: sha256 for sha256 in filter(None, [*here, *known])}
    news, matched = {}, []
    for listed in submissions:
        sha256 = files.get(listed.hash_start, "")
        stored = known.get(sha256)
        if sha256 and (stored is None or stored.ref in (None, listed.ref)):
            if stored is None or stored.run is None:
                stored = sent(listed.description, sha256, here.get(sha256))
            fields = {"message": listed.description, "submitted_at": listed.date}
            stored = stored.model_copy(update=fields | listed.model_dump(include=NEWS))
            news[sha256] = known[sha256] = stored
        promised = {name: getattr(stored, name) for name in OF_RUN} if stored else {}
        matched.append(listed.model_copy(update=promised))
    try:
        update(out, news)
    except DigitRecognizerError as error:
        on_notice(str(error))
    return matched
