"""`train --minutes` on small real digits: within its time, stopped, killed and resumed."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, TEST, TRAIN, Ended, Run

from digit_recognizer import drafts, pipeline, recipes, runs, submission

pytestmark = pytest.mark.slow
SMALL = ("hidden=16", "batch_size=32", "deskew=no", "augment_strength=0", "augment_strength_end=0")
TYPED = ["--recipe", "keras-mlp", *(word for one in (*SMALL, "epochs=1") for word in ("--set", one))]


def started(home: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "digit_recognizer", "train", "--name", name, *arguments]
    return subprocess.Popen(
        command, cwd=home, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def short(home: Path) -> tuple[runs.Run, list[str], float]:
    """A run of 36 seconds, less than the command line takes, with what it said."""
    said: list[str] = []
    job = pipeline.Job(
        recipes=("keras-mlp", "sklearn-mlp"), overrides=(*SMALL, "epochs=4", "averaged_epochs=2"),
        minutes=0.6, jobs=2,
        data_dir=home / "data", out=home / "submissions", name="short",
    )  # fmt: skip
    began = time.time()
    run = pipeline.train(job, on_notice=said.append, on_progress=lambda progress: said.append(progress.fit))
    return run, said, time.time() - began


def test_the_minutes_are_used_and_kept(short: tuple[runs.Run, list[str], float]) -> None:
    run, _, seconds = short
    assert 0.6 * 60 / 3 < seconds < 0.6 * 60 * 3  # other load may slow or hasten it
    assert run.manifest.config.minutes == 0.6
    assert list(run.manifest.recipes)[:2] == ["keras-mlp-1", "sklearn-mlp-1"]
    curves = [fit.curve for fit in run.manifest.fits.values()]
    assert all(curves)
    assert max(map(len, curves)) >= 4
    assert len(submission.check(run.submission, rows=TEST).labels) == TEST
    assert run.manifest.scores["blend"].accuracy > 0.7


def test_what_will_be_done_is_said_before_it_is_done(short: tuple[runs.Run, list[str], float]) -> None:
    _, said, _ = short
    stages = next(i for i, line in enumerate(said) if re.match(r"Fits of \d+ s, on 2 cores:", line))
    assert " keras-mlp, about " in said[stages + 1]
    assert said.index("keras-mlp-1 holdout") > stages + 1


def test_members_of_one_recipe_differ_by_their_seed(short: tuple[runs.Run, list[str], float]) -> None:
    _, members = short[0].predictions()
    own = [one.test for one in members if one.name.startswith("keras-mlp-")]
    assert len(own) >= 2
    assert np.abs(own[0] - own[1]).max() > 0.01


def test_a_report_of_what_is_finished_does_not_stay(home: Path, run: Run, ended: Ended) -> None:
    assert ended.code == 0, ended.err
    assert not (home / "submissions/sigterm/report").exists()
    assert not (home / "submissions/.sigterm").exists()


@pytest.fixture(scope="module")
def ended(home: Path) -> Ended:
    """A run that gets SIGTERM when some members are finished, after a report of them was written."""
    process = started(home, "sigterm", "--minutes", "1", *TYPED)
    draft = home / "submissions/.sigterm"
    wait_for(draft / "stage-1/run.json", process)
    command = [sys.executable, "-m", "digit_recognizer", "report", "sigterm"]
    report = subprocess.run(
        command, cwd=home, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert report.returncode == 0, report.stderr
    (home / "so-far.html").write_text((home / report.stdout.strip()).read_text())
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert not leftovers(process.pid)
    return Ended(process.returncode, out, err)


def check_stopped(home: Path, name: str, ended: Ended) -> None:
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    assert ended.out.splitlines()[-1] == f"submissions/{name}/submission.csv"
    manifest = json.loads((home / f"submissions/{name}/run.json").read_text())
    finished = [name for name in manifest["scores"] if name != "blend"]
    assert 1 <= len(finished) < 16
    assert "fits were finished" in manifest["stopped_early"]
    assert list(manifest["recipes"]) == finished
    assert {fit.split()[0] for fit in manifest["fits"]} == set(finished)
    assert len(submission.check(home / f"submissions/{name}/submission.csv", rows=TEST).labels) == TEST


def test_sigterm_ends_it_with_a_submission_of_what_is_finished(home: Path, ended: Ended) -> None:
    assert "Stopped early: " in ended.err
    check_stopped(home, "sigterm", ended)


def test_while_it_runs_the_report_has_the_curves_of_all_members(home: Path, ended: Ended) -> None:
    page = (home / "so-far.html").read_text()
    unfinished = re.search(r"Not finished yet, and so only here: (.+)\.</p>", page)
    assert unfinished
    assert all(name.startswith("keras-mlp-") for name in unfinished[1].split(", "))
    assert "Line chart of accuracy by epoch: keras-mlp ends at" in page
    assert "<title>Run sigterm" in page


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes that fit in /proc")
def test_so_does_the_death_of_a_process_that_fits(home: Path) -> None:
    process = started(home, "died", "--minutes", "1", *TYPED)
    wait_for(home / "submissions/.died/stage-1/run.json", process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [int(pid) for pid in children if b"LokyProcess" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert (
        "Stopped early (a process that fits was killed, perhaps for lack of memory; try fewer --jobs)" in err
    )
    check_stopped(home, "died", Ended(process.returncode, out, err))


def test_better_nets_take_the_quick_ones_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "FOR_MINUTES", (("keras-mlp",), ("sklearn-mlp",)))
    job = pipeline.Job(
        overrides=(*SMALL, "epochs=2", "averaged_epochs=1"), minutes=0.5, jobs=2,
        data_dir=home / "data", out=home / "submissions", name="staged",
    )  # fmt: skip
    said: list[str] = []
    run = pipeline.train(job, on_notice=said.append, on_progress=lambda progress: said.append(progress.fit))
    assert said.index("keras-mlp-1 holdout") < said.index("sklearn-mlp-1 holdout")
    models = run.manifest.models
    assert len(models) >= 2
    assert all(name.startswith("sklearn-mlp-") for name in models)
    assert sorted(path.name for path in (run.folder / "models").iterdir()) == sorted(
        f"{name}-holdout.npz" for name in models
    )


def test_one_core_folds_and_a_refit(home: Path) -> None:
    job = pipeline.Job(
        recipes=("sklearn-mlp",), minutes=0.25, jobs=1,
        overrides=("hidden=8", "augment_strength=0", "augment_strength_end=0", "epochs=500"),
        folds=2, refit=True, data_dir=home / "data", out=home / "submissions", name="folded",
    )  # fmt: skip
    run = pipeline.train(job, on_notice=print, on_progress=print)
    assert set(run.manifest.fits) == {f"sklearn-mlp-1 {part}" for part in ("fold 1", "fold 2", "all rows")}
    assert run.manifest.scores["sklearn-mlp-1"].digits == TRAIN
    assert run.manifest.seconds["total"] < 0.25 * 60 * 3
    curves = [fit.curve for fit in run.manifest.fits.values()]
    assert run.manifest.recipes["sklearn-mlp-1"].epochs == max(map(len, curves))


def leftovers(group: int) -> list[str]:
    """Processes of the group that still run."""
    time.sleep(1)
    listed = subprocess.run(
        ["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    return [
        line for line in listed.splitlines() if line.split()[0] == str(group) and "Z" not in line.split()[1]
    ]


def test_killed_in_the_middle_it_resumes_with_the_finished_members(home: Path, run: Run) -> None:
    process = started(home, "killed", "--minutes", "1", *TYPED)
    draft = home / "submissions/.killed"
    wait_for(draft / "stage-1/run.json", process)
    process.kill()
    process.communicate(timeout=30)  # what fits beside it has its stderr too
    assert not leftovers(process.pid)
    kept = {path.stem: path.read_bytes() for path in (draft / "fits").glob("*.fit")}
    schedule: dict[str, Any] = json.loads((draft / "schedule.json").read_text())
    members = [member["name"] for stage in schedule["stages"] for member in stage["members"]]
    assert 1 <= len(kept) < len(members)
    other = run("train", "--name", "killed", "--minutes", 1, *TYPED, "--resume", "--jobs", 1, cwd=home)
    assert "holds no unfinished run killed with these settings, data, cores and" in other.err
    again = run("train", "--name", "killed", "--minutes", 1, *TYPED, "--resume", cwd=home)
    assert again.code == 0, again.err
    assert f"{len(kept)} of {len(members)} fits are finished already" in again.err
    stored = np.load(home / "submissions/killed/probabilities.npz")
    manifest = json.loads((home / "submissions/killed/run.json").read_text())
    assert [name for name in manifest["scores"] if name != "blend"] == members
    for fit, content in kept.items():
        name = fit.removesuffix("-holdout")
        fitted = np.load(io.BytesIO(content[drafts.DIGEST :]))  # the SHA-256 stands before it
        np.testing.assert_array_equal(stored[f"{name}/test"], fitted["test"])


def test_before_anything_is_finished_a_stop_leaves_nothing(home: Path) -> None:
    process = started(home, "early", "--minutes", "10")
    wait_for(home / "submissions/.early", process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "Stopped. No run was written."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0.5"], "0.5 is not in the range 1<=x<=600"),
        (["--minutes", "1", "--no-ensemble"], "--minutes fits an ensemble; leave out --no-ensemble"),
        (
            ["--minutes", "1", "--recipe", "sklearn-mlp-pca"],
            "--minutes sets when to stop, and so does patience of sklearn-mlp-pca",
        ),
    ],
)
def test_what_no_minutes_can_do_is_refused(run: Run, arguments: list[str], message: str) -> None:
    ended = run("train", *arguments)
    assert ended.code != 0
    assert message in ended.err
    assert "Traceback" not in ended.err
