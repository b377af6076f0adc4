"""Kaggle's list of submissions beside the runs here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from digit_recognizer import runs
from digit_recognizer.errors import DigitRecognizerError
from digit_recognizer.leaderboard import ledger
from digit_recognizer.leaderboard.ledger import HASH_DIGITS, KaggleSubmission, LocalScore


@dataclass(frozen=True)
class MatchedSubmission:
    """One of the account's submissions, and the run here that wrote its file, with the run's score then."""

    listed: KaggleSubmission
    run: str | None = None
    local: LocalScore | None = None

    @property
    def gap(self) -> float | None:
        """The public score less the validation accuracy."""
        if self.local is None or self.listed.public_score is None:
            return None
        return self.listed.public_score - self.local.accuracy


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
        matches.append(MatchedSubmission(listed, *((stored.run, stored.local) if stored else ())))
    try:
        ledger.update(out, news)
    except DigitRecognizerError as error:
        on_notice(str(error))
    return matches
