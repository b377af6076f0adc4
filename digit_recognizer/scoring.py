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


@dataclass(frozen=True)
class Calibration:
    """How often the likeliest digit is right, by the probability that it was given.

    confidence, accuracy: float arrays of shape (bins that hold a prediction,), their means in each bin.
    counts: int array of the same shape, the predictions in each bin.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap between the two, over all predictions.

        M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
        Binning", AAAI 2015.
        """
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.counts))


def calibration(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> Calibration:
    """Confidence against accuracy in `bins` of equal width: `labels` (n,), `probabilities` (n, 10)."""
    from sklearn.calibration import calibration_curve

    confidence = probabilities.max(axis=1).clip(max=1).astype(float)  # float32's sums can pass 1
    right = probabilities.argmax(axis=1) == labels
    accuracy, mean = calibration_curve(right, confidence, n_bins=bins)
    # scikit-learn does not say how many predictions a bin holds; these are its bins.
    which = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    counts = np.bincount(which, minlength=bins)
    return Calibration(mean, accuracy, counts[counts > 0])
