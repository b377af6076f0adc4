"""Runs of synthetic predictions, and their pages, for the tests of the report."""

import base64
import io
import shutil
from collections.abc import Sequence
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder

import numpy as np
import pytest
from conftest import TEST, TRAIN, make_config
from PIL import Image

from digit_recognizer import data, manifest, reports, runs, scoring
from digit_recognizer.manifest import EpochMetrics, FitRecord, Manifest, ModelScore
from digit_recognizer.predictions import BLEND, HeldOut, Predictions
from digit_recognizer.recipes import RECIPES

MLP = RECIPES["sklearn-mlp"].settings
FIGURES = ["scores", "error", "loss", "confusion", "reliability", "class-counts"]


def predict(labels: np.ndarray, wrong: float, seed: int = 0) -> np.ndarray:
    """Return probabilities whose likeliest digit is another than the label for about a share `wrong`."""
    rng = np.random.default_rng(seed)
    digits = np.where(rng.random(len(labels)) < wrong, rng.integers(0, 10, len(labels)), labels)
    logits = rng.normal(0, 1, (len(labels), 10)) + 6 * np.eye(10)[digits]
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


def score_of(held_out: HeldOut, probabilities: np.ndarray, **changes: Any) -> ModelScore:
    found = scoring.estimate(scoring.by_digit(held_out, probabilities), TRAIN, None)
    return ModelScore(**{**dict(found.score), "digits": found.digits, "fit_seconds": 12.5, **changes})


def write_run(
    folder: Path, dataset: data.Dataset, held_out: HeldOut, models: Sequence[Predictions], **changes: Any
) -> runs.Run:
    """Write a run of these predictions with a manifest to match, but for `changes`."""
    names = [model.name for model in models if model.name != BLEND]
    fields = {
        "name": folder.name,
        "created": datetime.fromisoformat("2026-01-02T03:04:05+01:00"),
        "config": config_of(dataset, names),
        "scores": {model.name: score_of(held_out, model.out_of_fold) for model in models},
        "main_model": models[-1].name,
        "settings": dict.fromkeys(names, MLP),
        "inference_fits": dict.fromkeys(names, ()),
        "blend": None,
        "submission_model": None,
        "seconds": {"total": 3.25},
    }
    folder.mkdir(parents=True)
    runs.write_probabilities(runs.probabilities_file(folder, 1), held_out, models)
    runs.write_manifest(folder, Manifest.model_validate({**fields, **changes}))
    return runs.load(folder)


def config_of(dataset: data.Dataset, names: Sequence[str], **changes: Any) -> manifest.RunConfig:
    digits = manifest.DataConfig(
        kind=dataset.kind,
        source=str(dataset.source),
        rows=manifest.Rows(train=len(dataset.train), test=len(dataset.test)),
        fingerprint=manifest.Fingerprint(**dict(dataset.fingerprint)),
    )
    return make_config(
        **{"data": digits, "recipes": dict.fromkeys(names[:1], MLP), "seed": 0, "refit": True, **changes}
    )


def fit(split: str, epochs: int, model: str = "sklearn-mlp", *, valid: bool = True) -> FitRecord:
    curve = tuple(
        EpochMetrics(
            train_loss=1 / epoch, train_accuracy=1 - 0.4 / epoch,
            **({"valid_loss": 1.5 / epoch, "valid_accuracy": 1 - 0.5 / epoch} if valid else {}),
        )
        for epoch in range(1, epochs + 1)
    )  # fmt: skip
    file = f"{model}-{split}.npz".replace(" ", "-")
    return FitRecord(model=model, split=split, file=file, seconds=1.5, curve=curve)


@pytest.fixture(scope="session")
def held_out(digits: data.Dataset) -> HeldOut:
    rows = np.random.default_rng(1).permutation(TRAIN)
    return HeldOut(rows, np.repeat([0, 1], TRAIN // 2), digits.train.labels[rows])


@pytest.fixture(scope="session")
def model(held_out: HeldOut) -> Predictions:
    return Predictions("sklearn-mlp", predict(held_out.labels, 0.1), predict(np.arange(TEST) % 10, 0.1))


@pytest.fixture(scope="session")
def small(
    tmp_path_factory: pytest.TempPathFactory, digits: data.Dataset, held_out: HeldOut, model: Predictions
) -> runs.Run:
    """A run of two folds and a fit on all rows."""
    fits = [fit("fold 1", 4), fit("fold 2", 5), fit("all rows", 5, valid=False)]
    score = score_of(held_out, model.out_of_fold, folds=(0.9, 0.92), std=0.0141)
    return write_run(
        tmp_path_factory.mktemp("runs") / "small", digits, held_out, [model],
        fits={f"{fit.model} {fit.split}": fit for fit in fits}, scores={model.name: score},
    )  # fmt: skip


@pytest.fixture
def again(small: runs.Run, tmp_path: Path) -> runs.Run:
    """The same run in the test's folder, without a report."""
    shutil.copytree(small.folder, tmp_path / "small", ignore=shutil.ignore_patterns("report"))
    return runs.load(tmp_path / "small")


@pytest.fixture(scope="session")
def page(small: runs.Run) -> Path:
    return reports.write(small)


@pytest.fixture(scope="session")
def dom(page: Path) -> "Page":
    return Page(page)


class Page(HTMLParser):
    """A page as a tree, `root`, and what stands in its sections."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.builder = TreeBuilder()
        self.feed(path.read_text(encoding="utf-8"))
        self.root = self.builder.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.builder.start(tag, dict(attributes))
        if tag in {"meta", "link", "img"}:
            self.builder.end(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.builder.end(tag).tag == tag, "a tag is not closed"

    def handle_data(self, text: str) -> None:
        self.builder.data(text)

    def find(
        self, tag: str, section: str | None = None, **attributes: str
    ) -> list[tuple[dict[str, Any], str]]:
        """Return the attributes and the text of all such elements."""
        inside = "" if section is None else f"//section[@id='{section}']"
        having = "".join(f"[@{name.rstrip('_')}='{value}']" for name, value in attributes.items())
        return [(each.attrib, text_of(each)) for each in self.root.iterfind(f".{inside}//{tag}{having}")]

    @property
    def facts(self) -> dict[str, str]:
        """Return the numbers at the head of the page by their names."""
        names, numbers = ([text for _, text in self.find(tag)] for tag in ("dt", "dd"))
        return dict(zip(names, numbers, strict=True))

    def alts(self, section: str) -> list[str]:
        """Return what a section's figures show, in words."""
        return [figure["aria-label"] for figure, _ in self.find("svg", section)]

    def rows(self, section: str) -> list[list[str]]:
        """Return the cells of a section's tables."""
        rows = self.root.iterfind(f".//section[@id='{section}']//tr")
        return [list(map(text_of, row)) for row in rows]


def text_of(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def digits_in(image: dict[str, Any]) -> np.ndarray:
    """Return an image of digits, white on black."""
    png = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"), validate=True)
    return 255 - np.asarray(Image.open(io.BytesIO(png), formats=["PNG"]))
