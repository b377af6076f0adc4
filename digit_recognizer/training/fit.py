"""One fit: a recipe's settings on one split -> held-out and test probabilities, and the fitted model."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any
from zlib import crc32

import numpy as np

from digit_recognizer.data import CLASSES, Digits
from digit_recognizer.environment import own_settings
from digit_recognizer.errors import FitError, LibraryError
from digit_recognizer.manifest import EpochMetrics
from digit_recognizer.nets.arrays import read_arrays, write_arrays
from digit_recognizer.nets.progress import Budget, Timer
from digit_recognizer.predictions import Predictions, mean_of_fits
from digit_recognizer.scoring import accuracy
from digit_recognizer.settings import Settings
from digit_recognizer.splits import ALL_ROWS, Split

CURVE, MODEL = "curve/", "model/"  # what begins the names of their arrays in a fit's file
CURVE_ROWS = 2048  # training digits that the learning curve's training side is measured on

# After an epoch: epoch, the number so far, and train_loss, train_accuracy, valid_loss, valid_accuracy.
Metrics = dict[str, float]


@dataclass(frozen=True)
class Progress:
    """How far a fit is.

    done: 0 before the first epoch, the share of its epochs or of its time after each, 1 with its result.
    epoch: the epochs so far, of `epochs`, which is None if the time decides. metrics: of the latest epoch.
    unit: what is counted; a search tells of candidates.
    """

    fit: str
    done: float
    epoch: float
    epochs: int | None
    metrics: Metrics
    unit: str = "epoch"


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class FitTask:
    """One model to be fitted.

    model: the recipe's name, or that of a member such as `cnn-2`, which is of the `recipe`.
    budget: of time, instead of the settings' epochs.
    """

    model: str
    settings: Settings
    split: Split
    seed: int
    recipe: str | None = None
    threads: int = 1
    budget: Budget | None = None

    @property
    def name(self) -> str:
        """The name on the screen."""
        return f"{self.model} {self.split.name}"

    def progress(self, done: float = 0.0, metrics: Metrics | None = None) -> Progress:
        """Return how far the fit is, with the metrics of its latest epoch."""
        epochs = None if self.budget else self.settings.epochs
        return Progress(self.name, done, metrics["epoch"] if metrics else 0.0, epochs, metrics or {})


def file_name(fit: str) -> str:
    """Return what the files of a fit are called, without the ending."""
    return fit.replace(" ", "-")


@dataclass(frozen=True)
class FitResult:
    """What came of a fit.

    valid, test: float32 of shape (rows, 10), probabilities of the split's held-out and of the test digits.
    model: the arrays that make the fitted model. curve: the metrics after each epoch.
    """

    task: FitTask
    valid: np.ndarray
    test: np.ndarray
    model: dict[str, np.ndarray]
    curve: list[Metrics]
    seconds: float

    def to_bytes(self) -> bytes:
        """Return all but the task as the content of an .npz file of plain arrays."""
        metrics = {name: np.array([epoch[name] for epoch in self.curve]) for name in self.curve[0]}
        return write_arrays(
            {"valid": self.valid, "test": self.test, "seconds": np.array(self.seconds)}
            | {f"{CURVE}{name}": values for name, values in metrics.items()}
            | {f"{MODEL}{name}": array for name, array in self.model.items()}
        )

    @classmethod
    def from_bytes(cls, task: FitTask, content: bytes) -> "FitResult":
        """Return the result of the task that `to_bytes` wrote; raise ValueError if it is of another."""
        arrays = read_arrays(content)
        metrics = _with_prefix(arrays, CURVE)
        try:
            valid, test, seconds = arrays["valid"], arrays["test"], float(arrays["seconds"])
            rows = zip(*(values.tolist() for values in metrics.values()), strict=True)
            curve = [dict(zip(metrics, row, strict=True)) for row in rows]
            if not curve or None in [EpochMetrics.model_validate(epoch).epoch for epoch in curve]:
                raise KeyError("epoch")
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a fit's file: {error}") from None
        if valid.shape != (len(task.split.valid), CLASSES) or test.shape[1:] != (CLASSES,):
            raise ValueError(f"not of this fit: its probabilities are of shape {valid.shape}, {test.shape}")
        for array in (valid, test):
            if array.dtype.kind != "f" or not np.all((array >= 0) & (array <= 1.001)):
                raise ValueError("not of a fit: its probabilities are not from 0 to 1")
        return cls(task, valid, test, read_model(arrays), curve, seconds)


def read_model(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of the model, by name, from those of a fit's file."""
    return _with_prefix(arrays, MODEL)


def _with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class FitFailure:
    """A fit that its settings, then `deterministic`, or the machine did not allow; a bug raises instead."""

    task: FitTask
    reason: str
    deterministic: bool = False


Outcome = FitResult | FitFailure


def make_fits(
    models: dict[str, Settings], splits: Sequence[Split], *, refit: bool, seed: int
) -> list[FitTask]:
    """Return the fits to do: each model on each split and, with `refit`, on all the rows as well.

    A fit's seed depends on `seed`, its model's name and its split's name alone, not on other fits.
    """
    if refit:
        rows = np.union1d(splits[0].train, splits[0].valid)
        splits = [*splits, Split(ALL_ROWS, rows, rows[:0])]
    fits = []
    for (model, settings), split in product(models.items(), splits):
        entropy = [seed, crc32(model.encode()), crc32(split.name.encode())]
        own_seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        fits.append(FitTask(model, settings, split, own_seed))
    return fits


def collect_predictions(model: str, results: Sequence[FitResult]) -> Predictions:
    """Return a model's predictions from all its fits, out-of-fold rows in the order of `results`."""
    return Predictions(
        model,
        out_of_fold=np.concatenate([result.valid for result in results]),
        test=mean_of_fits([result.test for result in inference_fits(results)]),
    )


def inference_fits(results: Sequence[FitResult]) -> list[FitResult]:
    """Return those of a model's fits whose geometric mean predicts new digits."""
    return [result for result in results if result.task.split.name == ALL_ROWS] or list(results)


def fit(task: FitTask, train: Digits, test: np.ndarray, on_progress: OnProgress = lambda _: None) -> Outcome:
    """Fit one model afresh on its split's training rows; the held-out rows are only predicted.

    on_progress: called after each epoch, and with the result; who asks for the fit tells its beginning.
    """
    timer = Timer(task.budget) if task.budget else None  # imports take their part of the time
    try:
        with limited_threads(task.settings, task.threads):
            return _fit(task, train, test, timer, on_progress)
    except (FitError, LibraryError) as error:
        return FitFailure(task, str(error), deterministic=isinstance(error, FitError))
    except ImportError as error:
        return FitFailure(task, str(LibraryError.of_import(error)))
    except MemoryError:
        return FitFailure(task, "out of memory; try fewer --jobs")
    except Exception as error:
        if type(error).__name__ != "ResourceExhaustedError":  # TensorFlow's, which is not imported here
            raise
        return FitFailure(task, "out of memory; try fewer --jobs, or a smaller batch_size")


def _fit(
    task: FitTask, train: Digits, test: np.ndarray, timer: Timer | None, on_progress: OnProgress
) -> FitResult:
    from sklearn.metrics import log_loss

    from digit_recognizer.nets import pipelines

    started = time.perf_counter()
    split, curve, prepared = task.split, list[Metrics](), dict[str, np.ndarray]()
    sides = {"train": split.train[:CURVE_ROWS], "valid": split.valid}
    classifier = pipelines.build(task.settings, task.seed)

    def on_epoch_end(epochs: float) -> None:
        metrics = {"epoch": epochs}
        for side, rows in sides.items():
            if not len(rows):
                continue
            if side not in prepared:  # only the net changes from epoch to epoch
                prepared[side] = classifier[:-1].transform(train.pixels[rows])
            labels = train.labels[rows]
            probabilities = classifier[-1].predict_proba_without_tta(prepared[side])
            metrics[f"{side}_loss"] = float(log_loss(labels, probabilities, labels=range(CLASSES)))
            metrics[f"{side}_accuracy"] = accuracy(labels, probabilities)
        curve.append(metrics)
        done = timer.now if timer else epochs / task.settings.epochs
        on_progress(task.progress(min(0.99, done), metrics))  # 1 is for the result

    classifier.fit(
        train.pixels[split.train], train.labels[split.train], net__on_epoch_end=on_epoch_end, net__timer=timer
    )
    result = FitResult(
        task,
        valid=_predict(classifier, train.pixels[split.valid]),
        test=_predict(classifier, test),
        model=pipelines.to_arrays(classifier),
        curve=curve,
        seconds=time.perf_counter() - started,
    )
    final = dict(curve[-1])
    if len(split.valid):  # what the run will state, with test-time augmentation, which the curve is without
        final["valid_accuracy"] = accuracy(train.labels[split.valid], result.valid)
    on_progress(task.progress(1.0, final))
    return result


def _predict(classifier: Any, pixels: np.ndarray) -> np.ndarray:
    if not len(pixels):
        return np.zeros((0, CLASSES), np.float32)
    return classifier.predict_proba(pixels).astype(np.float32)


@contextmanager
def limited_threads(settings: Settings, threads: int) -> Iterator[None]:
    """Compute in `threads` threads by the package's settings; imports TensorFlow only for Keras nets.

    For a dense net, NumPy gets one: it augments the next epoch meanwhile, and more would wait for each other.
    """
    from threadpoolctl import threadpool_limits

    with own_settings(), threadpool_limits(threads if settings.is_convolutional else 1):
        if settings.net == "keras":
            from digit_recognizer.nets import keras_net

            keras_net.limit_threads(threads)
        yield
