from pathlib import Path

import numpy as np
import pytest

from digit_recognizer import runs
from digit_recognizer.ensemble import Predictions
from digit_recognizer.errors import RunError


def test_a_run_appears_whole(tmp_path: Path) -> None:
    with runs.new(tmp_path, "first") as (folder, final):
        (folder / "file").write_text("x")
        assert not final.exists()
    assert final == tmp_path / "first"
    assert (final / "file").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_or_not_at_all(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), runs.new(tmp_path, "first") as (folder, _):
        (folder / "file").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_runs_without_a_name_do_not_collide(tmp_path: Path) -> None:
    for _ in range(3):
        with runs.new(tmp_path):
            pass
    assert len(list(tmp_path.iterdir())) == 3


def test_no_run_is_overwritten(tmp_path: Path) -> None:
    with runs.new(tmp_path, "first"):
        pass
    with pytest.raises(RunError, match="first: exists already"), runs.new(tmp_path, "first"):
        pytest.fail("must not begin")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "two words", "nul\0"])
def test_a_name_is_one_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="--name"), runs.new(tmp_path / "out", name):
        pytest.fail("must not begin")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunError, match=r"file/runs: cannot be written .*--out"),
        runs.new(tmp_path / "file/runs"),
    ):
        pytest.fail("must not begin")


def test_a_manifest_that_is_none(tmp_path: Path) -> None:
    assert runs.read_manifest(tmp_path) is None
    for text in ("{", "[]", "{}", '{"data": 3}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(RunError, match=r"run\.json: is not the manifest of a run"):
            runs.read_manifest(tmp_path)


def test_what_a_run_stored_is_what_is_loaded(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = np.array([5, 1, 3])
    stored = [Predictions(n, random.random((3, 10)), random.random((4, 10))) for n in ("a", "blend")]
    manifest = {"created": "2026", "data": {"rows": {"test": 4}}, "scores": {"a": {}, "blend": {}}}
    runs.write_probabilities(tmp_path, rows, stored)
    runs.write_manifest(tmp_path, manifest)
    run = runs.load(tmp_path)
    assert run.manifest == manifest
    assert run.submission == tmp_path / "submission.csv"
    loaded_rows, loaded = run.predictions()
    np.testing.assert_array_equal(loaded_rows, rows)
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
