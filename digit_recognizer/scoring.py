"""How good predictions are, and how sure one can be of it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """Share of digits predicted right, with the 95% interval of what unseen digits would give."""

    accuracy: float
    low: float
    high: float
    digits: int

    def __str__(self) -> str:
        return f"{self.accuracy:.4f} ({self.low:.4f} to {self.high:.4f})"


def score(labels: np.ndarray, probabilities: np.ndarray) -> Score:
    """Accuracy of the likeliest digits: `labels` of shape (n,), `probabilities` of shape (n, 10).

    The interval is Wilson's: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", JASA 22 (1927). It knows the chance in which digits were held out, not in the training.
    """
    from scipy.stats import binomtest
    from sklearn.metrics import accuracy_score

    right = int(accuracy_score(labels, probabilities.argmax(axis=1), normalize=False))
    interval = binomtest(right, len(labels)).proportion_ci(0.95, method="wilson")
    return Score(right / len(labels), float(interval.low), float(interval.high), len(labels))
