"""A run's folder as it is read: `run.json` says what is complete, even while the run is still being fitted.

`drafts` fills the folder, and shows its files.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from digit_recognizer import records, submission
from digit_recognizer.errors import RunError
from digit_recognizer.files import locked, read_plain, write_atomically
from digit_recognizer.manifest import FORMAT, Manifest, ModelScore, Rows
from digit_recognizer.nets.arrays import read_arrays, write_arrays
from digit_recognizer.predictions import CLASSES, HeldOut, Predictions

MANIFEST, SUBMISSION, FITS, CONFIG, LOCK = "run.json", "submission.csv", "fits", "config.json", "lock"
PAGES = ("report", "draw.html")  # made of a run on demand
MAX_ARRAYS_BYTES = 2**30  # of a fit's file, or the probabilities


@dataclass(frozen=True)
class Run:
    """A run on the disk: its folder and what `run.json` says."""

    folder: Path
    manifest: Manifest

    @property
    def is_running(self) -> bool:
        """Whether a process is still fitting it, so that later stages may come."""
        return is_running(self.folder)

    @property
    def submission(self) -> Path:
        """The CSV's path."""
        return self.folder / SUBMISSION

    @property
    def main_score(self) -> ModelScore:
        """The score of the run's main model."""
        return self.manifest.scores[self.manifest.main_model]

    @property
    def local_score(self) -> ModelScore | None:
        """The score of the model that submission.csv is of; None without a submission."""
        name = self.manifest.submission_model
        return None if name is None else self.manifest.scores[name]

    def predictions(self) -> tuple[HeldOut, list[Predictions]]:
        """Return the held-out rows, and the probabilities of each model and of the blend.

        Raises RunError if they cannot be read.
        """
        path = probabilities_file(self.folder, self.manifest.stage)
        try:
            arrays = read_arrays(read_plain(path, MAX_ARRAYS_BYTES))
            models = [
                Predictions(name, arrays[f"{name}/out_of_fold"], arrays[f"{name}/test"])
                for name in self.manifest.scores
            ]
            held_out = HeldOut(arrays["rows"], arrays["folds"], arrays["labels"], arrays.get("test_labels"))
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror}); train that run again") from None
        except (KeyError, ValueError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else error
            raise RunError(f"{path}: is damaged ({reason}); train that run again") from None
        if problem := _problem(held_out, models, self.manifest.config.data.rows):
            raise RunError(f"{path}: is damaged ({problem}); train that run again")
        return held_out, models


def _problem(held_out: HeldOut, models: Iterable[Predictions], rows: Rows) -> str:
    """Return what is wrong with the arrays, in words; "" if nothing is. They are finite: `read_arrays`."""
    arrays = {name: array for name, array in vars(held_out).items() if array is not None}
    shapes = dict.fromkeys(arrays, (held_out.rows.size,)) | {"test_labels": (rows.test,)}
    highest = {"rows": rows.train - 1, "folds": rows.train, "labels": CLASSES - 1, "test_labels": CLASSES - 1}
    for name, array in arrays.items():
        if array.shape != shapes[name] or array.dtype.kind not in "iu":
            return f"{name} is {array.dtype} of shape {array.shape}, expected integers of {shapes[name]}"
        if array.size and not 0 <= array.min() <= array.max() <= highest[name]:
            return f"{name} holds other numbers than 0 to {highest[name]}"
    for model in models:
        for name, array, count in (
            ("out_of_fold", model.out_of_fold, len(held_out.rows)),
            ("test", model.test, rows.test),
        ):
            if array.shape != (count, CLASSES) or array.dtype.kind != "f":
                return f"{model.name}/{name} is not {count} rows of {CLASSES} numbers"
            if array.size and not (0 <= array.min() <= array.max() <= 1.001):
                return f"{model.name}/{name} holds other numbers than probabilities"
    return ""


def probabilities_file(folder: Path, stage: int) -> Path:
    """Return the path of a stage's probabilities."""
    return folder / f"probabilities-{stage}.npz"


def is_running(folder: Path) -> bool:
    """Return whether a process is working on the run; to know, this takes its lock for a moment."""
    if not (folder / LOCK).exists():
        return False
    try:
        with locked(folder / LOCK, BlockingIOError()):
            return False
    except BlockingIOError:
        return True
    except RunError:  # another user's
        return False


def load(folder: Path) -> Run:
    """Return the run in that folder, with its submission in place; raises RunError if there is none."""
    manifest = read_manifest(folder)
    if manifest is None:
        state = "is still running, and nothing of it is complete yet" if is_running(folder) else (
            f"holds no {MANIFEST}, so it is no run; `runs` lists the runs"
        )  # fmt: skip
        raise RunError(f"{folder}: {state}")
    run = Run(folder, manifest)
    _restore_submission(run)
    return run


def _restore_submission(run: Run) -> None:
    """Write submission.csv again if a process was killed between run.json and it."""
    manifest, path = run.manifest, run.submission
    if manifest.submission_model is None:
        return
    try:
        found = hashlib.sha256(read_plain(path, submission.MAX_BYTES)).hexdigest()
    except FileNotFoundError:
        found = None
    except OSError:
        return  # who needs it tells why
    if found not in (None, manifest.replaced_sha256) or found == manifest.submission_sha256 or run.is_running:
        return
    with suppress(RunError, OSError):  # of a damaged run, or one that cannot be written
        test = {model.name: model.test for model in run.predictions()[1]}
        content = submission.to_bytes(test[manifest.submission_model].argmax(axis=1))
        if hashlib.sha256(content).hexdigest() == manifest.submission_sha256:
            write_atomically(path, content)


def find(out: Path, name: str) -> Run:
    """Return the run of that name in `out`, or in the folder `name`; raises RunError if there is none."""
    folders = [out / name, Path(name)]
    return load(next((folder for folder in folders if folder.is_dir()), folders[-1]))


def list_all(out: Path) -> tuple[list[Run], list[str]]:
    """Return the runs in `out`, newest first, and one line about each that cannot be read."""
    runs, problems = [], []
    for path in sorted(out.glob(f"[!.]*/{MANIFEST}")):
        try:
            runs.append(load(path.parent))
        except RunError as error:
            problems.append(f"{error}; it is left out")
    return sorted(runs, key=lambda run: (run.manifest.created, run.folder.name), reverse=True), problems


def list_newest(out: Path, on_notice: Callable[[str], None]) -> list[Run]:
    """Return the runs in `out` that nobody is fitting, newest first; give notice of each unreadable one."""
    runs, problems = list_all(out)
    for problem in problems:
        on_notice(problem)
    return [run for run in runs if not run.is_running]


def incomplete_folders(out: Path) -> list[Path]:
    """Return the folders of runs in `out` that are not complete, the one that was worked on last first."""
    dated: list[tuple[float, Path]] = []
    for path in out.glob(f"[!.]*/{CONFIG}"):
        with suppress(OSError):  # it became complete just now
            dated.append(((path.parent / FITS).stat().st_mtime, path.parent))
    return [folder for _, folder in sorted(dated, key=lambda pair: pair[0], reverse=True)]


def count_fits(folder: Path) -> int:
    """Return the number of finished fits that --resume can go on from."""
    return len(list(folder.glob(f"{FITS}/*.npz"))) if (folder / CONFIG).exists() else 0


def list_unfinished(out: Path) -> list[str]:
    """Return a line on each run in `out` that is being fitted, or has nothing complete, and what to do."""
    lines = []
    for folder in incomplete_folders(out):
        if is_running(folder):
            lines.append(f"{folder.name} is still running")
        elif (folder / MANIFEST).exists():
            continue
        elif fits := count_fits(folder):
            lines.append(
                f"{folder.name} was cut off with {fits} finished fits; "
                f"its command with --resume goes on, or delete {folder}"
            )
        else:
            lines.append(f"{folder.name} was cut off before a fit was finished; its command starts it anew")
    return lines


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `run.json`; raises RunError if it cannot be written."""
    records.write(folder / MANIFEST, manifest)


def read_manifest(folder: Path) -> Manifest | None:
    """Return what the folder's `run.json` says, None if it has none.

    Raises RunError if it is not a run's, or of another version of this package.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return None
    content = records.read_json(path)
    try:
        return records.parse(content, path, Manifest)
    except RunError:
        if (written := _format(content)) == FORMAT:
            raise
        raise RunError(
            f"{path}: was written by another version of digit_recognizer (format {written}, expected "
            f"{FORMAT}); train that run again, or use that version"
        ) from None


class _AnyFormat(BaseModel):
    """Of any version's manifest: the first version wrote no format number."""

    format: int = 1
    scores: dict[str, object]


def _format(content: bytes) -> int:
    """Return the manifest's format number; FORMAT if it is no version's manifest at all."""
    try:
        return _AnyFormat.model_validate_json(content).format
    except ValueError:
        return FORMAT


def read_fit(path: Path) -> bytes:
    """Return the content of a fit's file; raises RunError if it cannot be read."""
    try:
        return read_plain(path, MAX_ARRAYS_BYTES)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); train that run again") from None


def write_probabilities(path: Path, held_out: HeldOut, predictions: Iterable[Predictions]) -> None:
    """Write HeldOut's fields and, of each model, `<name>/out_of_fold` and `<name>/test`."""
    arrays = {name: array for name, array in vars(held_out).items() if array is not None}
    for model in predictions:
        arrays |= {f"{model.name}/out_of_fold": model.out_of_fold, f"{model.name}/test": model.test}
    write_atomically(path, write_arrays(arrays))
