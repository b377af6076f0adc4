"""One fit, and fits side by side: seeds, what a net sees, failures, GPUs."""

import importlib
import sys
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import PLAIN, TRAIN, run_program, wait_until
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.pipeline import Pipeline

from digit_recognizer import data, recipes, training
from digit_recognizer.errors import FitError
from digit_recognizer.nets import keras_net, pipelines
from digit_recognizer.nets.progress import Budget
from digit_recognizer.settings import parse
from digit_recognizer.splits import ALL_ROWS, Split, make_splits
from digit_recognizer.training import FitFailure, FitResult, FitTask, Progress, workers

SETTINGS = recipes.RECIPES["sklearn-mlp"].settings
fit_module = importlib.import_module("digit_recognizer.training.fit")


class Memory(ClassifierMixin, BaseEstimator):
    """Knows the digits it was fitted on by heart, and is wrong on all others."""

    def fit(self, X: Any, y: Any, on_epoch_end: Any = None, timer: Any = None) -> "Memory":
        self.known_ = {row.tobytes().hex(): int(label) for row, label in zip(X, y, strict=True)}
        self.classes_ = np.arange(10)
        if on_epoch_end:
            on_epoch_end(1.0)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        known = [self.known_.get(row.tobytes().hex()) for row in X]
        return np.array([np.zeros(10) if label is None else np.eye(10)[label] for label in known])

    def predict_proba_without_tta(self, X: Any) -> np.ndarray:
        return np.full((len(X), 10), 0.1)


def folds_of(digits: data.Dataset, count: int = 3) -> list[Split]:
    return make_splits(digits.train.labels, holdout=0.1, folds=count, seed=0)


def short_fits(digits: data.Dataset, folds: int, **changes: object) -> list[FitTask]:
    """Return fits of a net of scikit-learn on folds, without augmentation."""
    settings = {"averaged_epochs": 1, **dict(map(parse, PLAIN)), **changes}
    (recipe,) = recipes.select(["sklearn-mlp"], settings)
    return training.make_fits({recipe.name: recipe.settings}, folds_of(digits, folds), refit=False, seed=0)


def test_a_fits_seed_depends_on_itself_alone(digits: data.Dataset) -> None:
    def seeds(*models: str, seed: int = 0, refit: bool = False) -> dict[str, int]:
        settings = dict.fromkeys(models, SETTINGS)
        fits = training.make_fits(settings, folds_of(digits), refit=refit, seed=seed)
        return {task.name: task.seed for task in fits}

    both = seeds("a", "b", refit=True)
    assert len(set(both.values())) == 8
    assert seeds("b").items() <= both.items()
    assert not set(seeds("b", seed=1).values()) & set(both.values())
    split = Split("fold 1", np.arange(1), np.arange(1))
    (task,) = training.make_fits({"keras-mlp": SETTINGS}, [split], refit=False, seed=0)
    assert task.seed == 3479999644  # another one would change all published scores


def test_out_of_fold_predictions_come_from_models_that_never_saw_the_row(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline([("same", "passthrough"), ("net", Memory())])
    monkeypatch.setattr(pipelines, "build", lambda settings, seed: clone(pipeline))
    monkeypatch.setattr(pipelines, "to_arrays", lambda classifier: {})
    tasks = training.make_fits({"memory": SETTINGS}, folds_of(digits), refit=True, seed=0)
    results = [training.fit(task, digits.train, digits.test) for task in tasks]
    predictions = training.collect_predictions("memory", results)
    assert predictions.out_of_fold.shape == (TRAIN, 10)
    assert not predictions.out_of_fold.any()  # a row that was trained on would be known
    saw_all = pipelines.build(SETTINGS, 0).fit(digits.train.pixels, digits.train.labels)
    assert saw_all.predict_proba(digits.train.pixels).any(axis=1).all()


def test_the_mean_of_fold_models_predicts_the_test_rows_unless_one_saw_all(digits: data.Dataset) -> None:
    def result(split: Split, first: float) -> FitResult:
        row = np.array([first, *[(1 - first) / 9] * 9], np.float32)
        valid, test = (np.tile(row, (rows, 1)) for rows in (len(split.valid), len(digits.test)))
        return FitResult(FitTask("a", SETTINGS, split, 0), valid, test, {}, [], 1.0)

    folds = folds_of(digits, 2)
    results = [result(split, first) for split, first in zip(folds, (0.2, 0.5), strict=True)]
    predictions = training.collect_predictions("a", results)
    powers = [(0.2 * 0.5) ** 0.5, *[(0.8 / 9 * 0.5 / 9) ** 0.5] * 9]
    np.testing.assert_allclose(predictions.test[-1], np.array(powers) / sum(powers), rtol=1e-5)
    np.testing.assert_allclose(predictions.out_of_fold[: len(folds[0].valid), 0], 0.2)
    refit = result(Split(ALL_ROWS, np.arange(TRAIN), np.arange(0)), 0.8)
    refitted = training.collect_predictions("a", [*results, refit])
    np.testing.assert_allclose(refitted.test[:, 0], 0.8)
    np.testing.assert_array_equal(refitted.out_of_fold, predictions.out_of_fold)
    assert training.inference_fits([*results, refit]) == [refit]


@pytest.mark.slow
def test_fits_run_in_other_processes_and_report_each_epoch(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = replace(digits, test=np.tile(digits.test, (10, 1)))  # which joblib would put into a file
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", __file__)  # where no file can be
    tasks = short_fits(digits, 2, epochs=3)
    seen: list[Progress] = []
    results = list(training.fit_all(tasks, digits, workers=2, on_progress=seen.append, on_notice=pytest.fail))
    assert {result.task.name for result in results} == {"sklearn-mlp fold 1", "sklearn-mlp fold 2"}
    for result in results:
        progress = [progress for progress in seen if progress.fit == result.task.name]
        assert [each.metrics for each in progress] == [*result.curve, result.curve[-1]]
        assert [each.epoch for each in progress] == [1, 2, 3, 3]
        assert [each.done for each in progress] == [1 / 3, 2 / 3, 0.99, 1]
        alone = training.fit(result.task, digits.train, digits.test)
        np.testing.assert_array_equal(alone.valid, result.valid)
        np.testing.assert_equal(alone.model, result.model)
        assert len(result.curve) == 3
        assert result.curve[-1]["train_loss"] < result.curve[0]["train_loss"]


@pytest.mark.slow
def test_what_a_call_that_was_cut_off_still_tells_is_not_told_of_the_next(digits: data.Dataset) -> None:
    tasks = short_fits(digits, 4, epochs=15)
    first: list[Progress] = []
    fitting = training.fit_all(tasks[:2], digits, workers=2, on_progress=first.append, on_notice=pytest.fail)
    next(fitting)
    pipe = workers._pipe
    assert pipe
    wait_until(lambda: pipe[0].poll())  # else nothing would be left that could be told
    fitting.close()
    told = len(first)
    second: list[Progress] = []
    fits = training.fit_all(tasks[2:], digits, workers=2, on_progress=second.append, on_notice=pytest.fail)
    assert len(list(fits)) == 2
    assert len(first) == told
    assert {progress.fit for progress in second} == {task.name for task in tasks[2:]}
    assert len(second) == 32  # each epoch, and the end


def test_a_fit_ends_within_its_budget_and_tells_its_share_of_the_time(digits: data.Dataset) -> None:
    task, _ = short_fits(digits, 2, hidden=[8], epochs=2)
    training.fit(task, digits.train, digits.test)  # imports what takes seconds
    seen: list[Progress] = []
    timed = replace(task, budget=Budget(seconds=2, epoch=0.01, predict=0.2))
    result = training.fit(timed, digits.train, digits.test, seen.append)
    assert 1 < result.seconds < 10  # a busy machine may hold its last call up
    epochs = [metrics["epoch"] for metrics in result.curve]
    assert epochs[:-1] == list(range(1, len(epochs)))
    assert epochs[-1] > 2
    *before, last = seen
    assert last == Progress(task.name, 1, epochs[-1], None, result.curve[-1])
    assert [progress.metrics for progress in before] == result.curve
    done = [progress.done for progress in before]
    assert done == sorted(done)
    assert len(set(done)) > 4
    assert 0 < done[0] < done[-1] <= 0.99  # 1 is for the result


def test_the_last_progress_tells_the_accuracy_that_the_run_states(digits: data.Dataset) -> None:
    task, _ = short_fits(digits, 2, epochs=1, tta=True)
    seen: list[Progress] = []
    result = training.fit(task, digits.train, digits.test, seen.append)
    stated = (result.valid.argmax(axis=1) == digits.train.labels[task.split.valid]).mean()
    told = [progress.metrics["valid_accuracy"] for progress in seen]
    assert told == [result.curve[-1]["valid_accuracy"], stated]
    assert stated != result.curve[-1]["valid_accuracy"]  # which is without test-time augmentation


def test_a_number_of_cores_that_is_none_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "many")
    assert training.cpu_count() >= 1


ResourceExhaustedError = type("ResourceExhaustedError", (Exception,), {})  # named like TensorFlow's


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FitError("the net diverged"), "the net diverged"),
        (MemoryError(), "out of memory; try fewer --jobs"),
        (ResourceExhaustedError(), "out of memory; try fewer --jobs, or a smaller batch_size"),
        (ZeroDivisionError("of mine"), None),
        (None, "the net diverged: its predictions are not finite; try a lower learning_rate"),
    ],
)
def test_a_fit_that_cannot_succeed_is_a_failure_and_a_bug_raises(
    digits: data.Dataset, monkeypatch: pytest.MonkeyPatch, error: Exception | None, reason: str | None
) -> None:
    settings = SETTINGS.replace(optimizer="sgd", learning_rate=1e6, learning_rate_schedule="constant")
    task = FitTask("sklearn-mlp", settings, folds_of(digits)[0], 0)
    if error:
        monkeypatch.setattr(fit_module, "_fit", mock.Mock(side_effect=error))
    if reason is None:
        with pytest.raises(ZeroDivisionError):
            training.fit(task, digits.train, digits.test)
        return
    failure = training.fit(task, digits.train, digits.test)
    assert failure == FitFailure(task, reason, deterministic=error is None or isinstance(error, FitError))


@pytest.mark.parametrize(
    ("files", "count"), [(["null", "nvidiactl"], 0), (["null", "nvidia0"], 3), (["kfd"], 3), (["dxg"], 3)]
)
def test_tensorflow_counts_gpus_where_there_may_be_some(
    monkeypatch: pytest.MonkeyPatch, files: list[str], count: int
) -> None:
    glob = Path.glob

    def found(path: Path, pattern: str) -> list[Path]:
        if path != Path("/dev"):
            return glob(path, pattern)
        return [path / file for file in files if fnmatch(file, pattern)]

    monkeypatch.setattr(Path, "glob", found)
    monkeypatch.setattr(keras_net, "visible_gpus", lambda: 3)
    assert training.gpu_count() == count


@pytest.mark.slow
def test_tensorflow_tells_when_it_keeps_fewer_threads() -> None:
    program = (
        "import warnings; from digit_recognizer.nets import keras_net\n"
        "keras_net.visible_gpus()\n"  # asked first, it leaves the threads open
        "keras_net.limit_threads(2)\n"
        "import tensorflow as tf; tf.constant(1.0) + 1\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    for after in (1, 2, 3): keras_net.limit_threads(after)\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads(), *(w.message for w in caught))"
    )
    ended = run_program(sys.executable, "-c", program)
    assert ended.out.startswith("2 TensorFlow goes on with 2 of 3 threads"), ended.err
    assert ended.out.count("goes on") == 1
