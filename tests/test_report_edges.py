"""Reports of runs that are damaged, or come from a stranger."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import changed
from report_runs import MLP, Page, config_of, fit, predict, write_run

from digit_recognizer import data, reports, runs
from digit_recognizer.errors import RunError
from digit_recognizer.predictions import HeldOut, Predictions
from digit_recognizer.reports import figures, report_data

pytestmark = pytest.mark.slow


def test_a_stage_that_is_complete_meanwhile_does_not_end_the_report(
    again: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, probabilities = data.load, runs.probabilities_file(again.folder, 1)

    monkeypatch.setattr(data, "load", lambda folder: probabilities.unlink() or load(folder))
    assert reports.write(again).exists()


def unread(digits: data.Dataset) -> np.ndarray:
    """Return the same probability for each digit in each test row."""
    return np.full((len(digits.test), 10), 0.1, np.float32)


def test_probabilities_that_do_not_fit_the_run_or_the_data_raise_run_error(
    again: runs.Run, held_out: HeldOut, model: Predictions
) -> None:
    turned = HeldOut(held_out.rows[::-1], held_out.folds, held_out.labels)
    none = HeldOut(held_out.rows[:0], held_out.folds[:0], held_out.labels[:0])
    for rows, changes, message in (
        (held_out, {"out_of_fold": predict(held_out.labels, 0.01, seed=2)}, r"run.json says accuracy 0\.9"),
        (held_out, {"name": "another"}, "is damaged"),
        (turned, {}, "are not of the digits in"),
        (none, {"out_of_fold": model.out_of_fold[:0]}, "no row is held out"),
    ):
        runs.write_probabilities(runs.probabilities_file(again.folder, 1), rows, [replace(model, **changes)])
        with pytest.raises(RunError, match=rf"^[^\n]*{message}[^\n]+$"):
            reports.write(again)
    assert not (again.folder / "report").exists()


def test_hostile_names_stay_inside_the_page(digits: data.Dataset, tmp_path: Path) -> None:
    models = ["../../evil", "_hidden", "x" * 200]  # an array has no stranger names
    names = [*models, "$\\frac{$", "<script>alert(1)</script>", 'x" onerror="y', "a\x1b[2Jb\nc", "é" * 300]
    rows = np.arange(30)
    held_out = HeldOut(rows, np.zeros(30, int), digits.train.labels[rows])
    predictions = [Predictions(name, predict(held_out.labels, 0.2), unread(digits)) for name in models]
    run = write_run(
        tmp_path / "out/n", digits, held_out, predictions, name="</title><script>",
        fits={f"{name} holdout": changed(fit("holdout", 1), model=name) for name in names},
        config=config_of(digits, models, versions={"digit_recognizer": "<script>"}),
        seconds={"<script>": 1.0}, failed_fits={"<script>": "<script>\x00"},
    )  # fmt: skip
    html = reports.write(run)
    dom = Page(html)
    assert not dom.find("script")
    assert not dom.root.findall(".//*[@onerror]")
    assert [row[0] for row in dom.rows("fits")].count("<script>alert(1)</script> holdout") == 1
    assert "<script>alert(1)</script>" in dom.find("svg", "curves")[0][1]
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", html.read_text(encoding="utf-8"))
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
    assert {path.name for path in run.folder.iterdir()} == {"run.json", "probabilities-1.npz", "report"}


def test_hundreds_of_models_make_a_page_of_the_most_accurate(digits: data.Dataset, tmp_path: Path) -> None:
    rows = np.arange(20)
    held_out = HeldOut(rows, np.zeros(20, int), digits.train.labels[rows])
    probabilities = [predict(held_out.labels, share) for share in (0.0, 0.5)]
    models = [Predictions(f"m{number}", probabilities[number % 2], unread(digits)) for number in range(250)]
    # The last fit has no epochs, and every other one no held-out rows.
    fits = {
        f"m{number} holdout": fit("holdout", number % 3, f"m{number}", valid=number % 2 == 0)
        for number in range(201)
    }
    settings = {name.name: MLP.replace(alpha=number / 1_000) for number, name in enumerate(models)}
    run = write_run(tmp_path / "n", digits, held_out, models, fits=fits, settings=settings)
    html = reports.write(run)
    dom = Page(html)
    assert [row[0] for row in dom.rows("scores")[1:5]] == ["m249", "m0", "m2", "m4"]
    assert "And 50 more, in run.json." in dom.find("section", id="scores")[0][1]
    assert len(dom.rows("scores")) == 201
    drawn = f"m249 and the {figures.MAX_INTERVALS - 1} most accurate others."
    assert drawn in dom.find("figcaption", "scores")[0][1]
    assert len(html.read_bytes()) < 500_000


def test_curves_of_very_many_fits_and_epochs_are_drawn_in_part(
    digits: data.Dataset, held_out: HeldOut, model: Predictions, tmp_path: Path
) -> None:
    fits = {"long": fit("holdout", 30_000)} | {str(n): fit(f"fold {n}", 1) for n in range(3_000)}
    run = write_run(tmp_path / "n", digits, held_out, [model], fits=fits)
    (drawn,) = report_data.read(run).curves.values()
    assert len(drawn) == report_data.MAX_FITS
    assert [len(curve) for curve in drawn[:2]] == [report_data.MAX_EPOCHS, 1]


def test_a_link_or_file_named_report_raises_run_error(again: runs.Run, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "photo.png").touch()
    report = again.folder / "report"
    for make in (lambda: report.symlink_to(precious), report.touch):
        make()
        with pytest.raises(RunError, match="report: is a link or a file"):
            reports.write(again)
        report.unlink()
    assert [path.name for path in precious.iterdir()] == ["photo.png"]


@pytest.mark.parametrize("source", ["gone", "x" * 5_000, "a\x00b", "a\nb"])
def test_a_source_that_is_no_folder_raises_run_error(small: runs.Run, source: str) -> None:
    moved = changed(small.manifest, **{"config.data.source": source})
    with pytest.raises(RunError) as error:
        reports.write(replace(small, manifest=moved))
    text = str(error.value)
    assert "no such folder; run small read its digits there, name their folder now with --data-dir" in text
    assert text.isprintable()
    assert len(text) < 400


def test_other_digits_raise_run_error(again: runs.Run, folder: Path, train_csv: str) -> None:
    assert reports.write(again, folder).exists()
    head, first, rest = train_csv.split("\n", 2)
    (folder / "train.csv").write_text(f"{head}\n{(int(first[0]) + 1) % 10}{first[1:]}\n{rest}")
    with pytest.raises(RunError) as error:
        reports.write(again, folder)
    told = "train.csv holds other digits than run small was made from; name their folder with --data-dir"
    assert str(error.value) == f"{folder}: {told}"
