import numpy as np
import pytest

from digit_recognizer.blending import METHODS, Predictions, Truth, blend

ROWS, FOLDS = 1000, 5
LABELS = np.random.default_rng(0).integers(0, 10, ROWS)
TRUTH = Truth(np.arange(ROWS), np.arange(ROWS) % FOLDS, LABELS)


def model(name: str, sureness: float, seed: int) -> Predictions:
    """A model that knows the labels through noise, and is right the more often the surer it is."""
    random = np.random.default_rng(seed)
    logits = sureness * (random.normal(size=(ROWS, 10)) + sureness * np.eye(10)[LABELS])
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(name, proba.astype(np.float32), random.dirichlet(np.ones(10), 7).astype(np.float32))


def accuracy(predictions: Predictions, truth: Truth = TRUTH) -> float:
    return float((predictions.out_of_fold.argmax(axis=1) == truth.labels).mean())


GOOD, FAIR, NOISE = model("good", 2.4, 1), model("fair", 2.1, 2), model("noise", 0, 3)


@pytest.mark.parametrize("method", METHODS)
def test_a_blend_is_probabilities_and_beats_its_members(method: str) -> None:
    found = blend([GOOD, FAIR], TRUTH, method)
    np.testing.assert_allclose(found.predictions.out_of_fold.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found.predictions.test.sum(axis=1), 1, rtol=1e-5)
    assert found.predictions.out_of_fold.shape == (ROWS, 10)
    assert found.predictions.test.shape == (7, 10)
    assert accuracy(found.predictions) > accuracy(GOOD) > accuracy(FAIR)
    assert sum(found.weights.values()) == pytest.approx(1)


def test_the_mean_weighs_all_alike() -> None:
    found = blend([GOOD, FAIR, NOISE], TRUTH, "mean")
    assert found.weights == {"good": 1 / 3, "fair": 1 / 3, "noise": 1 / 3}
    np.testing.assert_allclose(found.predictions.test, (GOOD.test + FAIR.test + NOISE.test) / 3, rtol=1e-6)


@pytest.mark.parametrize("method", ["weighted", "stacked"])
def test_learned_weights_leave_noise_out(method: str) -> None:
    weights = blend([GOOD, FAIR, NOISE], TRUTH, method).weights
    assert weights["good"] > weights["fair"] > 0.1
    assert weights["noise"] < 0.1


def log_loss(probabilities: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(ROWS), LABELS]).mean())


def test_the_weighted_blend_has_about_the_least_log_loss() -> None:
    found = log_loss(blend([GOOD, FAIR], TRUTH, "weighted").predictions.out_of_fold)
    shares = np.linspace(0, 1, 101)
    least = min(log_loss(share * GOOD.out_of_fold + (1 - share) * FAIR.out_of_fold) for share in shares)
    assert found < least + 0.005 < log_loss(GOOD.out_of_fold)


@pytest.mark.parametrize("power", [0.3, 3])
def test_a_models_sureness_does_not_change_its_weight(power: float) -> None:
    other = GOOD.out_of_fold.astype(float) ** power
    surer = Predictions("good", other / other.sum(axis=1, keepdims=True), GOOD.test)
    before, after = (blend([one, FAIR], TRUTH, "weighted") for one in (GOOD, surer))
    assert after.weights["good"] == pytest.approx(before.weights["good"], abs=0.01)
    np.testing.assert_allclose(after.predictions.out_of_fold, before.predictions.out_of_fold, atol=0.02)


def cheat(truth: Truth) -> tuple[list[Predictions], int]:
    """Two models that guess, and one that gives the answers to one fold only: planted for a blend to find."""
    random = np.random.default_rng(4)
    fold = 2
    answers = random.dirichlet(np.ones(10), len(truth.rows))
    inside = truth.folds == fold
    answers[inside] = np.eye(10)[truth.labels[inside]]
    test = random.dirichlet(np.ones(10), 7)
    guess = Predictions("guess", random.dirichlet(np.ones(10), len(truth.rows)), test)
    return [guess, Predictions("cheat", answers, test)], fold


def test_weights_for_a_fold_are_never_learned_on_it() -> None:
    members, fold = cheat(TRUTH)
    found = blend(members, TRUTH, "weighted")
    inside = TRUTH.folds == fold
    # Learned on all rows, the answers to one fold are worth a lot; that fold itself must not know of it.
    assert found.weights["cheat"] > 0.6
    unseen = Truth(TRUTH.rows, TRUTH.folds, np.where(inside, (LABELS + 1) % 10, LABELS))
    changed = blend(members, unseen, "weighted").predictions.out_of_fold
    np.testing.assert_array_equal(changed[inside], found.predictions.out_of_fold[inside])
    assert (changed[~inside] != found.predictions.out_of_fold[~inside]).any()


@pytest.mark.parametrize("method", ["weighted", "stacked"])
def test_a_rows_blend_does_not_change_with_its_own_label_in_any_repeat(method: str) -> None:
    random = np.random.default_rng(5)
    rows = np.concatenate([np.arange(200), random.permutation(200)])
    folds = np.concatenate([np.arange(200) % 4, 4 + np.arange(200) % 4])
    truth = Truth(rows, folds, LABELS[rows])
    members = [Predictions(one.name, one.out_of_fold[rows], one.test) for one in (GOOD, FAIR)]
    before = blend(members, truth, method).predictions.out_of_fold
    fold = folds == 6
    labels = np.where(np.isin(rows, rows[fold]), (LABELS[rows] + 1) % 10, LABELS[rows])
    after = blend(members, Truth(rows, folds, labels), method).predictions.out_of_fold
    np.testing.assert_array_equal(after[fold], before[fold])
    assert (after[~fold] != before[~fold]).any()


def test_a_single_holdout_is_cut_so_that_no_row_scores_what_it_taught() -> None:
    truth = Truth(np.arange(ROWS), np.zeros(ROWS, int), LABELS)
    before = blend([GOOD, FAIR], truth, "weighted").predictions.out_of_fold
    for row in (0, 500, 999):
        labels = np.where(truth.rows == row, (LABELS + 1) % 10, LABELS)
        same = blend([GOOD, FAIR], Truth(truth.rows, truth.folds, labels), "weighted").predictions.out_of_fold
        same = (same == before).all(axis=1)
        assert same[row]
        assert same.sum() == ROWS / 5
