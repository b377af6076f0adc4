from pathlib import Path

import numpy as np
import pytest

from digit_recognizer import runs
from digit_recognizer.blending import Predictions, Truth
from digit_recognizer.errors import RunError


def test_a_manifest_that_is_none(tmp_path: Path) -> None:
    assert runs.read_manifest(tmp_path) is None
    for text in ("{", "[]", "{}", '{"data": 3}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(RunError, match=r"run\.json: is not the manifest of a run"):
            runs.read_manifest(tmp_path)


def test_what_a_run_stored_is_what_is_loaded(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = Truth(rows=np.array([5, 1, 3]), folds=np.array([0, 0, 1]), labels=np.array([7, 7, 9]))
    stored = [Predictions(n, random.random((3, 10)), random.random((4, 10))) for n in ("a", "blend")]
    manifest = {"created": "2026", "data": {"rows": {"test": 4}}, "scores": {"a": {}, "blend": {}}}
    runs.write_probabilities(tmp_path, truth, stored)
    runs.write_manifest(tmp_path, manifest)
    run = runs.load(tmp_path)
    assert run.manifest == manifest
    assert run.submission == tmp_path / "submission.csv"
    loaded_truth, loaded = run.predictions()
    for name in ("rows", "folds", "labels"):
        np.testing.assert_array_equal(getattr(loaded_truth, name), getattr(truth, name))
    assert loaded_truth.test_labels is None
    for before, after in zip(stored, loaded, strict=True):
        assert after.name == before.name
        np.testing.assert_array_equal(after.out_of_fold, before.out_of_fold)
        np.testing.assert_array_equal(after.test, before.test)


def test_runs_are_found_by_name_or_folder_newest_first(tmp_path: Path) -> None:
    for name, created in (("old", "2025-01-01"), ("new", "2026-01-01"), (".unfinished", "2027-01-01")):
        (tmp_path / name).mkdir()
        runs.write_manifest(tmp_path / name, {"created": created, "data": {"rows": {"test": 4}}})
    (tmp_path / "no run").mkdir()
    assert [run.folder.name for run in runs.every(tmp_path)] == ["new", "old"]
    assert runs.find(tmp_path, "old").folder == tmp_path / "old"
    assert runs.find(Path("elsewhere"), str(tmp_path / "old")).folder == tmp_path / "old"
    with pytest.raises(RunError, match=r"nosuch: holds no run\.json"):
        runs.find(tmp_path, "nosuch")


def test_spoilt_probabilities_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "probabilities.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"probabilities\.npz: cannot be read"):
        runs.Run(tmp_path, {"scores": {"a": {}}}).predictions()
