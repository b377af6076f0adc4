"""A page of the held-out digits that one of two runs alone predicts right."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from digit_recognizer.comparison import Comparison
from digit_recognizer.files import write_atomically
from digit_recognizer.reports import page, report_data
from digit_recognizer.reports.report_data import MAX_MISCLASSIFIED, Example
from digit_recognizer.runs import Run

Pair = tuple[Example, Example]  # a digit's predictions by the first and by the second run


def write(
    runs: Sequence[Run],
    names: Sequence[str],
    compared: Comparison,
    said: Iterable[str],
    out: Path,
    data_dir: Path | None,
) -> Path:
    """Write the page of two runs into the folder `out` and return its path.

    names: of the runs on the page; said: how they compare, in words. data_dir: where their digits are, if not
    where the first one read them.
    Raises RunError if files do not belong together, DataError if the digits cannot be read, WriteError if the
    page cannot be written.
    """
    digits = report_data.digits_of(runs[0], data_dir).train
    predictions = [_mean_probabilities(run) for run in runs]

    def pair(row: int) -> Pair:
        a, b = (
            Example.of(digits, row, digits.labels[row], means[np.searchsorted(rows, row)])
            for rows, means in predictions
        )
        return a, b

    sides = [(names[0], compared.only_first), (names[1], compared.only_second)]
    path = out / f"{'-vs-'.join(run.folder.resolve().name for run in runs)}.html"
    content = page.render(
        "differences.html",
        names=names,
        said=list(said),
        sides=[(name, len(rows), [pair(row) for row in rows[:MAX_MISCLASSIFIED]]) for name, rows in sides],
    )
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.encode(errors="backslashreplace"))
    return path


def _mean_probabilities(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the held-out rows, ascending, and the main model's mean probabilities of each, (n, 10)."""
    held_out, main = run.main_predictions()
    rows, inverse, times = np.unique(held_out.rows, return_inverse=True, return_counts=True)
    sums = np.zeros((len(rows), main.out_of_fold.shape[1]))
    np.add.at(sums, inverse, main.out_of_fold)
    return rows, sums / times[:, None]
