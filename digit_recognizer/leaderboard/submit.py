"""A submission's way to Kaggle: once, whatever happens to the answers, and what became of it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from tenacity import Retrying, retry_if_result

from digit_recognizer.errors import (
    DigitRecognizerError,
    NetworkError,
    NotSubmittedError,
    RejectedError,
    RunError,
    StoppedError,
)
from digit_recognizer.leaderboard import ledger
from digit_recognizer.leaderboard.candidate import (
    Candidate,
    already_submitted,
    previous_outcome,
    was_accepted,
)
from digit_recognizer.leaderboard.client import Kaggle, KaggleSubmission
from digit_recognizer.manifest import KaggleOutcome

OnText = Callable[[str], None]


def submit(
    candidate: Candidate, kaggle: Kaggle, *, force: bool = False, on_notice: OnText, on_state: OnText
) -> KaggleOutcome:
    """Submit the file once and return the outcome, which is PENDING: Kaggle has it.

    Raises NotSubmittedError if Kaggle has it already or another process is submitting it, StoppedError on
    Ctrl-C, and what `Kaggle` raises.
    """
    with ledger.only_submitter(candidate.out, candidate.file, candidate.sha256):
        # Read again: the process that held the lock before this one may have submitted the file.
        previous = previous_outcome(candidate.out, candidate.sha256, candidate.run)
        try:
            if not force:
                if previous and was_accepted(previous):
                    raise already_submitted(candidate.file, previous.ref, previous.public_score)
                if listed := _find_earlier(candidate, previous, kaggle, on_notice, on_state):
                    return _record_earlier(candidate, previous, listed, on_notice)
            on_state("Uploading")
            token = kaggle.upload(candidate.content, candidate.upload_name)
        except KeyboardInterrupt:
            raise StoppedError(
                "Stopped; nothing was submitted"
                if previous is None or was_accepted(previous)
                else "Stopped; nothing was submitted, and it is still not known whether Kaggle has the file "
                "from the attempt before"
            ) from None
        return _send(candidate, previous, token, kaggle, on_notice, on_state)


def _find_earlier(
    candidate: Candidate, previous: KaggleOutcome | None, kaggle: Kaggle, on_notice: OnText, on_state: OnText
) -> KaggleSubmission | None:
    """Return the file's submission in Kaggle's list, None without one.

    If it is not known what became of the previous attempt, wait for it to appear: the list may lag.
    """

    def look(all_pages: bool) -> KaggleSubmission | None:
        listed = kaggle.submissions(all_pages=all_pages)
        return next((row for row in listed if ledger.is_of_file(row.description, candidate.sha256)), None)

    on_state("Asking Kaggle whether it has this file")
    listed = look(all_pages=True)
    if listed or previous is None or was_accepted(previous):
        return listed
    lag = kaggle.limits.list_lag
    age = (datetime.now(UTC) - ledger.sent_at(candidate.out, previous)).total_seconds()
    if (seconds := min(lag - age, lag)) > 0:
        on_notice(
            "It is not known whether Kaggle has the file from the attempt before this one; looking for it in "
            f"Kaggle's list for {seconds:.0f} more seconds (--force submits at once)"
        )
        listed = _poll(lambda: look(all_pages=False), kaggle, seconds)
    if listed is None:
        on_notice(
            f"Kaggle's list does not have the file {max(age, lag):.0f} seconds after the attempt before this "
            "one; submitting it again"
        )
    return listed


def _record_earlier(
    candidate: Candidate, previous: KaggleOutcome | None, listed: KaggleSubmission, on_notice: OnText
) -> KaggleOutcome:
    """Record that the previous attempt came through; raises NotSubmittedError if it was another one."""
    tag = ledger.own_tag(previous.message) if previous else None
    listed_tag = ledger.own_tag(listed.description)
    if previous is None or tag is None or listed_tag is None or tag[0] != listed_tag[0]:
        raise already_submitted(candidate.file, listed.ref, listed.public_score)
    on_notice(f"The attempt before this one had come through: submission {listed.ref}")
    return _record(candidate, previous.model_copy(update={"ref": listed.ref, "status": "PENDING"}))


def _send(
    candidate: Candidate,
    previous: KaggleOutcome | None,
    token: str,
    kaggle: Kaggle,
    on_notice: OnText,
    on_state: OnText,
) -> KaggleOutcome:
    """Make the uploaded file a submission. The ledger says so first: this process may be killed any time."""
    sent = KaggleOutcome(
        ref=None,
        status="SENT",
        public_score=None,
        message=candidate.message,
        submitted_at=_now(),
        file_sha256=candidate.sha256,
    )
    ref = None
    try:
        try:
            ledger.update(candidate.out, candidate.sha256, sent)
        except RunError as error:
            raise NotSubmittedError(f"{error}; nothing was submitted") from None
        on_state("Submitting")
        try:
            ref = _create(candidate, kaggle, token, on_notice)
        except DigitRecognizerError as error:
            given_up = sent.model_copy(update={"submitted_at": _now()})  # Kaggle had until now to accept it
            ledger.update(candidate.out, candidate.sha256, given_up if error.outcome_unknown else previous)
            raise
        on_notice(f"Kaggle has the file: submission {ref}")
        return _record(candidate, sent.model_copy(update={"ref": ref, "status": "PENDING"}))
    except KeyboardInterrupt:
        on_state("Looking whether Kaggle has the file; Ctrl-C again ends this too")
        raise StoppedError(_interrupt_message(candidate, kaggle, sent, ref)) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _create(candidate: Candidate, kaggle: Kaggle, token: str, on_notice: OnText) -> int:
    """Return the number of the submission that the uploaded file becomes.

    If no usable answer came, Kaggle's list may have it. The list may lag, so absence proves nothing.
    """
    try:
        return kaggle.create(token, candidate.message)
    except NetworkError as error:
        if not error.outcome_unknown:
            raise NetworkError(f"{error}. Nothing was submitted", outcome_unknown=False) from None
        failure = error
    on_notice(f"{failure}. Looking whether Kaggle has the file")
    seconds = kaggle.limits.backoff(1) + kaggle.limits.backoff(2)
    try:
        listed = _poll(lambda: _find_attempt(candidate, kaggle), kaggle, seconds)
    except DigitRecognizerError as error:
        raise NetworkError(
            f"{failure}. It is not known whether Kaggle has the file ({error}); {_promise(kaggle)}"
        ) from None
    if listed is None:
        raise NetworkError(f"{failure}. Kaggle's list does not have the file yet; {_promise(kaggle)}")
    return listed.ref


def _promise(kaggle: Kaggle) -> str:
    """Return what the next `submit` of the same file does, which `_find_earlier` keeps."""
    return (
        "the same command looks for it first, and submits it again only if the list still does not have it "
        f"{kaggle.limits.list_lag:g} seconds from now (--list-lag)"
    )


def _find_attempt(candidate: Candidate, kaggle: Kaggle) -> KaggleSubmission | None:
    """Return this very attempt in Kaggle's list."""
    for listed in kaggle.submissions(all_pages=False):
        tag = ledger.own_tag(listed.description)
        if tag and tag[0] == candidate.tag:
            return listed
    return None


def _interrupt_message(candidate: Candidate, kaggle: Kaggle, sent: KaggleOutcome, ref: int | None) -> str:
    """Return what Ctrl-C left behind, after a look at Kaggle's list if no answer had come."""
    if ref is None:
        try:
            listed = _find_attempt(candidate, kaggle)
            ref = listed.ref if listed else None
        except (DigitRecognizerError, KeyboardInterrupt):
            pass  # not known
    if ref is None:
        ledger.update(candidate.out, candidate.sha256, sent.model_copy(update={"submitted_at": _now()}))
        return f"Stopped while submitting; Kaggle's list does not have the file yet: {_promise(kaggle)}"
    _record(candidate, sent.model_copy(update={"ref": ref, "status": "PENDING"}))
    return f"Stopped; the file is in, submission {ref}; `submissions` shows its score"


def _record(candidate: Candidate, outcome: KaggleOutcome) -> KaggleOutcome:
    """Store the outcome of a submission that is in."""
    try:
        ledger.update(candidate.out, candidate.sha256, outcome, candidate.run)
    except DigitRecognizerError as error:
        raise RunError(
            f"the file is in, submission {outcome.ref}, but this cannot be stored: {error}"
        ) from None
    return outcome


def _poll(
    look: Callable[[], KaggleSubmission | None], kaggle: Kaggle, seconds: float
) -> KaggleSubmission | None:
    """Return what `look` finds within `seconds`, the last time at their end; None if nothing."""
    deadline = time.monotonic() + seconds
    retrying = Retrying(
        retry=retry_if_result(lambda listed: listed is None),
        stop=lambda state: time.monotonic() >= deadline,
        wait=lambda state: min(
            kaggle.limits.backoff(state.attempt_number), max(0, deadline - time.monotonic())
        ),
        retry_error_callback=lambda state: None,
    )
    return retrying(look)


def wait_for_score(
    candidate: Candidate, outcome: KaggleOutcome, kaggle: Kaggle, *, on_state: OnText
) -> KaggleOutcome:
    """Wait for the score as long as the limits say and return the outcome, COMPLETE or still PENDING.

    Raises RejectedError with Kaggle's reason for ERROR, and StoppedError on Ctrl-C.
    """

    def look() -> KaggleSubmission | None:
        on_state(f"Submission {outcome.ref} is in; waiting for its score")
        try:
            listed = kaggle.submissions(all_pages=False)
        except DigitRecognizerError as error:
            if error.score_may_come:
                return None
            raise
        return next((row for row in listed if row.ref == outcome.ref and row.status != "PENDING"), None)

    try:
        scored = _poll(look, kaggle, kaggle.limits.score_timeout)
    except KeyboardInterrupt:
        raise StoppedError(
            f"Stopped; the file is in, submission {outcome.ref}; `submissions` shows its score"
        ) from None
    if scored is None:
        return outcome
    outcome = _record(
        candidate, outcome.model_copy(update={"status": scored.status, "public_score": scored.public_score})
    )
    if scored.status == "ERROR":
        reason = " ".join(scored.error.split()) or "no reason given"
        raise RejectedError(
            f"{candidate.file}: Kaggle could not score submission {scored.ref}. Kaggle says: {reason}"
        )
    return outcome
