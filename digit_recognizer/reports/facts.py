"""All that a report says: read from the run's files and checked before anything is written."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

import numpy as np

from digit_recognizer import data, drafts, scoring
from digit_recognizer.blending import WeightedCombiner
from digit_recognizer.data import CLASSES
from digit_recognizer.errors import RunError
from digit_recognizer.manifest import Manifest, ModelScore
from digit_recognizer.predictions import BLEND, HeldOut, Predictions
from digit_recognizer.reports import tiles
from digit_recognizer.reports.figures import Curve
from digit_recognizer.reports.tiles import Tile, shorten
from digit_recognizer.runs import Run
from digit_recognizer.schedule import recipe_of

SAMPLES = 24  # predictions drawn at random
MAX_MISTAKES = 200  # so that the page opens at once
EXAMPLES_PER_CLASS = 8  # training digits
MAX_FITS, MAX_EPOCHS = 200, 2_000  # of a recipe's learning curves


@dataclass(frozen=True)
class BlendPart:
    """A model's part in the blend; temperature: None if its probabilities are not scaled."""

    name: str
    weight: float
    temperature: float | None


@dataclass(frozen=True)
class Facts:
    """All that the page and its pictures say; predictions are the main model's on held-out digits.

    scores: the main model's first, then by accuracy. confusion: counts of shape (10, 10), digit by what it
    was read as. mistakes: the most confident first, MAX_MISTAKES at most. curves: of each recipe's fits.
    digit_scores: by digit, and "mean": precision, recall, f1-score, and support, the count of held-out
    digits. examples: pixels of the first training digits of each class.
    """

    manifest: Manifest
    scores: dict[str, ModelScore]
    blend: list[BlendPart]
    calibration: scoring.Calibration
    confusion: np.ndarray
    confusions: list[scoring.Confusion]
    digit_scores: dict[str, dict[str, float]]
    samples: list[Tile]
    mistakes: list[Tile]
    mistake_count: int
    class_counts: dict[str, np.ndarray]
    examples: list[np.ndarray]
    curves: dict[str, list[Curve]]
    still_fitted: list[str]

    @property
    def score(self) -> ModelScore:
        """Return the main model's score."""
        return self.scores[self.manifest.main_model]

    @property
    def by_f1(self) -> list[str]:
        """Return the digits, the hardest first."""
        return sorted(map(str, range(CLASSES)), key=lambda digit: self.digit_scores[digit]["f1-score"])


def digits_of(run: Run, data_dir: Path | None) -> data.Dataset:
    """Return the digits that the run was made from; see `reports.digits_of`."""
    config = run.manifest.config.data
    source = data_dir or Path(config.source)
    if not os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises if a name is too long
        raise RunError(
            f"{shorten(str(source), 200)}: no such folder; run {run.manifest.name} read its digits there, "
            "name their folder now with --data-dir"
        )
    dataset = data.load(source)
    for name, fingerprint in dict(config.fingerprint).items():
        if dataset.fingerprint[name] != fingerprint:
            raise RunError(
                f"{source}: {name}.csv holds other digits than run {run.manifest.name} was made from; "
                "name their folder with --data-dir"
            )
    return dataset


def read(run: Run, dataset: data.Dataset) -> Facts:
    """Return the facts of a run; raises RunError if its files cannot be read or do not belong together."""
    from sklearn.metrics import confusion_matrix

    held_out, predictions = run.predictions()
    for model in predictions:
        _check(run, held_out, model, dataset)
    manifest = run.manifest
    main = next(model for model in predictions if model.name == manifest.main_model)
    predicted = main.out_of_fold.argmax(axis=1)
    confusion = confusion_matrix(held_out.labels, predicted, labels=range(CLASSES))
    wrong = tiles.find_mistakes(held_out, main.out_of_fold)
    samples = tiles.shuffle(held_out)[:SAMPLES]
    class_counts = {
        "training digits": np.bincount(dataset.train.labels, minlength=CLASSES),
        "test digits, as read": np.bincount(main.test.argmax(axis=1), minlength=CLASSES),
    }
    train = dataset.train
    curves = _curves(run)
    return Facts(
        manifest=manifest,
        scores=dict(
            sorted(manifest.scores.items(), key=lambda item: (item[0] != main.name, -item[1].accuracy))
        ),
        blend=_blend(run),
        calibration=scoring.calibration(held_out.labels, main.out_of_fold),
        confusion=confusion,
        confusions=scoring.confusions(confusion),
        digit_scores=_digit_scores(held_out.labels, predicted),
        samples=tiles.make_tiles(train, held_out, main.out_of_fold, samples),
        mistakes=tiles.make_tiles(train, held_out, main.out_of_fold, wrong[:MAX_MISTAKES]),
        mistake_count=len(wrong),
        class_counts=class_counts,
        examples=[train.pixels[train.labels == digit][:EXAMPLES_PER_CLASS] for digit in range(CLASSES)],
        curves=_by_recipe(manifest, curves),
        still_fitted=_still_fitted(manifest, curves),
    )


def _check(run: Run, held_out: HeldOut, model: Predictions, dataset: data.Dataset) -> None:
    """Raise RunError unless the arrays are predictions of these digits that give the manifest's accuracy."""
    rows, labels, probabilities = held_out.rows, held_out.labels, model.out_of_fold
    train = dataset.train
    ambiguous = dataset.first_rows[train.labels != train.labels[dataset.first_rows]]  # digits of two labels
    if not (  # `run.predictions` has checked shapes and types
        rows.size > 0
        and 0 <= rows.min() <= rows.max() < len(train)
        and (np.isin(rows, ambiguous) | (labels == train.labels[rows])).all()
        and all(0 <= array.min() <= array.max() <= 1.001 for array in (probabilities, model.test))
    ):
        raise RunError(
            f"{run.folder}: the probabilities of {shorten(model.name)} are not of the digits in "
            f"{dataset.source}; train that run again"
        )
    accuracy = run.manifest.scores[model.name].accuracy
    measured = float((probabilities.argmax(axis=1) == labels).mean())
    if abs(measured - accuracy) > 1e-6:  # another stage's file, or another run's
        raise RunError(
            f"{run.folder}: its files do not belong together: run.json says accuracy {accuracy:.6f} of "
            f"{shorten(model.name)}, the probabilities give {measured:.6f}; train that run again"
        )


def _digit_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, dict[str, float]]:
    from sklearn.metrics import classification_report

    report = classification_report(
        labels, predicted, labels=range(CLASSES), output_dict=True, zero_division=0
    )
    return {**{str(digit): report[str(digit)] for digit in range(CLASSES)}, "mean": report["macro avg"]}


def _blend(run: Run) -> list[BlendPart]:
    """Return the blend's parts, and the blend itself if the mean has a temperature of its own."""
    blend = run.manifest.blend
    if blend is None:
        return []
    names = run.manifest.models
    if not isinstance(blend, WeightedCombiner):
        return [BlendPart(name, weight, None) for name, weight in zip(names, blend.weights, strict=True)]
    temperatures = [1 / inverse for inverse in blend.inverse_temperatures]
    parts = [BlendPart(*values) for values in zip(names, blend.weights, temperatures, strict=True)]
    return [*parts, BlendPart(BLEND, sum(blend.weights), 1 / blend.inverse_temperature)]


def _curves(run: Run) -> dict[str, list[Curve]]:
    """Return the learning curves of each model's fits so far."""
    curves: dict[str, list[Curve]] = {name: list(fits) for name, fits in drafts.curves_so_far(run).items()}
    finished: dict[str, list[Curve]] = {}
    for fit in run.manifest.fits.values():
        epochs = [epoch.model_dump(exclude_none=True) for epoch in fit.curve[:MAX_EPOCHS]]
        finished.setdefault(fit.model, []).append(epochs)
    return {name: fits for name, fits in (curves | finished).items() if any(fits)}


def _still_fitted(manifest: Manifest, curves: Mapping[str, list[Curve]]) -> list[str]:
    """Return the members still being fitted.

    Unscored members before the first scored one are of an earlier, quicker stage, which is finished.
    """
    since = dropwhile(lambda name: name not in manifest.scores, curves)
    return [name for name in since if name not in manifest.scores]


def _by_recipe(manifest: Manifest, curves: Mapping[str, list[Curve]]) -> dict[str, list[Curve]]:
    """Return the curves by recipe: the members of a `--minutes` run are fits of a few recipes."""
    if manifest.config.minutes is None:
        return {name: fits[:MAX_FITS] for name, fits in curves.items()}
    recipes: dict[str, list[Curve]] = {}
    for member, fits in curves.items():
        recipes.setdefault(recipe_of(member), []).extend(fits)
    return {name: fits[:MAX_FITS] for name, fits in recipes.items()}
