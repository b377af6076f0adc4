"""The program as its user types it; what training prints is in test_pipeline.py."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from conftest import ROOT, TINY, TRAIN, Result, changed, run_program, set_options, typed

from digit_recognizer import recipes, runs
from digit_recognizer.cli import commands
from digit_recognizer.errors import shown
from digit_recognizer.job import Job
from digit_recognizer.manifest import Rows

INSTALLED = Path(sys.executable).with_name("digit-recognizer")
CSV = "ImageId,Label\n3,1\n1,1\n2,9\n"


@pytest.mark.skipif(not INSTALLED.exists(), reason="`make install` makes the command")
def test_the_installed_command_works_in_any_folder(tmp_path: Path) -> None:
    told = f"{tmp_path / 'submissions'}: holds no runs yet; `train` makes one\n"
    for command in ([INSTALLED], [sys.executable, "-m", "digit_recognizer"]):
        assert run_program(*command, "runs", cwd=tmp_path, PYTHONPATH=None) == Result(0, "", told)


@pytest.mark.parametrize("folder", [ROOT, ROOT / "docs", None])
def test_without_a_folder_all_commands_take_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path | None
) -> None:
    monkeypatch.chdir(folder or tmp_path)
    expected = ((ROOT if folder else tmp_path) / "submissions").resolve()
    typed_out = commands.cli.commands["runs"].make_context("runs", []).params["out"]
    assert {out.resolve() for out in (typed_out, Job().out, Job(out=None).out)} == {expected}


def test_check_counts_each_digit(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(CSV)
    counts = dict.fromkeys("0123456789", 0) | {"1": 2, "9": 1}
    result = typed("check", "s.csv", "--rows", 3, cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    assert result.out == "".join(f"{d:>5}  {n:>5}\n" for d, n in {"digit": "count", **counts}.items()) + (
        "s.csv: 3 rows in the right format, but not of the competition's digits\n"
    )
    result = typed("check", "s.csv", "--rows", 3, "--json", cwd=tmp_path)
    expected = {"file": "s.csv", "rows": 3, "counts": counts, "competition": False}
    assert (result.code, json.loads(result.out)) == (0, expected)


def test_check_goes_by_the_manifest_beside_the_file(tmp_path: Path, tiny_run: runs.Run) -> None:
    (tmp_path / "submission.csv").write_text(CSV)
    write_manifest(tmp_path, tiny_run, "other", 3)
    assert typed("check", "submission.csv", cwd=tmp_path).code == 0
    (tmp_path / "run.json").unlink()
    assert typed("check", "submission.csv", cwd=tmp_path).refusal() == (
        "Error: submission.csv: found 3 rows, expected 28,000, one for each test digit; "
        "ImageId 4 is the first that is missing. If it is not the competition's, give its "
        "number of test digits: --rows."
    )
    (tmp_path / "28,000.csv").write_text("ImageId,Label\n1,x\n")  # no other number of rows would help
    assert "--rows" not in typed("check", "28,000.csv", cwd=tmp_path).err
    rows = "".join(f"{i},3\n" for i in range(1, 28_001))
    (tmp_path / "submission.csv").write_text(f"ImageId,Label\n{rows}")
    for kind, verdict in {
        "": "28,000 rows, a valid submission\n",
        "competition": "28,000 rows, a valid submission\n",
        "openml": "28,000 rows in the right format, but not of the competition's digits\n",
    }.items():
        if kind:
            write_manifest(tmp_path, tiny_run, kind, 28_000)
        assert typed("check", ".", cwd=tmp_path).out.endswith(f"submission.csv: {verdict}")
        told = json.loads(typed("check", ".", "--json", cwd=tmp_path).out)
        assert told["competition"] == ("valid" in verdict)


def test_check_takes_a_runs_name_as_other_commands_do(tmp_path: Path, tiny_run: runs.Run) -> None:
    out = tiny_run.folder.parent
    checked = typed("check", "tiny", "--out", out, cwd=tmp_path)
    assert (checked.code, checked.out) == (0, typed("check", tiny_run.submission, cwd=tmp_path).out)
    missed = typed("check", "tinny", "--out", out, cwd=tmp_path)
    assert missed.err == f"Error: {out}/tinny: no such run; did you mean tiny? `runs` lists the runs\n"


def write_manifest(folder: Path, run: runs.Run, kind: str, rows: int) -> None:
    data = {"config.data.kind": kind, "config.data.rows": Rows(train=TRAIN, test=rows)}
    runs.write_manifest(folder, changed(run.manifest, **data))


def test_recipes_lists_every_recipe(tmp_path: Path) -> None:
    result = typed("recipes", cwd=tmp_path)
    assert result.code == 0
    assert all(f"{recipe.name}: {recipe.summary}\n" in result.out for recipe in recipes.RECIPES.values())
    listed = json.loads(typed("recipes", "--json", cwd=tmp_path).out)["recipes"]
    assert [recipe["name"] for recipe in listed] == list(recipes.RECIPES)
    assert (listed[0]["settings"]["hidden"], listed[0]["evidence"]["mean"]) == ([128, 64], 0.9929)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--data-dir", "nowhere"], 1, "Error: nowhere: no such folder; --data-dir takes"),
        (["train", "--recipe", "resnet"], 2, "Error: no recipe 'resnet'; there are keras-mlp, sklearn-mlp"),
        (["train", "--folds", "3", "--holdout", "0.2"], 2, "Error: --holdout and --folds exclude each other"),
        (["train", "--repeats", "3"], 2, "Error: --repeats: found 3 without --folds; give --folds as well."),
        (["train", "--set", "epochs=1_0"], 2, "Error: --set epochs: found '1_0', expected an integer from 1"),
        (["validate", "--set", "epoch=3"], 2, "Error: --set epoch: no selected recipe has that field; did"),
        (["train", "--out", "file/runs"], 1, "Error: file/runs: cannot be written"),
        (["check", "nowhere"], 1, "Error: FOLDER/submissions/nowhere: no such run; --out names another fol"),
        (["check", "nowhere.csv"], 1, "Error: nowhere.csv: cannot be read (No such file or directory)"),
    ],
)
def test_a_users_mistake_is_one_line_and_writes_nothing(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "file").touch()
    line = typed(*arguments, cwd=tmp_path).refusal(code)
    assert line.startswith(message.replace("FOLDER", str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


NAMES = "up to 100 letters, digits and . _ + -, first a letter or digit"
TEXTS = ["nan", "-1", "1_0", " 3", "+3", "\N{FULLWIDTH DIGIT THREE}", "0x3", "9" * 20, "x", ""]
# Option, what is expected, what is beyond it; of `train`, and of `check FILE`.
BOUNDS = [
    ("--folds", "an integer from 2 to 100", ["0", "1", "101", "2.0"]),
    ("--repeats", "an integer from 1 to 100", ["0", "1000000"]),
    ("--seed", "an integer from 0 to 4294967295", ["4294967296", "1e3"]),
    ("--jobs", "an integer from 1 to 1024", ["0", "1025"]),
    ("--minutes", "a number from 0.5 to 600", ["0.49", "601", "inf", "1e999"]),
    ("--holdout", "a number above 0 to below 1", ["0", "0.0", "1", "1.5", "-inf"]),
    ("--rows", "an integer from 1 to 10000000", ["0", "9999999999999"]),
]


@pytest.mark.parametrize(("option", "allowed", "beyond"), BOUNDS)
def test_a_number_out_of_bounds_is_wrong_usage(
    tmp_path: Path, option: str, allowed: str, beyond: list[str]
) -> None:
    command = ["check", "s.csv"] if option == "--rows" else ["validate" if option == "--repeats" else "train"]
    for text in [*beyond, *TEXTS]:
        assert typed(*command, option, text, cwd=tmp_path).refusal(2) == (
            f"Error: Invalid value for '{option}': found {text!r}, expected {allowed}. "
            f"See: digit-recognizer {command[0]} --help"
        )


@pytest.mark.parametrize("command", [["train"], ["validate"], ["ensemble", "a", "b"]])
def test_a_name_that_no_folder_can_have_is_wrong_usage(tmp_path: Path, command: list[str]) -> None:
    for name in ["", ".", "..", "../x", ".x", "a/b", "a b", "a\n", "é", "x" * 101, "-"]:
        line = typed(*command, "--name", name, cwd=tmp_path).refusal(2)
        assert f"Invalid value for '--name': found {shown(name)}, expected {NAMES}." in line


OPTIONS_ALONE = "expected options alone; a recipe is given as --recipe NAME, a setting as --set FIELD=VALUE."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--epochs", "2"], "No such option '--epochs'; give --set epochs=2."),
        (["validate", "--hiden=64,8"], "No such option '--hiden'; give --set hidden=64,8."),
        (["train", "--lr", "0.1"], "No such option '--lr'; give --set learning_rate=0.1."),
        (["train", "--batch", "64"], "No such option '--batch'; give --set batch_size=64."),
        (["train", "--hidden-layer-sizes=8"], "No such option '--hidden-layer-sizes'; give --set hidden=8."),
        (["train", "--tta"], "No such option '--tta'; give --set tta=VALUE."),
        (["train", "--zzz", "2"], "No such option '--zzz'."),
        (["train", "cnn"], f"found 'cnn', {OPTIONS_ALONE}"),
        (["nosuch"], "No such command 'nosuch'."),
        (["check"], "Missing argument 'FILE|RUN'."),
    ],
)
def test_wrong_usage_ends_with_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    command = arguments[0] + " " if arguments[0] in commands.cli.commands else ""
    line = f"Error: {message} See: digit-recognizer {command}--help"
    assert typed(*arguments, cwd=tmp_path).refusal(2) == line


def test_no_command_shows_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = typed(cwd=tmp_path)
    assert result.code == 2
    listed = result.err.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == sorted(commands.cli.commands)
    assert all(line.endswith(".") and not line.endswith("..") for line in listed)


@pytest.mark.skipif(os.name == "nt", reason="Windows limits no file's size")
def test_a_disk_that_refuses_is_one_line_that_names_the_folder(folder: Path, tmp_path: Path) -> None:
    import resource

    words = ("train", "--data-dir", folder, "--recipe", "sklearn-mlp", *set_options(TINY), "--jobs", "1")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        result = typed(*words, "--name", "a", cwd=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (result.code, result.out) == (1, "")
    assert re.match(r"Error: submissions/\S+: cannot be written \(File too large\)", result.last_line)
    assert "Traceback" not in result.err
    assert not list(tmp_path.rglob("run.json"))


PATH_OPTIONS = {"--data-dir", "--out", "--run", "--csv"}
PLACES = [
    (name, parameter)
    for name, command in commands.cli.commands.items()
    for parameter in command.params
    if parameter.param_type_name == "argument" or parameter.opts[0] in PATH_OPTIONS
]


@pytest.mark.parametrize("name", ["x" * 300, "loop", "a\0b", ""], ids=["long", "loop", "NUL", "empty"])
def test_a_path_that_cannot_be_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    needed = {"ensemble": ["a", "b"], "compare": ["a", "b"], "predict": ["x.png"], "check": ["x"]}
    for command, parameter in PLACES:
        words, option = needed.get(command, []), parameter.opts[0]
        words = [*words, option, name] if option in PATH_OPTIONS else [name, *words[1:]]
        line = typed(command, *words, cwd=tmp_path).refusal(2)
        assert line.startswith("Error: Invalid value for "), line
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


EVIL = "a\x1b[31m\x1b]0;title\x07\u202eb"  # colours, a window's title, reversed text


def assert_escaped(*texts: str) -> None:
    for text in texts:
        assert all(char.isprintable() or char == "\n" for char in text), text


@pytest.mark.parametrize("line", [
    "check EVIL.csv", "check EVIL.csv --rows 3", "check nowhereEVIL", "train --data-dir EVIL",
    "train --name EVIL", "train --recipe EVIL", "train --set epochs=EVIL", "train --set EVIL",
    "train --out file/EVIL", "train --seed EVIL", "train EVIL", "EVIL", "ensemble EVIL EVIL2", "report EVIL",
    "runs --out EVIL", "runs --out EVIL-empty", "submit --dry-run EVIL",
])  # fmt: skip
def test_control_sequences_never_reach_the_terminal(tmp_path: Path, tiny_run: runs.Run, line: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / f"{EVIL}.csv").write_text(CSV)
    (tmp_path / EVIL / EVIL).mkdir(parents=True)
    (tmp_path / EVIL / f"{EVIL}-damaged").mkdir()
    (tmp_path / EVIL / f"{EVIL}-damaged" / "run.json").write_text("{")
    manifest = tiny_run.manifest
    renamed = {
        field: {name + EVIL: getattr(manifest, field)[name] for name in manifest.models}
        for field in ("scores", "settings", "inference_fits")
    }
    others = {"name": EVIL, "blend": None, "main_model": manifest.models[0] + EVIL, "submission_model": None}
    runs.write_manifest(tmp_path / EVIL / EVIL, changed(manifest, **renamed, **others))
    result = typed(*line.replace("EVIL", EVIL).split(" "), cwd=tmp_path)
    assert result.out + result.err
    assert_escaped(result.out, result.err)


def test_listed_runs_are_escaped_in_one_line(tmp_path: Path, tiny_run: runs.Run) -> None:
    for name in ("two\nlines", EVIL, "plain"):
        folder = tmp_path / "submissions" / name
        folder.mkdir(parents=True)
        runs.write_manifest(folder, tiny_run.manifest)
    lines = typed("runs", cwd=tmp_path).out.splitlines()
    assert_escaped(*lines)
    assert any(line.startswith("two\\nlines ") for line in lines)
    assert (len(lines), len({len(line) for line in lines})) == (4, 1)  # their columns are aligned


def test_the_shell_completes_an_option_after_a_wrong_word() -> None:
    completion = ShellComplete(commands.cli, {}, "digit-recognizer", "_DIGIT_RECOGNIZER_COMPLETE")
    found = [item.value for item in completion.get_completions(["train", "cnn"], "--re")]
    assert found == ["--refit", "--report", "--repeats", "--recipe", "--resume"]
