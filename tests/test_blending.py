import numpy as np
import pytest
from scipy.optimize import OptimizeResult

from digit_recognizer.blending import METHODS, WeightedCombiner, blend
from digit_recognizer.predictions import HeldOut, Predictions

ROWS, FOLDS = 1000, 5
LABELS = np.random.default_rng(0).integers(0, 10, ROWS)
HELD_OUT = HeldOut(np.arange(ROWS), np.arange(ROWS) % FOLDS, LABELS)


def model(name: str, confidence: float, seed: int) -> Predictions:
    """A model that knows the labels through noise, and is right the more often the more confident it is."""
    random = np.random.default_rng(seed)
    logits = confidence * (random.normal(size=(ROWS, 10)) + confidence * np.eye(10)[LABELS])
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(name, proba.astype(np.float32), random.dirichlet(np.ones(10), 7).astype(np.float32))


def accuracy(predictions: Predictions, held_out: HeldOut = HELD_OUT) -> float:
    return float((predictions.out_of_fold.argmax(axis=1) == held_out.labels).mean())


NAMES = ("good", "fair", "noise")
GOOD, FAIR, NOISE = model("good", 2.4, 1), model("fair", 2.1, 2), model("noise", 0, 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_blend_is_probabilities_and_beats_its_members(method: str) -> None:
    blended = blend([GOOD, FAIR], HELD_OUT, method)
    np.testing.assert_allclose(blended.predictions.out_of_fold.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(blended.predictions.test.sum(axis=1), 1, rtol=1e-5)
    assert blended.predictions.out_of_fold.shape == (ROWS, 10)
    assert blended.predictions.test.shape == (7, 10)
    assert accuracy(blended.predictions) > accuracy(GOOD) > accuracy(FAIR)
    assert sum(blended.combiner.weights) == pytest.approx(1)


def test_the_mean_has_equal_weights() -> None:
    blended = blend([GOOD, FAIR, NOISE], HELD_OUT, "mean")
    assert blended.combiner.weights == (1 / 3, 1 / 3, 1 / 3)
    np.testing.assert_allclose(blended.predictions.test, (GOOD.test + FAIR.test + NOISE.test) / 3, rtol=1e-6)


@pytest.mark.parametrize("method", ["weighted", "stacked"])
def test_learned_weights_leave_noise_out(method: str) -> None:
    weights = dict(zip(NAMES, blend([GOOD, FAIR, NOISE], HELD_OUT, method).combiner.weights, strict=True))
    assert weights["good"] > weights["fair"] > 0.1
    assert weights["noise"] < 0.1


def log_loss(probabilities: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(ROWS), LABELS]).mean())


def test_the_weighted_blend_has_about_the_least_log_loss() -> None:
    blended = log_loss(blend([GOOD, FAIR], HELD_OUT, "weighted").predictions.out_of_fold)
    shares = np.linspace(0, 1, 101)
    least = min(log_loss(share * GOOD.out_of_fold + (1 - share) * FAIR.out_of_fold) for share in shares)
    assert blended < least + 0.005 < log_loss(GOOD.out_of_fold)


@pytest.mark.parametrize("power", [0.3, 3])
def test_a_members_temperature_does_not_change_its_weight(power: float) -> None:
    other = GOOD.out_of_fold.astype(float) ** power
    sharper = Predictions("good", other / other.sum(axis=1, keepdims=True), GOOD.test)
    before, after = (blend([member, FAIR], HELD_OUT, "weighted") for member in (GOOD, sharper))
    assert after.combiner.weights == pytest.approx(before.combiner.weights, abs=0.01)
    np.testing.assert_allclose(after.predictions.out_of_fold, before.predictions.out_of_fold, atol=0.02)


def cheat(held_out: HeldOut) -> tuple[list[Predictions], int]:
    """Two models that guess, and one that gives the answers to one fold only: planted for a blend to find."""
    random = np.random.default_rng(4)
    fold = 2
    answers = random.dirichlet(np.ones(10), len(held_out.rows))
    inside = held_out.folds == fold
    answers[inside] = np.eye(10)[held_out.labels[inside]]
    test = random.dirichlet(np.ones(10), 7)
    guess = Predictions("guess", random.dirichlet(np.ones(10), len(held_out.rows)), test)
    return [guess, Predictions("cheat", answers, test)], fold


def test_weights_for_a_fold_are_never_learned_on_it() -> None:
    members, fold = cheat(HELD_OUT)
    blended = blend(members, HELD_OUT, "weighted")
    inside = HELD_OUT.folds == fold
    # Learned on all rows, the answers to one fold are worth a lot; that fold itself must not know of it.
    assert blended.combiner.weights[1] > 0.6
    unseen = HeldOut(HELD_OUT.rows, HELD_OUT.folds, np.where(inside, (LABELS + 1) % 10, LABELS))
    changed = blend(members, unseen, "weighted").predictions.out_of_fold
    np.testing.assert_array_equal(changed[inside], blended.predictions.out_of_fold[inside])
    assert (changed[~inside] != blended.predictions.out_of_fold[~inside]).any()


@pytest.mark.parametrize("method", ["weighted", "stacked"])
def test_a_rows_blend_does_not_change_with_its_own_label_in_any_repeat(method: str) -> None:
    random = np.random.default_rng(5)
    rows = np.concatenate([np.arange(200), random.permutation(200)])
    folds = np.concatenate([np.arange(200) % 4, 4 + np.arange(200) % 4])
    held_out = HeldOut(rows, folds, LABELS[rows])
    members = [Predictions(member.name, member.out_of_fold[rows], member.test) for member in (GOOD, FAIR)]
    before = blend(members, held_out, method).predictions.out_of_fold
    fold = folds == 6
    labels = np.where(np.isin(rows, rows[fold]), (LABELS[rows] + 1) % 10, LABELS[rows])
    after = blend(members, HeldOut(rows, folds, labels), method).predictions.out_of_fold
    np.testing.assert_array_equal(after[fold], before[fold])
    assert (after[~fold] != before[~fold]).any()


def test_weights_for_a_fifth_of_a_holdout_are_learned_on_the_other_four() -> None:
    held_out = HeldOut(np.arange(ROWS), np.zeros(ROWS, int), LABELS)
    before = blend([GOOD, FAIR], held_out, "weighted").predictions.out_of_fold
    for row in (0, 500, 999):
        labels = np.where(held_out.rows == row, (LABELS + 1) % 10, LABELS)
        same = blend(
            [GOOD, FAIR], HeldOut(held_out.rows, held_out.folds, labels), "weighted"
        ).predictions.out_of_fold
        same = (same == before).all(axis=1)
        assert same[row]
        assert same.sum() == ROWS / 5


@pytest.mark.parametrize("power", [0.3, 3])
def test_the_temperatures_undo_a_members_own(power: float) -> None:
    blended = blend([at_power(GOOD, power), at_power(FAIR, power)], HELD_OUT, "weighted")
    plain = blend([GOOD, FAIR], HELD_OUT, "weighted")
    inverse = np.array(blended.combiner.inverse_temperatures)
    np.testing.assert_allclose(inverse * power, plain.combiner.inverse_temperatures, rtol=0.05)


def at_power(member: Predictions, power: float) -> Predictions:
    sharpened = [rows.astype(float) ** power for rows in (member.out_of_fold, member.test)]
    return Predictions(member.name, *(rows / rows.sum(axis=1, keepdims=True) for rows in sharpened))


@pytest.mark.parametrize("method", METHODS)
def test_an_equal_record_of_the_combiner_combines_alike(method: str) -> None:
    blended = blend([GOOD, FAIR, NOISE], HELD_OUT, method)
    combiner = type(blended.combiner).model_validate_json(blended.combiner.model_dump_json())
    assert combiner == blended.combiner
    combined = combiner.combine([GOOD.test, FAIR.test, NOISE.test]).astype(np.float32)
    np.testing.assert_array_equal(combined, blended.predictions.test, strict=True)
    assert blended.converged


@pytest.mark.parametrize(
    "optimum",
    [
        OptimizeResult(x=np.array([0.9, 0.1]), success=False),
        OptimizeResult(x=np.array([np.nan, 0.1]), success=True),
    ],
)
def test_weights_that_are_not_found_are_equal(
    monkeypatch: pytest.MonkeyPatch, optimum: OptimizeResult
) -> None:
    monkeypatch.setattr("scipy.optimize.minimize", lambda *_, **__: optimum)
    blended = blend([GOOD, FAIR], HELD_OUT, "weighted")
    assert blended.combiner.weights == (0.5, 0.5)
    assert not blended.combiner.converged
    assert not blended.converged
    assert accuracy(blended.predictions) > accuracy(FAIR)


def test_certain_and_wrong_members_blend_to_finite_probabilities() -> None:
    wrong = Predictions("wrong", np.eye(10, dtype=np.float32)[(LABELS + 1) % 10], GOOD.test)
    for method in METHODS:
        blended = blend([wrong, wrong], HELD_OUT, method)
        assert np.isfinite(blended.predictions.out_of_fold).all()
        assert np.isfinite(blended.predictions.test).all()


def test_a_blend_has_a_temperature_for_each_weight() -> None:
    with pytest.raises(ValueError, match="another number of temperatures than of weights"):
        WeightedCombiner(weights=(0.5, 0.5), inverse_temperatures=(1.0,), inverse_temperature=1.0)
