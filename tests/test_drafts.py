"""A run's folder while it is filled: begun, locked, cut off, resumed, complete; no net is trained here."""

import errno
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import DEADLINE, TEST, changed, full_disk, make_config, raises_line, tiny_job, train
from filelock import FileLock

from digit_recognizer import drafts, files, pipeline, recipes, records, runs, submission
from digit_recognizer.drafts import Draft
from digit_recognizer.errors import RunError
from digit_recognizer.manifest import Manifest, RunConfig
from digit_recognizer.predictions import HeldOut, Predictions
from digit_recognizer.splits import Split
from digit_recognizer.training import FitFailure, FitResult, FitTask, Progress

Parts = tuple[Manifest, HeldOut, list[Predictions]]
CONFIG = make_config()
SETTINGS = recipes.RECIPES["keras-mlp"].settings
TASK = FitTask("keras-mlp", SETTINGS, Split("fold 1", np.arange(3), np.arange(2)), seed=1)
FIT = FitResult(
    TASK,
    valid=np.random.default_rng(0).random((2, 10)).astype(np.float32),
    test=np.random.default_rng(1).random((4, 10)).astype(np.float32),
    model={"dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "mixed_bfloat16": np.array(True)},
    curve=[{"epoch": float(epoch), "train_loss": 0.5, "train_accuracy": 0.75} for epoch in (1, 2)],
    seconds=1.5,
)


@pytest.fixture(scope="module")
def parts(tiny_run: runs.Run) -> Parts:
    """The manifest, held-out rows and predictions of a complete run, to commit as stages of others."""
    return (tiny_run.manifest, *tiny_run.predictions())


def commit(draft: Draft, parts: Parts, shift: int = 0, *, stopped_early: str | None = None) -> None:
    """Complete a stage, whose test digits are those of `parts` moved by `shift` rows."""
    manifest, held_out, models = parts
    moved = [replace(model, test=np.roll(model.test, shift, 0)) for model in models]
    draft.write_probabilities(held_out, moved)
    no_fits = {"inference_fits": dict.fromkeys(manifest.models, ()), "fits": {}}
    draft.commit(changed(manifest, stopped_early=stopped_early, **no_fits), moved[-1].test.argmax(axis=1))


def cut_off(out: Path, name: str, *, fits: int = 1, config: RunConfig = CONFIG) -> Draft:
    """Leave a run as a killed process does: unlocked, with `fits` finished fits."""
    with suppress(Killed), drafts.start(out, name, config) as draft:
        if fits:
            draft.save_outcome(FIT)
        shutil.copytree(draft.folder, out / "copy")
        raise Killed
    shutil.rmtree(draft.folder, ignore_errors=True)
    (out / "copy").rename(draft.folder)
    return draft


class Killed(Exception):
    """Ends a block that a killed process would not have left."""


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


refused = partial(raises_line, RunError)


def must_not_begin(out: Path, name: str | None, *, resume: bool = False, config: RunConfig = CONFIG) -> None:
    with drafts.start(out, name, config, resume=resume):
        pytest.fail("must not begin")


COMPLETE = ["fits", "probabilities-3.npz", "run.json", "submission.csv"]


def test_each_stage_is_a_run_and_only_the_latest_stays(tmp_path: Path, parts: Parts) -> None:
    with drafts.start(tmp_path, "first", CONFIG) as draft:
        with refused("first: is still running, and nothing of it is complete yet"):
            runs.find(tmp_path, "first")
        for shift in (1, 2, 3):
            for page in ("draw.html", "report/report.html"):  # of the stage before
                (draft.folder / page).parent.mkdir(exist_ok=True)
                (draft.folder / page).touch()
            draft.save_outcome(FIT)
            commit(draft, parts, shift, stopped_early="cut off" if shift < 3 else None)
            run = runs.find(tmp_path, "first")
            assert run.is_running
            np.testing.assert_array_equal(run.predictions()[1][0].test, np.roll(parts[2][0].test, shift, 0))
            assert submission.check(run.submission, rows=TEST).sha256 == run.manifest.submission_sha256
            assert f"probabilities-{shift}.npz" in contents(draft.folder)
    assert contents(tmp_path) == ["first"]
    assert contents(draft.folder) == COMPLETE
    assert contents(draft.folder / "fits") == []  # the one of no model
    assert not runs.load(draft.folder).is_running


def test_a_run_that_raises_before_a_fit_is_finished_leaves_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        assert not runs.is_running(folder)
    with pytest.raises(KeyboardInterrupt) as stop, drafts.start(tmp_path, "first", CONFIG):
        raise KeyboardInterrupt
    assert stop.value.__notes__ == ["No run was written; without a complete fit there is nothing to resume."]
    assert contents(tmp_path) == []


def test_a_run_that_raises_after_a_stage_keeps_it_and_goes_on(tmp_path: Path, parts: Parts) -> None:
    with pytest.raises(ValueError, match="bug") as stop, drafts.start(tmp_path, "first", CONFIG) as draft:
        draft.save_outcome(FIT)
        commit(draft, parts, stopped_early="cut off")
        raise ValueError("bug")
    assert stop.value.__notes__ == [
        f"{draft.folder} holds what was complete; the same command with --resume goes on."
    ]
    assert runs.find(tmp_path, "first").manifest.stage == 1
    with drafts.start(tmp_path, None, CONFIG, resume=True) as draft:
        assert draft.load_fits([TASK], pytest.fail)
        commit(draft, parts)
    assert runs.find(tmp_path, "first").manifest.stage == 2
    with refused("holds no unfinished run"):
        must_not_begin(tmp_path, None, resume=True)


@pytest.mark.parametrize("earlier", [False, True])
def test_killed_before_any_change_of_a_file_the_run_is_whole(
    tmp_path: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    left = [0]  # changes until the kill

    def killed_at_0(change: Callable[..., None]) -> Callable[..., None]:
        def changed(*arguments: object) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            change(*arguments)

        return changed

    stages, complete = [], False
    while not complete:
        name = f"run-{len(stages)}"
        with monkeypatch.context() as patch, suppress(Killed), drafts.start(tmp_path, name, CONFIG) as draft:
            draft.save_outcome(FIT)
            if earlier:
                commit(draft, parts, 1, stopped_early="cut off")
            left[0] = len(stages)
            for module in (drafts, runs, records):
                patch.setattr(module, "write_atomically", killed_at_0(files.write_atomically))
            patch.setattr(drafts, "delete", killed_at_0(files.delete))
            patch.setattr(Draft, "tidy", lambda _: None)
            commit(draft, parts, 2, stopped_early="cut off")
            complete = True
        if not (draft.folder / "run.json").exists():
            stages.append(0)
            continue
        run = runs.find(tmp_path, name)
        stages.append(run.manifest.stage)
        shift = run.manifest.stage if earlier else 2
        np.testing.assert_array_equal(run.predictions()[1][0].test, np.roll(parts[2][0].test, shift, 0))
        assert submission.check(run.submission, rows=TEST).sha256 == run.manifest.submission_sha256
    assert stages == sorted(stages)
    assert set(stages) == ({1, 2} if earlier else {0, 1})


def test_a_submission_that_is_gone_is_made_again_and_a_changed_one_left(tmp_path: Path, parts: Parts) -> None:
    with drafts.start(tmp_path, "first", CONFIG) as draft:
        commit(draft, parts)
    path = draft.folder / "submission.csv"
    content = path.read_bytes()
    path.unlink()
    runs.load(draft.folder)
    assert path.read_bytes() == content
    path.write_text("ImageId,Label\n")
    runs.load(draft.folder)
    assert path.read_text() == "ImageId,Label\n"


def test_a_submission_that_cannot_be_replaced_leaves_the_stage_before(
    tmp_path: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "submission.csv":
            raise PermissionError(errno.EACCES, "it is open in another program")
        unlink(path, missing_ok)

    with drafts.start(tmp_path, "first", CONFIG) as draft:
        commit(draft, parts, 1, stopped_early="cut off")
        earlier = draft.folder / "run.json"
        content = earlier.read_bytes()
        with monkeypatch.context() as patch, refused("submission.csv: .*open in another program"):
            patch.setattr(Path, "unlink", refuse)
            commit(draft, parts, 2)
        assert earlier.read_bytes() == content
        assert runs.load(draft.folder).manifest.stage == 1


def test_a_full_disk_raises_run_error_and_loses_no_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="No space left on device") as error:  # noqa: SIM117
        with drafts.start(tmp_path, "first", CONFIG) as draft:
            draft.save_outcome(FIT)
            monkeypatch.setattr("os.fsync", full_disk)
            draft.save_outcome(FIT)
    assert "--resume goes on" in error.value.__notes__[0]
    assert draft.load_fits([TASK], pytest.fail)
    with refused("second/config.json: cannot be written"):
        must_not_begin(tmp_path, "second")
    assert contents(tmp_path) == ["first"]


def test_a_resumed_run_has_what_was_fitted_before(tmp_path: Path, parts: Parts) -> None:
    other = FitTask("other", SETTINGS, TASK.split, seed=1)
    failure = FitFailure(other, "the net diverged", deterministic=True)
    with pytest.raises(KeyboardInterrupt), drafts.start(tmp_path, "first", CONFIG) as draft:
        assert draft.load_fits([TASK], pytest.fail) == {}
        draft.save_outcome(FIT)
        draft.save_outcome(failure)
        raise KeyboardInterrupt
    assert not (tmp_path / "first/run.json").exists()
    config = RunConfig.model_validate_json(CONFIG.model_dump_json())
    with drafts.start(tmp_path, None, config, resume=True) as draft:
        outcomes = draft.load_fits([TASK, failure.task], pytest.fail)
        commit(draft, parts)
    kept = outcomes[TASK.name]
    assert outcomes[failure.task.name] == failure
    np.testing.assert_array_equal(kept.valid, FIT.valid, strict=True)
    np.testing.assert_array_equal(kept.test, FIT.test, strict=True)
    assert (kept.curve, kept.seconds, list(kept.model)) == (FIT.curve, FIT.seconds, list(FIT.model))
    for name, array in FIT.model.items():
        np.testing.assert_array_equal(kept.model[name], array, strict=True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:-9],
        lambda _: replace(FIT, valid=FIT.test).to_bytes(),
        lambda _: replace(FIT, test=FIT.test * 2).to_bytes(),
        lambda _: replace(FIT, test=FIT.test * np.float32("nan")).to_bytes(),
        lambda _: replace(FIT, curve=[{"loss": 1.0}]).to_bytes(),
    ],
)
def test_a_damaged_fit_is_fitted_again_with_a_notice(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    draft = cut_off(tmp_path, "first")
    (path,) = (draft.folder / "fits").iterdir()
    path.write_bytes(spoil(path.read_bytes()))
    notices: list[str] = []
    assert draft.load_fits([TASK], notices.append) == {}
    assert notices == [f"{path}: is damaged; keras-mlp fold 1 is fitted again"]


def test_a_running_run_is_neither_resumed_nor_begun_again(
    tmp_path: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drafts, "LOCK_SECONDS", 0.05)
    with drafts.start(tmp_path, "first", CONFIG) as draft:
        draft.save_outcome(FIT)
        assert runs.list_unfinished(tmp_path) == ["first is still running"]
        for begin in (
            lambda: must_not_begin(tmp_path, None, resume=True),
            lambda: must_not_begin(tmp_path, "first"),
            lambda: drafts.check_free(tmp_path / "first"),
        ):
            with refused("first is still running"):
                begin()
        commit(draft, parts)
        assert runs.list_unfinished(tmp_path) == ["first is still running"]
    assert runs.list_unfinished(tmp_path) == []


def test_a_probe_does_not_make_a_starting_process_fail(tmp_path: Path, parts: Parts) -> None:
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
        commit(draft, parts)
    stop.set()
    other.join(DEADLINE)
    assert runs.find(tmp_path, "first")


@pytest.mark.parametrize(
    ("changes", "name", "difference"),
    [
        ({"seed": 4}, None, " with .* versions; first has seed 3, not 4, and cannot go on here"),
        ({"command": "validate"}, None, " with .* versions; first has command train, not validate, and {BY}"),
        ({}, "second", " second"),
    ],
)
def test_only_a_run_of_an_equal_config_is_resumed(
    tmp_path: Path, changes: dict[str, object], name: str | None, difference: str
) -> None:
    cut_off(tmp_path, "first")
    by = f"goes on by `python -m digit_recognizer train --out {tmp_path} --name first --resume`"
    with refused(f": holds no unfinished run{difference.format(BY=by)}; start this one without --resume"):
        must_not_begin(tmp_path, name, resume=True, config=make_config(**changes))


@pytest.mark.parametrize(
    ("changes", "how"),
    [
        (
            {"options": "--set 'hidden=64-32' --seed 3"},
            "`{train} --set hidden=64-32 --seed 3 --out {out} --name 'x; y' --resume` {or_delete}",
        ),
        (  # of a stranger
            {"options": "; rm x # \x1b"},
            "`{train} ';' rm x '#' '\x1b' --out {out} --name 'x; y' --resume` {or_delete}",
        ),
        (
            {"options": "'"},
            "`{train} --out {out} --name 'x; y' --resume` {or_delete}",
        ),
        (
            {"source_hash": "0" * 16},
            "it cannot go on, as other versions began it; delete {out}/x; y",
        ),
    ],
)
def test_the_command_that_goes_on_with_a_run_is_told(
    tmp_path: Path, changes: dict[str, object], how: str
) -> None:
    cut_off(tmp_path, "x; y", config=make_config(**changes))
    (line,) = runs.list_unfinished(tmp_path)
    how = how.format(
        out=tmp_path,
        train="python -m digit_recognizer train",
        or_delete=f"goes on, or delete {tmp_path}/x; y",
    )
    assert line == f"x; y was cut off with 1 finished fit; {how}"


def test_what_was_cut_off_before_a_fit_is_begun_anew(tmp_path: Path, parts: Parts) -> None:
    left = cut_off(tmp_path, "first", fits=0)
    for path in ("logs/left.jsonl", "probabilities-1.npz", ".config.json-0a1b2c3d"):
        (left.folder / path).touch()
    assert "cut off before a fit was finished" in runs.list_unfinished(tmp_path)[0]
    with drafts.start(tmp_path, "first", CONFIG) as draft:
        assert contents(draft.folder) == ["config.json", "fits", "lock", "logs"]
        assert contents(draft.folder / "logs") == []
        commit(draft, parts)
    assert contents(tmp_path) == ["first"]


def test_a_killed_ensemble_is_begun_anew_under_its_name(tmp_path: Path, tiny_run: runs.Run) -> None:
    cut_off(tmp_path, "blend", config=make_config(command="ensemble"))
    assert runs.list_unfinished(tmp_path) == []
    run = pipeline.blend_runs([tiny_run], "mean", out=tmp_path, name="blend", on_notice=print)
    assert run.submission.exists()
    assert contents(run.folder) == ["fits", "probabilities-1.npz", "run.json", "submission.csv"]


@pytest.mark.parametrize("content", ["", '{"command": "train"}'])
def test_a_run_with_a_damaged_config_says_to_delete_it(tmp_path: Path, content: str) -> None:
    draft = cut_off(tmp_path, "first")
    (draft.folder / "config.json").write_text(content)
    with refused(r"first/config\.json: .*; it cannot be resumed, delete .*first$"):
        must_not_begin(tmp_path, "first", resume=True)
    with refused("holds no unfinished run; first cannot be read; start this one without --resume$"):
        must_not_begin(tmp_path, None, resume=True)
    assert "delete" in runs.list_unfinished(tmp_path)[0]


def test_runs_without_a_name_do_not_collide(tmp_path: Path, parts: Parts) -> None:
    for _ in range(3):
        with drafts.start(tmp_path, None, CONFIG) as draft:
            commit(draft, parts)
    assert len(contents(tmp_path)) == 3


@pytest.mark.parametrize("foreign", ["run.json", "submission.csv", ".git", "fits-of-mine"])
def test_no_run_and_no_folder_of_the_users_is_overwritten(tmp_path: Path, foreign: str) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / foreign).write_text("mine")
    with refused("first: exists already; take another --name, or delete that run"):
        must_not_begin(tmp_path, "first")
    assert (tmp_path / "first" / foreign).read_text() == "mine"
    assert contents(tmp_path / "first") == [foreign]


def test_a_name_that_is_taken_is_refused_before_the_digits_are_read(tmp_path: Path, home: Path) -> None:
    cut_off(tmp_path, "first")
    (tmp_path / "data").mkdir()
    with refused(r"first: is an unfinished run with finished fits; --resume goes on, or delete it"):
        train(tiny_job(home, out=tmp_path, name="first", data_dir=tmp_path / "data"))


def test_a_place_that_cannot_be_written_raises_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    for out in (tmp_path / "file/runs", tmp_path / "link"):
        with refused(r"cannot be written .*--out"):
            must_not_begin(out, None)
    with refused(r"file: cannot be written \(File exists\)"):
        must_not_begin(tmp_path, "file")


def test_an_unfinished_run_is_named_as_such(tmp_path: Path) -> None:
    cut_off(tmp_path, "first")
    with refused("first: is an unfinished run; `runs` says how to go on with it$"):
        runs.find(tmp_path, "first")


def test_a_fits_log_begins_anew_and_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    draft, file = drafts.Draft(tmp_path), tmp_path / "logs" / "net-fold-1.jsonl"
    file.parent.mkdir()
    file.write_text("of a fit that was cut off\n")
    first = {"epoch": 1.0, "valid_loss": 0.5}
    for done, metrics in ((0.0, {}), (0.5, first), (1.0, first)):
        draft.log(Progress("net fold 1", done, metrics.get("epoch", 0), 2, metrics))
    drafts.Draft(tmp_path / "no folder").log(Progress("net fold 1", 0.5, 1, 2, first))
    assert drafts.read_log(file) == [first]
    with file.open("a") as log:
        log.write('{"epoch": 2.0, "valid_l')
    assert drafts.read_log(file) == [first]
    assert drafts.read_log(tmp_path / "missing") == []
