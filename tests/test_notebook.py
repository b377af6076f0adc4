"""scripts/walkthrough.ipynb, and further cells, in a real kernel whose folder plays /kaggle/working."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ROOT, write_digits

from scripts import walkthrough

CELLS = [
    "from digit_recognizer import validate\n"
    'side = validate("sklearn-mlp-plain", settings={"epochs": 2}, folds=2, jobs=2)\n'
    "print(side.submission, side.score.accuracy)",
    'from digit_recognizer.errors import OptionError\ntry:\n    train(recipes="nosuch")\n'
    "except OptionError as error:\n    print(error)",
]
# A path, the name of a run, a time, seconds.
OF_ONE_MACHINE = re.compile(r"(?<![\w<])/\w+/|\w:\\|\d{8}-\d{6}|\d:\d\d|\d s\b")
Cell = dict[str, Any]
STORED: list[Cell] = [cell for cell in walkthrough.read().cells if cell.cell_type == "code"]
Executed = tuple[Path, list[Cell]]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory, train_csv: str, test_csv: str) -> Executed:
    """The working folder, and the cells with their outputs."""
    working = tmp_path_factory.mktemp("working")
    write_digits(working / "data", train_csv, test_csv)
    notebook = walkthrough.read()
    notebook.cells += map(nbformat.v4.new_code_cell, CELLS)
    # On one core, so that TensorFlow is imported once; only `side` is fitted in two processes.
    walkthrough.execute(notebook, working, {"LOKY_MAX_CPU_COUNT": "1", "KAGGLE_WORKING": str(working)})
    return working, [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell: Cell) -> str:
    return "".join(output.get("text", "") for output in cell["outputs"])


def html(cell: Cell) -> str:
    return "".join(output.get("data", {}).get("text/html", "") for output in cell["outputs"])


def the_cell(cells: list[Cell], code: str) -> Cell:
    """Return the only cell that holds this code."""
    (cell,) = [cell for cell in cells if code in cell["source"]]
    return cell


def test_what_is_stored_is_small_and_of_no_machine() -> None:
    assert walkthrough.NOTEBOOK.stat().st_size < 200_000
    assert [cell["execution_count"] for cell in STORED] == list(range(1, len(STORED) + 1))
    for cell in STORED:
        assert not OF_ONE_MACHINE.search(printed(cell) + html(cell)), cell["source"]
        assert all(output["output_type"] != "error" for output in cell["outputs"])
    pictures = [data for cell in STORED for output in cell["outputs"] for data in output.get("data", {})]
    assert pictures.count("image/png") == 3


def test_the_readme_tells_what_blending_gains() -> None:
    table = html(the_cell(STORED, "ensemble(plain, small)"))
    errors = re.findall(r"</th>\s*<td>(\d+)</td>", table)
    p = printed(the_cell(STORED, "compare(")).split()[-1]
    found = re.search(
        r"`plain` .* (\d+) of 6,000 .* `small` (\d+), `blended` (\d+) \(one run;\nMcNemar's p = (.*)\)",
        (ROOT / "README.md").read_text(encoding="utf-8"),
    )
    assert found
    assert [*found.groups()] == [*errors, p]
    *alone, blend = map(int, errors)
    assert blend < min(alone)
    assert float(p) < 0.05


@pytest.mark.slow
def test_the_cells_show_what_is_stored(executed: Executed) -> None:
    for stored, cell in zip(STORED, executed[1], strict=False):
        shown = walkthrough.to_store(cell["outputs"])
        assert walkthrough.outline(shown) == walkthrough.outline(stored["outputs"]), cell["source"]
    assert OF_ONE_MACHINE.search(printed(the_cell(executed[1], "plain = train")))  # is not stored
    assert printed(the_cell(executed[1], "data.load")) == "600 training and 150 test digits\n"


@pytest.mark.slow
def test_fits_show_their_progress_in_the_cell_side_by_side(executed: Executed) -> None:
    cell = the_cell(executed[1], "side =")
    assert "epoch 2 of 2, validation accuracy 0." in html(cell)
    submission, accuracy = printed(cell).split()[-2:]
    assert submission == "None"
    assert 0.3 < float(accuracy) < 1
    assert "\x1b" not in printed(cell)


@pytest.mark.slow
def test_the_report_is_shown_inline(executed: Executed) -> None:
    cell = the_cell(executed[1], "blended.report()")
    assert html(cell).startswith("<div><iframe srcdoc=")
    assert "Validation accuracy" in html(cell)


@pytest.mark.slow
def test_the_newest_submission_lies_where_kaggle_looks(executed: Executed) -> None:
    newest = max((executed[0] / "submissions").glob("*/submission.csv"))
    assert (executed[0] / "submission.csv").read_bytes() == newest.read_bytes()
    assert printed(the_cell(executed[1], "submission.check")) == "submission.csv has 150 rows\n"


@pytest.mark.slow
def test_a_mistake_is_the_packages_error(executed: Executed) -> None:
    assert printed(the_cell(executed[1], "nosuch")).startswith("no recipe 'nosuch'; there are keras-mlp,")
