"""Decide what may be submitted: every check that needs no network."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from digit_recognizer import data, runs, submission
from digit_recognizer.errors import NotSubmittedError, RunError, SubmissionError, printable
from digit_recognizer.files import read_plain
from digit_recognizer.leaderboard import ledger
from digit_recognizer.leaderboard.ledger import HASH_DIGITS, TAG
from digit_recognizer.runs import Run

# Characters of a message before the tag is added. Kaggle documents no limit, so it is a cautious one.
MESSAGE_LIMIT = 250
RETRAIN = "`download` the competition's, `train` again"
NOT_FOR_KAGGLE = {
    "sample": f"labels the embedded sample's digits, so Kaggle would score it as guesses; {RETRAIN}",
    "openml": f"comes from MNIST of OpenML, which holds the competition's test digits; {RETRAIN}",
    "contaminated": f"comes from training digits that hold the competition's test digits; {RETRAIN}",
}


@dataclass(frozen=True)
class Candidate:
    """A checked file, ready to be submitted."""

    file: Path
    content: bytes  # what was checked and hashed, and what is uploaded
    sha256: str
    run: Run | None  # the run that wrote it
    message: str  # as Kaggle shows it, the tag first
    tag: str
    out: Path  # the folder whose ledger tells what was submitted

    @property
    def upload_name(self) -> str:
        """Return the file's name as Kaggle shows it."""
        return printable(self.file.name)


def resolve_target(
    target: str | None, out: Path, on_notice: Callable[[str], None]
) -> tuple[Path, Run | None]:
    """Return the CSV and the run that it is of, from a file, a run's name or folder, or the newest run.

    Raises NotSubmittedError if there is none, or if it is not of the competition's digits.
    """
    if target is None:
        run = _newest(out, on_notice)
        return run.submission, run
    file = Path(target)
    try:
        if (out / target).is_dir() or file.is_dir():
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
    if reason := _why_not(run):
        raise NotSubmittedError(f"{file}: {reason}")
    if run.is_running:
        raise NotSubmittedError(f"{run.folder}: is still running; wait for it, or stop it first")
    return file, run if file.name == runs.SUBMISSION else None


def _newest(out: Path, on_notice: Callable[[str], None]) -> Run:
    for run in runs.list_newest(out, on_notice):
        if run.manifest.submission_model and run.submission.exists() and not _why_not(run):
            return run
    raise NotSubmittedError(
        f"{out}: holds no run on the competition's digits; `download` them and `train` first"
    )


def _why_not(run: Run) -> str | None:
    """Return why a run's submission is none for Kaggle, None if it is one."""
    digits = run.manifest.config.data
    kind = digits.kind
    if kind == "competition":  # the rows decide
        kind = data.KNOWN_FINGERPRINTS.get(digits.fingerprint.test, "other")
    if kind == "competition":
        return None
    return NOT_FOR_KAGGLE.get(
        kind, f"labels digits that are not the competition's, so Kaggle would score it as guesses; {RETRAIN}"
    )


def check(
    target: str | None,
    out: Path,
    *,
    message: str | None = None,
    force: bool = False,
    on_notice: Callable[[str], None],
) -> Candidate:
    """Return the file to submit after all checks that need no network.

    Raises NotSubmittedError if the file is not valid, not the competition's, not what its run wrote, or was
    submitted before, unless `force`.
    """
    file, run = resolve_target(target, out, on_notice)
    if run is not None and run.manifest.submission_model is None:
        raise NotSubmittedError(
            f"{run.folder}: has no submission of its own; `train` and `ensemble` write a {runs.SUBMISSION}"
        )
    try:
        content = read_plain(file, submission.MAX_BYTES)
        sha256 = submission.check_bytes(content, str(file), data.COMPETITION_ROWS["test.csv"]).sha256
    except OSError as error:
        raise NotSubmittedError(f"{file}: cannot be read ({error.strerror})") from None
    except SubmissionError as error:
        raise NotSubmittedError(str(error)) from None
    if run is not None and sha256 != run.manifest.submission_sha256:
        raise NotSubmittedError(
            f"{file}: was changed after its run wrote it, so the run's local score is not of it; "
            "copy it to another folder and submit the copy"
        )
    previous = None if force else ledger.read(out).get(sha256)
    if previous and previous.accepted:
        raise already_submitted(file, previous.ref, previous.public_score)
    # The first part says which file it is, wherever it was submitted from, the second which attempt.
    tag = f"[{sha256[:HASH_DIGITS]}-{secrets.token_hex(2)}]"
    text = message or default_message(file, run)[:MESSAGE_LIMIT]
    return Candidate(file, content, sha256, run, _tagged(tag, text), tag, out)


def _tagged(tag: str, text: str) -> str:
    """Return Kaggle's text: the tag first, lest a cut take it; tags that `text` quotes become (tags)."""
    quoted = TAG.sub(lambda match: f"({match[0][1:-1]})", text)
    return f"{tag} {quoted}".encode(errors="backslashreplace").decode()


def already_submitted(file: Path, ref: int | None, score: float | None) -> NotSubmittedError:
    """Return the refusal of a file that Kaggle has."""
    public_score = "" if score is None else f", public score {score:.5f}"
    return NotSubmittedError(
        f"{file}: this very file is at Kaggle already (submission {ref}{public_score}); "
        "--force submits it again"
    )


def default_message(file: Path, run: Run | None) -> str:
    """Return the run's name and local score, or the file's name."""
    if run is None or run.local_score is None:
        return printable(file.name)
    return f"{printable(run.folder.resolve().name)} local {run.local_score.accuracy:.4f}"
