import numpy as np
import pytest

from digit_recognizer.ensemble import METHODS, Blend, Predictions, Truth, blend

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


def test_the_weighted_blend_has_the_least_log_loss() -> None:
    weights = blend([GOOD, FAIR], TRUTH, "weighted").weights

    def loss(share: float) -> float:
        blended = share * GOOD.out_of_fold + (1 - share) * FAIR.out_of_fold
        return -np.log(blended[np.arange(ROWS), LABELS]).mean()

    grid = np.linspace(0, 1, 101)
    assert weights["good"] == pytest.approx(grid[np.argmin([loss(share) for share in grid])], abs=0.02)


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


def seen_weight(found: Blend, members: list[Predictions], rows: np.ndarray) -> float:
    """The cheat's weight in the blended out-of-fold probabilities of some rows."""
    guess, cheating = (member.out_of_fold[rows] for member in members)
    blended = found.predictions.out_of_fold[rows]
    return float(((blended - guess) / (cheating - guess)).mean())


def test_weights_for_a_fold_are_never_learned_on_it() -> None:
    members, fold = cheat(TRUTH)
    found = blend(members, TRUTH, "weighted")
    inside = TRUTH.folds == fold
    # Learned on all rows, the answers to one fold are worth a lot; that fold itself must not know of it.
    assert found.weights["cheat"] > 0.6
    for other in range(FOLDS):
        weight = seen_weight(found, members, TRUTH.folds == other)
        assert (weight < 0.55) if other == fold else (weight > 0.6)
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
    found = blend([GOOD, FAIR], truth, "weighted")
    weights = (found.predictions.out_of_fold - FAIR.out_of_fold) / (GOOD.out_of_fold - FAIR.out_of_fold)
    assert len(np.unique(np.median(weights, axis=1).round(4))) == 5
