"""Kaggle's list of submissions beside the runs here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from digit_recognizer import runs, scoring
from digit_recognizer.data import COMPETITION_ROWS
from digit_recognizer.errors import DigitRecognizerError
from digit_recognizer.leaderboard import ledger
from digit_recognizer.leaderboard.ledger import (
    HASH_DIGITS,
    KaggleOutcome,
    KaggleSubmission,
    ValidationScore,
)  # fmt: skip
from digit_recognizer.manifest import ExpectedScore


@dataclass(frozen=True)
class MatchedSubmission:
    """One of the account's submissions, and what the ledger says of its file, if it is from here."""

    listed: KaggleSubmission
    stored: KaggleOutcome | None = None

    @property
    def validation(self) -> ValidationScore | None:
        """The run's validation accuracy when it was submitted."""
        return self.stored.validation if self.stored else None

    @property
    def expected(self) -> ExpectedScore | None:
        """What score the run expected then."""
        return self.stored.expected if self.stored else None

    @property
    def place(self) -> str | None:
        """Whether the public score is inside the interval that was expected, or on which side."""
        if self.stored is None:
            return None
        return self.stored.model_copy(update={"public_score": self.listed.public_score}).place

    @property
    def errors(self) -> int | None:
        """The number of test digits that the public score says were predicted wrong."""
        score = self.listed.public_score
        return None if score is None else scoring.errors(score, COMPETITION_ROWS["test.csv"])

    @property
    def gap(self) -> float | None:
        """The public score less the validation accuracy."""
        if self.validation is None or self.listed.public_score is None:
            return None
        return self.listed.public_score - self.validation.accuracy


def match_submissions(
    submissions: list[KaggleSubmission], out: Path, on_notice: Callable[[str], None]
) -> list[MatchedSubmission]:
    """Return Kaggle's list beside the ledger, which is told the news, and the runs in `out`."""
    listed_runs, problems = runs.list_all(out)
    for problem in problems:
        on_notice(problem)
    known = ledger.read(out)
    here = {run.manifest.submission_sha256: run for run in reversed(listed_runs)}  # the newest of equal files
    files = {sha256[:HASH_DIGITS]: sha256 for sha256 in filter(None, [*here, *known])}
    news, matches = {}, []
    for listed in submissions:
        sha256 = files.get(listed.hash_start, "")
        stored = known.get(sha256)
        if sha256 and (stored is None or stored.ref in (None, listed.ref)):
            if stored is None or stored.run is None:
                stored = ledger.sent(listed.description, sha256, here.get(sha256))
            fields = {"message": listed.description, "submitted_at": listed.date}
            stored = stored.model_copy(update=fields | listed.model_dump(include=ledger.NEWS))
            news[sha256] = known[sha256] = stored
        matches.append(MatchedSubmission(listed, stored))
    try:
        ledger.update(out, news)
    except DigitRecognizerError as error:
        on_notice(str(error))
    return matches
