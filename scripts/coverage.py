"""Measure how often the 95% intervals hold, for docs/scores.md, on the competition's training rows alone.

    python -m scripts.coverage --data-dir data --work build/coverage

Each of seven disjoint blocks of 6,000 rows plays the test set once. References and models are fitted afresh
on the other 36,000 rows; each model's expected score is then held against its accuracy on the block. Blocks
that are in --work already are not fitted again; all seven took an hour and ten minutes of two busy cores.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from digit_recognizer import data, training
from digit_recognizer.blending import blend
from digit_recognizer.data import Dataset, Digits
from digit_recognizer.data.references import margin
from digit_recognizer.expected import expect
from digit_recognizer.files import write_atomically
from digit_recognizer.job import HOLDOUT
from digit_recognizer.manifest import DataConfig, ExpectedScore, Rows, RunConfig, SplitConfig
from digit_recognizer.nets.arrays import read_arrays, write_arrays
from digit_recognizer.predictions import Predictions
from digit_recognizer.recipes import RECIPES
from digit_recognizer.scoring import accuracy, by_digit, estimate
from digit_recognizer.splits import ALL_ROWS, Split, held_out_rows, make_splits
from digit_recognizer.training import FitResult, FitTask, Machine
from scripts.references import FOLDS, REFERENCES, SEED

BLOCKS = 7
STRONGEST, ITS_BLOCKS = "cnn-small", 2  # it takes as long as all others: in the first blocks alone
LADDER = dict.fromkeys(REFERENCES, FOLDS) | {STRONGEST: 2}  # folds of each; five of the strongest take hours
WEAK = ("softmax", "keras-mlp-100", "keras-mlp-plain", "sklearn-mlp-scaled")
GOOD = ("keras-mlp-bn", "cnn-plain", "keras-mlp")
CANDIDATES = [f"candidate-{number}" for number in range(1, 11)]  # of one recipe, to choose the best of
CANDIDATE = "keras-mlp-plain"
BLENDS = [
    ("keras-mlp-plain", "sklearn-mlp-scaled"),
    ("keras-mlp-plain", "keras-mlp"),
    ("keras-mlp", "cnn-small"),
    ("keras-mlp-bn", "cnn-plain", "keras-mlp"),
]
PICTURE = Path(__file__).parents[1] / "docs/coverage.png"
REFITTED = ("keras-mlp-plain", "sklearn-mlp-scaled", "keras-mlp")  # on all rows, as --refit does


def without_block(digits: Digits, block: int) -> Dataset:
    """Return a block's rows as test digits, whose labels are known, and the others as training digits."""
    played = np.zeros(len(digits), bool)
    played[np.array_split(np.random.default_rng(SEED).permutation(len(digits)), BLOCKS)[block]] = True
    train = Digits(digits.pixels[~played], digits.labels[~played])
    return Dataset(
        train, digits.pixels[played], Path(), "other", {}, np.arange(len(train)), {}, digits.labels[played]
    )


@dataclass(frozen=True)
class Asked:
    """A run in a block: its holdout's or folds' seed, and the models to fit: recipes by name."""

    seed: int
    models: Mapping[str, str]
    folds: int | None = None

    def splits(self, dataset: Dataset) -> list[Split]:
        """Return its splits."""
        holdout = None if self.folds else HOLDOUT
        return make_splits(dataset.train.labels, holdout=holdout, folds=self.folds, seed=self.seed)


def asked(block: int) -> dict[str, Asked]:
    """Return the runs of a block, by name: the references are a run with folds, too."""
    named = {name: name for name in (*WEAK, *GOOD, *([STRONGEST] if block < ITS_BLOCKS else []))}
    return {
        **{
            f"{folds}-fold": Asked(SEED, {name: name for name in LADDER if LADDER[name] == folds}, folds)
            for folds in dict.fromkeys(LADDER.values())
        },
        "holdout": Asked(block, named | dict.fromkeys(CANDIDATES, CANDIDATE)),
        "second": Asked(block + 100, {name: name for name in WEAK}),
        "third": Asked(block + 200, {name: name for name in WEAK}),
    }


def tasks_of(dataset: Dataset, block: int, machine: Machine) -> list[FitTask]:
    """Return the fits of a block, their models named `<run>/<model>`, or `refit/<model>`."""
    tasks = []
    for run, each in asked(block).items():
        settings = {name: machine.adapt(RECIPES[recipe].settings) for name, recipe in each.models.items()}
        splits, refit = each.splits(dataset), run == "holdout"
        for task in training.make_fits(settings, splits, refit=refit, seed=each.seed):
            again = task.split.name == ALL_ROWS
            if not again or task.model in REFITTED:
                tasks.append(replace(task, model=f"{'refit' if again else run}/{task.model}"))
    return tasks


def fit_block(dataset: Dataset, block: int, machine: Machine) -> dict[str, np.ndarray]:
    """Return the predictions of a block: `<run>/<model>/out_of_fold` and `<run>/<model>/test`."""
    tasks, finished = tasks_of(dataset, block, machine), dict[str, FitResult]()
    for outcome in training.fit_all(
        tasks, dataset, workers=machine.cores, on_progress=lambda _: None, on_notice=print
    ):
        if not isinstance(outcome, FitResult):
            sys.exit(f"{outcome.task.name}: {outcome.reason}")
        finished[outcome.task.name] = outcome
        print(f"block {block + 1} of {BLOCKS}: {len(finished)} of {len(tasks)} fits", file=sys.stderr)
    arrays = {}
    for model in dict.fromkeys(task.model for task in tasks):
        results = [finished[task.name] for task in tasks if task.model == model]
        predictions = training.collect_predictions(model, results)
        arrays |= {f"{model}/out_of_fold": predictions.out_of_fold, f"{model}/test": predictions.test}
    return arrays


@dataclass(frozen=True)
class Case:
    """A run's expected score, and the accuracy on the block that came of it.

    raw_value, raw_width: the expected score and the width of its interval without the adjustment.
    """

    block: int
    kind: str
    model: str
    expected: ExpectedScore
    raw_value: float
    raw_width: float
    actual: float

    @property
    def relative_gap(self) -> float:
        """Return the accuracy less the expected one, as a share of the interval on its side."""
        value = self.expected.value
        end = self.expected.high if self.actual > value else self.expected.low
        return (self.actual - value) / abs(end - value)

    @property
    def inside(self) -> bool:
        """Return whether the accuracy is in the interval."""
        return self.expected.low <= self.actual <= self.expected.high


def cases(dataset: Dataset, block: int, arrays: Mapping[str, np.ndarray]) -> Iterator[Case]:
    """Yield the runs of a block: single models, blends, folds, refits and the best of ten."""
    runs = asked(block)
    held_out = {
        name: held_out_rows(run.splits(dataset), dataset.train.labels, None) for name, run in runs.items()
    }
    predictions: dict[str, dict[str, Predictions]] = {name: {} for name in runs}
    for run, each in runs.items():
        for name in each.models:
            out_of_fold, test = (arrays[f"{run}/{name}/{side}"] for side in ("out_of_fold", "test"))
            predictions[run][name] = Predictions(name, out_of_fold, test)
        for blended in BLENDS:
            if set(blended) <= set(each.models):
                members = [predictions[run][name] for name in blended]
                predictions[run]["+".join(blended)] = blend(members, held_out[run], "weighted")[1]
    margins = np.empty((len(dataset.train), len(LADDER)))
    for column, (name, folds) in enumerate(LADDER.items()):
        reference = held_out[f"{folds}-fold"]
        out_of_fold = predictions[f"{folds}-fold"][name].out_of_fold
        margins[reference.rows, column] = margin(out_of_fold, reference.labels)
    count = len(dataset.train)

    def case(kind: str, run: str, names: Sequence[str], test: np.ndarray | None = None) -> Case:
        """Return the case of a model, or of the best of several."""
        config = config_of(dataset, runs[run].folds, refit=kind == "refit", blend=len(names) == 1)
        found, raw = (
            {
                name: estimate(by_digit(held_out[run], predictions[run][name].out_of_fold), count, known)
                for name in names
            }
            for known in (margins, None)
        )
        best = max(names, key=lambda name: found[name].score.accuracy)
        best_raw = max(names, key=lambda name: raw[name].score.accuracy)
        expected, expected_raw = expect(found, best, config), expect(raw, best_raw, config)
        assert expected is not None
        assert expected_raw is not None
        predicted = predictions[run][best].test if test is None else test
        return Case(
            block, kind, best, expected, expected_raw.value, expected_raw.high - expected_raw.low,
            accuracy(dataset.test_labels, predicted),
        )  # fmt: skip

    for run, models in predictions.items():
        for name in models:
            kind = "folds" if runs[run].folds else "blend" if "+" in name else "holdout"
            yield case(kind, run, [name])
    for name in REFITTED:
        yield case("refit", "holdout", [name], arrays[f"refit/{name}/test"])
    yield case("best of ten", "holdout", CANDIDATES)


def config_of(dataset: Dataset, folds: int | None, *, refit: bool, blend: bool) -> RunConfig:
    """Return as much of a run's config as its expected score depends on."""
    return RunConfig.model_construct(
        data=DataConfig.model_construct(
            kind="other", rows=Rows(train=len(dataset.train), test=len(dataset.test))
        ),
        split=SplitConfig(holdout=None if folds else HOLDOUT, folds=folds),
        refit=refit,
        blend=blend,
    )


def describe(found: Sequence[Case]) -> Iterator[str]:
    """Yield a Markdown table by kind of run; the error of a share is that of its blocks' mean."""
    yield "| runs | number | inside | gap, RMS | raw gap, RMS | mean gap | width, of the raw one |"
    yield "|---|---|---|---|---|---|---|"
    for kind in [*dict.fromkeys(case.kind for case in found), "all"]:
        some = [case for case in found if kind in (case.kind, "all")]
        blocks = sorted({case.block for case in some})
        shares = [np.mean([case.inside for case in some if case.block == block]) for block in blocks]
        gaps = np.array([case.actual - case.expected.value for case in some])
        raw = np.array([case.actual - case.raw_value for case in some])
        widths = [(case.expected.high - case.expected.low) / case.raw_width for case in some]
        error = np.std(shares, ddof=1) / len(shares) ** 0.5
        means = [
            np.mean([gap for gap, case in zip(gaps, some, strict=True) if case.block == block])
            for block in blocks
        ]
        cells = [
            kind, str(len(some)), f"{np.mean([case.inside for case in some]):.3f} ± {error:.3f}",
            f"{np.sqrt(np.mean(gaps**2)):.4f}", f"{np.sqrt(np.mean(raw**2)):.4f}",
            f"{gaps.mean():+.4f} ± {np.std(means, ddof=1) / len(means) ** 0.5:.4f}",
            f"{np.median(widths):.2f}",
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"


def changes(digits: Digits, blocks: Mapping[int, Mapping[str, np.ndarray]]) -> Iterator[str]:
    """Yield how many times the scored fits' errors other fits have, for the constants of `expected`."""
    refits, folds, spread = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list), []
    for block, arrays in blocks.items():
        dataset = without_block(digits, block)
        wrong = {
            name.removesuffix("/test"): array.argmax(axis=1) != dataset.test_labels
            for name, array in arrays.items()
            if name.endswith("/test")
        }
        for name in REFITTED:
            alike = [f"{run}/{name}" for run in ("holdout", "second", "third")]
            mean = np.mean([wrong[fit].mean() for fit in alike if fit in wrong])
            refits[name].append(wrong[f"refit/{name}"].mean() / mean)
        for name, number in LADDER.items():
            run = f"{number}-fold"
            labels = held_out_rows(asked(block)[run].splits(dataset), dataset.train.labels, None).labels
            scored = 1 - accuracy(labels, arrays[f"{run}/{name}/out_of_fold"])
            folds[f"{name}, {run}"].append(wrong[f"{run}/{name}"].mean() / scored)
        equal = np.array([wrong[f"holdout/{name}"] for name in CANDIDATES], float)
        # Of the variance between equal nets' errors, what is not chance in which rows they differ on.
        chance = np.mean([(a - b).var() / 2 for a, b in combinations(equal, 2)]) / equal.shape[1]
        spread.append((equal.mean(axis=1).var(ddof=1) - chance) / equal.mean() ** 2)
    for kind, ratios in {"on all rows": refits, "mean of fold models": folds}.items():
        for name, each in ratios.items():
            yield f"{kind}, {name}: {np.mean(each):.2f} ± {np.std(each, ddof=1) / len(each) ** 0.5:.2f}"
    yield f"standard deviation of equal nets' errors, as a share: {max(np.mean(spread), 0) ** 0.5:.2f}"


def draw(found: Sequence[Case], path: Path) -> None:
    """Draw each run's gap, by kind; 1 and -1 are the interval's ends, which are not equally far away."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = list(dict.fromkeys(case.kind for case in found))
    figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    rng = np.random.default_rng(0)
    for place, kind in enumerate(kinds):
        some = [case for case in found if case.kind == kind]
        gaps = [case.relative_gap for case in some]
        axes.plot(gaps, place + rng.uniform(-0.25, 0.25, len(some)), "o", markersize=4, alpha=0.6)
    axes.axvspan(-1, 1, color="#0067b8", alpha=0.1)
    axes.set(xlabel="accuracy on the block less what was expected; -1 to 1 is the interval", xlim=(-2, 2))
    axes.set_yticks(range(len(kinds)), kinds)
    axes.invert_yaxis()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main() -> None:
    """Fit the blocks that are not in the folder yet; print the table, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="of the competition's files")
    parser.add_argument("--work", type=Path, default=Path("build/coverage"), help="folder of the predictions")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to draw it")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    digits = data.load(options.data_dir).train
    machine = Machine.look([recipe.settings for recipe in RECIPES.values()], None)
    found, blocks = list[Case](), dict[int, Mapping[str, np.ndarray]]()
    for block in range(BLOCKS):
        dataset, path = without_block(digits, block), options.work / f"block-{block}.npz"
        if not path.exists():
            write_atomically(path, write_arrays(fit_block(dataset, block, machine)))
        blocks[block] = read_arrays(path.read_bytes())
        found += cases(dataset, block, blocks[block])
    print("\n".join([*describe(found), *changes(digits, blocks)]))
    draw(found, options.picture)


if __name__ == "__main__":
    main()
