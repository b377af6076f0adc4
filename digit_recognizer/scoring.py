"""Accuracy with its interval, calibration and confusions of predicted digits."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """Share of digits predicted right, and the 95% interval of that share on unseen digits of the same kind.

    digits: number of different digits that it was measured on.
    """

    accuracy: float
    low: float
    high: float
    digits: int


def score(labels: np.ndarray, probabilities: np.ndarray, rows: np.ndarray | None = None) -> Score:
    """Return the accuracy of the likeliest digits: `labels` of shape (n,), `probabilities` of shape (n, 10).

    rows: row number of each prediction, of shape (n,). If rows repeat, as in repeated cross-validation, the
    interval counts each once, as predicting a digit again tells nothing about other digits.

    The interval is Wilson's: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", JASA 22 (1927). It covers chance in which digits were held out, not in training.
    """
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    digits = len(labels if rows is None else np.unique(rows))
    return Score(accuracy, *_interval(round(accuracy * digits), digits), digits)


def _interval(right: int, count: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(right, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def by_fold(labels: np.ndarray, probabilities: np.ndarray, folds: np.ndarray) -> list[float]:
    """Return the accuracy of each fold, in the folds' order."""
    right = probabilities.argmax(axis=1) == labels
    return [float(right[folds == fold].mean()) for fold in np.unique(folds)]


@dataclass(frozen=True)
class Calibration:
    """How often the likeliest digit is right, by its probability: arrays of shape (bins with a prediction,).

    confidence: mean probability in each bin; accuracy: share right, with its 95% interval from low to high;
    counts: number of predictions.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray

    @property
    def error(self) -> float:
        """Return the expected calibration error: the mean gap between confidence and accuracy.

        M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian
        Binning", AAAI 2015.
        """
        return float(np.average(np.abs(self.confidence - self.accuracy), weights=self.counts))


def calibration(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> Calibration:
    """Return accuracy by confidence in `bins` bins of equal width: `labels` (n,), `probabilities` (n, 10)."""
    confidence = probabilities.max(axis=1).clip(max=1).astype(float)  # float32's sums can pass 1
    right = probabilities.argmax(axis=1) == labels
    _, inside = np.unique(np.ceil(confidence * bins), return_inverse=True)
    counts, hits, sums = (np.bincount(inside, weights) for weights in (None, right, confidence))
    low, high = np.transpose(
        [_interval(int(hit), int(count)) for hit, count in zip(hits, counts, strict=True)]
    )
    return Calibration(sums / counts, hits / counts, low, high, counts)


@dataclass(frozen=True)
class Confusion:
    """Two digits taken for each other; count_ab: number of a predicted as b, count_ba: of b as a."""

    a: int
    b: int
    count_ab: int
    count_ba: int

    @property
    def count(self) -> int:
        """Return the number of errors in both directions."""
        return self.count_ab + self.count_ba

    def __str__(self) -> str:
        return (
            f"{self.a} and {self.b}: {self.count:,} {'error' if self.count == 1 else 'errors'} "
            f"({self.a} predicted as {self.b}: {self.count_ab:,}, {self.b} as {self.a}: {self.count_ba:,})"
        )


def confusions(matrix: np.ndarray) -> list[Confusion]:
    """Return the pairs of digits taken for each other, most often first.

    matrix: counts of shape (10, 10); the row is the label, the column the prediction.
    """
    upper = zip(*np.triu_indices(len(matrix), k=1), strict=True)
    pairs = [Confusion(int(a), int(b), int(matrix[a, b]), int(matrix[b, a])) for a, b in upper]
    return sorted((pair for pair in pairs if pair.count), key=lambda pair: -pair.count)
