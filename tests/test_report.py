"""The report of a small real run: what it says, checked against the run's files, and how it is shown."""

import base64
import io
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TEST, TRAIN, Run

from digit_recognizer import data, pipeline, runs
from digit_recognizer.ensemble import Predictions, Truth
from digit_recognizer.errors import RunError
from digit_recognizer.report import page as report

pytestmark = pytest.mark.slow
BROWSER = next(
    filter(
        None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])
    ),
    None,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: data.Dataset) -> runs.Run:
    job = pipeline.Job(
        recipes=("sklearn-mlp",), folds=2, refit=True, data_dir=digits.source, name="small",
        out=tmp_path_factory.mktemp("runs"),
    )  # fmt: skip
    return pipeline.train(job, on_notice=lambda _: None, on_progress=lambda _: None)


@pytest.fixture(scope="module")
def page(trained: runs.Run) -> Path:
    return report.write(trained, report.digits_of(trained))


@pytest.fixture(scope="module")
def dom(page: Path) -> "Page":
    return Page(page)


@pytest.fixture(scope="module")
def held_out(trained: runs.Run, digits: data.Dataset) -> dict[str, np.ndarray]:
    """What the run's files say, read without the package."""
    stored = np.load(trained.folder / "probabilities.npz", allow_pickle=False)
    probabilities = stored["sklearn-mlp/out_of_fold"]
    return {
        "rows": stored["rows"],
        "labels": digits.train.labels[stored["rows"]],
        "probabilities": probabilities,
        "guesses": probabilities.argmax(axis=1),
        "test": stored["sklearn-mlp/test"].argmax(axis=1),
    }


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
            (own, " ".join("".join(text).split()))
            for (name, own, text), inside in zip(self.elements, self.section_of, strict=True)
            if name == tag
            and (section is None or inside == section)
            and all(own.get(key.rstrip("_")) == value for key, value in attributes.items())
        ]

    def rows(self, section: str) -> list[list[str]]:
        """The cells of a section's tables."""
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


def copied(run: runs.Run, folder: Path, **changes: Any) -> runs.Run:
    """The run in another folder, with some of its manifest changed."""
    shutil.copytree(run.folder, folder, ignore=shutil.ignore_patterns("report"))
    runs.write_manifest(folder, {**run.manifest, **changes})
    return runs.load(folder)


NAMES = [
    "accuracy", "classes", "confusion", "loss", "mistakes", "reliability", "samples", "scores",
    "training-digits",
]  # fmt: skip


def test_the_page_and_its_pictures_lie_in_the_runs_folder(trained: runs.Run, page: Path) -> None:
    assert page == trained.folder / "report" / "report.html"
    pngs = {f"{name}{theme}.png" for name in NAMES for theme in ("", "-dark")}
    assert {path.name for path in page.parent.iterdir()} == {"report.html", *pngs}
    assert not list(trained.folder.glob(".*"))
    for name in NAMES:
        light, dark = ((page.parent / f"{name}{end}.png").read_bytes() for end in ("", "-dark"))
        assert size(light) == size(dark)
        assert light != dark


def test_an_older_report_is_replaced_by_the_same_bytes(trained: runs.Run, tmp_path: Path, page: Path) -> None:
    again = copied(trained, tmp_path / "small")
    (again.folder / "report").mkdir()
    (again.folder / "report" / "stale.png").touch()
    report.write(again, report.digits_of(again))
    before = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    assert {path.name: path.read_bytes() for path in (again.folder / "report").iterdir()} == before
    assert not list(again.folder.glob(".*"))


def test_a_report_that_fails_leaves_the_older_one(
    trained: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = copied(trained, tmp_path / "small")
    (again.folder / "report").mkdir()
    (again.folder / "report" / "report.html").write_text("older")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patched,
        pytest.raises(RunError, match=r"report: cannot be written \(No sp"),
    ):
        patched.setattr(Path, "write_text", full)
        report.write(again, report.digits_of(again))
    assert [path.read_text() for path in (again.folder / "report").iterdir()] == ["older"]
    assert not list(again.folder.glob(".*"))


def test_every_picture_is_inside_the_page_with_its_size_and_text(dom: Page, page: Path) -> None:
    images = dom.find("img")
    for image, _ in images:
        width, height = size(content(image))
        scale = 2 if "figure" in image["class"] else 1  # figures are drawn for sharp screens
        assert (int(image["width"]), int(image["height"])) == (width // scale, height // scale)
        assert len(image["alt"]) > 20
    figures = [image for image, _ in images if "figure" in image["class"]]
    embedded = {content(image) for image in figures}
    sheets = {"mistakes", "samples", "training-digits"}  # of digits that the page has one by one
    beside = {path.stem: path.read_bytes() for path in page.parent.glob("*.png")}
    assert embedded == {png for name, png in beside.items() if name.removesuffix("-dark") not in sheets}
    assert len(figures) == 2 * (len(NAMES) - len(sheets))
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href|srcset)=\"(?!data:|#)|url\(|@import|<script", text)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text


def test_the_page_is_in_order(dom: Page, trained: runs.Run) -> None:
    levels = [int(tag[1]) for tag, _, _ in dom.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert dom.find("html")[0][0]["lang"] == "en"
    assert dom.find("meta", name="viewport")[0][0]["content"] == "width=device-width, initial-scale=1"
    accuracy = trained.manifest["scores"]["sklearn-mlp"]["accuracy"]
    assert dom.find("title")[0][1] == f"Run small: {accuracy:.1%} of held-out digits read right"
    targets = {attributes["href"].lstrip("#") for attributes, _ in dom.find("a")}
    assert targets == {attributes["id"] for attributes, _ in dom.find("section")}


def test_the_confusions_in_words(dom: Page, held_out: dict[str, np.ndarray]) -> None:
    pairs = Counter(zip(held_out["labels"].tolist(), held_out["guesses"].tolist(), strict=True))
    both = Counter({(a, b): pairs[a, b] + pairs[b, a] for a in range(10) for b in range(a + 1, 10)})
    expected = [
        f"{a} and {b}: {n} mistake{'s' if n > 1 else ''} "
        f"({a} read as {b}: {pairs[a, b]}, {b} read as {a}: {pairs[b, a]})"
        for (a, b), n in sorted(both.items(), key=lambda item: (-item[1], item[0]))
        if n
    ]
    found = [text for _, text in dom.find("li", "confusions")]
    assert len(found) == 10
    assert found == expected[:10]
    (alt,) = {image["alt"] for image, _ in dom.find("img", "confusions")}
    right = sum(pairs[digit, digit] for digit in range(10))
    most = max(n for (a, b), n in pairs.items() if a != b)
    assert f"{right} of {TRAIN} predictions are right" in alt
    assert alt.endswith(f": {most}.")


def test_precision_recall_and_f1_of_each_digit(dom: Page, held_out: dict[str, np.ndarray]) -> None:
    rows = dom.rows("digits")
    assert rows[0] == ["digit", "precision", "recall", "F1", "digits"]
    for digit in range(10):
        is_it, read = held_out["labels"] == digit, held_out["guesses"] == digit
        precision, recall = (is_it & read).sum() / read.sum(), (is_it & read).sum() / is_it.sum()
        f1 = 2 * precision * recall / (precision + recall)
        assert rows[digit + 1] == [
            str(digit), f"{precision:.4f}", f"{recall:.4f}", f"{f1:.4f}", str(is_it.sum()),
        ]  # fmt: skip
    assert rows[11][0] == "mean"


def test_the_scores_are_the_manifests(dom: Page, trained: runs.Run, held_out: dict[str, np.ndarray]) -> None:
    score = trained.manifest["scores"]["sklearn-mlp"]
    interval = f"{score['low']:.4f} to {score['high']:.4f}"
    assert dom.rows("scores") == [
        ["model", "accuracy", "95% interval", "seconds"],
        ["sklearn-mlp", f"{score['accuracy']:.4f}", interval, f"{score['seconds']:.1f}"],
    ]
    facts = dict(zip([t for _, t in dom.find("dt")], [t for _, t in dom.find("dd")], strict=True))
    assert facts["held-out accuracy"] == f"{score['accuracy']:.4f}"
    assert facts["its 95% interval"] == interval
    wrong = (held_out["labels"] != held_out["guesses"]).sum()
    assert facts[f"digits read wrong, of {TRAIN}"] == str(wrong)
    (alt,) = {image["alt"] for image, _ in dom.find("img", "scores")}
    assert f"sklearn-mlp {score['accuracy']:.4f} from {interval}" in alt


def test_the_mistakes_are_all_there_the_most_confident_first(
    dom: Page, held_out: dict[str, np.ndarray]
) -> None:
    wrong = [
        (probabilities.max(), row, label, guess, probabilities[label])
        for row, label, guess, probabilities in zip(
            *(held_out[name] for name in ("rows", "labels", "guesses", "probabilities")), strict=True
        )
        if label != guess
    ]
    wrong.sort(key=lambda one: -one[0])
    assert [text for _, text in dom.find("li", "mistakes")] == [
        f"✗ {guess} {report.percent(float(p))} is {label}: {report.percent(float(left))} row {row + 1}"
        for p, row, label, guess, left in wrong
    ]
    assert {attributes["class"] for attributes, _ in dom.find("li", "mistakes")} == {"wrong"}
    assert [image["alt"] for image, _ in dom.find("img", "mistakes")] == [
        f"Row {row + 1}: a handwritten {label}, read as {guess} with probability {report.percent(float(p))}"
        for p, row, label, guess, _ in wrong
    ]


def test_samples_are_marked_right_and_wrong_by_sign_and_class(
    dom: Page, held_out: dict[str, np.ndarray]
) -> None:
    samples = dom.find("li", "samples")
    assert len(samples) == 24
    place = {row: i for i, row in enumerate(held_out["rows"].tolist())}
    seen = set()
    for attributes, text in samples:
        found = re.fullmatch(r"([✓✗]) (\d) (>?[\d.]+%)( is \d: [<\d.]+%)? row (\d+)", text)
        assert found, text
        i = place[int(found[5]) - 1]
        right = held_out["labels"][i] == held_out["guesses"][i]
        assert (found[1], attributes["class"]) == (("✓", "right") if right else ("✗", "wrong"))
        assert int(found[2]) == held_out["guesses"][i]
        assert found[3] == report.percent(min(float(held_out["probabilities"][i].max()), 1 - 1e-7))
        seen.add(found[5])
    assert len(seen) == 24


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


def test_class_counts_of_the_training_digits_and_of_what_was_submitted(
    dom: Page, digits: data.Dataset, held_out: dict[str, np.ndarray]
) -> None:
    train = [int((digits.train.labels == digit).sum()) for digit in range(10)]
    assert [row[:3] for row in dom.rows("classes")[1:]] == [
        [str(digit), str(count), f"{count / TRAIN:.1%}"] for digit, count in enumerate(train)
    ]
    test = [int((held_out["test"] == digit).sum()) for digit in range(10)]
    assert sum(test) == TEST
    (alt,) = {image["alt"] for image, _ in dom.find("img", "classes") if "figure" in image["class"]}
    for name, counts in (("training digits", train), ("test digits, as read", test)):
        assert f"{name}: {', '.join(f'{digit} {n}' for digit, n in enumerate(counts))}" in alt


def test_learning_curves_end_where_the_fits_did(dom: Page, trained: runs.Run) -> None:
    curves = {name: fit["curve"] for name, fit in trained.manifest["fits"].items()}
    assert set(curves) == {f"sklearn-mlp {part}" for part in ("fold 1", "fold 2", "all rows")}
    alts = [image["alt"] for image, _ in dom.find("img", "curves", class_="figure light")]
    for figure, alt in zip(("accuracy", "loss"), alts, strict=True):
        valid = np.mean([curves[f"sklearn-mlp fold {k}"][-1][f"valid_{figure}"] for k in (1, 2)])
        train = np.mean([curve[-1][f"train_{figure}"] for curve in curves.values()])
        assert alt == (
            f"Line chart of {figure} by epoch: sklearn-mlp ends at "
            f"{valid:.4f} on held-out digits and {train:.4f} on training digits."
        )


def test_the_reliability_diagram_counts_every_prediction(dom: Page, held_out: dict[str, np.ndarray]) -> None:
    (alt,) = {image["alt"] for image, _ in dom.find("img", "reliability")}
    bins = re.findall(r"([\d,]+) given ([\d.]+)% are right in ([\d.]+)%", alt)
    assert sum(int(n) for n, _, _ in bins) == TRAIN
    error = sum(int(n) * abs(float(p) - float(a)) for n, p, a in bins) / TRAIN / 100
    assert float(re.search(r"calibration error ([\d.]+)\.", alt)[1]) == pytest.approx(error, abs=1e-3)
    right = sum(int(n) * float(a) / 100 for n, _, a in bins)
    assert right == pytest.approx((held_out["labels"] == held_out["guesses"]).sum(), abs=0.5)


def test_the_settings_are_the_manifests(dom: Page, trained: runs.Run) -> None:
    settings = dict(dom.rows("settings"))
    assert settings["seed"] == "0"
    assert settings["refit"] == "yes"
    assert settings["split"] == "folds 2 · repeats 1"
    assert settings["rows"] == f"train {TRAIN} · test {TEST}"
    assert settings["sklearn-mlp"] == (
        "prepare scale · hidden 256, 128 · activation relu · optimizer adam · learning_rate 0.002 · "
        "alpha 0.001 · upright yes · warp 1.4 · warp_last 0.6 · epochs 75 · averaged 18 · batch_size 128 · "
        "tta yes · early_stopping 0"
    )
    assert trained.manifest["data"]["source"] in settings["data"]
    assert settings["fits"] == " · ".join(
        f"{name}: {fit['seconds']} seconds, 75 epochs" for name, fit in trained.manifest["fits"].items()
    )
    for name, version in trained.manifest["versions"].items():
        assert f"{name} {version}" in settings["versions"]


def test_rows_may_come_twice_and_much_may_be_missing(
    trained: runs.Run, digits: data.Dataset, tmp_path: Path, held_out: dict[str, np.ndarray]
) -> None:
    """As of repeated folds, without a submission, in a run that fitted nothing, on data with test labels."""
    truth, (one,) = trained.predictions()
    turned = np.roll(one.out_of_fold, 1, axis=1)  # the second time, every digit is read as another
    twice = np.concatenate([one.out_of_fold, turned])
    blend = Predictions("blend", twice, one.test[:0])
    score = {**trained.manifest["scores"]["sklearn-mlp"], "test_accuracy": 0.9}
    data_of = {**trained.manifest["data"], "source": "<b>digits</b> & more"}
    bare = copied(
        trained, tmp_path / "twice", scores={"sklearn-mlp": score, "blend": score}, data=data_of,
        submitted=None, fits={},
    )  # fmt: skip
    predictions = [replace(blend, name="sklearn-mlp", out_of_fold=twice[::-1]), blend]
    again = Truth(*(np.tile(array, 2) for array in (truth.rows, truth.folds, truth.labels)))
    runs.write_probabilities(bare.folder, again, predictions)
    dom = Page(report.write(bare, digits))
    assert not dom.find("section", id="curves")
    assert "test digits, as read" not in "".join(image["alt"] for image, _ in dom.find("img"))
    assert dom.rows("scores")[0][3] == "on test"
    assert "<b>digits</b> & more" in dict(dom.rows("settings"))["data"]
    assert not dom.find("b")
    facts = dict(zip([t for _, t in dom.find("dt")], [t for _, t in dom.find("dd")], strict=True))
    ever_wrong = (held_out["guesses"] != held_out["labels"]) | (turned.argmax(axis=1) != held_out["labels"])
    assert facts[f"digits read wrong, of {TRAIN}"] == str(ever_wrong.sum())
    shown = [re.search(r"row (\d+)$", text)[1] for _, text in dom.find("li", "mistakes")]
    assert len(shown) == len(set(shown)) == report.MISTAKES
    samples = [re.search(r"row (\d+)$", text)[1] for _, text in dom.find("li", "samples")]
    assert len(samples) == len(set(samples)) == 24


def test_a_run_without_a_mistake(trained: runs.Run, digits: data.Dataset, tmp_path: Path) -> None:
    perfect = copied(trained, tmp_path / "perfect")
    truth, (one,) = trained.predictions()
    sure = np.eye(10, dtype=np.float32)[truth.labels]
    runs.write_probabilities(perfect.folder, truth, [replace(one, out_of_fold=sure)])
    page = report.write(perfect, digits)
    dom = Page(page)
    assert not dom.find("li", "mistakes")
    assert page.read_text(encoding="utf-8").count("None: every held-out digit was read right.") == 2
    assert not (page.parent / "mistakes.png").exists()


def test_digits_that_are_gone_or_others_are_one_line(
    trained: runs.Run, folder: Path, tmp_path: Path, train_csv: str, run: Run
) -> None:
    out = tmp_path / "runs"
    copied(trained, out / "small", data={**trained.manifest["data"], "source": str(tmp_path / "gone")})
    ended = run("report", "--out", out)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"Error: {tmp_path / 'gone'}: no such folder; run small read its digits there, "
        "name their folder now with --data-dir\n"
    )
    head, first, rest = train_csv.split("\n", 2)
    (folder / "train.csv").write_text(f"{head}\n{(int(first[0]) + 1) % 10}{first[1:]}\n{rest}")
    ended = run("report", "small", "--out", out, "--data-dir", folder)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        f"Error: {folder}: train.csv holds other digits than run small was trained on; "
        "name the folder of those with --data-dir\n"
    )
    assert not (out / "small/report").exists()
    (folder / "train.csv").write_text(train_csv)
    ended = run("report", "small", "--out", out, "--data-dir", folder)
    assert (ended.code, ended.out, ended.err) == (0, f"{out / 'small/report/report.html'}\n", "")


def test_the_newest_run_is_reported_where_none_is_named(trained: runs.Run, tmp_path: Path, run: Run) -> None:
    ended = run("report")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "Error: submissions: holds no run; `train` makes one, or name another folder with --out\n"
    )
    for name, created in (("b", "2026-01-02"), ("a", "2026-01-03"), ("c", "2026-01-01")):
        copied(trained, tmp_path / "submissions" / name, created=created)
    ended = run("report", "--json")
    assert json.loads(ended.out) == {"run": "submissions/a", "report": "submissions/a/report/report.html"}
    assert (tmp_path / "submissions/a/report/report.html").is_file()


def test_train_writes_the_report_at_once(folder: Path, tmp_path: Path, run: Run) -> None:
    ended = run("train", "--data-dir", folder, "--recipe", "sklearn-mlp", "--name", "n", "--report")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == "submissions/n/submission.csv"
    assert ended.err.splitlines()[-1] == "Report: submissions/n/report/report.html"
    assert Page(tmp_path / "submissions/n/report/report.html").find("h1")


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0%"), (1e-9, "<0.1%"), (0.0005, "0.1%"), (0.98765, "98.8%"), (0.9995, ">99.9%"), (1, "100.0%")],
)
def test_no_share_is_rounded_to_none_or_all(share: float, text: str) -> None:
    assert report.percent(share) == text


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
def test_a_browser_shows_it_all_and_asks_nobody(browser: Any, page: Path, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    shown = context.new_page()
    said, asked = [], []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(page.as_uri())
    shown.wait_for_load_state("networkidle")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]

    images = shown.eval_on_selector_all(
        "img",
        """all => all.map(one => ({
            alt: one.alt, natural: one.naturalWidth, kind: one.className,
            wide: one.getBoundingClientRect().width, right: one.getBoundingClientRect().right,
            scrolls: one.closest(".scroll") !== null,
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

    colours = "all => all.map(one => getComputedStyle(one).color)"
    green = {"light": "rgb(21, 115, 71)", "dark": "rgb(76, 195, 138)"}[scheme]
    red = {"light": "rgb(192, 39, 52)", "dark": "rgb(255, 128, 134)"}[scheme]
    assert set(shown.eval_on_selector_all(".tiles .right strong", colours)) == {green}
    assert set(shown.eval_on_selector_all(".tiles .wrong strong", colours)) == {red}
    context.close()


def test_a_dark_page_is_printed_light_and_whole(browser: Any, page: Path) -> None:
    a4 = {"width": 680, "height": 1000}  # pixels within its margins
    context = browser.new_context(viewport=a4, color_scheme="dark")
    shown = context.new_page()
    shown.goto(page.as_uri())
    shown.emulate_media(media="print")
    widths = "all => all.map(one => one.getBoundingClientRect().width)"
    assert set(shown.eval_on_selector_all("img.dark", widths)) == {0}
    assert 0 not in shown.eval_on_selector_all("img.light", widths)
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    overflow = "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.ariaLabel)"
    assert shown.eval_on_selector_all(".scroll", overflow) == []  # paper does not scroll
    context.close()
