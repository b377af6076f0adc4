"""A page of the held-out digits that one of two runs alone predicts right."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from digit_recognizer.comparison import Comparison
from digit_recognizer.files import write_atomically
from digit_recognizer.reports import page, report_data
from digit_recognizer.runs import Run


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
    sides = [compared.only_first, compared.only_second]
    shown = [rows[: report_data.MAX_MISCLASSIFIED] for rows in sides]
    examples = []
    for run in runs:
        held_out, main = run.main_predictions()
        known, first = np.unique(held_out.rows, return_index=True)  # repeated folds predict a row again
        places = [first[np.searchsorted(known, rows)] for rows in shown]
        examples.append([report_data.examples(digits, held_out, main.out_of_fold, each) for each in places])
    pairs = [list(zip(*side, strict=True)) for side in zip(*examples, strict=True)]
    content = page.render(
        "differences.html",
        names=names,
        said=list(said),
        sides=list(zip(names, map(len, sides), pairs, strict=True)),
    )
    path = out / f"{'-vs-'.join(run.folder.resolve().name for run in runs)}.html"
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path
