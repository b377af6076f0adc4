"""Decide what may be submitted: every check that needs no network."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from digit_recognizer import comparison, data, expected, runs, submission
from digit_recognizer.errors import NotSubmittedError, OptionError, RunError, SubmissionError, printable
from digit_recognizer.leaderboard import ledger
from digit_recognizer.leaderboard.client import OnText
from digit_recognizer.leaderboard.ledger import HASH_DIGITS, TAG, KaggleOutcome, KaggleSubmission
from digit_recognizer.runs import Run

# Characters of a message before the tag is added. Kaggle documents no limit, so it is a cautious one.
MESSAGE_LIMIT = 250
AS_GUESSES = "so Kaggle would score it as guesses"
NOT_FOR_KAGGLE = {
    "competition": None,
    "sample": f"labels the embedded sample's digits, {AS_GUESSES}",
    "openml": "comes from MNIST of OpenML, which holds the competition's test digits",
    "train_test_overlap": "comes from training digits that hold the competition's test digits",
    "other": f"labels digits that are not the competition's, {AS_GUESSES}",
}


@dataclass(frozen=True)
class Candidate:
    """A checked file, ready to be submitted."""

    file: Path
    content: bytes  # what was checked and hashed, and what is uploaded
    sent: KaggleOutcome  # as the ledger has it from just before it is sent; its message begins with the tag
    out: Path  # the folder whose ledger tells what was submitted


def check(target: str | None, out: Path, *, message: str | None, force: bool, on_notice: OnText) -> Candidate:
    """Return the file to submit after all checks that need no network; target: a file, a run, or None.

    Raises NotSubmittedError if the file is not valid, not the competition's, not what its run wrote or,
    without `force`, was submitted before; OptionError if the message is too long.
    """
    if message and len(message) > MESSAGE_LIMIT:
        raise OptionError(f"--message: found {len(message)} characters, expected at most {MESSAGE_LIMIT}")
    file, run = _find(target, out, on_notice)
    try:
        checked = submission.check(file, data.COMPETITION_ROWS["test.csv"])
    except SubmissionError as error:
        raise NotSubmittedError(str(error)) from None
    if run is not None and checked.sha256 != run.manifest.submission_sha256:
        raise NotSubmittedError(
            f"{file}: was changed after its run wrote it, so the run's validation accuracy is not of it; "
            "copy it to another folder and submit the copy"
        )
    previous = None if force else ledger.read(out).get(checked.sha256)
    if previous and previous.accepted:
        raise already_submitted(file, previous)
    text = message or printable(file.name)
    if run and not message:
        text = f"{printable(run.folder.resolve().name)} validation accuracy {run.main_score.accuracy:.4f}"
    sent = ledger.sent(_tagged(text[:MESSAGE_LIMIT], checked.sha256), checked.sha256, run)
    return Candidate(file, checked.content, sent, out)


def _tagged(text: str, sha256: str) -> str:
    """Return Kaggle's text: the tag first, lest a cut take it; tags that `text` quotes become (tags).

    A tag's first part says which file it is, wherever it was submitted from, the second which attempt.
    """
    quoted = TAG.sub(lambda match: f"({match[0][1:-1]})", text)
    tag = f"[{sha256[:HASH_DIGITS]}-{secrets.token_hex(2)}]"
    return f"{tag} {quoted}".encode(errors="backslashreplace").decode()


def _find(target: str | None, out: Path, on_notice: OnText) -> tuple[Path, Run | None]:
    """Return the CSV and the run that wrote it, if any; raises NotSubmittedError if it is not for Kaggle."""
    if target is None:
        run = _newest(out, on_notice)
        return run.submission, run
    file = Path(target)
    try:
        if (out / target).is_dir() or file.is_dir() or not (file.exists() or file.suffix == ".csv"):
            run = runs.find(out, target)
            file = run.submission
        elif (file.parent / runs.MANIFEST).exists():
            run = runs.load(file.parent)
        else:
            return file, None
    except RunError as error:
        if file.name == runs.SUBMISSION or file.suffix != ".csv":
            raise NotSubmittedError(str(error)) from None
        on_notice(f"{error}; it is left out")  # of a CSV beside it, which is not what the run wrote
        return file, None
    its_own = file.name == runs.SUBMISSION
    if its_own and run.manifest.submission_model is None:
        raise NotSubmittedError(f"{run.folder}: {runs.WITHOUT_SUBMISSION}")
    if reason := _why_not(run):
        raise NotSubmittedError(f"{file}: {reason}; `download` the competition's, `train` again")
    if run.is_running:
        raise NotSubmittedError(f"{run.folder}: is still running; wait for it, or stop it first")
    return file, run if its_own else None


def _newest(out: Path, on_notice: OnText) -> Run:
    """Return the newest run that can be submitted, unless another is known to be better."""
    found = [
        run
        for run in runs.list_newest(out, on_notice)
        if run.manifest.submission_model and run.submission.exists() and not _why_not(run)
    ]
    if not found:
        raise NotSubmittedError(
            f"{out.absolute()}: holds no run on the competition's digits; `download` them and `train` first"
        )
    newest, *others = found
    if better := comparison.better_than(newest, others):
        raise NotSubmittedError(
            f"{out.absolute()}: the newest run is {_described(newest)}, but {_described(better[0])} is "
            "better; name the one to submit"
        )
    on_notice(f"The newest run is {_described(newest)}. {expected.describe(newest.manifest)}")
    return newest


def _described(run: Run) -> str:
    return (
        f"{run.folder.name} (validation accuracy {run.main_score.accuracy:.4f}, of "
        f"{run.manifest.created:%Y-%m-%d %H:%M})"
    )


def _why_not(run: Run) -> str | None:
    """Return why a run's submission is none for Kaggle, None if it is one."""
    digits = run.manifest.config.data
    kind = digits.kind
    if kind == "competition":  # the rows decide
        kind = data.KNOWN_FINGERPRINTS.get(digits.fingerprint.test, "other")
    return NOT_FOR_KAGGLE.get(kind, NOT_FOR_KAGGLE["other"])


def already_submitted(file: Path, there: KaggleOutcome | KaggleSubmission) -> NotSubmittedError:
    """Return the refusal of a file that Kaggle has."""
    public_score = "" if there.public_score is None else f", public score {there.public_score:.5f}"
    return NotSubmittedError(
        f"{file}: this very file is at Kaggle already (submission {there.ref}{public_score}); "
        "--force submits it again"
    )
