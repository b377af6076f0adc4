"""How fast this machine fits and predicts, measured on a few training digits."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from digit_recognizer.data import Digits
from digit_recognizer.errors import RunError
from digit_recognizer.recipes import Recipe
from digit_recognizer.settings import Settings
from digit_recognizer.training import limited_threads, run_on_each

# Training digits that a net's speed is measured on. An epoch of a quick net with so few takes some hundredths
# of a second, half of which is not spent on rows.
FEW_ROWS = 1024
MANY_ROWS = 8192  # for a dense net of at most so many units, in batches of at least so many digits
QUICK_UNITS, QUICK_BATCH = 2048, 32


@dataclass(frozen=True)
class Speed:
    """What a net takes on this machine, in seconds.

    startup: to the first step; preprocess_row: per row besides the epochs; train_row: per row of an epoch;
    predict_row: per row of `predict_proba`; predict_row_without_tta: the net alone, for learning curves.
    """

    startup: float
    preprocess_row: float
    train_row: float
    predict_row: float
    predict_row_without_tta: float


def measure_speeds(
    recipes: Sequence[Recipe], digits: Digits, processes: int, threads: int
) -> dict[str, Speed]:
    """Return the speed of each recipe, by name, when `processes` processes fit it side by side.

    The slowest process counts. Raises RunError if one is killed or runs out of memory.
    """
    arguments = [(recipe.settings, _few(recipe, digits), threads) for recipe in recipes]
    try:
        measured = run_on_each(_measure_speed, arguments, workers=processes, threads=threads)
    except MemoryError:
        raise RunError("out of memory while the speed of the nets is measured; try fewer --jobs") from None
    return {
        recipe.name: Speed(*np.max(speeds, axis=0)) for recipe, speeds in zip(recipes, measured, strict=True)
    }


def _few(recipe: Recipe, digits: Digits) -> Digits:
    """Return as many digits as the recipe's speed is measured on, from all over the file."""
    net = recipe.settings
    is_quick = not net.is_convolutional and sum(net.hidden) <= QUICK_UNITS and net.batch_size >= QUICK_BATCH
    rows = np.linspace(0, len(digits) - 1, min(MANY_ROWS if is_quick else FEW_ROWS, len(digits))).astype(int)
    return Digits(digits.pixels[rows], digits.labels[rows])


def _measure_speed(settings: Settings, few: Digits, threads: int) -> tuple[float, ...]:
    """Return the fields of Speed, from four short epochs."""
    from digit_recognizer.nets import pipelines

    moments: list[float] = []

    def lap() -> None:
        moments.append(time.perf_counter())

    with limited_threads(settings, threads):
        lap()
        # A net that diverges fails in its fit, not here.
        classifier = pipelines.build(settings.replace(epochs=4, learning_rate=1e-6), 0)
        classifier.fit(few.pixels, few.labels, net__on_epoch_end=lap)
        lap()
        classifier.predict_proba(few.pixels)
        lap()
        rows = pipelines.prepare_rows(classifier, few.pixels)
        lap()
        classifier[-1].predict_proba_without_tta(rows)
        lap()
    # The first epoch includes startup; during the last, no next one is prepared. Of the two between, take the
    # faster: other load may slow one.
    first, second, third, _, _, predict, preprocess, without_tta = np.diff(moments)
    epoch = min(second, third)
    per_row = np.array([preprocess, epoch, predict, without_tta]) / len(few)
    return (max(0.0, first - epoch - preprocess), *per_row)
