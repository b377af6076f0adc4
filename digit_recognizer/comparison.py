"""Which of two runs is better, and whether their held-out digits can tell."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import erfc, exp, lgamma, log, sqrt
from pathlib import Path
from typing import Literal

import numpy as np

from digit_recognizer import scoring
from digit_recognizer.data import references
from digit_recognizer.errors import RunError
from digit_recognizer.runs import Run
from digit_recognizer.scoring import Accuracy, Estimate, HeldOutDigits

Verdict = Literal["better", "worse", "equal", "cannot tell"]
LEVEL = 0.05  # of the test
POWER_Z = scoring.Z + 0.841621  # a difference of so many standard errors is found in four of five trials


@dataclass(frozen=True)
class Comparison:
    """The first run's main model against the second's.

    difference: of their accuracies, first less second, with the 95% interval from low to high. p: of such a
    difference between equally accurate models, by that test. common: number of digits that both held out.
    only_first, only_second: those that one of them alone predicts right, int row numbers. log_loss: its mean
    difference on the common digits, and the standard error. needed: number of digits held out by both on
    which such a difference is found in four of five trials; None without one, or if the digits differ.
    """

    verdict: Verdict
    estimates: tuple[Estimate, Estimate]
    difference: float
    low: float
    high: float
    p: float
    test: str
    common: int
    only_first: np.ndarray
    only_second: np.ndarray
    log_loss: tuple[float, float] | None
    needed: int | None

    def to_json(self) -> dict[str, object]:
        """Return the fields for JSON: of the estimates the scores, of row numbers how many there are."""
        fields = {**vars(self), "only_first": len(self.only_first), "only_second": len(self.only_second)}
        scores = [{**dict(each.score), "digits": each.digits} for each in fields.pop("estimates")]
        return {**fields, "scores": scores}


def compare(first: Run, second: Run) -> Comparison:
    """Compare two runs on the same training digits by those that each held out.

    If these are the same, p is of McNemar's test, in its mid-p form: M. W. Fagerland, S. Lydersen, P. Laake,
    "The McNemar test for binary matched-pairs data", BMC Medical Research Methodology 13 (2013); of a paired
    normal test if folds were repeated. Else it is the interval's, which knows which digits both held out:
    R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", Statistics in Medicine 17 (1998).
    Raises RunError if they are on different training digits, or a file cannot be read.
    """
    data = [run.manifest.config.data for run in (first, second)]
    if data[0].fingerprint.train != data[1].fingerprint.train:
        sources = " and ".join(f"{run.folder} ({run.manifest.config.data.source})" for run in (first, second))
        raise RunError(f"{sources} are runs on different data; only runs on the same can be compared")
    a, b = _digits_of(first), _digits_of(second)
    margins = references.margins(data[0].fingerprint.train, data[0].rows.train)
    of_a, of_b = (scoring.estimate(digits, data[0].rows.train, margins) for digits in (a, b))
    together = sqrt(np.sum(of_a.influence**2) * np.sum(of_b.influence**2))
    correlation = float(of_a.influence @ of_b.influence / together) if together else 0.0
    difference, low, high, _ = _subtract(of_a.score, of_b.score, correlation)
    ahead, p, test = _test(a, b, of_a.score, of_b.score, correlation)
    common, in_a, in_b = np.intersect1d(a.rows, b.rows, assume_unique=True, return_indices=True)
    loss, same = a.loss[in_a] - b.loss[in_b], np.array_equal(a.rows, b.rows)
    error = sqrt(np.sum((of_a.influence - of_b.influence) ** 2))
    return Comparison(
        verdict="equal" if same and not loss.any() else _judge(ahead, p),
        estimates=(of_a, of_b),
        difference=difference,
        low=low,
        high=high,
        p=p,
        test=test,
        common=len(common),
        only_first=common[(a.right[in_a] == 1) & (b.right[in_b] == 0)],
        only_second=common[(a.right[in_a] == 0) & (b.right[in_b] == 1)],
        log_loss=(float(loss.mean()), float(loss.std() / sqrt(len(loss)))) if len(loss) else None,
        needed=round((POWER_Z * error / difference) ** 2 * len(common)) if same and difference else None,
    )


def against_best(runs: Sequence[Run]) -> list[Literal["best", "cannot tell", "worse"]]:
    """Return of each run how it compares with the best one on the same training digits.

    The best is that whose interval begins highest: one of few held-out digits can be accurate by luck.
    """
    known: dict[Path, HeldOutDigits | None] = {}
    bests = [max(_on_same_digits(runs, run), key=lambda other: other.main_score.low) for run in runs]
    return [
        "best" if run is best else "worse" if _is_better(best, run, known) else "cannot tell"
        for run, best in zip(runs, bests, strict=True)
    ]


def better_than(run: Run, others: Sequence[Run]) -> list[Run]:
    """Return those of the others on the same training digits that are better, the best first."""
    known: dict[Path, HeldOutDigits | None] = {}
    found = [other for other in _on_same_digits(others, run) if _is_better(other, run, known)]
    return sorted(found, key=lambda other: other.main_score.low, reverse=True)


def _on_same_digits(runs: Sequence[Run], run: Run) -> list[Run]:
    digits = run.manifest.config.data.fingerprint.train
    return [other for other in runs if other.manifest.config.data.fingerprint.train == digits]


def _is_better(first: Run, second: Run, known: dict[Path, HeldOutDigits | None]) -> bool:
    """Return whether a run is better than another, as `compare` does but for a second.

    It reads probabilities only where intervals overlap, each run's once, and fits nothing: on other held-out
    digits, runs are compared by the scores in run.json. known: what was read, by folder.
    """
    if first.main_score.low > second.main_score.high:
        return True
    for run in (first, second):
        if run.folder not in known:
            known[run.folder] = None  # as long as it cannot be read
            with suppress(RunError):
                known[run.folder] = _digits_of(run)
    a, b = known[first.folder], known[second.folder]
    return _judge(*_test(a, b, first.main_score, second.main_score)[:2]) == "better"


def _judge(ahead: float, p: float) -> Verdict:
    if p >= LEVEL:
        return "cannot tell"
    return "better" if ahead > 0 else "worse"


def _digits_of(run: Run) -> HeldOutDigits:
    """Return what a run's main model makes of its held-out digits; raises RunError if that cannot be read."""
    held_out, main = run.main_predictions()
    return scoring.by_digit(held_out, main.out_of_fold)


def _test(
    a: HeldOutDigits | None, b: HeldOutDigits | None, of_a: Accuracy, of_b: Accuracy, correlation: float = 0.0
) -> tuple[float, float, str]:
    """Return how far the first is ahead, p and its test: paired on the same digits, else of accuracies."""
    if a is None or b is None or not np.array_equal(a.rows, b.rows):
        difference, _, _, p = _subtract(of_a, of_b, correlation)
        return difference, p, "test of the interval"
    ahead = a.right - b.right
    if np.isin(ahead, [-1, 0, 1]).all():
        return float(ahead.mean()), mid_p(int((ahead > 0).sum()), int((ahead < 0).sum())), "McNemar's test"
    return float(ahead.mean()), _two_sided(ahead.mean(), ahead.std() / sqrt(len(ahead))), "paired normal test"


def mid_p(only_first: int, only_second: int) -> float:
    """Return McNemar's mid-p of so many digits that one model alone predicts right."""
    # By hand, as `runs` shall not wait for scipy's import.
    n, fewer = only_first + only_second, min(only_first, only_second)
    terms = [exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2)) for k in range(fewer + 1)]
    if only_first == only_second:
        return 1 - terms[-1] / 2 if n else 1.0
    return 2 * sum(terms) - terms[-1]


def _subtract(a: Accuracy, b: Accuracy, correlation: float) -> tuple[float, float, float, float]:
    """Return the difference of two accuracies, its 95% interval after Newcombe, and p."""
    difference = a.accuracy - b.accuracy

    def half(of_a: float, of_b: float) -> float:
        return sqrt(max(0.0, of_a**2 - 2 * correlation * of_a * of_b + of_b**2))

    below = half(a.accuracy - a.low, b.high - b.accuracy)
    above = half(a.high - a.accuracy, b.accuracy - b.low)
    p = _two_sided(difference, (below if difference > 0 else above) / scoring.Z)
    return difference, difference - below, difference + above, p


def _two_sided(difference: float, error: float) -> float:
    return erfc(abs(difference) / error / sqrt(2)) if error else float(difference == 0)
