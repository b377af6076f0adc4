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


@dataclass(frozen=True)
class Calibration:
    """How often the likeliest digit is right, by the probability that it was given.

    Arrays of shape (bins that hold a prediction,). confidence, accuracy: their means in each bin;
    low, high: the accuracy's 95% interval; counts: the predictions in each bin.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
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
    from scipy.stats import binomtest
    from sklearn.calibration import calibration_curve

    confidence = probabilities.max(axis=1).clip(max=1).astype(float)  # float32's sums can pass 1
    right = probabilities.argmax(axis=1) == labels
    accuracy, mean = calibration_curve(right, confidence, n_bins=bins)
    # scikit-learn does not say how many predictions a bin holds; these are its bins.
    which = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence)
    counts = np.bincount(which, minlength=bins)
    counts = counts[counts > 0]
    hits = np.rint(accuracy * counts).astype(int)
    tests = [binomtest(int(k), int(n)) for k, n in zip(hits, counts, strict=True)]
    intervals = np.array([test.proportion_ci(0.95, method="wilson") for test in tests])
    return Calibration(mean, accuracy, low=intervals[:, 0], high=intervals[:, 1], counts=counts)


@dataclass(frozen=True)
class Confusion:
    """Two digits that are taken for each other: `there` times a for b, `back` times b for a."""

    a: int
    b: int
    there: int
    back: int

    def __str__(self) -> str:
        number = self.there + self.back
        return (
            f"{self.a} and {self.b}: {number:,} {'mistake' if number == 1 else 'mistakes'} "
            f"({self.a} read as {self.b}: {self.there:,}, {self.b} read as {self.a}: {self.back:,})"
        )


def confusions(matrix: np.ndarray) -> list[Confusion]:
    """Digits that are taken for each other, most often first; matrix: counts of shape (10, 10),
    digit by what it was read as."""
    pairs = zip(*np.triu_indices(len(matrix), k=1), strict=True)
    found = [Confusion(int(a), int(b), int(matrix[a, b]), int(matrix[b, a])) for a, b in pairs]
    return sorted(
        (one for one in found if one.there + one.back), key=lambda one: one.there + one.back, reverse=True
    )
