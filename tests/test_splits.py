from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TRAIN, tiny_job, train, write_digits

from digit_recognizer import data, splits
from digit_recognizer.errors import OptionError
from digit_recognizer.reports import report_data


def labels_of(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def test_a_holdout_is_stratified_and_apart(digits: data.Dataset) -> None:
    labels = digits.train.labels
    (split,) = splits.make_splits(labels, holdout=0.2, folds=None, seed=3)
    assert split.name == "holdout"
    assert len(split.valid) == TRAIN * 0.2
    assert sorted([*split.train, *split.valid]) == list(range(TRAIN))
    share = np.bincount(labels[split.valid]) / np.bincount(labels)
    assert share.min() > 0.15
    assert share.max() < 0.25


def test_the_seed_decides_the_split(digits: data.Dataset) -> None:
    def rows(seed: int) -> list[int]:
        return splits.make_splits(digits.train.labels, holdout=0.1, folds=None, seed=seed)[0].valid.tolist()

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (labels_of(*[50] * 10), {"holdout": 0.01}, r"expected at least 10 rows on both sides"),
        (labels_of(*[50] * 10), {"holdout": 0.999}, r"expected at least 10 rows on both sides"),
        (labels_of(*[50] * 9, 1), {}, r"found 1 rows of digit 9, expected at least 2 to split into a hold"),
        (labels_of(*[50] * 9), {}, r"found 0 rows of digit 9"),
        (labels_of(*[50] * 9, 4), {"folds": 5}, r"found 4 rows of digit 9, expected at least 5 .* 5 folds"),
        (labels_of(*[50] * 9, 2), {"holdout": 0.9}, r"some digit has no row left to train on"),
        (
            labels_of(*[50] * 10),
            {"first_rows": np.r_[:450, [450] * 50]},
            r"found 1 rows of digit 9, expected at least 2 .*equal rows count once",
        ),
    ],
)
def test_an_impossible_split_raises_split_error(labels: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        splits.make_splits(labels, **{"holdout": 0.1, "folds": None, "seed": 0, **options})


def test_repeats_hold_out_every_row_as_often_in_other_folds(digits: data.Dataset) -> None:
    folds = splits.make_splits(digits.train.labels, holdout=0.1, folds=3, repeats=2, seed=0)
    assert [split.name for split in folds] == [
        "fold 1", "fold 2", "fold 3", "fold 1 repeat 2", "fold 2 repeat 2", "fold 3 repeat 2",
    ]  # fmt: skip
    held_out = splits.held_out_rows(folds, digits.train.labels, digits.test_labels)
    assert np.bincount(held_out.rows).tolist() == [2] * TRAIN
    np.testing.assert_array_equal(held_out.labels, digits.train.labels[held_out.rows])
    for number, split in enumerate(folds):
        np.testing.assert_array_equal(held_out.rows[held_out.folds == number], split.valid)
    assert folds[0].valid.tolist() != folds[3].valid.tolist()
    first = splits.make_splits(digits.train.labels, holdout=0.1, folds=3, seed=0)
    assert [split.valid.tolist() for split in first] == [split.valid.tolist() for split in folds[:3]]


@pytest.mark.parametrize("options", [{"folds": None}, {"folds": 3, "repeats": 2}])
def test_equal_rows_are_on_one_side(digits: data.Dataset, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    copies = rng.integers(TRAIN, size=2 * TRAIN)  # some rows many times
    first_rows = np.r_[:TRAIN, copies]
    labels = digits.train.labels[first_rows]
    labels[TRAIN] = (labels[TRAIN] + 1) % 10  # equal pixels with two labels
    made = splits.make_splits(labels, first_rows, holdout=0.2, seed=0, **options)
    as_if_once = splits.make_splits(digits.train.labels, holdout=0.2, seed=0, **options)
    for split, once in zip(made, as_if_once, strict=True):
        assert sorted([*split.train, *split.valid]) == list(range(3 * TRAIN))
        assert not set(first_rows[split.train]) & set(first_rows[split.valid])
        np.testing.assert_array_equal(np.unique(first_rows[split.valid]), once.valid)
    held_out = splits.held_out_rows(made, labels, None, first_rows)
    valid = np.concatenate([split.valid for split in made])
    np.testing.assert_array_equal(held_out.rows, first_rows[valid])
    np.testing.assert_array_equal(held_out.labels, labels[valid])


def test_rows_that_repeat_give_no_better_score(tmp_path: Path, train_csv: str, test_csv: str) -> None:
    header, *rows = train_csv.splitlines()
    relabelled = f"{(int(rows[4][0]) + 1) % 10}{rows[4][1:]}"
    twice = "\n".join([header, *rows, *rows[:4], relabelled, *rows[5:]])
    scores = {}
    for name, text in {"once": train_csv, "twice": twice}.items():
        write_digits(tmp_path / name / "data", text, test_csv)
        notices: list[str] = []
        run = train(tiny_job(tmp_path / name, recipes=("sklearn-mlp-plain",), name="run"), notices)
        scores[name] = run.main_score
        assert any("of train.csv repeat the pixels" in line for line in notices) == (name == "twice")
    assert scores["twice"].digits == TRAIN
    assert scores["twice"].accuracy == pytest.approx(scores["once"].accuracy, abs=0.05)
    width = scores["twice"].high - scores["twice"].low
    assert width == pytest.approx(scores["once"].high - scores["once"].low, rel=0.3)
    assert report_data.read(run, tmp_path / "twice/data").manifest == run.manifest
