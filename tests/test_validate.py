"""validate, ensemble and runs on small real digits, as their user types them; also killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, TEST, TRAIN, Ended, Run

from digit_recognizer import runs, submission

pytestmark = pytest.mark.slow
QUICK = ["--recipe", "sklearn-mlp", "--set", "epochs=8", "--set", "averaged_epochs=4"]


@pytest.fixture(scope="module")
def typed(home: Path) -> Callable[..., Ended]:
    def typed(*arguments: object) -> Ended:
        command = [sys.executable, "-m", "digit_recognizer", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        ended = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return typed


@pytest.fixture(scope="module")
def three(typed: Callable[..., Ended]) -> dict[str, Ended]:
    """Two runs of one split, and one of another."""
    keras = ["--recipe", "keras-mlp", "--set", "epochs=6"]
    return {
        "sklearn": typed("validate", "--folds", 3, *QUICK, "--name", "sklearn"),
        "keras": typed("validate", "--folds", 3, *keras, "--name", "keras"),
        "other": typed("validate", "--folds", 3, "--seed", 1, *QUICK, "--name", "other"),
    }


def load(home: Path, name: str) -> runs.Run:
    return runs.load(home / "submissions" / name)


def test_each_fold_mean_std_and_interval_are_printed(home: Path, three: dict[str, Ended]) -> None:
    ended = three["sklearn"]
    assert ended.code == 0, ended.err
    held_out, (model,) = load(home, "sklearn").predictions()
    right = model.out_of_fold.argmax(axis=1) == held_out.labels
    folds = [right[held_out.folds == fold].mean() for fold in range(3)]
    head, *lines, folder = ended.out.splitlines()
    assert head.split() == ["accuracy", "sklearn-mlp"]
    assert [line.split() for line in lines[:5]] == [
        *(["fold", str(number), f"{fold:.4f}"] for number, fold in enumerate(folds, start=1)),
        ["mean", f"{right.mean():.4f}"],
        ["std", f"{np.std(folds, ddof=1):.4f}"],
    ]
    assert lines[5].startswith("95% interval")
    assert folder == "submissions/sklearn"
    assert right.mean() > 0.8


def test_no_submission_is_written_and_every_row_is_held_out(home: Path, three: dict[str, Ended]) -> None:
    run = load(home, "sklearn")
    assert not run.submission.exists()
    assert run.manifest.submission_model is None
    assert sorted(run.predictions()[0].rows) == list(range(TRAIN))


def test_train_with_the_same_folds_gives_the_same_out_of_fold_probabilities(
    home: Path, three: dict[str, Ended], typed: Callable[..., Ended]
) -> None:
    assert typed("train", "--folds", 3, *QUICK, "--name", "trained").code == 0
    held_out, (validated,) = load(home, "sklearn").predictions()
    again, (trained,) = load(home, "trained").predictions()
    np.testing.assert_array_equal(again.rows, held_out.rows)
    np.testing.assert_array_equal(trained.out_of_fold, validated.out_of_fold)
    np.testing.assert_array_equal(trained.test, validated.test)


@pytest.mark.parametrize("method", ["weighted", "mean", "stacked"])
def test_ensemble_blends_stored_runs_into_a_new_one(
    home: Path, three: dict[str, Ended], typed: Callable[..., Ended], method: str, test_labels: list[int]
) -> None:
    ended = typed("ensemble", "sklearn", home / "submissions/keras", "--method", method, "--name", method)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == f"submissions/{method}/submission.csv"
    run = load(home, method)
    assert list(run.manifest.scores) == ["sklearn-mlp", "keras-mlp", "blend"]
    assert run.manifest.config.ensemble.runs == ("sklearn", "keras")
    assert run.manifest.blend.method == method
    assert f"{method} blend: sklearn-mlp " in ended.out
    _, predictions = run.predictions()
    labels = submission.check(run.submission, rows=TEST).labels
    assert labels.tolist() == predictions[-1].test.argmax(axis=1).tolist()
    assert (labels == test_labels).mean() > 0.8


def test_models_of_one_name_are_told_apart_by_their_runs(
    home: Path, three: dict[str, Ended], typed: Callable[..., Ended]
) -> None:
    assert typed("validate", "--folds", 3, *QUICK, "--set", "hidden=64", "--name", "narrow").code == 0
    ended = typed("ensemble", "sklearn", "narrow", "--json")
    names = [model["recipe"] for model in json.loads(ended.out)["models"]]
    assert names == ["sklearn-mlp@sklearn", "sklearn-mlp@narrow"]
    settings = load(home, Path(json.loads(ended.out)["run"]).name).manifest.recipes
    assert [settings[name].hidden for name in names] == [(256, 128), (64,)]
    again = typed("ensemble", Path(json.loads(ended.out)["run"]).name, "sklearn", "keras", "--json")
    models = {model["recipe"]: model for model in json.loads(again.out)["models"]}
    assert list(models) == ["sklearn-mlp@sklearn", "sklearn-mlp@narrow", "keras-mlp"]
    seconds = load(home, "keras").manifest.scores["keras-mlp"].seconds
    assert models["keras-mlp"]["seconds"] == seconds


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        (
            ["sklearn", "other"],
            "sklearn (3 folds, 1 repeats, seed 0) and other (3 folds, 1 repeats, seed 1) held out different",
        ),
        (["sklearn", "elsewhere"], "are runs on different data; only runs on the same data can be blended"),
        (["sklearn", "nosuch"], "nosuch: holds no run.json, so it is no run; `runs` lists the runs"),
        (["sklearn"], "a blend takes at least two different models"),
        (["sklearn", "submissions/sklearn"], "a blend takes at least two different models"),
    ],
)
def test_what_cannot_be_blended_is_refused(
    home: Path, three: dict[str, Ended], typed: Callable[..., Ended], parents: list[str], message: str
) -> None:
    if "elsewhere" in parents and not (home / "submissions/elsewhere").exists():
        (home / "less").mkdir()
        lines = (home / "data/train.csv").read_text().splitlines(keepends=True)
        (home / "less/train.csv").write_text("".join(lines[:-10]))
        (home / "less/test.csv").write_bytes((home / "data/test.csv").read_bytes())
        assert typed("validate", "--folds", 3, "--data-dir", "less", *QUICK, "--name", "elsewhere").code == 0
    ended = typed("ensemble", *parents, "--name", "refused")
    assert (ended.code, ended.out) == (1, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not list((home / "submissions").glob("*refused"))


def test_runs_lists_newest_or_best_first(
    home: Path, three: dict[str, Ended], typed: Callable[..., Ended]
) -> None:
    listed = json.loads(typed("runs", "--json").out)["runs"]
    created = [run["created"] for run in listed]
    assert created == sorted(created, reverse=True)
    assert {"sklearn", "keras", "other"} <= {run["name"] for run in listed}
    head, *lines = typed("runs", "--sort", "score").out.splitlines()
    assert head.split()[:4] == ["run", "created", "recipes", "data"]
    scores = [float(line.split()[5]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    score = load(home, "keras").manifest.scores["keras-mlp"]
    (line,) = (line for line in lines if line.startswith("keras "))
    assert f"{score.accuracy:.4f}  {score.low:.4f} to {score.high:.4f}" in line


def test_no_runs_is_no_error(run: Run) -> None:
    ended = run("runs")
    assert (ended.code, ended.out, ended.err) == (
        0,
        "",
        "submissions: holds no runs yet; `train` makes one\n",
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("done", [1, 2])
def test_a_killed_validate_resumes_and_repeats_no_finished_fold(
    folder: Path, tmp_path: Path, run: Run, done: int
) -> None:
    command = [
        "validate",
        "--folds",
        "3",
        "--data-dir",
        str(folder),
        "--jobs",
        "1",
        *QUICK,
        "--set",
        "epochs=40",
    ]
    whole = run(*command, "--name", "whole")
    assert whole.code == 0, whole.err

    process = subprocess.Popen(
        [sys.executable, "-m", "digit_recognizer", *command, "--name", "cut"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    kept = tmp_path / "submissions/.cut/fits"
    deadline = time.monotonic() + 120
    while len(list(kept.glob("*.fit"))) < done:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.fit")}
    assert len(before) == done

    listed = run("runs")
    assert f"cut was cut off with {done} finished fits; its command with --resume goes on" in listed.err
    seen: dict[str, int] = {}
    resumed = subprocess.Popen(
        [sys.executable, "-m", "digit_recognizer", *command, "--resume"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while resumed.poll() is None:
        seen |= stamps(kept)
        time.sleep(0.01)
    assert resumed.returncode == 0
    assert before.items() <= seen.items()
    assert f"{done} of 3 fits are finished already" in resumed.stderr.read()
    same(tmp_path, "whole", "cut")
    assert not kept.exists()


def stamps(folder: Path) -> dict[str, int]:
    found = {}
    for path in folder.glob("*.fit"):
        try:
            found[path.name] = path.stat().st_mtime_ns
        except FileNotFoundError:  # the run is finishing
            break
    return found


def same(home: Path, one: str, other: str) -> None:
    """Two runs of the same numbers."""

    def scores(run: runs.Run) -> dict[str, Any]:
        return {name: score.model_copy(update={"seconds": 0}) for name, score in run.manifest.scores.items()}

    first, second = load(home, one), load(home, other)
    assert scores(first) == scores(second)
    for before, after in zip(first.predictions()[1], second.predictions()[1], strict=True):
        np.testing.assert_array_equal(after.out_of_fold, before.out_of_fold)
        np.testing.assert_array_equal(after.test, before.test)


def test_resume_without_a_draft_says_so(folder: Path, run: Run) -> None:
    ended = run("validate", "--data-dir", folder, *QUICK, "--resume")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("Error: submissions: holds no unfinished run with these settings")
    assert ended.err.count("\n") == 1
