"""Which rows are held out: a stratified holdout, or folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from digit_recognizer.data import CLASSES, Dataset
from digit_recognizer.ensemble import Truth
from digit_recognizer.errors import SplitError

ALL_ROWS = "all rows"


@dataclass(frozen=True)
class Part:
    """Which rows a model is fitted on and which are held out from it: int arrays of row numbers."""

    name: str  # 'holdout', or 'fold 1' ..., 'fold 1 again 1' ..., or ALL_ROWS
    train: np.ndarray
    valid: np.ndarray


def fold_name(number: int, folds: int) -> str:
    """What the part of that number, counted from 0 over all repeats, is called."""
    return f"fold {number % folds + 1}" + (f" again {number // folds}" if number >= folds else "")


def split(
    labels: np.ndarray, *, holdout: float, folds: int | None, repeats: int = 1, seed: int
) -> list[Part]:
    """Stratified parts: one held-out share of the rows, or with `folds` as many folds, `repeats` times over.

    Raises SplitError where a digit has too few rows to be on both sides of each part.
    """
    from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split

    rows = np.arange(len(labels))
    if folds is not None and folds < 2:
        raise SplitError(f"--folds {folds}: expected at least 2")
    if not 0 < holdout < 1:
        raise SplitError(f"--holdout {holdout:g}: expected a share between 0 and 1, such as 0.1")
    _check_classes(labels, folds or 2, f"{folds} folds" if folds else "a holdout")
    if folds is None:
        if min(len(labels) * holdout, len(labels) * (1 - holdout)) < CLASSES:
            raise SplitError(
                f"--holdout {holdout:g} of {len(labels)} rows: expected at least {CLASSES} rows on both "
                "sides, one for each digit"
            )
        train, valid = train_test_split(rows, test_size=holdout, stratify=labels, random_state=seed)
        parts = [Part("holdout", np.sort(train), np.sort(valid))]
    else:
        splits = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
        parts = [
            Part(
                fold_name(number, folds),
                *sides,
            )
            for number, sides in enumerate(splits.split(rows, labels))
        ]
    for part in parts:
        if len(np.unique(labels[part.train])) < CLASSES:
            raise SplitError(f"{part.name}: some digit has no row left to train on; hold out less")
    return parts


def _check_classes(labels: np.ndarray, least: int, what: str) -> None:
    for digit, count in enumerate(np.bincount(labels, minlength=CLASSES)):
        if count < least:
            raise SplitError(
                f"train.csv: found {count} rows of digit {digit}, expected at least {least} "
                f"to split into {what}; add digits, or use another split"
            )


def truth(parts: Sequence[Part], data: Dataset) -> Truth:
    """The parts' held-out rows, part by part, as `gather` puts their predictions."""
    rows = np.concatenate([part.valid for part in parts])
    folds = np.repeat(np.arange(len(parts)), [len(part.valid) for part in parts])
    return Truth(rows, folds, data.train.labels[rows], data.test_labels)
