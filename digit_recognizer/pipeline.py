"""The whole job in order: Kaggle's CSVs -> digits -> split -> fit -> probabilities -> blend -> submission."""

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer import __version__, data, ensemble, recipes, runs, scoring, submission, training
from digit_recognizer.ensemble import Predictions

SAMPLE_NOTICE = (
    "This is the embedded sample, one seventh of the competition's size, and no submission for Kaggle. "
    + data.GET_THE_DATA
)
LIBRARIES = ("numpy", "pandas", "scikit-learn", "tensorflow", "keras")


@dataclass(frozen=True)
class Job:
    """What to train, on what; the fields are the options of `train`."""

    recipes: tuple[str, ...] = recipes.DEFAULT
    ensemble: bool = True
    holdout: float = 0.1
    folds: int | None = None
    refit: bool = False
    seed: int = 0
    jobs: int | None = None
    data_dir: Path | None = None
    out: Path = Path("submissions")
    name: str | None = None


def train(job: Job, *, on_notice: Callable[[str], None], on_progress: training.OnProgress) -> runs.Run:
    """From the CSVs to a run's folder with a checked submission in it.

    Raises a DigitRecognizerError for what the user can mend; no run is written then.
    """
    started = time.perf_counter()
    seconds: dict[str, float] = {}

    def lap(stage: str) -> None:
        seconds[stage] = round(time.perf_counter() - started - sum(seconds.values()), 2)

    chosen = [recipes.get(name) for name in dict.fromkeys(job.recipes)]
    digits = data.load(data.find(job.data_dir))
    parts = training.split(digits.train.labels, holdout=job.holdout, folds=job.folds, seed=job.seed)
    rows = np.concatenate([part.valid for part in parts])
    fits = training.plan(chosen, parts, refit=job.refit, seed=job.seed)
    lap("read")

    with runs.new(job.out, job.name) as (folder, final):
        on_notice(f"Read {len(digits.train):,} + {len(digits.test):,} digits from {digits.source}")
        if digits.kind == "sample":
            on_notice(SAMPLE_NOTICE)
        done: dict[str, training.Fitted] = {}
        for one in training.fit_all(fits, digits, jobs=job.jobs, on_progress=on_progress):
            runs.write_model(folder, one.fit.name, *one.model)
            done[one.fit.name] = one
        fitted = [done[fit.name] for fit in fits]
        lap("fit")

        members = [training.gather(recipe.name, fitted) for recipe in chosen]
        blended = [ensemble.mean(members)] if job.ensemble and len(members) > 1 else []
        scores = {one.name: _scores(one, rows, digits, fitted) for one in [*members, *blended]}
        best = max(blended or members, key=lambda one: scores[one.name]["accuracy"])
        lap("score")

        submission.write(best.test.argmax(axis=1), folder / runs.SUBMISSION)
        submission.check(folder / runs.SUBMISSION, rows=len(digits.test))
        runs.write_probabilities(folder, rows, [*members, *blended])
        lap("write")
        manifest = {
            "name": final.name,
            "created": datetime.now().astimezone().isoformat(timespec="seconds"),
            "data": {
                "kind": digits.kind,
                "source": str(digits.source),
                "rows": {"train": len(digits.train), "test": len(digits.test)},
                "fingerprint": digits.fingerprint,
            },
            "recipes": {recipe.name: asdict(recipe.settings) for recipe in chosen},
            "seed": job.seed,
            "split": {"holdout": job.holdout} if job.folds is None else {"folds": job.folds},
            "refit": job.refit,
            "scores": scores,
            "submitted": best.name,
            "fits": {
                one.fit.name: {"seconds": round(one.seconds, 2), "curve": one.history} for one in fitted
            },
            "seconds": {**seconds, "total": round(time.perf_counter() - started, 2)},
            "versions": _versions(),
        }
        runs.write_manifest(folder, manifest)
    return runs.Run(final, manifest)


def _scores(
    one: Predictions, rows: np.ndarray, digits: data.Dataset, fitted: list[training.Fitted]
) -> dict[str, Any]:
    """Accuracy on the held-out rows, and on the test digits where their labels are known.

    `seconds` are its fits', added up; the blend's are those of all.
    """
    scores = asdict(scoring.score(digits.train.labels[rows], one.out_of_fold))
    if digits.test_labels is not None:
        scores["test_accuracy"] = scoring.score(digits.test_labels, one.test).accuracy
    own = [fit for fit in fitted if one.name in (fit.fit.recipe.name, "blend")]
    return {**scores, "seconds": round(sum(fit.seconds for fit in own), 2)}


def _versions() -> dict[str, str]:
    """Of this program, Python and the libraries that the numbers depend on."""
    return {
        "digit_recognizer": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }
