"""Small real digits, and the program as its user runs it."""

import csv
import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from digit_recognizer import data

ROOT = Path(__file__).resolve().parent.parent
TRAIN, TEST = 600, 150  # rows of the sample that the tests use


def first_rows(name: str, rows: int) -> str:
    """The header and so many rows of one of the sample's files."""
    with gzip.open(ROOT / "data" / "sample" / name, "rt") as lines:
        return "".join(line.rstrip() + "\n" for line, _ in zip(lines, range(rows + 1), strict=False))


@pytest.fixture(scope="session")
def train_csv() -> str:
    return first_rows("train.csv.gz", TRAIN)


@pytest.fixture(scope="session")
def test_csv() -> str:
    return first_rows("test.csv.gz", TEST)


@pytest.fixture(scope="session")
def test_labels() -> list[int]:
    """What the sample's unlabelled digits are."""
    with (ROOT / "data" / "sample" / "test_labels.csv").open() as file:
        return [int(row["Label"]) for row in csv.DictReader(file)][:TEST]


@pytest.fixture
def folder(tmp_path: Path, train_csv: str, test_csv: str) -> Path:
    """A folder as a user would fill it, the test's own to spoil."""
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "train.csv").write_text(train_csv)
    (folder / "test.csv").write_text(test_csv)
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory, train_csv: str, test_csv: str) -> data.Dataset:
    folder = tmp_path_factory.mktemp("digits")
    (folder / "train.csv").write_text(train_csv)
    (folder / "test.csv").write_text(test_csv)
    return data.load(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, train_csv: str, test_csv: str) -> Path:
    """Where a module's runs are made, with digits in its data/."""
    home = tmp_path_factory.mktemp("home")
    (home / "data").mkdir()
    (home / "data" / "train.csv").write_text(train_csv)
    (home / "data" / "test.csv").write_text(test_csv)
    return home


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`python -m digit_recognizer ...` in an empty folder, as its user types it."""

    def run(*arguments: object, cwd: Path = tmp_path, python: tuple[str, ...] = ()) -> Ended:
        command = [sys.executable, *python, "-m", "digit_recognizer", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast ones first: what is broken shows in seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
