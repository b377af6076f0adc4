"""From finished fits, or other runs, to a complete run's folder: scores, blend, submission and manifest."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np

from digit_recognizer import blending, manifest, runs, scoring, submission
from digit_recognizer.errors import RunError
from digit_recognizer.manifest import (
    EpochMetrics,
    FitRecord,
    Manifest,
    ModelScore,
    RunConfig,
    SplitConfig,
)
from digit_recognizer.predictions import BLEND, HeldOut, Predictions
from digit_recognizer.settings import Settings
from digit_recognizer.training import FitFailure, FitResult, collect_predictions, test_fits, total_seconds


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
    """A model and what a run stores of it.

    files: contents of models/ by name; test_files: those whose mean prediction is the model's for new digits.
    """

    predictions: Predictions
    settings: Settings
    seconds: float
    files: Mapping[str, bytes]
    test_files: tuple[str, ...]


def from_fits(fits: Sequence[FitResult], *, count_epochs: bool) -> list[Model]:
    """Return the models that the fits make, in their order.

    count_epochs: store the epochs there were, not those of the settings.
    """
    models = []
    for name in dict.fromkeys(result.task.model for result in fits):
        of_model = [result for result in fits if result.task.model == name]
        settings = of_model[0].task.settings
        if count_epochs:
            settings = settings.model_copy(update={"epochs": max(len(result.curve) for result in of_model)})
        models.append(
            Model(
                collect_predictions(name, fits),
                settings,
                seconds=total_seconds(name, fits),
                files={_file(result): result.content for result in of_model},
                test_files=tuple(_file(result) for result in test_fits(name, fits)),
            )
        )
    return models


def write(
    folder: Path,
    name: str,
    config: RunConfig,
    rows: HeldOut,
    models: Sequence[Model],
    clock: Clock,
    *,
    on_notice: Callable[[str], None],
    fits: Sequence[FitResult] = (),
    failures: Sequence[FitFailure] = (),
    stopped_early: str | None = None,
) -> None:
    """Write the models as a complete run, called `name`, into an empty folder."""
    predictions = [model.predictions for model in models]
    method = config.ensemble.method if config.ensemble else "weighted"
    blend = blending.blend(predictions, rows, method) if config.blend and len(models) > 1 else None
    if blend and not blend.converged:
        on_notice("The weights of the blend could not be found; its models are weighted equally")
    scores = {model.predictions.name: _score(model.predictions, rows, model.seconds) for model in models}
    if blend:
        scores[BLEND] = _score(blend.predictions, rows, sum(model.seconds for model in models))
    main_model = BLEND if blend else max(scores, key=lambda name: scores[name].accuracy)
    if blend:
        predictions.append(blend.predictions)
    test = {model.name: model.test for model in predictions}
    clock.lap("score")
    runs.write_models(folder, {name: file for model in models for name, file in model.files.items()})
    sha256 = None
    if config.command != "validate":
        sha256 = _write_submission(folder / runs.SUBMISSION, test[main_model])
    runs.write_probabilities(folder, rows, predictions)
    clock.lap("write")
    runs.write_manifest(
        folder,
        Manifest(
            name=name,
            created=manifest.now(),
            config=config,
            scores=scores,
            main_model=main_model,
            recipes={model.predictions.name: model.settings for model in models},
            test_fits={model.predictions.name: model.test_files for model in models},
            blend=blend.combiner if blend else None,
            submission_model=main_model if sha256 else None,
            submission_sha256=sha256,
            fits={result.task.name: _fit_record(result) for result in fits},
            failed_fits={failure.task.name: failure.reason for failure in failures},
            stopped_early=stopped_early,
            seconds={**clock.laps, "total": round(clock.elapsed(), 2)},
        ),
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
    """Return a model of another run with the files that predict new digits, as far as they are there."""
    renamed = {name: _file_name(f"{run_name}+{name}") for name in run.manifest.test_fits[model.name]}
    paths = {name: run.folder / runs.MODELS / name for name in renamed}
    return Model(
        replace(model, name=f"{model.name}@{run_name}" if is_repeated else model.name),
        run.manifest.recipes[model.name],
        run.manifest.scores[model.name].seconds,
        files={renamed[name]: path.read_bytes() for name, path in paths.items() if path.is_file()},
        test_files=tuple(renamed.values()),
    )


def _file_name(text: str) -> str:
    """Return the end of the text as manifest.FileName demands: long names come of blends of blends."""
    return re.sub(r"[^A-Za-z0-9@._+-]", "-", text)[-200:].lstrip("@._+-")


def _write_submission(path: Path, probabilities: np.ndarray) -> str:
    """Write and check the likeliest digits; return the file's SHA-256."""
    submission.write(probabilities.argmax(axis=1), path)
    return submission.check(path, rows=len(probabilities)).sha256


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
        split=result.task.split.name,
        file=_file(result),
        seconds=round(result.seconds, 2),
        curve=tuple(EpochMetrics(**metrics) for metrics in result.curve),
    )


def _file(result: FitResult) -> str:
    return f"{result.task.file_name}.npz"
