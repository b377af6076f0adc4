"""scikit-learn's MLPClassifier, fitted epoch by epoch."""

import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

from digit_recognizer.nets.arrays import check_arrays
from digit_recognizer.nets.epochs import Call, EpochwiseClassifier, TrainEpoch, check_finite
from digit_recognizer.settings import MLPSettings

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # of Adam, scikit-learn's defaults
TINY = 1e-20  # far below any weight that matters, far above float32's denormal numbers (1.2e-38)


class EpochwiseMLPClassifier(EpochwiseClassifier):
    """MLPClassifier, `mlp_`, fitted by `partial_fit`; settings are `settings.MLPSettings`."""

    settings_type = MLPSettings

    def _build(self, rng: np.random.RandomState, steps: int) -> TrainEpoch:
        self.mlp_ = _make_mlp(self._settings, rng)
        if self._settings.optimizer == "adam":
            self.mlp_._optimizer = InPlaceAdam()
        return self._train

    def _train(self, calls: Iterator[Call], class_indices: np.ndarray, epoch: int) -> None:
        for call in calls:
            if self._settings.optimizer == "adam":
                self.mlp_._optimizer.rates.extend(call.rates)
            with _errors_explained(self.mlp_, epoch):
                labels = self.classes_[class_indices[call.order]]
                self.mlp_.partial_fit(call.images, labels, classes=self.classes_)
        # The L2 penalty shrinks the weights of pixels that are always white until they are denormal, and
        # processors multiply denormal numbers many times slower. No prediction changes.
        moments = getattr(self.mlp_._optimizer, "ms", [])  # plain gradient descent has none
        for values in [*self._get_weights(), *moments]:
            values[np.abs(values) < TINY] = 0

    def _predict(self, X: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            return self.mlp_.predict_proba(X)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all that a fitted net is, besides its settings and classes."""
        kernels = {f"layer{i}/kernel": kernel for i, kernel in enumerate(self.mlp_.coefs_)}
        return kernels | {f"layer{i}/bias": bias for i, bias in enumerate(self.mlp_.intercepts_)}

    def load_arrays(self, arrays: Mapping[str, np.ndarray], features: int, classes: np.ndarray) -> None:
        """Load the weights of `to_arrays`; raise ValueError if they are of other settings."""
        layers = list(enumerate(pairwise([features, *self._settings.hidden, len(classes)])))
        kernels = {f"layer{i}/kernel": (shape, np.float32) for i, shape in layers}
        biases = {f"layer{i}/bias": (shape[1:], np.float32) for i, shape in layers}
        check_arrays(arrays, {**kernels, **biases})
        mlp = _make_mlp(self._settings, random_state=0)
        # One step on blank rows gives all attributes that predictions need, in any version of scikit-learn.
        blank = np.zeros((len(classes), features), np.float32)
        mlp.set_params(batch_size="auto", learning_rate_init=1e-3)
        mlp.partial_fit(blank, classes, classes=classes)
        mlp.coefs_ = [arrays[name] for name in kernels]
        mlp.intercepts_ = [arrays[name] for name in biases]
        self.mlp_, self.n_features_in_, self.classes_ = mlp, features, classes

    def _get_weights(self) -> list[np.ndarray]:
        return self.mlp_.coefs_ + self.mlp_.intercepts_

    def _set_weights(self, weights: Sequence[np.ndarray]) -> None:
        layers = len(self.mlp_.coefs_)
        self.mlp_.coefs_, self.mlp_.intercepts_ = list(weights[:layers]), list(weights[layers:])


def _make_mlp(settings: MLPSettings, random_state: Any) -> MLPClassifier:
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

    An epoch takes 0.6 of the time. MLPClassifier keeps the optimizer that it finds in `_optimizer`, and makes
    its own if it looks elsewhere. ms, vs: first and second moments of each weight; rates: of the steps to
    come. D. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
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


@contextmanager
def _errors_explained(mlp: MLPClassifier, epoch: int) -> Iterator[None]:
    """Raise Ctrl-C, which scikit-learn makes a warning: the caller would go on with a half-fitted net.

    Raise FitError, instead of scikit-learn's ValueError, if the weights became NaN or infinite.
    """
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        warnings.filterwarnings("ignore", "Got `batch_size`")  # the last batch of an epoch is smaller
        warnings.filterwarnings("error", "Training interrupted by user")
        try:
            yield
        except UserWarning as stop:
            raise KeyboardInterrupt from stop
        except ValueError:
            if hasattr(mlp, "coefs_"):
                check_finite(mlp.coefs_ + mlp.intercepts_, epoch)
            raise
