"""validate, ensemble and runs on small real digits, as their user types them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import PLAIN as UNVARIED
from conftest import TEST, TRAIN, Result, set_options, typed

from digit_recognizer import runs, submission
from digit_recognizer.manifest import EnsembleConfig

pytestmark = pytest.mark.slow
QUICK = ["--recipe", "sklearn-mlp", *set_options(("epochs=8", "averaged_epochs=4", *UNVARIED)), "--jobs", 1]
PLAIN = ["--recipe", "sklearn-mlp-plain", "--set", "epochs=8", "--jobs", 1]


@pytest.fixture(scope="module")
def three(home: Path) -> dict[str, Result]:
    """Two runs of one split, and one of another."""
    return {
        "sklearn": typed("validate", "--folds", 3, *QUICK, "--name", "sklearn", cwd=home),
        "plain": typed("validate", "--folds", 3, *PLAIN, "--name", "plain", cwd=home),
        "other": typed("validate", "--folds", 3, "--seed", 1, *PLAIN, "--name", "other", cwd=home),
    }


def load(home: Path, name: str) -> runs.Run:
    return runs.load(home / "submissions" / name)


def test_each_fold_mean_std_and_interval_are_printed(home: Path, three: dict[str, Result]) -> None:
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
    assert lines[6].startswith("wall time: ")
    assert folder == "submissions/sklearn"
    assert right.mean() > 0.8


def test_no_submission_is_written_and_every_row_is_held_out(home: Path, three: dict[str, Result]) -> None:
    run = load(home, "sklearn")
    assert not run.submission.exists()
    assert run.manifest.submission_model is run.manifest.submission_sha256 is None
    checked = typed("check", "sklearn", cwd=home)
    assert (checked.code, checked.err) == (1, f"Error: submissions/sklearn: {runs.WITHOUT_SUBMISSION}\n")
    assert sorted(run.predictions()[0].rows) == list(range(TRAIN))


def test_train_with_the_same_folds_gives_the_same_out_of_fold_probabilities(
    home: Path, three: dict[str, Result]
) -> None:
    assert typed("train", "--folds", 3, *QUICK, "--name", "trained", cwd=home).code == 0
    held_out, (validated,) = load(home, "sklearn").predictions()
    again, (trained,) = load(home, "trained").predictions()
    np.testing.assert_array_equal(again.rows, held_out.rows)
    np.testing.assert_array_equal(trained.out_of_fold, validated.out_of_fold)
    np.testing.assert_array_equal(trained.test, validated.test)


def test_ensemble_blends_stored_runs_into_a_new_one(
    home: Path, three: dict[str, Result], test_labels: list[int]
) -> None:
    ended = typed(
        "ensemble", "sklearn", home / "submissions/plain", "--method", "mean", "--name", "mean", cwd=home
    )
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == "submissions/mean/submission.csv"
    run = load(home, "mean")
    assert list(run.manifest.scores) == ["sklearn-mlp", "sklearn-mlp-plain", "blend"]
    assert run.manifest.config.ensemble == EnsembleConfig(runs=("sklearn", "plain"), method="mean")
    assert "mean blend: sklearn-mlp 0.500, sklearn-mlp-plain 0.500" in ended.out
    labels = submission.check(run.submission, rows=TEST).labels
    assert labels.tolist() == run.predictions()[1][-1].labels.tolist()
    assert (labels == test_labels).mean() > 0.8


def test_models_of_one_name_get_their_runs_names(home: Path, three: dict[str, Result]) -> None:
    narrow = ("--set", "hidden=64", "--name", "narrow")
    assert typed("validate", "--folds", 3, *PLAIN, *narrow, cwd=home).code == 0
    ended = typed("ensemble", "plain", "narrow", "--json", cwd=home)
    names = [model["recipe"] for model in json.loads(ended.out)["models"]]
    assert names == ["sklearn-mlp-plain@plain", "sklearn-mlp-plain@narrow"]
    blended = Path(json.loads(ended.out)["run"]).name
    settings = load(home, blended).manifest.settings
    assert [settings[name].hidden for name in names] == [(128, 64), (64,)]
    again = typed("ensemble", blended, "plain", "sklearn", "--json", cwd=home)
    models = {model["recipe"]: model for model in json.loads(again.out)["models"]}
    assert list(models) == [*names, "sklearn-mlp"]
    stored = load(home, "sklearn").manifest.scores["sklearn-mlp"]
    assert models["sklearn-mlp"]["fit_seconds"] == stored.fit_seconds


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        (["sklearn", "other"], "sklearn (3 folds, seed 0) and other (3 folds, seed 1) held out different"),
        (["sklearn", "elsewhere"], "are runs on different data; only runs on the same data can be blended"),
        (["sklearn"], "a blend takes at least two different models"),
        (["sklearn", "submissions/sklearn"], "a blend takes at least two different models"),
    ],
)
def test_runs_that_cannot_be_blended_raise_run_error(
    home: Path, three: dict[str, Result], parents: list[str], message: str
) -> None:
    elsewhere = home / "submissions/elsewhere"
    if not elsewhere.exists():  # a run of other training digits
        plain = load(home, "plain")
        shutil.copytree(plain.folder, elsewhere)
        text = (elsewhere / "run.json").read_text()
        (elsewhere / "run.json").write_text(
            text.replace(plain.manifest.config.data.fingerprint.train, "0" * 64)
        )
    ended = typed("ensemble", *parents, "--name", "refused", cwd=home)
    assert message in ended.refusal()
    assert not list((home / "submissions").glob("*refused"))


def test_runs_lists_newest_or_best_first(home: Path, three: dict[str, Result]) -> None:
    listed = json.loads(typed("runs", "--json", cwd=home).out)["runs"]
    created = [run["created"] for run in listed]
    assert created == sorted(created, reverse=True)
    assert {"sklearn", "plain", "other"} <= {run["name"] for run in listed}
    head, *lines = typed("runs", "--sort", "score", cwd=home).out.splitlines()
    assert head.startswith("run ")
    scores = [load(home, line.split()[0]).main_score.accuracy for line in lines]
    assert scores == sorted(scores, reverse=True)
    score = load(home, "plain").manifest.scores["sklearn-mlp-plain"]
    (line,) = (line for line in lines if line.startswith("plain "))
    assert f"{score.accuracy:.4f}  {score.low:.4f} to {score.high:.4f}" in line
