from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_config

from digit_recognizer.expected import FOLD_MEAN, FOLD_SPREAD, REFIT_EXPONENT, describe, expect, optimism
from digit_recognizer.manifest import DataConfig, ExpectedScore, Fingerprint, Rows, RunConfig, SplitConfig
from digit_recognizer.scoring import Estimate, HeldOutDigits, estimate, wilson

ROWS, HELD_OUT, TEST = 42_000, 4_200, 28_000


def config(kind: str = "competition", **changes: object) -> RunConfig:
    fingerprint = Fingerprint(train="0" * 64, test="1" * 64)
    rows = Rows(train=ROWS, test=TEST)
    digits = DataConfig(kind=kind, source="data", rows=rows, fingerprint=fingerprint)
    split = SplitConfig(holdout=0.1, folds=None)
    return make_config(**{"data": digits, "split": split, "refit": False, **changes})


def model(errors: int, seed: int = 0, held_out: int = HELD_OUT) -> Estimate:
    """Return the estimate of a model with so many errors, which are other digits' for another seed."""
    right = np.random.default_rng(seed).permutation(held_out) >= errors
    return estimate(HeldOutDigits(np.arange(held_out), right.astype(float), np.zeros(held_out)), ROWS, None)


def test_a_holdouts_interval_is_of_as_many_rows_as_both_chances_leave() -> None:
    expected = expect({"cnn": model(42)}, "cnn", config())
    assert (expected.value, expected.rows) == (0.99, TEST)
    of_both = wilson(0.99, 1 / (1 / HELD_OUT + 1 / TEST))
    assert (expected.low, expected.high) == pytest.approx((of_both.low, of_both.high), abs=1e-9)


def test_no_error_at_all_still_has_an_interval() -> None:
    expected = expect({"cnn": model(0)}, "cnn", config())
    assert 0.9985 < expected.low < expected.value == expected.high == 1


def test_another_fit_than_the_scored_one_predicts_with_fewer_errors_and_more_chance() -> None:
    folds = expect({"cnn": model(420)}, "cnn", config(split=SplitConfig(holdout=None, folds=5)))
    refit = expect({"cnn": model(420)}, "cnn", config(refit=True))
    assert 1 - folds.value == pytest.approx(0.1 * FOLD_MEAN)
    assert 1 - refit.value == pytest.approx(0.1 * 0.9**REFIT_EXPONENT)
    variance = 0.09 * (1 / HELD_OUT + 1 / TEST) + (FOLD_SPREAD * 0.1) ** 2
    assert (folds.high - folds.low) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.02)


def test_the_best_of_equal_models_owes_its_lead_to_chance() -> None:
    """The highest of ten independent normal numbers is 1.539 standard deviations above their mean."""
    models = [model(420, seed) for seed in range(10)]
    sigma = (0.09 / HELD_OUT) ** 0.5
    assert optimism(models) == pytest.approx(1.539 * sigma, rel=0.05)
    assert optimism([models[0]] * 10) == pytest.approx(0, abs=0.1 * sigma)
    assert optimism(models[:1]) == 0
    better = optimism([models[0], model(840)])  # which is no luck
    assert better == pytest.approx(0, abs=0.1 * sigma)


def test_optimism_is_subtracted_from_a_chosen_model_not_from_a_blend() -> None:
    estimates = {f"net-{seed}": model(420, seed) for seed in range(10)}
    chosen = expect(estimates, "net-0", config(blend=False))
    blended = expect(estimates, "net-0", config(blend=True))
    assert blended.value == pytest.approx(0.9)
    assert blended.value - chosen.value == pytest.approx(optimism(list(estimates.values())))


def said(expected: tuple[float, float, int] | None, kind: str = "competition", **changes: object) -> str:
    """Return the sentence of a run that expects a score from low to high of so many digits."""
    low, high, rows = expected or (0, 0, 0)
    score = ExpectedScore(low=low, high=high, rows=rows, value=0.99) if expected else None
    return describe(SimpleNamespace(expected_score=score, config=config(kind, **changes)))


def test_the_sentence_counts_errors() -> None:
    on_kaggle = "Expect 0.9957 to 0.9969 on Kaggle, 87 to 120 errors of 28,000"
    assert said((0.9957, 0.9969, TEST)) == on_kaggle
    on_sample = "Expect 0.9700 to 0.9900 on the test digits, 40 to 120 errors of 4,000"
    assert said((0.97, 0.99, 4_000), "sample") == on_sample
    wider = f"{on_sample}; wider than the validation accuracy's interval, as"
    refit = said((0.97, 0.99, 4_000), "sample", refit=True)
    assert refit == f"{wider} a fit on all rows was not scored itself"
    folds = said((0.97, 0.99, 4_000), "sample", split=SplitConfig(holdout=None, folds=5))
    assert folds == f"{wider} the mean of the fold models was not scored itself"
    assert said((0.9986, 1.0, TEST)) == (
        "Expect 0.9986 to 1.0000 on Kaggle, 0 to 39 errors of 28,000. That is too good to be true on this "
        "competition: full MNIST holds its test digits"
    )
    assert said(None, "train_test_overlap") == (
        "No score can be expected: training digits are among the test digits"
    )
    assert said(None) == "An earlier version made the run, which expected no score"


def test_training_digits_among_the_test_digits_leave_nothing_to_expect() -> None:
    assert expect({"cnn": model(42)}, "cnn", config("train_test_overlap")) is None
