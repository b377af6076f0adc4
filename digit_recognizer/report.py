"""The report of a run: one page with all its pictures inside, and the same pictures as PNGs beside it."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer import data, figures, folders, runs, scoring, themes
from digit_recognizer.errors import RunError

FOLDER = "report"
PAGE = "report.html"
TEMPLATE = Path(__file__).with_name("report_template.html")
SAMPLES = 24  # predictions drawn at random
ON_SHEET = 48  # mistakes on a slide
MISTAKES = 200  # at most, so that the page opens at once
OF_EACH_CLASS = 8  # training digits
NEARLY_1 = float(np.nextafter(np.float32(1), np.float32(0)))  # what float32 rounds to 1 is not certain


@dataclass(frozen=True)
class HeldOut:
    """What was submitted says of digits that it was not fitted on.

    rows: of train.csv, counted from 0, of shape (n,); a row may come more than once.
    labels: uint8 of shape (n,); probabilities: of shape (n, 10).
    """

    rows: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def guesses(self) -> np.ndarray:
        """The likeliest digits, of shape (n,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """Their probabilities, of shape (n,)."""
        return self.probabilities.max(axis=1)


@dataclass(frozen=True)
class Tile:
    """A digit, and what was read; row: in train.csv, counted from 1 below the header."""

    row: int
    label: int
    guess: int
    probability: float
    of_label: float
    pixels: np.ndarray

    @property
    def png(self) -> bytes:
        """The digit as it is, 28 by 28 pixels."""
        return figures.strip(self.pixels[np.newaxis])

    @property
    def right(self) -> bool:
        """Whether it was read right."""
        return self.guess == self.label

    @property
    def title(self) -> str:
        """A sign for readers who see no colours, what was read and its probability."""
        return f"{'✓' if self.right else '✗'} {self.guess} {percent(self.probability)}"

    @property
    def caption(self) -> str:
        """The title, and what a digit that was read wrong is."""
        return self.title if self.right else f"{self.title}, is {self.label}"

    @property
    def alt(self) -> str:
        """The picture in words."""
        return f"Row {self.row}: a {self.label} read as {self.guess}, probability {percent(self.probability)}"


def digits_of(run: runs.Run, data_dir: Path | None = None) -> data.Dataset:
    """The digits that the run was trained on, from where it read them or from `data_dir`.

    Raises RunError where they are gone or others lie there now, DataError where they cannot be read.
    """
    source = data_dir or Path(run.manifest["data"]["source"])
    if not source.is_dir():
        raise RunError(
            f"{source}: no such folder; run {run.folder.name} read its digits there, "
            "name their folder now with --data-dir"
        )
    digits = data.load(source)
    for name, before in run.manifest["data"]["fingerprint"].items():
        if digits.fingerprint[name] != before:
            raise RunError(
                f"{source}: {name}.csv holds other digits than run {run.folder.name} was trained on; "
                "name the folder of those with --data-dir"
            )
    return digits


def write(run: runs.Run, digits: data.Dataset) -> Path:
    """Write the page and its PNGs into the run's `report/`, in place of an older one; returns the page.

    digits: those of the run. The same run gives the same bytes.
    Raises RunError where the run's files cannot be read or the folder cannot be written.
    """
    page, pictures = _page(run, digits)
    try:
        with folders.whole(run.folder / FOLDER) as folder:
            for picture in pictures:
                (folder / f"{picture.name}.png").write_bytes(picture.light)
                (folder / f"{picture.name}-dark.png").write_bytes(picture.dark)
            (folder / PAGE).write_text(page, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{run.folder / FOLDER}: cannot be written ({error.strerror})") from None
    return run.folder / FOLDER / PAGE


def _page(run: runs.Run, digits: data.Dataset) -> tuple[str, list[themes.Picture]]:
    from jinja2 import Environment, StrictUndefined
    from sklearn.metrics import classification_report, confusion_matrix

    manifest = run.manifest
    scores = manifest["scores"]
    rows, predictions = run.predictions()
    submitted = _submitted(manifest)
    chosen = next(one for one in predictions if one.name == submitted)
    held_out = HeldOut(rows, digits.train.labels[rows], chosen.out_of_fold)
    matrix = confusion_matrix(held_out.labels, held_out.guesses, labels=range(data.CLASSES))
    calibration = scoring.calibration(held_out.labels, held_out.probabilities)
    per_digit = classification_report(
        held_out.labels, held_out.guesses, labels=range(data.CLASSES), output_dict=True, zero_division=0
    )
    by_f1 = sorted((per_digit[str(digit)]["f1-score"], digit) for digit in range(data.CLASSES))
    counts = {"training digits": np.bincount(digits.train.labels, minlength=data.CLASSES)}
    if len(chosen.test):
        counts["test digits, as read"] = np.bincount(chosen.test.argmax(axis=1), minlength=data.CLASSES)

    mistakes = _mistakes(held_out)
    samples = [_tile(held_out, i, digits) for i in _samples(held_out)]
    shown = [_tile(held_out, i, digits) for i in mistakes[:MISTAKES]]
    of_each = [np.flatnonzero(digits.train.labels == digit)[:OF_EACH_CLASS] for digit in range(data.CLASSES)]
    pictures = [
        figures.intervals(scores, submitted),
        figures.confusion(matrix),
        figures.reliability(calibration),
        figures.classes(counts),
    ]
    # The page has each digit by itself, which suits a narrow screen; the sheets are for slides.
    pictures += [_sheet("samples", samples)]
    if shown:
        pictures += [_sheet("mistakes", shown[:ON_SHEET])]
    pictures += [
        figures.sheet(
            "training-digits",
            f"The first {OF_EACH_CLASS} training digits of each class.",
            digits.train.pixels[np.concatenate(of_each)],
            [str(digits.train.labels[row]) for some in of_each for row in some],
            [None] * sum(map(len, of_each)),
        )
    ]
    curves = _curves(manifest)
    if curves:
        pictures += [figures.curves(curves, figure) for figure in ("accuracy", "loss")]
    facts = {
        "run": run.folder.name,
        "manifest": manifest,
        "submitted": submitted,
        "score": scores[submitted],
        "digits": len(np.unique(rows)),
        "calibration_error": calibration.error,
        "confusions": scoring.confusions(matrix),
        "per_digit": per_digit,
        "hardest": by_f1[0][1],
        "easiest": by_f1[-1][1],
        "samples": samples,
        "mistakes": shown,
        "mistakes_in_all": len(mistakes),
        "strips": [figures.strip(digits.train.pixels[some]) for some in of_each],
        "counts": counts,
        "pictures": {picture.name: picture for picture in pictures},
    }
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"uri": _uri, "percent": percent, "words": _words}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(facts), pictures


def _submitted(manifest: dict[str, Any]) -> str:
    """What became the submission; in a run that made none, what would have."""
    scores = manifest["scores"]
    best = "blend" if "blend" in scores else max(scores, key=lambda name: scores[name]["accuracy"])
    return manifest.get("submitted") or best


def _curves(manifest: dict[str, Any]) -> dict[str, list[list[dict[str, float]]]]:
    """The learning curves of each recipe's fits; a fit is called by its recipe and its part."""
    fits = manifest.get("fits", {})
    curves = {
        recipe: [fit["curve"] for name, fit in fits.items() if name.startswith(f"{recipe} ")]
        for recipe in manifest["recipes"]
    }
    return {recipe: some for recipe, some in curves.items() if any(some)}


def _samples(held_out: HeldOut) -> np.ndarray:
    """Some held-out predictions, each digit at most once; the same ones each time."""
    once = np.unique(held_out.rows, return_index=True)[1]
    return np.random.default_rng(0).permutation(once)[:SAMPLES]


def _mistakes(held_out: HeldOut) -> np.ndarray:
    """The predictions that are wrong, the most confident first and of each digit no other."""
    wrong = np.flatnonzero(held_out.guesses != held_out.labels)
    order = wrong[np.argsort(-held_out.confidence[wrong], kind="stable")]
    return order[np.sort(np.unique(held_out.rows[order], return_index=True)[1])]


def _tile(held_out: HeldOut, i: int, digits: data.Dataset) -> Tile:
    row, label, probabilities = held_out.rows[i], held_out.labels[i], held_out.probabilities[i]
    return Tile(
        row=int(row) + 1,
        label=int(label),
        guess=int(probabilities.argmax()),
        probability=min(float(probabilities.max()), NEARLY_1),
        of_label=float(probabilities[label]),
        pixels=digits.train.pixels[row],
    )


def _sheet(name: str, tiles: list[Tile]) -> themes.Picture:
    pixels, titles = np.stack([one.pixels for one in tiles]), [one.caption for one in tiles]
    return figures.sheet(
        name, "; ".join(one.alt for one in tiles), pixels, titles, [one.right for one in tiles]
    )


def percent(share: float) -> str:
    """With one decimal, and neither 0% nor 100% where it is only close."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= share < 1 else f"{share:.1%}"


def _uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _words(value: Any) -> str:
    """A setting, as one would write it."""
    if isinstance(value, dict):
        return " · ".join(f"{name} {_words(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
