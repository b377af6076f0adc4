"""Blends of models whose weights never see the rows that score them."""

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from digit_recognizer.predictions import BLEND, CLASSES, MIN_LOG, HeldOut, Predictions
from digit_recognizer.records import Record

DIRICHLET_ALPHA = 21.0  # concentration of the prior over the weights
INVERSE_TEMPERATURES = (0.1, 10.0)  # the least and the greatest; beyond, powers of probabilities underflow
InverseTemperature = Annotated[float, Field(ge=INVERSE_TEMPERATURES[0], le=INVERSE_TEMPERATURES[1])]
Coefficient = Annotated[float, Field(ge=-1e6, le=1e6)]  # far beyond any that is fitted; sums stay finite


def _check_sum(weights: tuple[float, ...]) -> tuple[float, ...]:
    if abs(sum(weights) - 1) > 1e-6:
        raise ValueError("the weights do not sum to 1")
    return weights


Weights = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], AfterValidator(_check_sum)]


class MeanCombiner(Record):
    """The mean of the models' probabilities."""

    converged: ClassVar[bool] = True
    method: Literal["mean"] = "mean"
    weights: Weights

    def combine(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        """Return the blend of the models' probabilities, each of shape (n, 10)."""
        return np.mean(probabilities, axis=0)


class WeightedCombiner(Record):
    """A weighted mean of temperature-scaled probabilities; see `fit_weighted`."""

    method: Literal["weighted"] = "weighted"
    weights: Weights
    inverse_temperatures: tuple[InverseTemperature, ...] = Field(
        description="one per model, applied before the mean"
    )
    inverse_temperature: InverseTemperature = Field(description="applied to the weighted mean")
    converged: bool = Field(default=True, description="false: equal weights, as the optimiser failed")

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if len(self.inverse_temperatures) != len(self.weights):
            raise ValueError("the blend has another number of temperatures than of weights")
        return self

    def combine(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        """Return the blend of the models' probabilities, each of shape (n, 10)."""
        calibrated = _calibrate(probabilities, self.inverse_temperatures)
        mean = np.tensordot(np.array(self.weights), calibrated, 1)
        return apply_temperature(mean, self.inverse_temperature)


class StackedCombiner(Record):
    """Multinomial logistic regression on the models' log probabilities; see `fit_stacked`."""

    converged: ClassVar[bool] = True
    method: Literal["stacked"] = "stacked"
    weights: Weights = Field(description="each model's share of the coefficients' absolute sum")
    classes: tuple[Annotated[int, Field(ge=0, lt=CLASSES)], ...]
    coefficients: tuple[tuple[Coefficient, ...], ...]
    intercepts: tuple[Coefficient, ...]

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("the blend names a class twice")
        if not len(self.classes) == len(self.coefficients) == len(self.intercepts):
            raise ValueError("the blend has other numbers of coefficients, intercepts and classes")
        if {len(row) for row in self.coefficients} != {CLASSES * len(self.weights)}:
            raise ValueError(f"the blend's rows of coefficients are not {CLASSES} for each model")
        return self

    def combine(self, probabilities: Sequence[np.ndarray]) -> np.ndarray:
        """Return the blend of the models' probabilities, each of shape (n, 10)."""
        from scipy.special import softmax

        logits = _log_features(probabilities) @ np.array(self.coefficients).T + np.array(self.intercepts)
        blended = np.zeros_like(probabilities[0])
        blended[:, list(self.classes)] = softmax(logits, axis=1)
        return blended


AnyCombiner = MeanCombiner | WeightedCombiner | StackedCombiner
Combiner = Annotated[AnyCombiner, Field(discriminator="method")]


def blend(models: Sequence[Predictions], held_out: HeldOut, method: str) -> tuple[AnyCombiner, Predictions]:
    """Blend the models by a method of METHODS; return the combiner of the test rows, and the predictions.

    The weights that blend a row are learned without it, in any repeat: on the other folds or, for a single
    holdout, on its other four fifths. With folds, the models that predicted those other rows were fitted on
    it, so its label is not wholly unknown. The test rows' weights are learned on all held-out rows.
    """
    from sklearn.model_selection import KFold

    fit_combiner, folds = METHODS[method], held_out.folds
    if len(np.unique(folds)) == 1:
        folds = np.zeros(len(held_out.rows), int)
        for number, (_, inside) in enumerate(KFold(5, shuffle=True, random_state=0).split(folds)):
            folds[inside] = number
    probabilities = [model.out_of_fold for model in models]
    out_of_fold = np.zeros_like(probabilities[0])
    for fold in np.unique(folds):
        inside = folds == fold
        known = ~np.isin(held_out.rows, held_out.rows[inside])
        combiner = fit_combiner([model[known] for model in probabilities], held_out.labels[known])
        out_of_fold[inside] = combiner.combine([model[inside] for model in probabilities])
    combiner = fit_combiner(probabilities, held_out.labels)
    test = combiner.combine([model.test for model in models]).astype(np.float32)
    return combiner, Predictions(BLEND, out_of_fold, test)


def fit_mean(models: list[np.ndarray], labels: np.ndarray) -> MeanCombiner:
    """Return equal weights; nothing is learned."""
    return MeanCombiner(weights=(1 / len(models),) * len(models))


def fit_weighted(models: list[np.ndarray], labels: np.ndarray) -> WeightedCombiner:
    """Minimise log loss over convex weights, with a Dirichlet prior towards equal ones.

    The prior keeps chance from dropping a good model. Each model is calibrated first, so that confidence
    alone earns no weight; the mean of calibrated models is underconfident, so it gets a temperature as well.
    """
    from scipy.optimize import minimize

    inverse_temperatures = tuple(fit_inverse_temperature(model, labels) for model in models)
    calibrated = _calibrate(models, inverse_temperatures)
    p_true = calibrated[:, np.arange(len(labels)), labels]
    prior = DIRICHLET_ALPHA - 1

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        blended = weights @ p_true
        return (
            -np.log(blended).sum() - prior * np.log(weights).sum(),
            -(p_true / blended).sum(axis=1) - prior / weights,
        )

    equal = np.full(len(models), 1 / len(models))
    sum_to_1 = {"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like}
    bounds = [(1e-6, 1)] * len(models)
    optimum = minimize(loss, equal, jac=True, bounds=bounds, constraints=sum_to_1, method="SLSQP")
    converged = bool(optimum.success and np.isfinite(optimum.x).all())
    weights = optimum.x / optimum.x.sum() if converged else equal
    return WeightedCombiner(
        weights=tuple(weights.tolist()),
        inverse_temperatures=inverse_temperatures,
        inverse_temperature=fit_inverse_temperature(np.tensordot(weights, calibrated, 1), labels),
        converged=converged,
    )


def fit_stacked(models: list[np.ndarray], labels: np.ndarray) -> StackedCombiner:
    """Fit multinomial logistic regression on the models' log probabilities.

    D. H. Wolpert, "Stacked Generalization", Neural Networks 5 (1992).
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=0.01, max_iter=1000).fit(_log_features(models), labels)
    share = np.abs(model.coef_).sum(axis=0).reshape(len(models), CLASSES).sum(axis=1)
    return StackedCombiner(
        weights=tuple((share / share.sum()).tolist()),
        classes=tuple(model.classes_.tolist()),
        coefficients=tuple(map(tuple, model.coef_.tolist())),
        intercepts=tuple(model.intercept_.tolist()),
    )


METHODS: dict[str, Callable[[list[np.ndarray], np.ndarray], AnyCombiner]] = {
    "weighted": fit_weighted,
    "mean": fit_mean,
    "stacked": fit_stacked,
}


def _log_features(models: Sequence[np.ndarray]) -> np.ndarray:
    return np.log(np.clip(np.concatenate(models, axis=1), MIN_LOG, 1))


def _calibrate(models: Sequence[np.ndarray], inverse_temperatures: Sequence[float]) -> np.ndarray:
    pairs = zip(models, inverse_temperatures, strict=True)
    return np.array([apply_temperature(model, inverse) for model, inverse in pairs])


def fit_inverse_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return 1 / the temperature that minimises log loss.

    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    from scipy.optimize import minimize_scalar

    def loss(inverse: float) -> float:
        scaled = apply_temperature(probabilities, inverse)
        return -float(np.log(scaled[np.arange(len(labels)), labels]).mean())

    optimum = minimize_scalar(loss, bounds=INVERSE_TEMPERATURES, method="bounded", options={"xatol": 0.01})
    return float(optimum.x) if optimum.success else 1.0


def apply_temperature(probabilities: np.ndarray, inverse_temperature: float) -> np.ndarray:
    """Return the probabilities at temperature 1 / `inverse_temperature`, above 0 to keep log loss finite."""
    powers = np.clip(probabilities.astype(float), 1e-12, 1) ** inverse_temperature
    return powers / powers.sum(axis=1, keepdims=True)
