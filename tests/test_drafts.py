"""A run in the making: begun, locked, cut off, resumed, finished; no net is trained here."""

import errno
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import DEADLINE, environment, make_config, typed
from filelock import FileLock

from digit_recognizer import drafts, pipeline, recipes, runs
from digit_recognizer.drafts import Draft
from digit_recognizer.errors import RunError
from digit_recognizer.manifest import RunConfig
from digit_recognizer.predictions import Predictions
from digit_recognizer.splits import Split
from digit_recognizer.training import FitFailure, FitResult, FitTask

CONFIG = make_config()
SETTINGS = recipes.RECIPES["keras-mlp"].settings
TASK = FitTask("keras-mlp", SETTINGS, Split("fold 1", np.arange(3), np.arange(2)), seed=1)
FIT = FitResult(
    TASK,
    valid=np.random.default_rng(0).random((2, 10)).astype(np.float32),
    test=np.random.default_rng(1).random((4, 10)).astype(np.float32),
    content=bytes(range(256)),
    curve=[{"train_loss": 0.25, "valid_accuracy": 0.1}],
    seconds=1.5,
)


def write_stage(draft: Draft, content: str = "x") -> None:
    with draft.stage_folder() as folder:
        (folder / "file").write_text(content)


def cut_off(out: Path, name: str, *, fits: int = 1, config: RunConfig = CONFIG) -> Draft:
    """Leave a draft as a killed process does: unlocked, with `fits` finished fits."""
    with drafts.start(out, name, config) as draft:
        if fits:
            draft.save_fit(FIT)
        write_stage(draft)
        shutil.copytree(draft.folder, out / "copy")
    shutil.rmtree(draft.final)
    (out / "copy").rename(draft.folder)
    return draft


@contextmanager
def refused(match: str) -> Iterator[None]:
    """Expect a RunError of one line before the block begins."""
    with pytest.raises(RunError, match=match) as refusal:
        yield
    assert "\n" not in str(refusal.value)


def must_not_begin(out: Path, name: str | None, *, resume: bool = False, config: RunConfig = CONFIG) -> None:
    with drafts.start(out, name, config, resume=resume):
        pytest.fail("must not begin")


def test_the_latest_stage_becomes_the_run_and_nothing_else_stays(tmp_path: Path) -> None:
    with drafts.start(tmp_path, "first", CONFIG) as draft:
        write_stage(draft, "quick")
        draft.save_fit(FIT)
        for number in range(10):
            write_stage(draft, f"better {number}")
        assert not draft.final.exists()
    assert draft.final == tmp_path / "first"
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    assert (draft.final / "file").read_text() == "better 9"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_run_that_raises_before_a_fit_is_finished_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error) as stop, drafts.start(tmp_path, "first", CONFIG) as draft:
        write_stage(draft)
        raise error
    assert stop.value.__notes__ == ["No run was written."]
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_raises_is_not_the_latest(tmp_path: Path) -> None:
    with drafts.start(tmp_path, "first", CONFIG) as draft:
        write_stage(draft, "whole")
        with pytest.raises(OSError, match="disk"), draft.stage_folder() as folder:
            (folder / "file").write_text("half")
            raise OSError("disk")
    assert (draft.final / "file").read_text() == "whole"


def test_a_full_disk_raises_run_error_and_loses_no_fit(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No space left on device") as error:  # noqa: SIM117
        with drafts.start(tmp_path, "first", CONFIG) as draft:
            draft.save_fit(FIT)
            raise OSError(errno.ENOSPC, "No space left on device")
    assert "--resume goes on" in error.value.__notes__[0]
    assert draft.load_fits([TASK], pytest.fail)


def test_a_taken_name_at_the_end_raises_run_error_and_loses_no_fit(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="first: cannot be written"):  # noqa: SIM117
        with drafts.start(tmp_path, "first", CONFIG) as draft:
            draft.save_fit(FIT)
            write_stage(draft)
            draft.final.mkdir()
            (draft.final / "other").touch()
    (draft.final / "other").unlink()
    draft.final.rmdir()
    assert draft.load_fits([TASK], pytest.fail)


def test_a_resumed_run_has_what_was_fitted_before(tmp_path: Path) -> None:
    other = FitTask("other", SETTINGS, TASK.split, seed=1)
    failure = FitFailure(other, "the net diverged", by_settings=True)
    with pytest.raises(KeyboardInterrupt) as stop, drafts.start(tmp_path, "first", CONFIG) as draft:
        assert draft.load_fits([TASK], pytest.fail) == {}
        draft.save_fit(FIT)
        draft.save_failure(failure)
        raise KeyboardInterrupt
    assert stop.value.__notes__ == [
        "1 finished fits are kept; the same command with --resume goes on from them."
    ]
    assert not (tmp_path / "first").exists()
    config = RunConfig.model_validate_json(CONFIG.model_dump_json())
    with drafts.start(tmp_path, None, config, resume=True) as draft:
        outcomes = draft.load_fits([TASK, failure.task], pytest.fail)
        write_stage(draft)
    assert (tmp_path / "first").exists()
    kept = outcomes[TASK.name]
    assert outcomes[failure.task.name] == failure
    for name, value in vars(FIT).items():
        np.testing.assert_array_equal(getattr(kept, name), value, strict=isinstance(value, np.ndarray))


def spoil(content: bytes, damage: str) -> bytes:
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    return {"empty": b"", "half": content[:middle], "flipped": flipped, "digest": content[:32]}[damage]


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "digest"])
def test_a_damaged_fit_is_fitted_again_with_a_notice(tmp_path: Path, damage: str) -> None:
    draft = cut_off(tmp_path, "first")
    (path,) = (draft.folder / drafts.FITS).iterdir()
    path.write_bytes(spoil(path.read_bytes(), damage))
    notices: list[str] = []
    assert draft.load_fits([TASK], notices.append) == {}
    assert notices == [f"{path}: is damaged; keras-mlp fold 1 is fitted again"]


def test_a_damaged_failure_is_fitted_again_with_a_notice(tmp_path: Path) -> None:
    draft = cut_off(tmp_path, "first", fits=0)
    draft.save_failure(FitFailure(TASK, "diverged", by_settings=True))
    (path,) = (draft.folder / drafts.FITS).iterdir()
    path.write_text("{}")
    notices: list[str] = []
    assert draft.load_fits([TASK], notices.append) == {}
    assert notices == [f"{path}: is damaged; keras-mlp fold 1 is fitted again"]


def test_a_running_draft_is_neither_resumed_nor_begun_again(tmp_path: Path) -> None:
    with drafts.start(tmp_path, "first", CONFIG) as draft:
        draft.save_fit(FIT)
        assert draft.running
        assert draft.state == "first is still running"
        with refused("first is still running"):
            must_not_begin(tmp_path, None, resume=True)
        with refused("first is still running"):
            must_not_begin(tmp_path, "first")
        write_stage(draft)
    assert not draft.running


def test_asking_whether_a_draft_is_running_creates_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert not Draft(folder, tmp_path / "final").running
    assert list(tmp_path.iterdir()) == []


def test_a_probe_does_not_make_a_starting_process_fail(tmp_path: Path) -> None:
    lock = FileLock(cut_off(tmp_path, "first").folder / "lock")
    locked, stop = threading.Event(), threading.Event()

    def probe() -> None:  # as another command does while it looks
        with lock:
            locked.set()
            stop.wait(0.3)

    other = threading.Thread(target=probe)
    other.start()
    assert locked.wait(DEADLINE)
    with drafts.start(tmp_path, "first", CONFIG, resume=True) as draft:
        write_stage(draft)
    stop.set()
    other.join(DEADLINE)
    assert draft.final.exists()


def test_drafts_that_finish_while_they_are_listed_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stays = cut_off(tmp_path, "gone"), cut_off(tmp_path, "stays")
    glob = Path.glob

    def finishing(self: Path, pattern: str) -> list[Path]:
        paths = list(glob(self, pattern))
        if self == tmp_path:
            shutil.rmtree(gone.folder, ignore_errors=True)
        return paths

    monkeypatch.setattr(Path, "glob", finishing)
    assert [draft.final for draft in drafts.list_all(tmp_path)] == [stays.final]


@pytest.mark.parametrize(
    ("changes", "name", "difference"),
    [
        ({"seed": 4}, None, "; first has seed 3, not 4"),
        ({"command": "validate"}, None, "; first has command train, not validate"),
        ({}, "second", ""),
    ],
)
def test_only_a_draft_of_an_equal_config_is_resumed(
    tmp_path: Path, changes: dict[str, object], name: str | None, difference: str
) -> None:
    cut_off(tmp_path, "first")
    with refused(rf"holds no unfinished run.* versions{difference}; start it without --resume"):
        must_not_begin(tmp_path, name, resume=True, config=make_config(**changes))


def test_a_draft_with_fits_is_not_begun_again(tmp_path: Path) -> None:
    cut_off(tmp_path, "first")
    with refused(r"\.first: is an unfinished run with 1 finished fits; go on with --resume, or delete it"):
        must_not_begin(tmp_path, "first")


def test_a_draft_without_fits_is_begun_anew(tmp_path: Path) -> None:
    left = cut_off(tmp_path, "first", fits=0, config=make_config(command="ensemble"))
    (left.folder / "logs/left.jsonl").touch()
    assert "cut off before a fit was finished" in left.state
    with drafts.start(tmp_path, "first", CONFIG) as draft:
        assert list(draft.logs.iterdir()) == []
        assert draft.latest_stage() is None
        write_stage(draft)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_a_killed_ensemble_is_begun_anew_under_its_name(tmp_path: Path, tiny_run: runs.Run) -> None:
    cut_off(tmp_path, "blend", fits=0, config=make_config(command="ensemble"))
    run = pipeline.blend_runs([tiny_run], "mean", out=tmp_path, name="blend", on_notice=print)
    assert run.submission.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["blend"]


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"command": "train"}', "\0" * 100])
def test_a_draft_with_a_damaged_config_says_to_delete_it(tmp_path: Path, content: str | None) -> None:
    draft = cut_off(tmp_path, "first")
    config = draft.folder / "config.json"
    config.unlink() if content is None else config.write_text(content)
    with refused(r"\.first/config\.json: .*; it cannot be resumed, delete .*\.first$"):
        must_not_begin(tmp_path, "first", resume=True)
    with refused(r"\.first: is an unfinished run .*delete it"):
        must_not_begin(tmp_path, "first")
    with refused("holds no unfinished run with these settings"):
        must_not_begin(tmp_path, None, resume=True)
    assert "delete" in draft.state


def test_runs_without_a_name_do_not_collide(tmp_path: Path) -> None:
    for _ in range(3):
        with drafts.start(tmp_path, None, CONFIG) as draft:
            write_stage(draft)
    assert len(list(tmp_path.iterdir())) == 3


def test_no_run_is_overwritten(tmp_path: Path) -> None:
    with drafts.start(tmp_path, "first", CONFIG) as draft:
        write_stage(draft)
    with refused("first: exists already; take another --name, or delete that run"):
        must_not_begin(tmp_path, "first")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "two words", "nul\0", "a" * 101, "\x1b[31m"])
def test_a_name_that_is_no_folders_raises_run_error(tmp_path: Path, name: str) -> None:
    with refused("--name .*: expected up to 100 letters"):
        must_not_begin(tmp_path / "out", name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_raises_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused(r"file/runs: cannot be written .*--out"):
        must_not_begin(tmp_path / "file/runs", None)


def test_an_out_that_is_a_dangling_link_raises_run_error(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "missing")
    with refused(r"out: cannot be written .*--out"):
        must_not_begin(tmp_path / "out", None)


def test_a_file_in_the_drafts_place_raises_run_error(tmp_path: Path) -> None:
    (tmp_path / ".first").touch()
    with refused(r"cannot be written \(File exists\)"):
        must_not_begin(tmp_path, "first")


def copy_stage(draft: Draft, run: runs.Run, *, shift: int) -> None:
    """Write the run as a stage whose test probabilities are those of other digits."""
    with draft.stage_folder() as folder:
        shutil.copytree(run.folder, folder, dirs_exist_ok=True)
        held_out, members = run.predictions()
        moved = [Predictions(m.name, m.out_of_fold, np.roll(m.test, shift, 0)) for m in members]
        runs.write_probabilities(folder, held_out, moved)
        runs.write_manifest(folder, run.manifest.model_copy(update={"stopped_early": f"shift {shift}"}))


def test_a_run_being_fitted_is_read_from_one_stage(tmp_path: Path, tiny_run: runs.Run) -> None:
    with drafts.start(tmp_path, "first", CONFIG) as draft:
        with refused("first: holds no run.json"):
            drafts.find_run(tmp_path, "first")
        copy_stage(draft, tiny_run, shift=1)
        before = drafts.find_run(tmp_path, "first")
        copy_stage(draft, tiny_run, shift=2)
        after = drafts.find_run(tmp_path, "first")
        for run, shift in ((before, 1), (after, 2)):
            assert run.unfinished
            assert run.manifest.stopped_early == f"shift {shift}"
            for member, original in zip(run.predictions()[1], tiny_run.predictions()[1], strict=True):
                np.testing.assert_array_equal(member.test, np.roll(original.test, shift, 0))
    finished = drafts.find_run(tmp_path, "first")
    assert not finished.unfinished
    assert finished.manifest == after.manifest


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from digit_recognizer import drafts, runs
from digit_recognizer.errors import RunError
run, out = map(Path, sys.argv[1:])
with drafts.start(out, "cut", runs.load(run).manifest.config) as draft:
    (draft.folder / "fits/a.fit").touch()
    with draft.stage_folder() as folder:
        shutil.copytree(run, folder, dirs_exist_ok=True)
    shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_between_the_rename_and_the_clean_up_the_run_is_whole(
    tmp_path: Path, tiny_run: runs.Run
) -> None:
    out = tmp_path / "submissions"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tiny_run.folder), str(out)], env=environment(), timeout=DEADLINE
    )
    assert killed.returncode == -signal.SIGKILL
    assert (out / ".cut").exists()
    run = drafts.find_run(out, "cut")
    assert not run.unfinished
    assert [member.name for member in run.predictions()[1]] == list(tiny_run.manifest.scores)
    listed = typed("runs", cwd=tmp_path)
    assert (listed.code, listed.err) == (0, "")
    assert listed.out.splitlines()[1].startswith("cut ")
    again = typed("ensemble", "cut", "--name", "cut", cwd=tmp_path)
    assert again.err.startswith("Error: submissions/cut: exists already")
    assert typed("ensemble", "cut", "--name", "other", cwd=tmp_path).code == 0
    with refused("holds no unfinished run"):
        must_not_begin(out, None, resume=True, config=run.manifest.config)
