"""What score to expect on the test digits, with all that stands between them and the held-out rows."""

from collections.abc import Collection, Mapping

import numpy as np

from digit_recognizer.manifest import ExpectedScore, Manifest, RunConfig
from digit_recognizer.scoring import Estimate, errors, wilson

# How many times the scored fits' errors the submitted model has, with its standard deviation; measured on
# the blocks of scripts/coverage.py. A net's errors fall with this power of its training rows, and vary from
# fit to fit. The mean of fold models saves none of a linear model's errors, and a third of a plain net's.
REFIT_EXPONENT, REFIT_SPREAD = 0.25, 0.12
FOLD_MEAN, FOLD_SPREAD = 0.9, 0.2
TOO_GOOD = 0.9985  # public scores beyond it are of models that have seen the test digits
DRAWS = 2_000


def expect(estimates: Mapping[str, Estimate], main_model: str, config: RunConfig) -> ExpectedScore | None:
    """Return the accuracy to expect on the test digits, with its 95% interval; None if they are trained on.

    The interval covers the chance in which rows are held out, that in which digits are test digits and, where
    another fit than the scored one predicts them, that in training. Such a fit is expected to have fewer
    errors. The best of several models is expected to have more than it had on the rows that chose it.
    """
    if config.data.kind == "train_test_overlap":
        return None
    estimate, rows = estimates[main_model], config.data.rows.test
    wrong = 1 - estimate.score.accuracy
    if not config.blend:
        wrong += optimism(list(estimates.values()))
    variance = (1 / estimate.worth + 1 / rows) * wrong * (1 - wrong)
    factor, spread = _change(config)
    variance, wrong = variance + (spread * wrong) ** 2, factor * wrong
    wrong = min(max(wrong, 0.0), 1.0)
    worth = wrong * (1 - wrong) / variance if variance else 1 / (1 / estimate.worth + 1 / rows)
    score = wilson(1 - wrong, worth)
    return ExpectedScore(value=1 - wrong, low=score.low, high=score.high, rows=rows)


def _change(config: RunConfig) -> tuple[float, float]:
    """Return how many times the scored fits' errors the submitted model has, and the standard deviation."""
    folds, holdout = config.split.folds, config.split.holdout or 0.0
    if config.refit:
        share = 1 - 1 / folds if folds else 1 - holdout  # of the rows that the scored fits had
        return share**REFIT_EXPONENT, REFIT_SPREAD
    return (FOLD_MEAN, FOLD_SPREAD) if folds else (1.0, 0.0)


def optimism(estimates: Collection[Estimate]) -> float:
    """Return how much too high the score of the best of several models is, as it was chosen for being high.

    R. J. Tibshirani and R. Tibshirani, "A bias correction for the minimum error rate in cross-validation",
    Annals of Applied Statistics 3 (2009). The errors of the estimates are drawn from their joint normal
    distribution, around accuracies that are shrunk to their mean by as much as chance spreads them (James and
    Stein, 1961): else equal models would look different, and the choice between them safe.
    """
    if len(estimates) < 2:
        return 0.0
    influence = np.array([estimate.influence for estimate in estimates])
    accuracies = np.array([estimate.score.accuracy for estimate in estimates])
    apart = np.sum((influence - influence.mean(axis=0)) ** 2) / (len(estimates) - 1)  # by chance
    spread = accuracies.var(ddof=1)
    share = max(0.0, 1 - apart / spread) if spread else 0.0
    chance = np.random.default_rng(0).multivariate_normal(
        np.zeros(len(influence)), influence @ influence.T, DRAWS, method="eigh"
    )
    scores = accuracies.mean() + share * (accuracies - accuracies.mean()) + chance
    return float(np.take_along_axis(chance, scores.argmax(axis=1)[:, None], axis=1).mean())


def describe(manifest: Manifest) -> str:
    """Return in a sentence what score to expect of a run, or why none."""
    expected, data = manifest.expected_score, manifest.config.data
    if expected is None and data.kind == "train_test_overlap":
        return "No score can be expected: training digits are among the test digits"
    if expected is None:
        return "An earlier version made the run, which expected no score"
    where = "on Kaggle" if data.kind == "competition" else "on the test digits"
    fewest, most = (errors(share, expected.rows) for share in (expected.high, expected.low))
    count = f"{fewest:,} to {most:,} errors of {expected.rows:,}"
    said = f"Expect {expected.low:.4f} to {expected.high:.4f} {where}, {count}"
    if manifest.config.refit or manifest.config.split.folds:
        who = "a fit on all rows" if manifest.config.refit else "the mean of the fold models"
        said += f"; wider than the validation accuracy's interval, as {who} was not scored itself"
    if expected.low > TOO_GOOD:
        said += ". That is too good to be true on this competition: full MNIST holds its test digits"
    return said
