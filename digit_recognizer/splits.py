"""Which rows are held out: a stratified holdout, or folds."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from digit_recognizer.errors import OptionError
from digit_recognizer.predictions import CLASSES, HeldOut

ALL_ROWS = "all rows"


@dataclass(frozen=True)
class Split:
    """The rows that a model is fitted on and the rows held out from it: int arrays of row numbers."""

    name: str  # 'holdout', or 'fold 1' ..., 'fold 1 repeat 2' ..., or ALL_ROWS
    train: np.ndarray
    valid: np.ndarray


def fold_name(number: int, folds: int) -> str:
    """Return the name of a fold; `number` counts from 0 over all repeats."""
    return f"fold {number % folds + 1}" + (f" repeat {number // folds + 1}" if number >= folds else "")


def first_rows(rows: Iterable[np.ndarray]) -> np.ndarray:
    """Return the number of the first row that is equal to each, int of shape (n,)."""
    digests = b"".join(hashlib.sha256(row.tobytes()).digest() for row in rows)
    _, first, number = np.unique(np.frombuffer(digests, "V32"), return_index=True, return_inverse=True)
    return first[number]


def make_splits(
    labels: np.ndarray,
    first_rows: np.ndarray | None = None,
    *,
    holdout: float | None,
    folds: int | None,
    repeats: int = 1,
    seed: int,
) -> list[Split]:
    """Return stratified splits: `folds` * `repeats` of them or, without folds, one that holds out a share.

    first_rows: int of shape (n,), the number of the first row equal to each; equal rows are split as one, on
    one side. None if no two are equal.
    Raises OptionError if a digit has too few different rows to be on both sides of each split.
    """
    from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split

    if first_rows is None:
        first_rows = np.arange(len(labels))
    rows = np.unique(first_rows)
    different, minimum = labels[rows], folds or 2
    for digit, count in enumerate(np.bincount(different, minlength=CLASSES)):
        if count < minimum:
            raise OptionError(
                f"train.csv: found {count:,} rows of digit {digit}, expected at least {minimum} to split "
                f"into {f'{folds} folds' if folds else 'a holdout'}; add digits (equal rows count once), or "
                "use another split"
            )
    if folds:
        folding = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
        valids = {
            fold_name(number, folds): rows[valid]
            for number, (_, valid) in enumerate(folding.split(rows, different))
        }
    else:
        assert holdout is not None, "neither a holdout nor folds"
        if min(len(rows) * holdout, len(rows) * (1 - holdout)) < CLASSES:
            raise OptionError(
                f"--holdout {holdout:g} of {len(rows):,} rows: expected at least {CLASSES} rows on both "
                "sides, one for each digit"
            )
        _, valid = train_test_split(rows, test_size=holdout, stratify=different, random_state=seed)
        valids = {"holdout": valid}
    splits = []
    for name, valid in valids.items():
        inside = np.isin(first_rows, valid)
        splits.append(Split(name, np.flatnonzero(~inside), np.flatnonzero(inside)))
        if len(np.unique(labels[~inside])) < CLASSES:
            raise OptionError(f"{name}: some digit has no row left to train on; hold out less")
    return splits


def held_out_rows(
    splits: Sequence[Split],
    labels: np.ndarray,
    test_labels: np.ndarray | None,
    first_rows: np.ndarray | None = None,
) -> HeldOut:
    """Return the splits' held-out rows, split by split, as `training.collect_predictions` orders them.

    labels: of all training rows; test_labels: of the test rows, if they are known; first_rows: as of
    `make_splits`.
    """
    rows = np.concatenate([split.valid for split in splits])
    folds = np.repeat(np.arange(len(splits)), [len(split.valid) for split in splits])
    return HeldOut(rows if first_rows is None else first_rows[rows], folds, labels[rows], test_labels)
