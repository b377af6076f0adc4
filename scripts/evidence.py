"""Measure recipes for `recipes.py`, and what docs/scores.md and docs/experiments.md say of scores.

    python -m scripts.evidence --data-dir data [RECIPE...]
    python -m scripts.evidence --scores RUN [RUN ...]
    python -m scripts.evidence --pairs 200 --data-dir data
    python -m scripts.evidence --means RUN

The first validates on 5 folds of the competition's rows, those of seed 1 (recipes are tuned on seed 0), and
prints the `Evidence(...)` of each recipe, to put into `recipes.py`; with several named, also their blend's.
The second prints the scores of the runs' models, the third how often equally good nets are called different.
The fourth compares two means of a run's fold models on known test labels.
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

from digit_recognizer import comparison, data, expected, runs, scoring
from digit_recognizer.blending import apply_temperature, fit_inverse_temperature
from digit_recognizer.data import references
from digit_recognizer.inference import read_fits
from digit_recognizer.nets import pipelines
from digit_recognizer.predictions import BLEND, mean_of_fits
from digit_recognizer.recipes import RECIPES


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
        seconds = model["fit_seconds"] / len(model["folds"])
        evidence = f'{mean:.4f}, {std:.4f}, {seconds:.0f}, "{time.strftime("%Y-%m-%d")}"'
        yield f"{model['recipe']}: Evidence({evidence})"


def scores(stored: Iterable[runs.Run]) -> Iterator[str]:
    """Yield a row of Markdown for each model of the runs: raw and adjusted accuracy, and what to expect."""
    yield "| run | model | raw | validation accuracy | expected on the test digits | width, of the raw one |"
    yield "|---|---|---|---|---|---|"
    for run in stored:
        config, (held_out, models) = run.manifest.config, run.predictions()
        alone = config.model_copy(update={"blend": True})  # as if each were the run's only model
        margins = references.margins(config.data.fingerprint.train, config.data.rows.train)
        for model in models:
            digits = scoring.by_digit(held_out, model.out_of_fold)
            adjusted, raw = (
                scoring.estimate(digits, config.data.rows.train, known) for known in (margins, None)
            )
            expect, raw_expect = (expected.expect({"": estimate}, "", alone) for estimate in (adjusted, raw))
            cells = [run.folder.name, f"`{model.name}`", *map(_interval, (raw.score, adjusted.score))]
            if expect and raw_expect:
                share = (expect.high - expect.low) / (raw_expect.high - raw_expect.low)
                cells += [f"{expect.value:.4f}, {expect.low:.4f} to {expect.high:.4f}", f"{share:.2f}"]
            yield f"| {' | '.join(cells)} |"


def _interval(score: scoring.Accuracy) -> str:
    return f"{score.accuracy:.4f}, {score.low:.4f} to {score.high:.4f}"


def equal_pairs(digits: data.Dataset, count: int) -> Iterator[str]:
    """Yield how many pairs of equally good nets `compare` calls different, by the number of held-out rows.

    The nets of a pair, linear ones, differ in their seed alone; each pair has training and held-out rows of
    its own, drawn from the training digits. Two fitted nets are never quite equal: the more rows, the more
    pairs show it.
    """
    settings = RECIPES["sklearn-mlp-plain"].settings.replace(hidden=(), epochs=10, averaged_epochs=5)
    train, p_values = digits.train, dict[int, list[float]]({600: [], 4000: []})
    for number in range(count):
        fitted, held_out = np.split(np.random.default_rng(number).permutation(len(train))[:8000], [4000])
        one, other = (
            pipelines.build(settings, 2 * number + side)
            .fit(train.pixels[fitted], train.labels[fitted])
            .predict(train.pixels[held_out])
            == train.labels[held_out]
            for side in (0, 1)
        )
        for rows, found in p_values.items():
            found.append(comparison.mid_p((one & ~other)[:rows].sum(), (other & ~one)[:rows].sum()))
    for rows, found in p_values.items():
        below = sum(p < comparison.LEVEL for p in found)
        yield f"{rows} held-out digits: {below} of {count} pairs have p < {comparison.LEVEL}"


def means(stored: runs.Run, digits: data.Dataset) -> Iterator[str]:
    """Yield a row of Markdown for the arithmetic and the geometric mean of each model's fits.

    Log losses on the test labels: plain, at the temperature that suits single fits out of fold, at the best.
    """
    held_out, predictions = stored.predictions()
    for model in [each for each in predictions if each.name != BLEND]:
        settings = stored.manifest.settings[model.name]
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
    parser.add_argument("--scores", nargs="+", metavar="RUN", help="names or folders of runs")
    parser.add_argument("--pairs", type=int, metavar="N", help="number of pairs of equally good nets")
    parser.add_argument("--means", metavar="RUN", help="name or folder of a run with folds")
    parser.add_argument("--out", type=Path, default=Path("submissions"), help="folder of the runs")
    parser.add_argument("recipes", nargs="*", help="which to measure  [default: all, without a blend]")
    options = parser.parse_args()
    if options.scores:
        print("\n".join(scores(runs.find(options.out, name) for name in options.scores)))
        return
    if options.pairs:
        print("\n".join(equal_pairs(data.load(options.data_dir), options.pairs)))
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
