"""From finished fits, or other runs, to what a run says: scores, blend and manifest."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np

from digit_recognizer import blending, manifest, runs, scoring
from digit_recognizer.errors import RunError
from digit_recognizer.manifest import (
    EpochMetrics,
    FitRecord,
    Manifest,
    Method,
    ModelScore,
    RunConfig,
    SplitConfig,
)
from digit_recognizer.predictions import BLEND, HeldOut, Predictions
from digit_recognizer.settings import Settings
from digit_recognizer.training import FitFailure, FitResult, collect_predictions, inference_fits


class Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.laps: dict[str, float] = {}

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._started

    def lap(self, step: str) -> None:
        """End a step; a step that comes again is added to."""
        since = max(0, self.elapsed() - sum(self.laps.values()))
        self.laps[step] = round(self.laps.get(step, 0) + since, 2)


@dataclass(frozen=True)
class Model:
    """A model and what a run says of it.

    inference_fits: names of the files in fits/ whose mean prediction is the model's for new digits.
    fits: its fits, by name. sources: files of other runs to copy into fits/, by their names there.
    """

    predictions: Predictions
    settings: Settings
    seconds: float
    inference_fits: tuple[str, ...]
    fits: Mapping[str, FitRecord] = field(default_factory=dict)
    sources: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What the held-out rows say of models.

    scores: by model, the blend's last; predictions: in the same order; main_model: the blend if there is one,
    else the most accurate model.
    """

    scores: dict[str, ModelScore]
    predictions: list[Predictions]
    blend: blending.Blend | None
    main_model: str

    @property
    def labels(self) -> np.ndarray:
        """Return the main model's digits of the test rows, int of shape (n,)."""
        return next(model.test for model in self.predictions if model.name == self.main_model).argmax(axis=1)


def from_fits(name: str, results: Sequence[FitResult], *, use_actual_epochs: bool) -> Model:
    """Return the model that its fits make; use_actual_epochs: instead of those that its settings say."""
    settings = results[0].task.settings
    if use_actual_epochs:
        epochs = max(result.curve[-1]["epoch"] for result in results)
        settings = settings.model_copy(update={"epochs": max(1, round(epochs))})
    return Model(
        collect_predictions(name, results),
        settings,
        seconds=sum(result.seconds for result in results),
        inference_fits=tuple(_file(result) for result in inference_fits(results)),
        fits={result.task.name: _fit_record(result) for result in results},
    )


def evaluate(models: Sequence[Model], rows: HeldOut, method: Method | None) -> Evaluation:
    """Score the models on their held-out rows and, with a method, blend them if there are several."""
    predictions = [model.predictions for model in models]
    scores = {model.predictions.name: _score(model.predictions, rows, model.seconds) for model in models}
    blend = blending.blend(predictions, rows, method) if method and len(models) > 1 else None
    main_model = max(scores, key=lambda name: scores[name].accuracy)
    if blend:
        main_model = BLEND
        scores[BLEND] = _score(blend.predictions, rows, sum(model.seconds for model in models))
        predictions.append(blend.predictions)
    return Evaluation(scores, predictions, blend, main_model)


def describe(
    name: str,
    config: RunConfig,
    models: Sequence[Model],
    evaluation: Evaluation,
    clock: Clock,
    *,
    failures: Sequence[FitFailure] = (),
    stopped_early: str | None = None,
) -> Manifest:
    """Return what `run.json` says of a run called `name`."""
    return Manifest(
        name=name,
        created=manifest.now(),
        config=config,
        scores=evaluation.scores,
        main_model=evaluation.main_model,
        recipes={model.predictions.name: model.settings for model in models},
        inference_fits={model.predictions.name: model.inference_fits for model in models},
        blend=evaluation.blend.combiner if evaluation.blend else None,
        submission_model=None if config.command == "validate" else evaluation.main_model,
        fits={name: fit for model in models for name, fit in model.fits.items()},
        failed_fits={failure.task.name: failure.reason for failure in failures},
        stopped_early=stopped_early,
        seconds={**clock.laps, "total": round(clock.elapsed(), 2)},
    )


def distinct_models(parents: Sequence[runs.Run]) -> tuple[HeldOut, list[Model]]:
    """Return the runs' distinct models; a name that occurs twice gets `@run` appended.

    Of runs with the same name, from two folders, the second is called `run-2` there.
    """
    stored = [run.predictions() for run in parents]
    rows = stored[0][0]
    for run, (other, _) in zip(parents[1:], stored[1:], strict=True):
        _check_comparable(parents[0], run, rows, other)
    distinct: list[tuple[runs.Run, Predictions]] = []
    for run, (_, models) in zip(parents, stored, strict=True):
        for model in models:  # an ensemble holds its parents' models
            is_repeated = any(np.array_equal(model.out_of_fold, other.out_of_fold) for _, other in distinct)
            if model.name != BLEND and not is_repeated:
                distinct.append((run, model))
    if len(distinct) < 2:
        raise RunError("a blend takes at least two different models; name runs that hold more")
    names = [model.name for _, model in distinct]
    run_names = different_names(parents)
    return rows, [
        _stored_model(run, model, run_names[run.folder], is_repeated=names.count(model.name) > 1)
        for run, model in distinct
    ]


def different_names(parents: Sequence[runs.Run]) -> dict[Path, str]:
    """Return a name for each run's folder: the run's own or, if another run has that, one with a number."""
    names: dict[Path, str] = {}
    own = {run.manifest.name for run in parents}
    for run in parents:
        name = run.manifest.name
        if name in names.values():
            numbered = (f"{name}-{number}" for number in count(2))
            name = next(free for free in numbered if free not in own.union(names.values()))
        names[run.folder] = name
    return names


def _check_comparable(first: runs.Run, run: runs.Run, rows: HeldOut, other: HeldOut) -> None:
    configs = [(parent.manifest.name, parent.manifest.config) for parent in (first, run)]
    if configs[0][1].data.fingerprint != configs[1][1].data.fingerprint:
        sources = " and ".join(f"{name} ({config.data.source})" for name, config in configs)
        raise RunError(f"{sources} are runs on different data; only runs on the same data can be blended")
    if not (np.array_equal(rows.rows, other.rows) and np.array_equal(rows.folds, other.folds)):
        splits = " and ".join(
            f"{name} ({_describe(config.split)}, seed {config.seed})" for name, config in configs
        )
        raise RunError(
            f"{splits} held out different rows; train one of them again with the other's --folds or "
            "--holdout and --seed"
        )


def _describe(split: SplitConfig) -> str:
    return (
        f"--holdout {split.holdout:g}" if split.holdout else f"{split.folds} folds, {split.repeats} repeats"
    )


def _stored_model(run: runs.Run, model: Predictions, run_name: str, *, is_repeated: bool) -> Model:
    """Return a model of another run with the files that predict new digits."""
    renamed = {_file_name(f"{run_name}+{name}"): name for name in run.manifest.inference_fits[model.name]}
    return Model(
        replace(model, name=f"{model.name}@{run_name}" if is_repeated else model.name),
        run.manifest.recipes[model.name],
        run.manifest.scores[model.name].seconds,
        inference_fits=tuple(renamed),
        sources={name: run.folder / runs.FITS / original for name, original in renamed.items()},
    )


def _file_name(text: str) -> str:
    """Return the end of the text as manifest.FileName demands: long names come of blends of blends."""
    return re.sub(r"[^A-Za-z0-9@._+-]", "-", text)[-200:].lstrip("@._+-")


def _score(predictions: Predictions, rows: HeldOut, seconds: float) -> ModelScore:
    score = scoring.score(rows.labels, predictions.out_of_fold, rows.rows)
    folds = scoring.by_fold(rows.labels, predictions.out_of_fold, rows.folds)
    on_test = None
    if rows.test_labels is not None:
        on_test = scoring.score(rows.test_labels, predictions.test).accuracy
    return ModelScore(
        accuracy=score.accuracy,
        low=score.low,
        high=score.high,
        digits=score.digits,
        seconds=round(seconds, 2),
        folds=tuple(folds) if len(folds) > 1 else None,
        std=float(np.std(folds, ddof=1)) if len(folds) > 1 else None,
        test_accuracy=on_test,
    )


def _fit_record(result: FitResult) -> FitRecord:
    return FitRecord(
        model=result.task.model,
        recipe=result.task.recipe,
        split=result.task.split.name,
        file=_file(result),
        seconds=round(result.seconds, 2),
        curve=tuple(EpochMetrics(**metrics) for metrics in result.curve),
    )


def _file(result: FitResult) -> str:
    return f"{result.task.file_name}.npz"
