"""The program as its user types it; what training prints is in test_pipeline.py."""

import json
from pathlib import Path

import pytest
from conftest import Run

from digit_recognizer import manifest, recipes
from digit_recognizer.manifest import (
    DataConfig,
    Fingerprint,
    Manifest,
    ModelScore,
    Rows,
    RunConfig,
    SplitConfig,
)


def manifest_json(kind: str, test_rows: int) -> str:
    """Return the run.json of a run on data of this kind."""
    settings = recipes.RECIPES["softmax"].settings
    score = ModelScore(accuracy=0.5, low=0.4, high=0.6, digits=60, seconds=1)
    data_config = DataConfig(
        kind=kind,
        source="data",
        rows=Rows(train=600, test=test_rows),
        fingerprint=Fingerprint(train="0" * 64, test="1" * 64),
    )
    config = RunConfig(
        command="train",
        data=data_config,
        recipes={"softmax": settings},
        split=SplitConfig(holdout=0.1, folds=None),
        seed=0,
        versions={},
        code="0" * 16,
    )
    return Manifest(
        name="run",
        created=manifest.now(),
        config=config,
        scores={"softmax": score},
        main_model="softmax",
        recipes={"softmax": settings},
        test_fits={"softmax": ()},
        blend=None,
        submission_model=None,
        seconds={"total": 1},
    ).model_dump_json()


def test_check_counts_each_digit(run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("ImageId,Label\n3,1\n1,1\n2,9\n")
    ended = run("check", "s.csv", "--rows", 3)
    assert ended.code == 0
    assert ended.err == ""
    assert (
        ended.out
        == ("digit  count\n" + "".join(f"{d:>5}  {2 * (d == 1) + (d == 9):>5}\n" for d in range(10)))
        + "s.csv: 3 rows in the right format, but not of the competition's digits\n"
    )


def test_check_says_what_kaggle_would_take(run: Run, tmp_path: Path) -> None:
    rows = "".join(f"{i},3\n" for i in range(1, 28_001))
    (tmp_path / "submission.csv").write_text(f"ImageId,Label\n{rows}")
    assert run("check", "submission.csv").out.endswith("submission.csv: 28000 rows, a valid submission\n")
    for kind, verdict in (
        ("competition", "a valid submission"),
        ("openml", "but not of the competition's digits"),
    ):
        (tmp_path / "run.json").write_text(manifest_json(kind, 28_000))
        assert verdict in run("check", tmp_path).out


def test_check_as_json(run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("ImageId,Label\n3,1\n1,1\n2,9\n")
    ended = run("check", "s.csv", "--rows", 3, "--json")
    counts = dict.fromkeys("0123456789", 0) | {"1": 2, "9": 1}
    assert json.loads(ended.out) == {"file": "s.csv", "rows": 3, "counts": counts}


def test_check_takes_the_number_of_rows_from_the_manifest(run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("ImageId,Label\n3,1\n1,1\n2,9\n")
    (tmp_path / "run.json").write_text(manifest_json("other", 3))
    assert run("check", "s.csv").code == 0
    (tmp_path / "run.json").unlink()
    ended = run("check", "s.csv")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "Error: s.csv: found 3 rows, expected 28000, one for each test digit; "
        "ImageId 4 is the first that is missing\n"
    )


def test_recipes_lists_every_recipe(run: Run) -> None:
    ended = run("recipes")
    assert ended.code == 0
    for recipe in recipes.RECIPES.values():
        assert f"{recipe.name}: {recipe.summary}\n" in ended.out


def test_recipes_as_json(run: Run) -> None:
    listed = json.loads(run("recipes", "--json").out)["recipes"]
    assert [recipe["name"] for recipe in listed] == list(recipes.RECIPES)
    assert listed[0]["settings"]["hidden"] == [128, 64]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--data-dir", "nowhere"], 1, "Error: nowhere: no such folder; --data-dir takes"),
        (["train", "--recipe", "resnet"], 2, "Error: no recipe 'resnet'; there are keras-mlp, sklearn-mlp"),
        (
            ["train", "--holdout", "1.5"],
            2,
            "Error: Invalid value for '--holdout': 1.5 is not in the range 0<x<1.",
        ),
        (
            ["train", "--holdout", "0"],
            2,
            "Error: Invalid value for '--holdout': 0.0 is not in the range 0<x<1.",
        ),
        (["train", "--folds", "3", "--holdout", "0.2"], 2, "Error: --holdout and --folds exclude each other"),
        (["train", "--folds", "1"], 2, "Error: --folds 1: expected at least 2"),
        (["train", "--folds", "5000"], 2, "Error: train.csv: found"),
        (["train", "--out", "file/runs"], 1, "Error: file/runs: cannot be written"),
        (["train", "--name", "../x"], 1, "Error: --name '../x': expected up to 100 letters"),
        (["check", "nowhere.csv"], 1, "Error: nowhere.csv: cannot be read (No such file or directory)"),
    ],
)
def test_a_users_mistake_is_one_line_and_writes_nothing(
    run: Run, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "file").touch()
    ended = run(*arguments)
    assert ended.code == code
    assert ended.out == ""
    assert ended.err.startswith(message)
    assert ended.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        (["train", "--jobs", "0"], "Invalid value for '--jobs': 0 is not in the range x>=1.", " train"),
        (["train", "--seed", "x"], "Invalid value for '--seed': 'x' is not a valid integer range.", " train"),
        (["nosuch"], "No such command 'nosuch'.", ""),
        (["check"], "Missing argument 'FILE'.", " check"),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, arguments: list[str], message: str, command: str) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"Error: {message} See: digit-recognizer{command} --help\n"


def test_no_command_shows_them_all(run: Run) -> None:
    ended = run()
    assert ended.code == 2
    assert all(command in ended.err for command in ("check", "recipes", "train"))
