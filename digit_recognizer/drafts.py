"""A run in the making: a hidden folder that keeps each fit and each complete stage, and becomes the run.

submissions/.NAME/    config.json      all that decides the run's numbers
                      schedule.json    the stages
                      fits/            finished fits, for --resume
                      logs/            learning curves so far
                      lock             held while a process works on it; the system ends that of a killed one
                      stage-1/ ...     complete runs; the latest becomes submissions/NAME
"""

import errno
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from digit_recognizer import records, runs
from digit_recognizer.errors import RunError
from digit_recognizer.files import atomic_folder, locked, write_atomically
from digit_recognizer.manifest import RunConfig
from digit_recognizer.schedule import Schedule
from digit_recognizer.training import FitFailure, FitResult, FitTask, Metrics, read_log

CONFIG, SCHEDULE, FITS, LOGS, STAGE, LOCK = "config.json", "schedule.json", "fits", "logs", "stage-", "lock"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
LOCK_SECONDS = 1.0  # to wait for the lock: another command may look whether the draft is running
DIGEST = hashlib.sha256().digest_size


class _Failure(records.Record):
    reason: str


@dataclass(frozen=True)
class Draft:
    """The hidden folder to fill, and the run's folder that it becomes."""

    folder: Path
    final: Path

    @property
    def running(self) -> bool:
        """Whether a process is working on it now; to know, this takes the lock for a moment."""
        if not (self.folder / LOCK).exists():
            return False
        try:
            with locked(self.folder / LOCK, BlockingIOError()):
                return False
        except BlockingIOError:
            return True
        except RunError:  # another user's
            return False

    @property
    def state(self) -> str:
        """What the draft is, and what to do about it, in words."""
        if self.running:
            return f"{self.final.name} is still running"
        if count := self.count_fits():
            return (
                f"{self.final.name} was cut off with {count} finished fits; "
                f"its command with --resume goes on, or delete {self.folder}"
            )
        return f"{self.final.name} was cut off before a fit was finished; its command starts it anew"

    @property
    def logs(self) -> Path:
        """The folder of the fits' learning curves so far."""
        return self.folder / LOGS

    def count_fits(self) -> int:
        """Return the number of finished fits."""
        return len(list((self.folder / FITS).glob("*.fit")))

    def save_schedule(self, schedule: Schedule) -> Schedule:
        """Store the stages, so that a resumed run fits the same; return them."""
        records.write(self.folder / SCHEDULE, schedule)
        return schedule

    def load_schedule(self) -> Schedule | None:
        """Return the stored stages; None before they are stored."""
        path = self.folder / SCHEDULE
        return records.read(path, Schedule) if path.exists() else None

    def save_fit(self, result: FitResult) -> None:
        """Store a fit at once and whole, with its SHA-256, so that a resumed run need not repeat it."""
        stored = result.to_bytes()
        write_atomically(self._path(result.task), hashlib.sha256(stored).digest() + stored)

    def save_failure(self, failure: FitFailure) -> None:
        """Store why a fit failed by its settings, so that a resumed run does not repeat it."""
        records.write(self._path(failure.task, "failed"), _Failure(reason=failure.reason))

    def load_fits(
        self, tasks: Sequence[FitTask], on_notice: Callable[[str], None]
    ) -> dict[str, FitResult | FitFailure]:
        """Return the stored outcomes of the tasks, by name; a damaged one is a notice and is left out."""
        outcomes: dict[str, FitResult | FitFailure] = {}
        for task in tasks:
            path, failed = self._path(task), self._path(task, "failed")
            try:
                if path.exists():
                    outcomes[task.name] = self._read(task)
                elif failed.exists():
                    outcomes[task.name] = FitFailure(
                        task, records.read(failed, _Failure).reason, by_settings=True
                    )
            except (OSError, *runs.DAMAGED, RunError):
                damaged = path if path.exists() else failed
                on_notice(f"{damaged}: is damaged; {task.name} is fitted again")
        return outcomes

    def delete_fits(self) -> None:
        """Delete all outcomes: no run can come of them, and a resumed run would only fail again."""
        shutil.rmtree(self.folder / FITS)

    def _path(self, task: FitTask, ending: str = "fit") -> Path:
        return self.folder / FITS / f"{task.file_name}.{ending}"

    def _read(self, task: FitTask) -> FitResult:
        content = self._path(task).read_bytes()
        digest, stored = content[:DIGEST], content[DIGEST:]
        if hashlib.sha256(stored).digest() != digest:
            raise ValueError("the content does not match its SHA-256")
        return FitResult.from_bytes(task, stored)

    @contextmanager
    def stage_folder(self) -> Iterator[Path]:
        """Yield a folder for a complete run, the next stage's, which appears whole or not at all."""
        with atomic_folder(self.folder / f"{STAGE}{len(self._stages()) + 1}") as folder:
            yield folder

    def latest_stage(self) -> Path | None:
        """Return the folder of the latest complete stage."""
        return next(reversed(self._stages()), None)

    def _stages(self) -> list[Path]:
        stages = [path for path in self.folder.glob(f"{STAGE}*") if path.name[len(STAGE) :].isdigit()]
        return sorted(stages, key=lambda path: int(path.name[len(STAGE) :]))


@contextmanager
def start(out: Path, name: str | None, config: RunConfig, *, resume: bool = False) -> Iterator[Draft]:
    """Yield a draft whose latest stage becomes the run `name` in `out` when the block ends well.

    Without a name, it is called by date and time. `resume` goes on with the newest draft of an equal config.
    If the block raises, the draft stays if it keeps a fit.
    Raises RunError, before a fit begins, if `out` cannot be written, holds that name, or has no such draft.
    """
    draft = _find_unfinished(out, name, config) if resume else _create(out, name)
    busy = RunError(f"{draft.final.name} is still running; wait for it, or stop it first")
    with locked(draft.folder / LOCK, busy, seconds=LOCK_SECONDS):
        if not resume:
            _begin(draft, config)
        complete = False
        try:
            yield draft
            _finish(draft)
            complete = True
        except BaseException as error:
            raise _add_note(draft, error) from error.__cause__
        finally:
            if complete or not draft.count_fits():
                shutil.rmtree(draft.folder, ignore_errors=True)


def _finish(draft: Draft) -> None:
    stage = draft.latest_stage()
    assert stage is not None, "a run ended without a complete stage"
    try:
        if draft.final.exists():
            raise FileExistsError(errno.EEXIST, "it exists already")
        stage.rename(draft.final)
    except OSError as error:
        raise RunError(f"{draft.final}: cannot be written ({error.strerror})") from None


def _add_note(draft: Draft, error: BaseException) -> BaseException:
    """Return the error with a note on what it leaves behind; a full disk becomes a RunError."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        error = RunError(f"{draft.folder}: cannot be written ({error.strerror}); make room.")
    if count := draft.count_fits():
        error.add_note(f"{count} finished fits are kept; the same command with --resume goes on from them.")
    else:
        error.add_note("No run was written.")
    return error


def list_all(out: Path) -> list[Draft]:
    """Return the drafts in `out`, newest first."""
    dated: list[tuple[float, Draft]] = []
    for path in out.glob(f".*/{FITS}"):
        draft = Draft(path.parent, out / path.parent.name[1:])
        with suppress(FileNotFoundError):  # it was finished just now
            if not draft.final.exists():
                dated.append((path.stat().st_mtime, draft))
    return [draft for _, draft in sorted(dated, key=lambda pair: pair[0], reverse=True)]


def find_run(out: Path, name: str) -> runs.Run:
    """Return the run of that name or, while it is still being fitted, its latest complete stage.

    Raises RunError if there is neither.
    """
    draft = Draft(out / f".{name}", out / name)
    for _ in range(2):  # it may be finished in between
        if draft.final.is_dir() or (stage := draft.latest_stage()) is None:
            return runs.find(out, name)
        with suppress(RunError):
            return runs.Run(stage, runs.load(stage).manifest, unfinished=True)
    return runs.find(out, name)


def unfinished_curves(run: runs.Run) -> dict[str, list[list[Metrics]]]:
    """Return the learning curves so far of all members of a run that is still being fitted, by member."""
    draft = Draft(run.folder.parent, run.folder.parent)
    if not run.unfinished or (schedule := draft.load_schedule()) is None:
        return {}
    return {
        member.name: [read_log(file) for file in sorted(draft.logs.glob(f"{member.name}-*.jsonl"))]
        for stage in schedule.stages
        for member in stage.members
    }


def _find_unfinished(out: Path, name: str | None, config: RunConfig) -> Draft:
    """Return the newest draft of an equal config; raises RunError, with what differs, if there is none."""
    difference = ""
    for draft in list_all(out):
        if name not in (None, draft.final.name):
            continue
        try:
            stored = records.read(draft.folder / CONFIG, RunConfig)
        except RunError as error:
            if name is None:
                continue
            raise RunError(f"{error}; it cannot be resumed, delete {draft.folder}") from None
        if not (changed := config.difference_from(stored)):
            return draft
        difference = difference or f"; {draft.final.name} has {changed}"
    raise RunError(
        f"{out}: holds no unfinished run{f' {name}' if name else ''} with these settings, data, cores and "
        f"library versions{difference}; start it without --resume"
    )


def _create(out: Path, name: str | None) -> Draft:
    """Return a draft whose folder is there; raises RunError if the name is taken, or cannot be a folder's."""
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", name):
        raise RunError(
            f"--name {name!r}: expected up to 100 letters, digits and . _ + -, first a letter or digit"
        )
    date = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in count(1):
        free = name or (date if number == 1 else f"{date}-{number}")
        draft = Draft(out / f".{free}", out / free)
        if draft.final.exists():
            if name is None:
                continue
            raise RunError(f"{draft.final}: exists already; take another --name, or delete that run")
        try:
            # What a run of that name left is taken over, or refused, once it is locked.
            draft.folder.mkdir(parents=True, exist_ok=name is not None)
        except OSError as error:
            if name is None and draft.folder.is_dir():  # another run has begun in this second
                continue
            raise RunError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
        return draft
    raise AssertionError("unreachable")


def _begin(draft: Draft, config: RunConfig) -> None:
    """Delete what a run that was cut off before a fit was finished left; raises RunError if one was."""
    if fits := draft.count_fits():
        raise RunError(
            f"{draft.folder}: is an unfinished run with {fits} finished fits; go on with --resume, "
            "or delete it"
        )
    try:
        for left in draft.folder.glob("*"):
            if left.name != LOCK:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        for inside in (FITS, LOGS):
            (draft.folder / inside).mkdir()
    except OSError as error:
        raise RunError(f"{draft.folder}: cannot be written ({error.strerror})") from None
    records.write(draft.folder / CONFIG, config)
