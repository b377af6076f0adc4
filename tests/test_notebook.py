"""The package's functions in the cells of a real notebook, in a folder that plays /kaggle/working."""

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from digit_recognizer import submission

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytestmark = pytest.mark.slow
TEST_ROWS = 150

CELLS = [
    "from digit_recognizer import train, validate, ensemble, report",
    'first = train(recipes=["sklearn-mlp-plain"], settings={"epochs": 2}, name="first", data_dir="digits")',
    "print(first.submission, first.score.accuracy)",
    'second = train(recipes=["sklearn-mlp-plain"], settings={"epochs": 3}, data_dir="digits", name="second")',
    'both = ensemble(first, "second", name="both")\nprint(both)',
    'scored = validate(folds=2, recipes=["sklearn-mlp-pca"], data_dir="digits", name="scored")',
    "print(scored.submission)",
    "first.report()",
    'from digit_recognizer.errors import DigitRecognizerError\ntry:\n    train(recipes="nosuch")\n'
    "except DigitRecognizerError as error:\n    print(error)",
]


@pytest.fixture(scope="module")
def executed(
    tmp_path_factory: pytest.TempPathFactory, train_csv: str, test_csv: str
) -> tuple[Path, list[list[dict[str, Any]]]]:
    """The working folder, and the outputs of each cell."""
    working = tmp_path_factory.mktemp("working")
    (working / "digits").mkdir()
    (working / "digits" / "train.csv").write_text(train_csv)
    (working / "digits" / "test.csv").write_text(test_csv)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KAGGLE_WORKING": str(working)}
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(working)}}
    )
    client.execute(env=environment)
    return working, [cell.outputs for cell in notebook.cells]


def text_of(outputs: list[dict[str, Any]]) -> str:
    return "".join(output.get("text", "") for output in outputs)


def test_train_shows_progress_in_the_cell(executed: tuple[Path, list[list[dict[str, Any]]]]) -> None:
    shown = [output["data"]["text/html"] for output in executed[1][1] if "data" in output]
    assert any("epoch 2 of 2, validation accuracy 0." in html for html in shown)
    assert "\x1b" not in text_of(executed[1][1])


def test_a_run_gives_its_submission_and_score(executed: tuple[Path, list[list[dict[str, Any]]]]) -> None:
    path, accuracy = text_of(executed[1][2]).split()
    assert path == "submissions/first/submission.csv"
    assert 0.3 < float(accuracy) < 1
    assert text_of(executed[1][6]).strip() == "None"


def test_the_newest_submission_lies_where_kaggle_looks(
    executed: tuple[Path, list[list[dict[str, Any]]]],
) -> None:
    working, outputs = executed
    assert text_of(outputs[4]).splitlines()[-1].startswith("submissions/both: 0.")
    newest = (working / "submissions/both/submission.csv").read_bytes()
    assert (working / "submission.csv").read_bytes() == newest
    assert len(submission.check(working / "submission.csv", TEST_ROWS).labels) == TEST_ROWS


def test_the_report_is_shown_inline(executed: tuple[Path, list[list[dict[str, Any]]]]) -> None:
    (output,) = executed[1][7]
    html = output["data"]["text/html"]
    assert html.startswith("<div><iframe srcdoc=")
    assert "Run first" in html


def test_a_mistake_is_the_packages_error(executed: tuple[Path, list[list[dict[str, Any]]]]) -> None:
    assert text_of(executed[1][8]).startswith("no recipe 'nosuch'; there are keras-mlp,")
