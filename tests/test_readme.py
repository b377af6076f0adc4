"""The README is kept true: its commands run, its table and tree are the code's, and all is in it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_imports import ORDER

from digit_recognizer import recipes
from digit_recognizer.cli import commands
from scripts import readme

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("command", sorted(commands.cli.commands))
def test_every_command_is_documented(command: str) -> None:
    assert f"python -m digit_recognizer {command}" in TEXT


@pytest.mark.parametrize("command", ["train", "validate", "ensemble"])
def test_every_option_is_documented(command: str) -> None:
    for parameter in commands.cli.commands[command].params:
        option = max(parameter.opts, key=len)
        assert not option.startswith("--") or f"`{option}" in TEXT, option


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_every_recipe_has_evidence_and_is_documented(recipe: str) -> None:
    assert recipes.RECIPES[recipe].evidence is not None
    assert f"| `{recipe}` |" in TEXT


def test_the_table_is_what_the_recipes_say() -> None:
    assert "<!-- recipes -->\n| recipe |" in TEXT
    assert "<!-- benchmark -->\n| contestant |" in TEXT
    assert readme.renewed(TEXT) == TEXT


def test_the_tree_lists_the_modules_in_reading_order() -> None:
    tree = TEXT[TEXT.index("## The files") :]
    assert re.findall(r"^    (\w+)\.py ", tree, re.MULTILINE) == [
        name for name in ORDER if name != "__main__"
    ]


def test_no_placeholder_is_left() -> None:
    assert not re.findall(r"^(TRANSCRIPT|BENCH)$|MACHINE", TEXT, re.MULTILINE)


def test_the_make_targets_exist() -> None:
    targets = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert targets[:2] == ["train", "test"]
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.slow
def test_the_commands_run(tmp_path: Path, train_csv: str, test_csv: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.csv").write_text(train_csv)
    (tmp_path / "data/test.csv").write_text(test_csv)
    ours = [command for command in COMMANDS if command.startswith("python -m digit_recognizer")]
    assert len(ours) >= 8
    for command in ours:
        ended = subprocess.run(
            [sys.executable, *shlex.split(command)[1:]],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == 0, f"{command}\n{ended.stderr}"
        assert ended.stdout
