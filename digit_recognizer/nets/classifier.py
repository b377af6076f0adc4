"""What both kinds of nets share: a scikit-learn classifier that is fitted epoch by epoch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from digit_recognizer.nets.augment import predict_with_tta
from digit_recognizer.nets.epochs import Call, EarlyStopping, OnEpochEnd, check_finite, hold_back, iter_epochs
from digit_recognizer.nets.progress import Steps, Timer
from digit_recognizer.settings import KerasSettings, MLPSettings, NetSettings

TrainEpoch = Callable[[Iterator[Call], np.ndarray, int], None]  # by calls, class indices, the epoch's number


class EpochwiseClassifier(ClassifierMixin, BaseEstimator):
    """Base of the nets.

    Parameters
    ----------
    settings : NetSettings or None, default=None
        What the net looks like and how it is trained; None: the defaults of its kind.
    random_state : int, RandomState instance or None, default=None
        Alone decides initial weights, dropout, order of rows and augmentation.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    """

    n_features_in_: int
    settings_type: ClassVar[type[KerasSettings | MLPSettings]]
    # Of the kind: make a net, for about so many steps; return what trains it.
    _build: Callable[[np.random.RandomState, int], TrainEpoch]
    _get_weights: Callable[[], list[np.ndarray]]
    _set_weights: Callable[[Sequence[np.ndarray]], None]
    # Quicker probabilities, for learning curves, of float32 rows that are taken as they are.
    predict_proba_without_tta: Callable[[np.ndarray], np.ndarray]

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
        predict = self.predict_proba_without_tta
        return predict_with_tta(predict, X) if self._settings.tta else predict(X)

    def predict(self, X: Any) -> np.ndarray:
        """Return labels of shape (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    @property
    def _settings(self) -> Any:
        return self.settings or self.settings_type()


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
