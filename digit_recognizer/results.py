"""From finished fits, or other runs, to what a run says: scores, blend and manifest."""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from digit_recognizer import blending, expected, runs, scoring
from digit_recognizer.data import references
from digit_recognizer.errors import RunError
from digit_recognizer.job import Method
from digit_recognizer.manifest import EpochMetrics, ExpectedScore, FitRecord, Manifest, ModelScore, RunConfig
from digit_recognizer.predictions import BLEND, HeldOut, Predictions
from digit_recognizer.settings import Settings
from digit_recognizer.training import FitResult, OnNotice, collect_predictions, file_name, inference_fits


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

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each step so far, and in total."""
        return {**self.laps, "total": round(self.elapsed(), 2)}


@dataclass(frozen=True)
class Model:
    """A model and what a run says of it.

    inference_fits: names of the files in fits/ whose mean prediction is the model's for new digits.
    fits: its fits, by name. sources: files of other runs to copy into fits/, by their names there.
    """

    predictions: Predictions
    settings: Settings
    fit_seconds: float
    inference_fits: tuple[str, ...]
    fits: Mapping[str, FitRecord] = field(default_factory=dict)
    sources: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What the held-out rows say of models.

    scores: by model, the blend's last; predictions: in the same order; main_model: the blend if there is one,
    else the most accurate model; expected_score: of that on the test digits.
    """

    models: Sequence[Model]
    config: RunConfig
    scores: dict[str, ModelScore]
    predictions: list[Predictions]
    blend: blending.AnyCombiner | None
    main_model: str
    expected_score: ExpectedScore | None

    @property
    def labels(self) -> np.ndarray:
        """Return the main model's digits of the test rows, int of shape (n,)."""
        return next(model.labels for model in self.predictions if model.name == self.main_model)


def from_fits(name: str, results: Sequence[FitResult]) -> Model:
    """Return the model that its fits make, with the epochs that they had if time decided."""
    settings = results[0].task.settings
    if results[0].task.budget:
        epochs = max(result.curve[-1]["epoch"] for result in results)
        settings = settings.model_copy(update={"epochs": max(1, round(epochs))})
    fits = {
        result.task.name: FitRecord(
            model=result.task.model,
            recipe=result.task.recipe,
            split=result.task.split.name,
            file=f"{file_name(result.task.name)}.npz",
            seconds=round(result.seconds, 2),
            curve=tuple(EpochMetrics(**metrics) for metrics in result.curve),
        )
        for result in results
    }
    fit_seconds = sum(result.seconds for result in results)
    files = tuple(fits[result.task.name].file for result in inference_fits(results))
    return Model(collect_predictions(name, results), settings, fit_seconds, files, fits)


def evaluate(
    models: Sequence[Model], held_out: HeldOut, config: RunConfig, method: Method | None, on_notice: OnNotice
) -> Evaluation:
    """Score the models on their held-out rows and, with a method, blend them if there are several."""
    predictions = {model.predictions.name: model.predictions for model in models}
    fit_seconds = {model.predictions.name: model.fit_seconds for model in models}
    fit_seconds[BLEND] = sum(fit_seconds.values())
    combiner = None
    if method is not None and len(models) > 1:
        combiner, predictions[BLEND] = blending.blend(list(predictions.values()), held_out, method)
        if not combiner.converged:
            on_notice("The weights of the blend could not be found; its models are weighted equally")
    margins = references.margins(config.data.fingerprint.train, config.data.rows.train)
    estimates = {
        name: scoring.estimate(scoring.by_digit(held_out, model.out_of_fold), config.data.rows.train, margins)
        for name, model in predictions.items()
    }
    scores = {
        name: _score(estimates[name], predictions[name], held_out, fit_seconds[name]) for name in predictions
    }
    main_model = BLEND if combiner else max(scores, key=lambda name: scores[name].accuracy)
    main, raw = estimates[main_model].score, estimates[main_model].raw
    if not raw.low <= main.accuracy <= raw.high:
        on_notice(
            f"The validation accuracy of {main_model}, {main.accuracy:.4f}, is adjusted by more than chance "
            f"explains: {raw.accuracy:.4f} of the held-out digits are right (95% interval {raw.low:.4f} to "
            f"{raw.high:.4f})"
        )
    expected_score = expected.expect(estimates, main_model, config)
    scored = list(predictions.values())
    return Evaluation(models, config, scores, scored, combiner, main_model, expected_score)


def _score(
    estimate: scoring.Estimate, predictions: Predictions, held_out: HeldOut, fit_seconds: float
) -> ModelScore:
    of_folds = [held_out.folds == fold for fold in np.unique(held_out.folds)]
    folds = [scoring.accuracy(held_out.labels[rows], predictions.out_of_fold[rows]) for rows in of_folds]
    several, on_test = len(folds) > 1, None
    if held_out.test_labels is not None:
        on_test = scoring.accuracy(held_out.test_labels, predictions.test)
    return ModelScore(
        **dict(estimate.score),
        raw=None if estimate.raw == estimate.score else estimate.raw,
        digits=estimate.digits,
        fit_seconds=round(fit_seconds, 2),
        folds=tuple(folds) if several else None,
        std=float(np.std(folds, ddof=1)) if several else None,
        test_accuracy=on_test,
    )


def describe(
    name: str, evaluation: Evaluation, clock: Clock, *, failed_fits: dict[str, str], stopped_early: str | None
) -> Manifest:
    """Return what `run.json` says of a run called `name`."""
    models, config = evaluation.models, evaluation.config
    return Manifest(
        name=name,
        created=_now(),
        config=config,
        scores=evaluation.scores,
        main_model=evaluation.main_model,
        expected_score=evaluation.expected_score,
        settings={model.predictions.name: model.settings for model in models},
        inference_fits={model.predictions.name: model.inference_fits for model in models},
        blend=evaluation.blend,
        submission_model=None if config.command == "validate" else evaluation.main_model,
        fits={name: fit for model in models for name, fit in model.fits.items()},
        failed_fits=failed_fits,
        stopped_early=stopped_early,
        seconds=clock.seconds(),
    )


def _now() -> datetime:
    """Return the moment with the offset of the time zone here; in UTC if that is no zone, as of TZ=XXX+99."""
    try:
        return datetime.now().astimezone()
    except ValueError:
        return datetime.now(UTC)


def distinct_models(parents: Sequence[runs.Run]) -> tuple[HeldOut, list[Model]]:
    """Return the distinct models of the runs; RunError, with what differs, if data or split do.

    A name that occurs twice gets `@run` appended.
    """
    distinct: list[tuple[runs.Run, str, Predictions]] = []
    held_out: HeldOut | None = None
    for run, run_name in zip(parents, different_names(parents), strict=True):
        rows, models = run.predictions()
        held_out = held_out or rows
        _check_comparable(parents[0], run, held_out, rows)
        for model in models:  # an ensemble holds its parents' models
            known = any(np.array_equal(model.out_of_fold, other.out_of_fold) for *_, other in distinct)
            if model.name != BLEND and not known:
                distinct.append((run, run_name, model))
    if held_out is None or len(distinct) < 2:
        raise RunError("a blend takes at least two different models; name runs that hold two")
    names = Counter(model.name for *_, model in distinct)
    return held_out, [
        _stored_model(run, run_name, model, twice=names[model.name] > 1) for run, run_name, model in distinct
    ]


def different_names(parents: Sequence[runs.Run]) -> tuple[str, ...]:
    """Return the runs' names; of those with one name, from several folders, each but the first gets `-2`s."""
    names: list[str] = []
    for run in parents:
        name = run.manifest.name
        while name in names:
            name += "-2"
        names.append(name)
    return tuple(names)


def _check_comparable(first: runs.Run, run: runs.Run, held_out: HeldOut, other: HeldOut) -> None:
    manifests = [first.manifest, run.manifest]
    if manifests[0].config.data.fingerprint != manifests[1].config.data.fingerprint:
        sources = " and ".join(f"{each.name} ({each.config.data.source})" for each in manifests)
        raise RunError(f"{sources} are runs on different data; only runs on the same data can be blended")
    if not (np.array_equal(held_out.rows, other.rows) and np.array_equal(held_out.folds, other.folds)):
        splits = " and ".join(f"{m.name} ({m.config.split}, seed {m.config.seed})" for m in manifests)
        raise RunError(
            f"{splits} held out different rows; train one of them again with the other's --folds or "
            "--holdout and --seed"
        )


def _stored_model(run: runs.Run, run_name: str, model: Predictions, *, twice: bool) -> Model:
    """Return a model of another run with the files that predict new digits."""
    files = {  # as manifest.FileName demands: long names come of blends of blends
        re.sub(r"[^A-Za-z0-9@._+-]", "-", f"{run_name}+{file}")[-200:].lstrip("@._+-"): file
        for file in run.manifest.inference_fits[model.name]
    }
    return Model(
        replace(model, name=f"{model.name}@{run_name}") if twice else model,
        run.manifest.settings[model.name],
        run.manifest.scores[model.name].fit_seconds,
        inference_fits=tuple(files),
        sources={name: run.folder / runs.FITS / file for name, file in files.items()},
    )
