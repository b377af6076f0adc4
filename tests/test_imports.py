"""The order of the rooms: each module knows only those above it, and quick commands load nothing slow."""

import ast
import re

import pytest
from conftest import ROOT, Run

PACKAGE = ROOT / "digit_recognizer"
# Top to bottom, as the README's file tree: a module imports from modules before it alone.
ORDER = [
    "errors",
    "folders",
    "data",
    "augment",
    "passes",
    "keras_net",
    "sklearn_net",
    "models",
    "settings",
    "recipes",
    "scoring",
    "ensemble",
    "splits",
    "training",
    "planner",
    "submission",
    "drafts",
    "runs",
    "pipeline",
    "tables",
    "openml",
    "themes",
    "figures",
    "report",
    "kaggle_advice",
    "kaggle_client",
    "kaggle_api",
    "downloading",
    "candidate",
    "submitting",
    "cli_kaggle",
    "cli",
    "__main__",
]
SLOW = {"jinja2", "tensorflow", "keras", "sklearn", "matplotlib", "scipy", "pandas", "kaggle", "cv2"}
ONLY_IN = {
    "click": {"cli", "cli_kaggle"},
    "rich": {"cli", "cli_kaggle"},
    "cv2": {"augment"},
    "tensorflow": {"keras_net"},
    "keras": {"keras_net"},
    "matplotlib": {"figures", "themes"},
    "kaggle": {"kaggle_client"},
    "kagglesdk": {"kaggle_client"},
    "requests": {"kaggle_client"},
}


def imports(module: str) -> set[str]:
    """Dotted names of all that a module imports, also inside its functions."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_its_place_in_the_order() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_imports_go_one_way(module: str) -> None:
    ours = {name.split(".")[1] for name in imports(module) if name.startswith("digit_recognizer.")}
    later = (ours & set(ORDER)) - set(ORDER[: ORDER.index(module)])
    assert not later


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_librarys_only_room(library: str) -> None:
    users = {module for module in ORDER if library in {name.split(".")[0] for name in imports(module)}}
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
