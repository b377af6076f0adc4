"""A run's folder as it is read: `run.json` says what is complete, even while the run is being fitted."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digit_recognizer import records, submission
from digit_recognizer.errors import RunError, nearest
from digit_recognizer.files import delete, locked, read_plain, write_atomically, writing
from digit_recognizer.manifest import Manifest, ModelScore, Rows, RunConfig, current_versions, source_hash
from digit_recognizer.nets.arrays import read_arrays, write_arrays
from digit_recognizer.predictions import CLASSES, HeldOut, Predictions
from digit_recognizer.scoring import accuracy

MANIFEST, SUBMISSION, FITS, CONFIG, LOCK = "run.json", "submission.csv", "fits", "config.json", "lock"
LEDGER = ".submitted.json"  # in the folder of the runs: SHA-256 of each submitted file -> its latest outcome
JOURNAL = "search.jsonl"  # of `tune`, in a folder NAME-search until it ends
WITHOUT_SUBMISSION = f"has no submission of its own; `train` and `ensemble` write a {SUBMISSION}"
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
        """The score of the run's main model, which its submission is of if it has one."""
        return self.manifest.scores[self.manifest.main_model]

    def predictions(self) -> tuple[HeldOut, list[Predictions]]:
        """Return the held-out rows, and each model's and the blend's probabilities; RunError if damaged."""
        path = probabilities_file(self.folder, self.manifest.stage)
        content = read_file(path)
        try:
            arrays = read_arrays(content)
            _check(arrays, self.manifest.scores, self.manifest.config.data.rows)
        except (KeyError, ValueError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else error
            raise RunError(f"{path}: is damaged ({reason}); train that run again") from None
        return HeldOut(arrays["rows"], arrays["folds"], arrays["labels"], arrays.get("test_labels")), [
            Predictions(name, arrays[f"{name}/out_of_fold"], arrays[f"{name}/test"])
            for name in self.manifest.scores
        ]

    def main_predictions(self) -> tuple[HeldOut, Predictions]:
        """Return the held-out rows and the main model's probabilities; raises RunError as `predictions`."""
        held_out, models = self.predictions()
        return held_out, next(model for model in models if model.name == self.manifest.main_model)


def _check(arrays: Mapping[str, np.ndarray], scores: Mapping[str, ModelScore], rows: Rows) -> None:
    """Raise KeyError or ValueError unless `write_probabilities` wrote these arrays, and for this run."""
    held_out = (arrays["rows"].size,)
    if held_out == (0,):
        raise ValueError("no row is held out")
    expected: dict[str, tuple[tuple[int, ...], float]] = {  # shape, and the highest number
        "rows": (held_out, rows.train - 1),
        "folds": (held_out, rows.train),
        "labels": (held_out, CLASSES - 1),
    }
    if "test_labels" in arrays:
        expected["test_labels"] = ((rows.test,), CLASSES - 1)
    for model in scores:
        expected[f"{model}/out_of_fold"] = ((*held_out, CLASSES), 1.001)
        expected[f"{model}/test"] = ((rows.test, CLASSES), 1.001)
    for name, (shape, highest) in expected.items():
        array, kinds = arrays[name], "iu" if isinstance(highest, int) else "f"
        in_range = array.size == 0 or 0 <= array.min() <= array.max() <= highest
        if array.shape != shape or array.dtype.kind not in kinds or not in_range:
            numbers = "integers" if kinds == "iu" else "probabilities"
            raise ValueError(f"{name} is not of shape {shape} with {numbers} from 0 to {highest:.0f}")
    for name, score in scores.items():
        said, found = (score.raw or score).accuracy, accuracy(arrays["labels"], arrays[f"{name}/out_of_fold"])
        if abs(found - said) > 1e-6:
            raise ValueError(
                f"run.json says accuracy {said:.6f} of {name[:60]}, the probabilities give {found:.6f}"
            )


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
    except RunError:  # it is another user's
        return False


def load(folder: Path) -> Run:
    """Return the run in that folder; write its submission if missing. Raises RunError if it is no run."""
    manifest = read_manifest(folder)
    if manifest is None and is_running(folder):
        raise RunError(f"{folder}: is still running, and nothing of it is complete yet")
    if manifest is None:
        what = f"holds no {MANIFEST}, so it is no run; `runs` lists the runs"
        if (folder / CONFIG).exists():
            what = "is an unfinished run; `runs` says how to go on with it"
        raise RunError(f"{folder}: {what}")
    run = Run(folder, manifest)
    if manifest.submission_model and not os.path.lexists(run.submission) and not run.is_running:
        with suppress(RunError):  # of a damaged run, or one that cannot be written
            models = {model.name: model for model in run.predictions()[1]}
            submission.write(models[manifest.submission_model].labels, run.submission)
    return run


def check_outside(path: Path) -> None:
    """Raise WriteError if a path to write to is of a run, or in one; CSVs beside its own are the user's."""
    with writing(path, "; name a place outside"):
        real = Path(os.path.realpath(path))
        if real.name == LEDGER:
            raise OSError("it holds what was submitted")
        beside = real.suffix == ".csv" and not real.name.startswith("submission")
        for folder in [real, *real.parents][2 * beside :]:
            if (folder / FITS).is_dir() and any((folder / name).is_file() for name in (MANIFEST, CONFIG)):
                raise OSError(f"it belongs to the run {folder.name}")


def find(out: Path, name: str) -> Run:
    """Return the run of that name in `out`, or in the folder `name`; raises RunError if there is none."""
    folders = [folder for folder in (out / name, Path(name)) if folder.is_dir()]
    if not folders:
        names = [folder.name for folder in _holding(out, MANIFEST)]
        meant = f"did you mean {close}? " if (close := nearest(name, names)) else ""
        advice = "`runs` lists the runs" if names else "--out names another folder"
        raise RunError(f"{(out / name).absolute()}: no such run; {meant}{advice}")
    return load(folders[0])


def _holding(out: Path, name: str) -> list[Path]:
    """Return the folders in `out` that hold a file of that name; raises RunError if it cannot be read."""
    try:
        folders = sorted(folder for folder in out.iterdir() if not folder.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{out}: cannot be read ({error.strerror}); name another folder with --out") from None
    return [folder for folder in folders if os.path.lexists(folder / name)]


def list_all(out: Path, on_notice: Callable[[str], object]) -> list[Run]:
    """Return the runs in `out`, newest first; give notice of each that cannot be read."""
    runs = []
    for folder in _holding(out, MANIFEST):
        try:
            runs.append(load(folder))
        except RunError as error:
            on_notice(f"{error}; it is left out")
    return sorted(runs, key=lambda run: (run.manifest.created, run.folder.name), reverse=True)


def list_newest(out: Path, on_notice: Callable[[str], object]) -> list[Run]:
    """Return those of `list_all` that nobody is fitting."""
    return [run for run in list_all(out, on_notice) if not run.is_running]


def incomplete_folders(out: Path) -> list[Path]:
    """Return the folders of runs in `out` that are not complete, the one that was worked on last first."""
    dated: dict[Path, float] = {}
    for folder in _holding(out, CONFIG):
        with suppress(OSError):  # it became complete just now
            dated[folder] = (folder / FITS).stat().st_mtime
    return sorted(dated, key=lambda folder: dated[folder], reverse=True)


def count_fits(folder: Path) -> int:
    """Return the number of finished fits that --resume can go on from."""
    return len(list(folder.glob(f"{FITS}/*.npz"))) if (folder / CONFIG).exists() else 0


def is_search(folder: Path) -> bool:
    """Return whether the folder is of a search that goes on, not of the run that one ended with."""
    here = folder.name.endswith("-search") and (folder / JOURNAL).exists()
    return here and not os.path.lexists(folder / MANIFEST)


def _how_to_go_on(folder: Path) -> str:
    try:
        config = records.read(folder / CONFIG, RunConfig)
    except RunError as error:
        return f"{error}; delete {folder}"
    if (config.versions, config.source_hash) != (current_versions(), source_hash()):
        return f"it cannot go on, as other versions began it; delete {folder}"
    return f"`{config.resuming(folder)}` goes on, or delete {folder}"


def list_unfinished(out: Path) -> list[str]:
    """Return a line on each run in `out` that is being fitted, or has nothing complete, and what to do."""
    lines = []
    for folder in incomplete_folders(out):
        if is_running(folder):
            lines.append(f"{folder.name} is still running")
        elif not (folder / MANIFEST).exists():
            when, how = "before a fit was finished", "its command starts it anew"
            if fits := count_fits(folder):
                when, how = f"with {fits} finished fit{'s' * (fits > 1)}", _how_to_go_on(folder)
            lines.append(f"{folder.name} was cut off {when}; {how}")
    for folder in _holding(out, JOURNAL):
        if is_search(folder) and not is_running(folder):
            how = f"--name {folder.name.removesuffix('-search')} --resume"
            lines.append(f"{folder.name} was cut off; its command with {how} goes on")
    return lines


def read_manifest(folder: Path) -> Manifest | None:
    """Return what `run.json` says, None without one; raises RunError if it is not a run's of this version."""
    path = folder / MANIFEST
    try:
        return records.read(path, Manifest) if os.path.lexists(path) else None
    except RunError as error:
        raise RunError(f"{error}; train that run again, or use the version that wrote it") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace `run.json`; pages that were made of what it said before are deleted. Raises WriteError."""
    for page in PAGES:
        delete(folder / page)
    records.write(folder / MANIFEST, manifest)


def read_file(path: Path) -> bytes:
    """Return the content of a file of a run, of arrays or a failure; raises RunError if it cannot be read."""
    try:
        return read_plain(path, MAX_ARRAYS_BYTES)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}); train that run again") from None


def write_probabilities(path: Path, held_out: HeldOut, predictions: Sequence[Predictions]) -> None:
    """Write HeldOut's fields and, of each model, `<name>/out_of_fold` and `<name>/test`."""
    arrays = {name: array for name, array in vars(held_out).items() if array is not None}
    for model in predictions:
        arrays |= {f"{model.name}/out_of_fold": model.out_of_fold, f"{model.name}/test": model.test}
    write_atomically(path, write_arrays(arrays))
