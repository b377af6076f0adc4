import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digit_recognizer import drafts, recipes
from digit_recognizer.errors import RunError
from digit_recognizer.splits import Part
from digit_recognizer.training import Fit, Fitted

PLAN: dict[str, Any] = {"seed": 3, "split": {"folds": 5}}
FIT = Fit(recipes.RECIPES["keras-mlp"], Part("fold 1", np.arange(3), np.arange(2)), seed=1)
FITTED = Fitted(
    FIT,
    valid=np.random.default_rng(0).random((2, 10)).astype(np.float32),
    test=np.random.default_rng(1).random((4, 10)).astype(np.float32),
    model=(".keras", bytes(range(256))),
    history=[{"train_loss": 0.25, "valid_accuracy": 0.1}],
    seconds=1.5,
)


def test_a_run_appears_whole(tmp_path: Path) -> None:
    with drafts.start(tmp_path, "first", PLAN) as draft:
        (draft.folder / "file").write_text("x")
        draft.keep(FITTED)
        assert not draft.final.exists()
    assert draft.final == tmp_path / "first"
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert [path.name for path in draft.final.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_or_not_at_all(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), drafts.start(tmp_path, "first", PLAN) as draft:
        (draft.folder / "file").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_loses_no_fit(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No space left on device") as error:  # noqa: SIM117
        with drafts.start(tmp_path, "first", PLAN) as draft:
            draft.keep(FITTED)
            raise OSError(errno.ENOSPC, "No space left on device")
    assert "--resume goes on" in error.value.__notes__[0]
    assert draft.kept([FIT])


def test_a_running_draft_is_neither_cut_off_nor_resumed(tmp_path: Path) -> None:
    with drafts.start(tmp_path, "first", PLAN) as draft:
        draft.keep(FITTED)
        assert draft.running
        with (
            pytest.raises(RunError, match="first is still running"),
            drafts.start(tmp_path, None, PLAN, resume=True),
        ):
            pytest.fail("must not begin")
    assert not draft.running


def test_a_taken_name_at_the_end_loses_no_fit(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="first: cannot be written"):  # noqa: SIM117
        with drafts.start(tmp_path, "first", PLAN) as draft:
            draft.keep(FITTED)
            draft.final.mkdir()
            (draft.final / "other").touch()
    assert draft.kept([FIT])


def test_what_is_kept_is_what_was_fitted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as stop, drafts.start(tmp_path, "first", PLAN) as draft:
        assert draft.kept([FIT]) == {}
        draft.keep(FITTED)
        raise KeyboardInterrupt
    assert stop.value.__notes__ == [
        "1 finished fits are kept; the same command with --resume goes on from them."
    ]
    assert not (tmp_path / "first").exists()
    with drafts.start(tmp_path, None, json.loads(json.dumps(PLAN)), resume=True) as draft:
        (kept,) = draft.kept([FIT]).values()
    assert (tmp_path / "first").exists()
    for name, value in vars(FITTED).items():
        np.testing.assert_array_equal(getattr(kept, name), value) if name in ("valid", "test") else None
        assert name in ("valid", "test") or getattr(kept, name) == value


def test_only_a_draft_of_the_same_plan_is_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cut"), drafts.start(tmp_path, "first", PLAN) as draft:
        draft.keep(FITTED)
        raise ValueError("cut")
    for plan, name in (({**PLAN, "seed": 4}, None), (PLAN, "second")):
        with (
            pytest.raises(RunError, match=r"holds no unfinished run.* start it without --resume"),
            drafts.start(tmp_path, name, plan, resume=True),
        ):
            pytest.fail("must not begin")
    with (
        pytest.raises(RunError, match=r"\.first: is an unfinished run of that name"),
        drafts.start(tmp_path, "first", PLAN),
    ):
        pytest.fail("must not begin")


def test_runs_without_a_name_do_not_collide(tmp_path: Path) -> None:
    for _ in range(3):
        with drafts.start(tmp_path, None, PLAN):
            pass
    assert len(list(tmp_path.iterdir())) == 3


def test_no_run_is_overwritten(tmp_path: Path) -> None:
    with drafts.start(tmp_path, "first", PLAN):
        pass
    with pytest.raises(RunError, match="first: exists already"), drafts.start(tmp_path, "first", PLAN):
        pytest.fail("must not begin")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "two words", "nul\0"])
def test_a_name_is_one_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="--name"), drafts.start(tmp_path / "out", name, PLAN):
        pytest.fail("must not begin")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RunError, match=r"file/runs: cannot be written .*--out"),
        drafts.start(tmp_path / "file/runs", None, PLAN),
    ):
        pytest.fail("must not begin")
