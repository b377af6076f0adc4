"""One folder a run: manifest, probabilities, fitted models and the submission; `drafts` makes it."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from digit_recognizer.ensemble import BLEND, Predictions, Truth
from digit_recognizer.errors import RunError
from digit_recognizer.training import Fitted

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

    @property
    def best(self) -> str:
        """The model, or the blend, that stands for the run: what it submitted, or would have."""
        scores = self.manifest["scores"]
        by_score = max(scores, key=lambda name: (name == BLEND, scores[name]["accuracy"]))
        return self.manifest.get("submitted") or by_score

    def predictions(self) -> tuple[Truth, list[Predictions]]:
        """The held-out rows, and what each model and the blend say of them and of the test rows."""
        path = self.folder / PROBABILITIES
        try:
            with np.load(path, allow_pickle=False) as stored:
                members = [
                    Predictions(name, stored[f"{name}/out_of_fold"], stored[f"{name}/test"])
                    for name in self.manifest["scores"]
                ]
                truth = Truth(stored["rows"], stored["folds"], stored["labels"], stored.get("test_labels"))
                return truth, members
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise RunError(f"{path}: cannot be read ({error}); train that run again") from None


def load(folder: Path) -> Run:
    """The run in that folder; raises RunError where there is none."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise RunError(f"{folder}: holds no {MANIFEST}, so it is no run; `runs` lists those there are")
    return Run(folder, manifest)


def find(out: Path, name: str, *, unfinished: bool = False) -> Run:
    """The run of that name in `out`, or in the folder that `name` is; raises RunError where there is none.

    unfinished: also one that still fits members to fill its minutes, as far as it is.
    """
    folders = [out / name, *([out / f".{name}"] if unfinished else []), Path(name)]
    return load(next((folder for folder in folders if folder.is_dir()), folders[-1]))


def every(out: Path) -> list[Run]:
    """All runs in `out`, newest first."""
    runs = [load(path.parent) for path in out.glob(f"[!.]*/{MANIFEST}")]
    return sorted(runs, key=lambda run: (run.manifest["created"], run.folder.name), reverse=True)


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
    write_json(folder / MANIFEST, manifest)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The folder's `run.json`; None if it has none. Raises RunError if it is not a run's."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["data"]["rows"]["test"], manifest["created"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: is not the manifest of a run ({error!r})") from None
    return manifest


def write_models(folder: Path, fitted: Iterable[Fitted]) -> None:
    """Write the fitted models, and no others, each called by its fit: `models/keras-mlp-fold-1.keras`."""
    models = folder / MODELS
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir()
    for one in fitted:
        ending, content = one.model
        (models / f"{one.fit.file_name}{ending}").write_bytes(content)


def write_probabilities(folder: Path, truth: Truth, predictions: Iterable[Predictions]) -> None:
    """Write `probabilities.npz`: the fields of Truth, and for each model and the blend `<name>/out_of_fold`
    and `<name>/test`."""
    arrays = {name: array for name, array in vars(truth).items() if array is not None}
    for one in predictions:
        arrays |= {f"{one.name}/out_of_fold": one.out_of_fold, f"{one.name}/test": one.test}
    partial = folder / f".{PROBABILITIES}"
    np.savez_compressed(partial, allow_pickle=False, **arrays)
    partial.replace(folder / PROBABILITIES)
