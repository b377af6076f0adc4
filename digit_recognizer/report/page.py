"""The report of a run: one page with all its pictures inside, and the same pictures as PNGs beside it."""

import base64
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import Any

import numpy as np

from digit_recognizer import data, drafts, files, runs, schedule, scoring
from digit_recognizer.errors import RunError
from digit_recognizer.report import figures, themes

FOLDER = "report"
PAGE = "report.html"
TEMPLATE = Path(__file__).with_name("template.html")
SAMPLES = 24  # predictions drawn at random
ON_SHEET = 48  # mistakes on a slide
MISTAKES = 200  # at most, so that the page opens at once
OF_EACH_CLASS = 8  # training digits
NEARLY_1 = float(np.nextafter(np.float32(1), np.float32(0)))  # what float32 rounds to 1 is not certain


@dataclass(frozen=True)
class Tile:
    """A held-out digit, and what was read; row: in train.csv, counted from 1 below the header."""

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
        read = f"read as {self.guess} with probability {percent(self.probability)}"
        return f"Row {self.row}: a handwritten {self.label}, {read}"


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
    facts = _facts(run, digits)
    pictures = _pictures(run, facts)
    page = _page(run, facts, pictures)
    making = run.folder.name.startswith(".")  # then it goes into what goes away when the run is done
    final = (run.folder / drafts.MAKING if making else run.folder) / FOLDER
    try:
        with files.atomic_folder(final) as folder:
            for picture in pictures:
                (folder / f"{picture.name}.png").write_bytes(picture.light)
                (folder / f"{picture.name}-dark.png").write_bytes(picture.dark)
            (folder / PAGE).write_text(page, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{final}: cannot be written ({error.strerror})") from None
    return final / PAGE


def _facts(run: runs.Run, digits: data.Dataset) -> dict[str, Any]:
    """All that the page and its pictures say of what was submitted, from its held-out rows alone."""
    from sklearn.metrics import classification_report, confusion_matrix

    truth, predictions = run.predictions()
    rows = truth.rows
    submitted = run.best
    chosen = next(one for one in predictions if one.name == submitted)
    labels, guesses = truth.labels, chosen.out_of_fold.argmax(axis=1)
    matrix = confusion_matrix(labels, guesses, labels=range(data.CLASSES))
    per_digit = classification_report(
        labels, guesses, labels=range(data.CLASSES), output_dict=True, zero_division=0
    )
    by_f1 = sorted(range(data.CLASSES), key=lambda digit: per_digit[str(digit)]["f1-score"])
    counts = {"training digits": np.bincount(digits.train.labels, minlength=data.CLASSES)}
    if len(chosen.test):
        counts["test digits, as read"] = np.bincount(chosen.test.argmax(axis=1), minlength=data.CLASSES)
    tiles = _tiles(rows, chosen.out_of_fold, digits.train)
    return {
        "submitted": submitted,
        "score": run.manifest["scores"][submitted],
        "digits": len(np.unique(rows)),
        "calibration": scoring.calibration(labels, chosen.out_of_fold),
        "matrix": matrix,
        "confusions": scoring.confusions(matrix),
        "per_digit": per_digit,
        "hardest": by_f1[0],
        "easiest": by_f1[-1],
        "samples": _samples(tiles),
        "mistakes": _mistakes(tiles),
        "counts": counts,
        "unfinished": _unfinished(run),
        "examples": [
            digits.train.pixels[digits.train.labels == digit][:OF_EACH_CLASS] for digit in range(data.CLASSES)
        ],
    }


def _pictures(run: runs.Run, facts: dict[str, Any]) -> list[themes.Picture]:
    curves = _by_recipe(run)
    pictures = [
        figures.intervals(run.manifest["scores"], facts["submitted"]),
        figures.confusion(facts["matrix"]),
        figures.reliability(facts["calibration"]),
        figures.classes(facts["counts"]),
    ]
    if curves:
        pictures += [figures.curves(curves, figure) for figure in ("accuracy", "loss")]
    # For slides: the page has each digit by itself, which suits a narrow screen.
    for name, tiles in (("samples", facts["samples"]), ("mistakes", facts["mistakes"][:ON_SHEET])):
        if tiles:
            pixels, titles = np.stack([one.pixels for one in tiles]), [one.caption for one in tiles]
            alt = "; ".join(one.alt for one in tiles)
            pictures.append(figures.sheet(name, alt, pixels, titles, [one.right for one in tiles]))
    examples = facts["examples"]
    titles = [str(digit) for digit, some in enumerate(examples) for _ in some]
    alt = f"The first training digits of each class, {OF_EACH_CLASS} at most."
    pictures.append(
        figures.sheet("training-digits", alt, np.concatenate(examples), titles, [None] * len(titles))
    )
    return pictures


def _page(run: runs.Run, facts: dict[str, Any], pictures: list[themes.Picture]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"uri": _uri, "percent": percent, "words": _words, "strip": figures.strip}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        facts,
        run=run.manifest["name"],
        manifest=run.manifest,
        pictures={picture.name: picture for picture in pictures},
        shown=facts["mistakes"][:MISTAKES],
    )


def _curves(run: runs.Run) -> dict[str, list[list[dict[str, float]]]]:
    """The learning curves of each model's fits, so far; a fit is called by its model and its part."""
    fits = run.manifest.get("fits", {})
    finished = {
        recipe: [fit["curve"] for name, fit in fits.items() if name.startswith(f"{recipe} ")]
        for recipe in run.manifest["recipes"]
    }
    return {member: some for member, some in (drafts.curves(run.folder) | finished).items() if any(some)}


def _unfinished(run: runs.Run) -> list[str]:
    """The members that are still fitted; those before the first that counts were quick ones, and are done."""
    scores = run.manifest["scores"]
    since = dropwhile(lambda name: name not in scores, _curves(run))
    return [name for name in since if name not in scores]


def _by_recipe(run: runs.Run) -> dict[str, list[list[dict[str, float]]]]:
    """The same, with the members that fill a run's minutes under the recipe that they are all of."""
    curves: dict[str, list[list[dict[str, float]]]] = {}
    for member, some in _curves(run).items():
        name = schedule.recipe_of(member) if run.manifest.get("minutes") else member
        curves.setdefault(name, []).extend(some)
    return curves


def _tiles(rows: np.ndarray, probabilities: np.ndarray, train: data.Digits) -> list[Tile]:
    return [
        Tile(
            row=int(row) + 1,
            label=int(train.labels[row]),
            guess=int(one.argmax()),
            probability=min(float(one.max()), NEARLY_1),
            of_label=float(one[train.labels[row]]),
            pixels=train.pixels[row],
        )
        for row, one in zip(rows, probabilities, strict=True)
    ]


def _samples(tiles: list[Tile]) -> list[Tile]:
    """Some of the digits, each at most once: rows come more than once where folds are repeated."""
    once = list({one.row: one for one in tiles}.values())
    return [once[i] for i in np.random.default_rng(0).permutation(len(once))[:SAMPLES]]


def _mistakes(tiles: list[Tile]) -> list[Tile]:
    """All digits that were read wrong, the most confident mistake first and no other of the same digit."""
    first: dict[int, Tile] = {}
    for one in sorted(tiles, key=lambda tile: -tile.probability):
        if not one.right:
            first.setdefault(one.row, one)
    return list(first.values())


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
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)
