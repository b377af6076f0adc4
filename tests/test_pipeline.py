"""The whole line from CSV to submission on small real digits."""

import importlib
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import (
    DEADLINE,
    TEST,
    TINY,
    TINY_RECIPES,
    TRAIN,
    Result,
    Start,
    changed,
    run_program,
    set_options,
    tiny_job,
    train,
    typed,
    wait_until,
)

from digit_recognizer import data, drafts, recipes, records, results, runs, submission, training
from digit_recognizer.errors import FitError, RunError
from digit_recognizer.manifest import RunConfig

pytestmark = pytest.mark.slow
HOLDOUT = 60
FEWER_EPOCHS = set_options(("epochs=30", "averaged_epochs=6"))


@pytest.fixture(scope="module")
def trained(home: Path) -> tuple[Path, Result]:
    """A run of the default recipes, on the first rows of the sample in data/."""
    words = ["train", *FEWER_EPOCHS, "--jobs", "2", "--name", "first"]
    return home, run_program(sys.executable, "-m", "digit_recognizer", *words, cwd=home)


@pytest.fixture(scope="module")
def manifest(trained: tuple[Path, Result]) -> dict[str, Any]:
    return json.loads((trained[0] / "submissions/first/run.json").read_text())


def test_the_table_and_the_path_are_on_stdout(trained: tuple[Path, Result], manifest: dict[str, Any]) -> None:
    _, ended = trained
    assert ended.code == 0, ended.err
    head, *rows, weights, wall_time, path = ended.out.splitlines()
    assert weights.startswith("weighted blend: keras-mlp 0.")
    assert head.split() == ["model", "validation", "accuracy", "95%", "interval"]
    assert [row.split()[0] for row in rows] == ["keras-mlp", "sklearn-mlp", "blend"]
    for row in rows:
        name, accuracy, low, _, high = row.split()
        score = manifest["scores"][name]
        assert [float(accuracy), float(low), float(high)] == pytest.approx(
            [score["accuracy"], score["low"], score["high"]], abs=5e-5
        )
        assert score["digits"] == HOLDOUT
        assert score["accuracy"] > 0.7
    assert wall_time == f"wall time: {manifest['seconds']['total']:.1f} s"
    assert path == "submissions/first/submission.csv"


def test_notices_and_progress_are_on_stderr(trained: tuple[Path, Result], manifest: dict[str, Any]) -> None:
    home, ended = trained
    first, *_ = ended.err.splitlines()
    assert first == f"Read {TRAIN} + {TEST} digits from {home}/data; the run goes to submissions/first"
    for name in recipes.DEFAULT:  # what the table says, with test-time augmentation
        accuracy = manifest["scores"][name]["accuracy"]
        assert f"{name} holdout: epoch 30 of 30, validation accuracy {accuracy:.4f}\n" in ended.err
    assert "tensorflow" not in ended.err.lower()
    assert "Traceback" not in ended.err


def test_the_run_folder_holds_all_of_it(trained: tuple[Path, Result]) -> None:
    home, _ = trained
    assert [path.name for path in (home / "submissions").iterdir()] == ["first"]
    folder = home / "submissions/first"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == {
        "submission.csv", "run.json", "probabilities-1.npz", "fits/keras-mlp-holdout.npz",
        "fits/sklearn-mlp-holdout.npz",
    }  # fmt: skip


def test_the_manifest_holds_all_that_made_the_run(manifest: dict[str, Any]) -> None:
    config = manifest["config"]
    assert config["command"] == "train"
    assert config["seed"] == 0
    assert config["split"] == {"holdout": 0.1, "folds": None, "repeats": 1}
    assert config["data"]["kind"] == "other"
    assert config["data"]["rows"] == {"train": TRAIN, "test": TEST}
    assert len(manifest["submission_sha256"]) == 64
    assert manifest["settings"]["keras-mlp"]["hidden"] == [128, 64]
    assert len(manifest["fits"]["keras-mlp holdout"]["curve"]) == 30
    assert manifest["stopped_early"] is None
    assert manifest["failed_fits"] == {}
    steps = ["read", "schedule", "fit", "score", "write"]
    assert set(manifest["seconds"]) == {*steps, "total"}
    assert manifest["seconds"]["total"] == pytest.approx(sum(manifest["seconds"][s] for s in steps), abs=0.5)


def test_an_equal_seed_gives_equal_bytes(trained: tuple[Path, Result]) -> None:
    home, _ = trained
    result = typed("train", *FEWER_EPOCHS, "--json", "--jobs", 2, cwd=home)
    assert result.code == 0, result.err
    again = (home / json.loads(result.out)["submission"]).read_bytes()
    assert again == (home / "submissions/first/submission.csv").read_bytes()


def test_json_with_folds_refit_and_one_recipe(folder: Path) -> None:
    options = ["--folds", 3, "--refit", "--json", "--out", folder / "my runs", "--name", "third"]
    tiny = ["--recipe", "sklearn-mlp", *set_options(TINY)]
    result = typed("train", "--data-dir", folder, *tiny, *options, cwd=folder)
    assert result.code == 0, result.err
    summary = json.loads(result.out)
    assert summary["run"] == str(folder / "my runs/third")
    assert summary["submission"] == str(folder / "my runs/third/submission.csv")
    assert summary["blend"] is None
    (model,) = summary["models"]
    assert model.keys() >= {"recipe", "accuracy", "low", "high", "fit_seconds"}
    assert model["digits"] == TRAIN
    assert summary["data"]["kind"] == "other"
    run = runs.load(folder / "my runs/third")
    names = {f"sklearn-mlp-{split}.npz" for split in ("fold-1", "fold-2", "fold-3", "all-rows")}
    assert {path.name for path in (run.folder / "fits").iterdir()} == names
    assert run.manifest.inference_fits == {"sklearn-mlp": ("sklearn-mlp-all-rows.npz",)}


def test_without_the_ensemble_the_best_model_is_submitted(home: Path) -> None:
    run = train(tiny_job(home, ensemble=False))
    members = {member.name: member for member in run.predictions()[1]}
    assert set(run.manifest.scores) == set(members) == set(TINY_RECIPES)
    best = max(members, key=lambda name: run.manifest.scores[name].accuracy)
    assert run.manifest.submission_model == run.manifest.main_model == best
    labels = submission.check(run.submission, rows=TEST).labels
    assert labels.tolist() == members[best].labels.tolist()


def test_the_sample_says_what_it_is_and_how_it_scores(tmp_path: Path) -> None:
    result = typed("train", "--recipe", "sklearn-mlp", *set_options(TINY), cwd=tmp_path)
    assert result.code == 0, result.err
    assert "This is the embedded sample" in result.err
    assert "https://www.kaggle.com/competitions/digit-recognizer/data" in result.err
    head, row, _, path = result.out.splitlines()
    assert "test accuracy" in head
    run = runs.load((tmp_path / path).parent)
    assert run.manifest.config.data.kind == "sample"
    score = run.manifest.scores["sklearn-mlp"]
    assert f"{score.test_accuracy:.4f}" in row
    assert abs(score.test_accuracy - score.accuracy) < 0.05


@pytest.mark.parametrize("name", recipes.DEFAULT)
def test_the_default_recipes_reach_their_accuracy_on_the_sample(name: str, sample_run: runs.Run) -> None:
    (model,) = [model for model in sample_run.predictions()[1] if model.name == name]
    labels = data.load(data.sample_folder()).test_labels
    assert (model.test.argmax(axis=1) == labels).mean() >= 0.982


def fail_on(
    monkeypatch: pytest.MonkeyPatch, model: str, error: Exception, split: str = "fold 2"
) -> list[str]:
    """Let one fit raise in this process; return a list that gets the names of all fits begun."""
    module, begun = importlib.import_module("digit_recognizer.training.fit"), []
    fit = module._fit

    def failing(task: training.FitTask, *others: object) -> training.FitResult:
        begun.append(task.name)
        if task.model == model and task.split.name == split:
            raise error
        return fit(task, *others)

    monkeypatch.setattr(module, "_fit", failing)
    return begun


def test_a_fit_that_raises_is_left_out_with_a_notice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_on(monkeypatch, "sklearn-mlp", MemoryError())
    notices: list[str] = []
    run = train(tiny_job(home), notices)
    reason = "out of memory; try fewer --jobs"
    assert f"sklearn-mlp fold 2 failed; sklearn-mlp is left out: {reason}" in notices
    assert runs.load(run.folder).manifest.failed_fits == {"sklearn-mlp fold 2": reason}
    assert list(run.manifest.scores) == ["sklearn-mlp-plain"]
    assert len(submission.check(run.submission, rows=TEST).labels) == TEST


DIVERGE = set_options((*TINY, "learning_rate=1e6", "optimizer=sgd", "learning_rate_schedule=constant"))


@pytest.mark.parametrize("minutes", [[], ["--minutes", "1"]])
def test_a_run_of_which_nothing_is_left_is_one_line(home: Path, tmp_path: Path, minutes: list[str]) -> None:
    words = ("--data-dir", home / "data", "--recipe", "sklearn-mlp", "--jobs", 1, *DIVERGE, *minutes)
    result = typed("train", *words, cwd=tmp_path)
    assert (result.code, result.out) == (1, "")
    assert re.fullmatch(r"Error: sklearn-mlp.* the net diverged.* No run was written\.", result.last_line)
    assert "Traceback" not in result.err
    assert list((tmp_path / "submissions").iterdir()) == []


@pytest.mark.parametrize(("folds", "failing"), [(2, {2: FitError}), (3, {1: FitError, 2: MemoryError})])
def test_fits_of_a_model_that_can_never_be_complete_are_not_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch, folds: int, failing: dict[int, type[Exception]]
) -> None:
    for fold, error in failing.items():
        fail_on(monkeypatch, "sklearn-mlp", error("the net diverged"), f"fold {fold}")
    with pytest.raises(FitError, match="the net diverged") as stop:
        train(tiny_job(home, recipes=("sklearn-mlp",), folds=folds, name="lost"))
    assert stop.value.__notes__ == ["No run was written."]
    assert not (home / "submissions/lost").exists()


@pytest.mark.parametrize("error", [MemoryError(), ZeroDivisionError("a bug")])
def test_fits_beside_one_that_may_succeed_next_time_are_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    job = tiny_job(home, recipes=("sklearn-mlp",), name=f"next-{type(error).__name__}")
    with monkeypatch.context() as patch, pytest.raises((FitError, ZeroDivisionError)) as stop:
        fail_on(patch, "sklearn-mlp", error)
        train(job)
    kept = f"{job.out / job.name} keeps 1 finished fit; the same command with --resume goes on from there."
    assert stop.value.__notes__ == [kept]
    begun = fail_on(monkeypatch, "none", error)
    run = train(changed(job, resume=True))
    assert begun == ["sklearn-mlp fold 2"]
    assert run.manifest.failed_fits == {}


@pytest.mark.parametrize("minutes", [None, 0.1])
def test_a_resumed_run_does_not_repeat_a_failed_fit(
    home: Path, monkeypatch: pytest.MonkeyPatch, minutes: float | None
) -> None:
    model = "sklearn-mlp-plain-1" if minutes else "sklearn-mlp-plain"
    first = "sklearn-mlp-1" if minutes else "sklearn-mlp"
    begun = fail_on(monkeypatch, first, FitError("the net diverged"), "fold 1")
    save = drafts.Draft.save_outcome

    def save_and_stop(draft: drafts.Draft, result: training.FitResult) -> None:
        save(draft, result)
        if result.task.model == model:
            raise RunError("No space left on device")

    job = tiny_job(home, name=f"again-{minutes}", minutes=minutes)
    with monkeypatch.context() as patch, pytest.raises(RunError, match="No space left"):
        patch.setattr(drafts.Draft, "save_outcome", save_and_stop)
        train(job)
    assert f"{first} fold 1" in begun
    begun.clear()
    run = train(changed(job, resume=True))
    assert not {f"{first} fold 1", f"{first} fold 2"} & set(begun)
    assert run.manifest.failed_fits == {f"{first} fold 1": "the net diverged"}
    assert model in run.manifest.scores


def test_a_damaged_fit_is_fitted_again_with_equal_numbers(
    home: Path, tiny_run: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tiny_job(home, name="damaged")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="write"):
        patch.setattr(results, "evaluate", mock.Mock(side_effect=OSError("write")))
        train(job)
    fits = sorted((home / "submissions/damaged/fits").iterdir())
    assert len(fits) == 4
    fits[0].write_bytes(b"")
    fits[1].write_bytes(fits[1].read_bytes()[:-100])
    begun = fail_on(monkeypatch, "none", MemoryError())
    notices: list[str] = []
    run = train(changed(job, resume=True), notices)
    assert sorted(begun) == ["sklearn-mlp fold 1", "sklearn-mlp fold 2"]
    assert sum("is damaged" in line for line in notices) == 2
    assert "Fits finished already: 2 of 4" in notices
    for before, after in zip(tiny_run.predictions()[1], run.predictions()[1], strict=True):
        np.testing.assert_array_equal(after.out_of_fold, before.out_of_fold)
        np.testing.assert_array_equal(after.test, before.test)


def test_a_run_of_another_command_is_not_resumed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tiny_job(home, name="cut")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="write"):
        patch.setattr(results, "evaluate", mock.Mock(side_effect=OSError("write")))
        train(job)
    for other, difference in {
        "write_submission": (False, "command train, not validate"),
        "recipes": (TINY_RECIPES[::-1], "recipes sklearn-mlp, sklearn-mlp-plain, not "),
        "ensemble": (False, "blend True, not False"),
    }.items():
        with pytest.raises(RunError, match=f"cut has {difference[1]}"):
            train(changed(job, resume=True, **{other: difference[0]}))
    moved = home / "moved"
    shutil.copytree(home / "data", moved)
    assert train(changed(job, resume=True, data_dir=moved)).manifest.config.data.source == str(moved)


def test_with_a_gpu_keras_fits_get_all_cores_as_threads(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    def fit_all(tasks: list[training.FitTask], *_: object, workers: int, **__: object) -> None:
        raise Stop(tasks, workers, records.read(home / "submissions/gpu/config.json", RunConfig))

    monkeypatch.setattr(training.machine, "gpu_count", lambda: 1)
    monkeypatch.setattr(training, "fit_all", fit_all)
    monkeypatch.setattr(training, "import_libraries", lambda *_, **__: None)
    for names, shares, gpus in ((("cnn",), (1, 4), 1), (TINY_RECIPES, (4, 1), 0)):
        with pytest.raises(Stop) as stop:
            train(tiny_job(home, recipes=names, overrides=(), jobs=4, seed=3, name="gpu"))
        tasks, workers, config = stop.value.args
        settings = dict.fromkeys(names, tasks[0].settings)
        fits = training.make_fits(settings, [tasks[0].split], refit=False, seed=3)
        assert {fit.seed for fit in fits} <= {task.seed for task in tasks}
        assert (workers, tasks[0].threads) == shares
        assert (config.threads, config.gpus) == (shares[1], gpus)
        assert config.bfloat16 is (False if names == ("cnn",) else None)
        assert not any(getattr(settings, "bfloat16", False) for settings in config.recipes.values())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_before_a_fit_is_finished_leaves_nothing(folder: Path, tmp_path: Path, start: Start) -> None:
    process = start("-m", "digit_recognizer", "train", "--data-dir", folder, cwd=tmp_path)
    wait_until(lambda: list(tmp_path.glob("submissions/*/schedule.json")), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130
    assert out == ""
    told = "Stopped. No run was written; without a complete fit there is nothing to resume."
    assert err.splitlines()[-1] == told
    assert "Traceback" not in err
    assert list((tmp_path / "submissions").iterdir()) == []
