"""The report of small runs: what it says, checked against the runs' files, and how a browser shows it."""

import base64
import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TEST, TRAIN, Run

from digit_recognizer import data, drafts, manifest, records, report, runs, scoring
from digit_recognizer.ensemble import WeightedCombiner
from digit_recognizer.errors import RunError
from digit_recognizer.manifest import EpochMetrics, FitRecord, Manifest, ModelScore
from digit_recognizer.predictions import BLEND, HeldOut, Predictions
from digit_recognizer.recipes import RECIPES
from digit_recognizer.report import facts, figures
from digit_recognizer.report.tiles import percent
from digit_recognizer.settings import describe, format_value

pytestmark = pytest.mark.slow
BROWSER = next(
    filter(
        None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])
    ),
    None,
)
MLP = RECIPES["sklearn-mlp"].settings
PICTURES = [
    "accuracy", "class-counts", "confusion", "loss", "mistakes", "reliability", "samples", "scores",
    "training-digits",
]  # fmt: skip


def read_as(labels: np.ndarray, wrong: float, seed: int = 0) -> np.ndarray:
    """Return probabilities whose likeliest digit is another than the label for about a share `wrong`."""
    rng = np.random.default_rng(seed)
    digits = np.where(rng.random(len(labels)) < wrong, rng.integers(0, 10, len(labels)), labels)
    logits = rng.normal(0, 1, (len(labels), 10)) + 6 * np.eye(10)[digits]
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


def score_of(held_out: HeldOut, probabilities: np.ndarray, **changes: Any) -> ModelScore:
    score = scoring.score(held_out.labels, probabilities, held_out.rows)
    return ModelScore(**{**vars(score), "seconds": 12.5, **changes})


def write_run(
    folder: Path, dataset: data.Dataset, held_out: HeldOut, models: Sequence[Predictions], **changes: Any
) -> runs.Run:
    """Write a run of these predictions with a manifest to match, but for `changes`."""
    names = [model.name for model in models if model.name != BLEND]
    fields = {
        "name": folder.name,
        "created": "2026-01-02T03:04:05+01:00",
        "config": config_of(dataset, names),
        "scores": {model.name: score_of(held_out, model.out_of_fold) for model in models},
        "main_model": models[-1].name,
        "recipes": dict.fromkeys(names, MLP),
        "test_fits": dict.fromkeys(names, ()),
        "blend": None,
        "submission_model": None,
        "seconds": {"total": 3.25},
    }
    folder.mkdir(parents=True)
    runs.write_probabilities(folder, held_out, models)
    runs.write_manifest(folder, Manifest.model_validate(plain({**fields, **changes})))
    return runs.load(folder)


def config_of(dataset: data.Dataset, names: Sequence[str], **changes: Any) -> manifest.RunConfig:
    fields = {
        "command": "train",
        "data": manifest.data_config(dataset),
        "recipes": dict.fromkeys(names[:1], MLP),
        "split": manifest.SplitConfig(holdout=None, folds=2),
        "seed": 0,
        "refit": True,
        "threads": 1,
        "versions": manifest.current_versions(),
        "code": "0" * 16,
    }
    return manifest.RunConfig(**{**fields, **changes})


def plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "created": manifest.datetime.fromisoformat(fields["created"])}


def curve(epochs: int, *, valid: bool = True) -> tuple[EpochMetrics, ...]:
    return tuple(
        EpochMetrics(
            train_loss=1 / epoch, train_accuracy=1 - 0.4 / epoch,
            **({"valid_loss": 1.5 / epoch, "valid_accuracy": 1 - 0.5 / epoch} if valid else {}),
        )
        for epoch in range(1, epochs + 1)
    )  # fmt: skip


def fit(split: str, epochs: int, model: str = "sklearn-mlp", *, valid: bool = True) -> FitRecord:
    file = f"{model}-{split}.npz".replace(" ", "-")
    return FitRecord(model=model, split=split, file=file, seconds=1.5, curve=curve(epochs, valid=valid))


@pytest.fixture(scope="module")
def held_out(digits: data.Dataset) -> HeldOut:
    rows = np.random.default_rng(1).permutation(TRAIN)
    return HeldOut(rows, np.repeat([0, 1], TRAIN // 2), digits.train.labels[rows])


@pytest.fixture(scope="module")
def model(digits: data.Dataset, held_out: HeldOut) -> Predictions:
    test = read_as(np.arange(TEST) % 10, 0.1)
    return Predictions("sklearn-mlp", read_as(held_out.labels, 0.1), test)


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def page(small: runs.Run) -> Path:
    return report.write(small, report.digits_of(small))


@pytest.fixture(scope="module")
def dom(page: Path) -> "Page":
    return Page(page)


class Page(HTMLParser):
    """Elements of a page as (tag, attributes, text inside), and those of one section."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Any], list[str]]] = []
        self.open: list[int] = []
        self.section_of: list[str | None] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, "a tag is not closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        sections = [self.elements[i][1].get("id") for i in self.open if self.elements[i][0] == "section"]
        self.section_of.append(sections[-1] if sections else None)
        self.elements.append((tag, dict(attributes), []))
        if tag not in {"meta", "link", "img"}:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, text: str) -> None:
        for i in self.open:
            self.elements[i][2].append(text)

    def find(
        self, tag: str, section: str | None = None, **attributes: str
    ) -> list[tuple[dict[str, Any], str]]:
        return [
            (present, " ".join("".join(text).split()))
            for (name, present, text), inside in zip(self.elements, self.section_of, strict=True)
            if name == tag
            and (section is None or inside == section)
            and all(present.get(key.rstrip("_")) == value for key, value in attributes.items())
        ]

    @property
    def facts(self) -> dict[str, str]:
        """Return the numbers at the head of the page by their names."""
        names, numbers = ([text for _, text in self.find(tag)] for tag in ("dt", "dd"))
        return dict(zip(names, numbers, strict=True))

    def rows(self, section: str) -> list[list[str]]:
        """Return the cells of a section's tables."""
        cells: list[list[str]] = []
        for (tag, _, text), inside in zip(self.elements, self.section_of, strict=True):
            if inside == section and tag == "tr":
                cells.append([])
            elif inside == section and tag in {"th", "td"}:
                cells[-1].append(" ".join("".join(text).split()))
        return cells


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def content(image: dict[str, Any]) -> bytes:
    return base64.b64decode(image["src"].removeprefix("data:image/png;base64,"), validate=True)


def test_the_page_and_its_pictures_are_in_the_runs_folder(small: runs.Run, page: Path) -> None:
    assert page == small.folder / "report" / "report.html"
    pngs = {f"{name}{theme}.png" for name in PICTURES for theme in ("", "-dark")}
    assert {path.name for path in page.parent.iterdir()} == {"report.html", *pngs}
    assert not list(small.folder.glob(".*"))
    for name in PICTURES:
        light, dark = ((page.parent / f"{name}{end}.png").read_bytes() for end in ("", "-dark"))
        assert size(light) == size(dark)
        assert light != dark


def test_an_older_report_is_replaced_by_the_same_bytes(small: runs.Run, page: Path, tmp_path: Path) -> None:
    again = tmp_path / "small"
    shutil.copytree(small.folder, again, ignore=shutil.ignore_patterns("report"))
    (again / "report").mkdir()
    (again / "report" / "stale.png").touch()
    report.write(runs.load(again), report.digits_of(small))
    before = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    assert {path.name: path.read_bytes() for path in (again / "report").iterdir()} == before
    assert not list(again.glob(".*"))


def test_a_full_disk_leaves_the_older_report(
    small: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "small"
    shutil.copytree(small.folder, again, ignore=shutil.ignore_patterns("report"))
    (again / "report").mkdir()
    (again / "report" / "report.html").write_text("older")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patched,
        pytest.raises(RunError, match=r"report: cannot be written \(No sp"),
    ):
        patched.setattr(Path, "write_bytes", full)
        report.write(runs.load(again), report.digits_of(small))
    assert [path.read_text() for path in (again / "report").iterdir()] == ["older"]
    assert not list(again.glob(".*"))


def test_every_picture_is_inside_the_page_with_its_size_and_text(dom: Page, page: Path) -> None:
    images = dom.find("img")
    for image, _ in images:
        width, height = size(content(image))
        scale = 2 if "figure" in image["class"] else 1  # figures are drawn for sharp screens
        assert (int(image["width"]), int(image["height"])) == (width // scale, height // scale)
        assert len(image["alt"]) > 20
    embedded = {content(image) for image, _ in images if "figure" in image["class"]}
    grids = {"mistakes", "samples", "training-digits"}  # the page has their digits one by one
    beside = {path.stem: path.read_bytes() for path in page.parent.glob("*.png")}
    assert embedded == {png for name, png in beside.items() if name.removesuffix("-dark") not in grids}
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href|srcset)=\"(?!data:|#)|url\(|@import|<script", text)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text


def test_headings_and_links_are_in_order(dom: Page, small: runs.Run) -> None:
    levels = [int(tag[1]) for tag, _, _ in dom.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert dom.find("html")[0][0]["lang"] == "en"
    assert dom.find("meta", name="viewport")[0][0]["content"] == "width=device-width, initial-scale=1"
    assert (
        dom.find("title")[0][1] == f"Run small: {small.main_score.accuracy:.1%} of held-out digits read right"
    )
    targets = {attributes["href"].lstrip("#") for attributes, _ in dom.find("a")}
    assert targets == {attributes["id"] for attributes, _ in dom.find("section")}


def test_the_confusions_are_those_of_the_predictions(
    dom: Page, held_out: HeldOut, model: Predictions
) -> None:
    predicted = model.out_of_fold.argmax(axis=1)
    pairs = Counter(zip(held_out.labels.tolist(), predicted.tolist(), strict=True))
    both = Counter({(a, b): pairs[a, b] + pairs[b, a] for a in range(10) for b in range(a + 1, 10)})
    expected = [
        f"{a} and {b}: {n} mistake{'s' if n > 1 else ''} "
        f"({a} read as {b}: {pairs[a, b]}, {b} read as {a}: {pairs[b, a]})"
        for (a, b), n in sorted(both.items(), key=lambda item: (-item[1], item[0]))
        if n
    ]
    assert [text for _, text in dom.find("li", "confusions")] == expected[:10]
    (alt,) = {image["alt"] for image, _ in dom.find("img", "confusions")}
    assert f"{sum(pairs[digit, digit] for digit in range(10))} of {TRAIN} predictions are right" in alt
    assert alt.endswith(f": {max(n for (a, b), n in pairs.items() if a != b)}.")


def test_precision_recall_and_f1_of_each_digit(dom: Page, held_out: HeldOut, model: Predictions) -> None:
    rows = dom.rows("digits")
    assert rows[0] == ["digit", "precision", "recall", "F1", "digits"]
    predicted = model.out_of_fold.argmax(axis=1)
    for digit in range(10):
        is_digit, read = held_out.labels == digit, predicted == digit
        precision, recall = (is_digit & read).sum() / read.sum(), (is_digit & read).sum() / is_digit.sum()
        f1 = 2 * precision * recall / (precision + recall)
        numbers = (f"{precision:.4f}", f"{recall:.4f}", f"{f1:.4f}", str(is_digit.sum()))
        assert rows[digit + 1] == [str(digit), *numbers]
    means = [f"{np.mean([float(row[column]) for row in rows[1:11]]):.3f}" for column in (1, 2, 3)]
    assert rows[11][0] == "mean"
    assert [f"{float(cell):.3f}" for cell in rows[11][1:4]] == means


def test_the_scores_are_those_of_the_manifest(
    dom: Page, small: runs.Run, held_out: HeldOut, model: Predictions
) -> None:
    score = small.main_score
    interval = f"{score.low:.4f} to {score.high:.4f}"
    assert dom.rows("scores") == [
        ["model", "accuracy", "95% interval", "std", "seconds"],
        ["sklearn-mlp", f"{score.accuracy:.4f}", interval, "0.0141", "12.5"],
    ]
    assert dom.facts["held-out accuracy"] == f"{score.accuracy:.4f}"
    assert dom.facts["95% interval"] == interval
    wrong = (held_out.labels != model.out_of_fold.argmax(axis=1)).sum()
    assert dom.facts[f"digits read wrong, of {TRAIN}"] == str(wrong)
    (alt,) = {image["alt"] for image, _ in dom.find("img", "scores")}
    assert f"sklearn-mlp {score.accuracy:.4f} from {interval}" in alt


def test_all_mistakes_are_shown_the_most_confident_first(
    dom: Page, held_out: HeldOut, model: Predictions
) -> None:
    mistakes = [
        (probabilities.max(), row, label, probabilities.argmax(), probabilities[label])
        for row, label, probabilities in zip(held_out.rows, held_out.labels, model.out_of_fold, strict=True)
        if label != probabilities.argmax()
    ]
    mistakes.sort(key=lambda mistake: -mistake[0])
    assert [text for _, text in dom.find("li", "mistakes")] == [
        f"✗ {predicted} {percent(float(p))} is {label}: {percent(float(p_label))} row {row + 1}"
        for p, row, label, predicted, p_label in mistakes
    ]
    assert {attributes["class"] for attributes, _ in dom.find("li", "mistakes")} == {"wrong"}
    assert [image["alt"] for image, _ in dom.find("img", "mistakes")] == [
        f"Row {row + 1}: a handwritten {label}, read as {predicted} with probability {percent(float(p))}"
        for p, row, label, predicted, _ in mistakes
    ]


def test_samples_are_marked_right_or_wrong_by_sign_and_class(
    dom: Page, held_out: HeldOut, model: Predictions
) -> None:
    samples = dom.find("li", "samples")
    place = {row: position for position, row in enumerate(held_out.rows.tolist())}
    seen = set()
    for attributes, text in samples:
        parts = re.fullmatch(r"([✓✗]) (\d) (>?[\d.]+%)( is \d: [<\d.]+%)? row (\d+)", text)
        assert parts, text
        position = place[int(parts[5]) - 1]
        probabilities = model.out_of_fold[position]
        right = held_out.labels[position] == probabilities.argmax()
        assert (parts[1], attributes["class"]) == (("✓", "right") if right else ("✗", "wrong"))
        assert int(parts[2]) == probabilities.argmax()
        assert parts[3] == percent(min(float(probabilities.max()), 1 - 1e-7))
        seen.add(parts[5])
    assert len(samples) == len(seen) == 24


def test_the_pictures_of_digits_are_those_digits(dom: Page, digits: data.Dataset) -> None:
    from matplotlib.image import imread

    for image, _ in [*dom.find("img", "samples"), *dom.find("img", "mistakes")]:
        row = int(re.match(r"Row (\d+):", image["alt"])[1]) - 1
        ink = 255 - np.rint(imread(io.BytesIO(content(image)))[:, :, 0] * 255)
        np.testing.assert_array_equal(ink.ravel(), digits.train.pixels[row])
    for digit, (image, _) in enumerate(dom.find("img", "classes", class_="digit strip")):
        first = digits.train.pixels[digits.train.labels == digit][:8].reshape(-1, 28, 28)
        ink = 255 - np.rint(imread(io.BytesIO(content(image)))[:, :, 0] * 255)
        np.testing.assert_array_equal(ink, np.hstack(first))
        assert image["alt"] == f"The first 8 training digits labelled {digit}"


def test_class_counts_of_the_training_and_the_test_digits(
    dom: Page, digits: data.Dataset, model: Predictions
) -> None:
    train = [int((digits.train.labels == digit).sum()) for digit in range(10)]
    assert [row[:3] for row in dom.rows("classes")[1:]] == [
        [str(digit), str(count), f"{count / TRAIN:.1%}"] for digit, count in enumerate(train)
    ]
    test = np.bincount(model.test.argmax(axis=1), minlength=10).tolist()
    (alt,) = {image["alt"] for image, _ in dom.find("img", "classes") if "figure" in image["class"]}
    for name, counts in (("training digits", train), ("test digits, as read", test)):
        assert f"{name}: {', '.join(f'{digit} {n}' for digit, n in enumerate(counts))}" in alt


def test_learning_curves_end_at_the_mean_of_the_fits_last_epochs(dom: Page) -> None:
    alts = [image["alt"] for image, _ in dom.find("img", "curves", class_="figure light")]
    assert alts == [
        f"Line chart of {metric} by epoch: sklearn-mlp ends at {valid} on held-out digits "
        f"and {train} on training digits."
        for metric, valid, train in (("accuracy", "0.9000", "0.9200"), ("loss", "0.3000", "0.2000"))
    ]


def test_the_reliability_diagram_counts_every_prediction(
    dom: Page, held_out: HeldOut, model: Predictions
) -> None:
    (alt,) = {image["alt"] for image, _ in dom.find("img", "reliability")}
    bins = re.findall(r"([\d,]+) given ([\d.]+)% are right in ([\d.]+)%", alt)
    assert sum(int(n) for n, _, _ in bins) == TRAIN
    error = sum(int(n) * abs(float(p) - float(a)) for n, p, a in bins) / TRAIN / 100
    assert float(re.search(r"calibration error ([\d.]+)\.", alt)[1]) == pytest.approx(error, abs=1e-3)
    right = sum(int(n) * float(a) / 100 for n, _, a in bins)
    assert right == pytest.approx((held_out.labels == model.out_of_fold.argmax(axis=1)).sum(), abs=0.5)


def test_the_settings_are_those_of_the_manifest(dom: Page, small: runs.Run) -> None:
    rows = dom.rows("settings")
    settings = {row[0]: row[1] for row in rows}
    assert settings["seed"] == "0"
    assert settings["refit"] == "yes"
    assert settings["split"] == "folds 2 · repeats 1"
    assert settings["rows"] == f"train {TRAIN} · test {TEST}"
    assert small.manifest.config.data.source in settings["data"]
    for name, version in small.manifest.config.versions.items():
        assert f"{name} {version}" in settings["versions"]
    expected = [
        [field.name, format_value(getattr(MLP, field.name)), " ".join(field.description.split())]
        for field in describe(type(MLP))
    ]
    assert rows[-len(expected) :] == expected
    assert dom.find("h3", "settings")[0][1] == "sklearn-mlp (mlp)"
    assert dom.rows("fits")[1:] == [
        [f"sklearn-mlp {split}", epochs, "1.5"]
        for split, epochs in (("fold 1", "4"), ("fold 2", "5"), ("all rows", "5"))
    ]


def test_rows_of_repeated_folds_are_shown_once_and_text_is_escaped(
    digits: data.Dataset, held_out: HeldOut, model: Predictions, tmp_path: Path
) -> None:
    """Read a run without fits or a submission, on data with test labels, whose blend has temperatures."""
    turned = np.roll(model.out_of_fold, 1, axis=1)  # in the second repeat, every digit is read as another
    twice = np.concatenate([model.out_of_fold, turned])
    again = HeldOut(*(np.tile(array, 2) for array in (held_out.rows, held_out.folds, held_out.labels)))
    members = [
        Predictions("sklearn-mlp", twice[::-1], model.test[:0]),
        Predictions("keras-mlp", twice, model.test[:0]),
        Predictions(BLEND, twice, model.test[:0]),
    ]
    source = manifest.data_config(digits).model_copy(update={"source": "<b>digits</b> & more"})
    run = write_run(
        tmp_path / "twice", digits, again, members,
        scores={member.name: score_of(again, member.out_of_fold, test_accuracy=0.9) for member in members},
        config=config_of(digits, ["sklearn-mlp"], data=source),
        blend=WeightedCombiner(
            weights=(0.25, 0.75), inverse_temperatures=(0.5, 0.8), inverse_temperature=1.25, converged=False
        ),
        stopped_early="<i>Ctrl-C</i>", failed_fits={"keras-mlp fold 2": "out of <b>memory</b>"},
    )  # fmt: skip
    dom = Page(report.write(run, digits))
    assert not dom.find("section", id="curves")
    assert "test digits, as read" not in "".join(image["alt"] for image, _ in dom.find("img"))
    assert dom.rows("scores")[0] == ["model", "accuracy", "95% interval", "on test", "seconds"]
    assert dom.rows("blend")[1:] == [
        ["sklearn-mlp", "0.250", "2.00"], ["keras-mlp", "0.750", "1.25"], ["blend", "1.000", "0.80"],
    ]  # fmt: skip
    assert "the optimiser found none" in dom.find("section", id="blend")[0][1]
    assert "Stopped early: <i>Ctrl-C</i>" in dom.find("header")[0][1]
    assert dom.find("li", "fits")[0][1] == "keras-mlp fold 2: out of <b>memory</b>"
    assert "<b>digits</b> & more" in {row[0]: row[1] for row in dom.rows("settings")}["data"]
    assert not dom.find("b") + dom.find("i")
    ever_wrong = (model.out_of_fold.argmax(axis=1) != held_out.labels) | (
        turned.argmax(axis=1) != held_out.labels
    )
    assert dom.facts[f"digits read wrong, of {TRAIN}"] == str(ever_wrong.sum())
    shown = [re.search(r"row (\d+)$", text)[1] for _, text in dom.find("li", "mistakes")]
    assert len(shown) == len(set(shown)) == facts.MAX_MISTAKES
    samples = [re.search(r"row (\d+)$", text)[1] for _, text in dom.find("li", "samples")]
    assert len(samples) == len(set(samples)) == 24


def test_a_run_without_a_mistake_says_so(
    digits: data.Dataset, held_out: HeldOut, model: Predictions, tmp_path: Path
) -> None:
    perfect = replace(model, out_of_fold=np.eye(10, dtype=np.float32)[held_out.labels])
    page = report.write(write_run(tmp_path / "perfect", digits, held_out, [perfect]), digits)
    assert not Page(page).find("li", "mistakes")
    assert page.read_text(encoding="utf-8").count("None: every held-out digit was read right.") == 2
    assert not (page.parent / "mistakes.png").exists()


def test_an_unfinished_minutes_run_is_reported_beside_its_stage(
    digits: data.Dataset,
    held_out: HeldOut,
    model: Predictions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = [replace(model, name=f"cnn-{number}") for number in (1, 2)]
    cnn = RECIPES["cnn"].settings
    run = write_run(
        tmp_path / ".quick/stage", digits, held_out, members,
        config=config_of(digits, ["cnn"], minutes=2.0, cores=2, threads=None),
        recipes={"cnn-1": cnn.replace(epochs=11), "cnn-2": cnn.replace(epochs=13)},
        fits={"cnn-1 fold 1": fit("fold 1", 2, "cnn-1")},
    )  # fmt: skip
    epochs = [{"train_loss": 0.5, "train_accuracy": 0.9, "valid_loss": 0.5, "valid_accuracy": 0.8}]
    so_far = {"keras-mlp-1": [epochs], "cnn-1": [epochs], "cnn-3": [epochs], "cnn-4": [[]]}
    monkeypatch.setattr(drafts, "unfinished_curves", lambda _: so_far)
    page = report.write(replace(run, unfinished=True), digits)
    assert page == tmp_path / ".quick/report/report.html"
    assert not (run.folder / "report").exists()
    dom = Page(page)
    assert "Still being fitted, and so only in these curves: cnn-3." in dom.find("section", id="curves")[0][1]
    alt = dom.find("img", "curves")[0][0]["alt"]
    assert alt.startswith("Line chart of accuracy by epoch: keras-mlp ends at 0.8000 on held-out digits")
    assert "; cnn ends at 0.7500 on" in alt
    assert dom.find("h3", "settings")[0][1] == "cnn-1, cnn-2 (keras)"
    assert ["epochs", "11 to 13"] in [row[:2] for row in dom.rows("settings")]


def test_files_of_two_stages_raise_run_error(
    digits: data.Dataset, held_out: HeldOut, model: Predictions, tmp_path: Path
) -> None:
    run = write_run(tmp_path / ".n/stage", digits, held_out, [model])
    later = replace(model, out_of_fold=read_as(held_out.labels, 0.01, seed=2))
    runs.write_probabilities(run.folder, held_out, [later])
    with pytest.raises(RunError, match=r"its files do not belong together: run.json says accuracy 0\.9"):
        report.write(replace(run, unfinished=True), digits)
    assert not (tmp_path / ".n/report").exists()
    runs.write_probabilities(run.folder, held_out, [replace(model, name="another")])
    with pytest.raises(RunError, match="is damaged"):
        report.write(replace(run, unfinished=True), digits)


@pytest.mark.parametrize("moment", ["before it is read", "before it is written"])
def test_a_run_that_finishes_meanwhile_raises_run_error(
    small: runs.Run, digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    shutil.copytree(small.folder, tmp_path / ".n/stage", ignore=shutil.ignore_patterns("report"))
    run = replace(runs.load(tmp_path / ".n/stage"), unfinished=True)

    def finish(*_: object) -> dict[str, Any]:
        (tmp_path / ".n").rename(tmp_path / "n")
        return {}

    if moment == "before it is read":
        finish()
    else:
        monkeypatch.setattr(drafts, "unfinished_curves", finish)
    with pytest.raises(RunError, match="No such file or directory"):
        report.write(run, digits)
    assert {path.name for path in tmp_path.iterdir()} == {"n"}


def damage(held_out: HeldOut, model: Predictions, how: str) -> tuple[HeldOut, Predictions]:
    probabilities = model.out_of_fold.copy()
    probabilities[5] = np.nan if how == "not a number" else [7] * 10
    match how:
        case "other labels":
            return replace(held_out, labels=(held_out.labels + 1) % 10), model
        case "rows beyond the data":
            return replace(held_out, rows=held_out.rows + 1), model
        case "negative rows":
            return replace(held_out, rows=held_out.rows - 1), model
        case "rows as text":
            return replace(held_out, rows=held_out.rows.astype(str)), model
        case "labels of another shape":
            return replace(held_out, labels=held_out.labels[:, np.newaxis]), model
        case "no rows":
            empty = HeldOut(*(array[:0] for array in (held_out.rows, held_out.folds, held_out.labels)))
            return empty, replace(model, out_of_fold=model.out_of_fold[:0])
        case "another number of test digits":
            return held_out, replace(model, test=model.test[:-1])
        case "probabilities as text":
            return held_out, replace(model, out_of_fold=model.out_of_fold.astype(str))
    return held_out, replace(model, out_of_fold=probabilities)


@pytest.mark.parametrize(
    "how",
    [
        "other labels", "rows beyond the data", "negative rows", "rows as text", "labels of another shape",
        "no rows", "another number of test digits", "probabilities as text", "not a number", "above 1",
    ],
)  # fmt: skip
def test_probabilities_that_do_not_fit_the_data_raise_run_error(
    digits: data.Dataset, held_out: HeldOut, model: Predictions, tmp_path: Path, how: str
) -> None:
    run = write_run(tmp_path / "n", digits, held_out, [model])
    damaged_held_out, damaged_model = damage(held_out, model, how)
    runs.write_probabilities(run.folder, damaged_held_out, [damaged_model])
    with pytest.raises(RunError, match=r"the probabilities of sklearn-mlp are not of the digits in [^\n]+$"):
        report.write(run, digits)
    assert not (run.folder / "report").exists()


def test_hostile_names_stay_inside_the_page(digits: data.Dataset, tmp_path: Path) -> None:
    names = [
        "../../evil",
        "$\\frac{$",
        "<script>alert(1)</script>",
        'x" onerror="y',
        "a\x1b[2Jb\nc",
        "_hidden",
        "é" * 300,
    ]
    rows = np.arange(30)
    held_out = HeldOut(rows, np.zeros(30, int), digits.train.labels[rows])
    models = [
        Predictions(name, read_as(held_out.labels, 0.2), np.empty((0, 10), np.float32)) for name in names
    ]
    run = write_run(
        tmp_path / "out/n", digits, held_out, models, name="</title><script>",
        fits={f"{name} holdout": fit("holdout", 1).model_copy(update={"model": name}) for name in names},
        config=config_of(digits, names, versions={"digit_recognizer": "<script>"}),
        seconds={"<script>": 1.0}, failed_fits={"<script>": "<script>\x00"},
    )  # fmt: skip
    page = report.write(run, digits)
    dom = Page(page)
    assert not dom.find("script")
    assert not any("onerror" in attributes for _, attributes, _ in dom.elements)
    assert [row[0] for row in dom.rows("scores")[1:]].count("<script>alert(1)</script>") == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", page.read_text(encoding="utf-8"))
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert {path.name for path in run.folder.iterdir()} == {"run.json", "probabilities.npz", "report"}


def test_thousands_of_models_make_a_page_of_the_most_accurate(digits: data.Dataset, tmp_path: Path) -> None:
    rows = np.arange(20)
    held_out = HeldOut(rows, np.zeros(20, int), digits.train.labels[rows])
    probabilities = [read_as(held_out.labels, share) for share in (0.0, 0.5)]
    models = [
        Predictions(f"m{number}", probabilities[number % 2], np.empty((0, 10), np.float32))
        for number in range(1_000)
    ]
    # The last fit has no epochs, and every other one no held-out rows.
    fits = {
        f"m{number} holdout": fit("holdout", number % 3, f"m{number}", valid=number % 2 == 0)
        for number in range(300)
    }
    settings = {name.name: MLP.replace(alpha=number / 1_000) for number, name in enumerate(models)}
    run = write_run(tmp_path / "n", digits, held_out, models, fits=fits, recipes=settings)
    dom = Page(report.write(run, digits))
    assert [row[0] for row in dom.rows("scores")[1:5]] == ["m999", "m0", "m2", "m4"]
    assert "And 800 more, in run.json." in dom.find("section", id="scores")[0][1]
    assert len(dom.rows("scores")) == 201
    assert (
        f"m999 and the {figures.MAX_INTERVALS - 1} most accurate others."
        in dom.find("figcaption", "scores")[0][1]
    )
    for image, _ in dom.find("img"):
        assert max(size(content(image))) < 4_000


def test_a_link_or_file_named_report_raises_run_error(
    digits: data.Dataset, held_out: HeldOut, model: Predictions, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "n", digits, held_out, [model])
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "photo.png").touch()
    (run.folder / "report").symlink_to(precious)
    with pytest.raises(RunError, match="report: is a link or a file"):
        report.write(run, digits)
    assert [path.name for path in precious.iterdir()] == ["photo.png"]
    (run.folder / "report").unlink()
    (run.folder / "report").touch()
    with pytest.raises(RunError, match="report: is a link or a file"):
        report.write(run, digits)


@pytest.mark.parametrize("source", ["gone", "x" * 5_000, "a\x00b", "a\nb"])
def test_a_source_that_is_no_folder_raises_run_error(small: runs.Run, source: str) -> None:
    config = small.manifest.config
    moved = config.model_copy(update={"data": config.data.model_copy(update={"source": source})})
    run = replace(small, manifest=small.manifest.model_copy(update={"config": moved}))
    with pytest.raises(RunError) as error:
        report.digits_of(run)
    assert "no such folder; run small read its digits there, name their folder now with --data-dir" in str(
        error.value
    )
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


def test_other_digits_raise_run_error(small: runs.Run, folder: Path, train_csv: str) -> None:
    assert report.digits_of(small, folder).source == folder
    head, first, rest = train_csv.split("\n", 2)
    (folder / "train.csv").write_text(f"{head}\n{(int(first[0]) + 1) % 10}{first[1:]}\n{rest}")
    with pytest.raises(RunError) as error:
        report.digits_of(small, folder)
    assert str(error.value) == (
        f"{folder}: train.csv holds other digits than run small was made from; "
        "name their folder with --data-dir"
    )


def test_the_command_reports_the_newest_run(small: runs.Run, tmp_path: Path, run: Run) -> None:
    result = run("report")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "Error: submissions: holds no run; `train` makes one, or name another folder with --out\n"
    )
    for name, day in (("b", 2), ("a", 3), ("c", 1)):
        shutil.copytree(small.folder, tmp_path / "submissions" / name)
        created = manifest.datetime.fromisoformat(f"2026-01-0{day}T00:00:00+00:00")
        changed = small.manifest.model_copy(update={"created": created})
        records.write(tmp_path / "submissions" / name / "run.json", changed)
    result = run("report", "--json")
    assert json.loads(result.out) == {"run": "submissions/a", "report": "submissions/a/report/report.html"}
    assert (tmp_path / "submissions/a/report/report.html").is_file()


def test_train_writes_the_report_at_once(folder: Path, tmp_path: Path, run: Run) -> None:
    arguments = ("--recipe", "sklearn-mlp-plain", "--set", "epochs=2", "--name", "n", "--report")
    result = run("train", "--data-dir", folder, *arguments)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "submissions/n/submission.csv"
    assert result.err.splitlines()[-1] == "Report: submissions/n/report/report.html"
    assert Page(tmp_path / "submissions/n/report/report.html").find("h1")


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0%"), (1e-9, "<0.1%"), (0.0005, "0.1%"), (0.98765, "98.8%"), (0.9995, ">99.9%"), (1, "100.0%")],
)
def test_no_share_is_rounded_to_none_or_all(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on this machine; Debian's is `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    arguments = [
        "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--no-first-run",
    ]  # fmt: skip
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_all_and_requests_nothing(
    browser: Any, page: Path, scheme: str, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    shown = context.new_page()
    shown.set_default_timeout(30_000)
    messages, requested = [], []
    shown.on("console", lambda message: messages.append(message.text))
    shown.on("pageerror", lambda error: messages.append(str(error)))
    shown.on("request", lambda request: requested.append(request.url))
    shown.goto(page.as_uri())
    shown.wait_for_load_state("networkidle")
    assert messages == []
    assert [url for url in requested if not url.startswith("data:")] == [page.as_uri()]

    images = shown.eval_on_selector_all(
        "img",
        """all => all.map(image => ({
            alt: image.alt, natural: image.naturalWidth, kind: image.className,
            wide: image.getBoundingClientRect().width, right: image.getBoundingClientRect().right,
            scrolls: image.closest(".scroll") !== null,
        }))""",
    )
    assert all(image["alt"] and image["natural"] > 0 for image in images)
    for image in images:
        hidden = image["kind"] == f"figure {'dark' if scheme == 'light' else 'light'}"
        assert (image["wide"] == 0) is hidden
        assert image["scrolls"] or image["right"] <= width
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(243, 245, 248)", "dark": "rgb(14, 18, 23)"}[scheme]

    colours = "all => all.map(title => getComputedStyle(title).color)"
    green = {"light": "rgb(21, 115, 71)", "dark": "rgb(76, 195, 138)"}[scheme]
    red = {"light": "rgb(192, 39, 52)", "dark": "rgb(255, 128, 134)"}[scheme]
    assert set(shown.eval_on_selector_all(".tiles .right strong", colours)) == {green}
    assert set(shown.eval_on_selector_all(".tiles .wrong strong", colours)) == {red}
    context.close()


def test_a_dark_page_is_printed_light_and_whole(browser: Any, page: Path) -> None:
    a4 = {"width": 680, "height": 1000}  # pixels within its margins
    context = browser.new_context(viewport=a4, color_scheme="dark")
    shown = context.new_page()
    shown.set_default_timeout(30_000)
    shown.goto(page.as_uri())
    shown.emulate_media(media="print")
    widths = "all => all.map(box => box.getBoundingClientRect().width)"
    assert set(shown.eval_on_selector_all("img.dark", widths)) == {0}
    assert 0 not in shown.eval_on_selector_all("img.light", widths)
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    overflow = "all => all.filter(box => box.scrollWidth > box.clientWidth).map(box => box.ariaLabel)"
    assert shown.eval_on_selector_all(".scroll", overflow) == []  # paper does not scroll
    context.close()
