"""The order of the modules: each imports only from earlier ones, and quick commands import nothing slow."""

import ast
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from conftest import ROOT, run_program

from digit_recognizer import runs

PACKAGE = ROOT / "digit_recognizer"
# From the lowest layer up: a module, a file or a sub-package, imports only from modules before it.
ORDER = [
    "version", "environment", "errors", "files", "signals", "predictions", "submission", "records", "scoring",
    "settings", "splits", "nets", "data", "recipes", "job", "blending", "manifest", "training",
    "runs", "schedule", "drafts", "expected", "results", "stages", "pipeline", "comparison", "inference",
    "reports", "leaderboard", "tuning", "cli", "notebook", "__main__",
]  # fmt: skip
# Nothing on the line from CSV to submission knows of them.
BESIDE = {"inference", "reports", "leaderboard", "tuning"}
SLOW = {
    "cv2", "dask", "distributed", "jinja2", "joblib", "kaggle", "keras", "matplotlib", "optuna", "PIL",
    "pandas", "scipy", "sklearn", "tensorflow", "threadpoolctl",
}  # fmt: skip
ONLY_IN = {
    "click": {f"cli.{file}" for file in ("commands", "compare", "kaggle", "options", "predict", "tune")},
    "PIL": {"inference.files", "reports.__init__"},
    "rich": {"cli.progress"},
    "cv2": {"nets.augment", "inference.paper", "inference.preparation"},
    "dask": {"training.cluster"},
    "distributed": {"training.cluster"},
    "filelock": {"files"},
    "jinja2": {"inference.page", "reports.__init__"},
    "joblib": {"training.machine", "training.workers"},
    "keras": {"nets.keras_model"},
    "kaggle": {"leaderboard.worker"},
    "kagglesdk": {"leaderboard.worker"},
    "optuna": {"tuning.judge"},
    "matplotlib": {"reports.drawing", "reports.figures"},
    "requests": {"leaderboard.account"},
    "tensorflow": {"nets.keras_model", "nets.keras_net"},
    "threadpoolctl": {"training.fit"},
}
FILES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def module(file: str) -> str:
    return file.split(".")[0]


def read_imports(file: str) -> set[str]:
    """Return the dotted names of all that a file imports, also inside its functions."""
    names = set()
    for node in ast.walk(ast.parse(FILES[file].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


IMPORTS = {file: read_imports(file) for file in sorted(FILES) if file != "__init__"}


def test_every_module_has_its_place_in_the_order() -> None:
    assert set(map(module, IMPORTS)) - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("file", IMPORTS)
def test_a_module_imports_only_from_earlier_ones(file: str) -> None:
    used = {name.split(".")[1] for name in IMPORTS[file] if name.startswith("digit_recognizer.")}
    assert used <= set(ORDER[: ORDER.index(module(file)) + 1])
    assert module(file) in {*BESIDE, "cli", "notebook"} or not used & BESIDE


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_imported_in_its_files_alone(library: str) -> None:
    users = {file for file, names in IMPORTS.items() if library in {name.split(".")[0] for name in names}}
    assert users == ONLY_IN[library]


# Whether the package is in this environment, as `make install` puts it there.
INSTALLED = any(found.read_text("direct_url.json") for found in distributions(name="digit-recognizer"))


@pytest.mark.skipif(not INSTALLED, reason="the package is not installed here")
def test_beside_a_folder_of_its_name_the_installed_package_is_imported(tmp_path: Path) -> None:
    (tmp_path / "digit_recognizer" / "data").mkdir(parents=True)  # as in the folder above a clone
    code = "import digit_recognizer.data; print(digit_recognizer.data.__file__)"
    imported = run_program(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=None)
    assert imported.out.endswith("__init__.py\n"), imported.err


def test_the_wheel_holds_every_sub_package() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(setuptools["packages"]) == folders | set(setuptools["package-dir"])


QUICK = """
import sys
from pathlib import Path
from digit_recognizer.cli import commands
for line in sys.argv[1:]:
    sys.argv[1:] = line.split()
    try:
        commands.main()
    except SystemExit as end:
        assert not end.code, line
    assert len(list(Path("/proc/self/task").glob("*"))) <= 1, "threads that take a while to start"
    print("Imported after", line, *{name.split(".")[0] for name in sys.modules})
"""


def test_quick_commands_import_nothing_slow(tiny_run: runs.Run) -> None:
    helps = [f"{command} --help".strip() for command in ("", "train", "ensemble", "report", "submit")]
    lines = [*helps, "--version", "recipes", f"check {tiny_run.folder}/submission.csv", "runs --out ."]
    program = (sys.executable, "-c", QUICK, *lines)
    ended = run_program(*program, cwd=tiny_run.folder.parent, OPENBLAS_NUM_THREADS=None)
    assert ended.code == 0, ended.err
    imported = [line.split() for line in ended.out.splitlines() if line.startswith("Imported after")]
    assert len(imported) == len(lines)
    for words, line in zip(lines, imported, strict=True):
        assert "click" in line
        assert not (SLOW | ({"filelock", "numpy"} if words in helps else set())) & set(line[2:]), line
