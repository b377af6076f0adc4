"""All that a report says: read from the run's files and checked before anything is written."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

import numpy as np

from digit_recognizer import data, drafts, scoring
from digit_recognizer.blending import WeightedCombiner
from digit_recognizer.data import CLASSES
from digit_recognizer.errors import RunError, printable
from digit_recognizer.manifest import Manifest, ModelScore
from digit_recognizer.predictions import BLEND, HeldOut
from digit_recognizer.runs import Run

SAMPLES = 24  # predictions drawn at random
MAX_MISCLASSIFIED = 200  # so that the page opens at once
MAX_FITS, MAX_EPOCHS = 200, 2_000  # of a recipe's curves, which are filled up to the longest
DIGITS_PER_CLASS = 8  # training digits
NEARLY_1 = float(np.nextafter(np.float32(1), np.float32(0)))  # what float32 rounds to 1 is not certain

Curve = Sequence[Mapping[str, float]]  # of each epoch: train_loss, train_accuracy, valid_loss, valid_accuracy
BlendPart = tuple[str, float, float | None]  # model, weight, temperature if its probabilities are scaled


@dataclass(frozen=True)
class Example:
    """A held-out digit and its prediction; row: in train.csv, counted from 1 below the header.

    probability: of the predicted digit; p_true: of the label; pixels: of shape (784,).
    """

    row: int
    label: int
    predicted: int
    probability: float
    p_true: float
    pixels: np.ndarray

    @property
    def right(self) -> bool:
        """Return whether the prediction is the label."""
        return self.predicted == self.label

    @property
    def title(self) -> str:
        """Return a sign for readers who see no colours, the prediction and its probability."""
        return f"{'✓' if self.right else '✗'} {self.predicted} {percent(self.probability)}"


@dataclass(frozen=True)
class ReportData:
    """What there is to say of a run; predictions are its main model's on held-out digits."""

    manifest: Manifest
    running: bool
    scores: dict[str, ModelScore]  # the main model's first, then by accuracy
    blend: list[BlendPart]
    calibration: scoring.Calibration
    confusion: np.ndarray  # counts of shape (10, 10), label by prediction
    digit_scores: dict[str, dict[str, float]]  # precision, recall, f1-score, support by digit and of "mean"
    samples: list[Example]
    misclassified: list[Example]  # the most confident of the `errors` first
    errors: int
    class_counts: dict[str, np.ndarray]  # of shape (10,), by set
    training_digits: list[np.ndarray]  # by digit: pixels of the first, of shape (digits, 784)
    curves: dict[str, list[Curve]]  # by recipe: of each fit
    still_fitted: list[str]  # models


def read(run: Run, data_dir: Path | None = None) -> ReportData:
    """Return what there is to say of a run; data_dir: where its digits are, if not where it read them.

    Raises RunError if its files cannot be read or do not belong together, DataError if its digits cannot be.
    """
    held_out, main = run.main_predictions()  # first: a run that is being fitted replaces them stage by stage
    from sklearn.metrics import classification_report, confusion_matrix

    dataset = digits_of(run, data_dir)
    _check(run, held_out, dataset)
    manifest, train, labels = run.manifest, dataset.train, held_out.labels
    predicted = main.out_of_fold.argmax(axis=1)
    report = classification_report(
        labels, predicted, labels=range(CLASSES), output_dict=True, zero_division=0
    )
    once = np.unique(held_out.rows, return_index=True)[1]  # repeated folds predict a row again
    samples = np.random.default_rng(0).permutation(once)[:SAMPLES]
    errors = _find_errors(held_out, main.out_of_fold)
    curves, still_fitted = _curves(run)
    return ReportData(
        manifest=manifest,
        running=run.is_running,
        scores=dict(sorted(manifest.scores.items(), key=lambda it: (it[0] != main.name, -it[1].accuracy))),
        blend=_blend(manifest),
        calibration=scoring.calibration(labels, main.out_of_fold),
        confusion=confusion_matrix(labels, predicted, labels=range(CLASSES)),
        digit_scores={digit: report[digit] for digit in "0123456789"} | {"mean": report["macro avg"]},
        samples=examples(train, held_out, main.out_of_fold, samples),
        misclassified=examples(train, held_out, main.out_of_fold, errors[:MAX_MISCLASSIFIED]),
        errors=len(errors),
        class_counts={
            "training digits": np.bincount(train.labels, minlength=CLASSES),
            "test digits, predicted": np.bincount(main.test.argmax(axis=1), minlength=CLASSES),
        },
        training_digits=[train.pixels[train.labels == digit][:DIGITS_PER_CLASS] for digit in range(CLASSES)],
        curves=curves,
        still_fitted=still_fitted,
    )


def digits_of(run: Run, data_dir: Path | None) -> data.Dataset:
    """Return the run's digits; raises RunError if there are others, DataError if they cannot be read."""
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


def _check(run: Run, held_out: HeldOut, dataset: data.Dataset) -> None:
    """Raise RunError unless the held-out rows are of these digits."""
    rows, labels, train = held_out.rows, held_out.labels, dataset.train
    ambiguous = dataset.first_rows[train.labels != train.labels[dataset.first_rows]]  # digits of two labels
    # `run.predictions` has checked shapes, types, row numbers and probabilities.
    if not (np.isin(rows, ambiguous) | (labels == train.labels[rows])).all():
        source = f"the digits in {dataset.source}"
        raise RunError(f"{run.folder}: the probabilities are not of {source}; train that run again")


def examples(
    train: data.Digits, held_out: HeldOut, probabilities: np.ndarray, positions: Iterable[int]
) -> list[Example]:
    """Return the predictions at these positions; probabilities: of shape (predictions, 10)."""
    return [
        Example(
            row=int(held_out.rows[position]) + 1,
            label=int(held_out.labels[position]),
            predicted=int(probabilities[position].argmax()),
            probability=min(float(probabilities[position].max()), NEARLY_1),
            p_true=float(probabilities[position, held_out.labels[position]]),
            pixels=train.pixels[held_out.rows[position]],
        )
        for position in positions
    ]


def _find_errors(held_out: HeldOut, probabilities: np.ndarray) -> np.ndarray:
    """Return positions of wrong predictions, the most confident first, each row's once."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != held_out.labels)
    wrong = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    _, first = np.unique(held_out.rows[wrong], return_index=True)
    return wrong[np.sort(first)]


def _blend(manifest: Manifest) -> list[BlendPart]:
    """Return the blend's parts, and the blend itself if the mean has a temperature of its own."""
    blend, names = manifest.blend, manifest.models
    if blend is None:
        return []
    if not isinstance(blend, WeightedCombiner):
        return [(name, weight, None) for name, weight in zip(names, blend.weights, strict=True)]
    temperatures = [1 / inverse for inverse in blend.inverse_temperatures]
    parts = list(zip(names, blend.weights, temperatures, strict=True))
    return [*parts, (BLEND, sum(blend.weights), 1 / blend.inverse_temperature)]


def _curves(run: Run) -> tuple[dict[str, list[Curve]], list[str]]:
    """Return the learning curves by recipe, also of fits that go on, and the models that are not complete.

    Members of a `--minutes` run are fits of a few recipes; a recipe's only one gives its own name.
    """
    fits, scores = run.manifest.fits.values(), run.manifest.scores
    finished = {fit.model for fit in fits}
    going_on = list(drafts.curves_so_far(run))
    listed = [(it.recipe, it.name, curve) for it, curve in going_on if it.name not in finished]
    for fit in fits:
        curve = [epoch.model_dump(exclude_none=True) for epoch in fit.curve]
        listed.append((fit.recipe or fit.model, fit.model, curve))
    by_recipe: dict[str, list[tuple[str, Curve]]] = {}
    for recipe, model, curve in listed:
        if curve:
            by_recipe.setdefault(recipe, []).append((model, curve[:MAX_EPOCHS]))
    # Unscored members before the first scored one are of an earlier, quicker stage, which is finished.
    names = dict.fromkeys(member.name for member, _ in going_on)
    since = dropwhile(lambda name: name not in scores, names)
    shown = {}
    for recipe, found in by_recipe.items():
        models = {model for model, _ in found}
        shown[models.pop() if len(models) == 1 else recipe] = [curve for _, curve in found[:MAX_FITS]]
    return shown, [name for name in since if name not in scores]


def percent(share: float) -> str:
    """Return a share with one decimal, and neither 0% nor 100% if it is only close."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def shorten(text: str, length: int = 60) -> str:
    """Return text of a stranger's file on one line, without control characters, of at most `length`."""
    text = printable(text[: length + 1])
    return text if len(text) <= length else f"{text[: length - 3]}..."
