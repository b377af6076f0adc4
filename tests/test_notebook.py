"""scripts/walkthrough.ipynb, and further cells, in a real kernel whose folder plays /kaggle/working."""

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, ROOT, write_digits

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytestmark = pytest.mark.slow
NOTEBOOK = nbformat.read(ROOT / "scripts" / "walkthrough.ipynb", as_version=4)
CELLS = [
    'side = train("sklearn-mlp-plain", settings={"epochs": 2}, folds=2, jobs=2)\nprint(side.score.accuracy)',
    "print(scored.submission)",
    'from digit_recognizer.errors import OptionError\ntry:\n    train(recipes="nosuch")\n'
    "except OptionError as error:\n    print(error)",
]
Executed = tuple[Path, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory, train_csv: str, test_csv: str) -> Executed:
    """The working folder, and the cells with their outputs."""
    working = tmp_path_factory.mktemp("working")
    write_digits(working / "data", train_csv, test_csv)
    notebook = nbformat.from_dict({**NOTEBOOK, "cells": [*NOTEBOOK.cells]})
    notebook.cells += map(nbformat.v4.new_code_cell, CELLS)
    client = nbclient.NotebookClient(
        notebook, timeout=DEADLINE, kernel_name="python3", resources={"metadata": {"path": str(working)}}
    )
    # On one core, so that TensorFlow is imported once; only `side` is fitted in two processes.
    one_core = {"LOKY_MAX_CPU_COUNT": "1"}
    client.execute(env={**os.environ, **one_core, "PYTHONPATH": str(ROOT), "KAGGLE_WORKING": str(working)})
    return working, [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell: dict[str, Any]) -> str:
    return "".join(output.get("text", "") for output in cell["outputs"])


def the_cell(executed: Executed, code: str) -> dict[str, Any]:
    """Return the only cell that holds this code."""
    (cell,) = [cell for cell in executed[1] if code in cell["source"]]
    return cell


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)


def test_digits_curves_and_errors_are_drawn(executed: Executed) -> None:
    assert "600 training and 150 test digits from" in printed(the_cell(executed, "data.load"))
    for code in ("data.load", "fit.curve", "predicted as"):
        shown = the_cell(executed, code)["outputs"]
        assert sum("image/png" in output.get("data", {}) for output in shown) == 1
    assert "held-out digits are misclassified" in printed(the_cell(executed, "predicted as"))


def test_train_shows_progress_in_the_cell_and_fits_side_by_side(executed: Executed) -> None:
    cell = the_cell(executed, "side =")
    shown = [output["data"]["text/html"] for output in cell["outputs"] if "data" in output]
    assert any("epoch 2 of 2, validation accuracy 0." in html for html in shown)
    assert 0.3 < float(printed(cell).split()[-1]) < 1
    assert "\x1b" not in printed(cell)


def test_the_report_is_shown_inline(executed: Executed) -> None:
    (output,) = the_cell(executed, "both.report()")["outputs"]
    assert output["data"]["text/html"].startswith("<div><iframe srcdoc=")
    assert "Validation accuracy" in output["data"]["text/html"]


def test_a_picture_is_predicted(executed: Executed) -> None:
    file, label, *_ = printed(the_cell(executed, "predict(picture")).split()
    assert file.endswith("/digit.png:")
    assert label.rstrip(",").isdigit()


def test_the_newest_submission_lies_where_kaggle_looks(executed: Executed) -> None:
    path, *words = printed(the_cell(executed, "submission.check")).split()
    assert words == ["has", "150", "rows"]
    newest = max((executed[0] / path).parent.parent.glob("*/submission.csv"))
    assert (executed[0] / "submission.csv").read_bytes() == newest.read_bytes()
    assert printed(the_cell(executed, "print(scored.submission)")) == "None\n"


def test_a_mistake_is_the_packages_error(executed: Executed) -> None:
    assert printed(the_cell(executed, "nosuch")).startswith("no recipe 'nosuch'; there are keras-mlp,")
