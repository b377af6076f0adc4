"""How good predictions are, and how sure one can be of it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """Share of digits predicted right, and the 95% interval of what unseen digits would give.

    digits: how many different ones it was measured on.
    """

    accuracy: float
    low: float
    high: float
    digits: int


def score(labels: np.ndarray, probabilities: np.ndarray, rows: np.ndarray | None = None) -> Score:
    """Accuracy of the likeliest digits: `labels` of shape (n,), `probabilities` of shape (n, 10).

    rows: which digit each is, of shape (n,), where some stand there more than once: predicting a digit
    again says nothing of other digits, so the interval is that of the different ones.

    The interval is Wilson's: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", JASA 22 (1927). It knows the chance in which digits were held out, not in the training.
    """
    from scipy.stats import binomtest
    from sklearn.metrics import accuracy_score

    accuracy = float(accuracy_score(labels, probabilities.argmax(axis=1)))
    digits = len(labels if rows is None else np.unique(rows))
    interval = binomtest(round(accuracy * digits), digits).proportion_ci(0.95, method="wilson")
    return Score(accuracy, float(interval.low), float(interval.high), digits)


def by_fold(labels: np.ndarray, probabilities: np.ndarray, folds: np.ndarray) -> list[float]:
    """Accuracy of each fold, in the folds' order."""
    right = probabilities.argmax(axis=1) == labels
    return [float(right[folds == fold].mean()) for fold in np.unique(folds)]
