"""The order of the rooms: each imports only from earlier ones, and quick commands import nothing slow."""

import ast
import re

import pytest
from conftest import ROOT, Run

from digit_recognizer import runs

PACKAGE = ROOT / "digit_recognizer"
# From the ground up: a room, a file or a sub-package, imports only from rooms before it.
ORDER = [
    "version",
    "environment",
    "errors",
    "files",
    "signals",
    "predictions",
    "scoring",
    "submission",
    "records",
    "settings",
    "splits",
    "nets",
    "data",
    "recipes",
    "job",
    "blending",
    "manifest",
    "training",
    "runs",
    "schedule",
    "drafts",
    "results",
    "stages",
    "pipeline",
    "inference",
    "reports",
    "leaderboard",
    "cli",
    "notebook",
    "__main__",
]
BESIDE = {"inference", "reports", "leaderboard"}  # nothing on the line from CSV to submission knows of them
SLOW = {
    "cv2",
    "jinja2",
    "joblib",
    "kaggle",
    "keras",
    "matplotlib",
    "PIL",
    "pandas",
    "scipy",
    "sklearn",
    "tensorflow",
    "threadpoolctl",
}
ONLY_IN = {
    "click": {"cli.commands", "cli.draw", "cli.kaggle", "cli.options", "cli.predict"},
    "PIL": {"inference.files", "reports.page"},
    "rich": {"cli.progress"},
    "cv2": {"nets.augment", "inference.paper", "inference.preparation"},
    "filelock": {"files"},
    "jinja2": {"inference.page", "reports.page"},
    "joblib": {"training.machine", "training.workers"},
    "keras": {"nets.keras_model"},
    "kaggle": {"leaderboard.worker"},
    "kagglesdk": {"leaderboard.worker"},
    "matplotlib": {"reports.drawing", "reports.figures"},
    "requests": {"leaderboard.account"},
    "tensorflow": {"nets.keras_model", "nets.keras_net"},
    "threadpoolctl": {"training.fit"},
}
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def room(module: str) -> str:
    return module.split(".")[0]


def imports(module: str) -> set[str]:
    """Return the dotted names of all that a module imports, also inside its functions."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(module) for module in MODULES} - {"__init__"} == set(ORDER)


def rooms_used(module: str) -> set[str]:
    """Return the rooms that a module imports from."""
    names = {name.split(".")[1] for name in imports(module) if name.startswith("digit_recognizer.")}
    assert names <= set(ORDER)
    return names


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__"}))
def test_a_room_imports_only_from_earlier_rooms(module: str) -> None:
    before = ORDER[: ORDER.index(room(module)) + 1]
    assert not rooms_used(module) - set(before)
    assert room(module) in {*BESIDE, "cli", "notebook"} or not rooms_used(module) & BESIDE


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_in_its_rooms_alone(library: str) -> None:
    users = {module for module in MODULES if library in {name.split(".")[0] for name in imports(module)}}
    assert users == ONLY_IN[library]


QUICK = [
    ["--help"],
    ["--version"],
    ["recipes"],
    ["check", "tiny/submission.csv"],
    ["runs", "--out", "."],
    *([command, "--help"] for command in ("train", "validate", "ensemble", "report", "predict")),
    *([command, "--help"] for command in ("download", "submit", "submissions")),
]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_quick_commands_import_nothing_slow(run: Run, tiny_run: runs.Run, arguments: list[str]) -> None:
    result = run(*arguments, cwd=tiny_run.folder.parent, python=("-X", "importtime"))
    assert result.code == 0, result.err
    imported = {name.split(".")[0] for name in re.findall(r"\|\s+(\S+)$", result.err, re.MULTILINE)}
    assert "click" in imported
    assert not imported & SLOW
