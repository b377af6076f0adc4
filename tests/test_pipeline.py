"""The whole line on small real digits, in processes of its own as a user's."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, TEST, TRAIN, Ended, Run

from digit_recognizer import data, recipes, submission
from digit_recognizer.nets import pipelines

pytestmark = pytest.mark.slow
HOLDOUT = 60


@pytest.fixture(scope="module")
def trained(home: Path) -> tuple[Path, Ended]:
    """A run with all defaults, on the first rows of the sample in data/."""
    command = [sys.executable, "-m", "digit_recognizer", "train", "--name", "first"]
    ended = subprocess.run(
        command, cwd=home, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    return home, Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture(scope="module")
def manifest(trained: tuple[Path, Ended]) -> dict[str, Any]:
    return json.loads((trained[0] / "submissions/first/run.json").read_text())


def test_the_table_and_the_path_are_on_stdout(trained: tuple[Path, Ended], manifest: dict[str, Any]) -> None:
    _, ended = trained
    assert ended.code == 0, ended.err
    head, *rows, weights, path = ended.out.splitlines()
    assert weights.startswith("weighted blend: keras-mlp 0.")
    assert head.split() == ["model", "holdout", "accuracy", "95%", "interval", "seconds"]
    assert [row.split()[0] for row in rows] == ["keras-mlp", "sklearn-mlp", "blend"]
    for row in rows:
        name, accuracy, low, _, high, _ = row.split()
        score = manifest["scores"][name]
        assert [float(accuracy), float(low), float(high)] == pytest.approx(
            [score["accuracy"], score["low"], score["high"]], abs=5e-5
        )
        assert score["digits"] == HOLDOUT
        assert score["accuracy"] > 0.7
    assert path == "submissions/first/submission.csv"


def test_notices_and_progress_are_on_stderr(trained: tuple[Path, Ended]) -> None:
    _, ended = trained
    assert f"Read {TRAIN} + {TEST} digits from data" in ended.err
    assert "keras-mlp holdout: epoch 120 of 120, held-out accuracy 0." in ended.err
    assert "\x1b" not in ended.err
    assert "tensorflow" not in ended.err.lower()
    assert "Traceback" not in ended.err


def test_the_run_folder_holds_all_of_it(trained: tuple[Path, Ended]) -> None:
    home, _ = trained
    assert [path.name for path in (home / "submissions").iterdir()] == ["first"]
    files = {
        str(path.relative_to(home / "submissions/first")) for path in home.glob("submissions/first/**/*.*")
    }
    assert files == {
        "submission.csv",
        "run.json",
        "probabilities.npz",
        "models/keras-mlp-holdout.npz",
        "models/sklearn-mlp-holdout.npz",
    }


def test_the_submission_is_the_likeliest_digit_of_the_blend(
    trained: tuple[Path, Ended], test_labels: list[int]
) -> None:
    folder = trained[0] / "submissions/first"
    stored = np.load(folder / "probabilities.npz", allow_pickle=False)
    blend = stored["blend/test"]
    np.testing.assert_allclose(blend.sum(axis=1), 1, rtol=1e-5)
    labels = submission.check(folder / "submission.csv", rows=TEST).labels
    assert labels.tolist() == blend.argmax(axis=1).tolist()
    assert (labels == test_labels).mean() > 0.7  # which the program never saw


def test_the_scores_are_those_of_the_held_out_rows(
    trained: tuple[Path, Ended], manifest: dict[str, Any]
) -> None:
    home, _ = trained
    labels = data.load(home / "data").train.labels
    stored = np.load(home / "submissions/first/probabilities.npz", allow_pickle=False)
    assert len(stored["rows"]) == HOLDOUT
    for name, score in manifest["scores"].items():
        right = stored[f"{name}/out_of_fold"].argmax(axis=1) == labels[stored["rows"]]
        assert score["accuracy"] == right.mean()


def test_the_stored_models_say_what_the_stored_probabilities_say(trained: tuple[Path, Ended]) -> None:
    home, _ = trained
    digits = data.load(home / "data")
    stored = np.load(home / "submissions/first/probabilities.npz", allow_pickle=False)
    for name in ("keras-mlp", "sklearn-mlp"):
        path = home / f"submissions/first/models/{name}-holdout.npz"
        model = pipelines.from_bytes(path.read_bytes(), recipes.RECIPES[name].settings)
        np.testing.assert_allclose(model.predict_proba(digits.test), stored[f"{name}/test"], atol=1e-5)


def test_the_manifest_tells_how_to_do_it_again(manifest: dict[str, Any]) -> None:
    config = manifest["config"]
    assert (config["command"], config["seed"], config["blend"]) == ("train", 0, True)
    assert len(manifest["submission_sha256"]) == 64
    assert config["split"] == {"holdout": 0.1, "folds": None, "repeats": 1}
    assert manifest["recipes"]["keras-mlp"]["hidden"] == [128, 64]
    assert config["data"]["kind"] == "other"
    assert config["data"]["rows"] == {"train": TRAIN, "test": TEST}
    libraries = {"tensorflow", "scikit-learn", "numpy", "scipy", "opencv-python-headless"}
    assert set(config["versions"]) >= {"digit_recognizer", "python", *libraries}
    assert len(manifest["fits"]["keras-mlp holdout"]["curve"]) == 120
    steps = sum(seconds for step, seconds in manifest["seconds"].items() if step != "total")
    assert manifest["seconds"]["total"] == pytest.approx(steps, abs=0.5)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    trained: tuple[Path, Ended], run: Run
) -> None:
    home, _ = trained
    first = (home / "submissions/first/submission.csv").read_bytes()
    for seed, same in ((0, True), (1, False)):
        ended = run("train", "--seed", seed, "--json", cwd=home)
        assert ended.code == 0, ended.err
        assert ((home / json.loads(ended.out)["submission"]).read_bytes() == first) is same


def test_json_with_folds_refit_and_one_recipe(folder: Path, run: Run) -> None:
    ended = run("train", "--data-dir", folder, "--recipe", "sklearn-mlp", "--folds", 3, "--refit", "--json",
                "--out", folder / "my runs", "--name", "third")  # fmt: skip
    assert ended.code == 0, ended.err
    summary = json.loads(ended.out)
    assert summary["run"] == str(folder / "my runs/third")
    assert summary["submission"] == str(folder / "my runs/third/submission.csv")
    assert summary["blend"] is None
    (model,) = summary["models"]
    assert model.keys() >= {"recipe", "accuracy", "low", "high", "seconds"}
    assert model["digits"] == TRAIN
    assert summary["data"]["kind"] == "other"
    assert {path.name for path in (folder / "my runs/third/models").iterdir()} == {
        f"sklearn-mlp-{part}.npz" for part in ("fold-1", "fold-2", "fold-3", "all-rows")
    }


def test_without_the_ensemble_the_best_model_is_submitted(folder: Path, run: Run) -> None:
    ended = run("train", "--data-dir", folder, "--no-ensemble", "--out", folder / "runs", "--name", "n")
    assert ended.code == 0, ended.err
    manifest = json.loads((folder / "runs/n/run.json").read_text())
    assert set(manifest["scores"]) == {"keras-mlp", "sklearn-mlp"}
    best = max(manifest["scores"], key=lambda name: manifest["scores"][name]["accuracy"])
    assert manifest["submission_model"] == best
    stored = np.load(folder / "runs/n/probabilities.npz", allow_pickle=False)
    labels = submission.check(folder / "runs/n/submission.csv", rows=TEST).labels
    assert labels.tolist() == stored[f"{best}/test"].argmax(axis=1).tolist()


def test_the_sample_says_what_it_is_and_how_it_scores(run: Run, tmp_path: Path) -> None:
    ended = run("train", "--recipe", "sklearn-mlp", "--set", "epochs=20", "--set", "averaged_epochs=5")
    assert ended.code == 0, ended.err
    assert "This is the embedded sample" in ended.err
    assert "https://www.kaggle.com/competitions/digit-recognizer/data" in ended.err
    head, row, path = ended.out.splitlines()
    assert "test labels' accuracy" in head
    manifest = json.loads((tmp_path / path).with_name("run.json").read_text())
    assert manifest["config"]["data"]["kind"] == "sample"
    score = manifest["scores"]["sklearn-mlp"]
    assert f"{score['test_accuracy']:.4f}" in row
    assert score["low"] <= score["test_accuracy"] <= score["high"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "digit_recognizer", "train", "--data-dir", str(folder)]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("submissions/.*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "Stopped. No run was written."
    assert "Traceback" not in err
    assert list((tmp_path / "submissions").iterdir()) == []
