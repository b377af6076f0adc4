"""Kaggle's list of submissions beside the runs here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from digit_recognizer import runs
from digit_recognizer.errors import DigitRecognizerError
from digit_recognizer.leaderboard import ledger
from digit_recognizer.leaderboard.messages import KaggleSubmission
from digit_recognizer.manifest import KaggleOutcome, ModelScore
from digit_recognizer.runs import Run


@dataclass(frozen=True)
class MatchedSubmission:
    """One of the account's submissions and the run here that it is of."""

    listed: KaggleSubmission
    run: Run | None

    @property
    def local(self) -> ModelScore | None:
        """Return the run's score on held-out rows."""
        return self.run.local_score if self.run else None

    @property
    def gap(self) -> float | None:
        """Return the public score less the local score."""
        if self.local is None or self.listed.public_score is None:
            return None
        return self.listed.public_score - self.local.accuracy


def match_submissions(
    submissions: list[KaggleSubmission], out: Path, on_notice: Callable[[str], None]
) -> list[MatchedSubmission]:
    """Return Kaggle's list with the runs in `out`, in which the outcome of their submissions is stored."""
    listed_runs, problems = runs.list_all(out)
    for problem in problems:
        on_notice(problem)
    matches = []
    for listed in submissions:
        indices = (index for index, run in enumerate(listed_runs) if _is_of_run(listed, run))
        # Of several runs of equal files, the one that this submission is stored in already.
        index = min(indices, key=lambda index: _ref(listed_runs[index]) != listed.ref, default=None)
        if index is not None:
            try:
                listed_runs[index] = _refresh(listed_runs[index], listed, out)
            except DigitRecognizerError as error:
                on_notice(str(error))
        matches.append(MatchedSubmission(listed, None if index is None else listed_runs[index]))
    return matches


def _ref(run: Run) -> int | None:
    return run.manifest.kaggle.ref if run.manifest.kaggle else None


def _is_of_run(listed: KaggleSubmission, run: Run) -> bool:
    """Return whether a submission is of the run's file: its own tag decides, if it has one."""
    if listed.tag:
        sha256 = run.manifest.submission_sha256
        return sha256 is not None and listed.is_of_file(sha256)
    return _ref(run) == listed.ref


def _refresh(run: Run, listed: KaggleSubmission, out: Path) -> Run:
    """Return the run with what Kaggle's list says of it, stored in its manifest if it is news."""
    stored, sha256 = run.manifest.kaggle, run.manifest.submission_sha256
    if sha256 is None or (
        stored and stored.ref and (stored.ref != listed.ref or stored.status == listed.status)
    ):
        return run
    outcome = KaggleOutcome(
        ref=listed.ref,
        status=listed.status,
        public_score=listed.public_score,
        message=listed.description,
        submitted_at=listed.date,
        file_sha256=sha256,
    )
    return ledger.update(out, sha256, outcome, run) or run
