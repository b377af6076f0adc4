"""Models' predictions, and blends of them whose weights never see the rows that score them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from digit_recognizer.data import CLASSES

BLEND = "blend"  # its name among the models'
PRIOR = 20.0  # concentration of the Dirichlet prior over the weights, less 1


@dataclass(frozen=True)
class Truth:
    """What predictions are scored on: the out-of-fold rows, arrays of shape (m,).

    rows: numbers of rows of train.csv, from 0; with repeats each stands there as often.
    folds: which part held the row out, from 0.
    labels: the digits that they are.
    test_labels: those of the test rows, only where the data brings them along (the sample's does).
    """

    rows: np.ndarray
    folds: np.ndarray
    labels: np.ndarray
    test_labels: np.ndarray | None = None


@dataclass(frozen=True)
class Predictions:
    """What a model, or a blend, says of digits that it was not fitted on.

    out_of_fold: probabilities of shape (m, 10), as in Truth; test: of shape (test rows, 10); float32.
    """

    name: str
    out_of_fold: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Blend:
    """Blended predictions, and each member's weight in those of the test rows."""

    method: str
    weights: dict[str, float]
    predictions: Predictions


Blended = Callable[[list[np.ndarray]], np.ndarray]  # members' probabilities -> the blend's


def blend(members: Sequence[Predictions], truth: Truth, method: str) -> Blend:
    """Blend the members by a method of METHODS.

    What a row's blended out-of-fold probabilities rest on was learned without that row, in any repeat: on
    the rows of the other folds, or, of a single holdout, on four fifths of it in turn. So the blend's score
    is as honest as the members'. The test rows' blend is learned on all out-of-fold rows.
    """
    learn = METHODS[method]
    own = [member.out_of_fold for member in members]
    out_of_fold = np.zeros_like(own[0])
    for fold in _folds(truth):
        inside = np.isin(truth.rows, truth.rows[fold])
        blended, _ = learn([probabilities[~inside] for probabilities in own], truth.labels[~inside])
        out_of_fold[fold] = blended([probabilities[fold] for probabilities in own])
    blended, weights = learn(own, truth.labels)
    test = blended([member.test for member in members]).astype(np.float32)
    names = [member.name for member in members]
    return Blend(method, dict(zip(names, weights, strict=True)), Predictions(BLEND, out_of_fold, test))


def _folds(truth: Truth) -> list[np.ndarray]:
    """Masks of the folds; a single holdout is cut into five."""
    folds = truth.folds
    if len(np.unique(folds)) == 1:
        from sklearn.model_selection import KFold

        cut = KFold(5, shuffle=True, random_state=0).split(truth.rows)
        folds = np.zeros(len(truth.rows), int)
        for number, (_, inside) in enumerate(cut):
            folds[inside] = number
    return [folds == number for number in np.unique(folds)]


def _mean(members: list[np.ndarray], labels: np.ndarray) -> tuple[Blended, list[float]]:
    """Each member with the same weight; learns nothing."""
    return lambda them: np.mean(them, axis=0), [1 / len(members)] * len(members)


def _weighted(members: list[np.ndarray], labels: np.ndarray) -> tuple[Blended, list[float]]:
    """The convex combination of least log loss, drawn towards equal weights, of members as sure as right.

    Without their temperatures, a member that is surer than the others would get the weight for that alone;
    and a mean of such members is too unsure, so it has a temperature as well. Among members of about the
    same worth chance decides whose log loss on these rows is least; PRIOR keeps any of them from being left
    out for it.
    """
    from scipy.optimize import minimize

    sureness = [_sureness(probabilities, labels) for probabilities in members]

    def calibrated(them: list[np.ndarray]) -> np.ndarray:
        return np.array([_sharpened(one, sure) for one, sure in zip(them, sureness, strict=True)])

    known = calibrated(members)
    right = known[:, np.arange(len(labels)), labels]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        blended = weights @ right
        return (
            -np.log(blended).sum() - PRIOR * np.log(weights).sum(),
            -(right / blended).sum(axis=1) - PRIOR / weights,
        )

    equal = np.full(len(members), 1 / len(members))
    sum_to_1 = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like}
    found = minimize(
        loss, equal, jac=True, bounds=[(1e-6, 1)] * len(members), constraints=sum_to_1, method="SLSQP"
    )
    weights = found.x / found.x.sum()
    surest = _sureness(np.tensordot(weights, known, 1), labels)
    return lambda them: _sharpened(np.tensordot(weights, calibrated(them), 1), surest), weights.tolist()


def _sureness(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The inverse of the temperature that makes the probabilities' log loss least.

    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    from scipy.optimize import minimize_scalar

    def loss(sure: float) -> float:
        return -float(np.log(_sharpened(probabilities, sure)[np.arange(len(labels)), labels]).mean())

    return float(minimize_scalar(loss, bounds=(0.1, 10), method="bounded", options={"xatol": 0.01}).x)


def _sharpened(probabilities: np.ndarray, sure: float) -> np.ndarray:
    """Probabilities of logits `sure` times as large; none of them is 0, whose log loss had no end."""
    powers = np.clip(probabilities.astype(float), 1e-12, 1) ** sure
    return powers / powers.sum(axis=1, keepdims=True)


def _stacked(members: list[np.ndarray], labels: np.ndarray) -> tuple[Blended, list[float]]:
    """Multinomial logistic regression on the members' log probabilities.

    D. H. Wolpert, "Stacked Generalization", Neural Networks 5 (1992). A member's weight is its share of the
    coefficients' absolute sum.
    """
    from sklearn.linear_model import LogisticRegression

    def features(them: list[np.ndarray]) -> np.ndarray:
        return np.log(np.clip(np.concatenate(them, axis=1), 1e-6, 1))

    model = LogisticRegression(C=0.01, max_iter=1000).fit(features(members), labels)
    share = np.abs(model.coef_).sum(axis=0).reshape(len(members), CLASSES).sum(axis=1)

    def blended(them: list[np.ndarray]) -> np.ndarray:
        probabilities = np.zeros_like(them[0])
        probabilities[:, model.classes_] = model.predict_proba(features(them))
        return probabilities

    return blended, (share / share.sum()).tolist()


METHODS = {"weighted": _weighted, "mean": _mean, "stacked": _stacked}
