"""scikit-learn's MLPClassifier, fitted pass by pass."""

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.neural_network import MLPClassifier
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from digit_recognizer.nets import augment
from digit_recognizer.nets.epochs import OnEpoch, passes

TINY = 1e-20  # far below any weight that matters, far above float32's denormal numbers (1.2e-38)


class PassByPassMLP(ClassifierMixin, BaseEstimator):
    """Fit scikit-learn's MLPClassifier by `partial_fit` and average the weights of its last passes.

    The average of the points that a constant learning rate circles around lies nearer the middle of the
    valley than any of them: P. Izmailov et al., "Averaging Weights Leads to Wider Optima", UAI 2018.

    Parameters
    ----------
    mlp : MLPClassifier, not fitted. If its `early_stopping` is on it is fitted in one go, as `partial_fit`
        cannot stop early; else its `max_iter` is not used.
    passes : int, passes over the rows.
    averaged : int, how many of the last passes are averaged.
    warp, warp_last : float, strength of `augment.warp` at the start and, changing evenly, at the end.
    tta : bool, test-time augmentation: predict the mean over `augment.shifted`.

    Attributes
    ----------
    mlp_ : the fitted MLPClassifier.
    classes_ : array of shape (n_classes,).
    n_features_in_ : int.
    """

    def __init__(
        self,
        mlp: Any = None,
        passes: int = 14,
        averaged: int = 8,
        warp: float = 0.0,
        warp_last: float = 0.0,
        tta: bool = False,
    ) -> None:
        self.mlp = mlp
        self.passes = passes
        self.averaged = averaged
        self.warp = warp
        self.warp_last = warp_last
        self.tta = tta

    def fit(
        self, X: Any, y: Any, on_epoch: OnEpoch | None = None, until: float | None = None
    ) -> "PassByPassMLP":
        """Fit to X of shape (n, n_features), floats near 0..1, and labels y of shape (n,).

        until: a moment, as of `time.time()`, to end by, with more passes or fewer; not heeded where the
        MLPClassifier stops early by itself.
        """
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError("Classifier can't train when only one class is present.")
        self.mlp_ = MLPClassifier() if self.mlp is None else clone(self.mlp)
        random = check_random_state(self.mlp_.random_state)
        if self.mlp_.early_stopping:
            with _interruptible():
                self.mlp_.fit(X, y)
            if on_epoch is not None:
                on_epoch()
            return self
        last: deque[list[np.ndarray]] = deque(maxlen=self.averaged)
        # From a plain number, every partial_fit would shuffle the rows alike.
        self.mlp_.set_params(random_state=random)
        for one in passes(X, self.passes, until, self.warp, self.warp_last, random):
            with _interruptible():
                self.mlp_.partial_fit(one.images, y[one.order], classes=self.classes_)
            _flush_tiny_values(self.mlp_)
            last.append([weights.copy() for weights in self.mlp_.coefs_ + self.mlp_.intercepts_])
            if one.end == 1:  # before the last call, so that what is seen last is what comes out
                self._average(last)
            if on_epoch is not None:
                on_epoch()
        if one.end < 1:  # out of time
            self._average(last)
        return self

    def _average(self, last: Sequence[list[np.ndarray]]) -> None:
        mean = [np.mean(weights, axis=0) for weights in zip(*last, strict=True)]
        layers = len(self.mlp_.coefs_)
        self.mlp_.coefs_, self.mlp_.intercepts_ = mean[:layers], mean[layers:]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (n, n_classes), rows summing to 1."""
        check_is_fitted(self, "mlp_")
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return augment.over_shifted(self.glance, X) if self.tta else self.glance(X)

    def glance(self, X: np.ndarray) -> np.ndarray:
        """What `predict_proba` says without `tta`: quicker, as for learning curves."""
        return self.mlp_.predict_proba(X)

    def predict(self, X: Any) -> np.ndarray:
        """Labels of shape (n,)."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]


def _flush_tiny_values(mlp: MLPClassifier) -> None:
    """Set weights and first moments of Adam that are next to nothing to 0, in place.

    The L2 penalty shrinks the weights of pixels that are always white until they are denormal, and processors
    multiply denormal numbers many times slower. No prediction changes.
    """
    moments = getattr(mlp._optimizer, "ms", [])  # plain gradient descent has none
    for values in [*mlp.coefs_, *mlp.intercepts_, *moments]:
        values[np.abs(values) < TINY] = 0


@contextmanager
def _interruptible() -> Iterator[None]:
    """scikit-learn makes a warning of Ctrl-C, and the caller would go on with what is half fitted."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Training interrupted by user")
        try:
            yield
        except UserWarning as stop:
            raise KeyboardInterrupt from stop
