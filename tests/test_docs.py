"""The README and docs/ are kept true: their commands run, their paths and options exist, all is in them."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from conftest import DEADLINE, ROOT, first_rows, typed, write_digits

from digit_recognizer import environment, errors, recipes
from digit_recognizer.cli import commands
from scripts import docs

README = ROOT / "README.md"
OTHERS = ("CONTRIBUTING.md", "data/README.md", "submissions/README.md")
PAGES = [*docs.PAGES, *(ROOT / name for name in OTHERS)]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
ALL_TEXT = "\n".join(TEXTS.values())
PROGRAM = re.compile(r"(?:^|[\s(!])(?:\.venv[/\\]\S+/)?python -m digit_recognizer ([a-z].*)")
OPTIONS = {
    option
    for command in commands.cli.commands.values()
    for parameter in command.params
    if isinstance(parameter, click.Option) and not parameter.hidden
    for option in [*parameter.opts, *parameter.secondary_opts]
} | {"--help"}
# Paths that the program makes, and keys in `probabilities.npz`.
MADE_BY_RUNS = {
    "draw.html", "fits/", "report/", "data/openml/", "submissions/.submitted.json", "submissions/NAME-search",
    "NAME/out_of_fold", "NAME/test",
}  # fmt: skip


def blocks(text: str, kind: str) -> list[str]:
    """Return the lines of all code blocks of that kind, without comments."""
    found = re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line.partition("  #")[0].strip() for block in found for line in block.splitlines()]


def inline_code(text: str) -> list[str]:
    """Return what stands between backticks, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def program_calls(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of the program in a page."""
    for line in [*blocks(text, "sh"), *blocks(text, "text"), *inline_code(text)]:
        if call := PROGRAM.search(line.split("|")[0]):
            yield shlex.split(call[1])


def links(page: str) -> list[tuple[str, str]]:
    """Return the page's links into the repository: the path from its root, and the anchor."""
    targets = re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", TEXTS[page])
    folder = (ROOT / page).parent
    return [
        (Path(os.path.relpath(folder / path, ROOT)).as_posix() if path else page, anchor)
        for path, anchor in targets
        if "://" not in path and not path.startswith("mailto:")
    ]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert README.stat().st_size < 7168
    assert (ROOT / "CONTRIBUTING.md").stat().st_size < 4096


def test_every_page_is_reachable_from_the_readme() -> None:
    reached, waiting = set(), ["README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page in TEXTS:
            reached.add(page)
            waiting += [path for path, _ in links(page)]
    unreachable = {page for page in TEXTS if page.startswith(("docs/", "CONTRIBUTING"))} - reached
    assert not unreachable


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    for path, anchor in links(page):
        assert (ROOT / path).exists(), path
        assert not anchor or anchor in anchors(TEXTS[path]), f"{path}#{anchor}"


@pytest.mark.parametrize("page", TEXTS)
def test_paths_exist(page: str) -> None:
    roots = [ROOT, ROOT / "digit_recognizer", (ROOT / page).parent]
    path = re.compile(r"[\w./-]+\.(py|md|sh|html|css)|[\w/-]+/|[\w-]+/[\w./-]+")
    for code in filter(path.fullmatch, set(inline_code(TEXTS[page])) - MADE_BY_RUNS):
        assert any((root / code).exists() for root in roots), code


def test_generated_parts_are_up_to_date() -> None:
    for page in docs.PAGES:
        text = page.read_text(encoding="utf-8")
        assert docs.renew(text) == text, f"{page}: run `make docs`"
    marked = re.findall(r"^<!-- ([a-z-]+) -->$", ALL_TEXT, re.MULTILINE)
    assert set(docs.PARTS) <= set(marked)
    assert len(marked) == len(set(marked))


def test_every_command_has_an_example() -> None:
    documented = {arguments[0] for text in TEXTS.values() for arguments in program_calls(text)}
    assert documented == set(commands.cli.commands)


@pytest.mark.parametrize("page", TEXTS)
def test_options_that_pages_name_exist(page: str) -> None:
    for code in inline_code(TEXTS[page]):
        if re.match(r"--\w", code):
            assert re.split(r"[ =]", code)[0] in OPTIONS, code


@pytest.mark.parametrize("page", TEXTS)
def test_calls_that_pages_show_are_valid(page: str) -> None:
    for name, *arguments in program_calls(TEXTS[page]):
        command = commands.cli.commands[name]
        context = command.make_context(name, arguments)  # raises a usage error
        selected = [recipe for recipe in context.params.get("recipes") or () if recipe != "NAME"]
        settings = dict(context.params.get("settings") or ())
        if settings.pop("FIELD", "VALUE") == "VALUE":
            recipes.select(selected or recipes.DEFAULT, settings)


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_every_recipe_has_evidence_and_is_documented(recipe: str) -> None:
    evidence = recipes.RECIPES[recipe].evidence is not None or f"`{recipe}`" in TEXTS["docs/experiments.md"]
    assert evidence, f"measure {recipe} with scripts/evidence.py"
    assert f"| `{recipe}` |" in TEXTS["docs/recipes.md"]


def test_every_exit_code_is_documented() -> None:
    codes = {error.exit_code for error in vars(errors).values() if hasattr(error, "exit_code")}
    _, advice = TEXTS["docs/kaggle.md"].split("<!-- /exit-codes -->")
    for code in codes - {1}:  # not of Kaggle's commands alone
        assert f"\n| `{code}` |" in advice, f"say in docs/kaggle.md what to do about exit code {code}"


@pytest.mark.slow
def test_the_make_targets_and_scripts_exist() -> None:
    shown = [line for text in TEXTS.values() for line in [*blocks(text, "sh"), *inline_code(text)]]
    words = [shlex.split(line, comments=True) for line in shown if line.startswith("make ")]
    targets = [word for _, *line in words for word in line if re.fullmatch("[a-z-]+", word)]
    assert targets[:2] == ["train", "test"]
    command = ["make", "--dry-run", *dict.fromkeys(targets)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=DEADLINE)
    for script in re.findall(r"\bscripts/\w+\.\w+", ALL_TEXT):
        assert (ROOT / script).exists(), script


@pytest.mark.slow
def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, recipe in recipes.RECIPES.items():  # their whole training is tested elsewhere
        short = replace(recipe, settings=recipe.settings.replace(epochs=2))
        monkeypatch.setitem(recipes.RECIPES, name, short)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # so that TensorFlow is imported once, here
    monkeypatch.setattr(environment, "is_own_process", True)
    write_digits(tmp_path / "data", first_rows("train.csv.gz", 300), first_rows("test.csv.gz", 50))
    for file in ("docs/digit.png", "data/sample/test.csv.gz"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    shown = [line for text in TEXTS.values() for line in blocks(text, "sh")]
    lines = [line for line in shown if line.startswith("python -m digit_recognizer")]
    assert len(lines) >= 10
    for line in lines:
        result = typed(*shlex.split(line)[3:], cwd=tmp_path)
        assert result.code == 0, f"{line}\n{result.err}"
        assert result.out
