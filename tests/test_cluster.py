"""Fits on a real Dask scheduler and single-thread workers, which are processes of their own on loopback."""

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import (
    DEADLINE,
    PLAIN,
    TEST,
    changed,
    first_rows,
    set_options,
    start_program,
    tiny_job,
    train,
    typed,
    wait_until,
    write_digits,
)

from digit_recognizer import pipeline, runs, submission, training
from digit_recognizer.errors import LibraryError, RunError
from digit_recognizer.job import Job
from digit_recognizer.nets.progress import Budget
from digit_recognizer.settings import MLPSettings
from digit_recognizer.splits import Split
from digit_recognizer.training import FitTask, Progress

cluster_module = importlib.import_module("digit_recognizer.training.cluster")
SLOW = ("hidden=16", "epochs=60")
QUICK = ("hidden=16", "epochs=4", "averaged_epochs=1", *PLAIN)
# Imported by the scheduler: counts what goes through its sockets.
COUNT = """
from tornado.iostream import IOStream
moved = [0]
def counted(function):
    def call(*arguments):
        moved[0] += (bytes := function(*arguments)) or 0
        return bytes
    return call
IOStream.write_to_fd, IOStream.read_from_fd = map(counted, (IOStream.write_to_fd, IOStream.read_from_fd))
def dask_setup(scheduler):
    scheduler.handlers["moved"] = lambda: moved[0]
"""
# Imported by a worker: another version of the package.
OTHER = "from digit_recognizer import manifest; manifest.source_hash = lambda: 'another'"


class Dask:
    """A scheduler and its workers, each a program of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.programs = folder, list[subprocess.Popen[str]]()

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = (sys.executable, "-m", "dask", *arguments, "--no-dashboard")
        with (self.folder / f"{len(self.programs)}.log").open("w") as log:
            self.programs.append(start_program(*command, cwd=self.folder, stdout=log, stderr=log))
        return self.programs[-1]

    def start_scheduler(self) -> None:
        file = self.folder / "scheduler.json"
        where = ("--host", "127.0.0.1", "--port", 0, "--scheduler-file", file)
        self.scheduler = self.start("scheduler", *where, "--preload", COUNT)
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))
        self.address = json.loads(file.read_text())["address"]

    def start_worker(self, *options: object, threads: int = 1) -> subprocess.Popen[str]:
        where = (self.address, "--no-nanny", "--local-directory", self.folder)
        return self.start("worker", *where, "--nthreads", threads, *options)

    def client(self) -> Any:
        return importlib.import_module("distributed").Client(self.address, set_as_default=False)

    def wait_for(self, workers: int) -> None:
        with self.client() as client:
            wait_until(lambda: len(client.nthreads()) == workers)


@contextmanager
def started(folder: Path) -> Iterator[Dask]:
    """Start a scheduler; it and what was started for it is killed in the end."""
    pytest.importorskip("distributed")
    dask = Dask(folder)
    try:
        dask.start_scheduler()
        yield dask
    finally:
        for program in dask.programs:
            program.kill()
            program.wait(DEADLINE)


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A scheduler and two workers."""
    with started(tmp_path_factory.mktemp("dask")) as dask:
        dask.start_worker(), dask.start_worker()
        dask.wait_for(2)
        yield dask


def slow_job(home: Path) -> Job:
    """Return a job that takes long enough to be disturbed."""
    return tiny_job(home, recipes=("sklearn-mlp-plain",), overrides=SLOW, folds=4, name="whole")


@pytest.fixture(scope="module")
def whole(home: Path) -> runs.Run:
    """The run of that job on this machine."""
    return train(slow_job(home))


def contents(run: runs.Run) -> dict[str, bytes]:
    """Return what may not differ between a run on a cluster and one on this machine."""
    files = [run.submission, *run.folder.glob("probabilities-*.npz")]
    return {path.name: path.read_bytes() for path in files}


def models(run: runs.Run) -> dict[str, dict[str, np.ndarray]]:
    arrays = {}
    for path in sorted((run.folder / "fits").glob("*.npz")):
        with np.load(path) as file:
            arrays[path.name] = {name: file[name] for name in file.files if name != "seconds"}
    return arrays


def watched(job: Job, on_progress: Callable[[Progress], None]) -> runs.Run:
    return pipeline.train(job, on_notice=lambda _: None, on_progress=on_progress)


@pytest.mark.slow
def test_a_cluster_gives_the_bytes_and_curves_of_this_machine_and_moves_the_digits_once(
    dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digit_recognizer.environment.is_own_process", True)  # TensorFlow: once, here
    rows = 2000, 1000
    write_digits(tmp_path / "data", *map(first_rows, ("train.csv.gz", "test.csv.gz"), rows))
    settings = ("hidden=16", "epochs=2", "averaged_epochs=1", *PLAIN)
    job = tiny_job(
        tmp_path, recipes=("sklearn-mlp-plain", "keras-mlp"), overrides=settings, folds=5, name="there",
        jobs=None, cluster=dask.address,
    )  # fmt: skip
    with dask.client() as client:
        before = client.sync(client.scheduler.moved)
        told: list[Progress] = []
        there = watched(job, told.append)
        moved = client.sync(client.scheduler.moved) - before
    told_here: list[Progress] = []
    here = watched(changed(job, cluster=None, jobs=1, name="here"), told_here.append)
    assert contents(there) == contents(here)
    assert len(models(here)) == 10
    np.testing.assert_equal(models(there), models(here))
    for fit in {progress.fit for progress in told_here}:
        curves = [[each for each in some if each.fit == fit and each.done] for some in (told, told_here)]
        assert len(curves[0]) == 3
        assert curves[0] == curves[1]
    results = sum(path.stat().st_size for path in (there.folder / "fits").iterdir())
    assert moved < 1.5 * 2 * sum(rows) * 784 + 2 * results  # results come in and go out
    assert moved > 2 * sum(rows) * 784
    assert there.manifest.config.difference_from(here.manifest.config) == ""  # either goes on with the other


@pytest.mark.slow
def test_a_search_on_a_cluster_tries_the_same_candidates(dask: Dask, home: Path) -> None:
    pytest.importorskip("optuna")
    options = ["--recipe", "sklearn-mlp-plain", "--folds", 3, "--trials", 5, "--json"]
    options += set_options(("hidden=16", "epochs=3", "learning_rate=0.001..0.1"))
    there, here = (
        json.loads(typed("tune", *options, "--name", f"search{where[0]}", *where, cwd=home).out)["candidates"]
        for where in (("--cluster", dask.address), ("--jobs", 1))
    )
    rates = [{row["candidate"]: row["learning_rate"] for row in rows} for rows in (there, here)]
    assert len(rates[0]) == 5
    assert rates[0] == rates[1]
    whole = [{row["candidate"]: row["errors"] for row in rows if row["folds"] == 3} for rows in (there, here)]
    both = whole[0].keys() & whole[1].keys()  # what is pruned depends on what has ended before
    assert len(both) > 1
    assert [whole[0][number] for number in both] == [whole[1][number] for number in both]


@pytest.mark.slow
def test_the_fit_of_a_worker_that_is_killed_is_done_again(dask: Dask, home: Path, whole: runs.Run) -> None:
    third = dask.start_worker()
    dask.wait_for(3)
    job = changed(slow_job(home), name="killed", jobs=None, cluster=dask.address)
    firsts: Counter[str] = Counter()

    def on_progress(progress: Progress) -> None:
        firsts[progress.fit] += progress.epoch == 1
        if progress.epoch == 1 and len(+firsts) == 3:  # all three are at work
            third.kill()

    run = watched(job, on_progress)
    assert sorted(firsts.values()) == [1, 1, 1, 2]
    assert contents(run) == contents(whole)


@pytest.mark.slow
def test_a_scheduler_that_is_killed_is_one_line_and_the_run_goes_on_here(
    tmp_path: Path, home: Path, whole: runs.Run, monkeypatch: pytest.MonkeyPatch, start: Any
) -> None:
    with started(tmp_path) as dask:
        job = changed(slow_job(home), name="lost", jobs=None, cluster=dask.address)
        alone = pytest.raises(RunError, match="has no workers; start one: dask")
        with monkeypatch.context() as patched, alone:
            patched.setattr(cluster_module, "SECONDS", 0.5)
            train(job)
        dask.start_worker()
        words = ["--recipe", "sklearn-mlp-plain", *set_options(SLOW), "--folds", 4, "--name", "lost"]
        process = start("-m", "digit_recognizer", "train", *words, "--cluster", dask.address, cwd=home)
        fits = home / "submissions/lost/fits"
        wait_until(lambda: fits.exists() and list(fits.glob("*.npz")), process)
        dask.scheduler.kill()
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    usual = re.compile("Read |Workers of|sklearn-mlp-plain fold")
    (line,) = [line for line in err.splitlines() if not usual.match(line)]
    assert line.startswith(f"Error: the scheduler at {dask.address} is lost; start it again, or leave out --")
    assert re.search(r"lost keeps \d finished fits?; the same command with --resume goes on from th", line)
    kept = runs.count_fits(home / "submissions/lost")
    assert 1 <= kept < 4
    notices: list[str] = []
    resumed = train(changed(job, cluster=None, jobs=1, resume=True), notices)
    assert f"Fits finished already: {kept} of 4" in notices
    assert contents(resumed) == contents(whole)


@pytest.mark.slow
def test_workers_that_may_give_other_numbers_are_refused_by_name(dask: Dask, home: Path) -> None:
    others = {
        "source_hash another, expected": dask.start_worker("--preload", OTHER),
        "--nthreads 2, expected 1": dask.start_worker(threads=2),
    }
    dask.wait_for(4)
    for number, left in ((4, dict(others)), (3, {})):
        with pytest.raises(RunError, match=r"^worker tcp://127.0.0.1:\d+: has .*; start it anew") as error:
            train(tiny_job(home, name="refused", jobs=None, cluster=dask.address))
        (found,) = [found for found in others if found in str(error.value)]
        others.pop(found).kill()
        dask.wait_for(number - 1)
        assert found in left or not left
    assert not (home / "submissions/refused").exists()


@pytest.mark.slow
def test_the_minutes_are_used_and_kept_on_all_workers_though_one_is_killed(dask: Dask, home: Path) -> None:
    third = dask.start_worker()
    dask.wait_for(3)
    with training.on_cluster(dask.address):  # so that no time goes by with imports
        training.import_libraries([MLPSettings()], workers=3, threads=1)
    job = tiny_job(
        home, recipes=("sklearn-mlp",), overrides=QUICK, folds=None, minutes=0.15, name="timed", jobs=None,
        cluster=dask.address,
    )  # fmt: skip
    notices: list[str] = []
    fitting: set[str] = set()

    def on_progress(progress: Progress) -> None:
        if 0 < progress.done < 1:
            fitting.add(progress.fit)
            if len(fitting) == 3:  # all three are at work
                third.kill()

    began = time.monotonic()
    run = pipeline.train(job, on_notice=notices.append, on_progress=on_progress)
    assert 9 / 3 < time.monotonic() - began < 9 * 2
    assert any(re.match(r"Fits of \d+ s, 3 at a time: ", line) for line in notices)
    assert list(run.manifest.failed_fits.values()) == ["not done in time; its worker was lost or held up"]
    assert len(run.manifest.models) >= 4  # of further rounds, too
    assert run.manifest.config.cores is None
    assert len(submission.check(run.submission, rows=TEST).labels) == TEST


@pytest.mark.slow
def test_ctrl_c_ends_the_fits_on_the_cluster(dask: Dask, home: Path) -> None:
    job = tiny_job(
        home, recipes=("sklearn-mlp-plain",), overrides=("hidden=16", "epochs=10000"), name="stopped",
        jobs=None, cluster=dask.address,
    )  # fmt: skip

    def on_progress(progress: Progress) -> None:
        if progress.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        watched(job, on_progress)
    with dask.client() as client:  # each worker has its thread back
        for address in client.nthreads():
            assert client.submit(int, pure=False, workers=[address]).result(timeout=20) == 0


def test_a_scheduler_that_does_not_answer_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster_module, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes the call, and says nothing
        for port in (1, silent.getsockname()[1]):
            address = f"tcp://127.0.0.1:{port}"
            line = typed("train", "--cluster", address, "--name", "unreachable", cwd=home).refusal()
            told = rf"Error: --cluster: no scheduler answers at {address} \(.*\); start one there"
            assert re.fullmatch(told, line)
    assert not (home / "submissions/unreachable").exists()


def test_without_distributed_the_error_is_its_install_line(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LibraryError, match=r"needs d[a-z]+: python -m pip install distributed$"):
        train(tiny_job(home, jobs=None, cluster="tcp://127.0.0.1:1"))


def test_digits_that_come_late_leave_the_fits_what_is_always_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []

    def call_all(self: Any, calls: Any, end: float = 0.0) -> Iterator[tuple[int, Any]]:
        left.append(end - time.monotonic())
        time.sleep(0.3)  # longer than the fit's budget
        yield from ()

    monkeypatch.setattr(cluster_module.Cluster, "call_all", call_all)
    monkeypatch.setattr(cluster_module.Cluster, "workers", lambda self: ["tcp://worker"])
    monkeypatch.setattr(cluster_module, "_facts", lambda _: {})
    split = Split("holdout", np.arange(9), np.arange(9, 10))
    task = FitTask("net", MLPSettings(), split, seed=0, budget=Budget(seconds=0.1, epoch=0.01, predict=0.0))
    data = SimpleNamespace(train=None, test=None)
    assert (
        list(cluster_module.Cluster(mock.MagicMock(), "tcp://scheduler").fit_all([task], data, print)) == []
    )
    assert left[1] > 0.9 * cluster_module.LATE_SECONDS
