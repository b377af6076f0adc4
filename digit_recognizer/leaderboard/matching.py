"""Kaggle's list of submissions beside the runs here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from digit_recognizer import runs
from digit_recognizer.errors import DigitRecognizerError
from digit_recognizer.leaderboard import ledger
from digit_recognizer.leaderboard.ledger import KaggleOutcome, KaggleSubmission, LocalScore


@dataclass(frozen=True)
class MatchedSubmission:
    """One of the account's submissions, and the run here that wrote its file, with the run's score then."""

    listed: KaggleSubmission
    run: str | None = None
    local: LocalScore | None = None

    @property
    def gap(self) -> float | None:
        """The public score less the local score."""
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
    news, matches = {}, []
    for listed in submissions:
        sha256 = next((h for h in [*known, *filter(None, here)] if _is_of_file(listed, h, known.get(h))), "")
        stored = known.get(sha256)
        if sha256 and (stored is None or stored.ref in (None, listed.ref)):
            run = stored.model_dump(include={"run", "local"}) if stored and stored.run else {}
            news[sha256] = known[sha256] = stored = KaggleOutcome(
                ref=listed.ref,
                status=listed.status,
                public_score=listed.public_score,
                message=listed.description,
                submitted_at=listed.date,
                file_sha256=sha256,
                **(run or ledger.written_by(here.get(sha256))),
            )
        matches.append(MatchedSubmission(listed, *((stored.run, stored.local) if stored else ())))
    try:
        ledger.update(out, news)
    except DigitRecognizerError as error:
        on_notice(str(error))
    return matches


def _is_of_file(listed: KaggleSubmission, sha256: str, stored: KaggleOutcome | None) -> bool:
    """Return whether a submission is of that file: its own tag decides, if it has one."""
    return listed.is_of_file(sha256) if listed.tag else bool(stored and stored.ref == listed.ref)
