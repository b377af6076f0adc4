"""scripts/walkthrough.ipynb, executed as it is in a folder that plays /kaggle/working."""

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE, ROOT, write_digits

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytestmark = pytest.mark.slow
NOTEBOOK = ROOT / "scripts" / "walkthrough.ipynb"


@pytest.fixture(scope="module")
def executed(
    tmp_path_factory: pytest.TempPathFactory, train_csv: str, test_csv: str
) -> tuple[Path, list[dict[str, Any]]]:
    """The working folder, and the cells with their outputs."""
    working = tmp_path_factory.mktemp("working")
    write_digits(working / "data", train_csv, test_csv)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=DEADLINE, kernel_name="python3", resources={"metadata": {"path": str(working)}}
    )
    # On one core, so that TensorFlow is imported once; test_notebook.py fits side by side in a notebook.
    one_core = {"LOKY_MAX_CPU_COUNT": "1"}
    client.execute(env={**os.environ, **one_core, "PYTHONPATH": str(ROOT), "KAGGLE_WORKING": str(working)})
    return working, [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell: dict[str, Any]) -> str:
    return "".join(output.get("text", "") for output in cell["outputs"])


def pictures(cell: dict[str, Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell["outputs"])


def the_cell(cells: list[dict[str, Any]], code: str) -> dict[str, Any]:
    """Return the only cell that holds this code."""
    (cell,) = [cell for cell in cells if code in cell["source"]]
    return cell


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)


def test_digits_curves_and_mistakes_are_drawn(executed: tuple[Path, list[dict[str, Any]]]) -> None:
    _, cells = executed
    assert "600 training and 150 test digits from" in printed(the_cell(cells, "data.load"))
    for code in ("data.load", "fit.curve", "read as"):
        assert pictures(the_cell(cells, code)) == 1
    assert "held-out digits are read wrong" in printed(the_cell(cells, "read as"))


def test_the_report_is_shown(executed: tuple[Path, list[dict[str, Any]]]) -> None:
    (output,) = the_cell(executed[1], "both.report()")["outputs"]
    assert output["data"]["text/html"].startswith("<div><iframe srcdoc=")


def test_a_picture_is_read(executed: tuple[Path, list[dict[str, Any]]]) -> None:
    file, label, *_ = printed(the_cell(executed[1], "predict(picture")).split()
    assert file.endswith("/digit.png:")
    assert label.rstrip(",").isdigit()


def test_the_blend_is_the_submission(executed: tuple[Path, list[dict[str, Any]]]) -> None:
    working, cells = executed
    path, *words = printed(the_cell(cells, "submission.check")).split()
    assert words == ["has", "150", "rows"]
    assert (working / "submission.csv").read_bytes() == (working / path).read_bytes()
