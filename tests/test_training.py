from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TRAIN
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from digit_recognizer import data, recipes, splits, training
from digit_recognizer.nets import pipelines
from digit_recognizer.recipes import Recipe


class Memory(ClassifierMixin, BaseEstimator):
    """Knows the digits it was fitted on by heart, and is wrong on all others."""

    def fit(self, X: Any, y: Any, on_epoch: Any = None, until: Any = None) -> "Memory":
        self.known_ = {row.tobytes().hex(): int(label) for row, label in zip(X, y, strict=True)}
        self.classes_ = np.arange(10)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        known = [self.known_.get(row.tobytes().hex()) for row in X]
        return np.array([np.zeros(10) if label is None else np.eye(10)[label] for label in known])


@dataclass(frozen=True)
class Remembering:
    epochs: int = 1

    def classifier(self, seed: int) -> Pipeline:
        return pipelines.on_pixels(Memory())


def test_a_fits_seed_depends_on_itself_alone(digits: data.Dataset) -> None:
    parts = splits.split(digits.train.labels, holdout=0.1, folds=3, seed=0)
    keras, sklearn = recipes.choose(["keras-mlp", "sklearn-mlp"])

    def seeds(chosen: list[Recipe], seed: int, refit: bool = False) -> dict[str, int]:
        return {fit.name: fit.seed for fit in training.plan(chosen, parts, refit=refit, seed=seed)}

    both = seeds([keras, sklearn], 0, refit=True)
    assert len(set(both.values())) == 8
    assert seeds([sklearn], 0).items() <= both.items()
    assert not set(seeds([sklearn], 1).values()) & set(both.values())


def test_out_of_fold_predictions_come_from_models_that_never_saw_the_row(digits: data.Dataset) -> None:
    recipe = Recipe("memory", "", Remembering())
    parts = splits.split(digits.train.labels, holdout=0.1, folds=3, seed=0)
    fits = training.plan([recipe], parts, refit=True, seed=0)
    fitted = [training.fit_one(fit, digits.train, digits.test) for fit in fits]
    gathered = training.gather("memory", fitted)
    assert gathered.out_of_fold.shape == (TRAIN, 10)
    assert not gathered.out_of_fold.any()  # a row that was trained on would be known


def predictions(digits: data.Dataset, name: str, part: splits.Part, value: float) -> training.Fitted:
    fit = training.Fit(Recipe(name, "", Remembering()), part, 0)
    valid = np.full((len(part.valid), 10), value)
    return training.Fitted(fit, valid, np.full((len(digits.test), 10), value), ("", b""), [], 1.0)


def test_fold_models_are_averaged_on_the_test_rows_unless_one_saw_all(digits: data.Dataset) -> None:
    parts = splits.split(digits.train.labels, holdout=0.1, folds=2, seed=0)
    fitted = [predictions(digits, "a", part, value) for part, value in zip(parts, (0.2, 0.4), strict=True)]
    other = predictions(digits, "b", parts[0], 0.9)
    gathered = training.gather("a", [*fitted, other])
    np.testing.assert_allclose(gathered.test, 0.3)
    np.testing.assert_allclose(gathered.out_of_fold[: len(parts[0].valid)], 0.2)
    every = predictions(digits, "a", splits.Part(splits.ALL_ROWS, np.arange(TRAIN), np.arange(0)), 0.8)
    refitted = training.gather("a", [*fitted, other, every])
    np.testing.assert_allclose(refitted.test, 0.8)
    np.testing.assert_array_equal(refitted.out_of_fold, gathered.out_of_fold)


@pytest.mark.slow
def test_fits_run_in_other_processes_and_report_each_epoch(digits: data.Dataset, tmp_path: Path) -> None:
    (short,) = recipes.choose(["sklearn-mlp"], ["epochs=3"])
    parts = splits.split(digits.train.labels, holdout=0.1, folds=2, seed=0)
    fits = training.plan([short], parts, refit=False, seed=0)
    seen: list[training.Progress] = []
    (tmp_path / "sklearn-mlp-fold-1.jsonl").write_text("of a fit that was cut off\n")
    fitted = list(
        training.fit_all(fits, digits, workers=2, threads=1, logs=tmp_path, on_progress=seen.append)
    )
    assert {one.fit.name for one in fitted} == {"sklearn-mlp fold 1", "sklearn-mlp fold 2"}
    for one in fitted:
        own = [progress for progress in seen if progress.fit == one.fit.name]
        assert (own[0].epoch, own[-1].epoch, own[-1].epochs) == (0, 3, 3)
        assert own[-1].figures == one.history[-1]
        assert training.read_log(tmp_path / f"{one.fit.file_name}.jsonl") == one.history
        alone = training.fit_one(one.fit, digits.train, digits.test)
        np.testing.assert_array_equal(alone.valid, one.valid)
        assert len(one.history) == 3
        assert one.history[-1]["train_loss"] < one.history[0]["train_loss"]


def test_cores_are_shared_out_among_the_fits() -> None:
    assert training.share_cores(2, fits=2) == (2, 1)
    assert training.share_cores(2, fits=10) == (2, 1)
    assert training.share_cores(8, fits=2) == (2, 4)
    assert training.share_cores(3, fits=2) == (2, 1)
    assert training.share_cores(4, fits=1) == (1, 4)
