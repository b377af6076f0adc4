from pathlib import Path

import pytest

from digit_recognizer import files


def fill(final: Path, text: str) -> None:
    with files.whole(final) as folder:
        (folder / text).write_text(text)


def test_a_folder_appears_whole_and_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    final = tmp_path / "final"
    fill(final, "older")
    with files.whole(final) as folder:
        (folder / "newer").write_text("newer")
        assert [path.name for path in final.iterdir()] == ["older"]
    assert [path.name for path in final.iterdir()] == ["newer"]
    assert [path.name for path in tmp_path.iterdir()] == ["final"]
    assert final.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_ends_badly_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    final = tmp_path / "final"
    fill(final, "older")
    with pytest.raises(error), files.whole(final) as folder:
        (folder / "newer").write_text("newer")
        raise error
    assert [path.name for path in tmp_path.rglob("*")] == ["final", "older"]


def test_a_folder_that_cannot_take_its_place_brings_the_older_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = tmp_path / "final"
    fill(final, "older")
    rename = Path.rename
    calls = []

    def second_fails(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(PermissionError):
        fill(final, "newer")
    assert len(calls) == 3
    assert [path.name for path in tmp_path.rglob("*")] == ["final", "older"]
