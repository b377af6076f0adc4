"""A run in the making: a hidden folder that keeps each fit, and becomes the run when all is done."""

import errno
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from digit_recognizer.errors import RunError
from digit_recognizer.training import Fit, Fitted, read_log

MAKING = "making"  # in the hidden folder: plan, finished fits and lock, gone once the run is there
PLAN = f"{MAKING}/plan.json"
FITS = f"{MAKING}/fits"
SCHEDULE = f"{MAKING}/schedule.json"
LOGS = f"{MAKING}/logs"
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Draft:
    """The hidden folder to fill, and the run's folder that it becomes."""

    folder: Path
    final: Path

    @property
    def running(self) -> bool:
        """Whether a process is at it now."""
        try:
            with self.lock():
                return False
        except Timeout:
            return True

    def lock(self) -> FileLock:
        """Held while a process is at it; the system lets go of a killed one's."""
        return FileLock(self.folder / MAKING / "lock", timeout=0)

    def keep(self, fitted: Fitted) -> None:
        """Store a fit at once, whole or not at all, so that a killed run need not repeat it."""
        path = self._path(fitted.fit)
        ending, content = fitted.model
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                valid=fitted.valid,
                test=fitted.test,
                ending=np.array(ending),
                model=np.frombuffer(content, np.uint8),
                history=np.array(json.dumps(fitted.history)),
                seconds=np.array(fitted.seconds),
            )
        unfinished.replace(path)

    def keep_schedule(self, schedule: dict[str, Any]) -> None:
        """Store what `--minutes` decided to fit, so that a resumed run fits the same."""
        unfinished = self.folder / f"{SCHEDULE}.part"
        unfinished.write_text(json.dumps(schedule, indent=2), encoding="utf-8")
        unfinished.replace(self.folder / SCHEDULE)

    def kept_schedule(self) -> dict[str, Any] | None:
        """What `keep_schedule` stored; None if it did not."""
        path = self.folder / SCHEDULE
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def logs(self) -> Path:
        """The folder of the fits' learning curves so far."""
        return self.folder / LOGS

    def kept(self, fits: Sequence[Fit]) -> dict[str, Fitted]:
        """Those of the fits that are stored, by name."""
        return {fit.name: self._read(fit) for fit in fits if self._path(fit).exists()}

    def _path(self, fit: Fit) -> Path:
        return self.folder / FITS / f"{fit.file_name}.npz"

    def _read(self, fit: Fit) -> Fitted:
        with np.load(self._path(fit), allow_pickle=False) as stored:
            return Fitted(
                fit,
                valid=stored["valid"],
                test=stored["test"],
                model=(str(stored["ending"]), stored["model"].tobytes()),
                history=json.loads(str(stored["history"])),
                seconds=float(stored["seconds"]),
            )


@contextmanager
def start(out: Path, name: str | None, plan: dict[str, Any], *, resume: bool = False) -> Iterator[Draft]:
    """A draft that becomes the run `name` in `out` when the block ends well.

    Without a name, it is called by date and time. plan: all that decides the run's numbers; `resume` goes on
    with the newest draft of an equal plan. Where the block ends badly, the draft stays if it keeps a fit.
    Raises RunError before anything is computed if `out` cannot be written, holds that name, or has no such
    draft.
    """
    draft = _unfinished(out, name, plan) if resume else _new(out, name, plan)
    with draft.lock():
        try:
            yield draft
        except BaseException as error:
            raise _left(draft, error) from error.__cause__
    try:
        draft.folder.rename(draft.final)
    except OSError as error:
        raise _left(draft, RunError(f"{draft.final}: cannot be written ({error.strerror})")) from None
    shutil.rmtree(draft.final / MAKING)  # last: a run that is killed here is whole all the same


def _left(draft: Draft, error: BaseException) -> BaseException:
    """The error, with a note on what it leaves behind; a full disk is a user's to mend."""
    if isinstance(error, OSError) and error.errno in FULL:
        error = RunError(f"{draft.folder}: cannot be written ({error.strerror}); make room.")
    fits = len(list((draft.folder / FITS).glob("*.npz")))
    if fits:
        error.add_note(f"{fits} finished fits are kept; the same command with --resume goes on from them.")
    else:
        shutil.rmtree(draft.folder, ignore_errors=True)
        error.add_note("No run was written.")
    return error


def curves(folder: Path) -> dict[str, list[list[dict[str, float]]]]:
    """Learning curves so far of the members of a run that fills its minutes in this folder; {} of others."""
    stages = (Draft(folder, folder).kept_schedule() or {"stages": []})["stages"]
    return {
        name: [read_log(file) for file in (folder / LOGS).glob(f"{name}-*.jsonl")]
        for stage in stages
        for name in stage["members"]
    }


def every(out: Path) -> list[Draft]:
    """The drafts in `out`, newest first."""
    plans = sorted(out.glob(f".*/{PLAN}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [Draft(path.parents[1], out / path.parents[1].name[1:]) for path in plans]


def _unfinished(out: Path, name: str | None, plan: dict[str, Any]) -> Draft:
    for draft in every(out):
        with suppress(ValueError):  # a plan that was being written when the run was killed
            stored = json.loads((draft.folder / PLAN).read_text(encoding="utf-8"))
            if stored == json.loads(json.dumps(plan)) and name in (None, draft.final.name):
                if draft.running:
                    raise RunError(f"{draft.final.name} is still running; wait for it, or stop it first")
                return draft
    raise RunError(
        f"{out}: holds no unfinished run{f' {name}' if name else ''} with these settings, data, cores and "
        "library versions; start it without --resume"
    )


def _new(out: Path, name: str | None, plan: dict[str, Any]) -> Draft:
    if name is None:
        name = _unused(out, datetime.now().strftime("%Y%m%d-%H%M%S"))
    elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise RunError(
            f"--name {name!r}: expected letters, digits and . _ + -, the first a letter or a digit"
        )
    draft = Draft(out / f".{name}", out / name)
    if draft.final.exists():
        raise RunError(f"{draft.final}: exists already; take another --name, or delete that run")
    try:
        for inside in (FITS, LOGS):
            (draft.folder / inside).mkdir(parents=True)
        (draft.folder / PLAN).write_text(json.dumps(plan, indent=2), encoding="utf-8")
    except FileExistsError:
        raise RunError(
            f"{draft.folder}: is an unfinished run of that name; go on with --resume, or delete it"
        ) from None
    except OSError as error:
        raise RunError(
            f"{out}: cannot be written ({error.strerror}); choose another folder with --out"
        ) from None
    return draft


def _unused(out: Path, name: str) -> str:
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(name for name in names if not (out / name).exists() and not (out / f".{name}").exists())
