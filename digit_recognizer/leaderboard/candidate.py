"""What may be submitted: every check that needs no network, and the ledger of what was."""

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from digit_recognizer import data, runs, submission
from digit_recognizer.errors import RefusedError, RunError, SubmissionError
from digit_recognizer.runs import Run

LEDGER = ".submitted.json"  # in the folder of the runs: SHA-256 of each file that was submitted -> Outcome
SHORT = 12


@dataclass(frozen=True)
class Outcome:
    """What became of a submission; stored in the run's manifest and in the ledger.

    status: SENT while it is not known whether Kaggle has it, then Kaggle's PENDING, COMPLETE or ERROR.
    """

    ref: int | None
    status: str
    public_score: float | None
    message: str
    submitted_at: str
    file_sha256: str


@dataclass(frozen=True)
class Candidate:
    """A checked file, ready to be submitted. tag: the end of the message, found again in Kaggle's list."""

    file: Path
    sha256: str
    run: Run | None  # the run that wrote it
    message: str
    tag: str
    ledger: Path
    earlier: Outcome | None  # of the same file, as far as it is known here


def choose(target: str | None, out: Path) -> tuple[Path, Run | None]:
    """The CSV to submit and the run it belongs to, from a file, a run's name or folder, or the newest run.

    Raises RefusedError where there is none, or where it does not label the competition's test digits.
    """
    run: Run | None
    try:
        if target is None:
            found = runs.every(out)
            suitable = [one for one in found if one.submission.exists() and not _not_the_competitions(one)]
            if not suitable:
                raise RefusedError(
                    f"{out}: holds no run on the competition's digits; `download` them and `train` first"
                )
            return suitable[0].submission, suitable[0]
        if (out / target).is_dir() or Path(target).is_dir():
            run = runs.find(out, target)
            file = run.submission
        else:
            file = Path(target)
            beside = (file.parent / runs.MANIFEST).exists()
            run = runs.load(file.parent) if beside else None
    except RunError as error:
        raise RefusedError(str(error)) from None
    if run is not None and file == run.submission and not file.exists():
        raise RefusedError(f"{run.folder}: has no {runs.SUBMISSION}; `train` and `ensemble` write one")
    if run is not None and (why := _not_the_competitions(run)):
        raise RefusedError(f"{file}: {why}")
    return file, run


def _not_the_competitions(run: Run) -> str | None:
    """Why a run's submission is none for Kaggle; None if it is one."""
    rows = run.manifest["data"].get("fingerprint", {}).get("test")
    kind = data.KNOWN_FINGERPRINTS.get(rows, "other")
    if run.manifest["data"].get("kind") == "contaminated":
        return "is of nets that saw test digits' labels; `download` the competition's files, `train` again"
    if kind == "competition":
        return None
    what = "the embedded sample's digits" if kind == "sample" else "digits that are not the competition's"
    return f"labels {what}, so Kaggle would score it as guesses; `download` the competition's, `train` again"


def prepare(target: str | None, out: Path, *, message: str | None = None, force: bool = False) -> Candidate:
    """Everything that can be checked without a network.

    Raises RefusedError for a file that is not valid, not the competition's, or was submitted before, unless
    `force`.
    """
    file, run = choose(target, out)
    try:
        sha256 = submission.check(file, data.COMPETITION_ROWS["test.csv"]).sha256
    except SubmissionError as error:
        raise RefusedError(str(error)) from None
    written = (
        run.manifest.get("submission_sha256", sha256) if run and file.name == runs.SUBMISSION else sha256
    )
    if sha256 != written:
        raise RefusedError(
            f"{file}: was changed after its run wrote it, so the run's local score is not its own; "
            "copy it to another folder and submit the copy"
        )
    ledger = out / LEDGER
    earlier = known(ledger, run).get(sha256)
    if earlier and earlier.status != "SENT" and not force:
        raise twice(file, earlier.ref, earlier.public_score)
    if run is not None and file.name != runs.SUBMISSION:
        run = None  # beside a run's files, but not what the run's scores are about
    # The first part says which file it is, wherever it was submitted from, the second which attempt.
    tag = f"[{sha256[:SHORT]}-{secrets.token_hex(2)}]"
    return Candidate(
        file, sha256, run, f"{message or default_message(file, run)} {tag}", tag, ledger, earlier
    )


def twice(file: Path, ref: int | None, score: float | None) -> RefusedError:
    """The refusal of a file that Kaggle has."""
    scored = "" if score is None else f", public score {score:.5f}"
    return RefusedError(
        f"{file}: this very file is at Kaggle already (submission {ref}{scored}); --force submits it again"
    )


def default_message(file: Path, run: Run | None) -> str:
    """The run's name and local score, or the file's name."""
    local = local_score(run)
    if run is None:
        return file.name
    if local is None:
        return run.folder.name
    return f"{run.folder.resolve().name} local {local['accuracy']:.4f}"


def local_score(run: Run | None) -> dict[str, float] | None:
    """The score on held-out rows of what the run submitted: accuracy, low and high."""
    submitted = run.manifest.get("submitted") if run else None
    return run.manifest["scores"][submitted] if run and submitted else None


def record(one: Candidate, outcome: Outcome) -> Outcome:
    """Store an outcome in the ledger and in the run's manifest."""
    remember(one, outcome)
    if one.run is not None:
        runs.record_kaggle(one.run, asdict(outcome))
    return outcome


def known(ledger: Path, run: Run | None) -> dict[str, Outcome]:
    """What was submitted from here, by the files' SHA-256."""
    try:
        stored = json.loads(ledger.read_text(encoding="utf-8")) if ledger.exists() else {}
        if run is not None and "kaggle" in run.manifest:
            stored = {run.manifest["kaggle"]["file_sha256"]: run.manifest["kaggle"]} | stored
        return {sha256: Outcome(**outcome) for sha256, outcome in stored.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RefusedError(f"{ledger}: cannot be read ({error!r}); mend it or delete it") from None


def remember(one: Candidate, outcome: Outcome | None) -> None:
    """Store an outcome in the ledger; None forgets the file."""
    stored = {sha256: asdict(known) for sha256, known in known(one.ledger, None).items()}
    stored.pop(one.sha256, None)
    if outcome is not None:
        stored[one.sha256] = asdict(outcome)
    runs.write_json(one.ledger, stored)
