"""Kaggle's list of submissions beside the runs here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from digit_recognizer import runs, scoring
from digit_recognizer.data import COMPETITION_ROWS
from digit_recognizer.errors import DigitRecognizerError
from digit_recognizer.leaderboard import ledger
from digit_recognizer.leaderboard.ledger import HASH_DIGITS, KaggleSubmission
from digit_recognizer.manifest import Accuracy, ExpectedScore


@dataclass(frozen=True)
class MatchedSubmission:
    """One of the account's submissions, and the run here that wrote its file, with what it promised then."""

    listed: KaggleSubmission
    run: str | None = None
    validation: Accuracy | None = None
    expected: ExpectedScore | None = None

    @property
    def place(self) -> str | None:
        """Where the public score is, by the interval that was expected; None without both."""
        score = self.listed.public_score
        return self.expected.place(score) if self.expected and score is not None else None

    @property
    def errors(self) -> int | None:
        """The number of errors on the test digits that the public score stands for."""
        score = self.listed.public_score
        if score is None or not 0 <= score <= 1:
            return None
        return scoring.errors(score, COMPETITION_ROWS["test.csv"])

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
        promised = (stored.run, stored.validation, stored.expected) if stored else ()
        matches.append(MatchedSubmission(listed, *promised))
    try:
        ledger.update(out, news)
    except DigitRecognizerError as error:
        on_notice(str(error))
    return matches
