"""`train --minutes` on small real digits: tiers, within the time, stopped, killed and resumed."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DEADLINE, PLAIN, TEST, TRAIN, Start, changed, living, tiny_job, train, typed, wait_until

from digit_recognizer import (
    drafts,
    environment,
    pipeline,
    recipes,
    records,
    runs,
    schedule,
    submission,
    training,
)
from digit_recognizer.errors import RunError
from digit_recognizer.job import Job
from digit_recognizer.schedule import Schedule

pytestmark = pytest.mark.slow
SMALL = ("hidden=16", "epochs=2", "averaged_epochs=1", *PLAIN)
# What `python -c` runs: `train` with fewer minutes than the command line takes; imports take none of them.
PROGRAM = f"""
import sys
from digit_recognizer import job, pipeline, settings, training
from digit_recognizer.cli import commands, progress, terminal
def train():
    training.map_on_workers(exec, [("import digit_recognizer.nets.pipelines",)], workers=2, threads=1)
    with progress.show_progress() as on_progress:
        asked = job.Job(
            recipes=["sklearn-mlp"], settings=dict(map(settings.parse, {SMALL!r})), jobs=4, data_dir="data",
            name=arguments[1],
        ).model_copy(update={{"minutes": float(arguments[2])}})
        run = pipeline.train(asked, on_notice=terminal.notice, on_progress=on_progress)
    terminal.result(run.submission)
commands.cli = commands.click.Command("train", callback=train)
sys.argv, arguments = sys.argv[:1], sys.argv
if __name__ == "__main__":
    commands.main()
"""


@pytest.fixture(autouse=True)
def warm_workers() -> None:
    """Start the processes that fit, which a signal may have ended, and import there what takes seconds."""
    training.map_on_workers(exec, [("import digit_recognizer.nets.pipelines",)], workers=2, threads=1)


def test_the_minutes_are_used_and_kept(home: Path) -> None:
    """Nine seconds are less than the command line takes."""
    notices: list[str] = []
    job = tiny_job(home, overrides=SMALL, folds=None, minutes=0.15, jobs=4, name="short")
    began = time.monotonic()
    run = pipeline.train(
        job, on_notice=notices.append, on_progress=lambda progress: notices.append(progress.fit)
    )
    assert 9 / 3 < time.monotonic() - began < 9 * 3
    planned = next(line for line in notices if line.startswith("Fits of "))
    recipe = r"\d sklearn-mlp"
    assert re.fullmatch(rf"Fits of \d+ s, 2 at a time: {recipe}, {recipe}-plain", planned)
    assert notices.index("sklearn-mlp-1 holdout") > notices.index(planned)
    manifest = run.manifest
    assert manifest.config.minutes == 0.15
    assert list(manifest.settings)[:2] == ["sklearn-mlp-1", "sklearn-mlp-plain-1"]
    epochs = [fit.curve[-1].epoch for fit in manifest.fits.values()]
    assert min(epochs) > 0
    assert [settings.epochs for settings in manifest.settings.values()] == [max(1, round(n)) for n in epochs]
    assert len(submission.check(run.submission, rows=TEST).labels) == TEST
    assert manifest.scores["blend"].accuracy > 0.5
    assert manifest.stopped_early is None
    _, members = run.predictions()
    ours = [member.test for member in members if member.name.startswith("sklearn-mlp-plain-")]
    assert len(ours) >= 2
    assert np.abs(ours[0] - ours[1]).max() > 0.01  # their seeds differ


def test_the_minutes_of_a_command_begin_with_its_program(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def fill(*_: object, elapsed: Callable[[], float], **__: object) -> None:
        seen.append(elapsed())
        raise RunError("stop")

    monkeypatch.setattr(pipeline, "fill_minutes", fill)
    monkeypatch.setattr(environment, "STARTED", time.monotonic() - 500)
    for is_command in (True, False):
        monkeypatch.setattr(environment, "is_own_process", is_command)
        with pytest.raises(RunError, match="stop"):
            train(tiny_job(home, minutes=1, name="begins"))
    assert 500 < seen[0] < 600
    assert seen[1] < 100


@pytest.fixture
def two_tiers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "FOR_MINUTES", (("sklearn-mlp-plain",), ("sklearn-mlp",)))
    monkeypatch.setattr(recipes, "CONVOLUTIONS_FROM_MINUTES", 0)
    monkeypatch.setattr(schedule, "FIRST_TIER_SHARE", 0.4)  # so short a time is not enough for an eighth


def staged_job(home: Path, name: str) -> Job:
    return tiny_job(home, recipes=None, overrides=SMALL, folds=3, jobs=4, minutes=0.15, name=name)


def test_better_nets_take_the_quick_ones_place_and_the_first_stage_is_a_run(
    home: Path, two_tiers: None
) -> None:
    early: list[runs.Run] = []
    sha256: list[str] = []
    job = staged_job(home, "staged")

    def on_progress(progress: training.Progress) -> None:
        if progress.fit.startswith("sklearn-mlp-1") and progress.epoch and not early:
            early.append(runs.find(job.out, "staged"))
            early[0].predictions()
            sha256.append(submission.check(early[0].submission, rows=TEST).sha256)

    run = pipeline.train(job, on_notice=print, on_progress=on_progress)
    assert early[0].manifest.stopped_early.startswith("cut off; ")
    assert sha256 == [early[0].manifest.submission_sha256]
    assert all(name.startswith("sklearn-mlp-plain-") for name in early[0].manifest.models)
    assert all(score.digits == TRAIN for score in early[0].manifest.scores.values())
    models = run.manifest.models
    assert models
    assert all(name.startswith("sklearn-mlp-") and "plain" not in name for name in models)
    fits = {f"{name}-fold-{fold}.npz" for name in models for fold in (1, 2, 3)}
    assert {path.name for path in (run.folder / "fits").iterdir()} == fits
    assert {path.name for path in job.out.iterdir() if "staged" in path.name} == {"staged"}


def test_a_signal_while_a_stage_is_written_ends_the_run_as_stopped_early(
    home: Path, two_tiers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, written = drafts.Draft.commit, []

    def interrupted_commit(draft: drafts.Draft, *arguments: Any) -> None:
        if not written:
            os.kill(os.getpid(), signal.SIGINT)
        commit(draft, *arguments)
        written.append(draft.manifest)
        time.sleep(0.1)  # seconds are rounded

    monkeypatch.setattr(drafts.Draft, "commit", interrupted_commit)
    run = train(staged_job(home, "written"))
    assert [manifest.stage for manifest in written] == [1]
    assert run.manifest.stopped_early.startswith("interrupted; ")
    assert run.manifest.seconds["total"] > written[0].seconds["total"]


def test_a_signal_before_the_first_stage_leaves_the_finished_fits(home: Path) -> None:
    job = tiny_job(home, recipes=("sklearn-mlp",), overrides=SMALL, folds=3, minutes=0.1, name="early")
    ended = [0]

    def on_progress(progress: training.Progress) -> None:
        if progress.epoch and "fold 2" in progress.fit and not ended[0]:
            ended[0] = 1
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stop:
        pipeline.train(job, on_notice=print, on_progress=on_progress)
    draft = drafts.Draft(job.out / job.name)
    assert runs.count_fits(draft.folder) == 1
    kept = f"{draft.folder} keeps 1 finished fit; the same command with --resume"
    assert stop.value.__notes__[0].startswith(kept)
    unfinished = runs.list_unfinished(job.out)
    assert any(line.startswith("early was cut off with 1 finished fit;") for line in unfinished)
    assert train(changed(job, resume=True)).manifest.stopped_early is None


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes that fit in /proc")
def test_the_death_of_a_process_that_fits_ends_the_run(home: Path, start: Start) -> None:
    process = start("-c", PROGRAM, "died", 0.5, cwd=home)
    wait_until((home / "submissions/died/run.json").exists, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [int(pid) for pid in children if b"LokyProcess" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    reason = "a process that fits was killed, perhaps for lack of memory; try fewer --jobs"
    assert f"Stopped early ({reason})" in err
    assert "Traceback" not in err
    assert out.splitlines()[-1] == "submissions/died/submission.csv"
    assert runs.load(home / "submissions/died").manifest.stopped_early.startswith("a process that fits was")


def test_repeated_sigterm_ends_a_program_with_its_submission_and_no_process(home: Path, start: Start) -> None:
    process = start("-c", PROGRAM, "sigterm", 1, cwd=home)
    wait_until((home / "submissions/sigterm/run.json").exists, process)
    logs = home / "submissions/sigterm/logs"
    wait_until(lambda: sum(file.stat().st_size > 0 for file in logs.glob("*.jsonl")) > 2, process)
    report = typed("report", "sigterm", cwd=home)  # of what is finished so far
    assert report.code == 0, report.err
    page = (home / report.out.strip()).read_text()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    assert "Stopped early (interrupted): " in err
    assert "Traceback" not in err
    assert out.splitlines()[-1] == "submissions/sigterm/submission.csv"
    run = runs.load(home / "submissions/sigterm")
    assert re.fullmatch(r"interrupted; \d of \d+ fits were finished", run.manifest.stopped_early)
    assert len(submission.check(run.submission, rows=TEST).labels) == TEST
    wait_until(lambda: not living(process.pid))
    assert not (home / "submissions/sigterm/report").exists()
    assert "<title>Run sigterm" in page
    assert re.search(r"Still being fitted, and so only in these curves: [^.]*sklearn-mlp-", page)


def test_killed_in_the_middle_it_resumes_with_the_finished_members(home: Path, start: Start) -> None:
    process = start("-c", PROGRAM, "killed", 0.25, cwd=home)
    folder = home / "submissions/killed"
    wait_until((folder / "run.json").exists, process)
    process.kill()
    _, err = process.communicate(timeout=DEADLINE)
    assert "Warning" not in err
    wait_until(lambda: not living(process.pid))  # its workers end by themselves
    kept = {path.name: path.read_bytes() for path in (folder / "fits").glob("*.npz")}
    stored_schedule = records.read(folder / "schedule.json", Schedule)
    members = [member.name for member in stored_schedule.members]
    assert 1 <= len(kept) < len(members)
    job = tiny_job(
        home, recipes=("sklearn-mlp",), overrides=SMALL, folds=None, minutes=0.25, jobs=4, name="killed",
        resume=True,
    )  # fmt: skip
    with pytest.raises(RunError, match=r"holds no unfinished run killed .*; killed has cores 4, not 1"):
        train(changed(job, jobs=1))
    notices: list[str] = []
    run = train(job, notices)
    assert f"Fits finished already: {len(kept)} of {len(members)}" in notices
    assert run.manifest.models == members
    stored = {member.name: member.test for member in run.predictions()[1]}
    for file, content in kept.items():
        (home / "fit.npz").write_bytes(content)
        with np.load(home / "fit.npz") as fit:
            np.testing.assert_array_equal(stored[file.removesuffix("-holdout.npz")], fit["test"])


def test_one_core_folds_and_a_refit(home: Path) -> None:
    job = tiny_job(home, recipes=("sklearn-mlp",), overrides=SMALL, minutes=0.1, refit=True, name="folded")
    run = train(job)
    assert {fit.split for fit in run.manifest.fits.values()} == {"fold 1", "fold 2", "all rows"}
    assert run.manifest.scores["sklearn-mlp-1"].digits == TRAIN
    assert run.manifest.seconds["total"] < 0.1 * 60 * 3
