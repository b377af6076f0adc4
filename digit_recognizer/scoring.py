"""Accuracy with its interval, calibration and confusions of predicted digits."""

from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from digit_recognizer.predictions import MIN_LOG, HeldOut
from digit_recognizer.records import Record

Fraction = Annotated[float, Field(ge=0, le=1)]
Z = 1.959964  # of 95% intervals
FOLDS = 5  # of the estimate's cross-fitting; there must be as many errors, or their chance cannot be fitted
PENALTY = 0.1  # inverse strength; weaker ones fit chance where there are few errors


class Interval(Record):
    """A 95% interval."""

    low: Fraction = Field(description="of the 95% interval")
    high: Fraction = Field(description="of the 95% interval")

    @model_validator(mode="after")
    def _check_ends(self) -> Self:
        if self.low > self.high:
            raise ValueError("the interval's low end is above its high end")
        return self


class Accuracy(Interval):
    """A share of digits predicted right, with its 95% interval."""

    accuracy: Fraction = Field(description="share of digits predicted right")


@dataclass(frozen=True)
class Estimate:
    """An accuracy on all digits of the same kind, estimated from held-out rows.

    raw: the share of held-out predictions that are right, with Wilson's interval; the same as `score` if
    nothing is known of the rows. digits: number of different held-out digits. worth: the number of digits on
    which a plain share has the same variance. influence: float of shape (training rows,), what each row adds
    to the accuracy's error: the squares sum to its variance, the products with another estimate's to their
    covariance.
    """

    score: Accuracy
    raw: Accuracy
    digits: int
    worth: float
    influence: np.ndarray


@dataclass(frozen=True)
class HeldOutDigits:
    """What a model makes of each different held-out digit: arrays of shape (n,).

    rows: their row numbers, ascending. right: share of its predictions that are right, which repeated
    cross-validation has several of. loss: mean log loss.
    """

    rows: np.ndarray
    right: np.ndarray
    loss: np.ndarray


def by_digit(held_out: HeldOut, probabilities: np.ndarray) -> HeldOutDigits:
    """Return right predictions and log loss by digit: `probabilities` of shape (m, 10)."""
    rows, inverse, times = np.unique(held_out.rows, return_inverse=True, return_counts=True)
    p_true = probabilities[np.arange(len(inverse)), held_out.labels].astype(float).clip(MIN_LOG, 1)
    right = probabilities.argmax(axis=1) == held_out.labels
    means = (np.bincount(inverse, each) / times for each in (right, -np.log(p_true)))
    return HeldOutDigits(rows, *means)


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of the likeliest digits that are right: labels (n,), probabilities (n, 10)."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def errors(accuracy: float, digits: int) -> int:
    """Return the number of errors that an accuracy on so many digits stands for."""
    return round((1 - accuracy) * digits)


def estimate(held_out: HeldOutDigits, count: int, margins: np.ndarray | None) -> Estimate:
    """Return the accuracy on digits like all `count` training rows, from those rows that were held out.

    margins: float of shape (count, references), how surely reference models predict each training row without
    having seen it; None if that is not known.

    With margins, it is survey sampling's regression estimator: a logistic regression predicts from a row's
    margins whether the model is right; the estimate is the mean of that over all rows, and the mean of what
    it missed on the held-out ones. It is cross-fitted: no row is predicted by a regression fitted on it. How
    hard the held-out rows are by chance cancels.
    C.-E. Särndal, B. Swensson, J. Wretman, "Model Assisted Survey Sampling", Springer 1992, chapter 6.
    A. N. Angelopoulos et al., "Prediction-powered inference", Science 382 (2023).
    """
    rows, right = held_out.rows, held_out.right
    share, n, influence = float(right.mean()), len(right), np.zeros(count)
    raw = wilson(share, n)
    wrong = right < 0.5
    # Where all rows are held out, there is no luck to take out.
    if margins is None or n == count or not FOLDS <= wrong.sum() <= n - FOLDS:
        influence[rows] = (right - share) / n
        return Estimate(raw, raw, n, n, influence)
    expected, cross_fitted = _predict_right(margins, rows, wrong)
    missed = right - cross_fitted
    share = float(np.clip(expected.mean() + missed.mean(), 0, 1))
    influence += (expected - expected.mean()) / count
    influence[rows] += (missed - missed.mean()) / n
    worth = float(share * (1 - share) / np.sum(influence**2))
    return Estimate(wilson(share, worth), raw, n, worth, influence)


def _predict_right(margins: np.ndarray, rows: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the chance that the model is right: on each training row, and on `rows`, cross-fitted."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    features = (margins - margins.mean(axis=0)) / margins.std(axis=0)
    expected, cross_fitted = np.zeros(len(margins)), np.zeros(len(rows))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for fitted, left in folds.split(rows, wrong):
        regression = LogisticRegression(C=PENALTY, solver="newton-cholesky").fit(
            features[rows[fitted]], wrong[fitted]
        )
        right = regression.predict_proba(features)[:, 0]
        expected += right / FOLDS
        cross_fitted[left] = right[rows[left]]
    return expected, cross_fitted


def wilson(accuracy: float, digits: float) -> Accuracy:
    """Return an accuracy with Wilson's 95% interval on so many digits, or on as many as it is worth.

    scipy's takes whole numbers alone. E. B. Wilson, "Probable Inference, the Law of Succession, and
    Statistical Inference", JASA 22 (1927).
    """
    centre = accuracy + Z**2 / (2 * digits)
    half = Z * np.sqrt(accuracy * (1 - accuracy) / digits + Z**2 / (4 * digits**2))
    low, high = (centre - half) / (1 + Z**2 / digits), (centre + half) / (1 + Z**2 / digits)
    low, high = float(max(0.0, min(low, accuracy))), float(min(1.0, max(high, accuracy)))  # rounded, too
    return Accuracy(accuracy=accuracy, low=low, high=high)


@dataclass(frozen=True)
class Calibration:
    """How often the likeliest digit is right, by its probability: arrays of shape (bins with a prediction,).

    confidence: mean probability in each bin; accuracy: share right, with its 95% interval from low to high;
    counts: number of predictions. error: the mean gap between confidence and accuracy. M. P. Naeini, G. F.
    Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray
    error: float


def calibration(labels: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """Return accuracy by confidence in ten bins of equal width: `labels` (n,), `probabilities` (n, 10)."""
    confidence = probabilities.max(axis=1).clip(max=1).astype(float)  # float32's sums can pass 1
    right = probabilities.argmax(axis=1) == labels
    _, inside = np.unique(np.ceil(confidence * 10), return_inverse=True)
    counts, hits, sums = (np.bincount(inside, weights) for weights in (None, right, confidence))
    scores = [wilson(float(hit / count), count) for hit, count in zip(hits, counts, strict=True)]
    low, high = np.transpose([(score.low, score.high) for score in scores])
    means, shares = sums / counts, hits / counts
    error = float(np.average(np.abs(means - shares), weights=counts))
    return Calibration(means, shares, low, high, counts, error)


def confusions(matrix: np.ndarray) -> list[str]:
    """Return what is said of each pair of digits, most errors first; `matrix` (10, 10) has labels as rows."""
    pairs = [(int(matrix[a, b]), int(matrix[b, a]), a, b) for a, b in combinations(range(len(matrix)), 2)]
    return [
        f"{a} and {b}: {ab + ba:,} error{'s' if ab + ba > 1 else ''} "
        f"({a} predicted as {b}: {ab:,}, {b} as {a}: {ba:,})"
        for ab, ba, a, b in sorted(pairs, key=lambda pair: -(pair[0] + pair[1]))
        if ab + ba
    ]
