"""Small real digits, and the program as its user runs it."""

import csv
import gzip
import io
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from unittest import mock

# More threads than cores wait for each other in a busy loop: principal components took ten times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from digit_recognizer import data, files, manifest, pipeline, runs
from digit_recognizer.cli import commands
from digit_recognizer.job import Job
from digit_recognizer.manifest import DataConfig, Fingerprint, Rows, RunConfig, SplitConfig
from digit_recognizer.recipes import RECIPES
from digit_recognizer.settings import Settings, parse

pytest_plugins = ["report_runs", "stub_kaggle"]
ROOT = Path(__file__).resolve().parent.parent
TRAIN, TEST = 600, 150  # rows of the sample that the tests use
DEADLINE = 120  # seconds that a test waits for another process, at most


def first_rows(name: str, rows: int) -> str:
    """Return the header and the first `rows` rows of one of the sample's files."""
    with gzip.open(ROOT / "data" / "sample" / name, "rt") as lines:
        return "".join(line.rstrip() + "\n" for line, _ in zip(lines, range(rows + 1), strict=False))


@pytest.fixture(scope="session")
def train_csv() -> str:
    return first_rows("train.csv.gz", TRAIN)


@pytest.fixture(scope="session")
def test_csv() -> str:
    return first_rows("test.csv.gz", TEST)


@pytest.fixture(scope="session")
def test_labels() -> list[int]:
    """The labels of the sample's test digits."""
    with (ROOT / "data" / "sample" / "test_labels.csv").open() as file:
        return [int(row["Label"]) for row in csv.DictReader(file)][:TEST]


def write_digits(folder: Path, train_csv: str, test_csv: str) -> Path:
    """Fill a new folder as a user would, and return it."""
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text(train_csv)
    (folder / "test.csv").write_text(test_csv)
    return folder


@pytest.fixture
def folder(tmp_path: Path, train_csv: str, test_csv: str) -> Path:
    """A folder as a user would fill it, the test's own to spoil."""
    return write_digits(tmp_path / "digits", train_csv, test_csv)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory, train_csv: str, test_csv: str) -> data.Dataset:
    return data.load(write_digits(tmp_path_factory.mktemp("digits") / "data", train_csv, test_csv))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, train_csv: str, test_csv: str) -> Path:
    """Where a module's runs are made, with digits in its data/."""
    home = tmp_path_factory.mktemp("home")
    write_digits(home / "data", train_csv, test_csv)
    return home


@dataclass(frozen=True)
class Result:
    """What a command printed, and the code it ended with."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        return self.err.splitlines()[-1]

    def refusal(self, code: int = 1) -> str:
        """Return the one line that the command ended with; there must be nothing else."""
        assert (self.code, self.out, self.err.count("\n")) == (code, "", 1), self
        return self.last_line


def environment() -> dict[str, str]:
    """Return what a program of its own needs to find the package."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run_program(*command: object, cwd: Path = ROOT, **variables: str | None) -> Result:
    """Run a program in a process of its own; a variable that is None is not set there."""
    ended = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={name: value for name, value in {**environment(), **variables}.items() if value is not None},
        timeout=DEADLINE,
    )  # fmt: skip
    return Result(ended.returncode, ended.stdout, ended.stderr)


def typed(
    *arguments: object, cwd: Path, stdout: TextIO | None = None, stderr: TextIO | None = None
) -> Result:
    """Run a command in this very process, as if it were typed in the folder `cwd`; a bug raises."""
    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    words = ["digit-recognizer", *map(str, arguments)]
    try:
        with (
            chdir(cwd),
            redirect_stdout(stdout or out),
            redirect_stderr(stderr or err),
            mock.patch("sys.argv", words),
        ):
            commands.main()
    except SystemExit as end:
        return Result(int(end.code or 0), out.getvalue(), err.getvalue())
    finally:
        signal.signal(signal.SIGTERM, handler)
    raise AssertionError("main did not exit")


def start_program(*command: object, **options: Any) -> subprocess.Popen[str]:
    """Start a program in a session of its own."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    defaults = {"env": environment(), "text": True, "start_new_session": True, **streams}
    return subprocess.Popen(list(map(str, command)), **{**defaults, **options})


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts Python in a folder; what is left of it is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
        started.append(start_program(sys.executable, *arguments, cwd=cwd))
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=DEADLINE)


class Clock:
    """Stand for the module `time`, of which a timer must ask nothing but the monotonic clock."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@contextmanager
def raises_line(error: type[Exception], match: str) -> Iterator[None]:
    """Expect an error whose text is one line."""
    with pytest.raises(error, match=match) as raised:
        yield
    assert "\n" not in str(raised.value)


@contextmanager
def memory_below(most: int) -> Iterator[None]:
    """Expect the block to take at most so many bytes."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most


def full_disk(*_: object, **__: object) -> None:
    """Stand for a call that writes, on a full disk."""
    raise OSError(28, "No space left on device")


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until the condition holds; fail if the process ends before, or after DEADLINE seconds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def living(group: int) -> list[str]:
    """Return the processes of a group that still run."""
    listed = subprocess.run(
        ["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True, check=True, timeout=DEADLINE
    ).stdout
    fields = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [args for pgid, stat, args in fields if pgid == str(group) and "Z" not in stat]


def to_bytes(classifier: Any) -> bytes:
    """Return a fitted classifier as the content of a file."""
    from digit_recognizer.nets import arrays, pipelines

    return arrays.write_arrays(pipelines.to_arrays(classifier))


def from_bytes(content: bytes, settings: Settings) -> Any:
    """Return the classifier that `to_bytes` wrote; raise ValueError if it is none of these settings."""
    from digit_recognizer.nets import arrays, pipelines

    return pipelines.from_arrays(arrays.read_arrays(content), settings)


# Two small scikit-learn nets, which need no TensorFlow, and in which everything happens.
PLAIN = ("augment_strength=0", "augment_strength_end=0", "tta=no")
TINY = ("hidden=16", "epochs=8", "learning_rate=0.01", "averaged_epochs=1", *PLAIN)
TINY_RECIPES = ("sklearn-mlp", "sklearn-mlp-plain")


def set_options(assignments: tuple[str, ...]) -> list[str]:
    """Return the settings as they are typed."""
    return [word for assignment in assignments for word in ("--set", assignment)]


def tiny_job(
    home: Path, *, overrides: tuple[str, ...] = TINY, minutes: float | None = None, **options: Any
) -> Job:
    """Return a job of two tiny nets on two folds, in this process, into home/submissions.

    minutes: also fewer than a user may ask for.
    """
    defaults: dict[str, Any] = {
        "recipes": TINY_RECIPES, "settings": dict(map(parse, overrides)), "folds": 2, "jobs": 1,
        "data_dir": home / "data", "out": home / "submissions",
    }  # fmt: skip
    return changed(Job(**{**defaults, **options}), minutes=minutes)


def changed(record: Any, **fields: object) -> Any:
    """Return a record with other fields, unchecked; a dot leads to a field of a field."""
    for path, value in fields.items():
        name, _, rest = path.partition(".")
        found = changed(getattr(record, name), **{rest: value}) if rest else value
        record = record.model_copy(update={name: found})
    return record


def train(job: Job, notices: list[str] | None = None) -> runs.Run:
    """Train in this process; `notices` gets what the user is told."""
    on_notice = (notices if notices is not None else []).append
    return pipeline.train(job, on_notice=on_notice, on_progress=lambda _: None)


def make_config(**changes: Any) -> RunConfig:
    """Return the config of a run that nobody made."""
    fields: dict[str, Any] = {
        "command": "train",
        "data": DataConfig(
            kind="other", source="data", rows=Rows(train=TRAIN, test=TEST),
            fingerprint=Fingerprint(train="a" * 64, test="b" * 64),
        ),
        "recipes": {name: RECIPES[name].settings for name in TINY_RECIPES},
        "split": SplitConfig(holdout=None, folds=2),
        "seed": 3,
        "threads": 1,
        "versions": manifest.current_versions(),
        "source_hash": manifest.source_hash(),
    }  # fmt: skip
    return RunConfig(**{**fields, **changes})


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, train_csv: str, test_csv: str) -> runs.Run:
    """A real run of two tiny nets and their blend; not to be changed."""
    home = tmp_path_factory.mktemp("tiny")
    write_digits(home / "data", train_csv, test_csv)
    return train(tiny_job(home, name="tiny"))


@pytest.fixture(scope="session")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """The default recipes' run on the sample, 1 of 100 rows held out; all workers share it, unchanged."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers
    busy = TimeoutError("another worker did not train the sample's run in time")
    with files.locked(folder / "sample-run.lock", busy, seconds=5 * DEADLINE):
        out = folder / "sample-run"
        if not (out / "sample").exists():
            train(Job(holdout=0.01, data_dir=data.sample_folder(), out=out, name="sample"))
        return runs.load(out / "sample")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast ones first: what is broken shows in seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
