"""The order of the rooms: each module knows only those above it, and quick commands load nothing slow."""

import ast
import re

import pytest
from conftest import ROOT, Run

PACKAGE = ROOT / "digit_recognizer"
# From the ground up: a room, a file or a sub-package, imports only from rooms before it.
ORDER = [
    "errors",
    "files",
    "csv_parser",
    "submission",
    "data",
    "nets",
    "settings",
    "recipes",
    "scoring",
    "ensemble",
    "splits",
    "training",
    "schedule",
    "drafts",
    "runs",
    "pipeline",
    "openml",
    "report",
    "leaderboard",
    "cli",
    "__main__",
]
SLOW = {"jinja2", "tensorflow", "keras", "sklearn", "matplotlib", "scipy", "pandas", "kaggle", "cv2"}
ONLY_IN = {
    "click": {"cli.commands", "cli.kaggle"},
    "rich": {"cli.commands", "cli.kaggle"},
    "cv2": {"nets.augment"},
    "tensorflow": {"nets.keras_net"},
    "keras": {"nets.keras_net"},
    "matplotlib": {"report.figures", "report.themes"},
    "kaggle": {"leaderboard.worker"},
    "kagglesdk": {"leaderboard.worker"},
    "requests": {"leaderboard.worker"},
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


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"__init__"}))
def test_imports_go_one_way(module: str) -> None:
    rooms = {name.split(".")[1] for name in imports(module) if name.startswith("digit_recognizer.")}
    later = (rooms & set(ORDER)) - set(ORDER[: ORDER.index(room(module)) + 1])
    assert not later


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_librarys_only_room(library: str) -> None:
    users = {module for module in MODULES if library in {name.split(".")[0] for name in imports(module)}}
    assert users == ONLY_IN[library]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["recipes"],
        ["check", "submission.csv"],
        ["download", "--help"],
        ["submissions", "--help"],
        ["submit", "--help"],
    ],
)
def test_quick_commands_import_nothing_slow(run: Run, tmp_path: object, arguments: list[str]) -> None:
    (tmp_path / "submission.csv").write_text(
        "ImageId,Label\n" + "".join(f"{i},3\n" for i in range(1, 28_001))
    )
    ended = run(*arguments, python=("-X", "importtime"))
    assert ended.code == 0, ended.err
    loaded = {name.split(".")[0] for name in re.findall(r"\|\s+(\S+)$", ended.err, re.MULTILINE)}
    assert "click" in loaded
    assert not loaded & SLOW
