import numpy as np
import pytest

from digit_recognizer.blending import METHODS, apply_temperature, blend
from digit_recognizer.predictions import HeldOut, Predictions, mean_of_fits

ROWS, FOLDS = 600, 5
LABELS = np.random.default_rng(0).integers(0, 10, ROWS)
HELD_OUT = HeldOut(np.arange(ROWS), np.arange(ROWS) % FOLDS, LABELS)


def model(name: str, confidence: float, seed: int) -> Predictions:
    """A model that knows the labels through noise, and is right the more often the more confident it is."""
    random = np.random.default_rng(seed)
    logits = confidence * (random.normal(size=(ROWS, 10)) + confidence * np.eye(10)[LABELS])
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(name, proba.astype(np.float32), random.dirichlet(np.ones(10), 7).astype(np.float32))


def at_power(member: Predictions, power: float) -> Predictions:
    sharpened = [rows.astype(float) ** power for rows in (member.out_of_fold, member.test)]
    return Predictions(member.name, *(rows / rows.sum(axis=1, keepdims=True) for rows in sharpened))


def accuracy(predictions: Predictions) -> float:
    return float((predictions.out_of_fold.argmax(axis=1) == LABELS).mean())


def log_loss(probabilities: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(ROWS), LABELS]).mean())


GOOD, FAIR, NOISE = model("good", 2.4, 1), model("fair", 2.1, 2), model("noise", 0, 3)
WRONG = Predictions("wrong", np.eye(10, dtype=np.float32)[(LABELS + 1) % 10], GOOD.test)


@pytest.mark.parametrize("method", METHODS)
def test_a_blend_is_probabilities_that_its_stored_combiner_gives_and_beats_its_members(method: str) -> None:
    combiner, blended = blend([GOOD, FAIR], HELD_OUT, method)
    np.testing.assert_allclose(blended.out_of_fold.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(blended.test.sum(axis=1), 1, rtol=1e-5)
    assert blended.out_of_fold.shape == (ROWS, 10)
    assert blended.test.shape == (7, 10)
    assert accuracy(blended) > accuracy(GOOD) > accuracy(FAIR)
    assert sum(combiner.weights) == pytest.approx(1)
    assert combiner.converged
    stored = type(combiner).model_validate_json(combiner.model_dump_json())
    assert stored == combiner
    combined = stored.combine([GOOD.test, FAIR.test]).astype(np.float32)
    np.testing.assert_array_equal(combined, blended.test, strict=True)
    for probabilities in vars(blend([WRONG, WRONG], HELD_OUT, method)[1]).values():
        assert isinstance(probabilities, str) or np.isfinite(probabilities).all()


def test_the_mean_has_equal_weights() -> None:
    combiner, blended = blend([GOOD, FAIR, NOISE], HELD_OUT, "mean")
    assert combiner.weights == (1 / 3, 1 / 3, 1 / 3)
    np.testing.assert_allclose(blended.test, (GOOD.test + FAIR.test + NOISE.test) / 3, rtol=1e-6)


@pytest.mark.parametrize("method", ["weighted", "stacked"])
def test_learned_weights_leave_noise_out(method: str) -> None:
    good, fair, noise = blend([GOOD, FAIR, NOISE], HELD_OUT, method)[0].weights
    assert good > fair > 0.1 > noise


def test_the_weighted_blend_has_about_the_least_log_loss() -> None:
    blended = log_loss(blend([GOOD, FAIR], HELD_OUT, "weighted")[1].out_of_fold)
    shares = np.linspace(0, 1, 101)
    least = min(log_loss(share * GOOD.out_of_fold + (1 - share) * FAIR.out_of_fold) for share in shares)
    assert blended < least + 0.01 < log_loss(GOOD.out_of_fold)


@pytest.mark.parametrize("power", [0.3, 3])
def test_a_members_temperature_is_undone_and_does_not_change_its_weight(power: float) -> None:
    plain, before = blend([GOOD, FAIR], HELD_OUT, "weighted")
    sharper, after = blend([at_power(GOOD, power), FAIR], HELD_OUT, "weighted")
    assert sharper.weights == pytest.approx(plain.weights, abs=0.01)
    factors = np.divide(sharper.inverse_temperatures, plain.inverse_temperatures)
    np.testing.assert_allclose(factors, [1 / power, 1], rtol=0.05)
    np.testing.assert_allclose(after.out_of_fold, before.out_of_fold, atol=0.02)


@pytest.mark.parametrize("method", ["weighted", "stacked"])
def test_a_rows_blend_does_not_change_with_its_own_label_in_any_repeat(method: str) -> None:
    rows = np.concatenate([np.arange(200), np.random.default_rng(5).permutation(200)])
    folds = np.concatenate([np.arange(200) % 2, 2 + np.arange(200) % 2])
    members = [Predictions(member.name, member.out_of_fold[rows], member.test) for member in (GOOD, FAIR)]
    before = blend(members, HeldOut(rows, folds, LABELS[rows]), method)[1].out_of_fold
    fold = folds == 2
    labels = np.where(np.isin(rows, rows[fold]), (LABELS[rows] + 1) % 10, LABELS[rows])
    after = blend(members, HeldOut(rows, folds, labels), method)[1].out_of_fold
    np.testing.assert_array_equal(after[fold], before[fold])
    assert (after[~fold] != before[~fold]).any()


def test_weights_for_a_fifth_of_a_holdout_are_learned_on_the_other_four() -> None:
    rows, one_fold = np.arange(ROWS), np.zeros(ROWS, int)
    before = blend([GOOD, FAIR], HeldOut(rows, one_fold, LABELS), "weighted")[1].out_of_fold
    for row in (0, ROWS - 1):
        labels = np.where(rows == row, (LABELS + 1) % 10, LABELS)
        after = blend([GOOD, FAIR], HeldOut(rows, one_fold, labels), "weighted")[1].out_of_fold
        same = (after == before).all(axis=1)
        assert same[row]
        assert same.sum() == ROWS / 5


def test_a_temperature_of_single_fits_suits_their_mean() -> None:
    fits = [apply_temperature(model("fit", 1, seed).out_of_fold, 0.5).astype(np.float32) for seed in range(5)]
    scaled = [apply_temperature(fit, 1.7).astype(np.float32) for fit in fits]
    np.testing.assert_allclose(apply_temperature(mean_of_fits(fits), 1.7), mean_of_fits(scaled), atol=1e-4)
    assert mean_of_fits(fits[:1]) is fits[0]


def test_no_fit_alone_rules_a_digit_out() -> None:
    sure = np.eye(10, dtype=np.float32)[[3]]
    assert mean_of_fits([sure, sure]).argmax() == 3
    others = np.full((1, 10), 0.001, np.float32)
    others[0, 7] = 0.991
    mean = mean_of_fits([sure, others, others, others])
    assert mean.argmax() == 7
    assert mean.min() > 0
    assert mean.sum() == pytest.approx(1)
