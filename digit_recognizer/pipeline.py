"""The whole job in order: Kaggle's CSVs -> digits -> split -> schedule -> fit -> blend -> checked submission."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from digit_recognizer import data, drafts, ensemble, manifest, recipes, runs, scoring, submission, training, workers
from digit_recognizer.ensemble import Blend
from digit_recognizer.errors import FitError, RecipeError, RunError
from digit_recognizer.manifest import FitRecord, Manifest, ModelScore, RunConfig, SplitConfig
from digit_recognizer.predictions import BLEND, HeldOut, Predictions, held_out
from digit_recognizer.schedule import Member, Schedule, Stage, check_minutes, make_schedule
from digit_recognizer.splits import Split, make_splits
from digit_recognizer.training import FitFailure, FitResult, FitTask, OnProgress, Progress

OnNotice = Callable[[str], None]
NOT_FOR_KAGGLE = {
    "sample": "This is the embedded sample, one seventh of the competition's size, and no submission for "
    f"Kaggle. {data.DOWNLOAD_HINT}",
    "openml": "These are MNIST's digits from OpenML, for learning, and no submission for Kaggle",
}


@dataclass(frozen=True)
class Job:
    """What to train, on what; the fields are the options of `train` and `validate`."""

    recipes: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    minutes: float | None = None
    ensemble: bool = True
    holdout: float = 0.1
    folds: int | None = None
    repeats: int = 1
    refit: bool = False
    seed: int = 0
    jobs: int | None = None
    data_dir: Path | None = None
    out: Path = Path("submissions")
    name: str | None = None
    resume: bool = False
    write_submission: bool = True

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The recipes to fit: those of the last group that this machine is quick enough for."""
        if self.recipes:
            return (tuple(dict.fromkeys(self.recipes)),)
        return recipes.FOR_MINUTES if self.minutes else (recipes.DEFAULT,)


def train(job: Job, *, on_notice: OnNotice, on_progress: OnProgress) -> runs.Run:
    """From the CSVs to a run's folder, with a checked submission in it if `job.write_submission`.

    Raises a DigitRecognizerError for what the user can mend; no run is written then.
    """
    clock = Clock()
    groups = [recipes.select(names, job.overrides) for names in job.groups]
    _check(job, groups)
    dataset = data.load(data.find(job.data_dir))
    splits = make_splits(
        dataset.train.labels, holdout=job.holdout, folds=job.folds, repeats=job.repeats, seed=job.seed
    )
    config = _config(job, groups, dataset)
    clock.lap("read")
    with drafts.start(job.out, job.name, config, resume=job.resume) as draft:
        on_notice(f"Read {len(dataset.train):,} + {len(dataset.test):,} digits from {dataset.source}")
        if notice := NOT_FOR_KAGGLE.get(dataset.kind):
            on_notice(notice)
        schedule = draft.load_schedule() or draft.save_schedule(
            make_schedule(
                groups, splits, dataset, refit=job.refit, minutes=job.minutes, elapsed=clock.elapsed,
                cores=job.jobs or workers.cpu_count(), gpus=config.gpus,
            )
        )  # fmt: skip
        clock.lap("schedule")
        fits = _Fits(draft, dataset, schedule, splits, job, on_notice, on_progress)
        for stage, tasks in fits.stages():
            stopped = fits.fit_stage(stage, tasks)
            clock.lap("fit")
            with _signals_held() as signals:
                run = _write_stage(draft, config, fits, held_out(splits, dataset), clock, stopped)
            if stopped or signals:
                break
        return run
