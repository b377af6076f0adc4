"""scikit-learn's MLPClassifier, fitted epoch by epoch."""

import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neural_network import MLPClassifier
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from digit_recognizer.nets.arrays import check_arrays
from digit_recognizer.nets.augment import predict_with_tta
from digit_recognizer.nets.epochs import (
    EarlyStopping,
    OnEpochEnd,
    check_finite,
    check_probabilities,
    hold_back,
    iter_epochs,
)
from digit_recognizer.nets.progress import Steps, Timer
from digit_recognizer.settings import MLPSettings

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, scikit-learn's defaults
TINY = 1e-20  # far below any weight that matters, far above float32's denormal numbers (1.2e-38)


class EpochwiseMLPClassifier(ClassifierMixin, BaseEstimator):
    """MLPClassifier fitted by `partial_fit`, with the weights of its last epochs averaged.

    The average of the points that a constant learning rate circles around lies nearer the middle of the
    valley than any of them: P. Izmailov et al., "Averaging Weights Leads to Wider Optima", UAI 2018.

    Parameters
    ----------
    settings : MLPSettings or None, default=None
        What the net looks like and how it is trained, see `settings.MLPSettings`; None: the defaults there.
    random_state : int, RandomState instance or None, default=None
        Alone decides initial weights, order of rows and augmentation.

    Attributes
    ----------
    mlp_ : MLPClassifier, fitted
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    """

    def __init__(self, settings: MLPSettings | None = None, random_state: Any = None) -> None:
        self.settings = settings
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, on_epoch_end: OnEpochEnd | None = None, timer: Timer | None = None
    ) -> "EpochwiseMLPClassifier":
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
        y = self.classes_[class_indices]
        self.mlp_ = make_mlp(settings, rng)
        if settings.optimizer == "adam":
            self.mlp_._optimizer = InPlaceAdam()
        steps = -(-len(X) // settings.batch_size)
        progress = Steps(settings.epochs, steps) if timer is None else timer.start(steps)
        average = _Average(since=1 - (settings.averaged_epochs - 1) / settings.epochs)
        for number, calls in enumerate(iter_epochs(X, settings, progress, rng), start=1):
            for call in calls:
                if settings.optimizer == "adam":
                    self.mlp_._optimizer.rates.extend(call.rates)
                with _interruptible(), _divergence_explained(self.mlp_, number):
                    self.mlp_.partial_fit(call.images, y[call.order], classes=self.classes_)
            _flush_tiny_values(self.mlp_)
            is_last = not progress.more()
            average.add(_weights(self.mlp_), progress.now)
            if is_last:  # before the last call of on_epoch_end, which sees the net that comes out
                average.move_into(self.mlp_)
            if on_epoch_end is not None:
                on_epoch_end(progress.epochs)
            if stopping and stopping.is_over(self.predict_proba_without_tta(watched), _weights(self.mlp_)):
                break
        average.move_into(self.mlp_)  # if that call took the time that was left
        if stopping:
            _set_weights(self.mlp_, stopping.best_weights)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities of shape (n, n_classes), rows summing to 1."""
        check_is_fitted(self, "mlp_")
        X = validate_data(self, X, dtype=np.float32, reset=False)
        predict = self.predict_proba_without_tta
        return predict_with_tta(predict, X) if self._settings.tta else predict(X)

    def predict_proba_without_tta(self, X: np.ndarray) -> np.ndarray:
        """Return quicker probabilities, for learning curves; X: float32, taken as it is."""
        with np.errstate(over="ignore", invalid="ignore"):
            return check_probabilities(self.mlp_.predict_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return labels of shape (n,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that a fitted net is, besides its settings and classes."""
        kernels, biases = self.mlp_.coefs_, self.mlp_.intercepts_
        named = [(f"layer{i}/kernel", kernel) for i, kernel in enumerate(kernels)]
        return dict([*named, *((f"layer{i}/bias", bias) for i, bias in enumerate(biases))])

    def load_arrays(self, arrays: Mapping[str, np.ndarray], features: int, classes: np.ndarray) -> None:
        """Become the fitted net that `to_arrays` was called of; raise ValueError if the settings differ."""
        layers = list(enumerate(pairwise([features, *self._settings.hidden, len(classes)])))
        kernels = {f"layer{i}/kernel": (shape, np.float32) for i, shape in layers}
        biases = {f"layer{i}/bias": (shape[1:], np.float32) for i, shape in layers}
        check_arrays(arrays, {**kernels, **biases})
        mlp = make_mlp(self._settings, random_state=0)
        # One step on blank rows gives all attributes that predictions need, in any version of scikit-learn.
        blank = np.zeros((len(classes), features), np.float32)
        mlp.set_params(batch_size="auto", learning_rate_init=1e-3)
        mlp.partial_fit(blank, classes, classes=classes)
        mlp.coefs_ = [arrays[name] for name in kernels]
        mlp.intercepts_ = [arrays[name] for name in biases]
        self.mlp_, self.n_features_in_, self.classes_ = mlp, features, classes

    @property
    def _settings(self) -> MLPSettings:
        return self.settings or MLPSettings()


def make_mlp(settings: MLPSettings, random_state: Any) -> MLPClassifier:
    """Return scikit-learn's classifier with these settings, not fitted."""
    return MLPClassifier(
        settings.hidden,
        activation=settings.activation,
        solver=settings.optimizer,
        learning_rate_init=settings.learning_rate,
        alpha=settings.alpha,
        batch_size=settings.batch_size,
        shuffle=False,  # each epoch's rows are in a new order already
        random_state=random_state,
    )


class InPlaceAdam:
    """Adam with scikit-learn's formulas and defaults, but without new arrays at each step.

    An epoch takes 0.6 of the time. MLPClassifier keeps the optimizer that it finds in `_optimizer`, and
    makes its own if it looks elsewhere. D. Kingma and J. Ba, "Adam: A Method for
    Stochastic Optimization", ICLR 2015.

    Attributes
    ----------
    ms, vs : list of ndarray, first and second moments of each weight
    rates : deque of float, learning rates of the steps to come
    """

    def __init__(self) -> None:
        self.rates: deque[np.float32] = deque()
        self._step = 0
        self.ms: list[np.ndarray] = []
        self.vs: list[np.ndarray] = []
        self._scratch: list[np.ndarray] = []

    def update_params(self, params: Sequence[np.ndarray], grads: Sequence[np.ndarray]) -> None:
        """Take one step: change `params` in place; `grads` are overwritten."""
        if not self.ms:
            self.ms, self.vs, self._scratch = ([np.zeros_like(param) for param in params] for _ in range(3))
        self._step += 1
        rate = self.rates.popleft() * (1 - BETA_2**self._step) ** 0.5 / (1 - BETA_1**self._step)
        for param, grad, m, v, scratch in zip(params, grads, self.ms, self.vs, self._scratch, strict=True):
            m *= BETA_1
            m += np.multiply(grad, 1 - BETA_1, out=scratch)
            v *= BETA_2
            v += np.multiply(np.square(grad, out=grad), 1 - BETA_2, out=grad)
            np.add(np.sqrt(v, out=scratch), EPSILON, out=scratch)
            np.divide(m, scratch, out=scratch)
            param -= np.multiply(scratch, rate, out=scratch)

    def iteration_ends(self, time_step: int) -> None:
        """Do nothing: `rates` says how the learning rate changes."""

    def trigger_stopping(self, message: str, verbose: bool) -> bool:
        """Return True: the epoch is over, and `partial_fit` does one at a time."""
        return True


class _Average:
    """The mean of the weights after each epoch since a progress of the training."""

    def __init__(self, since: float) -> None:
        self._since, self._count = since, 0
        self._sum: list[np.ndarray] = []

    def add(self, weights: Sequence[np.ndarray], progress: float) -> None:
        """Add the weights after an epoch, if it is time."""
        if progress >= self._since - 1e-9:
            sums = zip(self._sum, weights, strict=True)
            self._sum = [total + array for total, array in sums] if self._sum else [w.copy() for w in weights]
            self._count += 1

    def move_into(self, mlp: MLPClassifier) -> None:
        """Make the mean the weights of the net, if there is one."""
        if self._sum:
            _set_weights(mlp, [total / self._count for total in self._sum])


def _weights(mlp: MLPClassifier) -> list[np.ndarray]:
    return mlp.coefs_ + mlp.intercepts_


def _set_weights(mlp: MLPClassifier, weights: Sequence[np.ndarray]) -> None:
    layers = len(mlp.coefs_)
    mlp.coefs_, mlp.intercepts_ = list(weights[:layers]), list(weights[layers:])


def _flush_tiny_values(mlp: MLPClassifier) -> None:
    """Set weights and first moments of Adam that are next to nothing to 0, in place.

    The L2 penalty shrinks the weights of pixels that are always white until they are denormal, and processors
    multiply denormal numbers many times slower. No prediction changes.
    """
    moments = getattr(mlp._optimizer, "ms", [])  # plain gradient descent has none
    for values in [*_weights(mlp), *moments]:
        values[np.abs(values) < TINY] = 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise Ctrl-C, which scikit-learn makes a warning: the caller would go on with a half-fitted net."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Got `batch_size`")  # the last batch of an epoch is smaller
        warnings.filterwarnings("error", "Training interrupted by user")
        try:
            yield
        except UserWarning as stop:
            raise KeyboardInterrupt from stop


@contextmanager
def _divergence_explained(mlp: MLPClassifier, epoch: int) -> Iterator[None]:
    """Raise FitError, instead of scikit-learn's ValueError, if the weights became NaN or infinite."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            yield
        except ValueError:
            if hasattr(mlp, "coefs_"):
                check_finite(_weights(mlp), epoch)
            raise
