from typing import Any

import numpy as np
import pytest
from conftest import TRAIN

from digit_recognizer import data, splits
from digit_recognizer.errors import SplitError


def some_labels(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def test_a_holdout_is_stratified_and_apart(digits: data.Dataset) -> None:
    labels = digits.train.labels
    (part,) = splits.split(labels, holdout=0.2, folds=None, seed=3)
    assert part.name == "holdout"
    assert len(part.valid) == TRAIN * 0.2
    assert sorted([*part.train, *part.valid]) == list(range(TRAIN))
    share = np.bincount(labels[part.valid]) / np.bincount(labels)
    assert share.min() > 0.15
    assert share.max() < 0.25


def test_folds_hold_out_every_row_once(digits: data.Dataset) -> None:
    parts = splits.split(digits.train.labels, holdout=0.1, folds=4, seed=3)
    assert sorted(np.concatenate([part.valid for part in parts])) == list(range(TRAIN))
    for part in parts:
        assert not set(part.train) & set(part.valid)
        assert len(part.train) + len(part.valid) == TRAIN


def test_the_seed_decides_the_split(digits: data.Dataset) -> None:
    def rows(seed: int) -> list[int]:
        return splits.split(digits.train.labels, holdout=0.1, folds=None, seed=seed)[0].valid.tolist()

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
        splits.split(labels, **{"holdout": 0.1, "folds": None, "seed": 0, **options})


def test_repeats_hold_out_every_row_as_often_in_other_folds(digits: data.Dataset) -> None:
    parts = splits.split(digits.train.labels, holdout=0.1, folds=3, repeats=2, seed=0)
    assert [part.name for part in parts] == [
        "fold 1", "fold 2", "fold 3", "fold 1 again 1", "fold 2 again 1", "fold 3 again 1",
    ]  # fmt: skip
    truth = splits.truth(parts, digits)
    assert np.bincount(truth.rows).tolist() == [2] * TRAIN
    assert np.unique(truth.folds).tolist() == list(range(6))
    assert parts[0].valid.tolist() != parts[3].valid.tolist()
    first = splits.split(digits.train.labels, holdout=0.1, folds=3, seed=0)
    assert [part.valid.tolist() for part in first] == [part.valid.tolist() for part in parts[:3]]


def test_the_truth_is_the_rows_labels_part_by_part(digits: data.Dataset) -> None:
    parts = splits.split(digits.train.labels, holdout=0.1, folds=3, seed=0)
    truth = splits.truth(parts, digits)
    np.testing.assert_array_equal(truth.labels, digits.train.labels[truth.rows])
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(truth.rows[truth.folds == number], part.valid)
