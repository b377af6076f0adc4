"""A run's folder while it is filled: `run.json` is the commit, and true at any moment.

From its start it holds a lock, config.json, fits/, logs/ and soon schedule.json; after each fit one more file
in fits/; after each stage probabilities-N.npz, run.json and submission.csv. Once the run is complete, lock,
config.json, schedule.json and logs/ go. A run without a finished fit leaves nothing. See docs/runs.md.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, count
from pathlib import Path

import numpy as np

from digit_recognizer import records, runs, submission, training
from digit_recognizer.errors import RunError
from digit_recognizer.files import delete, is_partial, locked, open_plain, write_atomically, writing
from digit_recognizer.manifest import Manifest, RunConfig
from digit_recognizer.predictions import HeldOut, Predictions
from digit_recognizer.runs import CONFIG, FITS, LOCK
from digit_recognizer.schedule import Member, Schedule
from digit_recognizer.training import FitFailure, FitResult, FitTask, Metrics, OnNotice, Outcome, Progress

SCHEDULE, LOGS = "schedule.json", "logs"
MAX_REASON, MAX_LOG_BYTES = 1000, 1 << 24  # characters of a failure's reason; a log has some KB
LOCK_SECONDS = 1.0  # to wait for the lock: another command may look whether the run is being fitted


@dataclass(frozen=True)
class Draft:
    """The folder of a run that this process works on."""

    folder: Path

    @property
    def manifest(self) -> Manifest | None:
        """What the latest complete stage gave; None before there is one."""
        return runs.read_manifest(self.folder)

    def save_schedule(self, schedule: Schedule) -> Schedule:
        """Store the schedule, so that a resumed run fits the same; return it."""
        records.write(self.folder / SCHEDULE, schedule)
        return schedule

    def load_schedule(self) -> Schedule | None:
        """Return the stored schedule; None before it is stored."""
        path = self.folder / SCHEDULE
        return records.read(path, Schedule) if path.exists() else None

    def save_outcome(self, outcome: Outcome) -> None:
        """Store a fit, or why it failed by its settings, so that a resumed run does not repeat it.

        Another failure, as for lack of memory, is not stored: a resumed run tries again.
        """
        if isinstance(outcome, FitResult):
            write_atomically(self._path(outcome.task), outcome.to_bytes())
        elif outcome.deterministic:
            write_atomically(self._path(outcome.task, "failed"), outcome.reason)

    def load_fits(self, tasks: Sequence[FitTask], on_notice: OnNotice) -> dict[str, Outcome]:
        """Return the stored outcomes of the tasks, by name; a damaged one is a notice and is left out."""
        outcomes: dict[str, Outcome] = {}
        for task in tasks:
            path, failed = self._path(task), self._path(task, "failed")
            try:
                if path.exists():
                    outcomes[task.name] = FitResult.from_bytes(task, runs.read_file(path))
                elif failed.exists():
                    reason = runs.read_file(failed).decode(errors="replace")[:MAX_REASON]
                    outcomes[task.name] = FitFailure(task, reason, deterministic=True)
            except (ValueError, RunError):
                on_notice(f"{path}: is damaged; {task.name} is fitted again")
        return outcomes

    def _path(self, task: FitTask, ending: str = "npz") -> Path:
        return self.folder / FITS / f"{training.file_name(task.name)}.{ending}"

    def log(self, progress: Progress) -> None:
        """Add an epoch to the fit's log, which progress without metrics deletes; a full disk ends no fit."""
        file = self.folder / LOGS / f"{training.file_name(progress.fit)}.jsonl"
        with suppress(OSError):
            if not progress.metrics:
                file.unlink(missing_ok=True)
            elif progress.done < 1:
                with file.open("a", encoding="utf-8") as log:
                    log.write(json.dumps(progress.metrics) + "\n")

    def write_probabilities(self, held_out: HeldOut, predictions: Sequence[Predictions]) -> None:
        """Write those of the next stage, beside those of the latest."""
        runs.write_probabilities(
            runs.probabilities_file(self.folder, self._next_stage()), held_out, predictions
        )

    def commit(self, manifest: Manifest, labels: np.ndarray) -> None:
        """Complete the next stage, whose fits and probabilities are written.

        labels: of the test digits, int of shape (n,), for a run with a submission. A process that is killed
        here leaves the earlier stage or this one, never a mixture: `runs.load` writes a missing submission.
        """
        stage, path = self._next_stage(), self.folder / runs.SUBMISSION
        content, update = b"", dict[str, object](stage=stage)
        if manifest.submission_model:
            content = submission.to_bytes(labels)
            checked = submission.check_bytes(content, str(path), manifest.config.data.rows.test)
            update["submission_sha256"] = checked.sha256
        with writing(path):  # else the earlier stage's would stay, as if somebody had changed it
            path.unlink(missing_ok=True)
        runs.write_manifest(self.folder, manifest.model_copy(update=update))
        if content:
            write_atomically(path, content)
        delete(runs.probabilities_file(self.folder, stage - 1))

    def _next_stage(self) -> int:
        return self.manifest.stage + 1 if self.manifest else 1

    def copy_fits(self, sources: dict[str, Path]) -> None:
        """Copy fits of other runs, by their names here; those that are no longer there are left out."""
        for name, path in sources.items():
            if path.is_file():
                write_atomically(self.folder / FITS / name, runs.read_file(path))

    def tidy(self) -> None:
        """Delete what nobody needs any more: all of it if nothing can come of the folder."""
        manifest = self.manifest
        if manifest is None and not runs.count_fits(self.folder):
            delete(self.folder)
        elif manifest and manifest.stopped_early is None:
            kept = {file for files in manifest.inference_fits.values() for file in files}
            kept |= {fit.file for fit in manifest.fits.values()}
            for path in (self.folder / FITS).iterdir():
                if path.name not in kept:  # of an earlier stage, or failed
                    delete(path)
            for name in (LOGS, SCHEDULE, CONFIG):
                delete(self.folder / name)


@contextmanager
def start(out: Path, name: str | None, config: RunConfig, *, resume: bool = False) -> Iterator[Draft]:
    """Yield the locked folder of the run `name` in `out`; without a name, it is called by date and time.

    resume: go on with the newest run of an equal config that is not complete.
    If the block raises, what is complete stays, and finished fits stay.
    Raises RunError, before a fit begins, if `out` cannot be written, holds that name, or has no such run.
    """
    if resume:
        draft = Draft(_find_unfinished(out, name, config))
    else:
        draft = Draft(out / name if name else _dated_folder(out))
    with locked(draft.folder / LOCK, _still_running(draft.folder), seconds=LOCK_SECONDS, delete=True):
        if not resume:
            _check_holds_nothing(draft.folder)
        try:
            if not resume:
                _begin(draft, config)
            yield draft
        except BaseException as error:
            _add_note(draft, error)
            raise
        finally:
            draft.tidy()


def check_free(folder: Path) -> None:
    """Raise RunError unless a new run can have the folder: none has it, or it was cut off before a fit."""
    if runs.is_running(folder):
        raise _still_running(folder)
    _check_holds_nothing(folder)


def _still_running(folder: Path) -> RunError:
    return RunError(f"{folder.name} is still running; wait for it, or stop it first")


def _check_holds_nothing(folder: Path) -> None:
    if runs.count_fits(folder):
        raise RunError(f"{folder}: is an unfinished run with finished fits; --resume goes on, or delete it")
    ours = {LOCK, CONFIG, SCHEDULE, LOGS, FITS, runs.probabilities_file(folder, 1).name}
    with writing(folder):
        left = list(folder.iterdir()) if folder.exists() else []
    if not all(path.name in ours or is_partial(path) for path in left):
        raise RunError(f"{folder}: exists already; take another --name, or delete that run")


def _dated_folder(out: Path) -> Path:
    """Make a new folder in `out`, called by date and time."""
    date = datetime.now().strftime("%Y%m%d-%H%M%S")
    with writing(out, "; choose another --out"):
        out.mkdir(parents=True, exist_ok=True)
        for name in chain([date], (f"{date}-{number}" for number in count(2))):
            with suppress(FileExistsError):  # another run has begun in this second
                (out / name).mkdir()
                break
    return out / name


def _begin(draft: Draft, config: RunConfig) -> None:
    """Replace what was cut off before a fit was finished."""
    with writing(draft.folder):
        for path in draft.folder.iterdir():
            if path.name != LOCK:
                delete(path)
        for inside in (FITS, LOGS):
            (draft.folder / inside).mkdir()
    if config.command != "ensemble":  # which takes seconds, and is started anew
        records.write(draft.folder / CONFIG, config)


def _add_note(draft: Draft, error: BaseException) -> None:
    """Let the error say what it leaves behind."""
    goes_on = "the same command with --resume goes on"
    if draft.manifest is not None:
        error.add_note(f"{draft.folder} holds what was complete; {goes_on}.")
    elif fits := runs.count_fits(draft.folder):
        error.add_note(f"{draft.folder} keeps {fits} finished fit{'s' * (fits > 1)}; {goes_on} from there.")
    else:
        resume = "; without a complete fit there is nothing to resume" * isinstance(error, KeyboardInterrupt)
        error.add_note(f"No run was written{resume}.")


def curves_so_far(run: runs.Run) -> Iterator[tuple[Member, list[Metrics]]]:
    """Yield the learning curves so far, of each fit of each member, of a run that is still being fitted."""
    if not run.is_running or (schedule := Draft(run.folder).load_schedule()) is None:
        return
    for member in schedule.members:
        for split in ("holdout", "fold-*", "all-*"):  # not all: `cnn-small-holdout` is not of `cnn`
            for file in sorted((run.folder / LOGS).glob(f"{member.name}-{split}.jsonl")):
                if curve := read_log(file):
                    yield member, curve


def read_log(file: Path) -> list[Metrics]:
    """Return the metrics after each epoch that a fit has logged so far."""
    curve: list[Metrics] = []
    with suppress(FileNotFoundError, ValueError), open_plain(file) as log:  # a full disk cuts a line off
        for line in log.read(MAX_LOG_BYTES).splitlines():
            curve.append(json.loads(line))
    return curve


def _find_unfinished(out: Path, name: str | None, config: RunConfig) -> Path:
    """Return the newest run of an equal config to go on with; raises RunError, with what differs."""
    difference = ""
    for folder in runs.incomplete_folders(out):
        if name not in (None, folder.name):
            continue
        try:
            stored, manifest = records.read(folder / CONFIG, RunConfig), runs.read_manifest(folder)
        except RunError as error:
            if name is None:
                difference = difference or f"; {folder.name} cannot be read"
                continue
            raise RunError(f"{error}; it cannot be resumed, delete {folder}") from None
        if manifest and manifest.stopped_early is None:
            continue
        if not (changed := config.difference_from(stored)):
            return folder
        equal, how = " with these settings, data, cores and library versions", "cannot go on here"
        if (stored.command, stored.options) != (config.command, config.options):
            how = f"goes on by `{stored.resuming(folder)}`"
        difference = difference or f"{equal}; {folder.name} has {changed}, and {how}"
    run = f"run {name}" if name else "run"
    raise RunError(
        f"{out.absolute()}: holds no unfinished {run}{difference}; start this one without --resume"
    )
