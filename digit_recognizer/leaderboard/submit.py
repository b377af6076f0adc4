"""A submission's way to Kaggle: once, whatever happens to the answers, and what became of it."""

from datetime import UTC, datetime
from itertools import islice

from digit_recognizer import errors
from digit_recognizer.errors import KaggleError, NetworkError, NotSubmittedError, RunError, StoppedError
from digit_recognizer.files import locked
from digit_recognizer.leaderboard import ledger
from digit_recognizer.leaderboard.candidate import Candidate, already_submitted
from digit_recognizer.leaderboard.client import PAGES, Kaggle
from digit_recognizer.leaderboard.ledger import HASH_DIGITS, KaggleOutcome, tag_of

IS_IN = "Stopped; the file is in, submission {}; `submissions` shows its score"


def submit(candidate: Candidate, kaggle: Kaggle, *, force: bool = False) -> KaggleOutcome:
    """Submit the file once and return the outcome, which is PENDING: Kaggle has it.

    Raises NotSubmittedError if Kaggle has it already or another process is submitting it, StoppedError on
    Ctrl-C, and what `Kaggle` raises.
    """
    sha256 = candidate.sent.file_sha256
    now = "another command is submitting this very file now; `submissions` shows what becomes of it"
    busy = NotSubmittedError(f"{candidate.file}: {now}")
    with locked(candidate.out / f".submitting-{sha256[:HASH_DIGITS]}.lock", busy, delete=True):
        # Read again: the process that held the lock before this one may have submitted the file.
        previous = ledger.read(candidate.out).get(sha256)
        try:
            if not force and (earlier := _find_earlier(candidate, previous, kaggle)):
                return earlier
            token = kaggle.upload(candidate.content, errors.printable(candidate.file.name))
            try:
                sent = _store_sent(candidate)
            except RunError as error:
                raise NotSubmittedError(f"{error}; nothing was submitted") from None
        except KeyboardInterrupt:
            unknown = previous is not None and not previous.accepted
            whether = ", and it is still not known whether Kaggle has the file from the attempt before"
            raise StoppedError(f"Stopped; nothing was submitted{whether if unknown else ''}") from None
        return _send(candidate, previous, sent, token, kaggle)


def _find_earlier(
    candidate: Candidate, previous: KaggleOutcome | None, kaggle: Kaggle
) -> KaggleOutcome | None:
    """Return the outcome of the previous attempt if that came through, None if Kaggle does not have the file.

    If it is not known what became of it, wait for it to appear: the list may lag. Raises NotSubmittedError if
    Kaggle has the file from another attempt.
    """
    if previous and previous.accepted:
        raise already_submitted(candidate.file, previous)
    start, seconds = candidate.sent.file_sha256[:HASH_DIGITS], 0.0
    if previous:
        lag, now = kaggle.list_lag, datetime.now(UTC)
        age = (now - (previous.submitted_at or now)).total_seconds()
        seconds = max(0, min(lag - age, lag))
    if seconds:
        unknown = "It is not known whether Kaggle has the file from the attempt before this one; looking"
        more = f"for {seconds:.0f} more seconds (--force submits at once)"
        kaggle.on_notice(f"{unknown} for it in Kaggle's list {more}")
    listed = kaggle.find(lambda listed: listed.hash_start == start, seconds=seconds, pages=PAGES)
    if listed is None and previous:
        late = f"{max(age, lag):.0f} seconds after the attempt before this one"
        kaggle.on_notice(f"Kaggle's list does not have the file {late}; submitting it again")
    if listed is None:
        return None
    if previous is None or tag_of(previous.message) != tag_of(listed.description):
        raise already_submitted(candidate.file, listed)
    kaggle.on_notice(f"The attempt before this one had come through: submission {listed.ref}")
    return _accept(candidate, previous, listed.ref)


def _store_sent(candidate: Candidate) -> KaggleOutcome:
    """Store that the file is sent now, and return that."""
    sent = candidate.sent.model_copy(update={"submitted_at": datetime.now(UTC).replace(microsecond=0)})
    ledger.update(candidate.out, {sent.file_sha256: sent})
    return sent


def _send(
    candidate: Candidate, previous: KaggleOutcome | None, sent: KaggleOutcome, token: str, kaggle: Kaggle
) -> KaggleOutcome:
    """Make the uploaded file a submission. The ledger says so already, as this process may be killed."""
    ref = None
    try:
        try:
            ref = kaggle.create(token, sent.message)
        except KaggleError as error:
            failure = f"{str(error).removesuffix('.')}. "
            if not error.outcome_unknown:
                ledger.update(candidate.out, {sent.file_sha256: previous})
                raise type(error)(f"{failure}Nothing was submitted", outcome_unknown=False) from None
            kaggle.on_notice(f"{failure}Looking whether Kaggle has the file")
            ref = _look(candidate, kaggle, failure, sum(islice(kaggle.delays(), 2)))
        kaggle.on_notice(f"Kaggle has the file: submission {ref}")
        return _accept(candidate, sent, ref)
    except KeyboardInterrupt:
        kaggle.on_notice("Looking whether Kaggle has the file; Ctrl-C again ends this too")
        try:
            ref = ref or _look(candidate, kaggle, "Stopped while submitting; ")
        except (NetworkError, KeyboardInterrupt) as error:
            raise StoppedError(str(error) or "Stopped; the same command looks for the file first") from None
        _accept(candidate, sent, ref)
        raise StoppedError(IS_IN.format(ref)) from None


def _look(candidate: Candidate, kaggle: Kaggle, failure: str, seconds: float = 0) -> int:
    """Return the number of the submission whose answer was lost; raises NetworkError without it.

    The list may lag, so absence proves nothing, and Kaggle has until now to accept the file.
    """
    tag, known = tag_of(candidate.sent.message), "Kaggle's list does not have the file yet"
    try:
        if listed := kaggle.find(lambda listed: tag_of(listed.description) == tag, seconds=seconds):
            return listed.ref
    except KaggleError as error:
        known = f"It is not known whether Kaggle has the file ({error})"
    _store_sent(candidate)
    raise NetworkError(  # `_find_earlier` keeps this promise
        f"{failure}{known}; the same command looks for it first, and submits it again only if the list still "
        f"does not have it {kaggle.list_lag:g} seconds from now (--list-lag)"
    )


def _accept(candidate: Candidate, outcome: KaggleOutcome, ref: int, **news: object) -> KaggleOutcome:
    """Store that the submission is in, and what Kaggle says of it; return that."""
    news = {"ref": ref, "status": "PENDING", "public_score": None, **news}
    outcome = outcome.model_copy(update=news)
    try:
        ledger.update(candidate.out, {outcome.file_sha256: outcome})
    except errors.DigitRecognizerError as error:
        raise RunError(f"the file is in, submission {ref}, but this cannot be stored: {error}") from None
    return outcome


def wait_for_score(candidate: Candidate, outcome: KaggleOutcome, kaggle: Kaggle) -> KaggleOutcome:
    """Wait for the score as long as the limits say and return the outcome, which is COMPLETE.

    Raises RejectedError with Kaggle's reason for ERROR, ScorePendingError, and StoppedError on Ctrl-C.
    """
    scored, failed, seconds = None, "", kaggle.max_wait
    try:
        scored = kaggle.find(
            lambda listed: listed.ref == outcome.ref and listed.status != "PENDING", seconds=seconds
        )
    except KeyboardInterrupt:
        raise StoppedError(IS_IN.format(outcome.ref)) from None
    except KaggleError as error:  # the file is in, whatever a look says
        failed = f"; the last look failed: {str(error).removesuffix('.')}"
    if scored is None:
        raise errors.ScorePendingError(
            f"Submission {outcome.ref} is in, but no score was seen in {seconds:g} seconds (--max-wait)"
            f"{failed}; `submissions` shows it later"
        )
    outcome = _accept(candidate, outcome, **scored.model_dump(include=ledger.NEWS))
    if scored.status == "ERROR":
        kaggle_says = " ".join(scored.error_description.split()) or "no reason given"
        raise errors.RejectedError(
            f"{candidate.file}: Kaggle could not score submission {scored.ref}. Kaggle says: {kaggle_says}"
        )
    return outcome
