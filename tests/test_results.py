"""From fits or other runs to a run's folder: what is stored is what was computed."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args
from unittest import mock

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from conftest import TEST, TRAIN, changed

from digit_recognizer import data, pipeline, runs, submission, training
from digit_recognizer.manifest import Method
from digit_recognizer.nets import pipelines
from digit_recognizer.nets.arrays import read_arrays

METHODS = get_args(Method)


@pytest.fixture(scope="module")
def blends(tiny_run: runs.Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, runs.Run]:
    """The tiny run, and blends of its members by each method."""
    out = tmp_path_factory.mktemp("blends")
    return {"train": tiny_run} | {
        method: pipeline.blend_runs([tiny_run], method, out=out, name=method, on_notice=pytest.fail)
        for method in METHODS
    }


@pytest.mark.parametrize("name", ["train", *METHODS])
def test_the_submission_is_the_likeliest_digit_of_what_the_stored_combiner_gives(
    blends: dict[str, runs.Run], name: str
) -> None:
    run = runs.load(blends[name].folder)
    *members, blend = run.predictions()[1]
    combiner = run.manifest.blend
    assert (combiner.method, blend.name) == ("weighted" if name == "train" else name, "blend")
    combined = combiner.combine([member.test for member in members]).astype(np.float32)
    np.testing.assert_array_equal(combined, blend.test, strict=True)
    checked = submission.check(run.submission, rows=TEST)
    assert checked.sha256 == run.manifest.submission_sha256
    assert checked.labels.tolist() == combined.argmax(axis=1).tolist()
    assert run.manifest.submission_model == run.manifest.main_model == "blend"
    assert run.main_score == run.manifest.scores["blend"]


def test_the_scores_are_those_of_the_held_out_rows(tiny_run: runs.Run) -> None:
    held_out, members = tiny_run.predictions()
    for member in members:
        right = member.out_of_fold.argmax(axis=1) == held_out.labels
        folds = tuple(right[held_out.folds == fold].mean() for fold in (0, 1))
        score = tiny_run.manifest.scores[member.name]
        assert score.accuracy == right.mean() > 0.5
        assert score.folds == folds
        assert score.std == pytest.approx(np.std(folds, ddof=1))
        assert score.digits == TRAIN


def test_the_stored_models_give_the_stored_probabilities(
    tiny_run: runs.Run, blends: dict[str, runs.Run], digits: data.Dataset
) -> None:
    for run in (tiny_run, blends["mean"]):
        stored = {member.name: member.test for member in run.predictions()[1]}
        for name, files in run.manifest.inference_fits.items():
            settings = run.manifest.settings[name]
            arrays = [
                training.read_model(read_arrays((run.folder / "fits" / file).read_bytes())) for file in files
            ]
            models = [pipelines.from_arrays(model, settings) for model in arrays]
            assert len(models) == 2
            mean = scipy.stats.gmean([model.predict_proba(digits.test).clip(1e-6) for model in models])
            np.testing.assert_allclose(mean / mean.sum(axis=1, keepdims=True), stored[name], atol=1e-6)


@pytest.mark.parametrize(("weights", "success"), [([0.9, 0.1], False), ([np.nan, 0.1], True)])
def test_an_optimiser_that_fails_gives_equal_weights_and_no_temperature_and_a_notice(
    tiny_run: runs.Run, tmp_path: Path, weights: list[float], success: bool
) -> None:
    failure = scipy.optimize.OptimizeResult(x=np.array(weights), success=success)
    notices: list[str] = []
    scalar = scipy.optimize.OptimizeResult(x=5.0, success=False)
    with (
        mock.patch("scipy.optimize.minimize", return_value=failure),
        mock.patch("scipy.optimize.minimize_scalar", return_value=scalar),
    ):
        run = pipeline.blend_runs([tiny_run], "weighted", out=tmp_path, on_notice=notices.append)
    assert notices == ["The weights of the blend could not be found; its models are weighted equally"]
    blend = runs.load(run.folder).manifest.blend
    assert (blend.weights, blend.converged) == ((0.5, 0.5), False)
    assert (blend.inverse_temperatures, blend.inverse_temperature) == ((1.0, 1.0), 1.0)
    assert run.predictions()[1][-1].test.sum(axis=1) == pytest.approx(1)


def test_blends_of_a_strangers_run_and_of_blends_keep_valid_file_names(
    tiny_run: runs.Run, tmp_path: Path
) -> None:
    run = runs.Run(tiny_run.folder, changed(tiny_run.manifest, name="../my <run>"))
    for letter in "abc":
        run = pipeline.blend_runs([run], "mean", out=tmp_path, name=letter * 100, on_notice=pytest.fail)
    stored = {path.name for path in (run.folder / "fits").iterdir()}
    assert stored == {file for files in run.manifest.inference_fits.values() for file in files}
    assert len(stored) == 4


def test_a_run_that_adds_no_model_is_named(blends: dict[str, runs.Run], tmp_path: Path) -> None:
    notices: list[str] = []
    pipeline.blend_runs([blends["mean"], blends["train"]], "mean", out=tmp_path, on_notice=notices.append)
    name = blends["train"].folder.name
    assert notices == [f"{name} adds nothing: the runs named before it hold its models"]


def test_models_of_two_runs_with_the_same_name_are_told_apart(tiny_run: runs.Run, tmp_path: Path) -> None:
    name = tiny_run.manifest.name
    other = tmp_path / "elsewhere" / name
    shutil.copytree(tiny_run.folder, other)
    rows, models = tiny_run.predictions()
    moved = [replace(model, out_of_fold=model.out_of_fold / 2 + np.float32(0.05)) for model in models]
    runs.write_probabilities(other / "probabilities-1.npz", rows, moved)
    run = pipeline.blend_runs(
        [tiny_run, runs.load(other)], "mean", out=tmp_path, name="both", on_notice=pytest.fail
    )
    parents, nets = (name, f"{name}-2"), [model.name for model in models[:-1]]
    assert list(run.manifest.settings) == [f"{net}@{parent}" for parent in parents for net in nets]
    assert run.manifest.config.ensemble.runs == parents
    assert len(list((run.folder / "fits").iterdir())) == 8
