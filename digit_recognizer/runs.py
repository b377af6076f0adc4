"""One folder a run, whole or not there at all: manifest, probabilities, fitted models and the submission."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from digit_recognizer.ensemble import Predictions
from digit_recognizer.errors import RunError

MANIFEST = "run.json"
SUBMISSION = "submission.csv"
PROBABILITIES = "probabilities.npz"
MODELS = "models"


@dataclass(frozen=True)
class Run:
    """A run on the disk: its folder and what `run.json` says."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def submission(self) -> Path:
        """The CSV's path."""
        return self.folder / SUBMISSION

    def predictions(self) -> tuple[np.ndarray, list[Predictions]]:
        """The held-out rows of train.csv, counted from 0, and what each model and the blend say of them."""
        path = self.folder / PROBABILITIES
        try:
            with np.load(path, allow_pickle=False) as stored:
                members = [
                    Predictions(name, stored[f"{name}/out_of_fold"], stored[f"{name}/test"])
                    for name in self.manifest["scores"]
                ]
                return stored["rows"], members
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise RunError(f"{path}: cannot be read ({error}); train that run again") from None


def load(folder: Path) -> Run:
    """The run in that folder; raises RunError where there is none."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise RunError(f"{folder}: holds no {MANIFEST}, so it is no run; `runs` lists those there are")
    return Run(folder, manifest)


def find(out: Path, name: str) -> Run:
    """The run of that name in `out`, or in the folder that `name` is; raises RunError where there is none."""
    return load(out / name if (out / name).is_dir() else Path(name))


def every(out: Path) -> list[Run]:
    """All runs in `out`, newest first."""
    runs = [load(path.parent) for path in out.glob(f"[!.]*/{MANIFEST}")]
    return sorted(runs, key=lambda run: (run.manifest["created"], run.folder.name), reverse=True)


@contextmanager
def new(out: Path, name: str | None = None) -> Iterator[tuple[Path, Path]]:
    """A folder to fill, and the one in `out` that it becomes when the block ends well.

    Without a name, it is called by date and time. Where the block ends badly, nothing is left.
    Raises RunError before anything is computed if `out` cannot be written or holds that name.
    """
    if name is None:
        name = _unused(out, datetime.now().strftime("%Y%m%d-%H%M%S"))
    elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        raise RunError(
            f"--name {name!r}: expected letters, digits and . _ + -, the first a letter or a digit"
        )
    final = out / name
    if final.exists():
        raise RunError(f"{final}: exists already; take another --name, or delete that run")
    try:
        out.mkdir(parents=True, exist_ok=True)
        filling = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=out))
    except OSError as error:
        raise RunError(
            f"{out}: cannot be written ({error.strerror}); choose another folder with --out"
        ) from None
    try:
        (filling / MODELS).mkdir()
        yield filling, final
        filling.chmod(0o755)  # mkdtemp's folders are private
        try:
            filling.rename(final)
        except OSError as error:
            raise RunError(f"{final}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(filling, ignore_errors=True)


def _unused(out: Path, name: str) -> str:
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(name for name in names if not (out / name).exists())


def record_kaggle(run: Run, outcome: dict[str, Any]) -> None:
    """Keep in the run's `run.json`, under "kaggle", what became of its submission there."""
    run.manifest["kaggle"] = outcome
    write_json(run.folder / MANIFEST, run.manifest)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole whenever the program is stopped; raises RunError where it cannot."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from None


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write `run.json`: what was run, on what, and what came out."""
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The folder's `run.json`; None if it has none. Raises RunError if it is not a run's."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["data"]["rows"]["test"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: is not the manifest of a run ({error!r})") from None
    return manifest


def write_model(folder: Path, fit: str, ending: str, content: bytes) -> None:
    """Write a fitted model's file under the name of its fit, such as `models/keras-mlp-fold-1.keras`."""
    (folder / MODELS / (fit.replace(" ", "-") + ending)).write_bytes(content)


def write_probabilities(folder: Path, rows: np.ndarray, predictions: Iterable[Predictions]) -> None:
    """Write `probabilities.npz`: `rows`, the held-out rows of train.csv counted from 0, and for each
    model and the blend `<name>/out_of_fold`, in the order of `rows`, and `<name>/test`."""
    arrays = {"rows": rows}
    for one in predictions:
        arrays |= {f"{one.name}/out_of_fold": one.out_of_fold, f"{one.name}/test": one.test}
    np.savez_compressed(folder / PROBABILITIES, allow_pickle=False, **arrays)
