from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conftest import TRAIN
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import Pipeline

from digit_recognizer import data, models, recipes, training
from digit_recognizer.errors import SplitError
from digit_recognizer.recipes import Recipe


class Memory(ClassifierMixin, BaseEstimator):
    """Knows the digits it was fitted on by heart, and is wrong on all others."""

    def fit(self, X: Any, y: Any, on_epoch: Any = None) -> "Memory":
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
        return models.on_pixels(Memory())


def some_labels(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def test_a_holdout_is_stratified_and_apart(digits: data.Dataset) -> None:
    labels = digits.train.labels
    (part,) = training.split(labels, holdout=0.2, folds=None, seed=3)
    assert part.name == "holdout"
    assert len(part.valid) == TRAIN * 0.2
    assert sorted([*part.train, *part.valid]) == list(range(TRAIN))
    share = np.bincount(labels[part.valid]) / np.bincount(labels)
    assert share.min() > 0.15
    assert share.max() < 0.25


def test_folds_hold_out_every_row_once(digits: data.Dataset) -> None:
    parts = training.split(digits.train.labels, holdout=0.1, folds=4, seed=3)
    assert sorted(np.concatenate([part.valid for part in parts])) == list(range(TRAIN))
    for part in parts:
        assert not set(part.train) & set(part.valid)
        assert len(part.train) + len(part.valid) == TRAIN


def test_the_seed_decides_the_split(digits: data.Dataset) -> None:
    def rows(seed: int) -> list[int]:
        return training.split(digits.train.labels, holdout=0.1, folds=None, seed=seed)[0].valid.tolist()

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (some_labels(*[50] * 10), {"holdout": 0}, r"--holdout 0: expected a share between 0 and 1"),
        (some_labels(*[50] * 10), {"holdout": 1.0}, r"--holdout 1: expected a share"),
        (some_labels(*[50] * 10), {"holdout": -0.5}, r"--holdout -0\.5: expected a share"),
        (some_labels(*[50] * 10), {"holdout": float("nan")}, r"--holdout nan: expected a share"),
        (some_labels(*[50] * 10), {"holdout": 0.01}, r"expected at least 10 rows on both sides"),
        (some_labels(*[50] * 10), {"holdout": 0.999}, r"expected at least 10 rows on both sides"),
        (some_labels(*[50] * 10), {"folds": 1}, r"--folds 1: expected at least 2"),
        (
            some_labels(*[50] * 9, 1),
            {},
            r"found 1 rows of digit 9, expected at least 2 to split into a holdout",
        ),
        (some_labels(*[50] * 9), {}, r"found 0 rows of digit 9"),
        (some_labels(*[50] * 9, 4), {"folds": 5}, r"found 4 rows of digit 9, expected at least 5 .* 5 folds"),
        (some_labels(*[50] * 9, 2), {"holdout": 0.9}, r"some digit has no row left to train on"),
    ],
)
def test_what_cannot_be_split_is_one_clear_line(labels: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SplitError, match=message):
        training.split(labels, **{"holdout": 0.1, "folds": None, "seed": 0, **options})


def test_a_fits_seed_depends_on_itself_alone(digits: data.Dataset) -> None:
    parts = training.split(digits.train.labels, holdout=0.1, folds=3, seed=0)
    keras, sklearn = recipes.get("keras-mlp"), recipes.get("sklearn-mlp")

    def seeds(chosen: list[Recipe], seed: int, refit: bool = False) -> dict[str, int]:
        return {fit.name: fit.seed for fit in training.plan(chosen, parts, refit=refit, seed=seed)}

    both = seeds([keras, sklearn], 0, refit=True)
    assert len(set(both.values())) == 8
    assert seeds([sklearn], 0).items() <= both.items()
    assert not set(seeds([sklearn], 1).values()) & set(both.values())


def test_out_of_fold_predictions_come_from_models_that_never_saw_the_row(digits: data.Dataset) -> None:
    recipe = Recipe("memory", "", Remembering())
    parts = training.split(digits.train.labels, holdout=0.1, folds=3, seed=0)
    fits = training.plan([recipe], parts, refit=True, seed=0)
    fitted = [training.fit_one(fit, digits.train, digits.test) for fit in fits]
    gathered = training.gather("memory", fitted)
    assert gathered.out_of_fold.shape == (TRAIN, 10)
    assert not gathered.out_of_fold.any()  # a row that was trained on would be known


def predictions(digits: data.Dataset, name: str, part: training.Part, value: float) -> training.Fitted:
    fit = training.Fit(Recipe(name, "", Remembering()), part, 0)
    valid = np.full((len(part.valid), 10), value)
    return training.Fitted(fit, valid, np.full((len(digits.test), 10), value), ("", b""), [], 1.0)


def test_fold_models_are_averaged_on_the_test_rows_unless_one_saw_all(digits: data.Dataset) -> None:
    parts = training.split(digits.train.labels, holdout=0.1, folds=2, seed=0)
    fitted = [predictions(digits, "a", part, value) for part, value in zip(parts, (0.2, 0.4), strict=True)]
    other = predictions(digits, "b", parts[0], 0.9)
    gathered = training.gather("a", [*fitted, other])
    np.testing.assert_allclose(gathered.test, 0.3)
    np.testing.assert_allclose(gathered.out_of_fold[: len(parts[0].valid)], 0.2)
    every = predictions(digits, "a", training.Part(training.ALL_ROWS, np.arange(TRAIN), np.arange(0)), 0.8)
    refitted = training.gather("a", [*fitted, other, every])
    np.testing.assert_allclose(refitted.test, 0.8)
    np.testing.assert_array_equal(refitted.out_of_fold, gathered.out_of_fold)


@pytest.mark.slow
def test_fits_run_in_other_processes_and_report_each_epoch(digits: data.Dataset) -> None:
    import dataclasses

    sklearn = recipes.get("sklearn-mlp")
    short = dataclasses.replace(sklearn, settings=dataclasses.replace(sklearn.settings, epochs=3))
    parts = training.split(digits.train.labels, holdout=0.1, folds=2, seed=0)
    fits = training.plan([short], parts, refit=False, seed=0)
    seen: list[training.Progress] = []
    fitted = list(training.fit_all(fits, digits, jobs=2, on_progress=seen.append))
    assert {one.fit.name for one in fitted} == {"sklearn-mlp fold 1", "sklearn-mlp fold 2"}
    for one in fitted:
        own = [progress for progress in seen if progress.fit == one.fit.name]
        assert (own[0].epoch, own[-1].epoch, own[-1].epochs) == (0, 3, 3)
        assert own[-1].figures == one.history[-1]
        alone = training.fit_one(one.fit, digits.train, digits.test)
        np.testing.assert_array_equal(alone.valid, one.valid)
        assert len(one.history) == 3
        assert one.history[-1]["train_loss"] < one.history[0]["train_loss"]
