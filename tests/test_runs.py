from pathlib import Path

import pytest

from digit_recognizer import runs
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
