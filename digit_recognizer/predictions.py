"""The records that the stages exchange: held-out rows, and the probabilities of a model or blend."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CLASSES = 10
BLEND = "blend"  # the blend's name among the models' names
PREDICT_BATCH = 4096  # rows predicted at once; a row's last bits may depend on those beside it
MIN_LOG = 1e-6  # smallest probability that a logarithm is taken of, so that no fit alone rules a digit out


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows that predictions are scored on: arrays of shape (m,).

    rows: which digits: row numbers in train.csv, from 0, for rows of equal pixels that of the first. One that
    appears again, as with repeated cross-validation it does, is no other digit.
    folds: number of the split that held the row out, from 0. labels: the digits in those rows. test_labels:
    those of the test rows, only if the data includes them (the sample's does).
    """

    rows: np.ndarray
    folds: np.ndarray
    labels: np.ndarray
    test_labels: np.ndarray | None = None


@dataclass(frozen=True)
class Predictions:
    """Probabilities that a model, or a blend, gives digits it was not trained on.

    out_of_fold: shape (m, 10), in the order of HeldOut; test: shape (test rows, 10); float32.
    """

    name: str
    out_of_fold: np.ndarray
    test: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The likeliest digits of the test rows, int of shape (test rows,)."""
        return self.test.argmax(axis=1)


def mean_of_fits(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Return the geometric mean of the fits' probabilities, each float32 (n, 10), normalised.

    The blend's temperature is fitted on single fits, as only they have out-of-fold rows. The geometric mean
    at a temperature is that of the fits at this temperature, so it suits; an arithmetic mean is less
    confident.
    """
    if len(probabilities) == 1:
        return probabilities[0]
    powers = np.exp(np.mean([np.log(np.maximum(fit, MIN_LOG)) for fit in probabilities], axis=0))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
