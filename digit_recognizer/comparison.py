"""Which of two runs is better, and whether their held-out digits can tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, exp, hypot, lgamma, log, sqrt
from typing import Literal

import numpy as np

from digit_recognizer import scoring
from digit_recognizer.data import references
from digit_recognizer.errors import RunError
from digit_recognizer.runs import Run

Verdict = Literal["better", "worse", "equal", "cannot tell"]
LEVEL = 0.05  # of the test
POWER_Z = scoring.Z + 0.841621  # a difference of so many standard errors is found in four of five trials


@dataclass(frozen=True)
class Comparison:
    """The first run's main model against the second's.

    difference: of their validation accuracies, first less second, with the 95% interval from low to high.
    p: of such a difference between equally accurate models. common: number of digits that both held out.
    only_first, only_second: those that one of them alone predicts right, int row numbers. log_loss: its mean
    difference on the common digits, and the standard error. needed: number of held-out digits on which such a
    difference is found in four of five trials; None without a difference.
    """

    verdict: Verdict
    difference: float
    low: float
    high: float
    p: float
    common: int
    only_first: np.ndarray
    only_second: np.ndarray
    log_loss: tuple[float, float] | None
    needed: int | None

    def to_json(self) -> dict[str, object]:
        """Return the fields for JSON, arrays as numbers of rows."""
        arrays = {"only_first": len(self.only_first), "only_second": len(self.only_second)}
        return {**vars(self), **arrays}


def compare(first: Run, second: Run) -> Comparison:
    """Compare two runs on the same training digits by those that each held out.

    If these are the same, p is of McNemar's test, in its mid-p form: M. W. Fagerland, S. Lydersen, P. Laake,
    "The McNemar test for binary matched-pairs data", BMC Medical Research Methodology 13 (2013). Else it is
    of a normal distribution, whose variance knows which digits both held out.
    Raises RunError if they are on different training digits, or a file cannot be read.
    """
    data = [run.manifest.config.data for run in (first, second)]
    if data[0].fingerprint.train != data[1].fingerprint.train:
        sources = " and ".join(f"{run.folder} ({run.manifest.config.data.source})" for run in (first, second))
        raise RunError(f"{sources} are runs on different data; only runs on the same can be compared")
    a, b = _digits_of(first), _digits_of(second)
    margins = references.margins(data[0].fingerprint.train)
    of_a, of_b = (scoring.estimate(digits, data[0].rows.train, margins) for digits in (a, b))
    difference = of_a.score.accuracy - of_b.score.accuracy
    error = float(np.sqrt(np.sum((of_a.influence - of_b.influence) ** 2)))
    common, in_a, in_b = np.intersect1d(a.rows, b.rows, assume_unique=True, return_indices=True)
    ahead, loss = a.right[in_a] - b.right[in_b], a.loss[in_a] - b.loss[in_b]
    only_first, only_second = common[ahead > 0], common[ahead < 0]
    same = np.array_equal(a.rows, b.rows)
    p = mid_p(len(only_first), len(only_second)) if same else _two_sided(difference, error)
    verdict: Verdict = "cannot tell"
    if same and np.array_equal(a.loss, b.loss):
        verdict = "equal"
    elif p < LEVEL:
        verdict = "better" if difference > 0 else "worse"
    return Comparison(
        verdict=verdict,
        difference=difference,
        low=difference - scoring.Z * error,
        high=difference + scoring.Z * error,
        p=p,
        common=len(common),
        only_first=only_first,
        only_second=only_second,
        log_loss=(float(loss.mean()), float(loss.std() / sqrt(len(loss)))) if len(loss) else None,
        needed=round((POWER_Z * error / difference) ** 2 * min(len(a.rows), len(b.rows)))
        if difference
        else None,
    )


def against_best(runs: Sequence[Run]) -> list[Literal["best", "cannot tell", "worse"]]:
    """Return of each run how it compares with the most accurate one on the same training digits.

    It reads a run's probabilities only if its interval overlaps that one's, and fits nothing, so it is quick.
    On other held-out digits than that one's, a run is compared by the scores and their intervals alone.
    """
    best: dict[str, Run] = {}
    for run in runs:
        digits = run.manifest.config.data.fingerprint.train
        if digits not in best or run.main_score.accuracy > best[digits].main_score.accuracy:
            best[digits] = run
    return [_against(best[run.manifest.config.data.fingerprint.train], run) for run in runs]


def _against(best: Run, run: Run) -> Literal["best", "cannot tell", "worse"]:
    score, highest = run.main_score, best.main_score
    if run is best:
        return "best"
    if score.high < highest.low:
        return "worse"
    try:
        a, b = _digits_of(best), _digits_of(run)
        same = np.array_equal(a.rows, b.rows)
    except RunError:  # its score stands in run.json
        same = False
    if same:
        p = mid_p(int((a.right > b.right).sum()), int((a.right < b.right).sum()))
    else:
        errors = [(each.high - each.low) / (2 * scoring.Z) for each in (score, highest)]
        p = _two_sided(highest.accuracy - score.accuracy, hypot(*errors))
    return "worse" if p < LEVEL else "cannot tell"


def _digits_of(run: Run) -> scoring.HeldOutDigits:
    """Return what a run's main model makes of its held-out digits; raises RunError if that cannot be read."""
    held_out, models = run.predictions()
    main = next(model for model in models if model.name == run.manifest.main_model)
    return scoring.by_digit(held_out, main.out_of_fold)


def mid_p(only_first: int, only_second: int) -> float:
    """Return McNemar's mid-p of so many digits that one model alone predicts right."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    terms = [exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2)) for k in range(fewer + 1)]
    return 2 * sum(terms) - terms[-1] if only_first != only_second else 1.0


def _two_sided(difference: float, error: float) -> float:
    return erfc(abs(difference) / error / sqrt(2)) if error else float(difference == 0)
