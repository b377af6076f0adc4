"""A submission's way to Kaggle: once, whatever happens to the answers, and what became of it."""

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    stop_before_delay,
)

from digit_recognizer import runs, submission
from digit_recognizer.errors import (
    CompetitionError,
    CredentialsError,
    DigitRecognizerError,
    NetworkError,
    QuotaError,
    RefusedError,
    RejectedError,
    RunError,
    StoppedError,
)
from digit_recognizer.leaderboard.candidate import (
    SHORT,
    Candidate,
    Outcome,
    local_score,
    record,
    remember,
    twice,
)
from digit_recognizer.leaderboard.client import ATTEMPTS, Kaggle, Listed
from digit_recognizer.runs import Run

TAG = re.compile(rf"\[([0-9a-f]{{{SHORT}}})-[0-9a-f]{{4}}\]")
OnText = Callable[[str], None]


def submit(
    one: Candidate, kaggle: Kaggle, *, force: bool = False, on_notice: OnText, on_state: OnText
) -> Outcome:
    """Submit the file once, and know whether Kaggle has it; the outcome is PENDING then.

    Raises RefusedError if Kaggle has it already, StoppedError on Ctrl-C, and what `Kaggle` raises.
    """
    try:
        on_state("Asking Kaggle whether it has this file")
        found = None if force else _among(kaggle.submissions(), one.sha256[:SHORT])
        if found is not None:
            attempt = TAG.search(one.earlier.message) if one.earlier else None
            if one.earlier is None or attempt is None or attempt[0] not in found.description:
                raise twice(one.file, found.ref, found.public_score)
            on_notice(f"The attempt before this one had come through: submission {found.ref}")
            return record(one, replace(one.earlier, ref=found.ref, status="PENDING"))
        on_state("Uploading")
        token = kaggle.upload(one.file)
    except KeyboardInterrupt:
        raise StoppedError("Stopped; nothing was submitted") from None

    sent = Outcome(
        None, "SENT", None, one.message, datetime.now(UTC).isoformat(timespec="seconds"), one.sha256
    )
    try:
        try:
            remember(one, sent)
        except RunError as error:
            raise RefusedError(f"{error}; nothing was submitted") from None
        on_state("Submitting")
        ref = _create(one, kaggle, token, on_notice)
        on_notice(f"Kaggle has the file: submission {ref}")
        return record(one, replace(sent, ref=ref, status="PENDING"))
    except KeyboardInterrupt:
        on_state("Looking whether Kaggle has the file; Ctrl-C again ends this too")
        raise StoppedError(_left_behind(one, kaggle, sent)) from None
    except NetworkError as error:
        if not error.lost:
            remember(one, one.earlier)
        raise
    except (CredentialsError, CompetitionError, QuotaError, RejectedError):
        remember(one, one.earlier)
        raise


def _create(one: Candidate, kaggle: Kaggle, token: str, on_notice: OnText) -> int:
    """Submit what was uploaded: again only where Kaggle certainly did not take it.

    Where no answer came, Kaggle's list may say that it did. That it is not there says nothing, as the list
    may lag behind: then it is for a later command to look again.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return kaggle.create(token, one.message)
        except NetworkError as error:
            failure = error
        if failure.lost or not failure.again or attempt == ATTEMPTS:
            break
        on_notice(f"{failure}. Trying again")
        time.sleep(max(failure.pause, kaggle.limits.backoff(attempt)))
    if not failure.lost:
        raise NetworkError(f"{failure}. Nothing was submitted", lost=False)
    on_notice(f"{failure}. Looking whether Kaggle has the file")
    found = _look_up(one, kaggle, failure)
    if found is not None:
        return found.ref
    raise NetworkError(
        f"{failure}. Kaggle's list does not have the file yet; the same command looks for it first, "
        "and submits it only if it still is not there"
    )


def _look_up(one: Candidate, kaggle: Kaggle, failure: NetworkError) -> Listed | None:
    """The submission with the candidate's tag, looked for a few times: the list may lag behind."""
    looking = Retrying(
        retry=retry_if_result(lambda found: found is None),
        stop=stop_after_attempt(ATTEMPTS),
        wait=lambda state: kaggle.limits.backoff(state.attempt_number),
        retry_error_callback=lambda state: None,
    )
    try:
        return looking(lambda: _among(kaggle.submissions(all_pages=False), one.tag))
    except DigitRecognizerError as error:
        raise NetworkError(
            f"{failure}. It is not known whether Kaggle has the file ({error}); "
            "the same command looks for it first, and does not submit it twice"
        ) from None


def _left_behind(one: Candidate, kaggle: Kaggle, sent: Outcome) -> str:
    """What Ctrl-C while submitting left behind."""
    try:
        found = _among(kaggle.submissions(all_pages=False), one.tag)
    except (DigitRecognizerError, KeyboardInterrupt):
        found = None
    if found is None:
        return (
            "Stopped while submitting; Kaggle's list does not have the file yet. The same command looks for "
            "it first, and does not submit it twice"
        )
    record(one, replace(sent, ref=found.ref, status="PENDING"))
    return f"Stopped; the file is in, submission {found.ref}; `submissions` shows its score"


def wait(one: Candidate, outcome: Outcome, kaggle: Kaggle, *, on_state: OnText) -> Outcome:
    """Wait for the score as long as the limits say; the outcome is COMPLETE, or still PENDING.

    Raises RejectedError with Kaggle's reason for ERROR, and StoppedError on Ctrl-C.
    """

    def pause(state: RetryCallState) -> float:
        on_state(f"Submission {outcome.ref} is in; waiting for its score")
        return kaggle.limits.backoff(state.attempt_number)

    waiting = Retrying(
        # Once it is in, trouble with the network only means that the score is not known yet.
        retry=retry_if_exception_type((NetworkError, CredentialsError))
        | retry_if_result(lambda found: found is None or found.status == "PENDING"),
        stop=stop_before_delay(kaggle.limits.wait),
        wait=pause,
        retry_error_callback=lambda state: None,
    )
    try:
        found = waiting(lambda: _among(kaggle.submissions(all_pages=False), one.tag, outcome.ref))
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped; the file is in, submission {outcome.ref}; `submissions` shows its score"
        ) from None
    if found is None:
        return outcome
    outcome = record(
        one, replace(outcome, ref=found.ref, status=found.status, public_score=found.public_score)
    )
    if found.status == "ERROR":
        raise RejectedError(f"{one.file}: {rejected(found)}")
    return outcome


def rejected(one: Listed) -> str:
    """Kaggle's verdict on a submission that it could not score."""
    reason = " ".join(one.error.split()) or "no reason given"
    return f"Kaggle could not score submission {one.ref}. Kaggle says: {reason}"


def _among(listed: list[Listed], tag: str, ref: int | None = None) -> Listed | None:
    """The newest submission of that number, or with that part of a tag in its message."""
    return next((one for one in listed if tag in one.description or (ref and one.ref == ref)), None)


@dataclass(frozen=True)
class Matched:
    """One of the account's submissions and the run here that it came from."""

    listed: Listed
    run: Run | None
    local: dict[str, float] | None  # accuracy, low and high on held-out rows

    @property
    def gap(self) -> float | None:
        """Public score less local score."""
        if self.local is None or self.listed.public_score is None:
            return None
        return self.listed.public_score - self.local["accuracy"]


def matched(listed: list[Listed], out: Path) -> list[Matched]:
    """Kaggle's list with the runs in `out`; what it says of a run's submission is stored in the run."""
    every = runs.every(out)
    by_ref = {run.manifest["kaggle"]["ref"]: run for run in every if "kaggle" in run.manifest}
    by_file = {submission.sha256(run.submission)[:SHORT]: run for run in every if run.submission.exists()}
    found = []
    for one in listed:
        tag = TAG.search(one.description)
        run = by_ref.get(one.ref) or (by_file.get(tag[1]) if tag else None)
        if run is not None:
            _refresh(run, one)
        found.append(Matched(one, run, local_score(run)))
    return found


def _refresh(run: Run, one: Listed) -> None:
    known = run.manifest.get("kaggle")
    if known is None:  # submitted from elsewhere, or its answer was lost
        found = Outcome(
            one.ref,
            one.status,
            one.public_score,
            one.description,
            one.date or "",
            submission.sha256(run.submission),
        )
        runs.record_kaggle(run, asdict(found))
    elif known["ref"] == one.ref and known["status"] != one.status:
        runs.record_kaggle(run, known | {"status": one.status, "public_score": one.public_score})
