"""Measure recipes for `recipes.py`, and compare stored runs digit by digit for docs/experiments.md.

    python -m scripts.evidence --data-dir data [RECIPE...]
    python -m scripts.evidence --compare BEFORE NOW [BEFORE NOW ...]
    python -m scripts.evidence --means RUN

The first validates on 5 folds of the competition's rows, those of seed 1 (recipes are tuned on seed 0), and
prints the `Evidence(...)` of each recipe, to put into `recipes.py`; with several named, also their blend's.
The second prints a Markdown table of pairs of runs, by name or folder, that hold out the same rows. The third
compares two means of a run's fold models on known test labels.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.metrics import log_loss

from digit_recognizer import data, runs
from digit_recognizer.blending import apply_temperature, fit_inverse_temperature
from digit_recognizer.inference.models import read_fits
from digit_recognizer.nets import pipelines
from digit_recognizer.predictions import BLEND, mean_of_fits

FLOOR = 1e-7  # of a probability, so that one error does not decide a log loss


def run(*arguments: object) -> dict:
    """Return what a command of the package prints with --json."""
    command = [sys.executable, "-m", "digit_recognizer", *map(str, arguments), "--json"]
    completed = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    return json.loads(completed.stdout)


def measure(names: Iterable[str], data_dir: Path) -> Iterator[str]:
    """Validate recipes together; yield the evidence of each, and of their blend."""
    selected = [word for name in names for word in ("--recipe", name)]
    with tempfile.TemporaryDirectory() as out:
        result = run("validate", *selected, "--seed", 1, "--data-dir", data_dir.resolve(), "--out", out)
    for model in [*result["models"], *([result["blend"]] if result["blend"] else [])]:
        mean, std = statistics.mean(model["folds"]), statistics.stdev(model["folds"])
        seconds = model["seconds"] / len(model["folds"])
        evidence = f'{mean:.4f}, {std:.4f}, {seconds:.0f}, "{time.strftime("%Y-%m-%d")}"'
        yield f"{model['recipe']}: Evidence({evidence})"


def by_row(stored: runs.Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return held-out rows in order, whether the run's main model errs on each, and its log loss there."""
    held_out, models = stored.predictions()
    (main,) = [model for model in models if model.name == stored.manifest.main_model]
    p_true = main.out_of_fold[np.arange(len(held_out.labels)), held_out.labels]
    order = held_out.rows.argsort(kind="stable")
    wrong = main.out_of_fold.argmax(axis=1) != held_out.labels
    return held_out.rows[order], wrong[order], -np.log(p_true.clip(FLOOR, 1)[order].astype(float))


def compare(before: runs.Run, now: runs.Run) -> str:
    """Return a row of Markdown: errors, those of one run alone, and the change of log loss ± its error."""
    (rows, wrong, loss), (others, wrong_now, loss_now) = by_row(before), by_row(now)
    if not np.array_equal(rows, others):
        names = f"{before.folder} and {now.folder}"
        sys.exit(f"{names} hold out different rows; validate both with the same --folds and --seed")
    change = loss_now - loss
    error = change.std(ddof=1) / len(change) ** 0.5
    only_now, only_before = (wrong_now & ~wrong).sum(), (wrong & ~wrong_now).sum()
    cells = [before.folder.name, now.folder.name, wrong.sum(), wrong_now.sum(), f"{only_now}, {only_before}"]
    return f"| {' | '.join(map(str, cells))} | {change.mean():+.4f} ± {error:.4f} |"


def means(stored: runs.Run, digits: data.Dataset) -> Iterator[str]:
    """Yield a row of Markdown for the arithmetic and the geometric mean of each model's fits.

    Log losses on the test labels: plain, at the temperature that suits single fits out of fold, at the best.
    """
    held_out, predictions = stored.predictions()
    for model in [each for each in predictions if each.name != BLEND]:
        settings = stored.manifest.recipes[model.name]
        fits = read_fits(stored, model.name, partial(pipelines.from_arrays, settings=settings))
        tests = [fit.predict_proba(digits.test).astype(np.float32) for fit in fits]
        known = fit_inverse_temperature(model.out_of_fold, held_out.labels)
        for name, mean in {"arithmetic": np.mean(tests, axis=0), "geometric": mean_of_fits(tests)}.items():
            best = fit_inverse_temperature(mean, digits.test_labels)
            losses = [log_loss(digits.test_labels, apply_temperature(mean, t)) for t in (1, known, best)]
            cells = [f"{loss:.4f}" for loss in losses]
            yield f"| {model.name} | {name} | {' | '.join(cells)} | {known:.3f}, {best:.3f} |"


def main() -> None:
    """Validate the named recipes, or all; or compare runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="folder of the competition's files"
    )
    parser.add_argument("--compare", nargs="+", metavar="RUN", help="names or folders of runs, in pairs")
    parser.add_argument("--means", metavar="RUN", help="name or folder of a run with folds")
    parser.add_argument("--out", type=Path, default=Path("submissions"), help="folder of the runs")
    parser.add_argument("recipes", nargs="*", help="which to measure  [default: all, without a blend]")
    options = parser.parse_args()
    if options.compare:
        if len(options.compare) % 2:
            parser.error("--compare takes pairs of runs")
        print("| before | now | errors, before | errors, now | only now, only before | log loss, change |")
        print("|---|---|---|---|---|---|")
        found = [runs.find(options.out, name) for name in options.compare]
        for before, now in zip(found[::2], found[1::2], strict=True):
            print(compare(before, now))
        return
    if options.means:
        print("| model | mean | log loss | at the fits' temperature | at the best | inverse temperatures |")
        print("|---|---|---|---|---|---|")
        for line in means(runs.find(options.out, options.means), data.load(options.data_dir)):
            print(line)
        return
    each = [options.recipes] if options.recipes else [[one["name"]] for one in run("recipes")["recipes"]]
    for names in each:
        for line in measure(names, options.data_dir):
            print(line, flush=True)


if __name__ == "__main__":
    main()
