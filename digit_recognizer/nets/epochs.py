"""A scikit-learn classifier that is fitted epoch by epoch: what both kinds of nets share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, cycle
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from digit_recognizer.errors import FitError
from digit_recognizer.nets.augment import CHUNK, augment, tta_views
from digit_recognizer.nets.progress import STEPS_PER_CALL, Steps, Timer, learning_rates
from digit_recognizer.settings import KerasSettings, MLPSettings, NetSettings
from digit_recognizer.splits import first_rows

OnEpochEnd = Callable[[float], None]  # called with the epochs so far, when the net is able to predict


class Call(NamedTuple):
    """Hold what a net is trained on in one call.

    order: row numbers; images: these rows, augmented; two epochs later this memory holds others. rates: the
    learning rate of each step, float32.
    """

    order: np.ndarray
    images: np.ndarray
    rates: np.ndarray


TrainEpoch = Callable[[Iterator[Call], np.ndarray, int], None]  # by calls, class indices, the epoch's number


class EpochwiseClassifier(ClassifierMixin, BaseEstimator):
    """Base of the nets.

    settings: what the net looks like and how it is trained; None: the defaults of its kind. random_state: as
    of scikit-learn; it alone decides initial weights, dropout, order of rows and augmentation.
    """

    n_features_in_: int
    settings_type: ClassVar[type[KerasSettings | MLPSettings]]
    # Of the kind: make a net, for about so many steps; return what trains it.
    _build: Callable[[np.random.RandomState, int], TrainEpoch]
    _get_weights: Callable[[], list[np.ndarray]]
    _set_weights: Callable[[Sequence[np.ndarray]], None]
    _predict: Callable[[np.ndarray], np.ndarray]

    def __init__(self, settings: Any = None, random_state: Any = None) -> None:
        self.settings = settings
        self.random_state = random_state

    def fit(self, X: Any, y: Any, on_epoch_end: OnEpochEnd | None = None, timer: Timer | None = None) -> Self:
        """Fit to X of shape (n, n_features), floats near 0..1, and labels y of shape (n,).

        on_epoch_end: called after each epoch. timer: ends the training, instead of the settings' epochs.
        Raises FitError if the weights become NaN or infinite.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, class_indices = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("Classifier can't train when only one class is present.")
        settings, rng = self._settings, check_random_state(self.random_state)
        stopping = None
        if settings.patience:
            X, class_indices, watched, watched_indices = hold_back(X, class_indices, rng)
            stopping = EarlyStopping(settings.patience, watched_indices)
        steps = -(-len(X) // settings.batch_size)
        progress = Steps(settings.epochs, steps) if timer is None else timer.start(steps)
        train = self._build(rng, progress.total)
        average = _Average(settings)
        for number, calls in enumerate(iter_epochs(X, settings, progress, rng), start=1):
            train(calls, class_indices, number)
            check_finite(self._get_weights(), number)
            is_last = not progress.more()
            average.add(self._get_weights(), progress.now)
            if is_last and average.weights:  # on_epoch_end sees the net that comes out
                self._set_weights(average.weights)
            if on_epoch_end is not None:
                on_epoch_end(progress.epochs)
            if stopping and stopping.is_over(self.predict_proba_without_tta(watched), self._get_weights()):
                break
        if weights := stopping.best_weights if stopping else average.weights:  # also if on_epoch_end took
            self._set_weights(weights)  # the time that was left
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of shape (n, n_classes), rows summing to 1."""
        check_is_fitted(self, "classes_")
        X = validate_data(self, X, dtype=np.float32, reset=False)
        views = tta_views(X) if self._settings.tta else [X]
        return np.mean([self.predict_proba_without_tta(view) for view in views], axis=0)

    def predict_proba_without_tta(self, X: np.ndarray) -> np.ndarray:
        """Return quicker probabilities of float32 rows, for curves; raise FitError if one is not finite."""
        probabilities = self._predict(X)
        if not np.isfinite(probabilities).all():
            raise FitError("the net diverged: its predictions are not finite; try a lower learning_rate")
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Return labels of shape (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    @property
    def _settings(self) -> Any:
        return self.settings or self.settings_type()


def iter_epochs(
    images: np.ndarray, settings: NetSettings, progress: Steps | Timer, rng: np.random.RandomState
) -> Iterator[Iterator[Call]]:
    """Yield the calls of each epoch; the last epoch is cut short if the time is over.

    images: float32 of shape (n, n_features). A thread augments the rows that come next while the caller uses
    the last ones, so that a second core is used: OpenCV and NumPy release Python's lock.
    """
    rows, size = len(images), settings.batch_size
    # By the clock, rows must not be augmented long before they are used, or with too little progress.
    ahead = 2 * rows if isinstance(progress, Steps) else 2 * STEPS_PER_CALL * size
    # With two fits side by side, an epoch takes a seventh longer or more in new memory each time.
    buffers = cycle([np.empty_like(images), np.empty_like(images)])
    thread = ThreadPoolExecutor(1)

    def draw(epoch: int) -> "_AugmentedRows":
        order, generator = rng.permutation(rows), np.random.default_rng(rng.randint(2**31 - 1))
        memory = next(buffers)

        def fill(part: slice) -> None:
            chunk = memory[part]
            np.take(images, order[part], axis=0, out=chunk, mode="clip")  # the usual mode takes a copy first
            augment(chunk, settings, progress.for_augmentation(epoch), generator)

        return _AugmentedRows(order, memory, lambda part: thread.submit(fill, part))

    def calls(current: "_AugmentedRows", following: "_AugmentedRows | None") -> Iterator[Call]:
        first = 0
        while first < rows and (not first or progress.more()):
            steps = progress.next_call()
            part = slice(first, min(first + len(steps) * size, rows))
            current.prepare(first + ahead)
            if following is not None:
                following.prepare(first + ahead - rows)
            yield Call(current.order[part], current.wait_for(part), learning_rates(settings, steps))
            progress.end_call(len(steps))
            first = part.stop

    try:
        current = draw(0)
        for epoch in count(1):
            following = draw(epoch) if epoch < progress.max_epochs else None
            yield calls(current, following)
            if following is None or not progress.more():
                return
            current = following
    finally:
        thread.shutdown(cancel_futures=True)


class _AugmentedRows:
    """The rows of an epoch in their order, which `fill` fills in a thread, chunk after chunk."""

    def __init__(self, order: np.ndarray, images: np.ndarray, fill: Callable[[slice], Future[None]]) -> None:
        self.order, self._images, self._fill = order, images, fill
        self._chunks: list[Future[None]] = []

    def prepare(self, stop: int) -> None:
        """Let the thread go on to this row, if it is not there yet."""
        for first in range(len(self._chunks) * CHUNK, min(stop, len(self.order)), CHUNK):
            self._chunks.append(self._fill(slice(first, first + CHUNK)))

    def wait_for(self, part: slice) -> np.ndarray:
        """Return these rows once they are augmented."""
        for chunk in self._chunks[part.start // CHUNK : -(-part.stop // CHUNK)]:
            chunk.result()
        return self._images[part]


class EarlyStopping:
    """Tell when to stop by the log loss of rows held back; `best_weights` had the lowest so far."""

    def __init__(self, patience: int, class_indices: np.ndarray) -> None:
        self._patience, self._class_indices = patience, class_indices
        self._lowest, self._since = np.inf, 0
        self.best_weights: list[np.ndarray] = []

    def is_over(self, probabilities: np.ndarray, weights: Iterable[np.ndarray]) -> bool:
        """Return whether `patience` epochs brought no progress; probabilities: of the rows held back."""
        loss = log_loss(self._class_indices, probabilities, labels=range(probabilities.shape[1]))
        self._since += 1
        if loss < self._lowest:
            self.best_weights = [array.copy() for array in weights]
            self._lowest, self._since = loss, 0
        return self._since >= self._patience


def hold_back(
    rows: np.ndarray, class_indices: np.ndarray, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return nine tenths of the rows to train on and one to watch, with their class indices; stratified.

    Of few rows, where not every class can be on both sides, they are drawn regardless of class. Rows that
    equal a watched one are not trained on.
    """
    counts = np.bincount(class_indices)
    stratify = class_indices if counts.min() > 1 and len(rows) >= 10 * len(counts) else None
    numbers, first = np.arange(len(rows)), first_rows(rows)
    train, valid = train_test_split(numbers, test_size=0.1, stratify=stratify, random_state=rng)
    different = train[~np.isin(first[train], first[valid])]
    train = different if len(different) else train
    return rows[train], class_indices[train], rows[valid], class_indices[valid]


def check_finite(arrays: Iterable[np.ndarray], epoch: int) -> None:
    """Raise FitError if any weight is NaN or infinite after this epoch, the first being 1."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise FitError(
            f"the net diverged: its weights are not finite after epoch {epoch}; try a lower learning_rate"
        )


class _Average:
    """The mean of the weights after each of a training's last epochs; empty if only the last one counts.

    The average of the points that a constant learning rate circles around lies nearer the middle of the
    valley than any of them: P. Izmailov et al., "Averaging Weights Leads to Wider Optima", UAI 2018.
    """

    def __init__(self, settings: NetSettings) -> None:
        averaged = getattr(settings, "averaged_epochs", 1)
        self._since = 1 - (averaged - 1) / settings.epochs if averaged > 1 else np.inf
        self._sum: list[np.ndarray] = []
        self._count = 0

    def add(self, weights: Sequence[np.ndarray], progress: float) -> None:
        """Add the weights after an epoch, if it is time."""
        if progress >= self._since - 1e-9:
            sums = zip(self._sum, weights, strict=True)
            self._sum = [total + array for total, array in sums] if self._sum else [w.copy() for w in weights]
            self._count += 1

    @property
    def weights(self) -> list[np.ndarray]:
        """The mean so far."""
        return [total / self._count for total in self._sum]
