"""The report of small runs: what it says, checked against the runs' files."""

import json
import re
import shutil
import sys
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import TEST, TRAIN, Result, changed, run_program, typed
from PIL import Image
from report_runs import FIGURES, MLP, Page, config_of, digits_in, fit, score_of, write_run
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from digit_recognizer import data, drafts, reports, runs, scoring
from digit_recognizer.blending import WeightedCombiner
from digit_recognizer.manifest import ModelScore
from digit_recognizer.predictions import BLEND, HeldOut, Predictions
from digit_recognizer.recipes import RECIPES
from digit_recognizer.reports import figures, report_data
from digit_recognizer.reports.report_data import percent
from digit_recognizer.schedule import Member

pytestmark = pytest.mark.slow
SHOWN = ("samples", "misclassified")


def test_an_older_report_is_replaced_by_the_same_bytes_whatever_is_set_of_matplotlib(
    again: runs.Run, page: Path
) -> None:
    import matplotlib.pyplot as plt

    (again.folder / "report").mkdir()
    (again.folder / "report" / "stale.png").touch()
    theirs = {"text.usetex": True, "font.size": 30, "svg.fonttype": "path", "svg.hashsalt": "theirs"}
    with plt.style.context("dark_background"), plt.rc_context(theirs | {"savefig.bbox": "tight"}):
        mine = plt.figure()
        before = dict(plt.rcParams)
        written = reports.write(again)
        assert dict(plt.rcParams) == before
        assert plt.get_fignums() == [mine.number]
        plt.close(mine)
    assert written.read_bytes() == page.read_bytes()
    assert list(written.parent.iterdir()) == [written]
    assert not list(again.folder.glob(".*"))


@pytest.mark.usefixtures("again")
def test_a_matplotlibrc_that_ends_the_import_does_not_change_the_report(page: Path, tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 30\n\xff\n", encoding="latin-1")
    theirs = {"MPLCONFIGDIR": "matplotlibrc", "MPLBACKEND": "Qt4Agg"}
    report = ("-m", "digit_recognizer", "report", "small", "--out", ".")
    result = run_program(sys.executable, *report, cwd=tmp_path, **theirs)
    assert (result.code, result.out) == (0, "small/report/report.html\n"), result.err
    assert (tmp_path / result.out.strip()).read_bytes() == page.read_bytes()
    assert result.err == "" or "MPLCONFIGDIR" in result.err  # matplotlib's advice; its fonts take longer


def test_every_figure_is_inside_the_page_in_its_colours_and_with_its_text(dom: Page, page: Path) -> None:
    figures = [figure for figure, _ in dom.find("svg")]
    assert len(figures) == len(FIGURES)
    assert all(figure["role"] == "img" and len(figure["aria-label"]) > 20 for figure in figures)
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href|srcset)=\"(?!data:|#)|url\((?!#)|@import|<script|DejaVu", text)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text

    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    used = set(re.findall(r"var\(--([\w-]+)\)", drawn))
    palettes = re.findall(r":root {(.*?)}", text, re.DOTALL)[:2]
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", palette)) for palette in palettes)
    assert {"card", "ink", "muted", "line", "right", "heat", "series1", "series2"} <= used
    assert used <= set(light) == set(dark)
    assert not set(light.values()) & set(dark.values())
    assert not re.search(r"#[0-9a-f]{6}\b|rgb|black|white", drawn)
    ids = [element.get("id") for element in dom.root.iterfind(".//*[@id]")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"(?:url\(|href=\")#([\w-]+)", drawn)) <= set(ids)


def test_headings_and_links_are_in_order(dom: Page, small: runs.Run) -> None:
    levels = [int(element.tag[1]) for element in dom.root.iter() if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert dom.root.get("lang") == "en"
    assert dom.find("meta", name="viewport")[0][0]["content"] == "width=device-width, initial-scale=1"
    assert dom.find("title")[0][1] == f"Run small: validation accuracy {small.main_score.accuracy:.1%}"
    targets = {attributes["href"].lstrip("#") for attributes, _ in dom.find("a")}
    assert targets == {attributes["id"] for attributes, _ in dom.find("section")}


def test_the_confusions_are_those_of_the_predictions(
    dom: Page, held_out: HeldOut, model: Predictions
) -> None:
    matrix = confusion_matrix(held_out.labels, model.out_of_fold.argmax(axis=1))
    listed = [text for _, text in dom.find("li", "confusions")]
    assert listed == [str(confusion) for confusion in scoring.confusions(matrix)][:10]
    (alt,) = dom.alts("confusions")
    assert f"{matrix.trace()} of {TRAIN} predictions are right" in alt
    assert alt.endswith(f": {(matrix - np.diag(matrix.diagonal())).max()}.")


def test_precision_recall_and_f1_of_each_digit(dom: Page, held_out: HeldOut, model: Predictions) -> None:
    head, *digits, mean = dom.rows("digits")
    assert (head, mean[0]) == (["digit", "precision", "recall", "F1", "digits"], "mean")
    measured = precision_recall_fscore_support(held_out.labels, model.out_of_fold.argmax(axis=1))
    for digit, (precision, recall, f1, count) in enumerate(zip(*measured, strict=True)):
        assert digits[digit] == [str(digit), f"{precision:.4f}", f"{recall:.4f}", f"{f1:.4f}", str(count)]
    assert mean[1:4] == [f"{column.mean():.4f}" for column in measured[:3]]


def test_the_scores_are_those_of_the_manifest(
    dom: Page, small: runs.Run, held_out: HeldOut, model: Predictions
) -> None:
    score = small.main_score
    interval = f"{score.low:.4f} to {score.high:.4f}"
    assert dom.rows("scores") == [
        ["model", "accuracy", "95% interval", "std", "fit seconds"],
        ["sklearn-mlp", f"{score.accuracy:.4f}", f"{score.low:.4f}\u2013{score.high:.4f}", "0.0141", "12.5"],
    ]
    assert dom.facts["validation accuracy"] == f"{score.accuracy:.4f}"
    assert dom.facts["95% interval"] == interval
    wrong = (held_out.labels != model.out_of_fold.argmax(axis=1)).sum()
    assert dom.facts[f"errors, of {TRAIN} digits"] == str(wrong)
    (alt,) = dom.alts("scores")
    assert f"sklearn-mlp {score.accuracy:.4f} from {interval}" in alt


def test_digits_are_shown_with_their_predictions_and_all_misclassified_ones_the_most_confident_first(
    dom: Page, digits: data.Dataset, held_out: HeldOut, model: Predictions
) -> None:
    wrong = model.out_of_fold.argmax(axis=1) != held_out.labels
    by_confidence = held_out.rows[np.argsort(-model.out_of_fold.max(axis=1), kind="stable")]
    rows = {section: [int(text.split()[-1]) - 1 for _, text in dom.find("li", section)] for section in SHOWN}
    assert len(set(rows["samples"])) == 24
    assert rows["misclassified"] == [row for row in by_confidence if row in held_out.rows[wrong]]
    for section in SHOWN:
        items = zip(rows[section], dom.find("li", section), dom.find("img", section), strict=True)
        for row, (attributes, text), (image, _) in items:
            (place,) = np.flatnonzero(held_out.rows == row)
            label, probabilities = held_out.labels[place], model.out_of_fold[place].astype(float)
            predicted, share = probabilities.argmax(), percent(min(probabilities.max(), 1 - 1e-7))
            told = f"✗ {predicted} {share} is {label}: {percent(probabilities[label])} row {row + 1}"
            right = f"✓ {predicted} {share} row {row + 1}"
            assert (attributes["class"], text) == (("wrong", told) if wrong[place] else ("right", right))
            shows = f"Row {row + 1}: a handwritten {label}, predicted as {predicted} with probability {share}"
            assert image["alt"] == shows
            np.testing.assert_array_equal(digits_in(image).ravel(), digits.train.pixels[row])


def test_class_counts_of_the_training_and_the_test_digits(
    dom: Page, digits: data.Dataset, model: Predictions
) -> None:
    train = [int((digits.train.labels == digit).sum()) for digit in range(10)]
    assert [row[:3] for row in dom.rows("classes")[1:]] == [
        [str(digit), str(count), f"{count / TRAIN:.1%}"] for digit, count in enumerate(train)
    ]
    test = np.bincount(model.test.argmax(axis=1), minlength=10).tolist()
    (alt,) = dom.alts("classes")
    for name, counts in (("training digits", train), ("test digits, predicted", test)):
        assert f"{name}: {', '.join(f'{digit} {n}' for digit, n in enumerate(counts))}" in alt
    for digit, (image, _) in enumerate(dom.find("img", "classes", class_="digit strip")):
        first = digits.train.pixels[digits.train.labels == digit][:8].reshape(-1, 28, 28)
        np.testing.assert_array_equal(digits_in(image), np.hstack(first))
        assert image["alt"] == f"The first 8 training digits labelled {digit}"


def test_learning_curves_end_at_the_mean_of_the_fits_last_epochs(dom: Page) -> None:
    assert dom.alts("curves") == [
        f"Line chart, {label} by epoch; after the last epoch: sklearn-mlp {valid} on validation digits; "
        f"sklearn-mlp {train} on training digits."
        for label, valid, train in (("error, %", "10", "8"), ("loss", "0.3", "0.2"))
    ]


@pytest.mark.parametrize(
    ("errors", "ticks"),
    [
        ([20, 9, 4, 2.1], ["2", "5", "10", "20"]),
        ([100, 0.004], ["0.01", "0.1", "1", "10", "100"]),  # powers of ten alone have a number
        ([3, 3], ["2", "5"]),
        ([5, 0], ["5", "10"]),  # 0 has no place on it
        ([0, 0], ["1", "2"]),
    ],
)
def test_the_error_is_on_a_log_scale_of_numbers_one_would_write(
    errors: list[float], ticks: list[str]
) -> None:
    fit = [{"train_accuracy": 1 - error / 100} for error in errors]
    figure = figures.curves({"cnn": [fit]}, "error").figure
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    assert [label.get_text() for label in axes.get_yticklabels()] == ticks
    low, high = axes.get_ylim()
    drawn = axes.lines[0].get_ydata()
    np.testing.assert_allclose(drawn, np.maximum(errors, low))
    assert low <= min(drawn) <= max(drawn) <= high


def test_training_errors_near_0_leave_the_axis_to_the_validation_errors() -> None:
    errors = [(4, 9), (0.5, 5), (0.01, 3), (0, 2.5)]
    fit = [{"train_accuracy": 1 - train / 100, "valid_accuracy": 1 - valid / 100} for train, valid in errors]
    axes = figures.curves({"cnn": [fit]}, "error").figure.axes[0]
    assert axes.get_ylim() == (1, 10)
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [9, 5, 3, 2.5])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [4, 1, 1, 1])


@pytest.mark.parametrize("width", [0.0008, 0.011])
def test_the_accuracies_are_on_a_scale_of_numbers_one_would_write(width: float) -> None:
    score = ModelScore(accuracy=0.99, low=0.99 - width, high=0.9901, digits=4_200, fit_seconds=1)
    figure = figures.intervals({"cnn": score}, "cnn").figure
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    ticks = [float(label.get_text()) for label in figure.axes[0].get_xticklabels()]
    (step,) = set(np.diff(ticks).round(6))
    assert float(f"{step:e}".partition("e")[0]) in {1, 2, 5}
    assert len([tick for tick in ticks if low <= tick <= high]) >= 2


def test_a_loss_that_is_no_number_is_left_out() -> None:
    nan = float("nan")
    fits = {"cnn": [[{"train_loss": 0.3}, {"train_loss": nan}]], "mlp": [[{"train_loss": nan}]]}
    picture = figures.curves(fits, "loss")
    assert picture.alt == "Line chart, loss by epoch; after the last epoch: cnn 0.3 on training digits."


def test_the_reliability_diagram_counts_every_prediction(
    dom: Page, held_out: HeldOut, model: Predictions
) -> None:
    (alt,) = dom.alts("reliability")
    bins = re.findall(r"([\d,]+) given ([\d.]+)% are right in ([\d.]+)%", alt)
    assert sum(int(n) for n, _, _ in bins) == TRAIN
    error = sum(int(n) * abs(float(p) - float(a)) for n, p, a in bins) / TRAIN / 100
    assert float(re.search(r"calibration error ([\d.]+)\.", alt)[1]) == pytest.approx(error, abs=1e-3)
    right = sum(int(n) * float(a) / 100 for n, _, a in bins)
    assert right == pytest.approx((held_out.labels == model.out_of_fold.argmax(axis=1)).sum(), abs=0.5)


def test_the_settings_are_those_of_the_manifest(dom: Page, small: runs.Run) -> None:
    rows = dom.rows("settings")
    settings = {row[0]: row[1] for row in rows}
    assert (settings["seed"], settings["refit"], settings["split"]) == ("0", "yes", "folds 2 · repeats 1")
    assert settings["rows"] == f"train {TRAIN} · test {TEST}"
    assert small.manifest.config.data.source in settings["data"]
    versions = small.manifest.config.versions
    assert settings["versions"] == " · ".join(f"{name} {version}" for name, version in versions.items())
    assert {row[0] for row in rows} > set(type(MLP).model_fields) - {"net"}
    assert ["learning_rate", f"{MLP.learning_rate:g}", "peak learning rate"] in rows
    assert dom.find("h3", "settings")[0][1] == "sklearn-mlp (mlp)"
    assert dom.rows("fits")[1:] == [
        [f"sklearn-mlp {split}", epochs, "1.5"]
        for split, epochs in (("fold 1", "4"), ("fold 2", "5"), ("all rows", "5"))
    ]


def test_rows_of_repeated_folds_are_shown_once_and_text_is_escaped(
    digits: data.Dataset, held_out: HeldOut, model: Predictions, tmp_path: Path
) -> None:
    """Read a run without fits or a submission, on data with test labels, whose blend has temperatures."""
    turned = np.roll(model.out_of_fold, 1, axis=1)  # in the second repeat, each prediction is another
    twice = np.concatenate([model.out_of_fold, turned])
    again = HeldOut(*(np.tile(array, 2) for array in (held_out.rows, held_out.folds, held_out.labels)))
    probabilities = {"sklearn-mlp": twice[::-1], "keras-mlp": twice, BLEND: twice}
    run = write_run(
        tmp_path / "twice", digits, again,
        [Predictions(name, each, model.test) for name, each in probabilities.items()],
        scores={name: score_of(again, each, test_accuracy=0.9) for name, each in probabilities.items()},
        config=changed(config_of(digits, ["sklearn-mlp"]), **{"data.source": "<b>&</b> more"}),
        blend=WeightedCombiner(
            weights=(0.25, 0.75), inverse_temperatures=(0.5, 0.8), inverse_temperature=1.25, converged=False
        ),
        stopped_early="<i>Ctrl-C</i>", failed_fits={"keras-mlp fold 2": "out of <b>memory</b>"},
    )  # fmt: skip
    dom = Page(reports.write(run, digits.source))
    assert not dom.find("section", id="curves")
    assert dom.rows("scores")[0] == ["model", "accuracy", "95% interval", "on test", "fit seconds"]
    assert dom.rows("blend")[1:] == [
        ["sklearn-mlp", "0.250", "2.00"], ["keras-mlp", "0.750", "1.25"], ["blend", "1.000", "0.80"],
    ]  # fmt: skip
    assert "the optimiser found none" in dom.find("section", id="blend")[0][1]
    assert "Stopped early: <i>Ctrl-C</i>" in dom.find("header")[0][1]
    assert dom.find("li", "fits")[0][1] == "keras-mlp fold 2: out of <b>memory</b>"
    assert "<b>&</b> more" in {row[0]: row[1] for row in dom.rows("settings")}["data"]
    assert not dom.find("b") + dom.find("i")
    wrong = (twice.argmax(axis=1) != again.labels).reshape(2, -1).any(axis=0)
    assert dom.facts[f"errors, of {TRAIN} digits"] == str(wrong.sum())
    for section, count in (("misclassified", report_data.MAX_MISCLASSIFIED), ("samples", 24)):
        shown = [text.rpartition(" row ")[2] for _, text in dom.find("li", section)]
        assert len(shown) == len(set(shown)) == count


def test_a_run_without_a_mistake_says_so(
    digits: data.Dataset, held_out: HeldOut, model: Predictions, tmp_path: Path
) -> None:
    perfect = replace(model, out_of_fold=np.eye(10, dtype=np.float32)[held_out.labels])
    page = reports.write(write_run(tmp_path / "perfect", digits, held_out, [perfect]))
    assert not Page(page).find("li", "misclassified")
    assert page.read_text(encoding="utf-8").count("None: every prediction is right.") == 2


def test_a_minutes_run_is_reported_while_it_is_fitted(
    digits: data.Dataset, held_out: HeldOut, model: Predictions, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    members = [replace(model, name=f"cnn-{number}") for number in (1, 2)]
    cnn = RECIPES["cnn"].settings
    raw = score_of(held_out, model.out_of_fold)
    adjusted = changed(raw, accuracy=raw.accuracy + 0.01, raw=raw)
    run = write_run(
        tmp_path / "quick", digits, held_out, members,
        scores={member.name: adjusted for member in members},
        config=config_of(digits, ["cnn"], minutes=2.0, cores=2, threads=None),
        settings={"cnn-1": cnn.replace(epochs=11), "cnn-2": cnn.replace(epochs=13)},
        fits={"cnn-1 fold 1": changed(fit("fold 1", 2, "cnn-1"), recipe="cnn")},
    )  # fmt: skip
    epochs = [{"train_loss": 0.5, "train_accuracy": 0.9, "valid_loss": 0.5, "valid_accuracy": 0.8}]
    so_far = [
        (Member(name=f"{recipe}-{number}", recipe=recipe, settings=cnn), epochs)
        for recipe, number in (("keras-mlp", 1), ("cnn", 1), ("cnn", 3))
    ]
    monkeypatch.setattr(drafts, "curves_so_far", lambda _: so_far)
    dom = Page(reports.write(run))
    assert "Still being fitted, and so only in these curves: cnn-3." in dom.find("section", id="curves")[0][1]
    assert "after the last epoch: keras-mlp-1 20 on validation digits; " in dom.alts("curves")[0]
    assert "; cnn 25 on validation digits; " in dom.alts("curves")[0]
    errors = round((1 - raw.accuracy) * TRAIN)
    assert dom.facts[f"errors, of {TRAIN} digits: raw {raw.accuracy:.4f}"] == str(errors)
    assert dom.find("h3", "settings")[0][1] == "cnn-1, cnn-2 (keras)"
    assert ["epochs", "11 to 13"] in [row[:2] for row in dom.rows("settings")]


def test_the_command_reports_the_newest_run(small: runs.Run, tmp_path: Path) -> None:
    result = typed("report", cwd=tmp_path)
    told = f"{tmp_path}/submissions: holds no run; `train` makes one, or name another folder with --out"
    assert result == Result(1, "", f"Error: {told}\n")
    for name, day in (("b", 2), ("a", 3), ("c", 1)):
        shutil.copytree(small.folder, tmp_path / "submissions" / name)
        created = datetime.fromisoformat(f"2026-01-0{day}T00:00:00+00:00")
        runs.write_manifest(tmp_path / "submissions" / name, changed(small.manifest, created=created))
    result = typed("report", "--json", "--png", cwd=tmp_path)
    assert json.loads(result.out) == {"run": "submissions/a", "report": "submissions/a/report/report.html"}
    files = {path.name: path for path in (tmp_path / "submissions/a/report").iterdir()}
    names = [*FIGURES, "misclassified", "samples", "training-digits"]
    assert set(files) == {"report.html", *(f"{name}.png" for name in names)}
    for name in names:
        picture = Image.open(files[f"{name}.png"])
        assert picture.width >= 1_000
        assert picture.getpixel((0, 0))[:3] == (255, 255, 255)  # light, for a slide
        assert len(picture.info["Description"]) > 20


def test_train_writes_the_report_at_once(folder: Path, tmp_path: Path) -> None:
    arguments = ("--recipe", "sklearn-mlp-plain", "--set", "epochs=2", "--name", "n", "--report")
    result = typed("train", "--data-dir", folder, *arguments, cwd=tmp_path)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "submissions/n/submission.csv"
    assert result.err.splitlines()[-2] == "Report: submissions/n/report/report.html"
    assert Page(tmp_path / "submissions/n/report/report.html").find("h1")


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0%"), (1e-9, "<0.1%"), (0.0005, "0.1%"), (0.98765, "98.8%"), (0.9995, ">99.9%"), (1, "100.0%")],
)
def test_no_share_is_rounded_to_none_or_all(share: float, text: str) -> None:
    assert percent(share) == text
